"""`journal show`: the state of a job, its errors, and what to do next."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import click

from journal.cli.advice import advice, look
from journal.cli.commands.rows import ERROR_FIELDS
from journal.cli.find import FoundJob, FoundSet, cut_text, found_job_or_set
from journal.cli.job_status import (
    duration_s,
    holder_text,
    pause_text,
    progress_text,
    row_counts,
    status_text,
)
from journal.cli.listing_formats import MAX_RANGES, group_text, named_once, next_lines
from journal.cli.output import (
    as_json,
    colored,
    cut,
    echo_json,
    local_text,
    terminal_width,
    use_color,
)
from journal.cli.selection import parse_row_number
from journal.cli.sets import ShownSet
from journal.cli.shared_options import json_option, option
from journal.cli.watch.reading import JobReader
from journal.display.repr import limits_text
from journal.fs import shell
from journal.history.events import Event
from journal.history.recent_activity import NEXT_BYTES
from journal.history.row_history import RowAttempt, RowHistory
from journal.ids import row_id_of
from journal.model import (
    JOB_MEMBERS,
    HoldState,
    Job,
    JobRow,
    JobStatus,
    LogEntry,
    RowStep,
    expected_cost_cents,
    hold_of,
    pausing_text,
    usage_rates_text,
)
from journal.run.advice import before_command
from journal.run.exit_codes import EXIT_DAMAGED, EXIT_OK
from journal.store.run_lock import late_results
from journal.text import (
    as_text,
    cents_text,
    counted,
    duration_text,
    escaped,
    shorten,
    spent_text,
    usage_text,
)

_MAX_CODES = 10
_CUT = frozenset(("name", "description"))  # long texts, which nobody pastes


class Shown:
    """The facts about a job that the command shows.

    - ``paused``: who has paused the job, or why the last run has ended or will end early. "" if the
      job isn't paused.
    - ``stalled_s``: the seconds without an ended attempt, if they are far too many.
    - ``oldest``: which row is in flight for the longest time, as text.
    - ``rate``: how many rows have lately ended per second. None if the job isn't running.
    - ``damaged``: a text if the hint proves that the journal was cut, or "".
    - ``late``: names files with results that aren't in the job.
    - ``next_due``: when the first of the waiting rows is due.
    - ``command``: turns words into a line to paste.
    - ``next``: commands to paste, and the reason for each.
    """

    def __init__(self, found: FoundJob) -> None:
        now = datetime.now(UTC)
        service, _, self.command = found
        self.job = job = found.read()
        self.rows = look(service, job)
        self.state, self.holder = self.rows.state, self.rows.holder
        self.duration_s = duration_s(job, self.state, now)
        seen = JobReader(found, NEXT_BYTES).read(self.state)
        self.rate, self.stalled_s, self.next_due = seen.rate, seen.stalled_s, seen.next_due
        self.left_s = None if seen.left is None else seen.left.total_seconds()
        early = None if job.last_run is None else job.last_run.ended_early
        is_pausing = bool(pausing_text(job, self.state))
        is_paused = job.status is JobStatus.PAUSED and self.holder is None
        self.paused = early.message if early is not None and (is_paused or is_pausing) else ""
        if job.pause is not None:
            self.paused = pause_text(job.pause)
        oldest = seen.in_flight[0] if seen.in_flight and self.state == JobStatus.RUNNING else None
        self.oldest = ""
        if oldest is not None:
            age = duration_text(max(0.0, (now - oldest.began).total_seconds()))
            self.oldest = f"; the oldest, row {oldest.row}, for {age}"
        self.late = late_results(service.store.directory(job.id))
        self.damaged = cut_text(service, job.id)
        is_cut = bool(self.damaged)
        self.next = advice(job, self.rows, service.root, self.command, is_cut=is_cut)

    def lines(self, width: int | None) -> Iterator[tuple[str, str]]:
        """The lines for people, as pairs of a name and a value.

        Each command to paste has its own line.
        """
        yield from ((name, value) for name, value in _facts(self).items() if value)
        yield from named_once("late", self.late)
        yield from named_once("errors", _error_lines(self))
        for name, numbers, more in (
            ("in flight", self.rows.in_flight, self.oldest),
            ("in review", self.rows.in_review, ""),
        ):
            if numbers.count:
                yield name, numbers.words(MAX_RANGES) + more
        steps = self.rows.steps_in_doubt.items()
        yield from named_once(
            "in doubt", (f"step {name}: {rows.words(MAX_RANGES)}" for name, rows in steps)
        )
        yield from named_once("next", next_lines(self.next, width))

    def plain(self) -> dict[str, Any]:
        """The object for ``--json``: the fields of the job, and the other facts."""
        return {
            **{name: getattr(self.job, name) for name in JOB_MEMBERS},
            "status": self.state,
            "hold": hold_of(self.job, self.state),
            "paused": self.paused or None,
            "damaged": self.damaged or None,
            "late": self.late,
            "next_due": self.next_due,
            "run_holder": self.holder,
            "duration_s": self.duration_s,
            "rows_per_s": self.rate,
            "left_s": self.left_s,
            "stalled_s": self.stalled_s,
            "expected_cost_cents": expected_cost_cents(self.job),
            "errors": [
                {field.name: field.get()(group) for field in ERROR_FIELDS}
                for group in self.rows.errors
            ],
            "errors_partial": self.rows.partial,
            "processing_rows": self.rows.in_flight.text(),
            "needs_review_rows": self.rows.in_review.text(),
            "steps_in_doubt": {
                name: rows.text() for name, rows in self.rows.steps_in_doubt.items()
            },
            "next": [{"command": command, "why": why} for command, why in self.next],
        }


@click.command("show", short_help="Show the state and the errors of a job, and advice.")
@found_job_or_set
@option(
    "--row N row_number",
    "Show everything about row N instead: its data, attempts, tracebacks, steps and messages.",
    parse_row_number,
)
@json_option
def show_command(job: FoundJob, row_number: int | None, json_output: bool) -> int:
    """Show the state, the speed and the errors of a job, and advice.

    The rate of a running job is the number of rows per second that were lately completed, failed or
    skipped. The rate is computed from the last 256 KiB of the journal.

    The errors come from the first 10,000 rows that failed or need a review. If rows are large,
    fewer rows are read. For a set, the first 2,000 such rows of each shard are read. `journal
    errors` reads all rows that failed or need a review.

    For a set, the command shows the sums, and which shards are absent, open or failed.

    The last line is for scripts. This line has pairs key=value. The keys and their order never
    change.

    With --row, only the beginning of long texts is shown. With --json, texts are complete.

    Example: journal show hash-stdlib
    """
    if row_number is not None:
        history = job.service.get_row_history(row_id_of(job.id, row_number))
        if json_output:
            echo_json(history)
        else:
            _echo_lines(_row_lines(history), history.row.status.value)
        return EXIT_OK
    shown = ShownSet(job) if isinstance(job, FoundSet) else Shown(job)
    code = EXIT_DAMAGED if isinstance(shown, ShownSet) and shown.is_unreadable else EXIT_OK
    if json_output:
        echo_json(shown.plain())
        return code
    width = terminal_width()
    _echo_lines(shown.lines(width and max(width, 40)), shown.state)
    pairs = _last_line(shown.job, shown.state).items()
    sys.stdout.write(" ".join(f"{key}={value}" for key, value in pairs) + "\n")
    return code


def _echo_lines(lines: Iterable[tuple[str, str]], state: str) -> None:
    """Write lines, each with a name."""
    width, colors = terminal_width(), use_color()
    for name, value in lines:
        text = escaped(value).rstrip()
        if name == "status" and colors:
            text = colored(text, state)
        elif name in _CUT and width is not None:
            text = cut(text, max(width - 12, 20))
        sys.stdout.write(f"{name:<12}{text}".rstrip() + "\n")


def _facts(shown: Shown) -> dict[str, str]:
    job = shown.job
    last_pass = _time_text(job.reopened_at)
    took = duration_text(shown.duration_s)
    return {
        "job": job.id,
        "name": job.name,
        "description": job.description or "",
        "status": status_text(job, shown.state),
        "damaged": shown.damaged,
        "paused": shown.paused,
        "stalled": ""
        if shown.stalled_s is None
        else f"no attempt has ended for {duration_text(shown.stalled_s)}",
        "holding": _hold_text(hold_of(job, shown.state)),
        "run by": holder_text(shown.holder) if shown.holder else "",
        "limits": limits_text(job.last_run)
        if job.last_run and shown.state == JobStatus.RUNNING
        else "",
        "hosts": ", ".join(job.hosts),
        "command": _command_text(job),
        "created": _time_text(job.created_at),
        "started": _time_text(job.started_at),
        "passes": f"{job.passes}, the last one since {last_pass}" if job.passes > 1 else "",
        "ended": _time_text(job.completed_at),
        "duration": f"{took}, pauses included" if took else "",
        "error": f"{job.error_code}: {job.error_message}" if job.error_code else "",
        "repaired": "with losses: rows may be missing" if job.repaired else "",
        "cost": spent_text(job.total_cost_cents, expected_cost_cents(job)),
        "usage": usage_text(job.usage),
        "progress": progress_text(job),
        "rate": _rate_text(shown),
        "waiting": _waiting_text(shown),
    }


def _command_text(job: Job) -> str:
    """The COMMAND of the last `journal run`, or the command that made the job."""
    last = job.last_run
    words = (
        last.argv[before_command(last.argv) + 1 :] if last is not None and last.is_command else ()
    )
    return shell.join(words) or job.original_command


def _error_lines(shown: Shown) -> Iterator[str]:
    job = shown.job
    yield from map(group_text, shown.rows.errors[:_MAX_CODES])
    more = len(shown.rows.errors) - _MAX_CODES
    if more > 0 or (shown.rows.errors and shown.rows.partial):
        text = f"{counted(more, 'more code|codes')}; " if more > 0 else ""
        wrong = job.failed_rows + job.needs_review_count
        if wrong > shown.rows.read_rows:
            text += (
                f"of {wrong} rows that failed or need a review, "
                f"the first {shown.rows.read_rows} were read; "
            )
        yield f"{text}`{shown.command('errors', job.id)}` has all"


def _time_text(at: datetime | None) -> str:
    return local_text(at, "%Y-%m-%d %H:%M:%S %Z")


def _rate_text(shown: Shown) -> str:
    if shown.rate is None:
        return ""
    figure = f"{shown.rate:.0f}" if shown.rate >= 100 else f"{shown.rate:.3g}"
    left = "" if shown.left_s is None else f", {duration_text(shown.left_s)} left"
    text, job = f"{figure} rows end per second{left}", shown.job
    is_idle = not job.processing_count and job.pending_count > job.waiting_count
    if is_idle and (rates := usage_rates_text(job)):
        text += f"; none is in flight: it may wait for {rates}"
    return text


def _hold_text(hold: HoldState | None) -> str:
    return "" if hold is None else f"since {_time_text(hold.since)}: {hold.reason}"


def _waiting_text(shown: Shown) -> str:
    if shown.next_due is None:
        return ""
    rows = counted(shown.job.waiting_count, "row|rows waits|wait")
    left_s = (shown.next_due - datetime.now(UTC)).total_seconds()
    due = f"at {_time_text(shown.next_due)}, in {duration_text(left_s)}"
    when = due if left_s > 0 else "now"
    return f"{rows} for somebody else; the next is due {when}"


# --- one row

_MAX_TEXT = 2000  # characters of a value; --json has all


def _row_lines(history: RowHistory) -> Iterator[tuple[str, str]]:
    """The lines about one row, as pairs of name and value.

    If a text has several lines, each line after the first is indented.
    """
    for name, value in _row_texts(history):
        yield from named_once(name, value.rstrip("\n").replace("\n", "\n  ").split("\n"))


def _row_texts(history: RowHistory) -> Iterator[tuple[str, str]]:
    """The texts about one row, as pairs of name and text of one or more lines."""
    row = history.row
    yield from ((name, value) for name, value in _row_facts(row).items() if value)
    if history.total_cost_cents != (row.cost_cents or 0):
        yield "cost", f"{cents_text(history.total_cost_cents)} for all attempts"
    attempts: dict[int | None, list[LogEntry]] = {}
    for entry in history.logs:
        attempts.setdefault(entry.attempt, []).append(entry)
    for attempt in history.attempts:
        lines = _attempt_lines(attempt, row, attempts.pop(attempt.number, ()))
        yield from named_once(f"attempt {attempt.number}", lines)
    yield from named_once("steps", map(_step_text, history.steps))
    others = itertools.chain.from_iterable(attempts.values())
    yield from named_once("messages", map(_message_text, others))
    yield from named_once("changes", (_change_text(event) for event in history.changes))


def _row_facts(row: JobRow) -> dict[str, str]:
    return {
        "row": f"{row.row_number} of {row.job_id}",
        "status": row.status.value,
        "key": "" if row.idempotency_key == row.id else row.idempotency_key,
        "added": _time_text(row.created_at),
        "changed": _time_text(row.updated_at) if row.updated_at != row.created_at else "",
        "data": shorten(as_json(row.data), _MAX_TEXT),
        "result": "" if row.result is None else shorten(as_text(row.result), _MAX_TEXT),
        "tracking": row.tracking_number or "",
        "label": row.label_path or "",
        "error": _error_text(row),
        "unknown": "whether it took effect" if row.unknown else "",
        "reason": shorten(row.reason or "", _MAX_TEXT),
        "due": _time_text(row.due),
        "waiting": f"since {_time_text(row.waiting_since)}" if row.waiting_since else "",
    }


def _error_text(of: JobRow | RowAttempt | RowStep) -> str:
    return shorten(": ".join(filter(None, (of.error_code, of.error_message))), _MAX_TEXT)


def _attempt_lines(attempt: RowAttempt, row: JobRow, logs: Iterable[LogEntry]) -> Iterator[str]:
    facts = [
        _time_text(attempt.started_at),
        attempt.outcome,
        duration_text(attempt.duration_s),
        f"on {attempt.host}" if attempt.host else "",
        f"version {attempt.version}" if attempt.version else "",
        f"cost {cents_text(attempt.cost_cents)}" if attempt.cost_cents is not None else "",
        usage_text(attempt.usage or {}),
    ]
    yield ", ".join(filter(None, facts))
    yield from map(_message_text, logs)
    if attempt.traceback is not None:  # a traceback ends with the message
        yield from attempt.traceback.splitlines()
    elif error := _error_text(attempt):
        yield error
    if attempt.reason:
        yield shorten(attempt.reason, _MAX_TEXT)
    # If a person settled the row, the row's result may differ from the attempt's result.
    if attempt.result not in (None, row.result):
        yield shorten(f"result {as_text(attempt.result)}", _MAX_TEXT)
    if attempt.tracking_number not in (None, row.tracking_number):
        yield f"tracking {attempt.tracking_number}"


def _message_text(entry: LogEntry) -> str:
    details = dict(entry.details or {})
    text = f"{local_text(entry.at, '%H:%M:%S.%f')[:-3]} {entry.level} {entry.message}"
    traceback = details.pop("traceback", None) if isinstance(details.get("traceback"), str) else ""
    text = shorten(f"{text} {as_json(details)}" if details else text, _MAX_TEXT)
    return f"{text}\n{traceback}".rstrip("\n")


def _step_text(step: RowStep) -> str:
    state = "in doubt" if step.state == "started" else step.state
    facts = f"{step.name}: {state}, attempt {step.attempt}, {_time_text(step.at)}"
    result = _error_text(step) or ("" if step.result is None else as_text(step.result))
    return shorten(f"{facts}: {result}" if result else facts, _MAX_TEXT)


def _change_text(event: Event) -> str:
    text = f"{_time_text(event.at)} {event.kind}"
    return shorten(f"{text}: {event.text}" if event.text else text, _MAX_TEXT)


def _last_line(job: Job, state: str) -> dict[str, Any]:
    """The pairs of the last line. Scripts read them, so keys and order must not change."""
    return {
        "job": job.id,
        "status": state,
        "total": job.total_rows,
        "done": job.done_rows,
        **row_counts(job),
        "cost_cents": job.total_cost_cents,
    }

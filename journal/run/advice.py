"""Advice for the next start of a job, in the words of a script or of the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from journal.errors import RESULT_PLACEHOLDER
from journal.format.keys import step_key
from journal.fs import shell
from journal.model import Job, JobStatus, Run
from journal.text import Numbers, counted

MAX_NAMED = 10  # row numbers in a message
_PASTED_RANGES = 12
MAX_STEPS = 3  # steps in doubt whose commands are shown


class HowTo(NamedTuple):
    """The wording of advice: Python calls for a script, or command lines for `journal run`.

    ``command``: the words that call `journal` for this store; "" in a script.
    """

    command: str = ""

    def say(self, python: str, *words: str) -> str:
        return f"`{self.line(*words) if self.command else python}`"

    def line(self, *words: str) -> str:
        """The command line of `journal` for this store, with these words."""
        return f"{self.command} {shell.join(words)}"

    def resume(self, job_id: str) -> str:
        return self.say(f'job.service.resume_job("{job_id}")', "resume", job_id)

    def first_resume(self, job: Job) -> str:
        """The beginning of a message about the next start.

        "" unless a person has paused the job. Without the resumption, the start would be refused.
        """
        return f"first {self.resume(job.id)}, then " if job.pause is not None else ""

    @property
    def retry_failed(self) -> str:
        return "`--retry-failed`" if self.command else "`run(..., retry_failed=True)`"

    def reviews(self, job_id: str) -> str:
        status = "needs_review"
        return self.say(f'job.rows("{status}")', "rows", job_id, "--status", status)

    @property
    def if_gone(self) -> str:
        """What a person can do about rows that are no longer in the input."""
        skip, keep = (self.argument("on_gone", value) for value in ("skip", "keep"))
        return f"{skip} skips such rows, {keep} runs them"

    def gone(self, undone: list[int], *, is_empty: bool) -> str:
        """The reason why a start is refused: rows that aren't done are no longer in the input.

        ``is_empty``: whether the input has no rows. An empty input is more likely a mistake than an
        order to skip all rows.
        """
        how = self.if_gone
        if is_empty:
            skip = '`job.skip(status=["pending", "failed"])`'  # for scripts only
            how = f"the input has no rows at all: if that is no mistake, {skip} skips these rows"
        return f"gone and not done: {numbers_text(undone)}; {how}"

    def name(self, name: str) -> str:
        """The name of an argument of ``run``.

        For a command, it is the corresponding option of `journal run`.
        """
        return f"--{name.replace('_', '-')}" if self.command else name

    def argument(self, name: str, value: str = "") -> str:
        """The name that :meth:`name` returns, in backquotes, with a value if there is one."""
        if not value:
            return f"`{self.name(name)}`"
        return f"`{self.name(name)} {value}`" if self.command else f'`{name}="{value}"`'

    def without_key(self, data: Mapping[str, Any]) -> str:
        """Text that says what to do if an input without a key has changed.

        ``data``: the data of one of the input's rows.
        """
        column = next(iter(data)) if len(data) == 1 else "COLUMN"
        key = f"`--key {shell.quote(column)}`" if self.command else f"`key={column!r}`"
        return (
            "rows are identified by their position; if they only moved, identify them by a column "
            f"with unique values, by {key}; otherwise restore the row, or keep the data of the job "
            f"by {self.argument('on_changed', 'ignore')}"
        )

    def by_number(
        self, verb: Literal["retry", "redo", "skip"], job_id: str, numbers: list[int]
    ) -> str:
        """Text that says how to change the rows with these numbers."""
        ranges = pasted(Numbers(sorted(numbers)))
        call = f"job.{verb}({numbers if len(numbers) <= MAX_NAMED else repr(ranges)})"
        return self.say(call, verb, job_id, "--row", ranges)


IN_PYTHON = HowTo()


def numbers_text(numbers: list[int]) -> str:
    """The first few row numbers, for a message: "row 4", or "rows 4, 19"."""
    more = ", ..." if len(numbers) > MAX_NAMED else ""
    rows = "row" if len(numbers) == 1 else "rows"
    return f"{rows} {', '.join(map(str, numbers[:MAX_NAMED]))}{more}"


def step_commands(
    command: Callable[..., str], job_id: str, step: str, numbers: Numbers, call: str = ""
) -> list[tuple[str, str]]:
    """Two commands that settle a step in doubt. The first is for a step that took effect, and the
    second for a step that did not.

    The first command can't be pasted unchanged. It has a placeholder for the result. With several
    rows, the first command also has a placeholder for the row, since each row has its own result.

    ``call``: the key of the call with these rows. The call has one result, so one row stands for
    the call.
    """
    row = numbers.text() if numbers.count == 1 else str(numbers.first) if call else "N"
    resolve = ("resolve", job_id, "--row")
    done = command(*resolve, row, "--step", step, "--result", RESULT_PLACEHOLDER)
    each = "" if row != "N" else ", one row, or one call with many rows, at a time"
    of = (
        f" of the call of {numbers.words(_PASTED_RANGES)} (key {step_key(call, step)})"
        if call
        else ""
    )
    return [
        (done, f"if step {step!r}{of} took effect: record its result{each}"),
        (
            command(*resolve, row if call else pasted(numbers), "--step", step, "--not-done"),
            "if it took no effect: the next attempt begins it again",
        ),
    ]


def pasted(numbers: Numbers) -> str:
    """The numbers as text for ``--row``, or a placeholder if there are too many numbers."""
    return numbers.text(",", _PASTED_RANGES) if numbers.is_shown_by(_PASTED_RANGES) else "ROWS"


def who_else(job: Job) -> str:
    """Who may have left rows in flight in a job without an active run.

    "" if the last run has left them.
    """
    if job.status is JobStatus.RUNNING:
        return ""
    return "another program" if job.last_run is None else "another program, or a run that died,"


def what_may_run(job: Job) -> str:
    """A warning about rows that were in flight when their run died: commands may still be running.

    Returns "" if the last run wasn't a `journal run`.
    """
    if job.last_run is None or not job.last_run.is_command:
        return ""
    return "commands of the run that died may still be running: look first, for example with `ps`"


def nothing_to_do(job: Job, how_to: HowTo) -> str:
    """The message for a start that does nothing, because the job has ended.

    In a script, the message says how to continue. `journal run` gives this advice by itself.
    """
    if job.status is JobStatus.CANCELLED:
        left = (
            f" with {counted(job.pending_count, 'row|rows')} pending" if job.pending_count else ""
        )
        return f"{job.id}: cancelled{left}, so nothing is run: first {how_to.resume(job.id)}, then start again"
    said = f"{job.id}: {job.status} already, and nothing is new"
    if how_to.command:
        return f"{said}: nothing to do" if job.done_rows == job.total_rows else said
    left = what_is_left(job, how_to)
    return f"{said}, but {left}" if left else f"{said}: nothing to do"


def what_is_left(job: Job, how_to: HowTo) -> str:
    """Advice for a script about failed rows and rows in review, or "" if there are none."""
    failed = counted(job.failed_rows, "row|rows failed: {} tries it|them again, unless it|they ")
    failed = failed.format(how_to.retry_failed) + "may have taken effect"
    reviews = counted(job.needs_review_count, "row|rows needs|need a review: ")
    parts = (
        failed * bool(job.failed_rows),
        (reviews + how_to.reviews(job.id)) * bool(job.needs_review_count),
    )
    return "; ".join(filter(None, parts))


# --- the line that continues a job

CHOOSING = ("--row", "--where")  # options of `journal run`, each with a value


def before_command(words: Sequence[str]) -> int:
    """The place of ``--``, the end of the options, in the words of a `journal run`."""
    return words.index("--") if "--" in words else len(words)


def words_for_rest(run: Run) -> list[str]:
    """The words of the command line that continues the job of ``run``.

    If no remaining row meets the condition of a `journal run`, the condition is left out. With the
    condition, the command would start no row.
    """
    words = list(run.argv)
    if run.is_command and run.ended_early is not None and run.ended_early.kind == "where":
        for option in CHOOSING:
            while option in words[: before_command(words)]:
                place = words.index(option)
                del words[place : place + 2]
    return words


def line_for_rest(run: Run | None) -> str:
    """The line to paste that continues a job (see :func:`words_for_rest`), or ""."""
    if run is None or not run.argv:
        return ""
    return shell.in_directory(run.directory, words_for_rest(run))

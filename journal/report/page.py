"""Makes the report of one job, a self-contained HTML page. Needs the extra ``report``."""

from __future__ import annotations

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from journal.display.repr import limits_text
from journal.errors import load_extra
from journal.format.records import now
from journal.fs import system
from journal.fs.output_files import whole_file
from journal.history.error_groups import group_errors
from journal.history.history import look
from journal.history.statistics import Bucket, JobStatistics, quantile_s
from journal.model import (
    SHOWN_STATUSES,
    Job,
    JobRow,
    JobStatus,
    RowStatus,
    expected_cost_cents,
    hold_of,
    pausing_text,
)
from journal.progress.stalls import is_stalled
from journal.service import JobService
from journal.sets.shard_states import look_at_set, merged_rows
from journal.store.list_jobs import state_of_job
from journal.text import as_text, counted, duration_text, escaped, shorten, spent_text

MAX_ROWS = 1000
MAX_GROUPS = 100
MAX_IN_FLIGHT = 20
_MAX_RANGES = 40
_MAX_MESSAGE = 1000  # the maximum number of characters, so that the page stays small
_MAX_VALUE = 200
_MAX_VALUES = 30

_TROUBLE = [status for status in RowStatus if status.needs_person]
_ENDED = ("completed", "failed", "repeated", "needs_review", "skipped")
# The writer pauses this many times as long as writing took. So the writer uses only a small part of
# a core.
MIN_PAUSES = 10
_LANES = {
    "passes": "Passes",
    "runs": "Runs",
    "holds": "Holds (the called service was down, or throttled calls)",
    "waits": "Waits of rows for somebody else",
    "pauses": "Pauses by a person",
}
_MIN_BAR = 0.3  # in percent: two bars that together are shorter become one bar


def write_report(
    service: JobService,
    job_id: str,
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    every_s: float | None = None,
) -> None:
    """Write the report of a job to the file ``out``, completely or not at all.

    ``every_s``: the seconds after which the caller writes the report anew: see :func:`report_page`.

    Raises InvalidValueError if ``out`` exists and ``force`` isn't given, or if ``out`` is a job's
    own file. Also raises StorageError, and the errors of :func:`report_page`.
    """
    with whole_file(out, force=force) as output:
        page = report_page(service, job_id, every_s)
        with output.stream() as stream:
            stream.write(page.encode())


def report_page(service: JobService, job_id: str, every_s: float | None = None) -> str:
    """Return the report of a job as an HTML page.

    The page shows the job's status, history and errors, and up to MAX_ROWS rows that failed or need
    a review. With ``every_s``, the page says that a new version is expected after this number of
    seconds. A browser reloads the page after this time, or after ten times as long as making the
    page has taken.

    The page shows the job at one moment. Times are in UTC. The function needs memory for the page,
    16 bytes for each row that failed, needs a review or was skipped, and 25 bytes for each attempt. Raises
    JobNotFoundError, InvalidValueError, MissingExtraError, and the errors of reading a job.
    """
    begin_s = monotonic()
    jinja2 = load_extra("jinja2", "a report", "report")
    made_at = now()
    job, state, (in_flight, trouble, skipped), statistics = _look(service, job_id, made_at)
    groups = group_errors(trouble, MAX_GROUPS)
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.PackageLoader("journal.report"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda value: f"{value:,}",
        "duration": duration_text,
        "quantile": quantile_s,
        "message": lambda value: _shown(value, _MAX_MESSAGE),
        "pairs": _pairs,
        "ranges": lambda numbers: numbers.text(", ", _MAX_RANGES),
        "shown": _shown,
        "time": lambda at: "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}",
    }
    script = (Path(__file__).parent / "templates" / "report.js").read_text(encoding="utf-8")
    page: str = environment.get_template("report.html").render(
        job=job,
        counts=[(status.label, status.value, job.count(status)) for status in SHOWN_STATUSES],
        cost=spent_text(job.total_cost_cents, expected_cost_cents(job)),
        state=state,
        statistics=statistics,
        plots=_plots(statistics.buckets, statistics.width_s) if statistics.attempts else (),
        lanes=list(_lanes(statistics, job.passes)),
        **_at_work(job, state, in_flight, statistics, made_at),
        groups=groups,
        ungrouped=len(trouble) - sum(group.numbers.count for group in groups),
        rows=trouble[:MAX_ROWS],
        trouble_count=len(trouble),
        skips=group_errors(skipped, MAX_GROUPS),
        skipped_count=len(skipped),
        every_s=every_s and max(every_s, MIN_PAUSES * (monotonic() - begin_s)),
        made_at=made_at,
        made_on=system.host_name(),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return page


def _at_work(
    job: Job, state: str, rows: Sequence[JobRow], statistics: JobStatistics, at: datetime
) -> dict[str, Any]:
    """Describe what a run does now: its limits, its hold, the oldest rows in flight, a stall."""
    works = state == JobStatus.RUNNING
    rows = rows if works else ()
    oldest = sorted(rows, key=lambda row: row.updated_at)[:MAX_IN_FLIGHT]
    quiet_s = (at - (statistics.ended_at or at)).total_seconds()
    stalls = oldest and not job.hold and is_stalled(statistics.took_s, quiet_s)
    return {
        "hold": hold_of(job, state),
        "pausing": pausing_text(job, state),
        "limits": limits_text(job.last_run) if works and job.last_run else "",
        "in_flight": [(row, (at - row.updated_at).total_seconds()) for row in oldest],
        "stalled_s": quiet_s if stalls else None,
    }


class _Looked(NamedTuple):
    """A job, its state and its statistics, and its rows in flight, in trouble or skipped."""

    job: Job
    state: str
    rows: Sequence[Sequence[JobRow]]
    statistics: JobStatistics


def _look(service: JobService, job_id: str, at: datetime) -> _Looked:
    """Look at a job, or at all shards of a set."""
    whole = look_at_set(service, job_id) if service.store.is_set(job_id) else None
    ids = [job_id] if whole is None else [part.id for part in whole.parts if part.job is not None]
    kinds = [RowStatus.PROCESSING], _TROUBLE, [RowStatus.SKIPPED]
    found = [look(service.store, each, *kinds) for each in ids]
    jobs, histories, rows = zip(*found, strict=True)
    states = [state_of_job(service.store, job) for job in jobs]
    statistics = JobStatistics(
        *(history.entries() for history in histories),
        until=[at if state == JobStatus.RUNNING else None for state in states],
    )
    if whole is None:
        return _Looked(jobs[0], states[0], rows[0], statistics)
    merged = [list(merged_rows(each)) for each in zip(*rows, strict=True)]
    return _Looked(whole.job, whole.state, merged, statistics)


def _shown(value: Any, limit: int = _MAX_VALUE) -> str:
    """Return the value as text without control characters, cut to ``limit`` characters."""
    return escaped(shorten(as_text(value).strip(), limit), keep="\t\n")


def _pairs(data: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = [(_shown(key), _shown(value)) for key, value in islice(data.items(), _MAX_VALUES)]
    if len(data) > _MAX_VALUES:
        pairs.append(("…", f"and {len(data) - _MAX_VALUES} more"))
    return pairs


def _plots(buckets: list[Bucket], width_s: float) -> list[dict[str, Any]]:
    """Return plots of stacked bars. Each bucket has its begin, a text, and heights by colour."""
    ended = [[(name, bucket.ended[name]) for name in _ENDED] for bucket in buckets]
    tips = [", ".join(f"{n} {name}" for name, n in each if n) or "none" for each in ended]
    title = f"Attempts that ended, per {duration_text(width_s)}"
    plots = [_plot(title, buckets, ended, tips, "{:,}".format)]
    took = [[quantile_s(bucket.took_s, share) or 0 for share in (0.5, 0.95)] for bucket in buckets]
    if any(most for _, most in took):
        parts = [[("typical", half), ("slow", most - half)] for half, most in took]
        tips = [f"half {duration_text(a)}, 95 % {duration_text(b)}" if b else "" for a, b in took]
        title = "Time that half (typical) and 95 % (slow) took at most"
        plots.append(_plot(title, buckets, parts, tips, duration_text))
    return plots


def _plot(
    title: str,
    buckets: list[Bucket],
    bars: Sequence[Sequence[tuple[str, float]]],
    tips: list[str],
    text_of: Callable[[float], str],
) -> dict[str, Any]:
    top = max(sum(value for _, value in parts) for parts in bars)
    names = dict.fromkeys(name for parts in bars for name, value in parts if value)
    heights = [[(name, 100 * value / top) for name, value in parts if value] for parts in bars]
    begins = (bucket.begin for bucket in buckets)
    columns = list(zip(begins, tips, heights, strict=True))
    return {"title": title, "names": list(names), "top": text_of(top), "columns": columns}


def _lanes(statistics: JobStatistics, passes: int) -> Iterator[dict[str, Any]]:
    """Yield the spans of each kind as bars.

    A bar has its begin and end in percent and as times, and a text.
    """
    for name, title in _LANES.items():
        spans = statistics.spans[name]
        if not spans or (name == "passes" and passes == 1):
            continue
        low = statistics.buckets[0].begin
        percent = 100 / (len(statistics.buckets) * statistics.width_s)
        bars: list[list[Any]] = []
        for span in spans:
            left, right = ((at - low).total_seconds() * percent for at in span[:2])
            if bars and (left < bars[-1][1] or right < bars[-1][0] + _MIN_BAR):
                bars[-1][1], bars[-1][3] = max(bars[-1][1], right), max(bars[-1][3], span.end)
            else:
                bars.append([left, right, *span])
        took = duration_text(sum((span.end - span.begin).total_seconds() for span in spans))
        texts = Counter(span.text for span in spans if span.text)
        reasons = [f"{n} x {text}" if len(texts) > 1 else text for text, n in texts.most_common(3)]
        facts = [counted(len(spans), "time|times"), f"{took} in all", *reasons]
        yield {"name": name, "title": title, "facts": facts, "bars": bars}

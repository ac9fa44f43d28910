"""Makes the report of one job, a self-contained HTML page. Needs the extra ``report``."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any

from journal.errors import load_extra
from journal.format.records import now
from journal.fs import system
from journal.fs.output import whole_file
from journal.history.error_groups import group_errors
from journal.history.reading import Entry, look
from journal.history.statistics import JobStatistics
from journal.model import SHOWN_STATUSES, Job, JobRow, RowStatus, expected_cost_cents
from journal.report.plots import Series, lines, stacked_bars
from journal.service import JobService
from journal.sets.whole import look_at_set, merged_rows
from journal.text import as_text, duration_text, escaped, shorten, spent_text

MAX_ROWS = 1000
MAX_GROUPS = 100
_MAX_RANGES = 40
_MAX_MESSAGE = 1000  # the maximum number of characters, so that the page stays small
_MAX_VALUE = 200
_MAX_VALUES = 30

_TROUBLE = [status for status in RowStatus if status.needs_person]
_SHARES = (
    ("half of the attempts took at most", 0.5, "typical"),
    ("95 % of them took at most", 0.95, "slow"),
)
_ENDED = ("completed", "failed", "repeated", "needs_review", "skipped")


def write_report(
    service: JobService,
    job_id: str,
    out: str | os.PathLike[str],
    *,
    force: bool = False,
) -> None:
    """Write the report of a job to the file ``out``, completely or not at all.

    Raises InvalidValueError if ``out`` exists and ``force`` isn't given, or if ``out`` is a job's
    own file. Also raises StorageError, and the errors of :func:`report_page`.
    """
    with whole_file(out, force=force) as output:
        page = report_page(service, job_id)
        with output.stream() as stream:
            stream.write(page.encode())


def report_page(service: JobService, job_id: str) -> str:
    """Return the report of a job as an HTML page.

    The page shows the job's status, history and errors, and up to MAX_ROWS rows that failed or need
    a review.

    The page shows the job at one moment. Times are in UTC. The function needs memory for the page,
    and 16 bytes for each row that failed or needs a review. Raises JobNotFoundError,
    InvalidValueError, MissingExtraError, and the errors of reading a job.
    """
    jinja2 = load_extra("jinja2", "a report", "report")
    job, state, trouble, entries = _look(service, job_id)
    statistics = JobStatistics(entries)
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
        plots=_plots(statistics),
        groups=groups,
        ungrouped=len(trouble) - sum(group.numbers.count for group in groups),
        rows=trouble[:MAX_ROWS],
        trouble_count=len(trouble),
        made_at=now(),
        made_on=system.host_name(),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return page


def _look(service: JobService, job_id: str) -> tuple[Job, str, Sequence[JobRow], Iterator[Entry]]:
    """Return a job, its state, its rows in trouble, and its history; of a set, those of all shards."""
    if service.store.holds_job(job_id) or not service.store.is_set(job_id):
        job, rows, history = look(service.store, job_id, _TROUBLE)
        return job, service.get_state(job), rows, history.entries()
    whole = look_at_set(service, job_id)
    found = [look(service.store, part.id, _TROUBLE) for part in whole.parts if part.job is not None]
    every = merge(
        *(history.entries() for _, _, history in found), key=lambda entry: entry.record.at
    )
    return whole.job, whole.state, list(merged_rows(rows for _, rows, _ in found)), every


def _shown(value: Any, limit: int = _MAX_VALUE) -> str:
    """Return the value as text without control characters, cut to ``limit`` characters."""
    return escaped(shorten(as_text(value).strip(), limit), keep="\t\n")


def _pairs(data: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = [(_shown(key), _shown(value)) for key, value in islice(data.items(), _MAX_VALUES)]
    if len(data) > _MAX_VALUES:
        pairs.append(("…", f"and {len(data) - _MAX_VALUES} more"))
    return pairs


def _plots(statistics: JobStatistics) -> list[dict[str, Any]]:
    buckets = statistics.timeline.buckets()
    if not buckets:
        return []
    times = [bucket.begin for bucket in buckets]
    width = duration_text(statistics.timeline.width_s)
    ended = [
        Series(name.replace("_", " "), name, [bucket.ended[name] for bucket in buckets])
        for name in _ENDED
        if any(bucket.ended[name] for bucket in buckets)
    ]
    title = f"Attempts that ended, per {width}"
    plots = [{"title": title, "series": ended, "svg": stacked_bars(title, times, ended)}]
    if statistics.latencies.count:
        title = "Time an attempt took"
        took = [
            Series(name, colour, [bucket.latencies.quantile_s(share) for bucket in buckets])
            for name, share, colour in _SHARES
        ]
        plots.append({"title": title, "series": took, "svg": lines(title, times, took)})
    return plots

"""A report of one job as one HTML page, which needs nothing but itself (the extra ``report``)."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from heapq import merge
from itertools import islice, pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from journal import files
from journal.errorgroups import group_errors
from journal.errors import JobNotFoundError, JournalError, MissingExtraError
from journal.format import now
from journal.model import Job, JobRow, JobStatus, RowStatus
from journal.outfile import whole_file
from journal.plots import lines, load_pygal, stacked_bars
from journal.redact import redacted
from journal.runlock import last_holder
from journal.service import JobService
from journal.statistics import JobStatistics
from journal.tabular import as_text

MAX_ROWS = 1000
MAX_CHAIN = 100
MAX_GROUPS = 100
_MAX_RANGES = 40
_MAX_MESSAGE = 1000  # characters; the page stays one that a browser opens at once
_MAX_VALUE = 200
_MAX_VALUES = 30

_NBSP = "\N{NO-BREAK SPACE}"
_TROUBLE = (RowStatus.FAILED, RowStatus.NEEDS_REVIEW)
_ENDED = ("completed", "failed", "skipped")

# What would reorder or hide the text around it; C0 but for tab and line ends, and C1.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def write_report(
    service: JobService,
    job_id: str,
    out: str | os.PathLike[str],
    *,
    redact: Collection[str] = (),
    force: bool = False,
) -> None:
    """Write the report of a job to the file ``out``, whole or not at all.

    Raises InvalidValueError if ``out`` is there and ``force`` isn't given, StorageError, and as
    :func:`report_page`.
    """
    with whole_file(out, force=force) as part:
        part.write_text(report_page(service, job_id, redact=redact), encoding="utf-8")


def report_page(service: JobService, job_id: str, *, redact: Collection[str] = ()) -> str:
    """The page: how the job stands and went, its errors, and up to MAX_ROWS rows in trouble.

    ``redact`` names fields, at any depth of data and metadata, whose values become "[REDACTED]";
    so does the error message or the original command, if it is named.
    In memory for the page, the rows in flight at a time, and 16 bytes of each row in trouble. Times are
    in UTC. Raises JobNotFoundError, MissingExtraError, and what reading the job raises.
    """
    jinja2 = _load_jinja2()
    load_pygal()
    job = service.get_job(job_id)
    if job is None:
        raise JobNotFoundError(job_id)
    trouble = [service.get_rows(job_id, status) for status in _TROUBLE]
    statistics = JobStatistics(service.get_history(job_id))
    trouble_count = sum(map(len, trouble))
    groups = group_errors(_by_number(trouble), MAX_GROUPS)
    hidden = {name.casefold() for name in redact}
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.PackageLoader("journal"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda value: f"{value:,}",
        "duration": duration_text,
        "message": lambda value: _shown(value, _MAX_MESSAGE),
        "ranges": lambda numbers: numbers.text(", ", _MAX_RANGES),
        "shown": _shown,
        "time": lambda at: "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}",
    }
    script = (Path(__file__).parent / "templates" / "report.js").read_text(encoding="utf-8")
    page: str = environment.get_template("report.html").render(
        job=redacted_job(job, hidden),
        state=_state(service, job),
        host=last_holder(service.root / job_id),
        metadata=_pairs(redacted(job.metadata or {}, redact)),
        statistics=statistics,
        plots=_plots(statistics, jinja2),
        groups=groups,
        ungrouped=trouble_count - sum(group.numbers.count for group in groups),
        hide_messages="error_message" in hidden,
        rows=[_table_row(row, redact) for row in islice(_by_number(trouble), MAX_ROWS)],
        trouble_count=trouble_count,
        chain=list(_chain(service, job)),
        made_at=now(),
        made_on=files.host_name(),
        script=jinja2.utils.markupsafe.Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return page


def _load_jinja2() -> ModuleType:
    try:
        import jinja2  # noqa: PLC0415  (an extra)
    except ImportError:
        raise MissingExtraError("a report", "jinja2", "report") from None
    module: ModuleType = jinja2
    return module


def duration_text(seconds: float | None) -> str:
    """A duration for people: 0.3 ms, 250 ms, 2.5 s, 3 min 5 s, 2 h 7 min, 3 d 4 h."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g}{_NBSP}ms"
    if seconds < 59.95:
        return f"{seconds:.3g}{_NBSP}s"
    whole = round(seconds)
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    for (unit, size), (smaller, part) in pairwise(units):
        if whole >= size:
            rest = whole % size // part
            text = f"{whole // size}{_NBSP}{unit}"
            return f"{text} {rest}{_NBSP}{smaller}" if rest else text
    raise AssertionError(seconds)


def _by_number(sequences: Sequence[Sequence[JobRow]]) -> Iterator[JobRow]:
    return merge(*sequences, key=lambda row: row.row_number)


def _state(service: JobService, job: Job) -> str:
    if job.status is JobStatus.RUNNING and service.run_holder(job.id) is None:
        return "interrupted"
    return job.status.value


def redacted_job(job: Job, hidden: set[str]) -> dict[str, Any]:
    """The job's fields, those named in ``hidden`` as "[REDACTED]"."""
    texts = ("name", "description", "original_command", "error_message")
    fields = {name: getattr(job, name) for name in job.__struct_fields__}
    return {**fields, **redacted({name: fields[name] for name in texts if fields[name]}, hidden)}


def _shown(value: Any, limit: int = _MAX_VALUE) -> str:
    """A value as text that can't disturb what stands around it."""
    text = as_text(value).strip()
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return _UNSHOWN.sub(lambda match: ascii(match[0])[1:-1], text)


def _pairs(data: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = [(_shown(key), _shown(value)) for key, value in islice(data.items(), _MAX_VALUES)]
    if len(data) > _MAX_VALUES:
        pairs.append(("…", f"and {len(data) - _MAX_VALUES} more"))
    return pairs


def _table_row(row: JobRow, redact: Collection[str]) -> dict[str, Any]:
    message = redacted({"error_message": row.error_message or ""}, redact)["error_message"]
    return {
        "number": row.row_number,
        "status": row.status.value,
        "code": _shown(row.error_code),
        "message": _shown(message, _MAX_MESSAGE),
        "attempts": row.attempts,
        "at": row.updated_at,
        "data": _pairs(redacted(row.data, redact)),
    }


def _plots(statistics: JobStatistics, jinja2: Any) -> list[dict[str, Any]]:
    buckets = statistics.timeline.buckets()
    if not buckets:
        return []
    times: list[datetime] = [bucket.begin for bucket in buckets]
    width = duration_text(statistics.timeline.width_s)
    names = [n for n in _ENDED if any(bucket.ended[n] for bucket in buckets)]
    ended = {name: [bucket.ended[name] for bucket in buckets] for name in names}
    markup = jinja2.utils.markupsafe.Markup
    title = f"Tries that ended, per {width}"
    plots = [
        {
            "title": title,
            "legend": [(name, name) for name in names],
            "svg": markup(stacked_bars(title, times, ended, [f"var(--{n})" for n in names])),
        }
    ]
    if statistics.latencies.count:
        title = "Time a try took"
        shares = {"half of the tries": 0.5, "95 % of them": 0.95}
        took = {
            name: [bucket.latencies.quantile_s(share) for bucket in buckets]
            for name, share in shares.items()
        }
        colours = {"half of the tries": "typical", "95 % of them": "slow"}
        css = [f"var(--{colour})" for colour in colours.values()]
        plots.append(
            {
                "title": title,
                "legend": [(f"{name} took at most", colours[name]) for name in shares],
                "svg": markup(lines(title, times, took, css, duration_text)),
            }
        )
    return plots


def _chain(service: JobService, job: Job) -> Iterator[dict[str, Any]]:
    """The jobs that this one goes on with, itself, and those that go on with it, in their order."""
    before: list[Job] = []
    first = job
    while first.retry_of is not None and len(before) < MAX_CHAIN:
        found = _readable(service, first.retry_of)
        if found is None:
            break
        first = found
        before.insert(0, first)
    after: list[Job] = []
    last: Job | None = job
    while last is not None and len(after) < MAX_CHAIN:
        try:
            last = service.get_retry(last.id)
        except JournalError:
            break
        if last is not None:
            after.append(last)
    if before or after:
        for each in (*before, job, *after):
            yield {"job": each, "state": _state(service, each), "is_this": each.id == job.id}


def _readable(service: JobService, job_id: str) -> Job | None:
    try:
        return service.get_job(job_id)
    except JournalError:
        return None  # its damage is another command's to tell

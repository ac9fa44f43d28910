"""Represents jobs, rows and runs by a line, for ``repr``, and by HTML, for notebooks.

The line identifies the object and shows its state. The HTML is small, without scripts, and for
light and dark backgrounds. All text has the notebook's own colour. All values are escaped and
shortened.
"""

from __future__ import annotations

from typing import Any

from journal.text import as_text, counted, escaped, shorten, spent_text, usage_text

_MAX_DATA = 100  # characters of the data
_MAX_MESSAGE = 60


def job_text(job: Any) -> str:
    """A job in one line: ``ship-ca: paused, 3 of 10 rows done, 1 failed``."""
    parts = [
        f"{job.status.value}",
        f"{job.done_rows} of {counted(job.total_rows, 'row|rows')} done",
    ]
    if job.failed_rows:
        parts.append(f"{job.failed_rows} failed")
    if job.needs_review_count:
        parts.append(f"{job.needs_review_count} need review")
    if job.waiting_count:
        parts.append(f"{job.waiting_count} wait")
    return f"{job.id}: {', '.join(parts)}"


def report_text(report: Any) -> str:
    """The job, and the counts of the run."""
    ended = f"; ended early: {_short(report.reason)}" if report.reason else ""
    return f"{job_text(report.job)}; {run_text(report)}{ended}"


def run_text(report: Any) -> str:
    """The counts of a run, and how long it took."""
    failed = "failed or need review" if report.job.needs_review_count else "failed"
    ended_rows = f"{report.completed} completed, {report.failed} {failed}"
    skipped = f"{report.skipped} skipped" if report.skipped else ""
    run = ", ".join(filter(None, (changes_text(report), ended_rows, skipped)))
    return f"this run: {run} in {report.elapsed_s:.1f} s"


def changes_text(run: Any) -> str:
    """What the start of a run has done, from its record or its report: "10 new, 1 retried"."""
    counts = (
        (run.added, "new"),
        (run.changed, "changed"),
        (run.retried, "retried"),
        (run.gone, "gone"),
        (getattr(run, "outdated", 0), "with the result of old data"),  # only a report has it
    )
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def limit_text(name: str, value: Any) -> str:
    """A limit of a run: ``workers 16``, ``rate 5/s``, ``limit_per carrier=2``, ``rate none``."""
    if value is True:
        return name
    if isinstance(value, dict):
        named = [f"{key}={each}" for key, each in value.items()]
        value = ", ".join(named)
        value = value.removeprefix("rows=") if name == "rate" else value
    return f"{name} {'none' if value is None else value}"


def limits_text(run: Any) -> str:
    """The limits of a run as they are now: ``workers 16, rate 5/s``."""
    limits = (run.limits | run.tuned).items()
    return ", ".join(limit_text(name, value) for name, value in limits if value is not None)


def tuned_text(tuned: Any) -> str:
    """The changed limits of a run, from a record or a ``Tuned``: ``workers 4 -> 16; REASON``."""
    changes = [
        f"{limit_text(name, was)} -> {limit_text(name, now).removeprefix(name + ' ')}"
        for name, (was, now) in tuned.changes.items()
        if name != "end_hold"
    ]
    if "end_hold" in tuned.changes:
        changes.append("the hold ends: one row is tried")
    if tuned.reason and not changes:
        changes.append("nothing has changed")
    return "; ".join(filter(None, (", ".join(changes), tuned.reason)))


def row_text(row: Any) -> str:
    """A row in one line: ``ship-ca:7: failed after 2 attempts, {'order': 'A-7'}, E-ZIP: …``."""
    tried = f" after {counted(row.attempts, 'attempt|attempts')}" if row.attempts else ""
    parts = [f"{row.status.value}{tried}", shorten(repr(row.data), _MAX_DATA)]
    if row.error_code or row.error_message:
        parts.append(_short(": ".join(filter(None, (row.error_code, row.error_message)))))
    return f"{row.id}: {', '.join(parts)}"


def _short(text: str) -> str:
    return escaped(shorten(text, _MAX_MESSAGE))


_MAX_TEXT = 1000  # characters of a value on a line of its own


def job_html(job: Any, *notes: str, expected_cents: float | None = None) -> str:
    """A job: its name, status, a bar, its counts and costs. ``notes``: further lines of text.

    ``expected_cents``: the expected cost of the whole job.
    """
    parts = {status: count for status, count in job.counts.items() if count}
    segments = "".join(
        f'<span style="flex:{count} 0 0;min-width:3px;background:{status.color}"></span>'
        for status, count in parts.items()
    )
    legend = " &nbsp; ".join(
        f'<span style="white-space:nowrap"><span style="color:{status.color}">&#9632;</span> '
        f"{count:,} {status.label}</span>"
        for status, count in parts.items()
    )
    said = [f"{counted(job.total_rows, 'row|rows')}: {legend}" if parts else "no rows"]
    if job.waiting_count:
        said.append(f"{counted(job.waiting_count, 'row|rows waits|wait')} for somebody else")
    spent = [spent_text(job.total_cost_cents, expected_cents), usage_text(job.usage)]
    said += [_text(text) for text in (*notes, ", ".join(filter(None, spent))) if text]
    if job.error_code:
        said.append(f"<b>{_text(job.error_code)}</b> {_text(job.error_message)}")
    name = "" if job.name in (job.id, None) else f" {_text(job.name)}"
    bar = (
        '<div style="display:flex;gap:1px;height:8px;margin:4px 0;border-radius:4px;'
        f'overflow:hidden">{segments}</div>'
    )
    badge = (
        '<span style="border:1px solid;border-radius:1em;padding:0 .6em;font-size:85%;opacity:.8">'
        f"{_text(job.status.value)}</span>"
    )
    lines = "".join(f"<div>{line}</div>" for line in said)
    head = f"<b>{_text(job.id)}</b>{name} {badge}{bar}"
    return f'<div style="max-width:60em;line-height:1.5"><div>{head}</div>{lines}</div>'


def _text(value: Any, limit: int = _MAX_TEXT) -> str:
    from html import escape  # noqa: PLC0415  (importing it takes milliseconds)

    return escape(escaped(shorten(as_text(value), limit), keep="\n"))

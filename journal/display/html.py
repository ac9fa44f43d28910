"""HTML of jobs for notebooks: small, without scripts, for light and dark backgrounds.

All text has the notebook's own colour. All values are escaped and shortened.
"""

from __future__ import annotations

from html import escape
from typing import Any

from journal.text import as_text, counted, escaped, shorten, spent_text, usage_text

_MAX_TEXT = 1000  # characters of a value that has its own line


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
    return escape(escaped(shorten(as_text(value), limit), keep="\n"))

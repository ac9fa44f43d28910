"""HTML of jobs and rows for notebooks: small, without scripts, for light and dark backgrounds.

All text has the notebook's own colour. All values are escaped and shortened.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import islice
from typing import Any

from journal.display.plain import run_text
from journal.text import as_text, counted, escaped, shorten, spent_text, usage_text

_MAX_VALUE = 100  # characters of a value in a table of rows
_MAX_TEXT = 1000  # characters of a value that has its own line
_MAX_COLUMNS = 8  # columns of data in a table of rows
_MAX_ROWS = 10
_LEFT = 'style="text-align:left;vertical-align:top"'


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
    return _box(f"<b>{_text(job.id)}</b>{name} {_badge(job.status)}{bar}", said)


def report_html(report: Any) -> str:
    """A job after a run, with the counts of the run."""
    attempts = counted(report.started, "attempt|attempts")
    notes = [f"{run_text(report)}, {attempts}; exit code {report.exit_code}"]
    if report.reason:
        notes.append(f"ended early: {report.reason}")
    return job_html(report.job, *notes, *report.problems[:_MAX_ROWS])


def rows_html(rows: Sequence[Any], title: str) -> str:
    """The first rows of a sequence as a table: number, status, data, result and error."""
    shown = list(islice(rows, _MAX_ROWS))
    names = list(dict.fromkeys(name for row in shown for name in row.data))
    columns = names[:_MAX_COLUMNS]
    has_errors = any(row.error_code for row in shown)
    header = ["row", "status", *columns]
    header += ["…"] * (len(names) > len(columns)) + ["result"] + ["error"] * has_errors
    lines = []
    for row in shown:
        cells = [row.row_number, row.status.value, *(row.data.get(name) for name in columns)]
        cells += ["…"] * (len(names) > len(columns)) + [row.result]
        if has_errors:
            cells.append(" ".join(filter(None, (row.error_code, row.error_message))))
        lines.append(cells)
    more = f", the first {len(shown)} are shown" if len(rows) > len(shown) else ""
    return _box(f"{_text(title)}{more}", [_table(header, lines)] if shown else [])


def _box(head: str, lines: Iterable[str]) -> str:
    return "".join(
        (
            '<div style="max-width:60em;line-height:1.5">',
            f"<div>{head}</div>",
            *(f"<div>{line}</div>" for line in lines),
            "</div>",
        )
    )


def _badge(status: Any) -> str:
    return (
        '<span style="border:1px solid;border-radius:1em;padding:0 .6em;font-size:85%;opacity:.8">'
        f"{_text(str(status).replace('_', ' '))}</span>"
    )


def _table(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th {_LEFT}>{_text(name, _MAX_VALUE)}</th>" for name in header)
    body = "".join(
        f"<tr>{''.join(f'<td {_LEFT}>{_text(cell, _MAX_VALUE)}</td>' for cell in line)}</tr>"
        for line in lines
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(value: Any, limit: int = _MAX_TEXT) -> str:
    return escape(escaped(shorten(as_text(value), limit), keep="\n"))

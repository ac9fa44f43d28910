"""The colors of statuses and events, in HTML and on a terminal."""

from __future__ import annotations

# The statuses of rows, in the order of counts for people.
HTML = {
    "completed": "#3a9d68",
    "failed": "#d64545",
    "needs_review": "#c98a1b",
    "skipped": "#8a94a0",
    "processing": "#4a86e8",
    "pending": "rgba(128,128,128,.35)",
}

_RED, _GREEN, _YELLOW, _MAGENTA, _CYAN = 31, 32, 33, 35, 36
# The statuses of jobs and rows, and the events of a log (SGR). Other statuses and events have no
# color.
TERMINAL = {
    "completed": _GREEN,
    "processing": _CYAN,
    "running": _CYAN,
    "failed": _RED,
    "cancelled": _YELLOW,
    "paused": _YELLOW,
    "needs_review": _MAGENTA,  # a person must do something
    "interrupted": _MAGENTA,
    "unknown": _MAGENTA,
    "review": _MAGENTA,
    "error": _RED,
    "ERROR": _RED,
    "CRITICAL": _RED,
    "WARNING": _YELLOW,
}

"""Times on the command line: moments and durations.

A moment is ISO 8601 text, or says how long ago it was, such as ``3d`` (three days ago).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from journal.cli.shared_options import Option, option

# strings, which `re` compiles only when they are needed
_AGO = r"([0-9]{1,9})\s*(s|m|h|d|w)(?:\s+ago)?"
_DURATION = r"([0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})\s*(ms|s|m|h|d|w)?"
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_moment(text: str) -> datetime:
    """Parse WHEN: see :func:`moment`."""
    return moment(text, datetime.now(UTC))


def parse_seconds(value: str) -> float:
    """Parse DURATION: ``90``, ``0.5s`` or ``5m``."""
    match = re.fullmatch(_DURATION, value.strip(), re.ASCII)
    if match is None:
        raise ValueError(f"{value!r} is not a duration: give 90, 0.5s, 5m or 2h")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def parse_limit_s(value: str) -> float:
    """Parse DURATION, which must be above 0."""
    if not (seconds := parse_seconds(value)):
        raise ValueError(f"{value!r} must be above 0")
    return seconds


def since_option(what: str) -> Option:
    """The option ``--since WHEN``. Its help begins with ``what``."""
    return option(
        "--since WHEN",
        f"{what}: 2026-11-24, '2026-11-24 13:35', or how long ago: 3d, 2h.",
        parse_moment,
    )


def moment(text: str, now: datetime) -> datetime:
    """Parse ``2026-11-24``, ``2026-11-24 13:35`` or ``3d`` (three days ago) to a moment in UTC.

    A time without a zone is local. Raises ValueError, whose message lists the valid forms.
    """
    text = text.strip()
    ago = re.fullmatch(_AGO, text, re.ASCII)
    try:
        if ago is not None:
            return now - timedelta(seconds=_SECONDS[ago[2]] * int(ago[1]))
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError):  # OSError: on Windows, after the year 3000
        raise ValueError(
            f"{text!r} is not a time: give 2026-11-24, '2026-11-24 13:35', 2026-11-24T13:35Z, or how "
            "long ago: 90s, 5m, 2h, 3d, 1w"
        ) from None

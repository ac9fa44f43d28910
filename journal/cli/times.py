"""Points in time on the command line: ``2026-11-24T13:35``, ``10m``, ``2h ago``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

_AGO = re.compile(r"([0-9]{1,9})\s*([smhdw])(?:\s+ago)?", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_moment(
    _ctx: click.Context, _parameter: click.Parameter, value: str | None
) -> datetime | None:
    """A moment as an option's value."""
    try:
        return None if value is None else moment(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def moment(text: str) -> datetime:
    """The aware datetime in UTC that ``text`` names; local time where it names no zone.

    Raises ValueError.
    """
    text = text.strip()
    match = _AGO.fullmatch(text)
    try:
        if match is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no time: say 2026-11-24, 2026-11-24T13:35 (local time), "
            "2026-11-24T13:35Z, or how long ago: 30s, 10m, 2h, 3d, 1w"
        ) from None

"""Times on the command line: moments and durations.

A moment is ISO 8601 text, or says how long ago it was, such as ``3d`` (three days ago).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

# a string, which `re` compiles only when it is needed
_AGO = r"([0-9]{1,9})\s*(s|m|h|d|w)(?:\s+ago)?"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_moment(
    _ctx: click.Context, _parameter: click.Parameter, value: str | None
) -> datetime | None:
    """A click callback for an option whose value is WHEN."""
    try:
        return None if value is None else moment(value, datetime.now(UTC))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


class Seconds(click.FloatRange):
    """The click type of an option whose value is SECONDS: a finite number."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds: give 90, or 0.5", param, ctx)
        return float(super().convert(seconds, param, ctx))


def since_option(what: str) -> Callable[[Any], Any]:
    """The option ``--since WHEN``. Its help begins with ``what``."""
    return click.option(
        "--since",
        metavar="WHEN",
        callback=parse_moment,
        help=f"{what}: 2026-11-24, '2026-11-24 13:35', or how long ago: 3d, 2h.",
    )


def moment(text: str, now: datetime) -> datetime:
    """Parse ``2026-11-24``, ``2026-11-24 13:35`` or ``3d`` (three days ago) to a moment in UTC.

    A time without a zone is local. Raises ValueError, whose message lists the valid forms.
    """
    text = text.strip()
    ago = re.fullmatch(_AGO, text, re.ASCII)
    try:
        if ago is not None:
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError):  # OSError: on Windows, after the year 3000
        raise ValueError(
            f"{text!r} is not a time: give 2026-11-24, '2026-11-24 13:35', 2026-11-24T13:35Z, or how "
            "long ago: 90s, 5m, 2h, 3d, 1w"
        ) from None

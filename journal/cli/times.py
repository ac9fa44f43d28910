"""Times on the command line: moments in ISO 8601 or as how long ago, and durations in seconds."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_AGO = r"([0-9]{1,9})\s*(s|m|h|d|w)(?:\s+ago)?"  # compiled when it is asked for
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_moment(
    _ctx: click.Context, _parameter: click.Parameter, value: str | None
) -> datetime | None:
    """WHEN as an option's value."""
    try:
        return None if value is None else moment(value, datetime.now(UTC))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


class Seconds(click.FloatRange):
    """SECONDS as an option's type: a number that is one, so that none is waited for in vain."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is no number of seconds: say 90, or 0.5", param, ctx)
        return float(super().convert(seconds, param, ctx))


def since_option(what: str) -> Callable[[Any], Any]:
    """``--since WHEN``; ``what`` is true of what is chosen, such as "Made"."""
    return click.option(
        "--since",
        metavar="WHEN",
        callback=parse_moment,
        help=f"{what} then or later: 2026-11-24, '2026-11-24 13:35', 3d, 2h.",
    )


def moment(text: str, now: datetime) -> datetime:
    """What ``2026-11-24``, ``2026-11-24 13:35`` (local, unless it has a zone) or ``3d`` means, in UTC.

    ValueError says what would be right.
    """
    text = text.strip()
    ago = re.fullmatch(_AGO, text, re.ASCII)
    try:
        if ago is not None:
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no time: say 2026-11-24, '2026-11-24 13:35', 2026-11-24T13:35Z, or how long "
            "ago: 90s, 5m, 2h, 3d, 1w"
        ) from None

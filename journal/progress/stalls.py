"""Decides whether a run has stalled, because no row ends any more."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

STALL_S = 60.0


def is_stalled(took_s: Collection[float], quiet_s: float) -> bool:
    """Whether a run has stalled if no row has ended for ``quiet_s``.

    ``quiet_s`` must be at least a minute, ten times the median duration of attempts, and twice the
    95th percentile of these durations. ``took_s``: some durations of this run. Without durations,
    nobody knows how long attempts take. Ask only while rows are in flight, and the job neither
    holds nor is paused.
    """
    if quiet_s < STALL_S or not took_s:
        return False
    ordered = sorted(took_s)
    long_s = ordered[math.ceil(0.95 * len(ordered)) - 1]
    return quiet_s >= max(10 * median_s(ordered), 2 * long_s)


def median_s(ordered: Sequence[float]) -> float:
    """The median of ascending durations."""
    return ordered[(len(ordered) - 1) // 2]

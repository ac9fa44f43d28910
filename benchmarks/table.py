"""Measure works, side by side in turn, and print what came out as a table and as JSON."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from benchmarks.setting import Setting

Measure = Callable[[Setting], float]


class Unit(NamedTuple):
    """Figures are seconds or bytes; shown is ``figure * factor`` and the label."""

    label: str
    factor: float
    digits: int = 1

    def show(self, figure: float) -> str:
        return f"{figure * self.factor:,.{self.digits}f} {self.label}"


US_A_COMMIT = Unit("µs a commit", 1e6)
US_A_ROW = Unit("µs a row", 1e6, 2)
US_A_RECORD = Unit("µs a record", 1e6, 2)
MS = Unit("ms", 1e3)
MS_A_COMMAND = Unit("ms a command", 1e3, 2)
BYTES_A_ROW = Unit("bytes a row", 1)
MIB = Unit("MiB", 2.0**-20)


@dataclass(frozen=True)
class Side:
    """One way to do a work. ``promise`` is what a commit means: whether it waits for the disk."""

    name: str
    measure: Measure
    promise: str = ""
    floor: bool = False  # what physics or a library sets, not somebody's alternative
    module: str | None = None  # has to be installed
    program: str | None = None  # has to be on PATH

    def missing(self, *, standard: bool) -> str | None:
        """Why it isn't measured, or None. ``standard`` leaves out what has to be installed."""
        if standard and (self.module or self.program):
            return "left out: --standard"
        if self.module is not None and find_spec(self.module) is None:
            return f"{self.module} is not installed"
        if self.program is not None and shutil.which(self.program) is None:
            return f"{self.program} is not on PATH"
        return None


def in_peer(module: str, function: str, /, **arguments: Any) -> Measure:
    """``benchmarks.peers.module.function``, imported only when it is measured."""

    def measure(setting: Setting) -> float:
        call = getattr(import_module(f"benchmarks.peers.{module}"), function)
        return float(call(setting, **arguments))

    return measure


@dataclass(frozen=True)
class Goal:
    """At most ``limit``: of our figure as shown or, ``against`` sides, of the ratio to the best."""

    limit: float
    against: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    name: str
    title: str
    unit: Unit
    ours: Side
    others: tuple[Side, ...] = ()
    goal: Goal | None = None
    times: int = 1  # rounds of this work for one round asked for
    full_only: bool = False


@dataclass
class Figures:
    side: Side
    skipped: str | None
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def as_json(self, unit: Unit, ours: float) -> dict[str, Any]:
        side = self.side
        told: dict[str, Any] = {"name": side.name, "promise": side.promise, "floor": side.floor}
        if self.skipped is not None:
            return {**told, "skipped": self.skipped}
        shown = sorted(value * unit.factor for value in self.values)
        quartiles = statistics.quantiles(shown, n=4, method="inclusive") if shown[1:] else shown * 3
        return {
            **told,
            "median": statistics.median(shown),
            "min": shown[0],
            "quartiles": [quartiles[0], quartiles[2]],
            "max": shown[-1],
            "figures": [value * unit.factor for value in self.values],
            "ratio_of_ours": ours / self.median,
        }


@dataclass
class Result:
    work: Work
    ours: Figures
    others: list[Figures]

    @property
    def goal_reached(self) -> bool | None:
        """None without a goal, or if nobody whom it names was measured."""
        goal = self.work.goal
        if goal is None:
            return None
        if not goal.against:
            return self.ours.median * self.work.unit.factor <= goal.limit
        best = min(self._medians(goal.against), default=None)
        return None if best is None else self.ours.median / best <= goal.limit

    def _medians(self, names: Sequence[str]) -> Iterator[float]:
        return (o.median for o in self.others if o.skipped is None and o.side.name in names)

    def lines(self, *, judge: bool) -> Iterator[str]:
        """``judge``: say whether the goal was reached, which is set for the full row counts."""
        work, unit, ours = self.work, self.work.unit, self.ours
        own = f"| `{work.name}`: {work.title} | {ours.side.name} | {ours.side.promise} | {unit.show(ours.median)}"
        goal = work.goal
        yield f"{own} | | {self._goal(judge) if goal and not goal.against else ''} |"
        best = min(self._medians(goal.against), default=None) if goal else None
        for other in self.others:
            side = other.side
            name = f"| | {'floor: ' if side.floor else ''}{side.name} | {side.promise}"
            if other.skipped is not None:
                yield f"{name} | {other.skipped} | | |"
                continue
            judged = goal is not None and side.name in goal.against and other.median == best
            ratio = ours.median / other.median
            shown = f"{unit.show(other.median)} | {ratio:.{2 if ratio >= 0.1 else 3}f}"
            yield f"{name} | {shown} | {self._goal(judge) if judged else ''} |"

    def _goal(self, judge: bool) -> str:
        assert self.work.goal is not None
        unit = "" if self.work.goal.against else f" {self.work.unit.label}"
        verdict = (": reached" if self.goal_reached else ": **missed**") if judge else ""
        return f"≤ {self.work.goal.limit:g}{unit}{verdict}"

    def as_json(self) -> dict[str, Any]:
        work, ours = self.work, self.ours.median
        return {
            "name": work.name,
            "title": work.title,
            "unit": work.unit.label,
            "goal": None
            if work.goal is None
            else {"limit": work.goal.limit, "against": work.goal.against},
            "goal_reached": self.goal_reached,
            "ours": self.ours.as_json(work.unit, ours),
            "others": [other.as_json(work.unit, ours) for other in self.others],
        }


def measure(work: Work, setting: Setting, rounds: int, *, standard: bool) -> Result:
    """All sides once a round; each round begins with the next, so that nobody is always first."""
    sides = (work.ours, *work.others)
    ours, *others = result = [Figures(side, side.missing(standard=standard)) for side in sides]
    present = [figures for figures in result if figures.skipped is None]
    for number in range(rounds * work.times):
        first = number % len(present)
        for figures in present[first:] + present[:first]:
            figures.values.append(figures.side.measure(setting))
    return Result(work, ours, others)


HEADER = "| work | side | a commit is | cost | ours / it | goal |\n|---|---|---|---|---|---|"

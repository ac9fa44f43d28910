"""Draws plots as inline SVG, in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from html import escape
from typing import NamedTuple

from journal.text import duration_text

_LABELS = 4  # the number of labels on the time axis: more labels would overlap
_WIDTH, _HEIGHT = 480, 220
_TOP, _BOTTOM, _RIGHT = 10, 195, 472  # the edges of the area with the marks
_LETTER = 7  # the width of a letter of a label


class Series(NamedTuple):
    """The values of a series, its name, and its colour: a variable of the page's CSS."""

    name: str
    colour: str
    values: Sequence[float | None]


def stacked_bars(title: str, times: Sequence[datetime], series: Sequence[Series]) -> str:
    """Draw stacked bars over time. They show whole numbers."""
    below = [0.0] * len(times)
    stacks = zip(*(each.values for each in series), strict=True)
    tops = [sum(value or 0 for value in stack) for stack in stacks]
    plot = _Plot(times, _scale(max(tops, default=0), least_step=1), "{:,.0f}".format)
    for each in series:
        for place, value in enumerate(each.values):
            if value:
                below[place] += value
                x, width = plot.x(place + 0.1), plot.x(0.8) - plot.x(0)
                y, height = plot.y(below[place]), plot.y(0) - plot.y(value)
                rect = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
                plot.add(f"rect {rect}", each, place, value)
    return plot.svg(title)


def lines(title: str, times: Sequence[datetime], series: Sequence[Series]) -> str:
    """Draw lines over time. They show seconds. A line is interrupted where its series has None."""
    top = max((value for each in series for value in each.values if value), default=0)
    plot = _Plot(times, _scale(top), duration_text)
    for each in series:
        known = [(place, value) for place, value in enumerate(each.values) if value is not None]
        path, last = "", -2
        for place, value in known:
            move = "L" if place == last + 1 else "M"
            path += f"{move}{plot.x(place + 0.5):.1f} {plot.y(value):.1f}"
            last = place
        style = f"fill:none;stroke:var(--{each.colour});stroke-width:2"
        plot.marks.append(f'<path d="{path}" style="{style}"/>')
        for place, value in known:
            circle = f'circle cx="{plot.x(place + 0.5):.1f}" cy="{plot.y(value):.1f}" r="2.5"'
            plot.add(circle, each, place, value)
    return plot.svg(title)


class _Plot:
    """A plot over time. Places on the time axis are numbered from 0. ``marks``: its elements."""

    def __init__(
        self, times: Sequence[datetime], scale: list[float], value_text: Callable[[float], str]
    ) -> None:
        self._labels, self._value_text, self._top = _time_labels(times), value_text, scale[-1]
        texts = [escape(value_text(value)) for value in scale]
        self._left = left = 10 + _LETTER * max(map(len, texts))
        self.marks: list[str] = []
        for value, text in zip(scale, texts, strict=True):
            y = self.y(value)
            self.marks.append(f'<path d="M{left} {y:.1f}H{_RIGHT}" style="stroke:var(--line)"/>')
            self._label(left - 6, y + 4, "end", text)
        for place in range(0, len(times), max(1, -(-len(times) // _LABELS))):
            self._label(self.x(place), _BOTTOM + 18, "start", self._labels[place])

    def _label(self, x: float, y: float, anchor: str, text: str) -> None:
        self.marks.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>')

    def x(self, place: float) -> float:
        return self._left + (_RIGHT - self._left) * place / max(len(self._labels), 1)

    def y(self, value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * value / self._top

    def add(self, shape: str, series: Series, place: int, value: float) -> None:
        """Add a shape. A pointer on it shows its time, its series and its value."""
        text = escape(f"{self._labels[place]} {series.name} {self._value_text(value)}")
        tag = shape.partition(" ")[0]
        style = f"fill:var(--{series.colour})"
        self.marks.append(f'<{shape} style="{style}"><title>{text}</title></{tag}>')

    def svg(self, title: str) -> str:
        name = escape(title)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
            f' aria-label="{name}" font-size="12" fill="var(--muted)"><title>{name}</title>'
            f"{''.join(self.marks)}</svg>"
        )


def _time_labels(times: Sequence[datetime]) -> list[str]:
    """Make the labels of the time axis: dates, times or both, depending on the axis's range."""
    if not times:
        return []
    width_s = (times[1] - times[0]).total_seconds() if len(times) > 1 else 1
    if width_s < 1:
        return [f"{at:%H:%M:%S}.{at.microsecond // 100_000}" for at in times]
    if width_s >= 86_400:
        form = "%Y-%m-%d"
    elif (times[-1] - times[0]).total_seconds() >= 86_400:
        form = "%m-%d %H:%M"
    else:
        form = "%H:%M" if width_s >= 60 else "%H:%M:%S"
    return [f"{at:{form}}" for at in times]


def _scale(top: float, least_step: float = 0) -> list[float]:
    """Make the labels of the vertical axis: up to six round numbers, from 0 to ``top`` or more."""
    top = top or 1
    magnitude = 10.0 ** math.floor(math.log10(top / 5))
    step = next(n * magnitude for n in (1, 2, 5, 10) if n * magnitude * 5 >= top)
    step = max(step, least_step)
    return [number * step for number in range(math.ceil(top / step) + 1)]

"""Draws plots as inline SVG, in the colours of the page. Needs pygal (the extra ``report``)."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from datetime import datetime
from types import ModuleType
from typing import Any
from xml.etree import ElementTree as ET

from journal.errors import MissingExtraError

_LABELS = 4  # the number of labels on the time axis: more labels would overlap


def load_library(name: str) -> ModuleType:
    """Import a library of the extra ``report``. Raises MissingExtraError."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError("a report", name, "report") from None


def stacked_bars(
    title: str, times: Sequence[datetime], series: dict[str, list[int]], colours: Sequence[str]
) -> str:
    """Draw stacked bars over time. ``colours`` are CSS values, one for each series."""
    chart = load_library("pygal").StackedBar(
        **_options(times, colours, lambda value: f"{value:,.0f}")
    )
    tops = map(sum, zip(*series.values(), strict=True))
    chart.y_labels = _scale(max(tops, default=0), least_step=1)
    return _svg(chart, title, times, series)


def lines(
    title: str,
    times: Sequence[datetime],
    series: dict[str, list[float | None]],
    colours: Sequence[str],
    value_text: Callable[[float], str],
) -> str:
    """Draw lines over time. A line is interrupted where its series has None."""
    options = _options(times, colours, value_text)
    chart = load_library("pygal").Line(**options, allow_interruptions=True, dots_size=2)
    chart.y_labels = _scale(max((v for vs in series.values() for v in vs if v), default=0))
    return _svg(chart, title, times, series)


def _options(
    times: Sequence[datetime], colours: Sequence[str], value_text: Callable[[float], str]
) -> dict[str, Any]:
    style = load_library("pygal").style.Style(
        background="transparent",
        plot_background="transparent",
        foreground="var(--muted)",
        foreground_strong="var(--muted)",
        foreground_subtle="var(--line)",
        guide_stroke_color="var(--line)",
        major_guide_stroke_color="var(--line)",
        guide_stroke_dasharray="none",
        major_guide_stroke_dasharray="none",
        colors=tuple(colours),
        font_family="inherit",
        label_font_size=12,
        major_label_font_size=12,
        opacity="1",
        stroke_opacity="1",
        stroke_width="2",
        transition="0s",
    )
    return {
        "style": style,
        "width": 480,
        "height": 220,
        "margin": 8,
        "js": [],
        "show_legend": False,
        "show_minor_x_labels": False,
        "x_labels_major_every": max(1, -(-len(times) // _LABELS)),
        "truncate_label": -1,
        "include_x_axis": True,
        "value_formatter": value_text,
        "disable_xml_declaration": True,
    }


def _svg(chart: Any, title: str, times: Sequence[datetime], series: dict[str, Any]) -> str:
    chart.x_labels = _time_labels(times)
    for name, values in series.items():
        chart.add(name, values)
    root = chart.render_tree()
    _make_plain(root, title, list(series))
    return ET.tostring(root, encoding="unicode")


def _make_plain(root: Any, title: str, names: list[str]) -> None:
    """Remove scripts, comments and descriptions.

    Values are shown by SVG titles, not by pygal's script.
    """
    for parent in list(root.iter()):
        facts = {child.get("class"): child for child in parent if _kind(child) == "desc"}
        for child in list(parent):
            if _kind(child) in {"script", "comment", "desc"}:
                parent.remove(child)
        if "value" in facts:
            value, label = facts["value"], facts.get("x_label")
            value.tag = "title"
            value.attrib.clear()
            value.text = f"{'' if label is None else label.text} | {value.text}"
            parent.insert(0, value)
    for series in root.iter():
        classes = (series.get("class") or "").split()
        if _kind(series) == "g" and "series" in classes:
            number = int(next(name for name in classes if name.startswith("serie-"))[6:])
            for text in series.iter():
                if _kind(text) == "title":
                    text.text = (text.text or "").replace("|", names[number], 1)
    root.find("./{*}title").text = title
    root.set("role", "img")
    root.set("aria-label", title)


def _kind(element: Any) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else "comment"


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

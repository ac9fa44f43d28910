"""Text for people and programs: escapes, counts, row numbers, durations, times, CSV, TSV, JSON."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

# Characters that must be escaped. Terminals obey C0, DEL and C1. Bidirectional marks reorder text.
# The others are invisible: soft hyphens, joiners, operators, annotations, tags. The pattern is
# compiled on its first use, since most text is printable and never needs it.
_UNSHOWN = (
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)


def escaped(text: str, keep: str = "") -> str:
    """``text`` with invisible and control characters escaped, except those in ``keep``."""
    if text.isprintable():
        return text
    return re.sub(
        _UNSHOWN, lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text
    )


def escaped_json(text: str) -> str:
    """The JSON ``text`` with invisible and control characters as JSON escapes."""
    if text.isprintable():
        return text
    import json  # noqa: PLC0415  (most text is printable and never needs it)

    return re.sub(_UNSHOWN, lambda match: json.dumps(match[0])[1:-1], text)


def shorten(text: str, limit: int) -> str:
    """``text`` cut to ``limit`` characters, with an ellipsis at the end if it was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def headline(message: str) -> str:
    """The last line of a Python traceback, which names the error.

    A message without a traceback is returned whole.
    """
    if "Traceback (most recent call last):\n" not in message:
        return message
    return message.rstrip().rpartition("\n")[2]


def similar(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most similar to ``word``; None if no word is similar.

    Upper and lower case don't matter.
    """
    from difflib import get_close_matches  # noqa: PLC0415  (needed only after a mistake)

    folded = {each.casefold(): each for each in known}
    close = get_close_matches(word.casefold(), folded, n=1)
    return folded[close[0]] if close else None


def before_text(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The old values of the members that differ, as the end of a text: ``; before: {"n":1}``."""
    names = dict.fromkeys([*old, *new])
    differing = {name: old.get(name) for name in names if old.get(name) != new.get(name)}
    return f"; before: {encode_json(differing).decode()}" if differing else ""


def as_utf8(word: str) -> str:
    r"""Escape the bytes of a word that are not UTF-8, for example as ``\xe9``.

    Names of files may have such bytes, but records and messages can't.
    """
    try:
        return word.encode(errors="surrogateescape").decode(errors="backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return word


def counted(count: int, words: str) -> str:
    """A count with words: ``counted(1, "row|rows")`` is "1 row".

    Each ``A|B`` in ``words`` becomes A if the count is 1, and B otherwise.
    """
    form = 1 if count == 1 else 2
    return f"{count} " + re.sub(r"(\w+)\|(\w+)", lambda match: match[form], words)


class Numbers:
    """Ascending row numbers as ranges. Each range takes 16 bytes.

    ``is_cut`` is True if further rows exist that were not read.
    """

    __slots__ = ("_firsts", "_lasts", "count", "is_cut")

    def __init__(self, numbers: Iterable[int] = (), *, is_cut: bool = False) -> None:
        self.count = 0
        self.is_cut = is_cut
        self._firsts = array("Q")
        self._lasts = array("Q")
        for number in numbers:
            self.add(number)

    def add(self, number: int) -> None:
        self.count += 1
        if self._lasts and self._lasts[-1] == number - 1:
            self._lasts[-1] = number
        else:
            self._firsts.append(number)
            self._lasts.append(number)

    def __iter__(self) -> Iterator[int]:
        for first, last in zip(self._firsts, self._lasts, strict=True):
            yield from range(first, last + 1)

    @property
    def first(self) -> int:
        """Return the lowest number. Add a number before you call this."""
        return self._firsts[0]

    def text(self, separator: str = ",", at_most: int | None = None) -> str:
        """Return the first ``at_most`` ranges as text for ``--row``, such as ``5,12,34-47``.

        If numbers are left out, the text ends with an ellipsis. ``--row`` doesn't accept such text.
        """
        pairs = zip(self._firsts[:at_most], self._lasts, strict=False)
        text = separator.join(str(a) if a == b else f"{a}-{b}" for a, b in pairs)
        return text + separator + "..." if not self.is_shown_by(at_most) else text

    def words(self, at_most: int | None = None) -> str:
        """The text with a noun: "row 4", or "rows 4-6, 19"."""
        return f"{'row' if self.count == 1 else 'rows'} {self.text(', ', at_most)}"

    def is_shown_by(self, at_most: int | None) -> bool:
        """Return whether the rows fit into ``at_most`` ranges. None means no limit."""
        return not self.is_cut and (at_most is None or len(self._firsts) <= at_most)


def cents_number(cents: float) -> str:
    """A number of cents with as many decimals as it needs, up to a millionth of a cent."""
    if isinstance(cents, int):
        return str(cents)
    return f"{cents:.6f}".rstrip("0").removesuffix(".")


def cents_text(cents: float) -> str:
    """A cost with its unit: ``1250 cents``, in whatever currency the caller uses.

    Options and the API use cents, too, so people can compare a cost with a limit.
    """
    number = cents_number(cents)
    return f"{number} cent" if number == "1" else f"{number} cents"


def spent_text(cents: float, expected: float | None) -> str:
    """A job's cost so far, and its expected cost: ``31 cents, about 1240 cents expected in all``.

    Returns "" if there is no cost.
    """
    if not cents:
        return ""
    if expected is None:
        return cents_text(cents)
    # An estimate: whole cents, or two digits if it is small.
    about = round(expected) if expected >= 10 else float(f"{expected:.2g}")
    return f"{cents_text(cents)}, about {cents_text(about)} expected in all"


def usage_text(usage: dict[str, int | float]) -> str:
    """Numbers by name, as ``calls 3, tokens 812``."""
    return ", ".join(f"{escaped(name)} {number}" for name, number in usage.items())


def duration_text(duration_s: float | None) -> str:
    """A duration in at most two units: ``0.25ms``, ``8.2s``, ``12m03s``, ``3h04m``, ``2d03h``.

    If the clocks of two hosts differ, a duration can be negative. The text is then ``0ms``.
    """
    if duration_s is None:
        return ""
    if duration_s < 0.9995:
        return f"{max(0.0, duration_s) * 1000:.3g}ms"
    if duration_s < 59.95:
        return f"{duration_s:.1f}s"
    minutes, seconds = divmod(round(duration_s), 60)
    if minutes < 60:
        return f"{minutes}m{seconds:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02d}m"
    return f"{hours // 24}d{hours % 24:02d}h"


def clock_text(at: datetime, near: datetime) -> str:
    """The local time of day; with the date if ``near`` is on another day."""
    with suppress(OverflowError, OSError):  # outside the calendar's range
        at, near = at.astimezone(), near.astimezone()
    return f"{at:%H:%M:%S}" if at.date() == near.date() else f"{at:%Y-%m-%d %H:%M:%S}"


def time_text(at: datetime) -> str:
    """A time in the form that records use: ``YYYY-MM-DDTHH:MM:SS.ffffffZ``."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


# --- numbers and JSON ------------------------------------------------------------------------


def own_number(text: str) -> float | msgspec.Raw:
    """A number in JSON text as a float, or as its text if the float would be written differently.

    Raises ValueError if the number is beyond the range of a double (about 1.8e308).
    """
    number = float(text)
    if number in (_INFINITY, -_INFINITY):
        raise ValueError("a number beyond the range of a double")
    return number if repr(number) == text else msgspec.Raw(text.encode())


_INFINITY = float("inf")

_encoder = msgspec.json.Encoder()
encode_json = _encoder.encode
encode_json_into = _encoder.encode_into
# Numbers keep their own text, so that a value can be written again without a change.
decode_json_exact = msgspec.json.Decoder(float_hook=own_number).decode


# --- lines of CSV, TSV and JSON --------------------------------------------------------------


def as_text(value: Any) -> str:
    """Return a value as text: text as it is, None as "", times as ISO 8601, other values as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, datetime):
        return time_text(value)
    return encode_json(value).decode()


def csv_liner() -> Callable[[Iterable[Any]], bytes]:
    """A function that turns cells into a line of CSV."""
    import csv  # noqa: PLC0415  (`journal list` starts without it)

    class Echo:
        @staticmethod
        def write(line: str) -> str:
            return line

    # With the line end CR LF, csv quotes a lone CR in all versions of Python.
    write_row = csv.writer(Echo, lineterminator="\r\n").writerow
    return lambda cells: write_row(cells).removesuffix("\r\n").encode() + b"\n"


def json_array(elements: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the text of a JSON array, one element a line. The elements are consumed one by one."""
    before = b"["
    for element in elements:
        yield before + element
        before = b",\n "
    yield b"[]\n" if before == b"[" else b"]\n"

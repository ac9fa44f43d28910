"""Makes Arrow arrays from JSON values: for a chunk of a column, and for the whole column."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from datetime import datetime
from types import ModuleType
from typing import Any, NamedTuple

from journal.errors import MissingExtraError
from journal.text import encode_json

_LARGE_BYTES = 1 << 30
_EXACT = 1 << 53  # up to this number, a double represents all integers exactly


def load_pyarrow(purpose: str) -> ModuleType:
    """Import pyarrow. Raises MissingExtraError."""
    try:
        import pyarrow.compute  # noqa: PLC0415  (an extra, and heavy)
    except ImportError:
        raise MissingExtraError(purpose, "pyarrow", "arrow") from None
    module: ModuleType = pyarrow
    return module


class Part(NamedTuple):
    """The values of a column in one chunk, and their kind."""

    kind: str  # null bool int float text time json
    array: Any


class Parts:
    """Makes Arrow arrays from values."""

    def __init__(self, pa: ModuleType) -> None:
        self._pa = pa
        self._compute = pa.compute
        self.invalid_error: type[Exception] = pa.ArrowInvalid
        self.types = {
            "null": pa.null(),
            "bool": pa.bool_(),
            "int": pa.int64(),
            "float": pa.float64(),
            "text": pa.string(),
            "json": pa.string(),
            "time": pa.timestamp("us", tz="UTC"),
        }

    def times_of_text(self, values: Sequence[str]) -> Part:
        """Convert times, given as their text in records, to an array of times.

        Raises ``pyarrow.ArrowInvalid`` if a value isn't a time.
        """
        pa = self._pa
        texts = pa.array(values, pa.string())
        if self._compute.all(self._compute.ends_with(texts, "Z")).as_py() is False:
            raise pa.ArrowInvalid("a time that is not in UTC")
        return Part("time", texts.cast(self.types["time"]))

    def microseconds(self, times: Part) -> memoryview:
        """Convert the result of :meth:`times_of_text` to microseconds since 1970."""
        return memoryview(times.array.buffers()[1]).cast("B").cast("q")[: len(times.array)]

    def _of_column(self, column: Any, positions: list[int] | None) -> Any:
        """Make an array of the values that a column of the index has at ``positions``.

        None stands for all positions.
        """
        pa = self._pa
        kind = {"q": pa.int64(), "Q": pa.int64(), "I": pa.uint32()}
        arrow_type = kind[column.typecode] if isinstance(column, array) else pa.uint8()
        found = pa.Array.from_buffers(arrow_type, len(column), [None, pa.py_buffer(column)])
        return found if positions is None else found.take(pa.array(positions, pa.int64()))

    def integers(self, column: array[int], positions: list[int] | None) -> Part:
        return Part("int", self._of_column(column, positions).cast(self.types["int"]))

    def names(
        self, column: bytes | bytearray, names: list[str], positions: list[int] | None
    ) -> Part:
        """Convert a column of numbers to names. ``names`` has the name for each number."""
        places = self._of_column(bytes(column), positions)
        return Part("text", self._pa.array(names, self.types["text"]).take(places))

    def times_of_us(self, column: array[int], never: int, positions: list[int] | None) -> Part:
        """Convert microseconds since 1970 to times. The value ``never`` becomes null."""
        found = self._of_column(column, positions)
        found = self._compute.if_else(self._compute.equal(found, never), None, found)
        return Part("time", found.cast(self.types["time"]))

    def order(self, places: array[int], positions: list[int] | None) -> Any:
        """Convert places to an order for :meth:`ordered`. A negative place stands for null."""
        if positions is None and places == array("q", range(len(places))):
            return None
        found = self._of_column(places, positions)
        return self._compute.if_else(self._compute.less(found, 0), None, found)

    def ordered(self, column: Any, order: Any) -> Any:
        """Return the column with its values in the given order. None keeps the present order."""
        if order is None:
            return column
        if column.nbytes > _LARGE_BYTES and self._pa.types.is_string(column.type):
            # The result may be too large for an array of normal strings.
            column = column.cast(self._pa.large_string())
        return self._compute.take(column.combine_chunks(), order)

    def row_ids(self, job_id: str, numbers: list[int]) -> Part:
        texts = self._pa.array(numbers, self._pa.int64()).cast(self.types["text"])
        return Part("text", self._compute.binary_join_element_wise(f"{job_id}:", texts, ""))

    def json_texts(self, texts: Sequence[bytes | None]) -> Part:
        array = self._pa.array(texts, self._pa.binary()).cast(self.types["json"])
        return Part("json", array)

    def of(self, values: Sequence[Any]) -> Part:
        """Make an array of the values, which are JSON values or None."""
        make, types = self._pa.array, self.types
        kinds = set(map(type, values))
        kinds.discard(type(None))
        if not kinds:
            return self.nulls(len(values))
        if datetime in kinds:
            return Part("time", make(values, types["time"]))
        if len(kinds) == 1:
            (kind,) = kinds
            if issubclass(kind, str):
                return Part("text", make(values, types["text"]))
            if kind is float or kind is bool:
                return Part(kind.__name__, make(values, types[kind.__name__]))
            if kind is int:
                return self._integers(values)
        if kinds == {int, float} and all(
            type(value) is float or value is None or -_EXACT <= value <= _EXACT for value in values
        ):
            return Part("float", make(values, types["float"]))
        return self.json(values)

    def _integers(self, values: Sequence[Any]) -> Part:
        try:
            return Part("int", self._pa.array(values, self.types["int"]))
        except OverflowError:
            return self.json(values)

    def json(self, values: Sequence[Any]) -> Part:
        return self.json_texts([None if value is None else encode_json(value) for value in values])

    def nulls(self, count: int) -> Part:
        return Part("null", self._pa.nulls(count))

    def repeated(self, value: Any, kind: str, count: int) -> Part:
        scalar = self._pa.scalar(value, self.types[kind])
        return Part("null" if value is None else kind, self._pa.repeat(scalar, count))

    def joined(self, parts: Sequence[Part], if_empty: str = "null") -> Any:
        """Join the parts of a column to one chunked array. Its type can hold the values of all
        parts.

        ``if_empty`` is the kind of a column without any value.
        """
        kinds = {part.kind for part in parts} - {"null"} or {if_empty}
        pa = self._pa
        if kinds == {"int", "float"} and all(map(self._is_exact, parts)):
            kinds = {"float"}
        kind = kinds.pop() if len(kinds) == 1 else "json"
        wanted = self.types[kind]
        arrays = [
            (self._as_json(part) if kind == "json" and part.kind != "json" else part.array)
            for part in parts
        ]
        return pa.chunked_array(
            [array if array.type == wanted else array.cast(wanted) for array in arrays], wanted
        )

    def _is_exact(self, part: Part) -> bool:
        if part.kind != "int":
            return True
        ends = self._pa.compute.min_max(part.array).as_py()
        return bool(ends["min"] >= -_EXACT and ends["max"] <= _EXACT)

    def _as_json(self, part: Part) -> Any:
        return self.json(part.array.to_pylist()).array

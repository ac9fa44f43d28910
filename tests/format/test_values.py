"""Values of Python and of other libraries are written as the JSON values that stand for them."""

from __future__ import annotations

import builtins
import collections
import dataclasses
import datetime as dt
import enum
import fractions
import ipaddress
import math
import pathlib
import types
import typing
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from journal import JobService
from journal.format.size_limits import MAX_REPR_BYTES
from journal.format.values import repr_text
from journal.run.outcome import outcome_of_value
from journal.text import encode_json

UTC = dt.UTC


@dataclasses.dataclass
class Order:
    id: int
    price: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    a: int


class Struct(msgspec.Struct, rename="camel"):
    my_name: Any


class Tagged(msgspec.Struct, tag="t"):
    a: int


class Color(enum.Enum):
    RED = "red"
    NUMBER = 3
    MONEY = Decimal("1.50")
    PAIR = (1, 2)


class Level(enum.IntEnum):
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"


class Flags(enum.Flag):
    A = 1
    B = 2


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "other"


class Int(int):
    pass


class Float(float):
    pass


class Bytes(bytes):
    pass


class Dict(dict):  # type: ignore[type-arg]
    pass


class List(list):  # type: ignore[type-arg]
    pass


class Moment(dt.datetime):
    pass


class Day(dt.date):
    pass


class Money(Decimal):
    pass


class Point(typing.NamedTuple):
    x: int
    y: int


class Typed(typing.TypedDict):
    a: int


class Plain:
    def __init__(self, **fields: Any) -> None:
        self.__dict__ |= fields


class Raises:
    """Raises in each method that code outside may call."""

    def __init__(self, error: type[BaseException] = RuntimeError) -> None:
        self.error = error

    def _raise(self, *_: object) -> Any:
        raise self.error("on purpose")

    __repr__ = __str__ = __eq__ = __iter__ = __len__ = __bool__ = _raise
    __hash__ = None  # type: ignore[assignment]
    model_dump = tolist = _raise


class HidesItsClass:
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise SystemExit(1)


def nested(depth: int, core: Any) -> Any:
    for _ in range(depth):
        core = [core]
    return core


def cyclic() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


# --- of Python and msgspec: each value, and what is read back

SAME: list[Any] = [None, True, False, 0, -1, 2**63, 10**40, -(10**40), 0.5, -0.0, 1e308, 5e-324]
SAME += ["", "text", "ä\u2028", [], {}, [[]], [1, "a", None], {"a": {"b": [1.5]}}, {"": 1}]
ACCEPTED: list[tuple[Any, Any]] = [
    *[(each, each) for each in SAME],
    ((1, (2,)), [1, [2]]),
    (Point(1, 2), [1, 2]),
    (collections.deque([1, (2,)]), [1, [2]]),
    ({3, 1, 2}, [1, 2, 3]),
    ({"b"}, ["b"]),
    (frozenset({(1, 2)}), [[1, 2]]),
    (set(), []),
    ({"a": 1}.keys(), ["a"]),
    (collections.OrderedDict(a=1), {"a": 1}),
    (collections.defaultdict(int, a=1), {"a": 1}),
    (collections.Counter("aab"), {"a": 2, "b": 1}),
    (collections.ChainMap({"a": 1}), {"a": 1}),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    (collections.UserDict(a=(1,)), {"a": [1]}),
    (Dict(a=1), {"a": 1}),
    (List([1]), [1]),
    (Text("abc"), "abc"),
    (Int(5), 5),
    (Float(2.5), 2.5),
    (Bytes(b"ab"), "YWI="),
    (b"ab", "YWI="),
    (bytearray(b"ab"), "YWI="),
    (memoryview(b"ab"), "YWI="),
    (Typed(a=1), {"a": 1}),
    (Order(1, Decimal("2.5")), {"id": 1, "price": 2.5}),
    (Order(1, {2, 1}), {"id": 1, "price": [1, 2]}),
    (Order(1, {"b"}), {"id": 1, "price": ["b"]}),
    (Order(1, Order(2, None)), {"id": 1, "price": {"id": 2, "price": None}}),
    (Order(1, Int(3)), {"id": 1, "price": 3}),
    (Order(1, collections.deque([Text("a")])), {"id": 1, "price": ["a"]}),
    (Order(1, pathlib.PurePosixPath("a/b")), {"id": 1, "price": "a/b"}),
    (Slotted(1), {"a": 1}),
    (Struct("x"), {"myName": "x"}),
    (Struct(Money("1.25")), {"myName": 1.25}),
    (Struct(types.MappingProxyType({"a": {1}})), {"myName": {"a": [1]}}),
    (Tagged(1), {"type": "t", "a": 1}),
    ([Struct(Color.RED)], [{"myName": "red"}]),
    (Color.RED, "red"),
    (Color.NUMBER, 3),
    (Color.MONEY, 1.5),
    (Color.PAIR, [1, 2]),
    (Level.HIGH, 2),
    (Word.YES, "yes"),
    (Flags.A | Flags.B, 3),
    (Decimal("1.10"), 1.1),
    (Decimal(5), 5),
    (Decimal("-0"), 0),
    (Decimal("1E+5"), 1e5),
    (Decimal(10**30), 10**30),
    (Money("19.99"), 19.99),
    (dt.date(2026, 1, 2), "2026-01-02"),
    (Day(2026, 1, 2), "2026-01-02"),
    (dt.time(3, 4), "03:04:00"),
    (dt.datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
    (dt.datetime(2026, 1, 2), "2026-01-02T00:00:00"),  # noqa: DTZ001
    (Moment(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
    (
        dt.datetime(2026, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=1))),
        "2026-01-02T00:00:00+01:00",
    ),
    (dt.timedelta(1, 2), "P1DT2S"),
    (uuid.UUID(int=3), "00000000-0000-0000-0000-000000000003"),
    (pathlib.Path("a/b"), str(pathlib.Path("a/b"))),
    (msgspec.Raw(b'{"a": 1}'), {"a": 1}),
    (nested(90, 1), nested(90, 1)),
]
# Keys of dicts, which become text.
KEYS: list[tuple[Any, Any]] = [
    ({1: "a"}, {"1": "a"}),
    ({1.5: "a"}, {"1.5": "a"}),
    ({Level.HIGH: 1}, {"2": 1}),
    ({Color.RED: 1}, {"red": 1}),
    ({dt.date(2026, 1, 2): 1}, {"2026-01-02": 1}),
    ({uuid.UUID(int=3): 1}, {"00000000-0000-0000-0000-000000000003": 1}),
    ({Decimal("1.10"): 1}, {"1.10": 1}),
    ({b"a": 1}, {"YQ==": 1}),
    ({"a": {2: 3}}, {"a": {"2": 3}}),
    (Order(1, {2: 3}), {"id": 1, "price": {"2": 3}}),
]


def read_back(value: Any) -> tuple[str, Any]:
    """The status of a row with this result, and its result, as another process reads them."""
    outcome = outcome_of_value(value)
    return outcome.kind, msgspec.json.decode(encode_json(outcome.result))


@pytest.mark.parametrize(
    ("value", "expected"), [*ACCEPTED, *KEYS], ids=lambda each: type(each).__name__
)
def test_a_result_is_written_as_the_json_value_that_stands_for_it(
    value: Any, expected: Any
) -> None:
    assert read_back(value) == ("completed", expected)
    assert read_back({"a": [value]}) == ("completed", {"a": [expected]})
    assert type(read_back(value)[1]) is type(expected)


@pytest.mark.parametrize(
    ("value", "expected"), [*ACCEPTED[:-1], *KEYS], ids=lambda each: type(each).__name__
)
def test_data_of_rows_may_hold_what_results_may_hold(
    tmp_path: Any, value: Any, expected: Any
) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("j", job_id="j", row_data=[{"data": {"a": value}}])
        service.update_row_data("j:1", {"a": value, "b": [value]})
        (row,) = service.get_rows("j")
        assert row.data == {"a": expected, "b": [expected]}


# --- of other libraries


def of_numpy() -> Iterator[tuple[Any, Any]]:
    np = pytest.importorskip("numpy")
    yield from ((np.int64(7), 7), (np.uint8(7), 7), (np.bool_(True), True), (np.str_("a"), "a"))
    yield from ((np.float64(2.5), 2.5), (np.float32(0.5), 0.5), (np.float16(0.5), 0.5))
    yield from ((np.float64("nan"), None), (np.float32("nan"), None), (np.bytes_(b"ab"), "YWI="))
    yield from ((np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]), (np.array(5), 5))
    yield from ((np.array([1.5, np.nan]), [1.5, None]), (np.array([]), []))
    yield np.array(["a", None, float("nan"), {1}], dtype=object), ["a", None, None, [1]]
    yield np.array(["2026-01-02", "NaT"], dtype="datetime64[D]"), ["2026-01-02", None]
    yield np.array("2026-01-02", dtype="datetime64[D]"), "2026-01-02"
    yield np.datetime64("2026-01-02T03:04:05.123456789"), "2026-01-02T03:04:05.123456789"
    yield from ((np.datetime64("NaT", "s"), None), (np.timedelta64("NaT", "s"), None))
    yield from ((np.timedelta64(5, "s"), "5 seconds"), (np.timedelta64(5, "ns"), "5 nanoseconds"))
    yield np.array([(1, 2.5)], dtype=[("a", int), ("b", float)]), [[1, 2.5]]
    yield np.ma.array([1, 2], mask=[False, True]), [1, None]
    yield from (({np.int64(1): 2}, {"1": 2}), (Order(1, np.float64(1.5)), {"id": 1, "price": 1.5}))
    yield Struct(np.array([np.nan])), {"myName": [None]}


def of_pandas() -> Iterator[tuple[Any, Any]]:
    pd = pytest.importorskip("pandas")
    yield pd.Timestamp("2026-01-02", tz="UTC"), "2026-01-02T00:00:00+00:00"
    yield from ((pd.NaT, None), (pd.NA, None), (pd.Timedelta("1s"), "P0DT0H0M1S"))
    yield from (
        (pd.Series([1, None]), [1.0, None]),
        (pd.Series([1, None], dtype="Int64"), [1, None]),
    )
    yield pd.Series(pd.to_datetime(["2026-01-02", None])), ["2026-01-02T00:00:00", None]
    yield from ((pd.Index([1, 2]), [1, 2]), (pd.Categorical(["a", "b"]), ["a", "b"]))
    yield pd.DataFrame({"a": [1, 2], "b": [1.5, None]}), [{"a": 1, "b": 1.5}, {"a": 2, "b": None}]
    yield pd.DataFrame({1: ["x"]}, index=[9]), [{"1": "x"}]


def of_polars_and_arrow() -> Iterator[tuple[Any, Any]]:
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    yield pl.DataFrame({"a": [1], "b": [float("nan")]}), [{"a": 1, "b": None}]
    yield from ((pl.Series([1, None]), [1, None]), (pa.array([1, None]), [1, None]))
    yield pa.table({"a": [1, None]}), [{"a": 1}, {"a": None}]
    yield pa.record_batch({"a": [1.5, float("nan")]}), [{"a": 1.5}, {"a": None}]
    yield from ((pa.scalar(3), 3), (pa.chunked_array([[1], [2]]), [1, 2]))


def of_models() -> Iterator[tuple[Any, Any]]:
    pydantic, attrs = pytest.importorskip("pydantic"), pytest.importorskip("attrs")
    Model = pydantic.create_model("Model", a=(int, ...), at=(dt.date, ...))  # noqa: N806
    yield Model(a=1, at=dt.date(2026, 1, 2)), {"a": 1, "at": "2026-01-02"}
    yield (
        Order(1, Model(a=1, at=dt.date(2026, 1, 2))),
        {"id": 1, "price": {"a": 1, "at": "2026-01-02"}},
    )
    yield pydantic.RootModel[list[int]]([1, 2]), [1, 2]
    yield attrs.make_class("A", ["x"])(3), {"x": 3}


@pytest.mark.parametrize("values", [of_numpy, of_pandas, of_polars_and_arrow, of_models])
def test_values_of_other_libraries_are_what_they_stand_for(
    values: Callable[[], Iterator[tuple[Any, Any]]],
) -> None:
    for value, expected in values():
        assert read_back(value) == ("completed", expected), repr(value)
        assert type(read_back(value)[1]) is type(expected)


# --- what can't be written

KEPT: list[Any] = [
    math.nan, math.inf, -math.inf, [1, math.nan], {"a": (math.inf,)}, Order(1, math.nan),
    Float("nan"), Decimal("NaN"), Decimal("Infinity"), Decimal("1e400"), {"a": Decimal("-1e999")},
    object(), 1j, len, int, range(3), (n for n in "ab"), lambda: 1, Exception("x"), types,
    fractions.Fraction(1, 3), ipaddress.ip_address("::1"), types.SimpleNamespace(a=1),
    "\ud800", ["text \udfff"], {"\ud800": 1}, {None: 1}, {True: 1}, {(1, 2): 3}, {1: 2, "1": 3},
    10**5000, {"a": 10**5000}, msgspec.UNSET, msgspec.Raw(b"{"), Plain(paid=7), Order(5, 1j),
    nested(100, 1), nested(150, "core"), cyclic(), {"a": cyclic()}, Order(6, cyclic()), {1j},
    [Plain(paid=7)],
]  # fmt: skip


@pytest.mark.parametrize("value", KEPT, ids=lambda each: type(each).__name__)
def test_a_result_that_cant_be_written_goes_to_review_with_its_repr(value: Any) -> None:
    outcome = outcome_of_value(value)
    assert (outcome.kind, outcome.error_code) == ("review", "InvalidResult")
    assert outcome.result == repr_text(value)
    msgspec.json.decode(encode_json(outcome))
    try:
        text = repr(value).encode(errors="backslashreplace").decode()
    except ValueError:  # an int of too many digits
        text = ""
    assert " object at 0x" in text or text in str(outcome.result)


RAISED = [
    "RuntimeError",
    "TypeError",
    "KeyboardInterrupt",
    "SystemExit",
    "MemoryError",
    "RecursionError",
]


def broken(name: str) -> Any:
    """A value that raises this exception in all its own code. pytest must not meet it."""
    return HidesItsClass() if name == "class" else Raises(getattr(builtins, name))


@pytest.mark.parametrize("name", [*RAISED, "class"])
def test_what_stands_beside_a_value_that_raises_in_its_own_code_is_kept(name: str) -> None:
    bad = broken(name)
    for value in ({"id": 7, "x": bad}, [7, bad], Order(7, bad), Struct((7, bad)), bad):
        outcome = outcome_of_value(value)
        assert (outcome.kind, outcome.error_code) == ("review", "InvalidResult")
        assert type(bad).__name__ in str(outcome.result)
        assert value is bad or "7" in str(outcome.result)


@pytest.mark.parametrize("depth", [2_000, 200_000])
def test_the_outer_levels_of_a_value_of_any_depth_are_kept(depth: int) -> None:
    outcome = outcome_of_value(["core", nested(depth, 1)])
    assert outcome.kind == "review"
    assert "'core'" in str(outcome.result)


def test_a_repr_is_cut_to_a_mebibyte_and_says_how_much_is_missing() -> None:
    text = repr_text(["ä" * MAX_REPR_BYTES, 1j])
    assert len(text.encode()) < MAX_REPR_BYTES + 100
    assert text.endswith(f"\n[{MAX_REPR_BYTES + 8} more bytes of the repr were not kept]")


# --- random values


class Broken(typing.NamedTuple):
    """Stands for a broken value, which hypothesis must not meet."""

    name: str


def alive(value: Any) -> Any:
    """The value with broken values where Broken stands for them."""
    if isinstance(value, Broken):
        return broken(value.name)
    if isinstance(value, Order):
        return Order(value.id, alive(value.price))
    if isinstance(value, Struct):
        return Struct(alive(value.my_name))
    if isinstance(value, dict):
        return {key: alive(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and value[1:2] != [value]:
        return type(value)(map(alive, value))
    return value


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.decimals() | st.dates() | st.datetimes() | st.timedeltas() | st.uuids()
    | st.characters(categories=["Cs"]) | st.just(5000).map(lambda digits: 10**digits) | st.complex_numbers()
    | st.sampled_from([object(), Color.RED, cyclic(), Plain(a=1)])
    | st.sampled_from([*RAISED, "class"]).map(Broken)
)  # fmt: skip
KEYS_OF_ANY_KIND = st.text() | st.integers() | st.floats() | st.dates() | st.none() | st.binary()
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS_OF_ANY_KIND, inner, max_size=3)
        | st.builds(Order, st.integers(), inner)
        | st.builds(Struct, inner)
        | st.tuples(inner, inner)
        | st.sets(st.text() | st.integers() | st.decimals(allow_nan=False), max_size=3)
    ),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(ANYTHING)
def test_any_value_is_recorded_as_json_or_by_its_repr(value: Any) -> None:
    returned = alive(value)
    outcome = outcome_of_value(returned)
    text = encode_json(outcome.result)
    again = msgspec.json.decode(text)
    if outcome.kind == "completed":
        # What is written is what is read, and reading and writing it once more changes nothing.
        assert outcome_of_value(again).kind == "completed"
        assert msgspec.json.decode(encode_json(again)) == again
    else:
        assert (outcome.kind, outcome.error_code) == ("review", "InvalidResult")
        assert again == repr_text(returned)

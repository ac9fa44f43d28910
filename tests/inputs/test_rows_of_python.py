"""Rows as the types of a program, rows from data frames, and numbers as floats."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import pytest

import journal
from journal import AttemptedRow, InvalidValueError, JobService, RowStatus
from journal.service import ExactService


@dataclass
class Order:
    id: str
    price: Decimal
    day: dt.date | None = None
    tags: set[str] = field(default_factory=set)


class Item(msgspec.Struct, rename="camel"):
    item_id: int


class Typed(TypedDict):
    id: str


def total(row: AttemptedRow) -> Any:
    order: Order = row.value
    assert order is row.value  # made one time
    return {"type": type(order).__name__, "price": order.price, "day": order.day}


ROWS: list[dict[str, Any]] = [
    {"id": "a", "price": 1.25, "day": "2026-01-02", "tags": ["x", "x"]},
    {"id": "b", "price": Decimal("19.99"), "day": dt.date(2026, 1, 3)},
]


@pytest.mark.parametrize(
    "executor", [None, lambda: ProcessPoolExecutor(1)], ids=["threads", "pool"]
)
def test_a_handler_gets_the_data_as_the_type_of_the_rows(tmp_path: Path, executor: Any) -> None:
    with journal.open_job(tmp_path / "j", ROWS, row_type=Order) as job:
        assert job.run(total, executor).completed == 2
        first, second = (row.result for row in job.rows())
    assert first == {"type": "Order", "price": 1.25, "day": "2026-01-02"}
    assert second == {"type": "Order", "price": 19.99, "day": "2026-01-03"}


@pytest.mark.parametrize("model", [False, True], ids=["dataclass", "pydantic"])
def test_a_decimal_of_a_typed_row_has_the_digits_of_the_float(
    tmp_path: Path, *, model: bool
) -> None:
    row_type: Any = Order
    if model:
        pydantic = pytest.importorskip("pydantic")
        row_type = pydantic.create_model("Model", id=(str, ...), price=(Decimal, ...))
    rows = [{"id": "a", "price": Decimal(text)} for text in ("0.10", "19.99", "1e-7", "5")]
    with journal.open_job(tmp_path / "j", rows, row_type=row_type) as job:
        job.run(lambda row: [str(row.value.price), type(row.data["price"]).__name__])
        found = [row.result for row in job.rows()]
    assert [Decimal(text) for text, _ in found] == [row["price"] for row in rows]
    assert [kind for _, kind in found] == ["float", "float", "float", "int"]


@pytest.mark.parametrize(
    ("row_type", "data", "value"),
    [
        (Item, {"itemId": 3}, Item(3)),
        (Typed, {"id": "a"}, {"id": "a"}),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (None, {"a": 1}, {"a": 1}),
    ],
)
def test_any_type_that_msgspec_can_read_is_taken(
    tmp_path: Path, row_type: Any, data: Any, value: Any
) -> None:
    seen = []
    with journal.open_job(tmp_path / "j", [data], row_type=row_type) as job:
        job.run(lambda row: seen.append(row.value))
    assert seen == [value]


def test_models_of_pydantic_and_attrs_classes_are_types_of_rows(tmp_path: Path) -> None:
    pydantic, attrs = pytest.importorskip("pydantic"), pytest.importorskip("attrs")
    model = pydantic.create_model("Model", id=(str, ...), day=(dt.date, ...))
    data = {"id": "a", "day": dt.date(2026, 1, 2)}
    seen = []
    with journal.open_job(tmp_path / "j", [data], row_type=model) as job:
        job.run(lambda row: seen.append(row.value))
    assert seen == [model(**data)]
    with pytest.raises(InvalidValueError, match=r"input row 1: data\.day: doesn't fit Model: "):
        journal.open_job(tmp_path / "k", [{"id": "a", "day": "x"}], row_type=model)
    made = attrs.make_class("A", {"id": attrs.field(type=str)})
    with journal.open_job(tmp_path / "l", [{"id": "a"}], row_type=made) as job:
        assert job.run(lambda row: row.value.id).completed == 1


BAD = [
    ({"id": "a"}, "data: doesn't fit Order: Object missing required field `price`"),
    ({"id": 5, "price": 1}, r"data\.id: doesn't fit Order: Expected `str`, got `int`"),
    ({"id": "a", "price": 1, "day": "never"}, r"data\.day: doesn't fit Order"),
    ({"id": "a", "price": 1, "tags": ["x", 1]}, r"data\.tags\[1\]: doesn't fit Order"),
]


@pytest.mark.parametrize(("data", "named"), BAD)
def test_a_row_of_the_input_that_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, data: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidValueError, match=f"input row 3: {named}"):
        journal.open_job(tmp_path / "j", [*ROWS, data], row_type=Order)
    assert not (tmp_path / "j").exists()
    journal.open_job(tmp_path / "j", ROWS, row_type=Order).close()
    before = (tmp_path / "j" / "journal.jsonl").read_bytes()
    with pytest.raises(InvalidValueError, match=f"input row 3: {named}"):
        journal.open_job(tmp_path / "j", [*ROWS, data], row_type=Order)
    assert (tmp_path / "j" / "journal.jsonl").read_bytes() == before


def test_a_row_of_an_earlier_input_that_does_not_fit_fails_alone(tmp_path: Path) -> None:
    journal.open_job(tmp_path / "j", [{"id": 1}, *ROWS]).close()
    with journal.open_job(tmp_path / "j", row_type=Order) as job:
        job.run(total)
        first, *others = job.rows()
    assert (first.status, first.error_code) == (RowStatus.FAILED, "InvalidValueError")
    assert "row j:1: data.id: doesn't fit Order" in str(first.error_message)
    assert {row.status for row in others} == {RowStatus.COMPLETED}


@pytest.mark.parametrize("row_type", [5, "Order"])
def test_what_is_no_type_of_rows_is_refused(tmp_path: Path, row_type: Any) -> None:
    with pytest.raises(InvalidValueError, match="row_type"):
        journal.open_job(tmp_path / "j", ROWS, row_type=row_type)
    assert not (tmp_path / "j").exists()


# --- data frames


def frames() -> dict[str, Any]:
    pd, pl, pa = map(pytest.importorskip, ("pandas", "polars", "pyarrow"))
    columns: dict[str, list[Any]] = {"id": ["a", "b"], "price": [1.5, None], "n": [1, 2]}
    with_nan = {**columns, "price": [1.5, float("nan")]}
    return {
        "pandas": pd.DataFrame(columns, index=[7, 8]),
        "polars": pl.DataFrame(columns),
        "polars nan": pl.DataFrame(with_nan),
        "pyarrow": pa.table(columns),
        "batch": pa.record_batch(with_nan),
    }


FRAMES = ["pandas", "polars", "polars nan", "pyarrow", "batch"]
RECORDS = [{"id": "a", "price": 1.5, "n": 1}, {"id": "b", "price": None, "n": 2}]


@pytest.mark.parametrize("kind", FRAMES)
def test_the_rows_of_a_data_frame_are_rows_of_a_job(tmp_path: Path, kind: str) -> None:
    frame = frames()[kind]
    with journal.open_job(tmp_path / "j", frame, "id") as job:
        assert [row.data for row in job.rows()] == RECORDS
        assert type(job.rows()[0].data["n"]) is int
        job.service.create_rows("j", frame)
        assert [row.data for row in job.rows()] == RECORDS * 2
    with JobService(tmp_path) as service:
        service.create_job("k", job_id="k", row_data=frame)
        assert [row.data for row in service.get_rows("k")] == RECORDS
    with journal.open_job(tmp_path / "k", frame) as job:
        assert (job.matched.added, job.matched.changed) == (0, 0)


def test_columns_of_a_data_frame_keep_their_kinds_and_their_names_are_text(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            1: pd.to_datetime(["2026-01-02", None]),
            "whole": pd.array([1, None], dtype="Int64"),
            "any": [Decimal("1.10"), {"a": (1,)}],
            "kind": pd.Categorical(["x", None]),
            "yes": [True, False],
        }
    )
    with journal.open_job(tmp_path / "j", frame) as job:
        first, second = (row.data for row in job.rows())
    assert first == {"1": "2026-01-02T00:00:00", "whole": 1, "any": 1.1, "kind": "x", "yes": True}
    assert second == {"1": None, "whole": None, "any": {"a": [1]}, "kind": None, "yes": False}


def test_a_frame_with_two_columns_of_one_name_and_with_infinities_is_refused(
    tmp_path: Path,
) -> None:
    pd = pytest.importorskip("pandas")
    twice = pd.DataFrame([[1, 2]], columns=[1, "1"])
    with pytest.raises(InvalidValueError, match="two columns of the data frame have the name '1'"):
        journal.open_job(tmp_path / "j", twice)
    with pytest.raises(InvalidValueError, match=r"row 1: data\.a: must be a finite number"):
        journal.open_job(tmp_path / "j", pd.DataFrame({"a": [float("inf")]}))
    assert not (tmp_path / "j").exists()


# --- numbers


def test_a_decimal_is_recorded_with_its_digits_and_read_as_a_float(tmp_path: Path) -> None:
    with journal.open_job(tmp_path / "j", [{"p": Decimal("123456789012345678.10")}]) as job:
        (row,) = job.rows()
    assert row.data == {"p": 123456789012345678.10}
    assert b'"p":123456789012345678.10' in (tmp_path / "j" / "journal.jsonl").read_bytes()


def test_a_result_that_is_returned_is_the_result_that_is_read(tmp_path: Path) -> None:
    for kind in (JobService, ExactService):
        with kind(tmp_path / kind.__name__) as service:
            service.create_job("j", job_id="j", row_data=[{}, {}])
            given = {"a": Decimal("1.10"), "b": (1, 2.5), "c": {3}}
            row = service.complete_row("j:1", result=given)
            assert row == service.get_row("j:1")
            assert row.result["a"] == (1.1 if kind is JobService else msgspec.Raw(b"1.10"))
            service.start_row("j:2")
            step = service.record_step("j:2", "s", given)
            assert step == service.get_steps("j:2")[0]


class _Model:  # as those of pydantic
    def model_dump(self) -> dict[str, int]:
        return {"n": 1}


@pytest.mark.parametrize(
    ("row", "way"),
    [
        (Order("a", Decimal(1)), ": give dataclasses.asdict(row)"),
        (Item(1), ": give msgspec.structs.asdict(row)"),
        (_Model(), ": give row.model_dump()"),
        ([1], ": give dict(zip(columns, row))"),
    ],
)
def test_a_typed_row_of_the_input_is_refused_with_the_call_that_makes_a_dict(
    tmp_path: Path, row: Any, way: str
) -> None:
    with pytest.raises(InvalidValueError) as refused:
        journal.open_job(tmp_path / "j", [row])
    assert refused.value.reason == f"must be a dict, a row's data{way}"
    with JobService(tmp_path) as service, pytest.raises(InvalidValueError) as refused:
        service.create_job("J", row_data=[{"data": row}])
    assert refused.value.reason == f"must be a dict{way}"
    assert not (tmp_path / "j").exists()


def test_an_index_with_a_name_becomes_a_column_and_one_without_is_left_out(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"order": ["A-1", "A-2"], "zip": [1, 2], "n": [3, 4]})
    with journal.open_job(tmp_path / "j", frame.set_index("order"), "order") as job:
        assert [row.data for row in job.rows()] == frame.to_dict("records")
    levels = frame.set_index(["order", "zip"])
    with journal.open_job(tmp_path / "k", levels.rename_axis([None, "zip"])) as job:
        assert [row.data for row in job.rows()] == [{"zip": 1, "n": 3}, {"zip": 2, "n": 4}]
        job.service.create_rows("k", levels)
        assert job.rows()[3].data == {"order": "A-2", "zip": 2, "n": 4}


def test_an_index_with_the_name_of_a_column_is_refused(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"order": ["A-1"]}).rename_axis("order")
    with pytest.raises(InvalidValueError, match=r"'order': give frame\.reset_index\(drop=True\)"):
        journal.open_job(tmp_path / "j", frame)
    assert not (tmp_path / "j").exists()

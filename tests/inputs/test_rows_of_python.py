"""Rows from data frames, rows that are no dicts, and numbers as floats."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

import journal
from journal import InvalidValueError, JobService
from journal.service import ExactService


@dataclass
class Order:
    id: str
    price: Decimal


class Item(msgspec.Struct, rename="camel"):
    item_id: int


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


def test_a_typed_row_of_the_input_is_refused(tmp_path: Path) -> None:
    row: Any = Order("a", Decimal(1))
    with pytest.raises(InvalidValueError) as refused:
        journal.open_job(tmp_path / "j", [row])
    assert refused.value.reason == "must be a dict, a row's data"
    with JobService(tmp_path) as service, pytest.raises(InvalidValueError) as refused:
        service.create_job("J", row_data=[{"data": row}])
    assert refused.value.reason == "must be a dict"
    assert not (tmp_path / "j").exists()

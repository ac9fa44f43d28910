"""`Rows`: the rows of a job as tables of other libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.attempts import give_back, try_again

import journal
from journal import InvalidValueError, JobService, MissingExtraError, Rows
from journal.tables.columns import JOURNAL_COLUMNS
from journal.transfer import pack_to_file, pull_job, unpack_job

pa = pytest.importorskip("pyarrow", reason="no wheel of pyarrow here")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with JobService(tmp_path / "store", sync="none") as opened:
        yield opened


def made(service: JobService, *data: dict[str, Any], results: list[Any] | None = None) -> Rows:
    """A job of these rows, completed with these results."""
    job = service.create_job("J", row_data=[{"data": each} for each in data])
    service.start_job(job.id)
    for number, result in enumerate(results or [], 1):
        service.start_row(f"{job.id}:{number}")
        service.complete_row(f"{job.id}:{number}", result=result)
    return service.get_rows(job.id)


def eventful(service: JobService) -> str:
    """A job with rows of every status, and attempts of every ending."""
    job_id = service.create_job(
        "E", job_id="e", key="order", row_data=[{"data": {"order": f"A-{n}"}} for n in range(1, 13)]
    ).id
    service.start_job(job_id, "resume")
    for number in range(1, 11):
        service.start_row(f"e:{number}")
    service.complete_row("e:1", "1Z1", "label.pdf", 12.5, result={"price": 3}, usage={"t": 1})
    service.fail_row("e:2", "E42", "no such zip", unknown=True)
    service.skip_row("e:3", "by hand")
    service.review_row("e:4", "lost", "who knows")
    service.fail_row("e:5", "E42", "again")
    service.retry_row("e:5")
    service.start_row("e:5")
    service.complete_row("e:5", result="text")
    service.review_row("e:6", "lost", "who knows")
    service.complete_row("e:6")  # by a person, later
    service.fail_row("e:7", "E1", "m")
    service.retry_row("e:7")
    service.complete_row("e:8")
    service.redo_row("e:8")
    try_again(service, "e:9", "E2", "busy")
    try_again(service, "e:10", "E2", "busy")
    service.start_row("e:10")
    give_back(service, "e:10")
    service.skip_row("e:11", "not needed")
    service.start_row("e:12")
    return job_id


def test_the_table_has_the_values_of_the_rows_whatever_has_happened_to_them(
    service: JobService,
) -> None:
    rows = service.get_rows(eventful(service))
    names = [*rows[0].data, *JOURNAL_COLUMNS]
    table, dicts = rows.to_arrow(names).to_pylist(), rows.to_dicts(names)
    for found, expected, row in zip(table, dicts, rows, strict=True):
        for name in ("result", "usage"):
            value = expected.pop(name)
            assert found.pop(name) == (
                None if value is None else json.dumps(value, separators=(",", ":"))
            )
        assert found == expected
        assert (found["status"], found["attempts"]) == (row.status, row.attempts)
        assert (found["processed_at"], found["created_at"]) == (row.processed_at, row.created_at)
        assert (found["idempotency_key"], found["order"]) == (
            row.idempotency_key,
            row.data["order"],
        )
    took = [row["duration_s"] is not None for row in dicts]
    started = [row["started_at"] is not None for row in dicts]
    assert took == [True] * 5 + [False] * 3 + [True] + [False] * 3  # 6 was settled later
    assert started == [True] * 10 + [False, True]


def test_a_row_whose_end_was_set_by_a_policy_or_a_person_has_no_duration(
    service: JobService,
) -> None:
    rows = made(service, {"n": 1}, {"n": 2})
    begun = [service.start_row(row.id).updated_at for row in rows]
    service.close()
    names = ["status", "started_at", "duration_s"]
    with JobService(service.root, person="ann") as again:
        again.complete_row(rows[1].id)
        again.recover_job(rows[0].job_id, "fail")
        found = [list(row.values()) for row in again.get_rows(rows[0].job_id).to_dicts(names)]
        (attempt,) = again.get_row_history(rows[1].id).attempts
    assert found == [["failed", begun[0], None], ["completed", begun[1], None]]
    assert attempt.duration_s is None


def test_a_row_with_new_data_and_rows_that_a_merge_has_changed_are_as_in_the_rows(
    tmp_path: Path, service: JobService
) -> None:
    input_rows = [{"order": f"A-{n}", "zip": n} for n in range(6)]
    with journal.open_job(tmp_path / "one" / "j", input_rows, key="order", sync="none") as job:
        job.run(lambda row: {"zip": row.data["zip"]}, max_rows=2, tell=lambda _text: None)
    pack_to_file(tmp_path / "one" / "j", tmp_path / "j.pack")
    unpack_job(tmp_path / "two", tmp_path / "j.pack")
    for place, changed in (("one", 4), ("two", 5)):
        newer = [{**row, "zip": 99} if n == changed else row for n, row in enumerate(input_rows)]
        with journal.open_job(
            tmp_path / place / "j", newer, key="order", on_changed="retry", sync="none"
        ) as job:
            job.run(lambda row: [row.data], max_rows=1, tell=lambda _text: None)
    pull_job(tmp_path / "one", tmp_path / "two" / "j", merge=True)
    with JobService(tmp_path / "one", sync="none") as merged:
        rows = merged.get_rows("j")
        names = [name for name in JOURNAL_COLUMNS if name != "result"]
        assert rows.to_arrow(["zip", *names]).to_pylist() == rows.to_dicts(["zip", *names])
        assert [row.data["zip"] for row in rows] == rows.to_arrow()["zip"].to_pylist()


def test_a_column_has_the_type_of_its_values(service: JobService) -> None:
    rows = made(
        service,
        {"text": "x", "int": 1, "float": 0.1, "bool": True, "both": 1, "none": None, "list": [1]},
        {
            "text": None,
            "int": -(2**63),
            "float": -0.0,
            "bool": False,
            "both": 0.5,
            "list": {"a": []},
        },
    )
    schema = rows.to_arrow().schema
    types = {name: str(schema.field(name).type) for name in rows[0].data}
    assert types == {
        "text": "string",
        "int": "int64",
        "float": "double",
        "bool": "bool",
        "both": "double",
        "none": "null",
        "list": "string",
    }
    assert [
        str(schema.field(name).type) for name in ("row_number", "created_at", "duration_s")
    ] == [
        "int64",
        "timestamp[us, tz=UTC]",
        "double",
    ]
    assert rows.to_arrow()["list"].to_pylist() == ["[1]", '{"a":[]}']


def test_values_without_a_common_type_are_json_text_of_which_each_can_be_read_back(
    service: JobService,
) -> None:
    values = [1, "1", None, 2.5, True, [1], {"a": None}, "", 2**70, -0.0, "é\n", 10**16]
    rows = made(service, *({"mixed": value} for value in values))
    texts = rows.to_arrow()["mixed"].to_pylist()
    assert [None if text is None else json.loads(text) for text in texts] == values
    assert str(json.loads(texts[9])) == "-0.0"


@pytest.mark.parametrize(
    "values",
    [[1, 2**53 + 1, 0.5], [2**63, 1], [True, 1], ["a", True]],
    ids=["beyond a double", "beyond 64 bits", "bool and int", "text and bool"],
)
def test_a_common_type_that_would_change_a_value_is_not_taken(
    service: JobService, values: list[Any]
) -> None:
    texts = made(service, *({"v": value} for value in values)).to_arrow()["v"].to_pylist()
    assert [json.loads(text) for text in texts] == values


def test_a_column_whose_type_changes_after_thousands_of_rows_loses_nothing(
    service: JobService,
) -> None:
    values: list[Any] = [*range(5000), *(n / 2 for n in range(5000)), *map(str, range(5000)), None]
    data = [{"v": v, "n": n, **({"late": 1} if n > 14_000 else {})} for n, v in enumerate(values)]
    rows = made(service, *data)
    texts = rows.to_arrow()["v"].to_pylist()
    assert [None if text is None else json.loads(text) for text in texts] == values
    assert rows.to_arrow()["late"].to_pylist() == [d.get("late") for d in data]
    wide: list[Any] = [2**60 + 1, *[1] * 9000, *[0.5] * 9000]
    texts = made(service, *({"v": value} for value in wide)).to_arrow(["v"])["v"].to_pylist()
    assert [json.loads(text) for text in texts] == wide
    numbers = service.get_rows(
        service.create_job("K", row_data=[{"data": d} for d in data[:9000]]).id
    )
    assert str(numbers.to_arrow().schema.field("v").type) == "double"
    assert numbers.to_arrow()["v"].to_pylist() == values[:9000]


def test_members_of_nested_values_are_columns_on_demand(service: JobService) -> None:
    results = [
        {"price": 1.5, "to": {"city": "York", "tags": ["a"]}},
        "text",
        {},
        [1],
        None,
        {"price": None},
    ]
    rows = made(service, *({"n": n} for n in range(6)), results=results)
    wanted = rows.to_arrow(["result.price", "result"])
    assert wanted["result.price"].to_pylist() == [1.5, None, None, None, None, None]
    assert [None if t is None else json.loads(t) for t in wanted["result"].to_pylist()] == results
    assert rows.to_dicts(["result.to.tags", "n"])[:2] == [
        {"result.to.tags": ["a"], "n": 0},
        {"result.to.tags": None, "n": 1},
    ]


def test_a_member_of_results_that_are_no_objects_is_refused(service: JobService) -> None:
    rows = made(service, {"n": 1}, {"n": 2}, results=["a", None])
    with pytest.raises(InvalidValueError, match=r"did you mean 'result'\?"):
        rows.to_dicts(["n", "result.x"])


@pytest.mark.parametrize("name", ["odrer", "order.x", "status.x", ""])
def test_a_column_that_no_row_has_is_named_with_what_may_be_meant(
    service: JobService, name: str
) -> None:
    rows = made(service, {"order": "A-1"})
    for convert in (rows.to_arrow, rows.to_dicts):
        with pytest.raises(InvalidValueError, match="is a column of no row") as caught:
            convert([name])
        assert (caught.value.where, caught.value.value) == ("columns", repr(name))
    if name == "odrer":
        assert "did you mean 'order'?" in str(caught.value)


def test_arrow_polars_and_duckdb_take_the_rows_themselves(service: JobService) -> None:
    polars = pytest.importorskip("polars")
    duckdb = pytest.importorskip("duckdb")
    rows = made(service, {"n": 1}, {"n": 2}, results=["a", "b"])
    assert pa.table(rows).equals(rows.to_arrow())
    assert polars.DataFrame(rows)["created_at"].dtype == polars.Datetime("us", "UTC")
    assert duckdb.sql("SELECT sum(n), max(result) FROM rows").fetchall() == [(3, "b")]


def test_pandas_makes_columns_of_the_rows_and_no_integer_becomes_a_float(
    service: JobService,
) -> None:
    pandas = pytest.importorskip("pandas")
    data: list[dict[str, Any]] = [{"wide": 2**60 + 1, "yes": True, "n": 1}, {"n": 2}]
    rows = made(service, *data, results=[{"a": 1}])
    frame = rows.to_pandas()
    assert {name: str(frame[name].dtype) for name in ("wide", "yes", "n", "created_at")} == {
        "wide": "Int64",
        "yes": "boolean",
        "n": "int64",
        "created_at": "datetime64[us, UTC]",
    }
    assert list(frame["wide"]) == [2**60 + 1, pandas.NA]
    assert next(iter(frame["result"])) == '{"a":1}'
    assert next(iter(frame["processed_at"])) == rows[0].processed_at
    with pytest.raises(TypeError, match=r"use rows.to_pandas\(\)"):
        pandas.DataFrame(rows)
    assert list(rows.to_pandas(["n", "result.a"]).columns) == ["n", "result.a"]
    assert list(rows.to_pandas(["wide"]).columns) == ["wide"]


@pytest.mark.parametrize(
    ("missing", "call", "extra"),
    [
        ("pyarrow", "to_arrow()", "arrow"),
        ("pandas", "to_pandas()", "pandas"),
    ],
)
def test_a_missing_library_is_named_with_what_installs_it(
    service: JobService, monkeypatch: pytest.MonkeyPatch, missing: str, call: str, extra: str
) -> None:
    rows = made(service, {"n": 1})
    pytest.importorskip(call.removeprefix("to_").removesuffix("()").replace("arrow", "pyarrow"))
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "pyarrow":
        monkeypatch.setitem(sys.modules, "pyarrow.compute", None)
    with pytest.raises(MissingExtraError) as caught:
        getattr(rows, call.removesuffix("()"))()
    assert str(caught.value) == (
        f"{call} needs {missing}, which isn't installed: pip install 'rowjournal[{extra}]'"
    )
    assert rows.to_dicts()[0]["n"] == 1


def test_reading_rows_imports_no_library_of_frames(service: JobService) -> None:
    rows = made(service, {"n": 1})
    code = (
        "import sys, journal; rows = journal.JobService(sys.argv[1]).get_rows(sys.argv[2]); "
        "rows.to_dicts(); print(sorted({'pyarrow', 'pandas', 'polars', 'numpy'} & set(sys.modules)))"
    )
    arguments = [sys.executable, "-c", code, str(service.root), rows[0].job_id]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

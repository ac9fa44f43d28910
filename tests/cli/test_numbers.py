"""Numbers of an input keep all their digits, from the input to commands, exports and merges."""

from __future__ import annotations

import json
import shutil
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.commands import journal

from journal import InvalidValueError, JobService, open_job, read_rows
from journal.format.values import checksum_of
from journal.service import ExactService
from journal.tables import export_rows
from journal.text import decode_json_exact

# Each number as it is written. None of these is written like this by Python or msgspec.
WRITTEN = [
    "1.10",
    "123456789012345678.12",
    "-0.0",
    "9" * 40,
    "0.0000001",
    "1e5",
    "1.50E+3",
    "1E-400",
]
DATA = "{{{}}}".format(",".join(f'"n{place}":{text}' for place, text in enumerate(WRITTEN)))
NESTED = '{"id":"b","x":{"y":[1.50,{"z":-7.00}]}}'


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(f"{DATA}\n{NESTED}\n")
    return tmp_path


def run(*command: str, rows: str = "rows.jsonl", options: tuple[str, ...] = ()) -> str:
    done = journal("run", rows, "--job", "j", *options, "--", *command)
    assert done.returncode == 0, done.stderr
    return done.stderr


def pause_after_one() -> None:
    journal("run", "rows.jsonl", "--job", "j", "--limit", "1", "--", "true")


def lines() -> list[str]:
    """The lines of the journal with the data of a row."""
    text = Path("jobs", "j", "journal.jsonl").read_text()
    return [line for line in text.splitlines() if line.startswith('{"type":"row')]


def test_numbers_reach_the_journal_and_a_command_as_they_are_written(work: Path) -> None:
    run("cat", options=("--stdin", "json"))
    assert f'"data":{DATA},' in lines()[0]
    with JobService("jobs") as service:
        assert [row.result for row in service.get_rows("j")] == [DATA, NESTED]


def test_numbers_that_a_command_prints_as_json_are_kept(work: Path) -> None:
    run(
        *(sys.executable, "-c", "import sys; print(sys.argv[1])"),
        '{{"result": {{"price": 1.10, "big": 123456789012345678.12}}}}',
        options=("--stdout", "json"),
    )
    assert (
        '"result":{"price":1.10,"big":123456789012345678.12}'
        in Path("jobs/j/journal.jsonl").read_text()
    )


def test_numbers_reach_listings_and_exports_as_they_are_written(work: Path) -> None:
    run("true")
    assert f'"data":{DATA}' in journal("rows", "j", "--json").stdout
    assert (
        journal("export", "j", "-", "--format", "jsonl", "--data-only").stdout
        == f"{DATA}\n{NESTED}\n"
    )
    table = journal("export", "j", "-", "--format", "csv", "--data-only").stdout.splitlines()
    assert table[1].split(",")[: len(WRITTEN)] == WRITTEN
    with JobService("jobs") as service:  # which gives floats in Python
        export_rows(service, "j", "out.jsonl", data_only=True)
    assert Path("out.jsonl").read_text() == f"{DATA}\n{NESTED}\n"


@pytest.mark.parametrize("place", [0, 1])
def test_numbers_are_kept_where_a_row_is_written_again(work: Path, place: int) -> None:
    run("true")
    with JobService("jobs") as service:
        service.redo_row(f"j:{place + 1}", new_key=True)
    assert f'"data":{(DATA, NESTED)[place]},' in lines()[-1]
    with ExactService("jobs") as service:
        row = service.get_rows("j")[place]
        service.update_row_data(row.id, row.data)
    assert f'"data":{(DATA, NESTED)[place]},' in lines()[-1]


def test_a_merge_keeps_numbers_of_rows_results_and_changed_data(work: Path) -> None:
    pause_after_one()
    shutil.copytree("jobs", "away")
    more = '{"id":"c","new":2.50}'
    Path("more.jsonl").write_text(f"{DATA}\n{NESTED}\n{more}\n")
    with JobService("away") as service:
        service.create_rows("j", [{"data": decode_json_exact(more)}])
        service.update_row_data("j:2", decode_json_exact(NESTED.replace("1.50", "2.5000")))
        service.complete_row("j:3", result={"price": Decimal("7.70")})
        service.log("j", "a log")
    with JobService("jobs") as service:
        service.log("j", "the copies have diverged")
    done = journal("pull", "away/j", "--merge-outcomes")
    assert done.returncode == 0, done.stderr
    text = Path("jobs/j/journal.jsonl").read_text()
    assert f'"data":{more}' in text
    assert '"y":[2.5000,{"z":-7.00}]' in text
    assert '"result":{"price":7.70}' in text


# --- inputs are compared as numbers


@pytest.mark.parametrize(
    "value", [1.1, -0.0, 1e5, 1e-7, 5e-324, 1e308, 0.1 + 0.2, 2**70, 1e16, 123456.789]
)
def test_the_checksum_of_a_number_is_that_of_the_float(value: Any) -> None:
    for text in (msgspec.json.encode([value]), json.dumps([value]).encode()):
        assert checksum_of(decode_json_exact(text)) == checksum_of([value])
        assert checksum_of({"a": decode_json_exact(text)[0]}) == checksum_of({"a": value})


def test_a_row_that_python_changes_has_the_digits_of_its_floats(work: Path) -> None:
    rows = read_rows("rows.jsonl")
    with open_job("jobs/read", rows) as job:
        assert job.rows()[0].data["n1"] == 123456789012345678.12
    assert f'"data":{DATA},' in Path("jobs/read/journal.jsonl").read_text()
    changed = [row | {"n5": 7} if place else row for place, row in enumerate(rows)]
    changed[0]["n0"] = 1.25
    with open_job("jobs/changed", changed) as job:
        assert (job.rows()[0].data["n0"], job.rows()[1].data["n5"]) == (1.25, 7)
    with open_job("jobs/changed", rows, on_changed="ignore") as job:
        assert job.matched.changed == 2


# --- numbers that can't be taken


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"a":1e400}', "line 2: is not valid JSON: Number out of range"),
        ('{"a":{"b":[1,{"c":-1.5E999}]}}', "line 2: is not valid JSON: Number out of range"),
        ('{"a":%s.5}' % ("9" * 400), "line 2: is not valid JSON: Number out of range"),
        ('{"a":%s}' % ("9" * 5000), "line 2: "),
        ('{"a":0.%s}' % ("1" * 5000), "a: must be a number of at most 4300 characters"),
        ('{"a":1.}', "line 2: is not valid JSON"),
    ],
)
def test_a_number_beyond_a_double_is_refused_before_anything_runs(
    work: Path, line: str, named: str
) -> None:
    Path("rows.jsonl").write_text(f'{{"a":1}}\n{line}\n')
    done = journal("run", "rows.jsonl", "--job", "j", "--", "touch", "ran")
    assert done.returncode == 2
    assert named in done.stderr
    assert not Path("ran").exists()
    assert not Path("jobs/j").exists()


def test_a_key_that_a_double_cant_hold_is_refused(work: Path) -> None:
    Path("rows.jsonl").write_text('{"a":1.123456789012345678901}\n')
    done = journal("run", "rows.jsonl", "--job", "j", "--key", "a", "--", "true")
    assert (done.returncode, "make it text" in done.stderr) == (2, True)
    data = {"a": Decimal("1.123456789012345678901")}
    message = r"row 1: data\.a: a key can't be a number"
    with JobService("jobs") as service, pytest.raises(InvalidValueError, match=message):
        service.create_job("j", job_id="j", key="a", row_data=[{"data": data}])


def test_conditions_compare_all_digits(work: Path) -> None:
    run("true")
    for value, count in (
        (WRITTEN[1], 1),
        ("123456789012345678.13", 0),
        ("123456789012345678.120", 1),
    ):
        found = journal("rows", "j", "--where", f"n1={value}", "--nl").stdout
        assert len(found.splitlines()) == count

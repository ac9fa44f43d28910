"""`journal export` and `export_rows`: formats, columns, and rows fed in again."""

import csv
import gzip
import io
import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from support.platforms import needs_links, needs_modes, needs_rlimits, needs_signals, only_long

from journal import AttemptedRow, JobService, Retry, RowResult, open_job
from journal.cli.main import main
from journal.errors import (
    InvalidValueError,
)
from journal.format.records import UNSET_TIME, RowSpentRecord
from journal.history.history import look
from journal.store.transitions import put_record
from journal.tables.columns import ATTEMPT_COLUMNS, IF_USED, JOURNAL_COLUMNS, STEP_COLUMNS
from journal.tables.export import FORMATS, export_rows
from journal.transfer import pack_to_file

pq = pytest.importorskip("pyarrow.parquet", reason="no wheel of pyarrow here")

OWN = list(JOURNAL_COLUMNS)
CORE = [name for name in OWN if name not in IF_USED]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Jobs whose rows differ in their keys: one that ended with failures, and a small one."""
    root = tmp_path / "store"
    with JobService(root, sync="none") as service:
        service.create_job("Ship CA", job_id="ship-ca")
        service.create_rows(
            "ship-ca",
            [
                {"data": {"order": "A-1", "zip": "02134", "qty": 1}},
                {"data": {"order": "A-2", "zip": "9021", "qty": 2.5, "tags": ["x", "y"]}},
                {"data": {"order": "A-3", "zip": "", "status": "gold"}},
                {"data": {"order": "=1+1", "zip": None, "qty": 4}},
                {"data": {"order": 'A,5\n"quoted"\r', "zip": "94107", "who": {"Password": "p"}}},
            ],
        )
        service.start_job("ship-ca")
        for number in range(1, 6):
            service.start_row(f"ship-ca:{number}")
        service.complete_row("ship-ca:1", "1Z1", "artifacts/1.pdf", 1250, result={"eta": 3})
        service.fail_row("ship-ca:2", "E42", "no such\tzip")
        service.skip_row("ship-ca:3", "gold ships by hand")
        service.review_row("ship-ca:4", "lost", "who knows")
        service.complete_row("ship-ca:5", result="done")
        service.update_status("ship-ca", "failed")
        service.create_job("Ship OR", job_id="ship-or", row_data=[{"data": {"order": "B-1"}}])
    return root


def run(root: Path, *arguments: object) -> int:
    return main(["--root", str(root), *map(str, arguments)])


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def exported(store: Path, file_format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    with JobService(store) as service:
        export_rows(service, options.pop("jobs", "ship-ca"), stream, file_format, **options)
    return stream.getvalue()


def test_every_format_tells_the_same(store: Path, tmp_path: Path) -> None:
    with JobService(store) as service:
        for file_format in FORMATS:
            out = tmp_path / f"out.{file_format}"
            assert export_rows(service, "ship-ca", out, file_format) == 5
    plain = (tmp_path / "out.csv").read_bytes()
    assert (tmp_path / "out.excel-csv").read_bytes() == b"\xef\xbb\xbf" + plain
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert json.loads((tmp_path / "out.json").read_text()) == lines
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    database = sqlite3.connect(tmp_path / "out.sqlite")
    database.row_factory = sqlite3.Row
    stored = [dict(row) for row in database.execute("SELECT * FROM rows ORDER BY row_number")]
    database.close()
    for line, parquet, row in zip(lines, table, stored, strict=True):
        for name, value in line.items():
            text = json.dumps(value, separators=(",", ":"))
            assert row[name] == (text if isinstance(value, (dict, list)) else value)
            if isinstance(parquet[name], datetime):
                assert parquet[name] == datetime.fromisoformat(value)
            elif name == "result":  # which has no common type, so Parquet has it as JSON
                assert (parquet[name] and json.loads(parquet[name])) == value
            else:
                assert parquet[name] == row[name]
        assert set(row) == set(parquet) >= set(line)


def test_failed_rows_are_fixed_in_the_csv_and_run_as_a_new_job(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "failed.csv"
    assert run(store, "export", "ship-ca", out, "--status", "failed") == 0
    fixed = out.read_text(encoding="utf-8").replace("9021", "90210")
    out.write_text(fixed, encoding="utf-8")
    command = ("--job", "ship-ca-2", "--quiet", "--", "echo", "{zip}", "{order}")
    assert run(store, "run", out, *command) == 0
    with JobService(store) as service:
        (row,) = service.get_rows("ship-ca-2")
    assert row.result == "90210 A-2"
    assert row.data["error_code"] == "E42"  # what the first job said goes along, as data
    again = csv_rows_of(exported(store, "csv", jobs="ship-ca-2"))[0]
    assert (again["error_code"], again["journal_error_code"]) == ("E42", "")
    assert (again["status"], again["journal_status"]) == ("failed", "completed")


def csv_rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_data_only_is_what_a_job_was_made_of(store: Path, tmp_path: Path, suffix: str) -> None:
    source = [{"order": "A-1", "note": 'a "b" \\ ,'}, {"order": "=2", "note": "Zoë\u2028\x01"}]
    if suffix == "csv":
        source[0]["note"] += "\r\n\n"
    with JobService(store, sync="none") as service:
        service.create_job("Source", job_id="source", row_data=({"data": data} for data in source))
    out = tmp_path / f"rows.{suffix}"
    assert run(store, "export", "source", out, "--data-only") == 0
    assert run(store, "run", out, "--job", "again", "--quiet", "--", "true") == 0
    with JobService(store) as service:
        assert [row.data for row in service.get_rows("again")] == source


@needs_links
@pytest.mark.parametrize("command", ["export", "report"])
@pytest.mark.parametrize(
    "name", ["journal.jsonl", "run.lock", "index.hint", "journal.damaged-1", "link.jsonl"]
)
def test_a_file_of_a_job_is_replaced_by_no_export_and_no_report(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    directory = store / "ship-or"
    out = directory / name
    for each in ("run.lock", "index.hint", "journal.damaged-1"):
        (directory / each).write_bytes(b"kept")
    (directory / "link.jsonl").symlink_to("journal.jsonl")
    before = out.read_bytes()
    arguments: dict[str, list[object]] = {
        "export": [out, "--format", "jsonl", "--force"],
        "report": ["-o", out, "--force"],
    }
    assert run(store, command, "ship-ca", *arguments[command]) == 2
    assert "is one of the files of job 'ship-or', which would be lost" in capsys.readouterr().err
    assert out.read_bytes() == before


def test_what_is_kept_of_a_journal_that_is_gone_is_replaced_by_no_output(store: Path) -> None:
    kept = (store / "ship-or" / "journal.jsonl").rename(store / "ship-or" / "journal.damaged-1")
    before = kept.read_bytes()
    with pytest.raises(InvalidValueError, match="is one of the files of job"):
        pack_to_file(store / "ship-ca", kept)
    assert kept.read_bytes() == before


def test_a_file_that_is_there_stays_without_force(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("mine\n")
    assert run(store, "export", "ship-ca", out) == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_text() == "mine\n"
    assert run(store, "export", "ship-ca", out, "--force") == 0
    assert len(out.read_text().splitlines()) == 5
    (tmp_path / "dir.csv").mkdir()
    assert run(store, "export", "ship-ca", tmp_path / "dir.csv", "--force") == 2


@pytest.mark.parametrize("ending", ["-journal", "-wal"])
@pytest.mark.parametrize("there", [True, False])
def test_a_database_is_not_put_beside_what_another_one_left_to_be_applied(
    store: Path, tmp_path: Path, ending: str, there: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    out, beside = tmp_path / "out.db", tmp_path / f"out.db{ending}"
    if there:
        out.write_text("old")
    beside.write_text("pages")
    assert run(store, "export", "ship-ca", out, "--force") == 2
    assert beside.name in capsys.readouterr().err
    assert beside.read_text() == "pages"
    assert out.exists() == there
    assert run(store, "export", "ship-ca", tmp_path / "out.csv") == 0
    beside.unlink()
    assert run(store, "export", "ship-ca", out, "--force") == 0


@contextmanager
def live(root: Path, then: Callable[[JobService, str], object]) -> Iterator[JobService]:
    """A service. ``then`` is called between an export's look at a job and the reading of its rows."""
    with JobService(root, sync="none") as service, pytest.MonkeyPatch.context() as patch:

        def looked(*arguments: Any) -> Any:
            found = look(*arguments)
            then(service, arguments[1])
            return found

        patch.setattr("journal.tables.export.look", looked)
        yield service


MANY = 100_000


def check_whole(path: Path) -> None:
    if path.suffix == ".csv":
        assert path.read_bytes().count(b"\n") == MANY + 1
    else:
        assert len(gzip.decompress(path.read_bytes())) > 50 * MANY


@needs_signals
@pytest.mark.parametrize(
    ("command", "name", "number", "code"),
    [
        ("export many", "many.csv", signal.SIGINT, 130),
        ("pack many -o", "many.tgz", signal.SIGTERM, 143),
    ],
)
def test_an_interrupted_export_or_pack_leaves_nothing(
    tmp_path: Path, command: str, name: str, number: int, code: int
) -> None:
    with JobService(tmp_path / "store", sync="none") as service:
        rows = ({"data": {"n": n}} for n in range(MANY))
        service.create_job("Many", job_id="many", row_data=rows)
    directory = tmp_path / "out"
    directory.mkdir()
    words = [sys.executable, "-m", "journal", f"--root={tmp_path}/store", *command.split()]
    for _ in range(20):
        process = subprocess.Popen([*words, str(directory / name)], stderr=subprocess.PIPE)
        while not (names := os.listdir(directory)) and process.poll() is None:
            pass
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
        if not (directory / name).exists():
            break
        check_whole(directory / name)  # the signal came too late: once more
        (directory / name).unlink()
    assert process.returncode == code, error
    assert re.fullmatch(r"\.journal-[0-9a-f]{12}\.part", names[0])
    assert os.listdir(directory) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ship-ca"], "Missing argument 'OUT|-'"),
        (["ship-ca", "out.xlsx"], "out: must end with one of .csv, .jsonl"),
        (["ship-ca", "-", "--format", "sqlite"], "name a file"),
        (["ship-ca", "no/such/dir/out.csv"], "directory that doesn't exist"),
    ],
)
def test_what_can_not_be_is_one_line_on_stderr(
    store: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(store.parent)
    assert run(store, "export", *arguments) in {1, 2}
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_numbers_are_never_rounded(tmp_path: Path) -> None:
    values = [2**53 + 1, 0.5, -(2**63)]
    with JobService(tmp_path / "store", sync="none") as service:
        rows: list[dict[str, Any]] = [{"data": {"mixed": v, "int": 2**63 - 1}} for v in values]
        rows.append({"data": {"mixed": "007", "int": None}})
        job = service.create_job("Numbers", row_data=rows)
        for out in ("n.db", "n.parquet"):
            export_rows(service, job.id, tmp_path / out)
    table = pq.read_table(tmp_path / "n.parquet")
    assert list(map(json.loads, table["mixed"].to_pylist())) == [*values, "007"]
    assert table["int"].to_pylist() == [2**63 - 1] * 3 + [None]
    database = sqlite3.connect(tmp_path / "n.db")
    found = [mixed for (mixed,) in database.execute("SELECT mixed FROM rows")]
    database.close()
    assert found == [*values, "007"]


def test_rows_of_live_jobs_are_those_of_one_moment_for_each(tmp_path: Path) -> None:
    def go_on(service: JobService, job_id: str) -> None:
        service.create_rows(job_id, [{"data": {"later": "x"}}])
        service.complete_row(f"{job_id}:1")
        service.start_row(f"{job_id}:2")
        service.complete_row(f"{job_id}:3")

    with live(tmp_path, go_on) as service:
        jobs = []
        for number in range(2):
            data = [{"data": {f"n{number}": n}} for n in range(1, 4)]
            jobs.append(service.create_job("Live", row_data=data).id)
            begun = service.start_row(f"{jobs[-1]}:3").updated_at
        stream = io.BytesIO()
        assert export_rows(service, jobs, stream, "csv", statuses=["pending", "processing"]) == 6
    rows = csv_rows_of(stream.getvalue())
    assert list(rows[0]) == ["n0", "n1", *CORE]
    assert [row["row_number"] + row["status"] for row in rows] == [
        *("1pending", "2pending", "3processing") * 2
    ]
    assert [row["started_at"] == "" for row in rows] == [True, True, False] * 2
    assert datetime.fromisoformat(rows[-1]["started_at"]) == begun
    assert {row["duration_s"] for row in rows} == {""}


def test_a_job_deleted_while_a_store_is_exported_is_there_as_it_was(tmp_path: Path) -> None:
    def delete_first(service: JobService, job_id: str) -> None:
        if job_id == "b":
            service.delete_job("a")

    with live(tmp_path, delete_first) as service:
        for job_id in ("a", "b"):
            service.create_job("J", job_id=job_id, row_data=[{"data": {job_id: 1}}])
        stream = io.BytesIO()
        assert export_rows(service, ["a", "b"], stream, "jsonl") == 2
    assert [json.loads(line)["job_id"] for line in stream.getvalue().splitlines()] == ["a", "b"]


def test_a_table_of_too_many_columns_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("journal.tables.export.MAX_COLUMNS", 100)
    with JobService(tmp_path / "store", sync="none") as service:
        wide = [{"data": {f"c{n}": n}} for n in range(100)]
        service.create_job("J", job_id="b", row_data=[{"data": {"x": 1}}, *wide])
    out = tmp_path / "out.csv"
    assert run(tmp_path / "store", "export", "b", out) == 2
    said = capsys.readouterr().err
    assert "job b: brings the table to over 100 columns" in said
    assert "jsonl" in said
    assert not out.exists()


@only_long
@needs_rlimits
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def peak_kib(rows: int) -> int:
        with JobService(tmp_path, sync="none") as service:
            data = ({"data": {"n": n, "text": "x" * 200}} for n in range(rows))
            service.create_job("Memory", job_id=f"m{rows}", row_data=data)
        code = (
            "import sys, resource; from journal.cli.main import main; "
            "main(sys.argv[1:]); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        out = tmp_path / f"{rows}.csv"
        arguments = ["--root", str(tmp_path), "export", f"m{rows}", str(out)]
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    small, large = peak_kib(2_000), peak_kib(50_000)
    assert large - small < 8_000  # the rows alone are 12 MB, and as objects 40


# --- steps


@pytest.fixture
def stepped(tmp_path: Path) -> Path:
    """A job of three rows: one with steps of each state, one with a step, one without."""
    root = tmp_path / "stepped"
    with JobService(root, sync="none") as service:
        service.create_job("J", job_id="j", row_data=[{"data": {"step": n}} for n in range(3)])
        service.start_job("j", "resume")
        for number in (1, 2):
            service.start_row(f"j:{number}")
        service.begin_step("j:1", 1, "charge")
        service.end_step("j:1", 1, "charge", {"id": "ch_1", "token": "t"})
        service.begin_step("j:1", 1, "print")
        service.end_step("j:1", 1, "print", error=("Jam", "paper\tjam"))
        service.begin_step("j:1", 1, "mail")
        service.record_step("j:2", "charge", "ch_2")
        service.complete_row("j:2")
    return root


STEPS = [
    (1, "charge", "done", 1, {"id": "ch_1", "token": "t"}, None, None),
    (1, "print", "failed", 1, None, "Jam", "paper\tjam"),
    (1, "mail", "started", 1, None, None, None),
    (2, "charge", "done", 1, "ch_2", None, None),
]


def test_steps_are_a_record_each_in_every_format(stepped: Path, tmp_path: Path) -> None:
    for file_format in FORMATS:
        assert (
            run(
                stepped,
                "export",
                "j",
                tmp_path / f"s.{file_format}",
                "--steps",
                "--format",
                file_format,
            )
            == 0
        )
    lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    for line in lines:
        assert list(line) == list(STEP_COLUMNS)
        assert line.pop("job_id") == "j"
        assert datetime.fromisoformat(line.pop("at")).tzinfo is not None
    assert [tuple(line.values()) for line in lines] == STEPS
    assert len(json.loads((tmp_path / "s.json").read_text())) == 4
    rows = csv_rows(tmp_path / "s.csv")
    assert [(row["step"], row["state"], row["result"]) for row in rows] == [
        ("charge", "done", '{"id":"ch_1","token":"t"}'),
        ("print", "failed", ""),
        ("mail", "started", ""),
        ("charge", "done", "ch_2"),
    ]
    table = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert [(row["row_number"], row["step"], row["attempt"]) for row in table] == [
        (1, "charge", 1),
        (1, "print", 1),
        (1, "mail", 1),
        (2, "charge", 1),
    ]
    with closing(sqlite3.connect(tmp_path / "s.sqlite")) as database:
        found = database.execute(
            "SELECT job_id, row_number, step FROM steps WHERE state = 'started'"
        ).fetchall()
    assert found == [("j", 1, "mail")]


def test_steps_are_those_of_one_moment_and_a_redo_forgets_them(stepped: Path) -> None:
    def go_on(service: JobService, job_id: str) -> None:
        service.record_step(f"{job_id}:3", "late", 1)

    with live(stepped, go_on) as service:
        out = io.BytesIO()
        assert export_rows(service, "j", out, "jsonl", table="steps") == 4
        service.redo_row("j:2")
        assert export_rows(service, "j", io.BytesIO(), "jsonl", table="steps") == 4  # and "late"
    assert b"late" not in out.getvalue()


# --- attempts


def test_attempts_are_a_record_each_in_every_format_and_add_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def pay(row: AttemptedRow) -> Any:
        if row.data["n"] == 1 and row.attempts == 1:
            raise Retry("E", "busy", cost_cents=2, usage={"tokens": 7})
        return RowResult(result={"of": row.data["n"]}, cost_cents=0.25)

    with open_job(tmp_path / "j", [{"n": n} for n in (1, 2, 3)], key="n", argv=[]) as job:
        job.run(pay, max_attempts=2, backoff_s=0, workers=1)
        service = job.service
        service.redo_row("j:2")
        service.start_job("j")
        service.start_row("j:2")
        service.review_row("j:2", "E", "?")
        service.complete_row("j:2", cost_cents=5)
        service.redo_row("j:3")
        service.start_row("j:3")
        spent = RowSpentRecord(row=2, id="0" * 16, attempt=1, cost_cents=3, at=UNSET_TIME)
        service.store.journal("j").change(put_record, spent)
        total_cents = job.job.total_cost_cents
        names = ["row_number", "cost_cents", "total_cost_cents"]
        in_all = [tuple(row.values()) for row in service.get_rows("j").to_dicts(names)]
        assert in_all == [(1, 0.25, 2.25), (2, 5, 8.25), (3, None, 0.25)]
        histories = [service.get_row_history(f"j:{number}") for number in (1, 2, 3)]
        assert [each.total_cost_cents for each in histories] == [2.25, 8.25, 0.25]
    assert run(tmp_path, "show", "j", "--row", "2") == 0
    assert "8.25 cents for all attempts" in capsys.readouterr().out
    for file_format in FORMATS:
        assert (
            run(
                tmp_path,
                "export",
                "j",
                tmp_path / f"a.{file_format}",
                "--attempts",
                "--format",
                file_format,
            )
            == 0
        )
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    named = ("attempt", "outcome", "error_code", "result", "cost_cents")
    by_row = {
        number: [tuple(map(line.get, named)) for line in lines if line["row_number"] == number]
        for number in (1, 2, 3)
    }
    assert by_row == {
        1: [(1, "repeated", "E", None, 2), (2, "completed", None, {"of": 1}, 0.25)],
        2: [
            (1, "completed", None, {"of": 2}, 0.25),
            (2, "needs_review", "E", None, None),
            (None, "completed", None, None, 5),
            (1, "spent", None, None, 3),
        ],
        3: [(1, "completed", None, {"of": 3}, 0.25), (2, "processing", None, None, None)],
    }
    assert sum(line["cost_cents"] or 0 for line in lines) == total_cents == 10.75
    unused = {"version", "unknown", "reason", "tracking_number", "label_path"}
    assert set(ATTEMPT_COLUMNS) - set(lines[0]) == unused
    took = [line for line in lines if line["outcome"] not in ("spent", "processing")]
    for line in [line for line in took if line["attempt"]]:
        began, ended = map(datetime.fromisoformat, (line["started_at"], line["ended_at"]))
        assert line["duration_s"] == (ended - began).total_seconds()
    table = pq.read_table(tmp_path / "a.parquet")
    assert table["attempt"].to_pylist() == [line["attempt"] for line in lines]
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as database:
        assert database.execute("SELECT sum(cost_cents) FROM attempts").fetchone() == (10.75,)


# --- columns


def test_an_export_as_parquet_is_the_arrow_table_of_the_rows(store: Path, tmp_path: Path) -> None:
    with JobService(store) as service:
        export_rows(service, "ship-ca", tmp_path / "o.parquet")
        assert pq.read_table(tmp_path / "o.parquet").equals(service.get_rows("ship-ca").to_arrow())


@needs_modes
@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_a_file_that_replaces_another_has_its_permissions(
    store: Path, tmp_path: Path, mode: int
) -> None:
    out = tmp_path / "out.csv"
    out.touch()
    out.chmod(mode)
    assert run(store, "export", "ship-ca", out, "--force") == 0
    assert len(csv_rows(out)) == 5
    assert stat.S_IMODE(out.stat().st_mode) == mode

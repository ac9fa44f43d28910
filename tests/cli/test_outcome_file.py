"""`journal resolve --from FILE`: rows that need a review, settled by an export of a portal."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.commands import journal

from journal import JobRow, JobService, NeedsReview, open_job
from journal.store.row_reader import RowSequence

PORTAL = "carrier,order,tracking_number,cost_cents,result\n"
UNUSED = "portal.csv: columns not used: carrier\n"
# A run of four workers. It dies when all of them are at work. Three have booked their order.
DYING = """
import os, threading
from journal import open_job

booked, at_work = open("portal.csv", "a"), threading.Barrier(4)


def book(row):
    order = row.data["order"]
    if order != "A-3":
        booked.write(f"UPS,{order},1Z{order},{order[2:]}.5,\\n")
        booked.flush()
    at_work.wait()
    os._exit(9)


with open_job("jobs/ship", [{"order": f"A-{n}"} for n in range(1, 5)], key="order") as job:
    job.run(book, workers=4, progress=False)
"""


def ask(_: JobRow) -> NeedsReview:
    return NeedsReview("Timeout", "no answer")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_review(orders: list[Any], **options: Any) -> None:
    rows = [{"order": order} for order in orders]
    with open_job("jobs/ship", rows, **{"key": "order"} | options) as job:
        job.run(ask, progress=False)


def resolve(text: str, *options: str) -> tuple[int, str]:
    """Resolve rows of the job by a file with this text. Returns the exit code and the messages."""
    Path("portal.csv").write_text(text)
    done = journal("resolve", "ship", "--from", "portal.csv", *options)
    return done.returncode, done.stderr


def rows(job_id: str = "ship") -> list[JobRow]:
    with JobService("jobs") as service:
        return list(service.get_rows(job_id))


def written(job_id: str = "ship") -> bytes:
    return Path("jobs", job_id, "journal.jsonl").read_bytes()


def test_rows_in_flight_of_a_dead_run_are_settled_by_what_the_far_side_has(work: Path) -> None:
    (work / "portal.csv").write_text(PORTAL)
    died = subprocess.run([sys.executable, "-c", DYING], check=False)
    assert (died.returncode, [row.status for row in rows()]) == (9, ["processing"] * 4)
    assert resolve((work / "portal.csv").read_text(), "--completed") == (0, UNUSED)
    assert journal("resolve", "ship", "--row", "3", "--retry").returncode == 0
    done = list[str]()
    with open_job("jobs/ship", [{"order": f"A-{n}"} for n in range(1, 6)], key="order") as job:
        job.run(lambda row: done.append(row.data["order"]), progress=False)
    assert sorted(done) == ["A-3", "A-5"]
    assert [(row.tracking_number, row.cost_cents) for row in rows()] == [
        *(("1ZA-1", 1.5), ("1ZA-2", 2.5), (None, None), ("1ZA-4", 4.5), (None, None))
    ]


def test_each_row_gets_the_values_of_its_own_line_in_one_commit(work: Path) -> None:
    in_review([1, "A-2", 3, 4])  # numbers of JSON, which are text in CSV
    commits = written().count(b'"crc"')
    text = PORTAL + 'UPS,3,0073,12.5,"{""a"": 1}"\nDHL,1,,0,0073\nDHL,A-2,Z9,,\n'
    for_all = ("--tracking-number", "all", "--label-path", "l")
    assert resolve(text, "--completed", *for_all) == (0, UNUSED)
    assert [
        (row.tracking_number, row.cost_cents, row.result, row.label_path) for row in rows()
    ] == [
        *(("all", 0, "0073", "l"), ("Z9", None, None, "l"), ("0073", 12.5, {"a": 1}, "l")),
        (None, None, None, None),
    ]
    assert written().count(b'"crc"') == commits + 1


def test_a_file_that_was_applied_is_refused_the_second_time(work: Path) -> None:
    in_review(["A-1", "A-2", "A-3"])
    text = PORTAL + "UPS,A-2,1Z2,,\nUPS,A-1,1Z1,,\n"
    assert resolve(text, "--completed") == (0, UNUSED)
    before = written()
    code, said = resolve(text + "UPS,A-3,1Z3,,\n", "--completed")
    assert (code, written()) == (4, before)
    assert "portal.csv, row 1: row 2 (A-2) is completed and needs no review (and 1 other)" in said
    leave = ("--status", "needs_review,processing")
    assert " ".join(leave) in said
    assert resolve(text + "UPS,A-3,1Z3,,\n", "--completed", *leave)[0] == 0
    assert [row.tracking_number for row in rows()] == ["1Z1", "1Z2", "1Z3"]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("order,tracking_number\nA-1,x\nA-9,x\n", (), "row 2: ship has no row with this order"),
        ("order,tracking_number\nA-1,x\nA-2,y\nA-1,z\n", (), "row 3: is named twice: see portal"),
        ("order;cost_cents\nA-2;3\nA-1;1,5\n", ("--delimiter", ";"), "row 2: cost_cents: '1,5' is"),
        ("order,when\nA-1,x\n", (), "row 1: has no tracking_number or cost_cents or"),
        (
            "order,Track\nA-1,x\n",
            (),
            "row 1: has no tracking_number; did you mean its column Track?",
        ),
        ("order,tracking_number,cost\nA-1,x,1\n", (), "has no cost_cents; did you mean its column"),
        ("order,tracking_no\nA-1,x\n", ("--cost-cents", "1"), "has no tracking_number; did you"),
        (
            '[{"order": "A-1", "cost_cents": 1}, {"order": "A-2", "cost": 2}]',
            ("--format", "json"),
            "row 2: has no cost_cents; did you mean its column cost?",
        ),
        ("order,tracking_number\nA-1,x\nA-2,\n", (), "row 2: has no tracking_number or cost_cents"),
        ("tracking_number\nx\n", (), "row 1: it has no 'order', which is the key (--key names"),
        ("order,tracking_number\n", (), "portal.csv: has no rows"),
        (
            "zip,tracking_number\n1,x\n",
            ("--key", "zip"),
            "row 1: rows 1 and 2 of ship have this zip",
        ),
        ("row_number,tracking_number\n3,x\n", ("--key", "row_number"), "row 3 (3) is completed"),
        ("order,tracking_number\nA-1,x\n", ("--row", "1"), "give only one of them"),
        ("order,tracking_number\nA-1,x\n", ("--step", "s"), "exactly one of"),
    ],
)
def test_a_file_that_is_not_right_in_all_rows_changes_nothing(
    work: Path, text: str, options: tuple[str, ...], words: str
) -> None:
    data = [{"order": order, "zip": 1} for order in ("A-1", "A-2", "A-3")]
    with open_job("jobs/ship", data, key="order") as job:
        job.run(ask, progress=False)
        job.service.complete_row("ship:3")
    before = written()
    code, said = resolve(text, "--completed", *options)
    assert (code in (2, 4), words in said, written() == before) == (True, True, True), said


@pytest.mark.parametrize(
    ("orders", "words"),
    [
        (["1.0", "2"], "row 1: ship has no row with this order"),
        ([1, "2", "1"], "row 1: rows 1 and 3 of ship have this order"),
    ],
)
def test_a_key_is_not_taken_for_another_that_is_the_same_number(
    work: Path, orders: list[Any], words: str
) -> None:
    in_review(orders)
    assert journal("resolve", "ship", "--row", f"{len(orders)}", "--skip").returncode == 0
    before = written()
    code, said = resolve("order,tracking_number\n1,x\n", "--completed")
    assert (code, words in said, written() == before) == (2, True, True)


def test_failed_rows_get_the_messages_of_the_file_and_others_need_only_names(work: Path) -> None:
    in_review(["a", "a", "b", "c"], key=None)
    assert resolve("row_number,error_message\n1,no such zip\n2,closed\n", "--failed", "E") == (
        0,
        "",
    )
    assert [row.error_message for row in rows()[:2]] == ["no such zip", "closed"]
    assert resolve("order\nc\n", "--skip", "--key", "order", "--reason", "closed") == (0, "")
    assert [row.status for row in rows()] == ["failed", "failed", "needs_review", "skipped"]
    assert rows()[3].reason == "closed"
    code, said = resolve("row_number\n3\n", "--step", "charge", "--not-done")
    assert (code, "--step can't be combined with --from" in said) == (2, True)
    done = journal("resolve", "ship", "--status", "needs_review", "--skip", "--key", "order")
    assert (done.returncode, "need --from" in done.stderr) == (2, True)


def test_the_rows_of_a_set_are_settled_in_their_shards(work: Path) -> None:
    for index in range(2):
        in_review([f"A-{n}" for n in range(6)], shard=(index, 2))
    text = "order,tracking_number\n" + "".join(f"A-{n},1Z{n}\n" for n in range(5))
    assert resolve(text.replace("A-4", "A-9"), "--completed")[0] == 2
    assert resolve(text, "--completed")[0] == 0
    found = [*rows("ship/000-of-002"), *rows("ship/001-of-002")]
    numbers = {row.data["order"]: row.tracking_number for row in found}
    assert numbers == {f"A-{n}": f"1Z{n}" for n in range(5)} | {"A-5": None}


def test_rows_are_found_by_their_numbers_without_being_read(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_review(list(range(9)))

    def no_row(rows: RowSequence, index: Any) -> Any:
        assert isinstance(index, slice), "a row was read to learn its number"
        return get(rows, index)

    get = RowSequence.__getitem__
    monkeypatch.setattr(RowSequence, "__getitem__", no_row)
    assert journal("resolve", "ship", "--row", "2,4,6,8", "--skip").returncode == 0
    assert "rows are 1 to 9" in journal("resolve", "ship", "--row", "12", "--skip").stderr

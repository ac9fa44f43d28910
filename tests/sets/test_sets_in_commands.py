"""What commands say and do about a set of shards."""

from __future__ import annotations

import csv
import gc
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.children import FaultyOs, works
from support.commands import journal as command
from support.platforms import needs_directory_descriptors, needs_links

import journal
from journal import Fail, JobService
from journal.cli.find import FoundSet
from journal.cli.sets import ranges_of_shards
from journal.format.records import UNSET_TIME, HoldRecord, now
from journal.fs import system
from journal.model import Shard
from journal.service import make_job, new_header
from journal.sets.shard_choice import RESTARTS, VARIABLES
from journal.sets.shard_states import look_at_set
from journal.store.transitions import put_record

COUNT = 4
ORDERS = [{"id": f"a{n}", "n": n} for n in range(1, 21)]


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*RESTARTS, *(name for names in VARIABLES for name in names)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def run(index: int, rows: Any = ORDERS, *, key: str | None = "id", bad: int = 0) -> None:
    def handle(row: journal.JobRow) -> int:
        if row.data["n"] == bad:
            raise Fail("Bad", "no such order")
        return int(row.data["n"])

    with journal.open_job("jobs/ship", rows, key=key, shard=(index, COUNT)) as job:
        job.run(handle, progress=False)


@pytest.fixture
def ship() -> str:
    """A set whose row with the order 5 has failed."""
    for index in range(COUNT):
        run(index, bad=5)
    return "ship"


def number_of(order: int) -> int:
    rows = json.loads(command("rows", "ship", "--json").stdout)
    return next(int(row["row_number"]) for row in rows if row["data"]["n"] == order)


def states() -> list[str]:
    return [shard["state"] for shard in json.loads(command("shards", "ship", "--json").stdout)]


def test_a_set_is_one_line_of_the_list_and_one_job_to_look_at(ship: str) -> None:
    with JobService("jobs") as service:
        service.create_job("Other", job_id="other")
    listed = json.loads(command("list", "--json").stdout)
    assert [(job["id"], job["total_rows"], job["failed_rows"]) for job in listed] == [
        ("other", 0, 0),
        (ship, 20, 1),
    ]
    with JobService("jobs") as service:
        whole = look_at_set(service, ship).job
    assert whole.started_at is not None
    assert whole.completed_at is not None
    span = whole.completed_at - whole.started_at
    assert listed[1]["duration_s"] == pytest.approx(span.total_seconds(), abs=1e-5)
    assert command("list", "--status", "failed", "--csv").stdout.count("\n") == 2
    assert command("list", "--since", "3000-01-01", "--csv").stdout.count("\n") == 1
    shown = command("show", ship).stdout
    index = (number_of(5) - 1) % COUNT
    assert f"shards      3 of 4 completed; 1 failed ({index})\n" in shown
    assert f"1 x Bad: row {number_of(5)}: no such order\n" in shown
    assert shown.endswith(
        "job=ship status=failed total=20 done=19 completed=19 failed=1 needs_review=0 skipped=0 "
        "processing=0 pending=0 cost_cents=0\n"
    )
    assert json.loads(command("show", ship, "--json").stdout)["open"] == ""
    row = json.loads(command("show", ship, "--row", str(number_of(5)), "--json").stdout)
    assert row["row"]["error_code"] == "Bad"


def test_the_rows_and_errors_of_a_set_are_those_of_all_its_shards(ship: str) -> None:
    rows = json.loads(command("rows", ship, "--json").stdout)
    numbers = [row["row_number"] for row in rows]
    assert numbers == sorted(numbers)
    assert {row["data"]["n"] for row in rows} == set(range(1, 21))
    (group,) = json.loads(command("errors", ship, "--json").stdout)
    assert (group["code"], group["count"], group["rows"]) == ("Bad", 1, str(number_of(5)))
    assert command("rows", ship, "--row", "999").returncode == 4
    every = command("rows", ship, "--row", "1-999999999999", "--csv")
    assert (every.returncode, every.stdout.count("\n")) == (4, 21)


def test_the_log_of_a_set_is_in_the_order_of_time(ship: str) -> None:
    events = json.loads(command("log", ship, "-n", "all", "--json").stdout)
    times = [event["at"] for event in events]
    assert times == sorted(times)
    created = [event["text"] for event in events if event["kind"] == "created"]
    assert [text.partition(":")[0] for text in created] == [
        f"ship/{index:03}-of-004" for index in range(COUNT)
    ]
    last = json.loads(command("log", ship, "-n", "7", "--json").stdout)
    assert [event["at"] for event in last] == times[-7:]
    followed = command("log", ship, "-f")
    assert (followed.returncode, "such as ship/0; `journal watch ship`" in followed.stderr) == (
        2,
        True,
    )


def test_what_is_missing_is_printed_as_the_array_of_a_scheduler(ship: str) -> None:
    assert command("shards", ship, "--open").stdout == ""
    for index in (0, 1, 3):
        shutil.rmtree(Path("jobs", ship, f"{index:03}-of-004"))
    assert states() == ["absent", "absent", states()[2], "absent"]
    found = command("shards", ship, "--open")
    assert (found.stdout, "ship: absent: 0-1,3; if one of these" in found.stderr) == (
        "0-1,3\n",
        True,
    )
    found = command("shards", ship, "--open", "--here")
    assert (found.stdout, found.stderr) == ("", "")
    assert command("shards", ship, "--here").stdout.count("\n") == 2
    with JobService("jobs") as service:
        whole = look_at_set(service, ship)
    assert (whole.job.total_rows, whole.job.status) == (20, "pending")
    away = 20 - len(json.loads(command("rows", ship, "--json").stdout))
    assert f", {away} in shards that aren't here\n" in command("show", ship).stdout
    run(0, [*ORDERS, {"id": "b", "n": 21}])
    listed = json.loads(command("shards", ship, "--json", "--open").stdout)
    assert [(shard["index"], shard["has_other_input"]) for shard in listed] == [
        (1, False),
        (2, True),
        (3, False),
    ]


def test_rows_are_settled_in_the_shards_that_have_them(ship: str) -> None:
    retried = command("retry", ship)
    assert (retried.returncode, retried.stdout) == (0, "1\n")
    index = (number_of(5) - 1) % COUNT
    assert command("shards", ship, "--open").stdout == f"{index}\n"
    numbers = ",".join(str(number_of(order)) for order in (5, 6, 7))
    refused = command("redo", ship, "--row", numbers, "--yes")
    assert refused.returncode == 4
    assert states().count("completed") == COUNT - 1
    assert command("skip", ship, "--row", str(number_of(5))).stdout == "1\n"
    redone = command("redo", ship, "--row", numbers, "--yes")
    assert (redone.returncode, redone.stdout) == (0, "3\n")
    assert command("skip", ship, "--where", "n>18").stdout == "0\n"
    for index in range(COUNT):
        run(index)
    assert states() == ["completed"] * COUNT


def test_redo_asks_once_about_all_shards_and_changes_only_the_rows_that_it_named(
    ship: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def answer(*_: Any) -> bool:
        asked.append(1)
        if len(asked) == 1:
            with JobService("jobs") as service:
                service.redo_row("ship:2")
        return True

    monkeypatch.setattr("journal.cli.commands.settle.confirm", answer)
    refused = command("redo", ship, "--status", "completed")
    assert "ship: 19 rows would be done again (19 completed)" in refused.stderr
    assert (refused.returncode, "ship/001-of-004 were changed" in refused.stderr) == (4, True)
    with JobService("jobs") as service:
        left = sum(
            len(service.get_rows(job.id, "completed")) for job in look_at_set(service, ship).jobs
        )
    redone = command("redo", ship, "--status", "completed")
    assert (redone.returncode, redone.stdout, len(asked)) == (0, f"{left}\n", 2)


def test_show_says_what_to_do_about_shards_that_died_or_are_not_here(
    ship: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = system.host_name()
    shard_id = f"ship/{(number_of(7) - 1) % COUNT:03}-of-004"
    with JobService("jobs") as service:
        service.redo_row(row_id := f"ship:{number_of(7)}")
        service.start_job(shard_id)
        service.start_row(row_id)
        service.store.release_run(shard_id)
    settle, start = json.loads(command("show", ship, "--json").stdout)["next"][:2]
    assert settle["command"] == "journal rows ship --status processing"
    assert settle["why"].startswith("1 row was in flight when its run died: ")
    assert "--here" not in start["command"]
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(system, "host_name", lambda: "login")
        for shown in (ship, shard_id):
            look, *found = json.loads(command("show", shown, "--json").stdout)["next"][:3]
            assert look["command"] == ""
            known = "this host can't know whether the run has ended: look there first"
            assert look["why"] == f"last run on {here}; {known}"
            assert any("--status processing" in each["command"] for each in found)
            assert not any("died" in each["why"] for each in found)
    shutil.rmtree(Path("jobs", ship, f"{number_of(7) % COUNT:03}-of-004"))
    found = json.loads(command("show", ship, "--json").stdout)["next"]
    (why,) = [each["why"] for each in found if each["command"].endswith(" ship --open --here")]
    assert why.endswith("; leave out --here only if no absent shard was started elsewhere")


def test_many_rows_are_found_in_their_shards_without_a_list_of_their_numbers() -> None:
    for index in range(COUNT):
        run(index, key=None)
    with JobService("jobs") as service:
        found = dict(ranges_of_shards(FoundSet(service, "ship", str), [range(2, 4), range(6, 99)]))
    assert {job.id: numbers for job, numbers in found.items()} == {
        "ship/000-of-004": [range(9, 99, 4)],
        "ship/001-of-004": [range(2, 4, 4), range(6, 99, 4)],
        "ship/002-of-004": [range(3, 4, 4), range(7, 99, 4)],
        "ship/003-of-004": [range(8, 99, 4)],
    }
    assert command("rows", "ship", "--row", "2-3,6-20").returncode == 0
    listed = command("rows", "ship", "--row", "6-99")
    assert (listed.stdout.count("\n"), listed.returncode) == (16, 4)
    assert "job ship/001-of-004 has no row 22 (and 19 others): " in listed.stderr


def test_a_set_is_exported_in_the_order_of_its_input(ship: str) -> None:
    more = [{"id": "b", "n": 0}, *reversed(ORDERS), {"id": "c", "n": 21}]
    for index in range(COUNT):
        run(index, more)
    assert command("export", ship, "out.csv").returncode == 0
    with open("out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # The new row came first in an input, at the place of order 1.
    assert [int(row["n"]) for row in rows if row["id"][0] == "a"] == list(range(1, 21))
    assert [row["id"] for row in rows if row["place"] == "1"] in (["a1", "b"], ["b", "a1"])
    assert rows[-1]["id"] == "c"
    plain = command("export", ship, "-", "--columns", "n", "--data-only", "--format", "jsonl")
    assert [json.loads(line)["n"] for line in plain.stdout.splitlines()] == [
        int(row["n"]) for row in rows
    ]
    attempts = command("export", ship, "-", "--attempts").stdout
    assert attempts.count("\n") == 1 + 22


def test_an_export_names_absent_shards_and_refuses_different_inputs_without_a_key() -> None:
    for index in range(3):
        run(index, key=None)
    exported = command("export", "ship", "-")
    assert (exported.returncode, exported.stdout.count("\n")) == (4, 16)
    assert "rows are missing: shards that aren't here: 3 (1 of 4)" in exported.stderr
    run(3, [*ORDERS, {"id": "b", "n": 21}], key=None)
    refused = command("export", "ship", "-")
    assert refused.returncode == 4
    assert "ship/002-of-004 and ship/003-of-004 have seen different inputs" in refused.stderr
    for index in range(3):
        run(index, [*ORDERS, {"id": "b", "n": 21}], key=None)
    lines = command("export", "ship", "-", "--columns", "n").stdout.split()
    assert lines[1:] == [str(n) for n in range(1, 22)]


def test_all_shards_are_verified_with_the_other_jobs(ship: str) -> None:
    with JobService("jobs") as service:
        service.create_job("Other", job_id="other", row_data=[{"data": {"n": 1}}])
    assert command("verify", ship).stdout.count("ok ") == COUNT
    assert command("verify", "--all").stdout.count("ok ") == COUNT + 1
    failed = str(number_of(5))
    damage(1)
    assert command("verify", ship).returncode == 6
    assert states()[1] == "unreadable"
    assert command("skip", ship, "--row", failed).stdout == "1\n"
    shown = command("show", ship).stdout
    assert "1 unreadable (1)\n" in shown
    assert "status=failed" in shown
    listed = command("list", "--status", "failed")
    assert (listed.returncode, names_damage(listed.stderr)) == (6, True)


def names_damage(text: str) -> bool:
    """Whether a text says that shard 1 is damaged, with the separators of Windows and of JSON, too."""
    return "001-of-004/journal.jsonl is damaged" in re.sub(r"\\+", "/", text)


def damage(index: int) -> None:
    path = Path(f"jobs/ship/00{index}-of-004/journal.jsonl")
    path.write_bytes(path.read_bytes().replace(b"completed", b"completes", 1))


@pytest.mark.parametrize("words", [("show",), ("show", "--json"), ("report",)])
def test_what_lacks_a_shard_that_cannot_be_read_says_so(ship: str, words: tuple[str, ...]) -> None:
    if "report" in words:
        pytest.importorskip("jinja2")
    assert command(*words, ship).returncode == 0
    damage(1)
    Path("ship.html").unlink(missing_ok=True)
    done = command(*words, ship)
    assert done.returncode == 6
    assert names_damage(done.stdout + done.stderr)


def run_rows_that_fail(index: int, **given: Any) -> None:
    def fail(_: journal.JobRow) -> None:
        raise Fail("Bad", "no")

    with journal.open_job("jobs/ship", ORDERS, key="id", shard=(index, COUNT)) as job:
        job.run(fail, halt="never", progress=False, **given)


def test_a_shard_whose_journal_was_cut_is_named_and_not_started_again() -> None:
    path = Path("jobs/ship/002-of-004/journal.jsonl")
    for index in range(COUNT):
        run_rows_that_fail(index, max_rows=1)
        if index == 2:
            before = path.read_bytes()
        run_rows_that_fail(index)
    assert command("shards", "ship", "--open").returncode == 0
    path.write_bytes(before)
    for words in (("shards", "ship", "--open"), ("wait", "ship"), ("retry", "ship"), ("list",)):
        done = command(*words)
        assert (done.returncode, "the journal was cut" in done.stderr) == (6, True), words
        assert "0-" not in done.stdout
    assert states() == ["failed", "failed", "paused", "failed"]
    shown = command("show", "ship").stdout
    assert f"\ndamaged     {path.absolute()}" in shown
    assert "shards ship --open" not in shown


def test_a_shard_that_has_lost_its_journal_is_not_an_absent_one(ship: str) -> None:
    directory = Path("jobs", ship, "001-of-004")
    (directory / "journal.jsonl").unlink()
    for words in (("shards", ship, "--open"), ("wait", ship), ("list",), ("verify", ship)):
        done = command(*words)
        assert (done.returncode, "it is gone" in done.stderr) == (6, True), words
    assert command("shards", ship, "--open").stdout == ""
    assert f"\nunreadable  could not read {directory.absolute()}" in command("show", ship).stdout
    assert command("export", ship, "-").returncode == 4
    assert command("verify", "--all").returncode == 6
    pruned = json.loads(command("prune", "--older-than", "0s", "--yes", "--json").stdout)
    assert {one["reason"] for one in pruned} == {"the journal of ship/001-of-004 is gone"}
    pulled = command("--root", "there", "pull", f"jobs/{ship}")
    assert pulled.stdout.count("created in") == COUNT - 1
    assert (pulled.returncode, "001-of-004 is no copy of a job" in pulled.stderr) == (4, True)


def test_a_command_says_what_it_has_changed_before_a_shard_was_refused() -> None:
    for index in range(COUNT):
        run_rows_that_fail(index)
    os.link("jobs/ship/001-of-004/journal.jsonl", "copy.jsonl")
    done = command("retry", "ship")
    assert done.returncode == 1
    with JobService("jobs") as service:
        job = service.get_job("ship/000-of-004")
    count = 0 if job is None else job.pending_count
    assert done.stdout == f"{count}\n"
    assert f"ship: {count} rows changed in 1 shard\n" in done.stderr
    assert states() == ["pending", "failed", "failed", "failed"]
    assert command("retry", "ship").stdout == ""


@pytest.mark.parametrize("name", ["pause", "resume", "cancel", "pack", "delete", "repair"])
def test_a_command_that_takes_one_shard_says_so(ship: str, name: str) -> None:
    refused = command(name, ship)
    assert refused.returncode == 4
    assert (
        f"takes one of them, with the same options: `journal {name} ship/000-of-004`"
        in refused.stderr
    )
    assert command("shards", "ship/000-of-004").returncode == 4


def test_shards_of_several_machines_are_gathered_by_pull(ship: str) -> None:
    Path("there").mkdir()
    for index in range(COUNT):
        node = Path(f"node{index}")
        node.mkdir()
        shutil.copytree(
            Path("jobs", ship, f"{index:03}-of-004"), node / ship / f"{index:03}-of-004"
        )
        pulled = command("--root", "there", "pull", str(node / ship))
        assert pulled.returncode == 0
        assert pulled.stdout.startswith(f"ship/{index:03}-of-004: created in ")
    again = command("--root", "there", "pull", str(Path("jobs", ship)), ship)
    assert again.stdout.count("no commits to pull") == COUNT
    with JobService("jobs") as here, JobService("there") as there:
        here.redo_row("ship:1")
        there.redo_row("ship:2")
        here.redo_row(there_too := "ship:3")
        there.start_row(there.redo_row(there_too).id)
    looked = command("--root", "there", "pull", str(Path("jobs", ship)), "--dry-run").stdout
    assert [line.partition(": ")[2][:8] for line in looked.splitlines() if line[:4] == "ship"] == [
        *("behind: ", "no commi"),
        *("diverged", "no commi"),
    ]
    pulled = command("--root", "there", "pull", str(Path("jobs", ship)))
    assert pulled.returncode == 3
    assert "'ship/002-of-004' have diverged" in pulled.stderr
    assert pulled.stdout.count("ship/000-of-004: 1 commit applied") == 1
    merged = command("--root", "there", "pull", str(Path("jobs", ship)), "--merge-outcomes")
    assert merged.stdout.count("ship/002-of-004: merged") == 1


def test_a_pull_refuses_another_count_another_key_and_a_job_of_the_sets_name(ship: str) -> None:
    with journal.open_job("other/ship", ORDERS, key="id", shard=(0, 3)):
        pass
    with journal.open_job("by-n/ship", ORDERS, key="n", shard=(1, COUNT)):
        pass
    with journal.open_job("plain/ship", ORDERS):
        pass
    pulled = command("pull", "other/ship")
    assert (pulled.returncode, "is a set of 4 shards" in pulled.stderr) == (2, True)
    shutil.rmtree(Path("jobs", ship, "001-of-004"))
    pulled = command("pull", "by-n/ship")
    assert (pulled.returncode, "another key" in pulled.stderr) == (2, True)
    pulled = command("pull", "plain/ship")
    assert (pulled.returncode, "is a set of shards" in pulled.stderr) == (2, True)
    pulled = command("--root", "plain", "pull", "jobs/ship")
    assert (pulled.returncode, "is a job, and not a set" in pulled.stderr) == (2, True)
    assert states()[1] == "absent"


def test_wait_ends_when_each_shard_has_and_its_exit_code_is_that_of_the_set(ship: str) -> None:
    waited = command("wait", ship)
    assert (waited.returncode, waited.stderr) == (3, "ship: failed: 19 completed, 1 failed\n")
    assert command("skip", ship, "--status", "failed").returncode == 0
    assert command("watch", ship).returncode == 0
    shutil.rmtree(Path("jobs", ship, "002-of-004"))
    waited = command("wait", ship, "--timeout", "0s")
    assert waited.returncode == 124
    assert "1 absent (2)" in waited.stderr


def test_a_shard_that_holds_is_named_while_its_run_works(ship: str) -> None:
    with JobService("jobs") as service:
        service.redo_row("ship:3")
        service.start_job("ship/002-of-004")
        hold = HoldRecord(until=now(), reason="Down: 503", at=UNSET_TIME)
        service.store.journal("ship/002-of-004").change(put_record, hold)
        assert "; 1 running (2); 1 holding (2); 1 failed (" in command("show", ship).stdout
        assert "holding since " in command("shards", ship).stdout
    assert "; 1 interrupted (2); 1 failed (" in command("show", ship).stdout


def test_wait_ends_if_the_other_shards_need_a_person_and_names_them(ship: str) -> None:
    assert command("pause", "ship/2").returncode == 0
    with JobService("jobs") as service:
        service.redo_row("ship:3")
    waited = command("wait", ship)
    assert waited.returncode == 3
    assert "; 2 of 4 completed; 1 pending (2); 1 failed (" in waited.stderr
    assert "; 1 paused until resume (2)\n" in waited.stderr
    assert "journal resume ship/002-of-004" in command("show", ship).stdout
    found = command("shards", ship, "--open")
    assert found.stdout == ""
    assert (
        found.stderr == "ship/002-of-004: left out: paused until journal resume ship/002-of-004\n"
    )
    damage(1)
    waited = command("watch", ship)
    assert waited.returncode == 6
    assert "1 unreadable (1); 1 paused until resume (2)\n" in waited.stderr
    assert names_damage(waited.stderr)
    gc.collect()  # the traceback of the damage may keep files open, which wine can't delete at once
    shutil.rmtree(Path("jobs", ship, "003-of-004"))
    waited = command("wait", ship, "--timeout", "0s")
    assert waited.returncode == 124
    stuck = "ship: 1 paused until resume (2); 1 unreadable (1); still waiting\n"
    assert waited.stderr.startswith(stuck)


def test_the_shards_of_a_set_are_listed_with_reviews_and_rows_that_are_left(ship: str) -> None:
    with JobService("jobs") as service:
        service.skip_row(f"ship:{number_of(5)}")
        for row_id in ("ship:1", "ship:2"):
            service.redo_row(row_id)
        service.start_job("ship/000-of-004")
        service.start_row("ship:1")
        service.review_row("ship:1", "Doubt", "?")
        service.update_status("ship/000-of-004", "failed")
    header, *lines = command("shards", ship).stdout.splitlines()
    assert header.split()[:6] == ["SHARD", "STATE", "ROWS", "DONE", "FAILED", "IN"]
    assert "IN FLIGHT  PENDING  REVIEW" in header
    assert [line.split()[1] for line in lines] == ["failed", "pending", "completed", "completed"]
    assert " failed (1 row needs a review) " in lines[0]
    shown = json.loads(command("show", ship, "--json").stdout)
    assert shown["shard"] is None


def test_the_report_of_a_set_counts_the_rows_of_all_shards(ship: str) -> None:
    pytest.importorskip("jinja2")
    page = command("report", ship, "-o", "-").stdout
    assert "no such order" in page
    assert page.count("ship") > 0
    assert command("report", "ship/000-of-004").stderr == "wrote ship-000-of-004.html\n"
    assert command("report", ship, "--every", "1s").returncode == 3  # all shards have ended
    page = Path("ship.html").read_text(encoding="utf-8")
    assert "Runs <span" in page
    assert page.count(">4 times, ") == 1  # runs; each shard has one pass, as the set has


def test_the_shards_of_a_set_are_pruned_when_all_have_ended_and_not_made_anew(ship: str) -> None:
    prune = ("prune", "--older-than", "0s", "--to", "packs", "--json")
    Path("packs").mkdir()
    with JobService("jobs") as service:
        service.redo_row(f"{ship}:1")
    left = json.loads(command(*prune).stdout)
    assert {one["action"] for one in left} == {"left"}
    assert left[-1]["reason"] == "shard ship/000-of-004 is pending"
    first_journal = Path("jobs", ship, "000-of-004/journal.jsonl")
    whole = first_journal.read_bytes()
    first_journal.write_bytes(b"no journal\n" + whole)
    left = json.loads(command(*prune).stdout)
    assert {one["action"] for one in left} == {"left"}
    assert left[-1]["reason"] == "shard ship/000-of-004 can't be read"
    first_journal.write_bytes(whole)
    for index in range(COUNT):
        run(index)
    assert {one["action"] for one in json.loads(command(*prune).stdout)} == {"deleted"}
    assert sorted(path.name for path in Path("packs").iterdir()) == [
        f"ship-{index:03}-of-004.tar.gz" for index in range(COUNT)
    ]
    assert not Path("jobs", ship).exists()
    assert "was pruned" in command("show", ship).stderr
    with pytest.raises(journal.JobPrunedError, match="ship/001-of-004"):
        run(1)
    assert "was pruned" in command("show", "ship/001-of-004").stderr
    first, *others = (str(path) for path in sorted(Path("packs").iterdir()))
    command("unpack", first)
    states = [one["state"] for one in json.loads(command("shards", ship, "--json").stdout)]
    assert states == ["failed", "pruned", "pruned", "pruned"]
    assert "3 pruned (1-3)" in command("show", ship).stdout
    assert command("shards", ship, "--open").stdout == ""
    assert "failed: " in command("wait", ship, "--timeout", "60").stderr
    assert command("unpack", *others).returncode == 0
    assert len(json.loads(command("rows", ship, "--json").stdout)) == 20


@pytest.mark.parametrize("was", ["shards", "job"])
def test_the_rows_of_a_pruned_job_are_not_split_in_another_way(was: str) -> None:
    shard = (0, COUNT) if was == "shards" else None
    with journal.open_job("jobs/ship", ORDERS, key="id", shard=shard) as job:
        job.run(lambda row: row.data["n"], progress=False)
    assert command("prune", "--older-than", "0s", "--yes").returncode == 0
    with pytest.raises(journal.JobPrunedError, match="'ship"):
        journal.open_job("jobs/ship", ORDERS, key="id", shard=(1, COUNT + 1))
    Path("in.csv").write_text("id\na1\n")
    start = ("run", "in.csv", "--key", "id", "--job", "ship", "--shard", f"1/{COUNT + 1}")
    assert command(*start, "--dry-run", "--", "true").returncode == 4
    assert not Path("jobs", "ship").exists()
    assert command("show", f"ship/001-of-00{COUNT + 1}").stderr.startswith("journal: there is no")
    with journal.open_job("jobs/ship", ORDERS, key="id", shard=(1, COUNT + 1), anew=True):
        pass


def test_a_set_may_have_more_shards_than_a_process_may_have_files_open() -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with JobService("jobs", sync="none") as service:
        for index in range(150):
            shard = Shard(index, 150, ("id",))
            header = new_header(
                "big",
                "big",
                "",
                None,
                "auto",
                metadata=None,
                key="id",
                idempotency_key=None,
                shard=shard,
            )
            make_job(
                service, header, [{"data": {"id": str(index)}, "place": 150 - index}], anew=False
            )
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
        assert command("rows", "big", "--csv").stdout.count("\n") == 151
        lines = command("export", "big", "-", "--columns", "id").stdout.splitlines()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert lines[1:] == [str(index) for index in reversed(range(150))]


def test_other_jobs_are_listed_beside_a_set_that_cannot_be_read(ship: str) -> None:
    with JobService("jobs") as service:
        service.create_job("Other", job_id="other")
    shutil.move("jobs/ship", "jobs/renamed")
    listed = command("list", "--json")
    assert [job["id"] for job in json.loads(listed.stdout)] == ["other"]
    assert (listed.returncode, "holds the journal of job 'ship/" in listed.stderr) == (6, True)
    shutil.move("jobs/renamed", "jobs/ship")
    Path("jobs/ship/000-of-004").rename("jobs/ship/000-of-008")
    for words in (
        ["rows", ship],
        ["export", ship, "-"],
        ["show", ship],
        ["redo", ship, "--row", "1", "--yes"],
    ):
        done = command(*words)
        assert (done.returncode, "of several sets" in done.stderr) == (4, True)
    listed = command("list", "--json")
    assert (listed.returncode, "of several sets" in listed.stderr) == (6, True)


@needs_links
def test_what_is_behind_a_link_is_not_deleted(ship: str) -> None:
    Path("other").mkdir()
    Path("other/ship").symlink_to(Path("jobs/ship").absolute())
    Path("other/job").symlink_to(Path("jobs/ship/000-of-004").absolute())
    pruned = command("--root", "other", "prune", "--older-than", "0d", "--yes")
    assert pruned.stdout.count("the directory of its set is a link") == COUNT
    with JobService("other") as service:
        for job_id in ("ship/000-of-004", "job"):
            with pytest.raises(journal.StorageError, match="is a link"):
                service.delete_job(job_id)
    for words in (
        ["--root", "other", "delete", "ship/000-of-004"],
        ["delete", "other/ship/000-of-004"],
        ["delete", "other/job"],
    ):
        done = command(*words, "--yes")
        assert done.returncode
        assert "is a link" in done.stderr
    assert len(list(Path("jobs/ship").iterdir())) == COUNT


@needs_directory_descriptors
def test_a_set_that_another_user_swaps_for_a_link_while_a_shard_is_deleted_is_still_the_one(
    ship: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree("jobs/ship", "other/ship")
    Path("other/link").symlink_to(Path("jobs/ship").absolute())

    def swap(real: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        os.rename("other/ship", "other/was")
        os.rename("other/link", "other/ship")
        return real(*arguments, **more)

    disk = FaultyOs()
    disk.plan("rename", swap)
    monkeypatch.setattr(system, "os", disk)
    with JobService("other") as service:
        service.delete_job("ship/000-of-004")
    assert len(list(Path("jobs/ship").iterdir())) == COUNT
    assert len(list(Path("other/was").iterdir())) == COUNT - 1


@needs_directory_descriptors
def test_a_set_that_another_user_swaps_for_a_link_while_a_shard_is_deleted_hides_nothing_outside(
    ship: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, put_aside = Path("other/ship"), Path("other/aside")
    shutil.copytree("jobs/ship", put_aside)
    link.symlink_to(Path("jobs/ship").absolute())

    def swap(real: Callable[..., Any], *arguments: Any) -> Any:
        for old, new in ((link, Path("other/was")), (put_aside, link), ("other/was", put_aside)):
            os.rename(old, new)
        return real(*arguments)

    def open_staging(real: Callable[..., Any], *arguments: Any) -> Any:
        return (swap if Path(arguments[0]).name == ".staging" else works)(real, *arguments)

    disk = FaultyOs()
    disk.always("open", open_staging)
    monkeypatch.setattr(system, "os", disk)
    with JobService("other") as service, pytest.raises(journal.StorageError, match="try again"):
        service.delete_job("ship/000-of-004")
    assert len(list(Path("jobs/ship").iterdir())) == COUNT
    assert len(list(put_aside.iterdir())) == COUNT

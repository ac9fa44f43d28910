"""Copies of a job that both went on, made one: nothing lost, nothing done twice without a word."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.attempts import try_again, wait
from support.children import FaultyOs, append_commit, fails, journal_path, works
from support.copies import (
    JOB,
    change,
    complete,
    content_of,
    copied,
    go_on,
    is_well,
    journal_line,
    put_artifact,
    states_of,
)

import journal
import journal.fs.system
from journal import (
    CommitOutcomeUnknownError,
    InvalidStateTransition,
    JobService,
    StorageError,
)
from journal.format.records import RowElsewhereRecord
from journal.ids import MAX_ROW_NUMBER
from journal.repair import repair_job
from journal.transfer import Pulled, pull_job
from journal.transfer.pack import Source
from journal.verify import verify_job

ROWS = 12


@pytest.fixture
def third(here: Path) -> Path:
    return copied(here, "third")


def pull(here: Path, there: Path, *, merge: bool = False) -> Pulled:
    return pull_job(here, Source(there / JOB), merge=merge)


def merged(here: Path, there: Path) -> Any:
    """What a merge did, which must leave the other's history beside ours."""
    theirs = journal_path(there, JOB).read_bytes()
    pulled = pull(here, there, merge=True)
    assert pulled.action == "merged"
    assert pulled.merged is not None
    assert (here / JOB / pulled.merged.other).read_bytes() == theirs
    is_well(here)
    return pulled.merged


def row_of(root: Path, number: int) -> journal.JobRow:
    with JobService(root, sync="none") as service:
        row = service.get_row(f"{JOB}:{number}")
    assert row is not None
    return row


def test_a_row_that_both_worked_on_needs_a_review_with_both_outcomes(
    here: Path, there: Path
) -> None:
    def fail(service: JobService) -> None:
        for number in (3, 4):
            service.start_row(f"{JOB}:{number}")
            service.fail_row(f"{JOB}:{number}", "OursFailed", "here")
        service.start_row(f"{JOB}:5")

    change(here, fail)
    go_on(there, 3, 5, tracking="THEIRS")
    change(there, lambda service: service.fail_row(f"{JOB}:4", "TheirsFailed", "there"))
    found = merged(here, there)
    assert (found.review, found.twice, found.applied) == ([3, 4, 5], [3, 5], [])
    for number, code, ours, theirs, told in (
        (3, "maybe_done_twice", "failed (OursFailed) at 2", "completed at 2", "THEIRS-3"),
        (4, "both_copies", "failed (OursFailed) at 2", "failed (TheirsFailed) at 2", "there"),
        (5, "maybe_done_twice", "in flight at 2", "completed at 2", "THEIRS-5"),
    ):
        row = row_of(here, number)
        assert (row.status, row.error_code) == ("needs_review", code)
        assert row.error_message is not None
        assert f"here {ours}" in row.error_message
        assert f"there {theirs}" in row.error_message
        log = journal_line(here, "log", JOB, "--row", str(number), "--level", "warning").stdout
        assert told in log
    retry(here, 4)


def test_a_completed_row_in_review_shows_its_outcome_and_is_never_retried(
    here: Path, there: Path
) -> None:
    """Only a redo does it again, and a person who completes it needn't give its outcome anew."""
    for number in (3, 4, 5):
        start(here, number)
        with JobService(here, sync="none") as service:
            service.complete_row(f"{JOB}:{number}", f"H-{number}", result=number)
        start(there, number)
    done = journal_line(here, "pull", str(there / JOB), "--merge-outcomes", "--json")
    assert done.returncode == 3
    found = json.loads(done.stdout)["merged"]
    assert (found["twice"], found["review"]) == ([3, 4, 5], [3, 4, 5])
    row = row_of(here, 3)
    assert (row.status, row.tracking_number, row.result) == ("needs_review", "H-3", 3)
    refused = journal_line(here, "resolve", JOB, "--row", "3", "--retry")
    assert refused.returncode != 0
    assert "journal redo" in refused.stderr
    assert row_of(here, 3).status == "needs_review"
    with JobService(here, sync="none") as service, pytest.raises(InvalidStateTransition):
        try_again(service, row.id, "E", "an automatic retry")
    assert journal_line(here, "resolve", JOB, "--row", "3", "--completed").returncode == 0
    row = row_of(here, 3)
    assert (row.status, row.tracking_number, row.result) == ("completed", "H-3", 3)
    assert journal_line(here, "redo", JOB, "--row", "4", "--yes").returncode == 0
    assert row_of(here, 4).status == "pending"
    assert merged(there, here).review == [5]
    assert (row_of(there, 3).status, row_of(there, 3).tracking_number) == ("completed", "H-3")
    assert row_of(there, 4).status == "pending"


def test_what_both_did_alike_without_an_attempt_is_done_once(here: Path) -> None:
    start(here, 3)
    there = copied(here, "there")
    for root in (here, there):
        skip(root, 4)
        for number, tracking in ((3, "T-3"), (5, None)):
            with JobService(root, sync="none") as service:
                service.complete_row(f"{JOB}:{number}", tracking, cost_cents=1)
        change(root, lambda service: service.complete_row(f"{JOB}:6", root.name))  # noqa: B023
        change(root, lambda service: service.complete_row(f"{JOB}:8"))
        redo(root, 8)  # it is pending again, but was done twice
    skip(here, 7)
    change(there, lambda service: service.complete_row(f"{JOB}:7"))
    redo(there, 7)
    skip(there, 7)  # it ends alike, but more was done
    skip(here, 9)
    change(there, lambda service: service.fail_row(f"{JOB}:9", "E", "no"))
    retry(there, 9)
    skip(there, 9)
    before = total_cost(here)
    found = merged(here, there)
    assert (found.twice, found.review, found.applied) == ([6], [6, 7, 8, 9], [])
    assert total_cost(here) == before + 2  # each cost counts
    merged(there, here)
    assert total_cost(there) == total_cost(here)
    redo(there, 3)  # who knows both
    assert 3 in merged(here, there).applied


def test_what_a_merge_found_is_said_in_words_with_the_rows_and_what_to_do(
    here: Path, there: Path
) -> None:
    for root in (here, there):
        go_on(root, 3, 4, tracking=root.name)
    go_on(there, 5)
    merged(here, there)
    log = journal_line(here, "log", JOB).stdout
    assert "; rows: 1 taken (5), 2 in review (3-4)" in log
    row = journal_line(here, "show", JOB, "--row", "3").stdout
    assert re.search(r'elsewhere: on another copy of this job, at \S+: {.*"there-3"', row)
    shown = journal_line(here, "show", JOB).stdout
    assert f"redo {JOB} --row ROWS" in shown
    assert "--retry" not in shown


def total_cost(root: Path) -> int | float:
    with JobService(root, sync="none") as service:
        job = service.get_job(JOB)
    assert job is not None
    return job.total_cost_cents


def test_a_row_in_flight_on_the_other_side_needs_a_review_here(here: Path, there: Path) -> None:
    go_on(here, 3)
    change(there, lambda service: service.start_row(f"{JOB}:4"))
    found = merged(here, there)
    assert (found.review, found.applied) == ([4], [])
    row = row_of(here, 4)
    assert (row.status, row.error_code) == ("needs_review", "in_flight_elsewhere")


def test_new_rows_of_the_other_copy_are_added_with_what_became_of_them(
    here: Path, there: Path
) -> None:
    go_on(here, 3)
    change(there, lambda service: service.create_rows(JOB, [{"data": {"x": 1}}, {"data": {}}]))
    go_on(there, ROWS + 1)
    found = merged(here, there)
    assert (found.added, found.applied) == ([ROWS + 1, ROWS + 2], [])
    assert row_of(here, ROWS + 1).data == {"x": 1}
    assert states_of(here)[ROWS:] == ["completed", "pending"]


def test_a_merge_is_one_commit_or_nothing(
    here: Path, there: Path, faulty_os: FaultyOs, count: Callable[[str, int], None]
) -> None:
    go_on(here, 3)
    go_on(there, 3, 4, tracking="THEIRS")
    before = journal_path(here, JOB).read_bytes()
    spare = here.with_name("spare")
    shutil.copytree(here, spare)
    faulty_os.calls.clear()
    pull(here, there, merge=True)
    called = {name: faulty_os.count(name) for name in ("write", "fdatasync", "fsync")}
    for name, calls in called.items():
        for number in range(calls):
            shutil.rmtree(here)
            shutil.copytree(spare, here)
            faulty_os.plan(name, *[works] * number, fails(28))
            try:
                pull(here, there, merge=True)
            except StorageError:
                assert journal_path(here, JOB).read_bytes() == before
            except CommitOutcomeUnknownError:
                pass
            faulty_os.heal()
            pull(here, there, merge=True)
            assert verify_job(here / JOB).findings == []
            assert states_of(here)[3] == "completed"
    count("refused calls of a merge", sum(called.values()))


# --- three copies, and what policies and people made of rows ------------------------------------


def start(root: Path, number: int) -> None:
    change(root, lambda service: service.start_row(f"{JOB}:{number}"))


def fail(root: Path, number: int, code: str = "E") -> None:
    start(root, number)
    change(root, lambda service: service.fail_row(f"{JOB}:{number}", code, "no"))


def skip(root: Path, number: int) -> None:
    """Something of its own, so that a copy diverges."""
    change(root, lambda service: service.skip_row(f"{JOB}:{number}"))


def retry(root: Path, number: int) -> None:
    change(root, lambda service: service.retry_row(f"{JOB}:{number}"))


def settle(root: Path, policy: Any) -> None:
    """A run that takes over and settles what was in flight."""
    with JobService(root, sync="none") as service:
        service.start_job(JOB, policy)


def told_of(root: Path, number: int) -> str:
    """What a log for people says of a row."""
    return journal_line(root, "log", JOB, "--row", str(number)).stdout


def test_what_a_repaired_copy_does_not_know_needs_a_review(here: Path, there: Path) -> None:
    go_on(there, 3, 4)
    path = journal_path(there, JOB)
    lines = path.read_bytes().splitlines(keepends=True)
    (lost,) = (n for n, line in enumerate(lines) if b'"row":3,"status":"completed"' in line)
    lines[lost] = b"~" * (len(lines[lost]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))
    assert journal_line(there, "repair", JOB).returncode == 3
    assert states_of(there)[2] == "needs_review"
    for number in (3, 6):  # of row 6 no trace is left there
        fail(here, number)
        retry(here, number)
    assert {3, 6} <= set(merged(here, there).review)


def test_the_same_bytes_in_two_histories_are_work_done_twice(here: Path, tmp_path: Path) -> None:
    """Clocks that are behind a journal's last time write that, all of them."""
    late = b'{"type":"log","message":"late","at":"2999-11-24T13:35:00.000001Z"}'
    append_commit(journal_path(here, JOB), late)
    there = copied(here, "there")
    skip(here, 4)
    skip(there, 5)
    for root in (here, there):
        start(root, 3)
        change(root, lambda service: service.complete_row(f"{JOB}:3"))
    assert merged(here, there).twice == [3]


@pytest.mark.parametrize("is_reopened", [False, True])
def test_a_failed_job_is_completed_by_a_merge_that_leaves_nothing_to_do(
    here: Path, there: Path, is_reopened: bool
) -> None:
    for number in range(3, ROWS + 1):
        fail(here, number)
        if number > 3:
            skip(here, number)
    shutil.rmtree(there)
    copied(here, "there")
    change(here, lambda service: service.log(JOB, "diverged"))
    if is_reopened:
        change(here, lambda service: service.reopen_job(JOB))
    change(there, lambda service: service.retry_row(f"{JOB}:3"))
    go_on(there, 3)
    assert pull(here, there, merge=True).merged
    shown = journal_line(here, "wait", JOB, "--timeout", "30s")
    assert (shown.returncode, f"{JOB}: completed: " in shown.stderr) == (0, True)
    is_well(here)


@pytest.mark.parametrize(("status", "then"), [("paused", "completed"), ("cancelled", "cancelled")])
def test_a_merge_that_leaves_nothing_to_do_completes_a_job_that_is_not_cancelled(
    here: Path, there: Path, status: str, then: str
) -> None:
    change(here, lambda service: service.update_status(JOB, status))
    for number in range(3, ROWS + 1):
        skip(there, number)
    assert pull(here, there, merge=True).merged
    with JobService(here) as service:
        assert {str(row.status) for row in service.get_rows(JOB)} == {"completed", "skipped"}
        assert service.get_job_summary(JOB)["status"] == then


def test_a_pull_exits_with_3_until_a_row_of_both_copies_is_settled(here: Path, there: Path) -> None:
    for root in (here, there):
        go_on(root, 3)
    pull_again = ("pull", str(there / JOB), "--merge-outcomes")
    for _ in range(2):
        done = journal_line(here, *pull_again)
        assert (done.returncode, f"show {JOB}" in done.stderr) == (3, True)
    shown = journal_line(here, "show", JOB).stdout
    assert "# 1 row may have been done twice: look, then settle it" in shown
    (settle,) = re.findall(rf"resolve {JOB} --row 3 --completed$", shown, re.MULTILINE)
    done = journal_line(here, *settle.split(), "--reason", "one parcel, says the carrier")
    assert done.returncode == 0
    assert "one parcel" in journal_line(here, "log", JOB, "--row", "3").stdout
    assert journal_line(here, *pull_again).returncode == 0


def test_a_copy_that_makes_no_sense_is_damage_and_nothing_is_changed(
    here: Path, there: Path
) -> None:
    skip(here, 3)
    line = b'{"type":"row_status","row":99,"status":"completed","at":"2026-11-24T13:35:00.000001Z"}'
    append_commit(journal_path(there, JOB), line)
    before = content_of(here)
    done = journal_line(here, "pull", str(there / JOB), "--merge-outcomes")
    assert (done.returncode, done.stdout) == (6, "")
    assert "row 99" in done.stderr
    assert content_of(here) == before


def test_a_result_too_deep_for_a_log_record_is_left_out_of_it_and_named(
    here: Path, there: Path
) -> None:
    deep: Any = 1
    for _ in range(99):
        deep = [deep]
    for root in (here, there):
        start(root, 3)
        change(root, lambda service: service.complete_row(f"{JOB}:3", result=deep))
    found = merged(here, there)
    assert found.twice == [3]
    assert "left out here" in told_of(here, 3)


# --- done twice, and told to both ----------------------------------------------------------------


def test_a_history_without_outcomes_of_its_own_is_kept_too_and_once(
    here: Path, there: Path
) -> None:
    skip(here, 3)
    change(there, lambda service: service.log(JOB, "look here"))
    change(there, lambda service: service.update_status(JOB, "cancelled"))
    done = journal_line(here, "pull", str(there / JOB), "--merge-outcomes")
    assert "the job is cancelled there, and running here" in done.stderr
    assert [path.name for path in (here / JOB).glob("journal.other-*")]
    for root, other in ((here, there), (there, here), (here, there), (there, here)):
        pull(root, other, merge=True)
    for root, other in ((here, there), (there, here)):
        assert pull(root, other, merge=True).action == "ahead"


def test_values_that_only_look_equal_are_different_data(here: Path, there: Path) -> None:
    change(here, lambda service: service.update_row_data(f"{JOB}:3", {"n": 1}))
    change(there, lambda service: service.update_row_data(f"{JOB}:3", {"n": True}))
    assert merged(here, there).review == [3]


# --- retries and redos -----------------------------------------------------------------------------


def redo(root: Path, number: int, *, new_key: bool = False) -> None:
    change(root, lambda service: service.redo_row(f"{JOB}:{number}", new_key=new_key))


def budget(root: Path, number: int) -> tuple[str, int, int]:
    row = row_of(root, number)
    return row.status, row.attempts, row.earlier_attempts


def wait_an_hour(service: JobService) -> None:
    service.start_row(f"{JOB}:3")
    wait(service, f"{JOB}:3", 3600)


def test_a_row_that_waits_there_waits_here_no_longer_than_it_said(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip(here, 4)
    with monkeypatch.context() as ahead:
        ahead.setattr("journal.store.journal.now", lambda: datetime.now(UTC) + timedelta(days=3))
        change(there, wait_an_hour)
    merged(here, there)
    row, theirs = row_of(here, 3), row_of(there, 3)
    assert row.due is not None
    assert row.due - row.updated_at == timedelta(hours=1)
    assert (row.waiting_since, row.attempts, row.earlier_attempts) == (theirs.waiting_since, 1, 1)
    with JobService(here, sync="none") as service:
        job = service.get_job(JOB)
    assert job is not None
    assert job.waiting_count == 1


def test_an_attempt_that_has_waited_there_and_was_put_back_here_needs_a_review(here: Path) -> None:
    """It may have handed the row to somebody, and so may the attempt that followed it here."""
    change(here, lambda service: service.start_row(f"{JOB}:3"))
    there = copied(here, "there")
    change(there, lambda service: wait(service, f"{JOB}:3", 3600))
    settle(here, "retry")
    change(here, lambda service: service.start_row(f"{JOB}:3"))
    change(here, lambda service: service.complete_row(f"{JOB}:3"))
    assert merged(here, there).twice == [3]


def test_what_was_done_in_another_pass_there_is_taken_into_a_job_that_ended_here(
    here: Path,
) -> None:
    fail(here, 3)
    change(here, lambda service: service.update_status(JOB, "failed"))
    there = copied(here, "there")
    retry(there, 3)
    with JobService(there, sync="none") as service:
        service.start_job(JOB)
        complete(service, 3)
    change(here, lambda service: service.log(JOB, "gone on"))
    assert merged(here, there).applied == [3]
    assert budget(here, 3) == ("completed", 2, 1)
    with JobService(here, sync="none") as service:
        service.reopen_job(JOB)
    assert merged(there, here).applied == []
    with JobService(there, sync="none") as service:
        job = service.get_job(JOB)
    assert job is not None
    assert (job.status, job.passes) == ("running", 2)


# --- data ----------------------------------------------------------------------------------------


def set_data(root: Path, number: int, **data: Any) -> None:
    change(root, lambda service: service.update_row_data(f"{JOB}:{number}", data))


def told_changes(root: Path, number: int) -> list[dict[str, Any]]:
    """The changes of a row that other copies made, and that no merge has imported."""
    with JobService(root, sync="none") as service:
        records = [entry.record for entry in service.get_history(JOB)]
    told = [record for record in records if isinstance(record, RowElsewhereRecord)]
    return [record.change for record in told if record.row == number]


# --- rows that were added -----------------------------------------------------------------------


def add(root: Path, *values: Any) -> None:
    rows = [{"data": {"n": value}} for value in values]
    change(root, lambda service: service.create_rows(JOB, rows))


def by_key(root: Path) -> dict[str, tuple[Any, str]]:
    with JobService(root, sync="none") as service:
        rows = list(service.get_rows(JOB))
    assert len({row.idempotency_key for row in rows}) == len(rows)
    return {row.idempotency_key: (row.data, str(row.status)) for row in rows}


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """As ``here``, of rows that are known by their ``n``."""
    with JobService(tmp_path / "here", sync="none") as service:
        data = [{"data": {"n": number}} for number in range(1, ROWS + 1)]
        service.create_job("Moved", job_id=JOB, key="n", row_data=data)
        service.start_job(JOB)
    return tmp_path / "here"


def test_rows_of_one_key_that_both_added_are_one_row_under_our_number(orders: Path) -> None:
    here, there = orders, copied(orders, "there")
    add(here, "A-6", "A-7", "A-8", "A-9")
    add(there, "A-7", "A-8", "A-10")
    go_on(there, ROWS + 1)
    go_on(there, ROWS + 2, tracking="THERE")  # A-8, here as well
    go_on(here, ROWS + 3, tracking="HERE")
    found = merged(here, there)
    assert (found.applied, found.review) == ([ROWS + 2], [ROWS + 3])
    assert (found.added, found.renumbered) == ([ROWS + 5], {ROWS + 5: ROWS + 3})
    assert by_key(here) == {
        **by_key(here),
        f"{JOB}:n=A-7": ({"n": "A-7"}, "completed"),
        f"{JOB}:n=A-8": ({"n": "A-8"}, "needs_review"),
        f"{JOB}:n=A-10": ({"n": "A-10"}, "pending"),
    }
    merged(there, here)
    assert by_key(there) == by_key(here)
    assert row_of(there, ROWS + 1).data == {"n": "A-7"}
    for root, other in ((here, there), (there, here)):
        assert pull(root, other, merge=True).action == "ahead"
    with JobService(there, sync="none") as service:
        complete(service, ROWS + 3)
    assert merged(here, there).applied == [ROWS + 5]


def test_rows_of_equal_keys_that_both_added_are_matched_in_their_order(
    here: Path, there: Path
) -> None:
    rows = [{"data": {"n": "x"}, "idempotency_key": "one"}] * 2
    add(here, "y")
    for root in (here, there):
        change(root, lambda service: service.create_rows(JOB, rows))
    go_on(there, ROWS + 1)
    found = merged(here, there)
    assert (found.applied, found.added) == ([ROWS + 2], [])


def test_rows_without_a_key_that_both_added_are_both_there_under_two_numbers(
    here: Path, there: Path, third: Path
) -> None:
    add(here, "x")
    add(there, "x", "y", "z")
    go_on(there, ROWS + 2)
    skip(third, 3)
    assert merged(third, there).renumbered == {}
    done = journal_line(here, "pull", str(there / JOB), "--merge-outcomes")
    moved = ROWS + 4  # behind all numbers of either
    assert f"row {ROWS + 1} of the other copy is row {moved} here" in done.stderr
    assert row_of(here, moved).idempotency_key == row_of(there, ROWS + 1).idempotency_key
    assert row_of(here, moved).status == "pending"
    assert row_of(here, ROWS + 2).status == "completed"
    for root, other in ((there, here), (third, here), (here, third), (third, there), (there, here)):
        pull(root, other, merge=True)
    assert by_key(here) == by_key(there) == by_key(third)
    for root, other in ((here, there), (there, here), (third, here), (here, third)):
        assert pull(root, other, merge=True).action in ("ahead", "identical")
    go_on(there, ROWS + 1)
    assert merged(here, there).applied == [moved]


def lose_data(root: Path, number: int) -> None:
    """Damage the record of a row, which has a text of its own, and repair the journal."""
    path = journal_path(root, JOB)
    lines = path.read_bytes().splitlines(keepends=True)
    begin = b'{"type":"row","row":%d,' % number
    (at,) = (at for at, line in enumerate(lines) if line.startswith(begin))
    lines[at] = lines[at].replace(b'"data":{', b'"data":{\x00')
    path.write_bytes(b"".join(lines))
    repair_job(root / JOB)
    assert row_of(root, number).row_checksum == "lost"


@pytest.mark.parametrize("worked_on", ["here", "there", "nowhere"])
@pytest.mark.parametrize("lost", ["here", "there", "here and there"])
def test_a_row_whose_data_is_lost_is_the_row_of_its_number_and_no_outcome_settles_it(
    orders: Path, lost: str, worked_on: str
) -> None:
    """What was done with it in the other copy is logged, and a person decides."""
    here, there = orders, copied(orders, "there")
    number, shared = ROWS + 1, ROWS + 2
    roots = {"here": here, "there": there}
    for name, root in roots.items():
        add(root, name)
        add(root, "shared")
        if name in lost.split():
            fail(root, number)  # a trace of the row, from which a repair knows its number
            retry(root, number)
        if name == worked_on:
            go_on(root, number)
        if name in lost.split():
            lose_data(root, number)
    for root, other in ((here, there), (there, here), (here, there)):
        found = merged(root, other)
        assert (found.added, found.renumbered) == ([], {})
        assert row_of(root, shared).data == {"n": "shared"}
    for root in (here, there):
        assert row_of(root, number).status == "needs_review"
        if lost != "here and there":
            assert row_of(root, number).data == {"n": "there" if lost == "here" else "here"}
        if worked_on != "nowhere":
            assert f"T-{number}" in journal_path(root, JOB).read_text()
    for root, other in ((here, there), (there, here)):
        assert pull(root, other, merge=True).action == "ahead"


def test_what_a_repair_has_lost_of_one_copy_is_not_added_anew_to_the_other(orders: Path) -> None:
    here, there = orders, copied(orders, "there")
    add(there, "new")
    go_on(there, ROWS + 1)
    lose_data(there, ROWS + 1)
    skip(here, 3)
    merged(here, there)
    with JobService(here) as service:
        job = service.get_job(JOB)
        rows = [row.data for row in service.get_rows(JOB) if row.data]
    assert job is not None
    assert job.repaired
    with journal.open_job(here / JOB, [*rows, {"n": "new"}], "n", on_changed="ignore") as run:
        assert (run.matched.lost, run.matched.added) == (1, 0)


def test_the_data_that_somebody_gave_a_row_whose_data_was_lost_is_taken_over(
    here: Path,
) -> None:
    add(here, "new")
    fail(here, ROWS + 1)
    retry(here, ROWS + 1)
    lose_data(here, ROWS + 1)
    there = copied(here, "there")
    set_data(there, ROWS + 1, n="found")
    skip(here, 3)
    merged(here, there)
    assert row_of(here, ROWS + 1).data == {"n": "found"}


def test_a_row_that_would_need_a_number_behind_the_highest_changes_nothing(
    here: Path, there: Path
) -> None:
    for root in (here, there):
        last = {"row_number": MAX_ROW_NUMBER, "data": {"n": root.name}}
        change(root, lambda service, last=last: service.create_rows(JOB, [last]))  # type: ignore[misc]
    before = content_of(here)
    done = journal_line(here, "pull", str(there / JOB), "--merge-outcomes")
    assert (done.returncode, content_of(here)) == (2, before)
    assert "no higher number" in done.stderr


def test_a_row_that_both_added_of_one_key_and_different_data_keeps_both(orders: Path) -> None:
    here, there = orders, copied(orders, "there")
    for root in (here, there):
        rows = [{"data": {"n": "A-7", "to": root.name}}]
        change(root, lambda service, rows=rows: service.create_rows(JOB, rows))  # type: ignore[misc]
    found = merged(here, there)
    assert (found.review, found.added) == ([ROWS + 1], [])
    assert row_of(here, ROWS + 1).data == {"n": "A-7", "to": "here"}
    assert "'to': 'there'" in str(told_changes(here, ROWS + 1))
    merged(there, here)
    assert by_key(here) == by_key(there)
    for root, other in ((here, there), (there, here)):
        assert pull(root, other, merge=True).action == "ahead"


# --- artifacts ---------------------------------------------------------------------------------


def test_files_that_differ_are_both_kept_and_no_more_however_often_they_go_back_and_forth(
    here: Path, there: Path
) -> None:
    go_on(here, 3, tracking="HERE")
    go_on(there, 3, tracking="THERE")
    put_artifact(here, "3.pdf", b"ours")
    put_artifact(there, "3.pdf", b"theirs")
    kept = []
    for _ in range(4):
        pull(here, there, merge=True)
        pull(there, here, merge=True)
        kept.append([artifact_bytes(root) for root in (here, there)])
    assert kept[1:] == kept[1:2] * 3
    for files, mine in zip(kept[-1], (b"ours", b"theirs"), strict=True):
        assert files["3.pdf"] == mine
        assert set(files.values()) == {b"ours", b"theirs"}


def artifact_bytes(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / JOB / "artifacts").iterdir()}

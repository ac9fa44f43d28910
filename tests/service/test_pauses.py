"""A person's pause: it holds in any status of a job, until a person resumes the job."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.children import journal_path
from support.copies import JOB, change, go_on, make_job

import journal
from journal import Job, JobBusyError, JobPausedError, JobRow, JobService, JobStatus
from journal.format.records import UNSET_TIME, HoldRecord, JobPauseRecord
from journal.repair import repair_job
from journal.store.transitions import put_record
from journal.transfer import prune_jobs, pull_job
from journal.verify import verify_job

ALICE = "alice@host"
LATER = datetime(2099, 1, 1, microsecond=1, tzinfo=UTC)


@pytest.fixture(name="root")
def fixture_root(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


def make(root: Path, status: str = "pending") -> None:
    with JobService(root, sync="none") as service:
        service.create_job("J", job_id="j", row_data=[{"data": {"n": n}} for n in (1, 2, 3)])
        if status != "pending":
            service.start_job("j")
        if status not in ("pending", "running"):
            service.update_status("j", status)


def pause(root: Path, job_id: str = "j") -> Job:
    with JobService(root, sync="none", person=ALICE) as service:
        return service.pause_job(job_id)


def job_in(root: Path, job_id: str = "j") -> Job:
    with JobService(root, sync="none") as service:
        found = service.get_job(job_id)
    assert found is not None
    return found


def is_paused_by_alice(job: Job) -> bool:
    return job.pause is not None and job.pause.person == ALICE


# --- what holds


@pytest.mark.parametrize("status", JobStatus)
def test_a_pause_holds_in_any_status_and_only_a_running_job_becomes_paused(
    root: Path, status: str
) -> None:
    make(root, status)
    path = journal_path(root, "j")
    commits = path.read_bytes().count(b'"crc"')
    paused = pause(root)
    assert path.read_bytes().count(b'"crc"') == commits + 1
    assert paused.status == ("paused" if status == "running" else status)
    assert is_paused_by_alice(paused)
    assert paused.pause is not None
    assert paused.pause.since <= paused.updated_at
    assert job_in(root) == paused, "as another process reads it"
    assert verify_job(path.parent).findings == []
    before = path.read_bytes()
    assert pause(root) == paused, "a second pause changes nothing"
    assert path.read_bytes() == before


@pytest.mark.parametrize("status", ["pending", "running", "paused"])
def test_no_run_starts_while_a_pause_holds_and_the_error_says_who_when_and_what_to_type(
    root: Path, status: str
) -> None:
    make(root, status)
    paused = pause(root)
    assert paused.pause is not None
    since = paused.pause.since.isoformat().replace("+00:00", "Z")
    before = journal_path(root, "j").read_bytes()
    calls: list[JobRow] = []
    with JobService(root) as service:
        for target in ("running", ""):
            with pytest.raises(JobPausedError) as caught:
                _ = service.update_status("j", target) if target else service.start_job("j")
            assert (caught.value.job_id, caught.value.paused_at) == ("j", since)
            assert caught.value.exit_code == 4
            text = f"job 'j' was paused by {ALICE} at {since}, so no run starts: to end the pause, "
            assert (
                str(caught.value)
                == text + "`journal resume j` (in Python: service.resume_job('j'))"
            )
            assert service.run_holder("j") is None
    with journal.open_job(root / "j") as job, pytest.raises(JobPausedError):
        job.run(calls.append, retry_failed=True)
    assert calls == []
    assert journal_path(root, "j").read_bytes() == before


def test_a_pause_of_another_writer_that_left_the_job_running_holds_too(root: Path) -> None:
    make(root, "running")
    with JobService(root) as service:
        service.store.journal("j").change(put_record, JobPauseRecord(at=UNSET_TIME))
        assert job_in(root).status == "running"
        with pytest.raises(JobPausedError, match=r"job 'j' was paused at 20.*Z, so no run"):
            service.start_job("j")


def test_rows_started_by_hand_and_outcomes_are_recorded_while_a_pause_holds(root: Path) -> None:
    make(root)
    pause(root)
    with JobService(root) as service:
        service.start_row("j:1")
        service.complete_row("j:1")
        service.skip_row("j:2")
        service.create_rows("j", [{"data": {}}])
    job = job_in(root)
    assert (job.successful_rows, job.skipped_count, job.total_rows) == (1, 1, 4)
    assert is_paused_by_alice(job)


@pytest.mark.parametrize("how", ["update_status", "limit", "halt", "stop"])
def test_a_pause_that_no_person_has_made_goes_on_at_the_next_start(root: Path, how: str) -> None:
    make(root)
    with journal.open_job(root / "j") as job:
        if how == "update_status":
            job.service.start_job("j")
            job.service.update_status("j", "paused")
        elif how == "limit":
            job.run(lambda _row: None, max_rows=1)
        elif how == "halt":
            job.run(lambda _row: 1 / 0, halt=1)
        else:
            job.run(lambda _row: job.stop())
        assert (job.job.status, job.job.pause) == ("paused", None)
        assert job.run(lambda _row: None, retry_failed=True).exit_code == 0


# --- a run that works


def test_a_run_finishes_its_rows_in_flight_waits_and_continues_when_resumed(root: Path) -> None:
    make(root)
    messages: list[str] = []
    begun, go = threading.Event(), threading.Event()
    waits = threading.Event()

    def handler(_row: JobRow) -> None:
        begun.set()
        assert go.wait(30)

    def tell(text: str) -> None:
        messages.append(text)
        if "paused by another process" in text:
            waits.set()

    def steer() -> None:
        assert begun.wait(30)
        pause(root)
        go.set()
        assert waits.wait(30)
        with JobService(root, person="bob@host") as service:
            with pytest.raises(JobPausedError):
                service.update_status("j", "running")
            statuses.append(service.resume_job("j").status)

    statuses: list[str] = []
    person = threading.Thread(target=steer)
    person.start()
    with journal.open_job(root / "j") as job:
        report = job.run(handler, tell=tell)
    person.join()
    assert report.exit_code == 0
    assert statuses == ["running"]
    assert (report.job.status, report.job.pause) == ("completed", None)


# --- resume


@pytest.mark.parametrize(
    ("status", "then", "passes"),
    [
        ("pending", "pending", 1),
        ("running", "paused", 1),
        ("paused", "paused", 1),
        ("completed", "completed", 1),
        ("failed", "pending", 2),
        ("cancelled", "pending", 2),
    ],
)
def test_resume_ends_the_pause_in_one_commit_and_what_has_failed_or_was_cancelled_is_pending(
    root: Path, status: str, then: str, passes: int
) -> None:
    make(root, status)
    pause(root)
    commits = journal_path(root, "j").read_bytes().count(b'"crc"')
    with JobService(root) as service:
        job = service.resume_job("j", "the customer called")
        assert (job.pause, job.status, job.passes) == (None, then, passes)
        assert service.get_job("j") == job
        assert journal_path(root, "j").read_bytes().count(b'"crc"') == commits + 1
        if not job.status.is_ended:
            assert service.resume_job("j") == job, "a second resume changes nothing"
            assert service.start_job("j").status == "running"


def test_a_cancelled_job_is_not_resumed_while_its_run_waits_for_rows_in_flight(root: Path) -> None:
    make(root)
    with JobService(root) as run, JobService(root) as other:
        run.start_job("j")
        run.start_row("j:1")
        other.pause_job("j")
        other.update_status("j", "cancelled")
        before = journal_path(root, "j").read_bytes()
        with pytest.raises(JobBusyError):
            other.resume_job("j")
        assert journal_path(root, "j").read_bytes() == before


# --- what keeps it


def hold(service: JobService, until: datetime | None = LATER) -> None:
    record = HoldRecord(until=until, reason="Down: 503", at=UNSET_TIME)
    service.store.journal(JOB).change(put_record, record)


def test_a_pull_that_appends_copies_the_pause_and_the_hold_and_a_merge_keeps_the_state_here(
    tmp_path: Path,
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    make_job(here)
    pull_job(there, here / JOB)
    pause(there, JOB)
    change(there, hold)
    assert pull_job(here, there / JOB).action == "forwarded"
    assert is_paused_by_alice(job_in(here, JOB))
    assert job_in(here, JOB).hold == job_in(there, JOB).hold is not None
    change(there, lambda service: service.resume_job(JOB))
    change(here, lambda service: hold(service, until=None))
    go_on(there, 3)
    go_on(here, 4)
    assert pull_job(here, there / JOB, merge=True).action == "merged"
    assert is_paused_by_alice(job_in(here, JOB)), "resumed there only"
    assert job_in(here, JOB).hold is None, "ended here only"
    assert pull_job(there, here / JOB, merge=True).action == "merged"
    assert job_in(there, JOB).pause is None, "paused there only"
    assert job_in(there, JOB).hold is not None, "ended there only"


def test_a_repair_keeps_the_pause(root: Path) -> None:
    make(root)
    pause(root)
    with JobService(root) as service:
        service.complete_row("j:1", "1Z999")
    path = journal_path(root, "j")
    path.write_bytes(path.read_bytes().replace(b"1Z999", b"2Z888"))
    assert not repair_job(path.parent).lossless
    assert is_paused_by_alice(job_in(root))


def test_prune_leaves_a_job_that_a_person_has_paused_and_delete_deletes_it(root: Path) -> None:
    make(root, "completed")
    pause(root)
    later = datetime.now(UTC) + timedelta(days=1)
    for dry_run in (True, False):
        (pruned,) = prune_jobs(root, later, dry_run=dry_run)
        assert (pruned.action, pruned.reason) == ("left", "a person has paused it")
    with JobService(root) as service:
        assert service.delete_job("j")


def test_a_resume_while_a_script_compares_its_input_waits_for_its_run(root: Path) -> None:
    with journal.open_job(root / "j", [{"n": 1}, {"n": 2}], key="n") as job:
        job.run(lambda row: row.row_number, max_rows=1, progress=False)
    with JobService(root) as service:
        service.pause_job("j")

        def rows() -> Iterator[dict[str, int]]:
            assert service.run_holder("j") is not None
            assert service.resume_job("j").status == "paused"  # since nobody runs it yet
            yield from ({"n": 1}, {"n": 2})

        with journal.open_job(root / "j", rows(), key="n") as job:
            assert job.run(lambda row: row.row_number).exit_code == 0


def test_a_run_of_a_job_that_has_ended_is_refused_while_a_person_has_paused_it(root: Path) -> None:
    make(root)
    with journal.open_job(root / "j") as job:
        assert job.run(lambda _row: None, progress=False).job.status == "completed"
        pause(root)
        with pytest.raises(JobPausedError):
            job.run(lambda _row: None, progress=False)
    assert job_in(root).status == "completed"

"""Files that somebody deletes, moves or replaces while a process is in the middle of using them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.children import Child, journal_path, read_all
from support.platforms import not_under_wine

from journal import JobBusyError, JobRow, JobService
from journal.fs import files
from journal.verify import verify_job

JOB = "moved"


def make_job(root: Path, rows: int) -> None:
    with JobService(root, sync="none") as service:
        service.create_job("Moved", job_id=JOB)
        service.create_rows(JOB, [{"data": {"n": number}} for number in range(1, rows + 1)])


def tokens(root: Path) -> list[str | None]:
    return [row.tracking_number for row in read_all(root, JOB)[1]]


# --- a commit that is open meanwhile ---------------------------------------------------------

# Tells what came of the commit that was open, then of one more.
WRITER = """
service = JobService(root, sync="none")
service.complete_row(f"{job_id}:1", "before")

def halted():
    tell("open")
    hear()

def batch():
    with service.batch(job_id):
        service.complete_row(f"{job_id}:2", "open")
        halted()

def spilled_batch():
    with service.batch(job_id):
        service.complete_row(f"{job_id}:2", "open")
        service.create_rows(job_id, [{"data": {"pad": "x" * 50_000}}] * 30)
        halted()

def stream():
    def rows():
        yield from [{"data": {"pad": "x" * 50_000, "open": True}}] * 30
        halted()
    service.create_rows(job_id, rows())

def tell_fate(change):
    try:
        change()
    except JournalError as error:
        tell(type(error).__name__)
    else:
        tell("acknowledged")

tell_fate(globals()[sys.argv[3]])
hear()
tell_fate(lambda: service.complete_row(f"{job_id}:3", "after"))
"""


# Under wine, the name of a deleted file is in use as long as a process has the file open.
REMOVE = pytest.param("remove", marks=not_under_wine)


class Hand:
    """Somebody who moves a job's files about, and has a copy of the journal from earlier on."""

    def __init__(self, root: Path) -> None:
        self.job = root / JOB
        self.journal = journal_path(root, JOB)
        self.away = root.parent / "away" / JOB
        self.copy = root.parent / "copy"
        self.copy.write_bytes(self.journal.read_bytes())
        self.old = self.copy.read_bytes()

    def rename(self) -> None:
        self.away.parent.mkdir()
        self.job.rename(self.away)

    def rename_and_make_anew(self) -> None:
        self.rename()
        make_job(self.job.parent, 3)
        self.old = self.journal.read_bytes()

    def remove(self) -> None:
        shutil.rmtree(self.job)

    def replace(self) -> None:
        files.rename(self.copy, self.journal)  # replaces an open file on Windows, too

    def overwrite(self) -> None:
        shutil.copyfile(self.copy, self.journal)


def is_there(root: Path) -> bool:
    """Whether the commit that was open is in the job, for whoever reads it."""
    rows = read_all(root, JOB)[1]
    return any(row.tracking_number == "open" or "open" in row.data for row in rows)


@pytest.mark.parametrize("commit", ["batch", "spilled_batch", "stream"])
@pytest.mark.parametrize("move", ["rename", "rename_and_make_anew", REMOVE, "replace", "overwrite"])
def test_a_commit_whose_journal_is_moved_away_while_it_is_open_is_acknowledged_only_if_it_is_kept(
    tmp_path: Path, move: str, commit: str
) -> None:
    root = tmp_path / "jobs"
    make_job(root, 3)
    hand = Hand(root)
    with Child(WRITER, root, JOB, commit) as writer:
        assert writer.hear() == "open"
        getattr(hand, move)()
        writer.tell("go on")
        fate = writer.hear()
        homes = [home for home in (root, tmp_path / "away") if (home / JOB).exists()]
        for home in homes:
            assert not verify_job(home / JOB).damaged, "what was moved is damaged now"
        kept = any(is_there(home) for home in homes)
        if fate == "acknowledged":
            assert kept, "it was acknowledged, and is nowhere"
        elif fate != "CommitOutcomeUnknownError":
            assert not kept, "it raised, and is there"
        if move in {"rename_and_make_anew", "replace", "overwrite"}:
            assert hand.journal.read_bytes().startswith(hand.old)
        writer.tell("one more")
        afterwards = writer.hear()
        writer.end()
    if (root / JOB).exists():
        assert afterwards == "acknowledged"
        assert tokens(root)[2] == "after"
        assert verify_job(root / JOB).findings == []
    else:
        assert afterwards == "JobNotFoundError"


def test_a_writer_that_waits_for_the_lock_of_a_journal_that_is_replaced_meanwhile_uses_the_new_one(
    tmp_path: Path,
) -> None:
    holder_script = """
    from journal.fs import system
    file = system.os.open(os.path.join(root, job_id, "journal.jsonl"), system.os.O_RDONLY)
    system.fcntl.flock(file, system.fcntl.LOCK_EX | system.fcntl.LOCK_NB)
    tell("locked")
    hear()
    """
    waiter_script = """
    import journal.store.log
    service = JobService(root, sync="none", lock_timeout_s=100)
    service.complete_row(f"{job_id}:1", "before")
    tell("ready")
    hear()
    real = journal.store.log.wait_for_lock
    def wait(file, timeout_s):
        tell("waiting")
        return real(file, timeout_s)
    journal.store.log.wait_for_lock = wait
    service.complete_row(f"{job_id}:2", "waited")
    tell("done")
    """
    make_job(tmp_path, 2)
    path = journal_path(tmp_path, JOB)
    copy = tmp_path / "copy"
    copy.write_bytes(path.read_bytes())
    with Child(waiter_script, tmp_path, JOB) as waiter:
        assert waiter.hear() == "ready"
        with Child(holder_script, tmp_path, JOB) as holder:
            assert holder.hear() == "locked"
            waiter.tell("go")
            assert waiter.hear() == "waiting"
            files.rename(copy, path)
            holder.tell("let go")
            assert waiter.hear() == "done"
            waiter.end()
    assert tokens(tmp_path) == [None, "waited"]


# --- rows that are being read ----------------------------------------------------------------


@pytest.mark.parametrize("move", ["rename", "rename_and_make_anew", REMOVE, "replace"])
def test_rows_that_are_being_read_stay_as_they_were_when_their_journal_goes(
    tmp_path: Path, move: str
) -> None:
    root = tmp_path / "jobs"
    with JobService(root, sync="none") as service:
        service.create_job("Moved", job_id=JOB)
        hand = Hand(root)
        service.create_rows(JOB, [{"data": {"n": n, "pad": "x" * 5000}} for n in range(200)])
        rows = service.get_rows(JOB)
        reading = iter(rows)
        seen: list[JobRow] = [next(reading) for _ in range(3)]
        getattr(hand, move)()
        seen += reading
        assert [row.data["n"] for row in seen] == list(range(200))
        assert rows[150].data["n"] == 150


# --- a run that is under way -----------------------------------------------------------------

RUNNER = """
service = JobService(root, sync="none")
service.start_job(job_id)
tell("running")
while True:
    order = hear()
    try:
        service.start_job(job_id) if order == "start" else service.update_status(job_id, order)
    except JournalError as error:
        tell(type(error).__name__)
    else:
        tell("done")
"""


@not_under_wine
def test_a_second_run_is_refused_though_somebody_deleted_the_file_that_names_the_first(
    tmp_path: Path,
) -> None:
    make_job(tmp_path, 1)
    with Child(RUNNER, tmp_path, JOB) as runner, JobService(tmp_path) as service:
        assert runner.hear() == "running"
        (tmp_path / JOB / "run.lock").unlink()
        for refused in (service.start_job, service.recover_job, service.delete_job):
            with pytest.raises(JobBusyError):
                refused(JOB)
        assert service.run_holder(JOB) is not None
        assert not (tmp_path / JOB / "run.lock").exists()
        runner.tell("paused")
        assert runner.hear() == "done"
        assert service.start_job(JOB).status == "running"


def test_a_job_that_is_moved_to_another_store_takes_its_run_lock_along(tmp_path: Path) -> None:
    root, away = tmp_path / "jobs", tmp_path / "away"
    make_job(root, 1)
    with Child(RUNNER, root, JOB) as runner, JobService(away) as service:
        assert runner.hear() == "running"
        away.mkdir()
        (root / JOB).rename(away / JOB)
        with pytest.raises(JobBusyError) as refused:
            service.start_job(JOB)
        assert refused.value.pid == runner.pid
        runner.tell("paused")
        assert runner.hear() == "JobNotFoundError"
        runner.kill()
        assert service.start_job(JOB).status == "running"


def test_of_a_run_whose_job_was_moved_away_and_another_only_one_can_run_the_new_job_of_that_name(
    tmp_path: Path,
) -> None:
    root = tmp_path / "jobs"
    make_job(root, 1)
    with Child(RUNNER, root, JOB) as runner, JobService(root) as service:
        assert runner.hear() == "running"
        Hand(root).rename_and_make_anew()
        runner.tell("start")
        assert runner.hear() == "done"
        with pytest.raises(JobBusyError):
            service.start_job(JOB)
        holder = service.run_holder(JOB)
        assert holder is not None
        assert holder.pid == runner.pid

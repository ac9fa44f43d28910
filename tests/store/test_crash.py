"""A process that dies at any moment loses nothing that it was told is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from crash.kills import kill_at_work, kill_in_making, kill_in_passes, kill_in_recovery
from support.children import Child, journal_path, place_journal, read_all, split_commits
from support.copies import staging_of
from support.effort import sample
from support.platforms import IS_WINDOWS, needs_modes

from journal import JobExistsError, JobRow, JobService, JournalDamagedError
from journal.fs.file_names import NEW_BACKUP_NAME

JOB = "crashing"
# In each of the tests that kill; tests/crash/kills.py is the full run. Without fork, each kill starts
# Python anew.
KILLS = 8 if IS_WINDOWS else 20
SEEDS = sample(range(2), 1)


@pytest.mark.parametrize("seed", sample(range(10), 2))
def test_a_process_killed_at_any_moment_has_lost_nothing_acknowledged_and_adds_nothing_else(
    tmp_path: Path, seed: int, count: Callable[[str, int], None]
) -> None:
    tally = kill_at_work(tmp_path, seed, KILLS)
    count("kills at work, of a call that had not returned", tally.under_way)
    assert tally.kills == KILLS


@pytest.mark.parametrize("seed", SEEDS)
def test_a_process_killed_while_it_makes_and_deletes_jobs_leaves_whole_jobs_or_none(
    tmp_path: Path, seed: int, count: Callable[[str, int], None]
) -> None:
    tally = kill_in_making(tmp_path, seed, KILLS)
    count("kills while jobs are made and deleted, of a call", tally.under_way)
    assert tally.kills == KILLS


@pytest.mark.parametrize("seed", SEEDS)
def test_a_process_killed_while_it_recovers_a_torn_tail_leaves_it_there_or_saved_whole(
    tmp_path: Path, seed: int, count: Callable[[str, int], None]
) -> None:
    tally = kill_in_recovery(tmp_path, seed, KILLS)
    count("kills while a torn tail is recovered, of a call", tally.under_way)
    assert tally.kills == KILLS


@pytest.mark.parametrize("seed", SEEDS)
def test_a_process_killed_while_it_reopens_retries_and_redoes_has_lost_and_repeated_nothing(
    tmp_path: Path, seed: int, count: Callable[[str, int], None]
) -> None:
    tally = kill_in_passes(tmp_path, seed, KILLS)
    count(
        "kills while a job is reopened, and its rows retried and redone, of a call", tally.under_way
    )
    assert tally.kills == KILLS


# --- torn tails ------------------------------------------------------------------------------


def make_history(root: Path) -> None:
    """A job whose last three commits complete a row, complete three at once, and fail one."""
    with JobService(root, sync="none") as service:
        service.create_job("Torn", job_id=JOB)
        service.create_rows(JOB, [{"data": {"n": number}} for number in range(1, 8)])
        service.update_status(JOB, "running")
        service.complete_row(f"{JOB}:1", "T-1", "artifacts/1.pdf", 125)
        with service.batch(JOB):
            for number in (2, 3, 4):
                service.complete_row(f"{JOB}:{number}", f"T-{number}")
        service.fail_row(f"{JOB}:5", "refused", "J*: a message with \u2028 and \n in it")


def whole_states(content: bytes, root: Path) -> dict[int, list[JobRow]]:
    """For the end of each of the last commits, the rows as they were then."""
    commits = split_commits(content)
    states = {}
    for count in range(len(commits) - 3, len(commits) + 1):
        part = b"".join(commits[:count])
        place_journal(root / str(count), JOB, part)
        states[len(part)] = read_all(root / str(count), JOB)[1]
    return states


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(b"", id="alone"),
        pytest.param(b"\0" * 700, id="followed by NULs"),
        pytest.param(b"\0" * 200_000, id="followed by many NULs"),
        pytest.param(b"\xff\x07{]garbage\x80" * 9, id="followed by garbage"),
        pytest.param(b"{gar\n\n}\xff\n}\0\r\n{\n" * 9, id="followed by garbage with newlines"),
        pytest.param(b'{"type":"log"}\n' * 9, id="followed by lines without a seal"),
    ],
)
def test_a_cut_at_any_byte_opens_with_the_commits_before_it_and_goes_on(
    tmp_path: Path, tail: bytes
) -> None:
    root = tmp_path / "store"
    make_history(root)
    path = journal_path(root, JOB)
    content = path.read_bytes()
    states = whole_states(content, tmp_path / "states")
    cuts = range(min(states), len(content) + 1)
    if len(tail) > 10_000:  # many NULs cost time and can tell nothing new at each byte
        cuts = cuts[::7]
    ends = {end + by for end in states for by in (-1, 0, 1)}
    for cut in sorted({*sample(cuts, len(cuts) // 3), *ends.intersection(cuts)}):
        torn = content[:cut] + tail
        path.write_bytes(torn)
        end = max(offset for offset in states if offset <= cut)
        if tail and cut + 1 in states:  # nobody writes on before the LF is written
            with JobService(root) as service, pytest.raises(JournalDamagedError):
                service.get_rows(JOB)
            continue
        if not tail and cut + 1 in states:
            end = cut + 1  # a commit that lacks nothing but its LF counts
        with JobService(root, sync="none") as service:
            assert list(service.get_rows(JOB)) == states[end], cut
            assert path.read_bytes() == torn, cut
            new = service.skip_row(f"{JOB}:7", "after the crash")
        saved = list(path.parent.glob("journal.torn-*"))
        assert [one.read_bytes() for one in saved] == ([torn[end:]] if torn[end:] else []), cut
        assert path.read_bytes().startswith(content[:end]), cut
        assert read_all(root, JOB)[1] == [*states[end][:6], new], cut
        for one in saved:
            one.unlink()


def test_an_open_service_that_finds_a_torn_tail_goes_on_as_a_fresh_one_does(tmp_path: Path) -> None:
    make_history(tmp_path)
    path = journal_path(tmp_path, JOB)
    with JobService(tmp_path, sync="none") as service:
        before = list(service.get_rows(JOB))
        whole = path.read_bytes()
        with path.open("ab") as file:
            file.write(b'{"type":"row_status","row":6,"sta')
        assert list(service.get_rows(JOB)) == before
        new = service.skip_row(f"{JOB}:7")
        assert path.read_bytes().startswith(whole)
        assert read_all(tmp_path, JOB)[1] == [*before[:6], new]


def test_a_second_torn_tail_at_the_same_place_is_saved_beside_the_first(tmp_path: Path) -> None:
    make_history(tmp_path)
    path = journal_path(tmp_path, JOB)
    content = path.read_bytes()
    for tail in (b"first", b"second"):
        path.write_bytes(content + tail)
        with JobService(tmp_path) as service:
            service.skip_row(f"{JOB}:7")
    saved = sorted(path.parent.glob("journal.torn-*"))
    assert [one.read_bytes() for one in saved] == [b"first", b"second"]


@needs_modes
def test_what_is_saved_of_a_torn_tail_is_private(tmp_path: Path) -> None:
    make_history(tmp_path)
    path = journal_path(tmp_path, JOB)
    with path.open("ab") as file:
        file.write(b"torn")
    with JobService(tmp_path, sync="none") as service:
        service.skip_row(f"{JOB}:7")
    (saved,) = path.parent.glob("journal.torn-*")
    assert saved.stat().st_mode & 0o777 == 0o600


# --- deaths at a chosen moment ---------------------------------------------------------------


def test_a_streamed_create_rows_that_is_killed_midway_leaves_no_row(tmp_path: Path) -> None:
    script = """
    def rows():
        for number in range(600):
            yield {"data": {"pad": "x" * 8000}}
        tell("streaming")
        hear()
    JobService(root, sync="none").create_rows(job_id, rows())
    """
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Streamed", job_id=JOB)
        service.create_rows(JOB, [{"data": {"n": 1}}])
        path = journal_path(tmp_path, JOB)
        before = path.read_bytes()
        with Child(script, tmp_path, JOB) as child:
            assert child.hear() == "streaming"
            assert path.stat().st_size > len(before) + 3_000_000
            assert len(service.get_rows(JOB)) == 1
            assert len(read_all(tmp_path, JOB)[1]) == 1
            child.kill()
        left = path.read_bytes()
        assert left.startswith(before)
        assert len(service.get_rows(JOB)) == 1
        assert len(read_all(tmp_path, JOB)[1]) == 1
        assert path.read_bytes() == left
        assert service.create_rows(JOB, [{"data": {"n": 2}}])[0].row_number == 2
    assert [row.data for row in read_all(tmp_path, JOB)[1]] == [{"n": 1}, {"n": 2}]
    (saved,) = path.parent.glob("journal.torn-*")
    assert saved.read_bytes() == left[len(before) :]


DIES_IN = """
import shutil
import journal.fs.system

name, _, count = sys.argv[3].partition(" ")
calls_to_come = int(count)

class DeadlyOs:
    def __init__(self, module):
        self.module = module

    def __getattr__(self, called):
        global calls_to_come
        if called == name:
            calls_to_come -= 1
            if not calls_to_come:
                os._exit(9)  # as after SIGKILL, nothing is cleaned up
        return getattr(self.module, called)

service = JobService(root)
if sys.argv[4] == "delete":
    service.create_job("Doomed", job_id=job_id)
    service.create_rows(job_id, [{"data": {}}] * 3)
    (service.artifacts_dir(job_id) / "1.pdf").write_bytes(b"label")
tell("ready")
journal.fs.system.os, shutil.os = DeadlyOs(journal.fs.system.os), DeadlyOs(shutil.os)
if sys.argv[4] == "delete":
    service.delete_job(job_id)
elif sys.argv[4] == "recover":
    service.skip_row(f"{job_id}:7")
else:
    service.create_job("Doomed", job_id=job_id)
tell("survived")
"""


def die_in(root: Path, call: str, action: str) -> None:
    """A process dies in a system call of an action."""
    with Child(DIES_IN, root, JOB, call, action) as child:
        assert child.hear() == "ready"
        with pytest.raises(AssertionError, match="the child ended"):
            child.hear()


@pytest.mark.parametrize(
    ("call", "action"),
    [
        ("write 1", "create"),
        ("fdatasync 1", "create"),
        ("rename 1", "create"),
        ("unlink 1", "delete"),
        ("unlink 2", "delete"),
        ("rmdir 1", "delete"),
        ("rmdir 2", "delete"),
    ],
)
def test_what_a_death_in_create_or_delete_leaves_is_removed_by_the_next_create_job(
    tmp_path: Path, call: str, action: str
) -> None:
    die_in(tmp_path, call, action)
    assert len(list((tmp_path / ".staging").glob(f"{JOB}.*"))) == 1
    with JobService(tmp_path) as service:
        assert service.get_job(JOB) is None
        assert service.list_jobs() == []
        service.create_job("Another", job_id="another")
        assert staging_of(tmp_path) == []
        assert [job.id for job in service.list_jobs()] == ["another"]
        service.create_job("Again", job_id=JOB)
        with pytest.raises(JobExistsError):
            service.create_job("Again", job_id=JOB)


def test_a_death_right_after_the_rename_of_create_job_leaves_the_whole_job(tmp_path: Path) -> None:
    die_in(tmp_path, "fsync 3", "create")
    job, rows = read_all(tmp_path, JOB)
    assert job is not None
    assert job.name == "Doomed"
    assert rows == []


# In the order in which they come: the copy is opened, written in pieces of 1 MiB, synced, and gets
# its name, which is synced; the tail is cut off, what is left is synced, and the commit itself is written.
@pytest.mark.parametrize(
    ("call", "saved_bytes", "cut"),
    [
        ("open 2", [], False),
        ("write 1", [], False),
        ("write 2", [], False),
        ("fdatasync 1", [], False),
        ("rename 1", [], False),
        ("fsync 1", [2_500_000], False),
        ("ftruncate 1", [2_500_000], False),
        ("fdatasync 2", [2_500_000], True),
        ("write 4", [2_500_000], True),
    ],
)
def test_a_death_in_a_recovery_leaves_the_torn_tail_where_it_was_until_it_is_saved_whole(
    tmp_path: Path, call: str, saved_bytes: list[int], cut: bool
) -> None:
    make_history(tmp_path)
    path = journal_path(tmp_path, JOB)
    good = path.read_bytes()
    pad = b"x" * 400  # bytes are what counts here, and each line costs time
    lines = (b'{"type":"log","message":"line %d %b"}\n' % (n, pad) for n in range(6000))
    tail = b"".join(lines)[:2_500_000]
    path.write_bytes(good + tail)
    before = read_all(tmp_path, JOB)[1]
    die_in(tmp_path, call, "recover")
    assert path.read_bytes() == (good if cut else good + tail)
    saved = sorted(path.parent.glob("journal.torn-*"))
    assert [one.read_bytes() for one in saved] == [tail[:count] for count in saved_bytes]
    assert read_all(tmp_path, JOB)[1] == before
    with JobService(tmp_path) as service:
        new = service.skip_row(f"{JOB}:7")
    assert read_all(tmp_path, JOB)[1] == [*before[:6], new]
    assert tail in [one.read_bytes() for one in path.parent.glob("journal.torn-*")]
    assert not path.with_name(NEW_BACKUP_NAME).exists()

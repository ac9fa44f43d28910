"""A job copied by other people's tools while a writer is at work: each copy is a beginning of it.

A sample of copies in each run; 105 by each tool with ``LONG=1 python -m pytest
tests/transfer/test_live_copies.py``.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.children import Child, journal_path
from support.copies import JOB, make_job, relation_of
from support.effort import IS_LONG
from support.platforms import IS_WINDOWS

from journal import JobService
from journal.fs import system
from journal.transfer.copies import open_copy
from journal.verify import verify_job

ROWS = 40

LARGEST_COMMIT_BYTES = 8_000

# Commits as fast as the disk takes them, of all sizes; each close leaves a hint if much was written.
WRITER = """
draw = random.Random(1)
is_heard = False
while True:
    if not is_heard and os.path.exists(os.path.join(root, job_id, "index.hint")):
        is_heard = True
        tell("begin")
    with JobService(root) as service:
        for _ in range(60):
            number = draw.randrange(3, 41)
            with service.batch(job_id):
                for row in range(number, min(number + draw.choice([1, 1, 4]), 41)):
                    service.start_row(f"{job_id}:{row}")
                    service.fail_row(f"{job_id}:{row}", "E", "x" * draw.choice([10, 100, 1000]))
"""

# rsync is slow: the journal that it copies grows meanwhile.
COPIES = {"cp": 105, "tar": 105, "rsync": 40} if IS_LONG else {"cp": 6, "tar": 6, "rsync": 4}
TOOLS = {
    "cp": ["bash", "-c", 'cp -r "$1" "$2"'],
    "tar": ["bash", "-c", 'tar cf - -C "$1" . | tar xf - -C "$2"'],
    "rsync": ["bash", "-c", 'rsync -a "$1/" "$2/"'],
}
_XCOPY = "import subprocess, sys; subprocess.call(['xcopy', *sys.argv[2:], '/e', '/i', '/q'])"
if IS_WINDOWS:
    COPIES = {"xcopy": 105, "shutil": 105} if IS_LONG else {"xcopy": 10, "shutil": 10}
    TOOLS = {
        "xcopy": [sys.executable, "-c", _XCOPY],
        "shutil": [sys.executable, "-c", "import shutil, sys; shutil.copytree(*sys.argv[2:])"],
    }
MAKE_NO_DIRECTORY = ("tar", "rsync")
# What a tool says of a file that was there when it looked first: a hint on its way to its name.
HARMLESS = re.compile(
    r"index\.hint(\.new)?'?( for reading)?: (No such file|File removed before|file changed as)"
    r"|index\.hint', as it was replaced while being copied"
    r"|: file changed as we read it|vanished|Exiting with failure status"
)


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if IS_WINDOWS or shutil.which(tool)])
def test_a_copy_taken_at_any_moment_opens_as_a_beginning_of_the_truth(
    tmp_path: Path, tool: str, count: Callable[[str, int], None]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    make_job(here, ROWS)
    (here / JOB / "journal.torn-99-1").write_text("{torn")
    ends: list[int] = []
    hints = grown = 0
    with Child(WRITER, here, JOB) as child:
        assert child.hear() == "begin"
        # Whether a copy meets the writer depends on the machine: more copies until enough have.
        for number in itertools.count():
            if number >= COPIES[tool] and min(grown, hints) > COPIES[tool] // 2:
                break
            assert number < 20 * COPIES[tool], (grown, hints)
            least = open_copy(here / JOB).end.offset
            there.mkdir()
            if tool in MAKE_NO_DIRECTORY:
                (there / JOB).mkdir()
            if not IS_WINDOWS:
                os.kill(child.pid, signal.SIGCONT)
            wait_for_a_commit(journal_path(here, JOB), least)
            before = journal_path(here, JOB).stat().st_size
            command = [*TOOLS[tool], "copy", str(here / JOB), str(there / JOB)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if not IS_WINDOWS:  # it needn't write on while the copy is looked at
                os.kill(child.pid, signal.SIGSTOP)
            grown += journal_path(here, JOB).stat().st_size > before
            assert all(map(HARMLESS.search, done.stderr.splitlines())), done.stderr
            hints += (there / JOB / "index.hint").exists()
            copy = what_opens(there, least)
            with journal_path(here, JOB).open("rb") as truth:
                assert truth.read(len(copy)) == copy
            ends.append(len(copy))
            if number % 10 == 0:
                is_told_from_its_origin(here, there)
            go_on_there(there, number)
            shutil.rmtree(there)
        child.kill()
    assert ends == sorted(set(ends))
    count(f"copies by {tool} during which the journal grew", grown)


def wait_for_a_commit(path: Path, end: int) -> None:
    """Until the writer is at work again: one commit at least, behind ``end``, is whole."""
    deadline_s = time.monotonic() + 60
    while path.stat().st_size < end + LARGEST_COMMIT_BYTES:
        assert time.monotonic() < deadline_s
        time.sleep(0.0005)


def what_opens(there: Path, least: int) -> bytes:
    """What a copy holds up to its last commit, which is no earlier than when it was begun."""
    end = open_copy(there / JOB).end.offset
    assert end >= least
    with JobService(there, sync="none") as service:
        rows = list(service.get_rows(JOB))
    for name in ("index.hint", "index.hint.new"):
        (there / JOB / name).unlink(missing_ok=True)
    with JobService(there, sync="none") as service:
        assert list(service.get_rows(JOB)) == rows
        assert service.get_job_summary(JOB)["total_rows"] == ROWS
    assert not verify_job(there / JOB).damaged
    return journal_path(there, JOB).read_bytes()[:end]


def is_told_from_its_origin(here: Path, there: Path) -> None:
    assert relation_of(there / JOB, here / JOB) in ("identical", "behind")


def go_on_there(there: Path, number: int) -> None:
    """The next writer needs no help, and nothing of the lock that came along."""
    row = f"{JOB}:{random.Random(number).randrange(3, ROWS + 1)}"
    with JobService(there, sync="none", lock_timeout_s=0.1) as service:
        service.start_job(JOB, on_interrupted="retry")
        service.start_row(row)
        service.complete_row(row, "T")
    assert verify_job(there / JOB).findings == []


def test_a_copy_with_the_lock_file_of_a_dead_machine_is_gone_on_with_at_once(
    tmp_path: Path,
) -> None:
    make_job(tmp_path, ROWS)
    with JobService(tmp_path, sync="none") as service:
        service.start_row(f"{JOB}:3")
    lock = tmp_path / JOB / "run.lock"
    lock.write_text('{"host":"dead","pid":1,"started_at":"2026-11-24T13:35:00.000001Z"}\n')
    with JobService(tmp_path, sync="none", lock_timeout_s=0) as service:
        assert service.run_holder(JOB) is None
        assert [job.id for job in service.list_jobs("running")] == [JOB]
        service.start_job(JOB)
        assert [row.row_number for row in service.get_rows(JOB, "needs_review")] == [3]
        holder = service.run_holder(JOB)
    assert holder is not None
    assert holder.host == system.host_name()

"""Three longer trials on Windows: many writers, copies of a job at work, a run of many commands.

``python tests/windows/run.py --python 3.11 --command tests/windows/endurance.py``

- Four processes write one job while a fifth reads it, synced and unsynced. Each acknowledged commit
  must be there in the end, and the reader must never see fewer.
- A job is copied by ``shutil`` and by ``xcopy`` while a process writes it. Each copy must be sound.
- A run of 500 commands is stopped by Ctrl-C three times, and started again. No command may run
  twice.

Exits with 1 if anything is lost or repeated.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the helpers, when run as a command

from support.console import Console

from journal import JobService, RowStatus
from journal.verify import verify_job

JOB = "j"
WRITERS, ROWS_EACH, COPIES, COMMANDS = 4, 200, 10, 500

WRITE = """
import sys
from journal import JobService
root, sync, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with JobService(root, sync=sync, lock_timeout_s=60) as service:
    for number in range(first, first + count):
        service.complete_row(f"j:{number}")
        print(number, flush=True)
"""
# A command that runs again for its row finds the file of the first time, and fails.
WORK = """
import os, sys, time
os.close(os.open(os.path.join("begun", sys.argv[1]), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
time.sleep(0.02)
"""


def make(root: Path, rows: int) -> None:
    with JobService(root, sync="none") as service:
        service.create_job("Endurance", job_id=JOB, row_data=[{}] * rows)


def writer(root: Path, sync: str, first: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITE, str(root), sync, str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def completed(root: Path) -> set[int]:
    with JobService(root) as service:
        return {row.row_number for row in service.get_rows(JOB, RowStatus.COMPLETED)}


def try_writers(root: Path, sync: str) -> str:
    make(root, WRITERS * ROWS_EACH)
    writers = [writer(root, sync, 1 + n * ROWS_EACH, ROWS_EACH) for n in range(WRITERS)]
    seen = reads = 0
    with JobService(root) as reader:
        while any(each.poll() is None for each in writers):
            job = reader.get_job(JOB)
            assert job is not None
            found = job.successful_rows
            assert found >= seen, (found, seen)
            seen, reads = found, reads + 1
    acknowledged = {int(number) for each in writers for number in each.communicate()[0].split()}
    assert [each.returncode for each in writers] == [0] * WRITERS
    assert acknowledged == completed(root) == set(range(1, WRITERS * ROWS_EACH + 1))
    assert verify_job(root / JOB).findings == []
    return f"{WRITERS} writers, sync={sync}: {len(acknowledged)} commits, {reads} reads, 0 lost"


def try_copies(root: Path) -> str:
    make(root, 100_000)
    work = writer(root, "none", 1, 100_000)
    assert work.stdout is not None
    sizes = []
    for number in range(2 * COPIES):
        at_least = int(work.stdout.readline())
        copy = root.parent / f"copy-{number}" / JOB
        if number % 2:
            shutil.copytree(root / JOB, copy)
        else:
            xcopy = ["xcopy", str(root / JOB), str(copy), "/E", "/I", "/Q", "/H", "/Y"]
            subprocess.run(xcopy, check=True, stdout=subprocess.DEVNULL)
        findings = verify_job(copy).findings
        assert all(finding.kind in {"torn", "unended"} for finding in findings), findings
        found = completed(copy.parent)
        assert found == set(range(1, len(found) + 1))
        assert len(found) >= at_least
        sizes.append(len(found))
    work.kill()
    work.communicate()
    return f"{len(sizes)} copies of a job at work: sound, with {sizes[0]} to {sizes[-1]} commits"


def wait_for_rows(begun: Path, count: int, console: Console) -> None:
    deadline_s = time.monotonic() + 120
    while len(list(begun.iterdir())) < count:
        assert time.monotonic() < deadline_s, console.shown()
        time.sleep(0.05)


def run_argv(directory: Path) -> Sequence[str]:
    (directory / "work.py").write_text(WORK)
    (directory / "rows.txt").write_text("".join(f"{n}\n" for n in range(COMMANDS)))
    options = ["rows.txt", "--lines", "--job", JOB, "-j", "4", "--", sys.executable, "-S", "-E"]
    return [sys.executable, "-m", "journal", "run", *options, "work.py", "{line}"]


def try_run(directory: Path) -> str:
    begun = directory / "begun"
    begun.mkdir(parents=True)
    argv = run_argv(directory)
    codes = []
    for stop in (50, 150, 300):
        with Console(argv, directory) as console:
            wait_for_rows(begun, stop, console)
            console.press_ctrl_c()
            codes.append(console.ends())
    with Console(argv, directory) as console:
        codes.append(console.ends())
    assert codes == [130, 130, 130, 0], codes
    assert len(list(begun.iterdir())) == len(completed(directory / "jobs")) == COMMANDS
    return f"a run of {COMMANDS} commands, stopped by Ctrl-C three times: each ran once"


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        for sync in ("commit", "none"):
            print(try_writers(base / sync, sync), flush=True)
        print(try_copies(base / "live"), flush=True)
        print(try_run(base / "run"), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Programs on Linux and under wine write one job at the same time, and no commit is lost::

    python tests/windows/two_systems.py [--python 3.11]

Two writers on each system make many commits each. Who is refused tries again. Then a run under wine
has the job, and a run on Linux must be refused.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from journal import JobBusyError, JobLockedError, JobService, StorageError
from journal.verify import verify_job

TREE = Path(__file__).resolve().parents[2]
SCRIPT = "tests/windows/two_systems.py"
JOB = "shared"
COUNTS = {"linux": 1000, "win32": 60}  # takes about the same time
KEPT = 5  # how many commits a writer makes before it closes the job


# --- on either system --------------------------------------------------------------------------


def make(root: Path) -> None:
    with JobService(root, sync="none") as service:
        service.create_job("Shared", job_id=JOB, row_data=[{"data": {"n": 1}}])
        service.start_job(JOB)


def write(root: Path) -> None:
    made = refused = 0
    (root.parent / f"{sys.platform}-{os.getpid()}.ready").touch()
    while len(list(root.parent.glob("*.ready"))) < 4:
        time.sleep(0.02)
    while made < COUNTS[sys.platform]:
        with JobService(root, sync="none", lock_timeout_s=0.5) as service:
            for _ in range(KEPT):
                try:
                    service.set_error(JOB, "E", f"{sys.platform} {made}")
                    made += 1
                except JobLockedError:
                    refused += 1
                except StorageError as error:
                    if error.errno != errno.EBUSY:
                        raise
                    refused += 1
        time.sleep(0.02)  # or two writers on Linux would leave no gap
    print(f"{sys.platform}: {made} commits, {refused} refused", flush=True)


def hold(root: Path) -> None:
    """Hold the job's run until the file ``end`` appears."""
    with JobService(root, sync="none") as service, service.hold_run(JOB):
        (root.parent / "held").touch()
        while not (root.parent / "end").exists():
            time.sleep(0.02)


# --- on Linux ----------------------------------------------------------------------------------


def start(what: str, root: Path, windows: Any = None) -> Thread:
    tree = root.parent / "tree"

    def call() -> None:
        if windows:
            from windows.run import windows_path  # noqa: PLC0415

            windows.python(SCRIPT, what, windows_path(root), tree=tree)
        else:
            subprocess.run([sys.executable, SCRIPT, what, str(root)], check=False, cwd=tree)

    thread = Thread(target=call)
    thread.start()
    return thread


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", default="3.13")
    parser.add_argument("--into", type=Path, default=Path("/var/tmp/rowjournal-windows"))
    options = parser.parse_args()
    from windows.run import NOT_COPIED, Windows  # noqa: PLC0415  (this file runs on Windows, too)

    windows = Windows(options.into.resolve(), options.python)
    windows.set_up()
    with tempfile.TemporaryDirectory(prefix="two-systems-") as name:
        top = Path(name)
        top.chmod(0o755)
        shutil.copytree(TREE, top / "tree", ignore=NOT_COPIED)
        windows.give(top)
        root = top / "jobs"
        start("make", root, windows).join()  # another user may have to write the files
        before = verify_job(root / JOB).commits
        threads = [start("write", root, maker) for maker in (None, windows, None, windows)]
        for thread in threads:
            thread.join()
        report = verify_job(root / JOB)
        assert not report.findings, report
        assert report.commits == before + 2 * sum(COUNTS.values()), report
        holder = start("hold", root, windows)
        while not (top / "held").exists():
            assert holder.is_alive()
            time.sleep(0.02)
        refused = False
        with JobService(root, sync="none") as service, suppress(JobBusyError):
            refused = True
            with service.hold_run(JOB):
                refused = False
        (top / "end").touch()
        holder.join()
        assert refused, "two runs had the job"
    print("no commit was lost, and the second run was refused")
    return 0


if __name__ == "__main__":
    calls = {"make": make, "write": write, "hold": hold}
    if sys.argv[1:2] and sys.argv[1] in calls:
        calls[sys.argv[1]](Path(sys.argv[2]))
    else:
        sys.exit(main())

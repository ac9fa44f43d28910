"""A program on Linux and one under wine write one job: the second one is refused, never the first::

    python tests/windows/two_systems.py [--python 3.11]

The second one can write as soon as the first has ended, however it ends.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from journal import JobService, StorageError
from journal.verify import verify_job

TREE = Path(__file__).resolve().parents[2]
JOB = "shared"


def write(root: Path, name: str) -> None:
    """Commit and say whether that was refused. Then keep the job open until a file appears."""
    service = JobService(root, sync="none")
    if not (root / JOB).exists():
        service.create_job("Shared", job_id=JOB, row_data=[{"data": {"n": 1}}])
    said = "written"
    try:
        service.set_error(JOB, "E", name)
    except StorageError as error:
        said = str(error)
    (root.parent / "said.new").write_text(said, encoding="utf-8")
    (root.parent / "said.new").rename(root.parent / f"{name}.said")
    while not (root.parent / f"{name}.end").exists():
        time.sleep(0.02)
    os._exit(9)  # as if it was killed


class Writer:
    """A process that calls :func:`write`."""

    def __init__(self, root: Path, number: int, windows: Any = None) -> None:
        self._directory = root.parent
        self._name = f"writer {number}"
        words = [str(TREE / "tests" / "windows" / "two_systems.py"), str(root)]
        if windows:
            from windows.run import windows_path  # noqa: PLC0415

            script = self._directory / "tree" / "tests" / "windows" / "two_systems.py"
            words = [windows_path(script), windows_path(root), self._name]
            call = lambda: windows.python(*words, tree=self._directory / "tree")  # noqa: E731
        else:
            words = [sys.executable, *words, self._name]
            call = lambda: subprocess.run(words, check=False).returncode  # noqa: E731
        self._thread = Thread(target=call)
        self._thread.start()

    def said(self) -> str:
        path = self._directory / f"{self._name}.said"
        while not path.exists():
            assert self._thread.is_alive(), f"{self._name} has ended"
            time.sleep(0.02)
        return path.read_text("utf-8")

    def end(self) -> None:
        (self._directory / f"{self._name}.end").touch()
        self._thread.join()


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
        number = written = made = 0
        # Windows makes the job, since its user may be another one, which may write its own files.
        for first, second in ((windows, None), (None, windows)):
            for _ in range(3):
                writers = [Writer(root, number, first)]
                assert writers[0].said() == "written"
                made = made or verify_job(root / JOB).commits - 1
                writers.append(Writer(root, number + 1, second))
                other = "Windows" if first else "Linux"
                assert f"a program for {other} has this job open" in writers[1].said()
                writers.append(Writer(root, number + 2, first))  # two of one system take turns
                assert writers[2].said() == "written"
                for writer in writers:
                    writer.end()
                number, written = number + 3, written + 2
        report = verify_job(root / JOB)
        assert not report.findings, report
        assert report.commits == written + made, report
        print(f"{written} commits of two systems; {number - written} were refused, none was lost")
    return 0


if __name__ == "__main__":
    if len(sys.argv) == 3 and not sys.argv[1].startswith("-"):
        write(Path(sys.argv[1]), sys.argv[2])
    else:
        sys.exit(main())

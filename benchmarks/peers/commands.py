"""Whole runs of a trivial command for each line: ``journal run``, GNU parallel, ``xargs``.

``journal run`` makes two synced commits a command. ``parallel --joblog`` writes its log unsynced
and after the command, ``xargs`` writes none.
"""

from __future__ import annotations

import subprocess

from benchmarks.setting import JOB, JOURNAL, Clock, Setting, start_python


def _lines(count: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(count))


def ours(setting: Setting, commands: int, workers: int) -> float:
    count = setting.count(commands)
    run = ("run", "-", "--lines", "--job", JOB, "-j", str(workers), "--", "true", "{line}")
    with setting.fresh() as root, Clock() as clock:
        start_python("-c", JOURNAL, "--root", str(root), *run, stdin=_lines(count))
    return clock.s / count


def parallel(setting: Setting, commands: int, workers: int) -> float:
    count = setting.count(commands)
    with setting.fresh() as directory:
        log = directory / "joblog"
        with Clock() as clock:
            _run(("parallel", "--joblog", str(log), "-j", str(workers), "true", "{}"), count)
        assert len(log.read_bytes().splitlines()) == count + 1
    return clock.s / count


def xargs(setting: Setting, commands: int, workers: int) -> float:
    count = setting.count(commands)
    with Clock() as clock:
        _run(("xargs", "-n", "1", "-P", str(workers), "true"), count)
    return clock.s / count


def _run(arguments: tuple[str, ...], count: int) -> None:
    subprocess.run(arguments, input=_lines(count), capture_output=True, check=True)

"""What a Mac lacks is not used: processes in which `tests/macos/sitecustomize.py` took it away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.paths import TESTS, TOP
from support.platforms import needs_proc, needs_shell

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (TESTS / "macos", TOP)))}

COMMIT = """
import fcntl, os, sys
import journal
from journal.fs import system

calls = []
real, open_file = fcntl.fcntl, os.open

def noted(fd, command, argument=0):
    if command == 51:  # F_FULLFSYNC
        calls.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
    return real(fd, command, argument)

fcntl.fcntl = noted
assert sys.platform == "darwin" and not hasattr(os, "fdatasync")
with journal.JobService(sys.argv[1]) as service:
    service.create_job("Mac", job_id="mac", row_data=[{"data": {"n": 1}}])
    print(*calls)
    calls.clear()
    service.start_job("mac")
    service.start_row("mac:1")
    service.complete_row("mac:1", "T")
    print(*calls)
"""

LIFE = """
seq 1 40 | journal --root one run - --lines --job demo -j 4 --limit 25 -- echo {line} || [ $? = 4 ]
mkdir one/demo/artifacts && echo label > one/demo/artifacts/1.txt
journal --root one pack demo -o - | journal --root two unpack -
seq 1 40 | journal --root two run - --lines --job demo -j 4 -- echo {line}
journal --root one pull two/demo
journal --root one verify demo
journal --root one export demo rows.csv
journal --root one list
printf 'torn' >> one/demo/journal.jsonl
journal --root one redo demo --row 1 --yes
journal --root one repair demo
journal --root one delete demo --yes
"""


def python(*arguments: object, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *map(str, arguments)],
        cwd=directory,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_proc
def test_on_a_mac_files_and_directories_are_synced_beyond_the_cache_of_the_drive(
    tmp_path: Path,
) -> None:
    done = python("-c", COMMIT, "jobs", directory=tmp_path)
    assert done.returncode == 0, done.stderr
    created, committed = (line.split() for line in done.stdout.splitlines())
    assert created.index("journal.jsonl") < len(created) - 1 - created[::-1].index("jobs")
    assert committed[-3:] == ["journal.jsonl"] * 3


@needs_shell
def test_a_job_lives_on_a_mac_with_all_that_commands_do(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error -m journal "$@"\n')
    journal.chmod(0o700)
    done = subprocess.run(
        ["sh", "-e", "-c", LIFE],
        cwd=tmp_path,
        env={**ENVIRONMENT, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "rows.csv").read_text().count("completed") == 40

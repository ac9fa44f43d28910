"""Helpers for the tests that move jobs between machines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.commands import journal

from journal import JobService
from journal.transfer import pack_to_file
from journal.transfer.copies import relate
from journal.transfer.pack import Source
from journal.verify import verify_job

JOB = "moved"


def journal_line(
    root: Path, *arguments: str, stdin: Any = None
) -> subprocess.CompletedProcess[str]:
    """Run ``journal`` for the store ``root``; return its output and exit code.

    With ``stdin``, the command runs in a separate process.
    """
    words = ["--root", str(root), *arguments]
    if stdin is None:
        return journal(*words)
    command = [sys.executable, "-W", "error", "-m", "journal", *words]
    return subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=False)


def make_job(root: Path, rows: int = 6, *, job_id: str = JOB) -> None:
    """Make a job in which rows 1 and 2 are completed."""
    with JobService(root, sync="none") as service:
        data = [{"data": {"n": number}} for number in range(1, rows + 1)]
        service.create_job("Moved", job_id=job_id, row_data=data)
        service.start_job(job_id)
        for number in (1, 2):
            complete(service, number, job_id=job_id)


def copied(root: Path, name: str) -> Path:
    return Path(shutil.copytree(root, root.with_name(name)))


def complete(
    service: JobService, number: int, tracking: str | None = None, *, job_id: str = JOB
) -> None:
    service.start_row(f"{job_id}:{number}")
    service.complete_row(f"{job_id}:{number}", tracking or f"T-{number}", cost_cents=number)


def go_on(root: Path, *numbers: int, tracking: str | None = None) -> None:
    """Complete these rows, each with two commits."""
    with JobService(root, sync="none") as service:
        for number in numbers:
            complete(service, number, tracking and f"{tracking}-{number}")


def change(root: Path, act: Callable[[JobService], object]) -> None:
    with JobService(root, sync="none") as service:
        act(service)


def put_artifact(root: Path, name: str, content: bytes, *, job_id: str = JOB) -> Path:
    path = root / job_id / "artifacts" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def packed(root: Path, target: Path) -> Path:
    pack_to_file(root / JOB, target)
    return target


def relation_of(ours: Path, theirs: Path) -> str:
    """How two copies relate to each other, such as "ahead". A copy is a directory or a pack."""
    with Source(ours).copy() as a, Source(theirs).copy() as b:
        return relate(a, b)[0]


def source(path: Path) -> Source:
    return Source(path)


def content_of(root: Path, job_id: str = JOB) -> dict[str, bytes]:
    """Return a dict from the relative path of each file in a job to its content.

    Files that can be deleted without loss are left out.
    """
    directory = root / job_id
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in ("run.lock", "index.hint", "sync.mark")
    }


def states_of(root: Path, job_id: str = JOB) -> list[str]:
    with JobService(root, sync="none") as service:
        return [str(row.status) for row in service.get_rows(job_id)]


def is_well(root: Path, job_id: str = JOB) -> None:
    """Check that the job is undamaged, and that the pull has left no temporary files."""
    assert verify_job(root / job_id).findings == []
    assert staging_of(root) == []
    assert not (root / job_id / ".pull").exists()


def staging_of(root: Path) -> list[str]:
    """Return the names in the store's staging directory. On Windows, leave out the lock."""
    staging = root / ".staging"
    return sorted(set(os.listdir(staging)) - {"run.lock"}) if staging.exists() else []

"""``.pruned.jsonl``: the jobs that were pruned from a store, and the paths of their packs.

A pruned job must not be made anew by accident, because all of its rows would be processed again. So
`prune` appends a line before it deletes a job. The line of a job counts while the job's directory
is missing. A later line with ``struck`` takes the earlier lines back. Lines are only appended, so
neither two processes nor a crash can lose a line.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import msgspec

from journal.errors import JobPrunedError
from journal.format.commits import Position
from journal.format.records import now
from journal.format.values import DECODE_ERRORS
from journal.fs import files
from journal.fs.file_names import PRUNED_NAME
from journal.fs.handles import refusals_of
from journal.fs.locks import LOCK_TIMEOUT_S
from journal.ids import is_shard_id
from journal.text import counted, time_text

_MAX_NAMED = 5  # how many unreadable lines a warning names


class PrunedJob(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line about the job in ``directory``, which is relative to the store.

    - ``at``: the time, as ISO 8601 text.
    - ``pack``: the absolute path of the pack, or None if no pack was made.
    - ``offset``, ``crc``: the end of the job's last commit, and the commit's seal.
    - ``struck``: whether this line takes back the earlier lines about the job.
    """

    directory: str
    at: str
    pack: str | None = None
    offset: int = 0
    crc: int = 0
    struck: bool = False

    @property
    def end(self) -> Position:
        return Position(self.offset, self.crc)

    def error(self, older_copy: str = "") -> JobPrunedError:
        """Return the error to raise. For ``older_copy``, see :class:`JobPrunedError`."""
        return JobPrunedError(self.directory, self.at, self.pack, older_copy)


def note_pruned(root: Path, job_id: str, pack: Path | None, end: Position) -> None:
    """Note that a job is pruned. On return, the line survives a power cut. Raises StorageError."""
    path = None if pack is None else os.fsencode(os.path.abspath(pack))
    text = None if path is None else path.decode(errors="backslashreplace")
    _append(root, PrunedJob(job_id, time_text(now()), text, end.offset, end.crc))


def forget_pruned(root: Path, job_id: str) -> bool:
    """Record that a job doesn't count as pruned any more.

    Returns False if no line says that the job was pruned. Raises StorageError.
    """
    if find_pruned(root, job_id) is None:
        return False
    _append(root, PrunedJob(job_id, time_text(now()), struck=True))
    return True


def _append(root: Path, job: PrunedJob) -> None:
    with refusals_of(root / PRUNED_NAME, "write"):
        files.append_line(root / PRUNED_NAME, msgspec.json.encode(job), LOCK_TIMEOUT_S)


def find_pruned(root: Path, job_id: str) -> PrunedJob | None:
    """Return the line about a pruned job, or None: see :func:`read_pruned`."""
    return read_pruned(root).get(job_id)


def read_pruned(root: Path) -> dict[str, PrunedJob]:
    """Return the lines about jobs that were pruned, by the jobs' directories.

    A line counts only if the caller knows that the job's directory is missing. Lines that can't be
    read are skipped, and a warning names them. Raises StorageError.
    """
    path, found, unreadable = root / PRUNED_NAME, dict[str, PrunedJob](), list[str]()
    with refusals_of(path, "read"):
        for number, line in enumerate(files.lines_of(path), 1):
            try:
                job = msgspec.json.decode(line, type=PrunedJob)
            except DECODE_ERRORS:
                unreadable.append(str(number))
                continue
            if job.struck:
                found.pop(job.directory, None)
            else:
                found[job.directory] = job
    if unreadable:
        numbers = ", ".join(unreadable[:_MAX_NAMED])
        what = counted(len(unreadable), "unreadable line|lines was|were")
        warnings.warn(
            f"{path}: {what} skipped, which may name pruned jobs: {numbers}", stacklevel=3
        )
    return found


def check_not_pruned(root: Path, job_id: str) -> None:
    """Raise JobPrunedError if the job, or a shard of the set, was pruned: see :func:`find_pruned`."""
    for name, pruned in read_pruned(root).items():
        if name == job_id or name.startswith(f"{job_id}/"):
            raise pruned.error()


def check_may_be_made(root: Path, job_id: str) -> None:
    """Raise JobPrunedError if the job was pruned, or if another pruned job may have had the rows.

    For a shard, the other job is a job with the name of the shard's set, or a shard of a set of
    this name with another count of shards.
    """
    check_not_pruned(root, job_id)
    if not is_shard_id(job_id):
        return
    set_id, _, name = job_id.partition("/")
    count = name.rpartition("-")[2]
    for pruned in read_pruned(root).values():
        other, _, name = pruned.directory.partition("/")
        if other == set_id and (not name or name.rpartition("-")[2] != count):
            raise pruned.error()

"""Copies of one job: opened, verified, and related by their seals.

Seals are chained: each one covers all commits before it. So two copies with the same seal at the
same offset are the same up to there. That is evidence against accidents (of 2^32 pairs that differ,
one has equal seals), not against forgery. The last common seal, the fork, is found by bisection:
with few reads, however long the history is.

Damage in what both copies hold isn't looked for here; `journal verify` does that.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple

from journal.errors import (
    FormatVersionError,
    InvalidValueError,
    JobLockedError,
    JournalDamagedError,
)
from journal.format.commits import START, Position, Readable, verified_blocks
from journal.format.decode import UndecodableError, UnknownRecordError, decode_record, read_error
from journal.format.extent import has_seal, seal_after, seal_before, seals_before
from journal.format.records import JobRecord
from journal.format.torn_tail import judge_tail, tail_error
from journal.fs.handles import JournalFile, open_journal
from journal.fs.locks import LOCK_TIMEOUT_S, wait_for_lock
from journal.fs.names import JOURNAL_NAME
from journal.ids import is_job_id


class Copy(NamedTuple):
    """A job's journal as of its last commit. ``name`` is what the user called the copy."""

    name: str
    directory: Path
    file: JournalFile
    header: JobRecord
    end: Position


def open_copy(directory: Path, name: str = "", lock_timeout_s: float = LOCK_TIMEOUT_S) -> Copy:
    """Open the copy in a directory; other processes may write to it meanwhile.

    Reads the beginning and the end of the journal. Raises JobNotFoundError, JournalDamagedError,
    FormatVersionError, JobLockedError, StorageError.
    """
    name = name or os.fspath(directory)
    file = open_journal(directory / JOURNAL_NAME, name)
    try:
        end = _end_of(file, locked=False)
    except (JournalDamagedError, FormatVersionError):
        # A writer may have truncated the file meanwhile: look again with writers locked out.
        if not wait_for_lock(file, lock_timeout_s):
            raise JobLockedError(name, lock_timeout_s) from None
        try:
            end = _end_of(file, locked=True)
        finally:
            file.unlock()
    return Copy(name, directory, file, _header_of(file, end), end)


def _header_of(file: JournalFile, end: Position) -> JobRecord:
    try:
        header = decode_record(file.find_line(0) or b"")
    except (UndecodableError, UnknownRecordError) as error:
        first = judge_tail(file, end.offset, START)  # the whole file tells what that means
        if first.good:
            raise read_error(file.path, 1, 0, error) from None
        raise tail_error(file, START, first) from None
    if not isinstance(header, JobRecord):
        raise JournalDamagedError(file.path, 1, 0, "a job record", "another record")
    if not is_job_id(header.id):  # it becomes the name of a directory
        raise JournalDamagedError(file.path, 1, 0, "a job's id", repr(header.id[:100]))
    return header


def _end_of(file: JournalFile, *, locked: bool) -> Position:
    """The end of the last commit. Raises JournalDamagedError and FormatVersionError for what
    follows it, unless that is a torn tail.

    A commit that lacks its LF counts only if writers are ``locked`` out: one may be writing it.
    """
    size = file.size_bytes()
    end = _last_commit(file, size)
    if end.offset == size:
        return end
    tail = judge_tail(file, size, end)
    if tail.kind == "torn":
        return end
    if tail.kind == "unended" and locked:
        file.unended_at = size
        return Position(size + 1, tail.crc)
    raise tail_error(file, end, tail)


def _last_commit(file: Readable, size: int) -> Position:
    """The end of the last commit that matches its seal, searched from the end of the file."""
    seals = seals_before(file, size)
    end = next(seals, None)
    while end is not None:
        before = next(seals, None)
        last = before or START
        for block in verified_blocks(file, last, end.offset):
            last = block.after
        if last == end:
            return end
        end = before
    return START


def holds(copy: Copy, position: Position) -> bool:
    """Whether the copy has this seal at this offset: then it is the same up to there."""
    return position.offset <= copy.end.offset and has_seal(copy.file, position)


Relation = Literal["identical", "ahead", "behind", "diverged"]


def find_fork(ours: Copy, theirs: Copy) -> Position:
    """Where the last common commit of two copies ends. Raises StorageError."""
    low, high = START, min(ours.end.offset, theirs.end.offset)
    middle = high  # first: mostly one copy is the beginning of the other
    while low.offset < high:
        seal = seal_before(ours.file, middle, low.offset)
        if seal is None:  # inside a large commit: its end, if it has one, decides
            seal = seal_after(ours.file, middle, high)
            if seal is None or not holds(theirs, seal):
                break
            low = seal
        elif holds(theirs, seal):
            low = seal
        else:
            high = seal.offset - 1
        middle = (low.offset + high + 1) // 2
    return low


def relate(ours: Copy, theirs: Copy) -> tuple[Relation, Position]:
    """The relation of ours to theirs, and their fork. Raises InvalidValueError (different jobs)."""
    if ours.header.id != theirs.header.id:
        raise InvalidValueError(
            theirs.name, theirs.header.id, f"is another job than {ours.header.id!r} of {ours.name}"
        )
    if ours.header != theirs.header:
        raise InvalidValueError(
            theirs.name,
            theirs.header.id,
            f"has the id of the job in {ours.name} and was made on its own: their first lines "
            "differ, so neither is a copy of the other",
        )
    fork = find_fork(ours, theirs)
    if fork == ours.end:
        return ("identical" if fork == theirs.end else "behind"), fork
    return ("ahead" if fork == theirs.end else "diverged"), fork

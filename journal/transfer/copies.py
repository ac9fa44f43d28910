"""Opens copies of a job, and finds their last common commit by the seals.

Each seal (the chained CRC-32 at the end of a commit) covers all commits before it. So two copies
with the same seal at the same offset are the same up to that offset. By accident, two different
histories have equal seals with a probability of 1 in 2^32. Equal seals don't rule out forgery.

The end of the last common commit is the **fork**. This commit is found by bisection, which takes
few reads even in a long history. The common part isn't checked for damage here. `journal verify`
checks it.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Literal, NamedTuple

from journal.errors import (
    InvalidValueError,
    JournalDamagedError,
)
from journal.format.commits import (
    START,
    Position,
    Readable,
    cut_error,
    has_seal,
    seal_after,
    seal_before,
    seals_before,
    verified_blocks,
)
from journal.format.decode import UndecodableError, UnknownRecordError, decode_record, read_error
from journal.format.records import JobRecord
from journal.format.torn_tail_or_damage import judge_tail, tail_error
from journal.fs.handles import JournalFile
from journal.fs.locks import LOCK_TIMEOUT_S
from journal.ids import is_job_id
from journal.index.hint import find_cut
from journal.store.log import Log


class Copy(NamedTuple):
    """A copy of a job, up to its last commit. ``name`` is the copy's name in messages."""

    name: str
    directory: Path
    file: JournalFile
    header: JobRecord
    end: Position


def open_copy(
    directory: Path,
    name: str = "",
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    *,
    locked: bool = False,
    may_be_cut: bool = False,
) -> Copy:
    """Open the copy in a directory. Other processes may write to the copy.

    Only the beginning and the end of the journal are read. Pass ``locked`` if you hold the commit
    lock. Raises JobNotFoundError, JournalDamagedError, FormatVersionError, JobLockedError,
    StorageError. Also raises JournalDamagedError if the journal was cut, because only the hint in
    this directory proves the cut, and a copy would lack this proof. With ``may_be_cut``, a cut
    journal is accepted.
    """
    log = Log(directory, sync=False, lock_timeout_s=lock_timeout_s)
    found = _find_end(log, log.size(), locked=locked)
    cut = None if may_be_cut else find_cut(directory, log.file)
    if not found or cut is not None:
        with nullcontext(log.size()) if locked else log.locked() as size:
            _find_end(log, size, locked=True)
            cut = None if may_be_cut else find_cut(directory, log.file)
    if cut is not None:
        raise cut_error(log.file, log.end.offset, cut)
    name = name or os.fspath(directory)
    return Copy(name, directory, log.file, _header_of(log.file, log.end), log.end)


def _find_end(log: Log, size: int, *, locked: bool) -> bool:
    log.begin_at(_last_commit(log.file, size))
    return log.read(size, lambda _: None, locked=locked)


def _header_of(file: JournalFile, end: Position) -> JobRecord:
    try:
        header = decode_record(file.find_line(0) or b"")
    except (UndecodableError, UnknownRecordError) as error:
        first = judge_tail(file, end.offset, START)  # the verdict applies to the whole file
        if first.good:
            raise read_error(file.path, 1, 0, error) from None
        raise tail_error(file, START, first) from None
    if not isinstance(header, JobRecord):
        raise JournalDamagedError(file.path, 1, 0, "a job record", "another record")
    if not is_job_id(header.id):  # the id becomes the name of a directory
        raise JournalDamagedError(file.path, 1, 0, "a job's id", repr(header.id[:100]))
    return header


def _last_commit(file: Readable, size: int) -> Position:
    """Search backwards for the last valid commit, and return the position after it."""
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
    """Return whether the copy has a commit with the end and seal (CRC-32) that ``position`` states.

    If True, all bytes before ``position`` are the same as in the copy from which ``position``
    comes.
    """
    return position.offset <= copy.end.offset and has_seal(copy.file, position)


Relation = Literal["identical", "ahead", "behind", "diverged"]


def find_fork(ours: Copy, theirs: Copy) -> Position:
    """Return the fork, which is the end of the last common commit of two copies.

    Raises StorageError.
    """
    low, high = START, min(ours.end.offset, theirs.end.offset)
    middle = high  # try the end first: usually one copy is the beginning of the other
    while low.offset < high:
        seal = seal_before(ours.file, middle, low.offset)
        if seal is None:  # a large commit is around ``middle``: compare the seal at its end
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
    """Return how our copy relates to the other copy, and the fork (see :func:`find_fork`).

    Raises InvalidValueError if these are copies of different jobs.
    """
    if ours.header != theirs.header:
        raise InvalidValueError(
            theirs.name,
            theirs.header.job_id,
            f"is another job than {ours.header.job_id!r} of {ours.name}: their first lines differ, so "
            "neither is a copy of the other",
        )
    fork = find_fork(ours, theirs)
    if fork == ours.end:
        return ("identical" if fork == theirs.end else "behind"), fork
    return ("ahead" if fork == theirs.end else "diverged"), fork

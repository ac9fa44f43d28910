"""Copies of one job: opened, verified, and related by their seals.

Seals are chained: each one covers all commits before it. So two copies with the same seal at the
same offset are the same up to there. That is evidence against accidents (of 2^32 pairs that differ,
one has equal seals), not against forgery. The last common seal, the fork, is found by bisection:
with few reads, however long the history is.

Damage in what both copies hold isn't looked for here; `journal verify` does that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from journal.errors import (
    FormatVersionError,
    InvalidValueError,
    JobLockedError,
    JobNotFoundError,
    JournalDamagedError,
)
from journal.format.commits import CHUNK_BYTES, START, Block, Position, Readable, verified_blocks
from journal.format.decode import (
    UndecodableError,
    UnknownRecordError,
    decode_record,
    read_error,
)
from journal.format.records import SEALED_LINE_END, JobRecord, Record, sealed_end
from journal.format.scan import header_error, judge_tail
from journal.fs.handles import JournalFile, refusals_of
from journal.fs.locks import LOCK_TIMEOUT_S, wait_for_lock
from journal.fs.names import JOURNAL_NAME
from journal.ids import is_job_id
from journal.index.index import Index
from journal.index.replay import BadRecordError, apply

SEALED_END_BYTES = len(sealed_end(0))


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
    path = directory / JOURNAL_NAME
    with refusals_of(path, "open"):
        try:
            file = JournalFile(path)
        except (FileNotFoundError, NotADirectoryError):
            raise JobNotFoundError(name) from None
    try:
        end = _end_of(file, locked=False)
    except (JournalDamagedError, FormatVersionError):
        # A writer may have truncated the file while it was read: look again with writers locked out.
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
        raise header_error(file.path, file, end.offset, error) from None
    if not isinstance(header, JobRecord):
        raise JournalDamagedError(file.path, 1, 0, "a job record", "another record")
    if not is_job_id(header.id):  # it becomes the name of a directory
        raise JournalDamagedError(file.path, 1, 0, "a job's id", repr(header.id[:100]))
    return header


def _end_of(file: JournalFile, *, locked: bool) -> Position:
    """The end of the last commit. Raises JournalDamagedError and FormatVersionError for what
    follows it, unless that is a torn tail.

    A commit that lacks its LF counts only if writers are ``locked`` out: else one may be writing it.
    """
    size = file.size_bytes()
    end = _last_commit(file, size)
    if end.offset == size:
        return end
    verdict = judge_tail(file, size, end)
    if verdict.torn:
        return end
    if verdict.unended and locked:
        file.unended_at = size
        return Position(size + 1, verdict.span.crc)
    if verdict.newer is not None:
        raise FormatVersionError(file.path, verdict.newer)
    raise _damaged(file, end, verdict.span.reason)


def _last_commit(file: Readable, size: int) -> Position:
    """The end of the last commit that matches its seal, searched from the end of the file."""
    seals = _seals_before(file, size)
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


def seal_before(file: Readable, limit: int, floor: int = 0) -> Position | None:
    """The last seal that ends after ``floor`` and not after ``limit``, unverified."""
    return next(_seals_before(file, limit, floor), None)


def _seals_before(file: Readable, limit: int, floor: int = 0) -> Iterator[Position]:
    """The seals that end after ``floor`` and not after ``limit``, unverified, the last one first."""
    high = limit
    while high > floor:
        low = max(floor, high - CHUNK_BYTES)
        begin = max(low - SEALED_END_BYTES + 1, 0)  # a seal may lie across two chunks
        data = file.read_at(begin, high - begin)
        for found in reversed(list(SEALED_LINE_END.finditer(data))):
            yield Position(begin + found.end(), int(found[1], 16))
        high = low


def seal_after(file: JournalFile, offset: int, limit: int) -> Position | None:
    """The first seal that ends after ``offset`` and not after ``limit``, unverified."""
    while offset < limit:
        begin = max(offset - SEALED_END_BYTES + 1, 0)
        high = min(offset + CHUNK_BYTES, limit)
        match = SEALED_LINE_END.search(file.read_at(begin, high - begin))
        if match is not None:
            return Position(begin + match.end(), int(match[1], 16))
        offset = high
    return None


def holds(copy: Copy, position: Position) -> bool:
    """Whether the copy has this seal at this offset: then it is the same up to there."""
    if position.offset > copy.end.offset:
        return False
    begin = position.offset - SEALED_END_BYTES
    seal = copy.file.read_at(begin, SEALED_END_BYTES) if begin >= 0 else b""
    return position == START or seal == sealed_end(position.crc)


def blocks_since(copy: Copy, begin: Position) -> Iterator[Block]:
    """The commits from ``begin`` to the copy's end.

    Raises JournalDamagedError if the commits don't lead to that end.
    """
    position = begin
    for block in verified_blocks(copy.file, begin, copy.end.offset):
        yield block
        position = block.after
    if position != copy.end:
        raise _damaged(copy.file, position, "something else")


def records_since(copy: Copy, begin: Position) -> Iterator[tuple[int, bytes, Record]]:
    """The offset, the line and the record of each line from ``begin`` to the copy's end.

    Raises JournalDamagedError and FormatVersionError.
    """
    for block in blocks_since(copy, begin):
        offset = block.offset
        for line in block.lines:
            try:
                yield offset, line, decode_record(line)
            except (UndecodableError, UnknownRecordError) as error:
                number = copy.file.count_lines(offset) + 1
                raise read_error(copy.file.path, number, offset, error) from None
            offset += len(line) + 1


def replay_copy(copy: Copy, index: Index | None = None, begin: Position = START) -> Index:
    """Apply the records from ``begin`` on to ``index``, which is as of there (default: a new one).

    Raises JournalDamagedError and FormatVersionError if they make no sense.
    """
    index = Index() if index is None else index
    try:
        for block in blocks_since(copy, begin):
            apply(index, block.offset, block.lines, is_ascii=block.ascii)
    except BadRecordError as error:
        line = copy.file.count_lines(error.offset) + 1
        raise read_error(copy.file.path, line, error.offset, error.why) from None
    return index


def _damaged(file: JournalFile, position: Position, found: str) -> JournalDamagedError:
    return JournalDamagedError(
        file.path,
        file.count_lines(position.offset) + 1,
        position.offset,
        f"a commit that continues crc {position.crc:08x}",
        found,
    )


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
    """The relation of ours to theirs, and their fork. Raises InvalidValueError for different jobs."""
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

"""One copy of a job, wherever it lies and whatever its directory is called: its journal, and its end.

Seals are chained. So two copies that have the same seal at the same offset are the same up to
there, and where a copy ends can be seen from its end, without reading what is before. That is
evidence against accidents (of 2^32 pairs that differ one has equal seals), not proof against
forgery: so what is ours is never replaced by what is taken for the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from journal.errors import (
    FormatVersionError,
    JobLockedError,
    JobNotFoundError,
    JournalDamagedError,
    JournalError,
)
from journal.format.arguments import is_job_id
from journal.format.commits import CHUNK_BYTES, START, Block, Position, Readable, verified_blocks
from journal.format.decode import (
    UndecodableError,
    UnknownRecordError,
    decode_record,
    read_error,
)
from journal.format.records import JOURNAL_NAME, SEALED_LINE_END, JobRecord, sealed_end
from journal.format.scan import header_error, judge_tail
from journal.fs.handles import JournalFile, storage_error
from journal.fs.locks import wait_for_lock
from journal.index.index import Index
from journal.index.replay import BadRecordError, apply

SEALED_END_BYTES = len(sealed_end(0))


class Copy(NamedTuple):
    """A job's journal as of its last commit. ``name`` is how a person called the copy."""

    name: str
    directory: Path
    file: JournalFile
    header: JobRecord
    end: Position


def open_copy(directory: Path, name: str = "", lock_timeout_s: float = 10.0) -> Copy:
    """The copy in a directory, read from both its ends; it may be written to meanwhile.

    Raises JobNotFoundError, JournalDamagedError, FormatVersionError, StorageError.
    """
    path = directory / JOURNAL_NAME
    name = name or os.fspath(directory)
    try:
        file = JournalFile(path)
    except (FileNotFoundError, NotADirectoryError):
        raise JobNotFoundError(name) from None
    except OSError as error:
        raise storage_error(path, "open", error) from error
    return copy_of(file, name, lock_timeout_s)


def copy_of(file: JournalFile, name: str, lock_timeout_s: float = 10.0) -> Copy:
    """As :func:`open_copy`, of a journal that is open."""
    end, problem = _end_of(file, locked=False)
    if problem is not None:  # perhaps it was read across a writer's truncation: look again
        if not wait_for_lock(file, lock_timeout_s):
            raise JobLockedError(name, lock_timeout_s)
        try:
            end, problem = _end_of(file, locked=True)
        finally:
            file.unlock()
    if problem is not None:
        raise problem
    try:
        header = decode_record(file.find_line(0) or b"")
    except (UndecodableError, UnknownRecordError) as error:
        raise header_error(file.path, file, end.offset, error) from None
    if not isinstance(header, JobRecord):
        raise JournalDamagedError(file.path, 1, 0, "a job record", "another record")
    if not is_job_id(header.id):  # it becomes the name of a directory
        raise JournalDamagedError(file.path, 1, 0, "a job's id", repr(header.id[:100]))
    return Copy(name, file.path.parent, file, header, end)


def _end_of(file: JournalFile, *, locked: bool) -> tuple[Position, JournalError | None]:
    """The end of the last commit, and what to say of what is behind it if that isn't torn.

    Only with writers locked out it is sure that a commit which lacks its LF isn't being written.
    """
    size = file.size_bytes()
    end = _last_commit(file, size)
    if end.offset == size:
        return end, None
    verdict = judge_tail(file, size, end)
    if verdict.torn:
        return end, None
    if verdict.unended and locked:
        file.unended_at = size
        return Position(size + 1, verdict.span.crc), None
    if verdict.newer is not None:
        return end, FormatVersionError(file.path, verdict.newer)
    return end, _damaged(file, end, verdict.span.reason)


def _last_commit(file: Readable, size: int) -> Position:
    """The last commit that matches its seal, looking from the end."""
    seals = _seals_before(file, size)
    end = next(seals, None)
    while end is not None:
        before = next(seals, None)
        begin = before or START
        last = begin
        for block in verified_blocks(file, begin, end.offset):
            last = block.after
        if last == end:
            return end
        end = before
    return START


def seal_before(file: Readable, limit: int, floor: int = 0) -> Position | None:
    """The last seal that ends behind ``floor`` and not behind ``limit``, unchecked."""
    return next(_seals_before(file, limit, floor), None)


def _seals_before(file: Readable, limit: int, floor: int = 0) -> Iterator[Position]:
    """The seals that end behind ``floor`` and not behind ``limit``, unchecked, the last first."""
    high = limit
    while high > floor:
        low = max(floor, high - CHUNK_BYTES)
        begin = max(low - SEALED_END_BYTES + 1, 0)  # a seal may lie across two chunks
        data = file.read_at(begin, high - begin)
        for found in reversed(list(SEALED_LINE_END.finditer(data))):
            yield Position(begin + found.end(), int(found[1], 16))
        high = low


def seal_after(file: JournalFile, offset: int, limit: int) -> Position | None:
    """The first seal that ends behind ``offset`` and not behind ``limit``, unchecked."""
    while offset < limit:
        begin = max(offset - SEALED_END_BYTES + 1, 0)
        high = min(offset + CHUNK_BYTES, limit)
        match = SEALED_LINE_END.search(file.read_at(begin, high - begin))
        if match is not None:
            return Position(begin + match.end(), int(match[1], 16))
        offset = high
    return None


def holds(copy: Copy, position: Position) -> bool:
    """Whether the copy has this seal at this place: then it is the same up to there."""
    if position.offset > copy.end.offset:
        return False
    begin = position.offset - SEALED_END_BYTES
    seal = copy.file.read_at(begin, SEALED_END_BYTES) if begin >= 0 else b""
    return position == START or seal == sealed_end(position.crc)


def blocks_since(copy: Copy, begin: Position) -> Iterator[Block]:
    """The commits from ``begin`` on, which must lead to the copy's end.

    Raises JournalDamagedError where they don't.
    """
    position = begin
    for block in verified_blocks(copy.file, begin, copy.end.offset):
        yield block
        position = block.after
    if position != copy.end:
        raise _damaged(copy.file, position, "something else")


def replay_copy(copy: Copy, index: Index | None = None, begin: Position = START) -> Index:
    """Read from ``begin`` on, into an index that is as of there, and check that it makes sense.

    Raises JournalDamagedError and FormatVersionError.
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

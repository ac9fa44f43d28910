"""Two copies of a job told apart: the same, one ahead of the other, or gone on in different ways.

Where they part is searched by halves, a few reads however long the history is: seals are chained,
so one that both have at the same place says that all before it is the same, but for one accident in
2^32, or a forgery. Damage in what both hold is for `journal verify` to find.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from journal.errors import (
    FormatVersionError,
    InvalidValueError,
    JobLockedError,
    JobNotFoundError,
    JournalDamagedError,
    JournalError,
)
from journal.format.commits import CHUNK_BYTES, START, Block, Position, Readable, verified_blocks
from journal.format.decode import (
    UndecodableError,
    UnknownRecordError,
    decode_record,
    read_error,
)
from journal.format.records import (
    SEAL_BYTES,
    SEAL_HEAD,
    SEALED_LINE_END,
    JobRecord,
    JobReopenedRecord,
    JobStatusRecord,
    LogRecord,
    RowDataRecord,
    RowRecord,
    RowStatusRecord,
    sealed_end,
)
from journal.format.scan import header_error, judge_tail
from journal.fs.handles import JournalFile, storage_error
from journal.fs.locks import LOCK_TIMEOUT_S, wait_for_lock
from journal.fs.names import JOURNAL_NAME
from journal.ids import is_job_id
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


def open_copy(directory: Path, name: str = "", lock_timeout_s: float = LOCK_TIMEOUT_S) -> Copy:
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


def copy_of(file: JournalFile, name: str, lock_timeout_s: float = LOCK_TIMEOUT_S) -> Copy:
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


Relation = Literal["identical", "ahead", "behind", "diverged"]

_MOST_MESSAGES = 20


class Side(msgspec.Struct):
    """What one copy did since the fork, in counts of records.

    ``size_bytes`` up to its last commit. ``rows_added`` are new rows, ``data_changes`` how often
    rows got other data, ``row_statuses`` how often they got each status ("processing" is an attempt
    begun), ``resets`` how often they were retried or redone, ``job_statuses`` ("pending" if it was
    reopened) and ``messages`` (of the last ``log`` records that are about no row) in their order.
    """

    name: str
    size_bytes: int
    commits: int = 0
    records: int = 0
    rows_added: int = 0
    data_changes: int = 0
    resets: dict[str, int] = msgspec.field(default_factory=dict)
    row_statuses: dict[str, int] = msgspec.field(default_factory=dict)
    job_statuses: list[str] = msgspec.field(default_factory=list)
    messages: list[str] = msgspec.field(default_factory=list)
    first_at: datetime | None = None
    last_at: datetime | None = None


class Fork(msgspec.Struct, frozen=True):
    """Where the last commit that both have ends: ``offset`` in bytes, and ``crc`` as it states it."""

    offset: int
    crc: str


class Comparison(msgspec.Struct, frozen=True):
    """``relation`` is that of ``ours`` to ``theirs``.

    ``line`` is the first that differs (1-based), if they have diverged and somebody has counted.
    """

    job_id: str
    relation: Relation
    fork: Fork
    line: int | None
    ours: Side
    theirs: Side


def find_fork(ours: Copy, theirs: Copy) -> Position:
    """Where the last commit that both copies have ends. Raises StorageError."""
    low, high = START, min(ours.end.offset, theirs.end.offset)
    middle = high  # first: mostly one is the beginning of the other
    while low.offset < high:
        seal = seal_before(ours.file, middle, low.offset)
        if seal is None:  # a large commit: its end, if it has one, decides
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
    """How ours stands to theirs, and their fork. Raises InvalidValueError for different jobs."""
    check_same_job(ours, theirs)
    fork = find_fork(ours, theirs)
    return _relation(ours, theirs, fork), fork


def _relation(ours: Copy, theirs: Copy, fork: Position) -> Relation:
    if fork == ours.end:
        return "identical" if fork == theirs.end else "behind"
    return "ahead" if fork == theirs.end else "diverged"


def check_same_job(ours: Copy, theirs: Copy) -> None:
    """Raise InvalidValueError unless both have the same line 1, but for a seal."""
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


def compare(ours: Copy, theirs: Copy) -> Comparison:
    """Tell two copies of a job apart.

    What only one of them holds is read and verified; of what both hold, a few places are read, and
    no lines are counted. Raises InvalidValueError for different jobs, JournalDamagedError,
    FormatVersionError, StorageError.
    """
    relation, fork = relate(ours, theirs)
    return Comparison(
        ours.header.id,
        relation,
        Fork(fork.offset, f"{fork.crc:08x}"),
        None,
        _since(ours, fork),
        _since(theirs, fork),
    )


def with_line(found: Comparison, ours: Copy) -> Comparison:
    """The comparison with its line, for which all that both hold is read, if they have diverged."""
    if found.relation != "diverged":
        return found
    line = ours.file.count_lines(found.fork.offset) + 1
    return msgspec.structs.replace(found, line=line)


def _since(copy: Copy, fork: Position) -> Side:
    """All that a copy did since the fork."""
    side = Side(copy.name, copy.end.offset)
    statuses: Counter[str] = Counter()
    resets: Counter[str] = Counter()
    for block in blocks_since(copy, fork):
        offset = block.offset
        for line in block.lines:
            try:
                record = decode_record(line)
            except (UndecodableError, UnknownRecordError) as error:
                number = copy.file.count_lines(offset) + 1
                raise read_error(copy.file.path, number, offset, error) from None
            side.commits += line[-SEAL_BYTES:].startswith(SEAL_HEAD)
            if isinstance(record, RowStatusRecord):
                statuses[record.status] += 1
                resets.update([record.reset] if record.reset else ())
            elif isinstance(record, RowDataRecord):
                side.data_changes += 1
            elif isinstance(record, JobReopenedRecord):
                side.job_statuses.append("pending")
            elif isinstance(record, RowRecord):
                side.rows_added += 1
            elif isinstance(record, JobStatusRecord):
                side.job_statuses.append(record.status)
            elif isinstance(record, LogRecord) and record.row is None:
                side.messages = [*side.messages, record.message][-_MOST_MESSAGES:]
            side.records += 1
            side.first_at = side.first_at or record.at
            side.last_at = record.at
            offset += len(line) + 1
    side.row_statuses, side.resets = dict(statuses), dict(resets)
    return side

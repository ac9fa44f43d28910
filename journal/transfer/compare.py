"""Two copies of a job told apart: the same, one ahead of the other, or gone on in different ways.

Where they part is searched by halves, a few reads however long the history is: seals are chained,
so one that both have at the same place says that all before it is the same, but for one accident in
2^32, or a forgery. Damage in what both hold is for `journal verify` to find.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Literal

import msgspec

from journal.errors import InvalidValueError
from journal.format.commits import START, Position
from journal.format.decode import UndecodableError, UnknownRecordError, decode_record, read_error
from journal.format.records import (
    SEAL_BYTES,
    SEAL_HEAD,
    JobReopenedRecord,
    JobStatusRecord,
    LogRecord,
    RowDataRecord,
    RowRecord,
    RowStatusRecord,
)
from journal.transfer.copies import Copy, blocks_since, holds, seal_after, seal_before

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

"""Compares two copies of a job: counts the records of each copy since the last common commit."""

from __future__ import annotations

import os
from collections import Counter
from datetime import datetime

import msgspec

from journal.format.commits import Position
from journal.format.extent import records_between
from journal.format.records import (
    JobReopenedRecord,
    JobStatusRecord,
    LogRecord,
    RowDataRecord,
    RowRecord,
    RowStatusRecord,
    RowStepRecord,
)
from journal.format.seal import crc_digits, is_sealed
from journal.transfer.copies import Copy, Relation, relate
from journal.transfer.source import Source, as_source

_MAX_MESSAGES = 20


class Side(msgspec.Struct):
    """The changes of one copy since the last common commit, as counts of records.

    - ``size_bytes``: the size of the journal up to its last commit.
    - ``rows_added``: the number of new rows.
    - ``data_changes``: how often a row got different data.
    - ``step_states``: a dict from each state of a step to how often a step got this state.
    - ``row_statuses``: a dict from each status to how often a row got this status. "processing"
      counts starts of attempts.
    - ``resets``: a dict from "retry" and "redo" to how often a row was reset in this way.
    - ``job_statuses``: the statuses that the job got, in order. "pending" means that the job was
      reopened.
    - ``messages``: the messages of the last 20 log records about the job itself.
    """

    name: str
    size_bytes: int
    commits: int = 0
    records: int = 0
    rows_added: int = 0
    data_changes: int = 0
    resets: Counter[str] = msgspec.field(default_factory=Counter)
    step_states: Counter[str] = msgspec.field(default_factory=Counter)
    row_statuses: Counter[str] = msgspec.field(default_factory=Counter)
    job_statuses: list[str] = msgspec.field(default_factory=list)
    messages: list[str] = msgspec.field(default_factory=list)
    first_at: datetime | None = None
    last_at: datetime | None = None


class Fork(msgspec.Struct, frozen=True):
    """The fork: the end of the last common commit of two copies.

    ``offset`` is in bytes. ``crc`` has the digits of the seal (the CRC-32 at the end of this
    commit).
    """

    offset: int
    crc: str


class Comparison(msgspec.Struct, frozen=True):
    """The result of :func:`compare_copies`.

    - ``relation``: how ``ours`` relates to ``theirs``, for example "behind".
    - ``line``: the number of the first line that differs (1-based) if the copies diverged, else
      None.
    """

    job_id: str
    relation: Relation
    fork: Fork
    line: int | None
    ours: Side
    theirs: Side


def compare_copies(
    ours: Source | str | os.PathLike[str],
    theirs: Source | str | os.PathLike[str],
    *,
    max_bytes: int | None = None,
) -> Comparison:
    """Compare two copies of a job.

    The commits that only one copy has are read and verified. The common part isn't verified, and
    only a few places of it are read. But if the copies diverged, the whole common part is read, to
    count its lines.

    A pack is refused if the unpacked job would take more than ``max_bytes``. By default, a pack is
    refused if its journal is larger than the free space in the directory for temporary files.

    Raises InvalidValueError if these are copies of different jobs. Also raises PackError,
    JournalDamagedError, FormatVersionError and StorageError.
    """
    with as_source(ours).copy(max_bytes) as a, as_source(theirs).copy(max_bytes) as b:
        relation, fork = relate(a, b)
        return Comparison(
            a.header.id,
            relation,
            Fork(fork.offset, crc_digits(fork.crc)),
            a.file.count_lines(fork.offset) + 1 if relation == "diverged" else None,
            _side(a, fork),
            _side(b, fork),
        )


def _side(copy: Copy, fork: Position) -> Side:
    side = Side(copy.name, copy.end.offset)
    for _, line, record in records_between(copy.file, fork, copy.end):
        side.commits += is_sealed(line)
        if isinstance(record, RowStatusRecord):
            side.row_statuses[record.status] += 1
            if record.decision:
                side.resets[record.decision] += 1
        elif isinstance(record, RowDataRecord):
            side.data_changes += 1
        elif isinstance(record, RowStepRecord):
            side.step_states[record.state] += 1
        elif isinstance(record, JobReopenedRecord):
            side.job_statuses.append("pending")
        elif isinstance(record, RowRecord):
            side.rows_added += 1
        elif isinstance(record, JobStatusRecord):
            side.job_statuses.append(record.status)
        elif isinstance(record, LogRecord) and record.row is None:
            side.messages = [*side.messages, record.message][-_MAX_MESSAGES:]
        side.records += 1
        side.first_at = side.first_at or record.at
        side.last_at = record.at
    return side

"""What can be vouched for in a damaged journal, written to a new one."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from journal.changes import put_log_record, review_open_rows
from journal.errors import FormatVersionError, JobMismatchError
from journal.files import JournalFile
from journal.format import (
    FORMAT,
    LOST_CHECKSUM,
    MAX_ROW_NUMBER,
    SEAL_BYTES,
    JobRecord,
    Record,
    RowRecord,
    RowStatusRecord,
    UndecodableError,
    UnknownRecordError,
    checksum_of,
    decode_record,
    encode_record,
    encode_row,
    now,
    stated_crc,
    time_text,
)
from journal.log import Log
from journal.replay import Readable
from journal.scan import Span, Stretch, lines_of

OpenRows = Literal["review", "keep"]

_SHORTEST_ROW_BYTES = len(encode_row(1, "", b"{}", time_text(now()).encode()))


class Action(msgspec.Struct, frozen=True):
    """What was done about one stretch of the damaged file.

    ``kind``: "lost" could not be kept; "mended" had one flipped bit, and is kept; "removed" was
    put in between commits that fit each other; "torn" was never finished; "unsealed" is kept
    though only it vouches for itself; "converted" is about all of the file. ``line`` (1-based) and
    ``lines`` say where, ``rows`` which rows the lines that can still be read are about.
    """

    kind: Literal["lost", "mended", "removed", "torn", "unsealed", "converted"]
    line: int
    lines: int
    rows: list[int]
    message: str


class _Line(NamedTuple):
    """A line of the damaged file without seal and LF, what its seal states, and its record.

    ``error`` says why there is no record.
    """

    number: int
    text: bytes
    stated: int | None
    record: Record | None
    error: UndecodableError | UnknownRecordError | None

    @property
    def row(self) -> int | None:
        """The row that the line is about."""
        record = self.record
        return record.row if isinstance(record, (RowRecord, RowStatusRecord)) else None

    @property
    def made(self) -> int | None:
        """The row that the line makes."""
        return self.record.row if isinstance(self.record, RowRecord) else None


class _Loss:
    """Neighbouring lines that are lost."""

    def __init__(self) -> None:
        self.line = 0
        self.lines = 0
        self.rows: set[int] = set()
        self.last_made = 0

    def add(self, line: _Line) -> None:
        self.line = self.line or line.number
        self.lines += 1
        if line.row is not None:
            self.rows.add(line.row)
        self.last_made = max(self.last_made, line.made or 0)


class _Bytes:
    """A commit in memory, to be read as a file."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_at(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


class Salvage:
    """Takes the stretches of a damaged journal, in order, and writes what is kept to ``log``.

    Kept is every commit that its seal vouches for, also one with a single flipped bit, which is put
    back; and of a broken commit the rows whose own checksum and neighbours vouch for them.

    A row of which only the outcome is left, or the number, gets a stand-in: no data, the checksum
    ``LOST_CHECKSUM``, and whatever is known of its status, else needs_review. So its number isn't
    given to another row, and what was done is not done again.
    """

    def __init__(self, directory: Path, source: JournalFile, log: Log) -> None:
        self._directory = directory
        self._source = source
        self._log = log
        self._lost_bytes = 0  # since the last row record: they may have been row records
        self._lost_lines = 0
        self._lost_outcomes = False  # whether what happened to a row may be among them
        self.actions: list[Action] = []
        self.stand_ins = array("Q")

    def take(self, stretch: Stretch) -> None:
        """Keep what can be kept of it, and note what was done.

        Raises FormatVersionError, JobMismatchError and StorageError.
        """
        span = stretch.span
        if stretch.kind == "good":
            self._keep_commits(self._read(self._source, span.offset, span.end, span.line))
        elif stretch.mended is not None:
            whole = _Bytes(stretch.mended.data)
            at = span.offset + stretch.mended.at
            self._note("mended", span, f"one flipped bit in byte {at} put back")
            self._keep_commits(self._read(whole, 0, len(stretch.mended.data), span.line))
        elif stretch.kind == "bad":
            self._keep_rows(span)
        elif stretch.kind == "foreign":
            self._leave_out(span)
        else:
            self._note("torn", span, span.reason)

    def finish(self, open_rows: OpenRows) -> int:
        """Put rows in review whose outcome may be lost; return how many.

        Those are all rows that are pending, processing or failed by what is left; only stand-ins,
        which have no data to work on, if nothing but rows is lost, or with "keep", for work that
        may be repeated.
        """
        if not self._lost_lines:
            return 0
        message = f"what happened to it may be among {self._lost_lines} lines that were lost"
        with self._log as log:
            put_log_record(log, f"repaired: {self._lost_lines} lines were lost")
            moved = review_open_rows(log, self.stand_ins, "repaired", message)
            if open_rows == "review" and self._lost_outcomes:
                moved += review_open_rows(log, None, "repaired", message)
        return moved

    # --- commits that are vouched for

    def _keep_commits(self, lines: Iterator[_Line]) -> None:
        """Keep commits that their seals vouch for, unless they are older than what is before."""
        older = _Loss()
        for commit in _commits(lines):
            with self._log as log:
                for line in commit:
                    last_at = log.index.last_at
                    if older.lines or (line.record is not None and line.record.at < last_at):
                        older.add(line)
                    elif reason := self._keep(line):
                        self._lose(line, reason)
        self._note_loss(older, "commits that are older than those before them")

    def _leave_out(self, span: Span) -> None:
        """Note what was put in. If it isn't a copy of older commits, it may be ours and moved."""
        lines = self._read(self._source, span.offset, span.end, span.line)
        loss, last_at = _Loss(), self._log.index.last_at
        for line in lines:
            if line.record.at > last_at if line.record else line.text.startswith(b'{"type":"'):
                loss.add(line)
        if loss.lines:
            self._note_loss(loss, "commits that are not where they were written")
        else:
            self._note("removed", span, span.reason)

    def _lose(self, line: _Line, reason: str) -> None:
        loss = _Loss()
        loss.add(line)
        self._note_loss(loss, reason)

    def _keep(self, line: _Line) -> str:
        """Write one line to the new journal; if it can't be kept, say why."""
        record, index = line.record, self._log.index
        if record is None:
            if isinstance(line.error, UnknownRecordError):
                raise FormatVersionError(self._source.path, str(line.error.args[0]))
            return str(line.error.args[0]) if line.error else ""
        if isinstance(record, JobRecord):
            if index.state is not None:
                return "a job record that is not on line 1"
            if record.id != self._directory.name:
                raise JobMismatchError(self._directory, record.id)
        elif index.state is None:
            self._stand_in_for_job(record.at)
        if isinstance(record, RowRecord):
            if not 0 < record.row <= MAX_ROW_NUMBER or index.position_of(record.row) is not None:
                return f"row {record.row}: out of range, or made a second time"
            self._fill_gap(record.row)
        elif isinstance(record, RowStatusRecord) and index.position_of(record.row) is None:
            if not 0 < record.row <= MAX_ROW_NUMBER:
                return f"row {record.row}: out of range"
            self._stand_in(record.row)
        self._write(line.text, record.at)
        return ""

    def _write(self, text: bytes, at: datetime) -> None:
        offset = self._log.append_row(0, text + b"\n", at)
        self._log.index.apply(offset, [text])

    # --- what no seal vouches for

    def _keep_rows(self, span: Span) -> None:
        """Keep the rows of a bad stretch that vouch for themselves, as one commit."""
        loss = _Loss()
        above: int | None = self._log.index.highest_number
        with self._log:
            lines = self._read(self._source, span.offset, span.end, span.line)
            for line, below in _with_next(lines):
                index = self._log.index
                expected = index.highest_number + 1 - (index.state is None)  # or the job record
                if self._keep_unsealed(line, above, below):
                    missing = line.made - expected if line.made else 0
                    self._note_loss(loss, span.reason, outcomes=loss.lines != missing)
                    loss = _Loss()
                else:
                    loss.add(line)
                    self._lost_bytes += len(line.text) + 1
                above = line.made
            self._note_loss(loss, span.reason)

    def _keep_unsealed(self, line: _Line, above: int | None, below: int | None) -> bool:
        """Keep a line that vouches for itself; ``above`` and ``below`` are its neighbours' rows."""
        record, index = line.record, self._log.index
        if isinstance(record, RowRecord):
            # The checksum says nothing of the number: that has to fit one of the neighbours.
            fits = above == record.row - 1 or below == record.row + 1
            return fits and record.checksum == checksum_of(record.data) and not self._keep(line)
        if isinstance(record, JobRecord) and index.state is None and not self._keep(line):
            message = "the job's name and metadata are kept as they can be read: check them"
            self.actions.append(Action("unsealed", line.number, 1, [], message))
            return True
        return False

    def _note_loss(self, loss: _Loss, reason: str, *, outcomes: bool = True) -> None:
        if not loss.lines:
            return
        self._lost_lines += loss.lines
        self._lost_outcomes |= outcomes
        self.actions.append(Action("lost", loss.line, loss.lines, sorted(loss.rows), reason))
        if loss.last_made and self._log.in_commit:
            self._fill_gap(loss.last_made + 1)

    def _fill_gap(self, number: int) -> None:
        """Stand-ins for the rows below ``number`` whose records are among the bytes that are lost.

        If the gap is wider than as many as fit in there, the job's numbers have gaps of their own.
        """
        highest = self._log.index.highest_number
        if self._log.index.state is not None:
            if 0 < number - 1 - highest <= self._lost_bytes // _SHORTEST_ROW_BYTES:
                for row in range(highest + 1, number):
                    self._stand_in(row)
            self._lost_bytes = 0

    def _stand_in(self, row: int) -> None:
        at = self._log.index.last_at
        line = encode_row(row, LOST_CHECKSUM, b"{}", time_text(at).encode())
        self._write(line[:-1], at)
        self.stand_ins.append(row)

    def _stand_in_for_job(self, at: datetime) -> None:
        job_id = self._directory.name
        record = JobRecord(format=FORMAT, id=job_id, name=job_id, at=at)
        self._write(encode_record(record), at)
        message = "the job record: its name, command and metadata are gone"
        self.actions.append(Action("lost", 1, 0, [], message))

    def _note(self, kind: Literal["mended", "removed", "torn"], span: Span, message: str) -> None:
        self.actions.append(Action(kind, span.line, span.lines, [], message))

    def _read(self, file: Readable, offset: int, end: int, line: int) -> Iterator[_Line]:
        for number, (_, text, _) in enumerate(lines_of(file, offset, end), line):
            stated = stated_crc(text)
            body = text if stated is None else text[:-SEAL_BYTES] + b"}"
            try:
                yield _Line(number, body, stated, decode_record(body), None)
            except (UndecodableError, UnknownRecordError) as error:
                yield _Line(number, body, stated, None, error)


def _commits(lines: Iterable[_Line]) -> Iterator[Iterator[_Line]]:
    """The lines of verified commits, commit by commit."""
    number = 0

    def number_of(line: _Line) -> int:
        nonlocal number
        own = number
        number += line.stated is not None
        return own

    for _, commit in groupby(lines, number_of):
        yield commit


def _with_next(lines: Iterator[_Line]) -> Iterator[tuple[_Line, int | None]]:
    """Each line, and the row that the one behind it makes."""
    held: _Line | None = None
    for line in lines:
        if held is not None:
            yield held, line.made
        held = line
    if held is not None:
        yield held, None

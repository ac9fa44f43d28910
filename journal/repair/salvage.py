"""Writes a new journal from the parts of a damaged journal that can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Literal

import msgspec

from journal.errors import (
    FormatVersionError,
    InvalidValueError,
    JobMismatchError,
    JournalError,
)
from journal.format.bitflip import Unflipped
from journal.format.commits import START, Readable
from journal.format.decode import UnknownRecordError
from journal.format.records import (
    A_REPAIR,
    FORMAT,
    LOST_CHECKSUM,
    REPAIRED,
    REPAIRED_UNKNOWN,
    UNSET_TIME,
    CallRecord,
    ExtensionRecord,
    JobErrorRecord,
    JobRecord,
    RowDataRecord,
    RowRecord,
    RowStepRecord,
    encode_record,
    encode_row,
    row_end,
    writable,
)
from journal.format.torn_tail_or_damage import Region
from journal.format.values import checksum_of, encode_value
from journal.fs.handles import JournalFile
from journal.ids import MAX_ROW_NUMBER, id_of_directory, split_shard_name
from journal.index.columns import FAILED, PENDING, PROCESSING, WAITING
from journal.index.index import Index
from journal.index.replay import apply
from journal.model import JobStatus, RowStatus, Shard
from journal.repair.damaged_lines import (
    DroppedLines,
    Line,
    commits_of,
    read_lines,
    with_next,
)
from journal.store.interrupted_rows import put_in_doubt
from journal.store.journal import Journal
from journal.store.transitions import put_record
from journal.text import time_text

_MAX_ROWS_OF_RECORD = 10_000_000  # a writer makes no record of more rows


class Action(msgspec.Struct, frozen=True):
    """The action of a repair for some lines of the damaged file.

    ``kind`` is one of these words:

    - "lost": the lines could not be kept.
    - "bit_flip": the lines had one flipped bit, or a changed LF, which was restored.
    - "removed": the lines were removed. Either they weren't records, and somebody had inserted them
      between two successive commits. Or they were records of other programs, whose types begin with
      "x_".
    - "torn": the lines were a torn tail (an interrupted write).
    - "unended": a commit lacked its LF.
    - "unsealed": the lines are kept, although they match no seal.
    - "converted": changes by an editor or by a copy in text mode, such as CRs before LFs, were
      undone in the whole file.

    ``line`` is the number of the first line (1-based). ``lines`` is how many lines there are.
    ``rows`` are the numbers of the rows of these lines, as far as the lines are readable.
    """

    kind: Literal["lost", "bit_flip", "removed", "torn", "unended", "unsealed", "converted"]
    line: int
    lines: int
    rows: list[int]
    message: str


class Salvage:
    """Reads the regions of a damaged journal in order, and writes the kept lines to a new journal.

    These lines are kept:

    - Commits that match their seals (the CRC-32 at the end of each commit). A single flipped bit is
      restored.
    - A row in a broken commit, if the row's checksum matches, and the row's number fits the rows
      before and after the row.

    A commit that continues an earlier kept commit instead of the last kept commit isn't kept. Such
    a commit belongs to a different history of the job, or is a copy of a kept commit. The commit
    counts as lost.

    If only the number, the outcome or a step of a row is left, the row gets a **placeholder**. This
    is a row without data, with the checksum ``LOST_CHECKSUM``. The placeholder has the row's
    status, or needs_review if the status is lost. So no other row gets the number, and finished
    work isn't repeated. If a later record gave the row new data, the record is kept, and the row
    has the new data.
    """

    def __init__(self, directory: Path, source: JournalFile, journal: Journal) -> None:
        self._directory = directory
        self._source = source
        self._journal = journal
        self._kept = set[int]()  # the crc in the seal of each kept commit
        self._last_crc = 0  # the crc and the time of the last kept commit
        self._last_at = UNSET_TIME
        self._forked = False  # True if the present commits belong to a different history
        self._outcomes_lost = False  # True if outcomes of rows may be lost
        self.actions: list[Action] = []
        self.placeholders: set[int] = set()

    def take(self, region: Region) -> None:
        """Keep all lines of a region that can be kept, and record the actions.

        Raises FormatVersionError, JobMismatchError and StorageError.
        """
        if region.kind == "newer":
            raise FormatVersionError(self._source.path, region.reason)
        source: Readable = self._source
        if region.flip is not None:
            message = f"{region.flip}: restored"
            self._add(Action("bit_flip", region.line, region.lines, [], message))
            source = Unflipped(source, region.flip)
        elif region.kind in ("unended", "joined"):
            message = "the LF after the seal was missing: added"
            self._add(Action("unended", region.line, region.lines, [], message))
        lines = read_lines(source, region.offset, region.end, region.line)
        if region.good or region.flip is not None:
            self._keep_commits(lines, region.start)
        elif region.kind == "torn" and not self.actions:
            self._add(Action("torn", region.line, region.lines, [], region.reason))
        else:
            for commit in commits_of(lines):
                with self._journal:
                    self._keep_rows(commit, region)

    def take_cut(self, last: Region, rest: Region | None, hinted: Index | None) -> None:
        """Record that everything after the region ``last`` is missing, except ``rest``.

        ``rest`` is a part of a commit. The hint proves the cut. ``hinted`` is the index in the
        hint, or None if the index can't be read. This index names the rows whose last records are
        missing. If a run was working when the hint was written, later commits may be missing, too.
        These commits may be about any row.
        """
        outcomes_lost = self._outcomes_lost
        if rest is not None:
            self.take(rest._replace(kind="bad"))
        rows: list[int] = []
        is_known = False
        with suppress(JournalError):  # a block of the hint may be broken
            if hinted is not None and hinted.state is not None:
                rows = list(self._rows_that_changed(hinted, last.end))
                is_known = hinted.state.status is not JobStatus.RUNNING
        with self._journal:
            for row in filter(self._is_free, rows):
                self._put_placeholder(row)
        message = "the journal was cut here, or an older copy was restored in its place"
        self._add(Action("lost", last.line + last.lines, 0, rows, message))
        self._outcomes_lost = outcomes_lost or not is_known

    def _rows_that_changed(self, hinted: Index, end: int) -> Iterator[int]:
        """Yield the hint's rows that differ from those here or have a record after byte ``end``."""
        index, columns = self._journal.index, hinted.columns
        lost = {
            id_
            for id_, call in hinted.calls.items()
            if max(call.first, call.turn, call.waited) >= end
        }
        for place, status in enumerate(columns.statuses):
            number = columns.number(place)
            here = index.position_of(number)
            offsets = (columns.row_offsets[place], columns.status_offsets[place])
            if (
                here is None
                or index.columns.statuses[here] != status
                or max(*offsets, *columns.offsets_of_steps(place)) >= end
                or columns.call(place) in lost
            ):
                yield number

    def _review(self, rows: Iterable[int] | None, code: str, message: str) -> int:
        """Put rows that are pending, processing or failed in review. Return their number.

        ``rows``: the numbers of the rows to consider, or None for all rows.
        """
        journal, moved = self._journal, 0
        index = journal.index
        places = range(index.row_count) if rows is None else map(index.position_of, rows)
        for position in places:
            open_codes = (PENDING, WAITING, PROCESSING, FAILED)
            if position is not None and index.columns.statuses[position] in open_codes:
                put_in_doubt(journal, position, A_REPAIR, RowStatus.NEEDS_REVIEW, code, message)
                moved += 1
        return moved

    @property
    def is_lossless(self) -> bool:
        """Whether all acknowledged changes were kept, as far as is known."""
        return not any(action.kind in ("lost", "unsealed") for action in self.actions)

    def finish(self) -> int:
        """Put rows in review if their outcome or steps may be lost.

        Return the number of these rows.

        A row is put in review only if it is pending, processing or failed according to the kept
        records. If no outcomes were lost, rows must also meet one more condition: the data of the
        row is lost (the row is a placeholder), or a lost line is known to be about the row. Rows
        that meet this condition get the error code REPAIRED, and all other rows get
        REPAIRED_UNKNOWN.
        """
        for action in self.actions:
            action.rows[:] = sorted(set(action.rows))
        if self.is_lossless:
            return 0
        message = (
            "lines of the journal were lost, and some were about this row: an outcome or a step of "
            "this row may be among them, so another attempt may repeat what was done"
        )
        unknown = (
            "lines of the journal were lost, and none of them is known to be about this row, but "
            "lines that are gone or can't be read may be about any row"
        )
        about_job = "lines of the journal were lost, and rows may be among them"
        with self._journal as journal:
            error = JobErrorRecord(code=REPAIRED, message=about_job, by=A_REPAIR.by, at=UNSET_TIME)
            put_record(journal, error)
            lost = (action.rows for action in self.actions if action.kind == "lost")
            about = self.placeholders.union(*lost)
            moved = self._review(sorted(about), REPAIRED, message)
            if self._outcomes_lost:
                moved += self._review(None, REPAIRED_UNKNOWN, unknown)
        return moved

    # --- commits with matching seals

    def _keep_commits(self, lines: Iterator[Line], start: int) -> None:
        """Keep commits that match their seals, but no commits of a different history.

        ``start``: the crc in the seal before the first commit.
        """
        forked = DroppedLines()
        for commit in commits_of(lines):
            first = next(commit)
            if self._is_fork(start, first):
                self._forked = True
                for line in chain([first], commit):
                    forked.add(line)
                    start = line.stated or 0  # at the end: the crc of the last line
            else:
                start = self._keep_commit(chain([first], commit))
        self._outcomes_lost |= forked.lines > 0
        with self._journal:
            self._note_loss(forked, "commits of another history of this job")

    def _is_fork(self, start: int, first: Line) -> bool:
        """Return whether a commit belongs to a different history.

        ``start``: the crc in the seal of the commit that this commit continues. ``first``: the
        first line of this commit.
        """
        if start == self._last_crc:
            self._forked = False
            return False
        if self._forked or start in self._kept or (start == START.crc and self._kept):
            return True
        return first.record is not None and first.record.at < self._last_at

    def _keep_commit(self, commit: Iterable[Line]) -> int:
        """Keep one commit. Returns the crc in its seal."""
        seal = 0
        with self._journal:
            for line in commit:
                seal = line.stated or 0  # at the end: the crc of the last line
                reason = self._keep(line)
                if reason:
                    loss = DroppedLines()
                    loss.add(line)
                    self._outcomes_lost = True
                    self._note_loss(loss, reason)
        self._kept.add(seal)
        self._last_crc, self._last_at = seal, self._journal.index.last_at
        return seal

    def _keep(self, line: Line) -> str:
        """Write one line to the new journal.

        Returns "", or the reason why the line can't be kept.
        """
        record, index = line.record, self._journal.index
        if record is None:
            if isinstance(line.error, UnknownRecordError):
                raise FormatVersionError(self._source.path, str(line.error.args[0]))
            return str(line.error.args[0]) if line.error else ""
        if isinstance(record, JobRecord):
            if index.state is not None:
                return "a job record that is not on line 1"
            if record.job_id != id_of_directory(self._directory):
                raise JobMismatchError(self._directory, record.job_id)
        elif index.state is None:
            self._put_job_placeholder(record.at)
        if isinstance(record, ExtensionRecord):
            message = "records of other programs, whose types begin with x_: left out"
            self._add(Action("removed", line.number, 1, [], message))
            return ""
        if isinstance(record, RowRecord) and not self._is_free(record.row):
            return f"row {record.row}: the number is out of range or already in use"
        if isinstance(record, CallRecord) and not (
            record.rows or int(record.id, 16) in index.calls
        ):
            return "records of a call whose first record is lost"
        if not isinstance(record, RowRecord):
            ranges, state = line.about, index.state
            distance = 1 if state is None else state.header.numbers[1]
            if sum(last - first for first, last in ranges) > _MAX_ROWS_OF_RECORD * distance:
                return "a record of too many rows"
            rows = (range(first, last + 1, distance) for first, last in ranges)
            for row in chain.from_iterable(rows):
                if index.position_of(row) is None and not self._is_free(row):
                    return f"row {row}: out of range"
                if index.position_of(row) is None:
                    self._put_placeholder(row)
                    if isinstance(record, RowDataRecord):
                        message = "a row's first record; its later data is kept"
                        self._add(Action("lost", line.number, 0, [row], message))
            needs_rows = ranges or isinstance(record, RowStepRecord)
            if needs_rows and index.rows_in(ranges) is None:
                return "a record of rows that don't exist"
        self._write(line.text, record.at)
        if isinstance(record, RowDataRecord) and record.checksum != LOST_CHECKSUM:
            self.placeholders.discard(record.row)  # this record has all fields of the lost record
        return ""

    def _is_free(self, row: int) -> bool:
        return 0 < row <= MAX_ROW_NUMBER and self._journal.index.position_of(row) is None

    def _write(self, text: bytes, at: datetime) -> None:
        offset = self._journal.append_line(text + b"\n", at)
        apply(self._journal.index, offset, [text])

    # --- bytes without a matching seal

    def _keep_rows(self, commit: Iterator[Line], region: Region) -> None:
        """Keep the rows of a broken commit that can be trusted, and record the losses.

        Lines of any kind, and whole commits before or after this commit, may be gone without a
        trace.
        """
        losses = [DroppedLines()]
        begin, lines = 0, 0
        above: int | None = self._journal.index.highest_number
        for line, below in with_next(commit):
            begin, lines = begin or line.number, lines + 1
            if region.kind == "bad" and self._keep_unsealed(line, above, below):
                losses.append(DroppedLines())
            else:
                losses[-1].add(line)
            if not isinstance(line.record, JobRecord):
                above = line.made
        if region.kind == "inserted" and not any(loss.ours for loss in losses):
            message = "lines that are no records, inserted between two commits"
            self._add(Action("removed", begin, lines, [], message))
            return
        self._outcomes_lost = True
        for loss in losses:
            self._note_loss(loss, region.reason)
        if not any(loss.lines for loss in losses):
            message = "rows whose checksums match, in a commit that does not match its seal"
            self._add(Action("unsealed", begin, lines, [], message))

    def _keep_unsealed(self, line: Line, above: int | None, below: int | None) -> bool:
        """Keep a line if it can be trusted. Returns whether the line was kept.

        ``above`` is the number of the row that the previous line adds, and ``below`` the number of
        the row that the next line adds. Each is None if that line adds no row.
        """
        record, index = line.record, self._journal.index
        if isinstance(record, RowRecord):
            # The checksum doesn't cover the number of the row. So the number must fit the rows
            # before and after this row.
            shard = split_shard_name(self._directory.name)
            step = 1 if shard is None else shard[1]
            fits = (above is None or above == record.row - step) and (
                below is None or below == record.row + step
            )
            if not fits or (above is None and below is None) or not self._is_free(record.row):
                return False
            if not _is_as_written(record, line.text):
                return False
            if index.state is None:
                self._put_job_placeholder(record.at)
            # The checksum doesn't cover the time, so the record gets the time of the last record.
            # If a wrong time were kept, later records would repeat it.
            self._write(_at(line.text, index.last_at), index.last_at)
            return True
        if isinstance(record, JobRecord) and index.state is None:
            if not _is_as_written(record, line.text) or self._keep(line):
                return False
            message = "the job's name and metadata are kept as far as they can be read: check them"
            self._add(Action("unsealed", line.number, 1, [], message))
            return True
        return False

    def _add(self, action: Action) -> None:
        """Record an action. Equal actions for successive lines become one action.

        :meth:`finish` sorts the ``rows`` of an action and removes duplicates.
        """
        before = self.actions[-1] if self.actions else None
        if (
            before is not None
            and (before.kind, before.message) == (action.kind, action.message)
            and before.line + before.lines == action.line
        ):
            before.rows.extend(action.rows)
            lines = before.lines + action.lines
            self.actions[-1] = msgspec.structs.replace(before, lines=lines)
        else:
            self.actions.append(action)

    def _note_loss(self, loss: DroppedLines, reason: str) -> None:
        """Record that lines are lost.

        A row that these lines added gets a placeholder without data.
        """
        if not loss.lines:
            return
        self._add(Action("lost", loss.line, loss.lines, self._rows_of(loss), reason))
        if self._journal.index.state is not None:
            for row in sorted(loss.made):
                if self._is_free(row):
                    self._put_placeholder(row)

    def _rows_of(self, loss: DroppedLines) -> list[int]:
        """Return the rows that lost lines name. From a range, only known rows are returned."""
        index, single = self._journal.index, {a for a, b in loss.rows if a == b}
        ranges = [(a, b) for a, b in loss.rows if a != b]
        known = map(index.columns.number, range(index.row_count if ranges else 0))
        return sorted(single.union(n for n in known if any(a <= n <= b for a, b in ranges)))

    def _put_placeholder(self, row: int) -> None:
        at = self._journal.index.last_at
        line = encode_row(row, LOST_CHECKSUM, b"{}", row_end(at))
        self._write(line[:-1], at)
        self.placeholders.add(row)

    def _put_job_placeholder(self, at: datetime) -> None:
        job_id, _, name = id_of_directory(self._directory).partition("/")
        found = split_shard_name(name)
        shard = None if found is None else Shard(*found)
        record = JobRecord(format=FORMAT, id=job_id, name=job_id, shard=shard, at=writable(at))
        self._write(encode_record(record), at)
        message = (
            "the job record: the job's name, command and metadata are lost, and the names of the "
            "columns with the keys"
        )
        self._add(Action("lost", 1, 0, [], message))


def _is_as_written(record: RowRecord | JobRecord, text: bytes) -> bool:
    """Return whether a writer would write the record exactly as ``text``.

    For a row, the checksum must match, too.
    """
    try:
        if isinstance(record, JobRecord):
            return encode_record(record) == text
        data = encode_value(record.data, "data")
        line = encode_row(
            record.row, record.checksum, data, row_end(record.at), record.key, record.place
        )
        return line == text + b"\n" and record.checksum == checksum_of(record.data)
    except (InvalidValueError, OverflowError):  # the record has a value that no writer can write
        return False


def _at(text: bytes, at: datetime) -> bytes:
    """Return the line ``text`` with its time replaced by ``at``.

    ``text`` must have the form that a writer writes.
    """
    moment = time_text(at).encode()
    return text[: -len(moment) - 2] + moment + b'"}'

"""``index.hint``: a job's index up to some commit. Opening the job then reads only later commits.

A hint is a snapshot of the index, and can be deleted. Its first line, the header, is JSON with a
seal (a CRC-32 at the end). The header contains:

- the job's state and the counts,
- the offset and the crc of the last commit that the hint covers,
- the crcs of the two parts that follow.

After the header come the columns, as in memory, in two parts: the statuses, and the other columns.
Each part is read as a whole when it is first used.

A hint is used only if all of this holds:

- The journal is still the same file, by inode. (The journal of a copied job is read completely.)
- The journal contains the last commit that the hint covers.
- The first line of the journal is the same as when the hint was written.
- Nobody has edited the journal since the hint was written. The ctime of the file shows an edit. If
  the journal still ends with the last commit that the hint covers, the ctime must be the same as in
  the hint. If commits were added, the ctime must agree with the time of the journal's last commit.
- The ctime and the time of the last commit aren't ahead of the clock. Times that are ahead of the
  clock can't show whether somebody edited the journal.
- All commits that the hint covers were synced, or the system wasn't restarted since the hint was
  written. A crash of the system may lose unsynced commits.

If somebody has edited the journal after this process read or wrote the journal, no hint is written.

A hint is also a **witness**. The hint names the end of the last commit that was on the disk when
the hint was written. If the journal is still the same file but no longer has this commit, the
journal was cut, or an older copy was written into the file. See :func:`find_cut`. The hint also
names its own inode. So a hint that was copied together with its journal proves nothing.
"""

from __future__ import annotations

import sys
import threading
from array import array
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, partial, reduce
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import msgspec

from journal.errors import JournalError
from journal.format.commits import START, Position, has_seal, time_before
from journal.format.decode import decode_header
from journal.format.records import JobRecord, Moment
from journal.format.seal import (
    content_crc,
    sealed_end,
    stated_crc,
    unsealed,
)
from journal.format.size_limits import MAX_DEPTH
from journal.format.values import DECODE_ERRORS, nests_deeper_than
from journal.fs import files, system
from journal.fs.file_names import HINT_NAME
from journal.fs.handles import DerivedFile, JournalFile
from journal.index.columns import OF_ROWS, OF_STEPS, OPTIONAL, Columns
from journal.index.index import SUMS, Index
from journal.index.job_state import Calls, JobState, OpenCall, Progress
from journal.index.replay import replay

# The functions at the end of this file decide when a hint is written.
MIN_BYTES = 1 << 18
GROWTH_BYTES = 64 << 20
_TYPES = OF_ROWS | OF_STEPS  # the columns of the second part, in the order of the file
_PIECE_BYTES = 1 << 16  # a piece stays in the CPU's cache while its crc is computed
_MAX_HEADER_BYTES = 1 << 24  # enough for some 100,000 open calls

_EPOCH = datetime.fromtimestamp(0, UTC)
_WRITING_NS = 2_000_000_000


class _Header(Progress, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The first line: the job's progress, the counts of the index, and the journal's identity.

    - ``optional``: the columns in the second part that may be None.
    - ``crcs``: the crcs of the two parts.
    """

    hint: Literal[16]  # increment it when replay makes a different index of the same journal
    byteorder: str  # the byte order of the columns
    offset: int  # the end of the last commit that the hint covers
    crc: int
    synced: int  # the end and the crc of the last commit that is known to have been on the disk
    synced_crc: int
    own_inode: int  # the inode of the hint
    inode: int
    changed_ns: int
    boot_id: str  # the only boot of the system in which the hint is valid; "": valid in any boot
    first_line_bytes: int
    first_line_crc: int
    last_at: Moment
    status_counts: list[int]
    cost_millionths: int
    usage: dict[str, int | float] = msgspec.field(default_factory=dict)  # not written if empty
    before_attempt: dict[int, int] = msgspec.field(default_factory=dict)
    calls: dict[int, OpenCall] = msgspec.field(default_factory=dict)
    rows: int
    steps: int  # the number of records of steps
    highest_number: int
    ascending: bool
    optional: list[str]
    crcs: tuple[int, int]


@cache  # made at the first use, since most listings read no hint
def _header_decoder() -> msgspec.json.Decoder[_Header]:
    return msgspec.json.Decoder(_Header)


class _NotAHintError(Exception):
    """The hint is broken, or doesn't fit the journal."""


def read_hint(
    directory: Path, file: JournalFile, *, is_cut: bool = False
) -> tuple[Index, Position] | None:
    """Return the hint's index, and the position in ``file`` after the last commit in the index.

    Returns None if there is no usable hint. If a part of the hint is broken when it is first used,
    the columns are rebuilt from the journal. With ``is_cut``, the hint of a cut journal is used,
    too: see :func:`find_cut`. Raises StorageError if the system refuses to read the journal.
    """
    # Most jobs have no hint. This check takes a third of the time of an open() that fails.
    if not system.os.path.exists(f"{directory}/{HINT_NAME}"):
        return None
    try:
        stored = DerivedFile(directory / HINT_NAME)
        header, begin = _read_header(stored)
        first = _check(header, file) if not is_cut else _first_record(header, file)
        position = Position(header.offset, header.crc)
        columns = _StoredColumns(header, _Stored(header, stored, begin, file))
    except (OSError, _NotAHintError, ValueError, *DECODE_ERRORS):
        return None
    index = Index(columns)
    index.state = JobState(header=first, **_progress_of(header))
    for name in SUMS:
        setattr(index, name, getattr(header, name))
    index.calls = Calls(header.calls.items())
    return index, position


def _progress_of(source: Progress) -> dict[str, Any]:
    return {name: getattr(source, name) for name in Progress.__struct_fields__}


def _read_header(hint: DerivedFile) -> tuple[_Header, int]:
    """Return the header of a hint, and the offset where the columns begin."""
    data = hint.read_at(0, 1 << 16)
    end = data.find(b"\n")
    if end < 0:
        data = hint.read_at(0, _MAX_HEADER_BYTES)
        end = data.find(b"\n")
    line = data[: max(end, 0)]
    if stated_crc(line) != content_crc(line, 0) or nests_deeper_than(line, MAX_DEPTH):
        raise _NotAHintError
    return _header_decoder().decode(unsealed(line)), end + 1


def _check(header: _Header, file: JournalFile) -> JobRecord:
    """Check that the hint belongs to this journal. Returns the job record."""
    size, changed_ns = file.size_and_change()
    if (
        not 0 < header.offset <= size
        or file.inode != header.inode
        or not has_seal(file, Position(header.offset, header.crc))
        or (size == header.offset and changed_ns != header.changed_ns)
        or (size > header.offset and not _was_written_at(changed_ns, file, size))
        or (header.boot_id and header.boot_id != system.boot_id())
        or header.last_at.tzinfo is not UTC  # later records may get this time, which must be UTC
    ):
        raise _NotAHintError
    return _first_record(header, file)


def _first_record(header: _Header, file: JournalFile) -> JobRecord:
    """Return the job record, if the hint was made of a journal with the same first line."""
    line = file.find_line(0) or b""
    if (len(line), crc32(line)) != (header.first_line_bytes, header.first_line_crc):
        raise _NotAHintError
    record = decode_header(line + b"\n")
    if record is None:
        raise _NotAHintError
    return record


def _was_written_at(changed_ns: int, file: JournalFile, size: int) -> bool:
    """Return whether the file's ctime agrees with the time in the file's last commit.

    A ctime that is later than this time means that somebody has edited the file. An earlier ctime
    means that the commit's time was ahead of the clock. Then an edit after the commit can't be
    noticed.
    """
    at = time_before(file, size)
    if at is None:
        return False
    until_ns = written_ns(at)
    return until_ns - 2 * _WRITING_NS <= changed_ns <= until_ns


def written_ns(at: datetime) -> int:
    """Return the latest time at which a commit with the time ``at`` may have been written.

    The result is in ns since 1970.
    """
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000 + _WRITING_NS


class _StoredColumns(Columns):
    """The columns of a hint. A part of the hint is read when a column of the part is first used.

    Before this use, the columns of the part have no value. So a change of the index can't precede
    the reading.
    """

    __slots__ = ()

    def __init__(self, header: _Header, stored: _Stored) -> None:
        self.stored = stored
        self.has_more = bool(header.optional)
        for name in OPTIONAL.difference(header.optional):
            setattr(self, name, None)

    def __getattr__(self, name: str) -> Any:
        """Read the part of the column ``name``, which has no value yet."""
        if name != "statuses" and name not in _TYPES:
            raise AttributeError(name)
        stored = self.stored
        with stored.mutex:
            if not _has(self, name):  # another thread may have read it
                for column, values in stored.read(name).items():
                    # After an interrupted read, some columns may exist already, and may have
                    # changed since.
                    if not _has(self, column):
                        setattr(self, column, values)
            if all(_has(self, column) for column in ("statuses", *stored.lengths)):
                self.__class__ = Columns  # type: ignore[assignment]  # plain Columns are faster
        return object.__getattribute__(self, name)


def _has(columns: Columns, name: str) -> bool:
    try:
        object.__getattribute__(columns, name)
    except AttributeError:
        return False
    return True


class _Stored:
    """The places of the columns in a hint. ``file`` is the hint's journal."""

    def __init__(self, header: _Header, hint: DerivedFile, start: int, file: JournalFile) -> None:
        rows, steps, optional = header.rows, header.steps, set(header.optional)
        names = [name for name in _TYPES if name not in OPTIONAL or name in optional]
        self.lengths = {name: steps if name in OF_STEPS else rows for name in names}
        sizes = [array(_TYPES[name]).itemsize * self.lengths[name] for name in names]
        if (
            header.byteorder != sys.byteorder
            # Each row and each step takes more than one byte of the journal.
            or not 0 <= rows < header.offset
            or not 0 <= steps < header.offset
            or hint.size_bytes() != start + rows + sum(sizes)
        ):
            raise _NotAHintError
        self._rows, self._crcs, self._starts = rows, header.crcs, (start, start + rows)
        self._hint, self._file = hint, file
        self._position = Position(header.offset, header.crc)
        self.mutex = threading.Lock()  # threads may share a view

    def read(self, name: str) -> dict[str, Any]:
        """Return the columns of the part that has the column ``name``."""
        part = name != "statuses"
        columns: dict[str, Any] = {"statuses": bytearray()}
        if part:
            columns = {each: array(_TYPES[each]) for each in self.lengths}
        if self._fill(columns, self._starts[part]) != self._crcs[part]:
            rebuilt = replay(Index(), self._file, START, self._position).columns
            columns = {each: getattr(rebuilt, each) for each in columns}
        return columns

    def _fill(self, columns: dict[str, Any], offset: int) -> int:
        """Read the columns from ``offset`` on. Returns their crc, or -1 if a read is short."""
        crc = 0
        for name, column in columns.items():
            if name == "statuses":
                fill, size = column.extend, self._rows
            else:
                fill, size = column.frombytes, column.itemsize * self.lengths[name]
            for start in range(0, size, _PIECE_BYTES):
                length = min(_PIECE_BYTES, size - start)
                try:
                    piece = self._hint.read_at(offset, length)
                except OSError:  # in a forked child, for example, the file is closed
                    return -1
                if len(piece) != length:
                    return -1
                fill(piece)
                crc = crc32(piece, crc)
                offset += length
        return crc


# --- the hint as a witness -------------------------------------------------------------------


def identity(directory: Path) -> tuple[int, int]:
    """Return the identity of the hint: inode and ctime in ns, or zeros if there is no hint."""
    try:
        stat = system.os.lstat(directory / HINT_NAME)
    except OSError:
        return 0, 0
    return stat.st_ino, stat.st_ctime_ns


def find_cut(directory: Path, file: JournalFile) -> Position | None:
    """Return the end of a commit that was on the disk and isn't in the journal any more, or None.

    The hint proves this only if the hint was made of this very file. The journal was cut, or an
    older copy was written into the file. A journal that lacks only the LF of the commit isn't cut.

    To rely on the answer, call this with the commit lock held. Raises StorageError.
    """
    synced = _synced_end(directory, file)
    return None if has_seal(file, synced) else synced


def _synced_end(directory: Path, file: JournalFile) -> Position:
    """Return the end of the last commit that was on the disk, according to the hint.

    Returns START if there is no hint, if the hint wasn't made of this very file, or if the hint was
    copied.
    """
    try:
        hint = DerivedFile(directory / HINT_NAME)
        header, _ = _read_header(hint)
        _first_record(header, file)
    except (OSError, _NotAHintError, ValueError, *DECODE_ERRORS):
        return START
    # On file systems without inodes, all inode numbers are 0.
    if not header.inode or (header.inode, header.own_inode) != (file.inode, hint.inode):
        return START
    return Position(header.synced, header.synced_crc)


def remove_hint(directory: Path, file: JournalFile) -> None:
    """Remove the hint before the journal is replaced, unless the hint proves a cut of the journal.

    The inode that the hint names may become the inode of a later journal. Errors are ignored.
    """
    if find_cut(directory, file) is None:
        files.remove_file(directory / HINT_NAME)


# --- writing ---------------------------------------------------------------------------------


def write_hint(
    directory: Path,
    file: JournalFile,
    index: Index,
    position: Position,
    *,
    durable: bool,
    known_ns: int,
) -> None:
    """Write ``index`` to the hint file. The index covers ``file`` up to ``position``.

    Raises no error.

    A hint that proves that the journal was cut isn't replaced. Without this hint, rows whose
    records were cut off would run again.

    ``durable`` says whether the journal is synced up to ``position``. ``known_ns`` is the latest
    ctime of the journal that this process knows. If the journal's ctime is later now, somebody has
    edited the journal, and no hint is written.
    """
    assert index.state is not None
    statuses, others = index.columns.statuses, _others_of(index.columns)
    try:
        before = _synced_end(directory, file)
        if not has_seal(file, before):
            return
        # A hint of unsynced commits keeps the proof of the previous hint.
        synced = max(position if durable else START, before, key=lambda end: end.offset)
        boot_id = "" if position.offset <= synced.offset else system.boot_id()
        if position.offset > synced.offset and not boot_id:
            return
        _, changed_ns = file.size_and_change()
        # The file was edited, or the clock was ahead and an edit couldn't be noticed.
        if changed_ns > known_ns or known_ns > system.now_ns() + _WRITING_NS:
            files.remove_tree(directory / HINT_NAME)
            return
        line = file.find_line(0) or b""
        header = _Header(
            hint=16,
            byteorder=sys.byteorder,
            offset=position.offset,
            crc=position.crc,
            synced=synced.offset,
            synced_crc=synced.crc,
            own_inode=0,
            inode=file.inode,
            changed_ns=changed_ns,
            boot_id=boot_id,
            first_line_bytes=len(line),
            first_line_crc=crc32(line),
            rows=index.row_count,
            steps=len(others.get("step_offsets", ())),
            optional=[name for name in others if name in OPTIONAL],
            crcs=(crc32(statuses), reduce(_crc_after, others.values(), 0)),
            **_progress_of(index.state),
            **{name: getattr(index, name) for name in SUMS},
        )
        parts = [statuses, *others.values()]
        files.replace_derived(directory / HINT_NAME, partial(_content, header, parts))
    except (OSError, JournalError, OverflowError):  # OverflowError: a cost of over 64 bits
        return


def _content(header: _Header, parts: list[Any], inode: int) -> Iterator[bytes | memoryview]:
    body = msgspec.json.encode(msgspec.structs.replace(header, own_inode=inode))[:-1]
    yield body + sealed_end(crc32(body))
    for part in filter(None, parts):
        yield memoryview(part)


def _others_of(columns: Columns) -> dict[str, Any]:
    """Return the columns of the second part, in the order of the file."""
    found = {name: getattr(columns, name) for name in _TYPES}
    if not found["step_offsets"]:  # after an undo, the columns of steps may be empty
        found["step_heads"] = None
    return {name: column for name, column in found.items() if column or name not in OPTIONAL}


def _crc_after(crc: int, column: array[int]) -> int:
    return crc32(column, crc)


# --- when a hint is written --------------------------------------------------------------------


def is_worth_writing(end: int, hint_end: int) -> bool:
    """Return whether a hint is worth writing when the job is closed, and after a long replay.

    The journal is now ``end`` bytes long. The old hint covers the journal up to byte ``hint_end``.
    Replaying less than ``MIN_BYTES`` takes no longer than reading a hint.
    """
    return end - hint_end >= max(MIN_BYTES, end >> 6)


def is_due_while_open(end: int, hint_end: int) -> bool:
    """Return whether the journal has grown enough for a new hint while the job stays open.

    The journal must have grown by ``GROWTH_BYTES`` or 25% since the last hint, whichever is more.
    This limits the replay after a crash. The condition also keeps the cost of writing hints low,
    since writing a hint blocks other writers.
    """
    return end - hint_end >= max(GROWTH_BYTES, hint_end >> 2)

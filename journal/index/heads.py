"""``.heads.hint`` in a store: the jobs, the times when they were created, and their statuses.

The entry of a job is its **head**. A listing doesn't open jobs whose head is in this file. The file
is derived from the journals, and can be deleted. A head is used only if all of this holds:

- The journal is the same file, by inode, and its size and ctime are those in the head. No program
  can set a ctime.
- Its ctime was at least two seconds ago when the head was read. Within a shorter time, a file
  system may give two changes the same ctime.
- The system wasn't restarted since. A crash of the system may lose unsynced commits.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from journal.errors import JournalError
from journal.format.commits import START, verified_lines
from journal.format.decode import (
    UndecodableError,
    UnknownRecordError,
    decode_header,
    decode_record,
)
from journal.format.records import JobRecord, JobReopenedRecord, JobStatusRecord
from journal.format.values import DECODE_ERRORS
from journal.fs import files, system
from journal.fs.files import FileState
from journal.fs.handles import DerivedFile
from journal.fs.names import HEADS_NAME, JOURNAL_NAME
from journal.model import JobStatus

_VERSION = 1
_MIN_READ = 100  # the file is written after this number of new heads, or 1/64 of all
_MAX_BYTES = 1 << 16  # of a journal that is read for its status; larger ones have their own hint
_MAX_HINT_BYTES = 1 << 28  # of this file, for about a million jobs
_SETTLED_NS = 2_000_000_000
_EPOCH = datetime.fromtimestamp(0, UTC)
# The beginnings of records that don't change the status of a job, as this package writes them.
_OTHER_RECORDS = tuple(
    b'{"type":"%b",' % kind
    for kind in (
        b"row",
        b"row_status",
        b"row_step",
        b"row_data",
        b"log",
        b"job_counts",
        b"job_error",
    )
)


class Head(NamedTuple):
    """The facts about a job that a listing needs. ``status`` is "" if it isn't known.

    The other members describe the journal before it was read: see :data:`FileState`.
    """

    created_us: int  # since 1970
    name: str
    status: str
    inode: int
    size: int
    changed_ns: int


class _File(msgspec.Struct):
    """The content of the file after its crc: the newest job first, each member of a head a list."""

    version: int
    boot_id: str
    ids: list[str]
    created_us: list[int]
    names: list[str]
    statuses: list[str]
    inodes: list[int]
    sizes: list[int]
    changed_ns: list[int]


_decode = msgspec.json.Decoder(_File).decode


class Heads:
    """The heads of the jobs in one store."""

    def __init__(self, root: Path) -> None:
        """Read the heads that an earlier listing has left."""
        self._path = root / HEADS_NAME
        self._root_text = str(root)
        self._settled_ns = system.now_ns() - _SETTLED_NS
        self._boot_id = system.boot_id()
        self._found: dict[str, tuple[int | str, ...]] = {}  # members of Head, in that order
        self._new = 0  # how many heads were read from journals

    def known(
        self, job_ids: Iterable[str], *, with_status: bool
    ) -> tuple[list[tuple[str, Any]], list[str]]:
        """The heads of the jobs whose journals haven't changed, newest first, and the ids of the
        others.

        For speed, a head is a tuple of the members of :class:`Head`.
        """
        stored, others = self._read_file(), set(job_ids)
        ids = [job_id for job_id in stored if job_id in others]
        found = []
        states = files.states_in(self._root_text, ids, JOURNAL_NAME)
        for job_id, state in zip(ids, states, strict=True):
            head = stored[job_id]
            if head[3:] == state and (head[2] or not with_status):
                found.append((job_id, head))
        self._found.update(found)
        others.difference_update(self._found)
        return found, sorted(others)

    def read(self, job_id: str, *, with_status: bool) -> Head | None:
        """Read the head from the beginning of a journal; None if the beginning isn't enough."""
        try:
            path = f"{self._root_text}/{job_id}/{JOURNAL_NAME}"
            state, data = files.read_state_and_head(path, _MAX_BYTES if with_status else 1 << 10)
        except OSError:
            return None
        header = decode_header(data)
        if header is None or header.id != job_id:
            return None
        status = _status_in(data) if with_status and state[1] == len(data) else ""
        return None if with_status and not status else self.add(job_id, header, status, state)

    def add(self, job_id: str, header: JobRecord, status: str, state: FileState) -> Head:
        """Store the head of a job. ``state``: the state of the journal before it was read."""
        head = Head(us_since_1970(header.at), header.name, status, *state)
        self._found[job_id] = head
        self._new += 1
        return head

    def state_of(self, job_id: str) -> FileState:
        (state,) = files.states_in(self._root_text, [job_id], JOURNAL_NAME)
        return state

    def save(self) -> None:
        """Write the heads that were found, if many of them are new. Raises no error."""
        if self._new < max(_MIN_READ, len(self._found) >> 6) or not self._boot_id:
            return
        kept = [
            (head[0], job_id, *head[1:])
            for job_id, head in self._found.items()
            if 0 < head[-1] < self._settled_ns  # type: ignore[operator]
        ]
        kept.sort(reverse=True)
        lists: Any = map(list, zip(*kept, strict=True))
        created_us, ids, names, statuses, inodes, sizes, changed_ns = lists if kept else ([],) * 7
        content = _File(
            _VERSION,
            self._boot_id,
            ids,
            created_us,
            names,
            statuses,
            inodes,
            sizes,
            changed_ns,
        )
        body = msgspec.json.encode(content)
        with suppress(OSError, JournalError):
            files.replace_derived(self._path, [b"%08x" % crc32(body), body])

    def _read_file(self) -> dict[str, tuple[Any, ...]]:
        try:
            file = DerivedFile(self._path)
            size = file.size_bytes()
            if size > _MAX_HINT_BYTES:  # a sparse file can be larger than the memory
                return {}
            data = file.read_at(0, size)
            body = memoryview(data)[8:]
            if data[:8] != b"%08x" % crc32(body):
                return {}
            stored = _decode(body)
        except (OSError, *DECODE_ERRORS):
            return {}
        if stored.version != _VERSION or not stored.boot_id or stored.boot_id != self._boot_id:
            return {}
        heads = zip(
            stored.created_us,
            stored.names,
            stored.statuses,
            stored.inodes,
            stored.sizes,
            stored.changed_ns,
            strict=False,
        )
        return dict(zip(stored.ids, heads, strict=False))


def us_since_1970(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _status_in(data: bytes) -> str:
    """The status of the job whose whole journal is ``data``; "" if this function can't find it
    out.
    """
    lines, after, _ = verified_lines(data, START)
    if after.offset != len(data):
        return ""
    for line in reversed(lines):
        if line.startswith(_OTHER_RECORDS):
            continue
        try:
            record = decode_record(line, exact=False)
        except (UndecodableError, UnknownRecordError):
            return ""
        if isinstance(record, JobStatusRecord):
            return record.status
        if isinstance(record, (JobReopenedRecord, JobRecord)):
            return JobStatus.PENDING.value
    return ""

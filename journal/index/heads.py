"""``.heads.hint`` in a store: the ids, names, creation times and statuses of the store's jobs.

The entry of a job is its **head**. A listing doesn't open jobs whose head is in this file. The file
is derived from the journals, and can be deleted. A head is used only if all of this holds:

- The journal is the same file as when the head was read. The inode, the size and the ctime show
  this. No program can choose a ctime.
- When the head was read, the ctime was at least two seconds old. Within a shorter time, a file
  system may give two changes the same ctime.
- The system wasn't restarted since the head was read. A crash of the system may lose unsynced
  commits.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import compress, count
from operator import eq, itemgetter
from pathlib import Path
from typing import Any
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
from journal.fs.files import FileState, States
from journal.fs.handles import DerivedFile
from journal.fs.names import HEADS_NAME, JOURNAL_NAME
from journal.model import JobStatus

_VERSION = 2  # increment it also when the order of JobStatus changes
_MIN_READ = 100  # the file is written if this number of heads, or 1/64 of all heads, are new
_MAX_BYTES = 1 << 16  # larger journals aren't read for the status, since they have a hint
_MAX_HINT_BYTES = 1 << 28  # the maximum size of this file, enough for about a million jobs
_SETTLED_NS = 2_000_000_000
_EPOCH = datetime.fromtimestamp(0, UTC)
_STATUSES = ("", *JobStatus)  # "": not known
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


class _File(msgspec.Struct):
    """The first line of the file, without the crc at its beginning.

    ``ids`` and ``names`` are columns of :class:`Heads`. The other columns follow this line.
    """

    version: int
    boot_id: str
    ids: list[str]
    names: list[str]


_decode = msgspec.json.Decoder(_File).decode


class Heads:
    """The heads of the jobs in one store. A head has the facts that a listing shows of a job.

    The heads are stored as columns, so that a listing makes no object for each job.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / HEADS_NAME
        self._root_text = str(root)
        self._settled_ns = system.now_ns() - _SETTLED_NS
        self._boot_id = system.boot_id()
        self._ids: list[str] = []
        self._names: list[str] = []
        self._created_us = array("q")  # since 1970
        self._statuses = bytearray()  # positions in _STATUSES
        # The states of the journals before they were read.
        self._states: States = (array("q"), array("q"), array("q"))
        self._new = 0  # how many heads were read from journals

    def load(self, job_ids: Iterable[str], *, with_status: bool) -> list[str]:
        """Load the heads that earlier listings have stored.

        Returns the ids in ``job_ids`` for which no stored head is up to date.
        """
        listed = set(job_ids)
        if self._read_file():
            # Where case doesn't count, the old name of a renamed directory still leads to its journal.
            if not listed.issuperset(self._ids):
                is_listed = [job_id in listed for job_id in self._ids]
                self._choose(lambda column: compress(column, is_listed))
            states = files.states_in(self._root_text, self._ids, JOURNAL_NAME)
            if states != self._states or (with_status and not all(self._statuses)):
                known = map(eq, zip(*states, strict=True), zip(*self._states, strict=True))
                if with_status:
                    known = map(all, zip(known, self._statuses, strict=True))
                kept = list(known)
                self._choose(lambda column: compress(column, kept))
        # The ids are sorted, since jobs with similar ids are often close on the disk.
        return sorted(listed.difference(self._ids))

    def _choose(self, choose: Callable[[Sequence[Any]], Iterable[Any]]) -> None:
        """Replace each column by the entries that ``choose(column)`` returns."""
        self._ids = list(choose(self._ids))
        self._names = list(choose(self._names))
        self._created_us = array("q", choose(self._created_us))
        self._statuses = bytearray(choose(self._statuses))
        inodes, sizes, changed_ns = self._states
        self._states = (
            array("q", choose(inodes)),
            array("q", choose(sizes)),
            array("q", choose(changed_ns)),
        )

    def read(self, job_id: str, *, with_status: bool) -> bool:
        """Read the head of a job from the beginning of its journal.

        Returns False if the beginning doesn't contain all facts, or can't be read.
        """
        try:
            path = f"{self._root_text}/{job_id}/{JOURNAL_NAME}"
            state, data = files.read_state_and_head(path, _MAX_BYTES if with_status else 1 << 10)
        except OSError:
            return False
        header = decode_header(data)
        if header is None or header.id != job_id:
            return False
        status = _status_in(data) if with_status and state[1] == len(data) else ""
        if with_status and not status:
            return False
        self.add(header, status, state)
        return True

    def add(self, header: JobRecord, status: str, state: FileState) -> None:
        """Add the head of a job (the facts that a listing shows).

        ``status`` is "" if the status isn't known. ``state`` is the state of the journal before the
        journal was read.
        """
        inode, size, changed_ns = state
        if not 0 < changed_ns < self._settled_ns:
            inode = -1  # no file has this inode, so the next listing won't use the head
        self._ids.append(header.id)
        self._names.append(header.name)
        self._created_us.append(us_since_1970(header.at))
        self._statuses.append(_STATUSES.index(status))
        inodes, sizes, changes = self._states
        inodes.append(inode)
        sizes.append(size)
        changes.append(changed_ns)
        self._new += 1

    def state_of(self, job_id: str) -> FileState:
        (inode,), (size,), (changed_ns,) = files.states_in(self._root_text, [job_id], JOURNAL_NAME)
        return inode, size, changed_ns

    def sort(self) -> None:
        """Put the newest job first."""
        if self._new and len(self._ids) > 1:
            heads = sorted(zip(self._created_us, self._ids, count()), reverse=True)
            self._choose(itemgetter(*[place for _, _, place in heads]))

    def ids(
        self,
        status: JobStatus | None,
        name: str | None,
        since: datetime | None,
        until: datetime | None,
    ) -> list[str]:
        """Return the ids of the jobs that meet all conditions.

        See :func:`journal.store.listing.newest_ids`.
        """
        tests: list[Iterable[bool]] = []
        if status is not None:
            wanted = {0, _STATUSES.index(status)}
            tests.append(map(wanted.__contains__, self._statuses))
        if name is not None:
            tests.append(fnmatchcase(each, name) for each in self._names)
        if since is not None:
            tests.append(map(us_since_1970(since).__le__, self._created_us))
        if until is not None:
            tests.append(map(us_since_1970(until).__gt__, self._created_us))
        return list(compress(self._ids, map(all, zip(*tests, strict=True)))) if tests else self._ids

    def save(self) -> None:
        """Write all heads to the file, if many of them are new. Raises no error."""
        if self._new < max(_MIN_READ, len(self._ids) >> 6) or not self._boot_id:
            return
        line = msgspec.json.encode(_File(_VERSION, self._boot_id, self._ids, self._names))
        body = b"".join([line, b"\n", self._created_us, *self._states, self._statuses])
        with suppress(OSError, JournalError):
            files.replace_derived(self._path, lambda _: [b"%08x" % crc32(body), body])

    def _read_file(self) -> bool:
        """Read all heads from the file. Returns False if the file has no usable heads."""
        try:
            file = DerivedFile(self._path)
            size = file.size_bytes()
            if size > _MAX_HINT_BYTES:  # reading a huge sparse file would fill the memory
                return False
            data = file.read_at(0, size)
            begin = data.find(b"\n") + 1
            if data[:8] != b"%08x" % crc32(memoryview(data)[8:]) or not begin:
                return False
            stored = _decode(memoryview(data)[8:begin])
        except (OSError, *DECODE_ERRORS):
            return False
        if stored.version != _VERSION or not stored.boot_id or stored.boot_id != self._boot_id:
            return False
        count = len(stored.ids)
        columns = (self._created_us, *self._states)
        size_of_head = sum(column.itemsize for column in columns) + 1  # a byte for its status
        if len(stored.names) != count or len(data) - begin != count * size_of_head:
            return False
        self._ids, self._names = stored.ids, stored.names
        for column in columns:
            end = begin + column.itemsize * count
            column.frombytes(data[begin:end])
            begin = end
        self._statuses += data[begin:]
        return True


def us_since_1970(at: datetime) -> int:
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _status_in(data: bytes) -> str:
    """Return the status of the job whose whole journal is ``data``.

    Returns "" if this function can't determine the status.
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

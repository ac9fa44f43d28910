"""``input.mark`` describes the last compared input, so that it needn't be read again if unchanged.

The file ``input.mark`` is the **mark**. It can be deleted, since it is derived from other data. The
mark is used only if a new comparison would find what the mark states. All of these conditions must
be met:

- The input file hasn't changed since it was read (see ``state.py``), and is read in the same way.
- The rules of the comparison are the same. If they contain functions or types, no mark is written,
  since a change of their code can't be noticed.
- No row's data was added or changed in the journal since the last comparison: the latest commit
  with data of a row still has the same offset and the same seal (the checksum at the end of a
  commit). Changes of statuses don't matter.

A mark is written only if the comparison found no changed data, and if the input file didn't change
while it was read.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol
from zlib import crc32

import msgspec

from journal.errors import JournalError
from journal.format.commits import Position
from journal.format.extent import seal_after
from journal.format.seal import content_crc, sealed_end, stated_crc, unsealed
from journal.format.values import load_sha256
from journal.fs import files
from journal.fs.names import INPUT_MARK_NAME
from journal.inputs.read import RowInput
from journal.inputs.state import ReadState, read_state
from journal.store.journal import Journal
from journal.text import encode_json

# Comparing fewer rows takes less than a tenth of a second.
MIN_ROWS = 10_000


class _Service(Protocol):
    """The parts of :class:`JobService` that are used here."""

    root: Path

    def _reading(self, job_id: str) -> AbstractContextManager[Journal]: ...


class _Mark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mark: Literal[1]
    read: ReadState
    rules: str  # SHA-256 of how the input was read and compared
    created_at: str  # of the job
    position: Position  # after the latest commit with data of rows
    gone: int  # rows of the job that the input doesn't have


_decode = msgspec.json.Decoder(_Mark).decode


class Comparison:
    """One comparison of ``rows`` with a job.

    ``rules``: everything else on which the result depends. If one of the rules is neither text nor
    None, or if ``rows`` isn't a :class:`RowInput`, the file ``input.mark`` is neither read nor
    written.
    """

    def __init__(self, rows: object, service: _Service, job_id: str, *rules: object) -> None:
        self._directory = service.root / job_id
        self._reading = partial(service._reading, job_id)  # noqa: SLF001  (this package's own)
        is_comparable = all(rule is None or isinstance(rule, str) for rule in rules)
        self._rows = rows if isinstance(rows, RowInput) and is_comparable else None
        self._rules = rules
        self._before: ReadState | None = None
        self._begin = 0  # the end of the journal

    def gone_if_known(self, created_at: datetime, *, keeps: bool) -> int | None:
        """How many rows are gone from the input; None if ``input.mark`` doesn't show this.

        If the result is None, the caller must compare, and then call :meth:`keep`. With ``keeps``,
        this method may write ``input.mark`` again.
        """
        if self._rows is None:
            return None
        mark = None if self._rows.recheck else _read(self._directory)
        if mark is not None and self._fits(mark, self._rows, created_at):
            with self._reading() as journal:
                is_same = _latest_data(journal) == mark.position
            if is_same:
                for _ in self._rows:  # a check of the rows may depend on the first one
                    break
                if mark.read.sha256 and keeps:
                    self._renew(mark, self._rows)
                return mark.gone
        with self._reading() as journal:
            self.begin(journal.end)
        return None

    def begin(self, end: int) -> None:
        """Call this before the input is read. ``end``: the end of the journal, in bytes."""
        self._begin = end
        self._before = None if self._rows is None else self._rows.begin()

    def keep(self, created_at: datetime, added: int, gone: int = 0) -> None:
        """Write ``input.mark`` after a comparison that found no changed data.

        ``added``: how many rows the comparison has added, in one commit. ``gone``: how many rows
        are gone from the input. Errors of the file system are ignored.
        """
        rows, before = self._rows, self._before
        if rows is None or before is None or rows.state_after(before) != before:
            return
        try:
            with self._reading() as journal:
                position = _position_of_own(journal, self._begin, added)
        except JournalError:
            return
        if position is not None:
            digest = self._digest(rows)
            _write(
                self._directory, _Mark(1, before, digest, created_at.isoformat(), position, gone)
            )

    def _fits(self, mark: _Mark, rows: RowInput, created_at: datetime) -> bool:
        return (
            mark.rules == self._digest(rows)
            and mark.created_at == created_at.isoformat()
            and mark.read == rows.state_after(mark.read)
        )

    def _digest(self, rows: RowInput) -> str:
        text: str = load_sha256()(encode_json([*rows.reading, *self._rules])).hexdigest()
        return text

    def _renew(self, mark: _Mark, rows: RowInput) -> None:
        """If the input file hasn't changed recently, remove its checksum from ``input.mark``."""
        now = read_state(rows.source.path)
        if now is not None and not now.sha256 and now.state == mark.read.state:
            _write(self._directory, msgspec.structs.replace(mark, read=now))


def _latest_data(journal: Journal) -> Position | None:
    """The position after the latest commit with data of a row; None if there are no rows."""
    offsets = journal.index.columns.row_offsets
    return seal_after(journal.file, max(offsets), journal.end) if len(offsets) else None


def _position_of_own(journal: Journal, begin: int, added: int) -> Position | None:
    """The position after the latest commit with data of a row.

    Returns None if there are fewer than ``MIN_ROWS`` rows, or if another process may have written
    data of a row after the offset ``begin``.
    """
    offsets = journal.index.columns.row_offsets
    new = [offset for offset in offsets if offset >= begin]
    if len(offsets) < MIN_ROWS or len(new) != added:
        return None
    latest = _latest_data(journal)
    if new and seal_after(journal.file, min(new), journal.end) != latest:
        return None
    return latest


def _read(directory: Path) -> _Mark | None:
    try:
        line = files.read_small(directory / INPUT_MARK_NAME).removesuffix(b"\n")
        return _decode(unsealed(line)) if stated_crc(line) == content_crc(line, 0) else None
    except (OSError, msgspec.MsgspecError, ValueError):
        return None


def _write(directory: Path, mark: Any) -> None:
    body = msgspec.json.encode(mark)[:-1]
    try:
        files.replace_derived(directory / INPUT_MARK_NAME, [body + sealed_end(crc32(body))])
    except (OSError, JournalError):  # the next start compares again
        return

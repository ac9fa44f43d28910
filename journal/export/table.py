"""Rows as flat objects, for tables: the data's own columns, then what the journal knows.

Which columns there are is known when all rows have been looked at. So each is read once, put by in
a file without a name, and taken from there: what a job does meanwhile, or becomes of it, is no
matter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from journal.errors import InvalidValueError, JournalError
from journal.fs.files import ScratchFile
from journal.history.durations import LastAttempts
from journal.history.redact import HIDEABLE, REDACTED, redacted_members
from journal.model import Job, JobRow, RowStatus, row_statuses
from journal.service import JobService

# What a column's values are, as bits: a column may hold several kinds.
BOOL, INT, WIDE, FLOAT, TEXT, JSON, TIME = (1 << bit for bit in range(7))

# What the journal knows of a row, in the order of the columns.
JOURNAL_COLUMNS = {
    "job_id": TEXT,
    "row_number": INT,
    "status": TEXT,
    "attempts": INT,
    "earlier_attempts": INT,
    "version": TEXT,
    "error_code": TEXT,
    "error_message": TEXT,
    "unknown": BOOL,
    "reason": TEXT,
    "tracking_number": TEXT,
    "label_path": TEXT,
    "cost_cents": INT,
    "result": JSON,
    "created_at": TIME,
    "started_at": TIME,
    "processed_at": TIME,
    "duration_s": FLOAT,
    "idempotency_key": TEXT,
}
PREFIX = "journal_"  # of a journal's column if the data has one of that name
MAX_COLUMNS = 10_000

_OWN_ENDINGS = tuple(JOURNAL_COLUMNS)
_EXACT = 1 << 53  # integers up to here are the same as floats
_WIDEST = 1 << 63  # and below here databases have a type for them
_KINDS = {bool: BOOL, int: INT, float: FLOAT, str: TEXT, list: JSON, dict: JSON}


class _Own(NamedTuple):
    """What JOURNAL_COLUMNS says of a row: a member for each, in their order."""

    job_id: str
    row_number: int
    status: str
    attempts: int
    earlier_attempts: int
    version: str | None
    error_code: str | None
    error_message: str | None
    unknown: bool
    reason: str | None
    tracking_number: str | None
    label_path: str | None
    cost_cents: int | None
    result: Any
    created_at: datetime
    started_at: datetime | None
    processed_at: datetime | None
    duration_s: float | None
    idempotency_key: str


class FlatRows:
    """The rows of some jobs as flat dicts; iterated as often as one likes, they are the same.

    ``columns`` are the data's, in the order in which they come up, then the journal's: each name
    with the kinds of its values (0: only nulls). ``own`` are the names of the journal's columns in
    the order of JOURNAL_COLUMNS; empty with ``data_only``. ``jobs`` are those whose rows they are.
    A context manager, which holds the rows on the disk.
    """

    def __init__(
        self,
        service: JobService,
        job_ids: Iterable[str],
        *,
        statuses: Collection[RowStatus | str] = (),
        names: frozenset[str] = frozenset(),
        data_only: bool = False,
        tabular: bool = True,
        directory: Path | None = None,
        on_error: Callable[[JournalError], object] | None = None,
    ) -> None:
        """Reads all rows, and puts them by in ``directory`` (default: the system's for such files).

        ``names`` (of ``check_fields``) are hidden. ``on_error`` takes the error of a job that can't
        be read or holds too much; it is left out as if it weren't there. Without ``tabular`` only
        such columns of the data are noted as may clash with the journal's. Raises
        InvalidValueError for a status that is none, StorageError, and as reading does.
        """
        self._statuses = row_statuses(statuses or None)
        self._names = names
        self._data_only = data_only
        self._tabular = tabular
        self._hidden: list[str] = []
        self.jobs: list[Job] = []
        self.columns: dict[str, int] = {}
        self._lines = ScratchFile(directory)
        try:
            for job_id in job_ids:
                begin = self._lines.size_bytes
                try:
                    self._take(service, job_id)
                except JournalError as error:
                    if on_error is None:
                        raise
                    self._lines.cut(begin)
                    on_error(error)
        except BaseException:
            self._lines.close()
            raise
        self.own = () if data_only else tuple(self._own_names())
        for name, (known, kind) in zip(self.own, JOURNAL_COLUMNS.items(), strict=False):
            self.columns[name] = kind
            if known in HIDEABLE and not names.isdisjoint((name, known)):
                self._hidden.append(name)
                self.columns[name] = TEXT

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lines.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        decode = msgspec.json.Decoder(tuple[dict[str, Any], _Own | None]).decode
        for line in self._lines.lines():
            flat, own = decode(line)
            if own is not None:
                flat.update(zip(self.own, own, strict=True))
                for name in self._hidden:
                    flat[name] = REDACTED
            yield flat

    def _take(self, service: JobService, job_id: str) -> None:
        """Put by the rows of one job, and take over its columns once all of it is read."""
        job, rows, history = service._look(job_id, self._statuses)  # noqa: SLF001  (ours)
        attempts = None if self._data_only else LastAttempts(history.entries())
        encode = msgspec.json.Encoder().encode
        columns = self.columns.copy()
        for whole in rows:
            row = redacted_members(whole, self._names)
            self._note(row, columns)
            own = None if attempts is None else _own_values(row, attempts)
            self._lines.write(encode((row.data, own)))
        self.columns = columns
        self.jobs.append(job)

    def _note(self, row: JobRow, columns: dict[str, int]) -> None:
        kinds_of = _KINDS
        for name, value in row.data.items():
            if not self._tabular and not name.casefold().endswith(_OWN_ENDINGS):
                continue
            if value is None:
                columns.setdefault(name, 0)
                continue
            kind = kinds_of[type(value)]
            if kind == INT and not -_EXACT <= value <= _EXACT:
                kind = WIDE if -_WIDEST <= value < _WIDEST else JSON
            try:
                columns[name] |= kind
            except KeyError:
                columns[name] = kind
        if len(columns) > MAX_COLUMNS:
            raise InvalidValueError(
                f"row {row.id}",
                "",
                f"brings the table to over {MAX_COLUMNS} columns: export as JSON Lines (.jsonl)",
            )

    def _own_names(self) -> Iterator[str]:
        taken = {name.casefold() for name in self.columns}  # spreadsheets and SQL ignore case
        for name in JOURNAL_COLUMNS:
            while name in taken:
                name = PREFIX + name  # noqa: PLW2901
            yield name


def _own_values(row: JobRow, attempts: LastAttempts) -> _Own:
    started_at, duration_s = attempts.of(row)
    return _Own(
        row.job_id,
        row.row_number,
        row.status.value,
        row.attempts,
        row.earlier_attempts,
        row.version,
        row.error_code,
        row.error_message,
        row.unknown,
        row.reason,
        row.tracking_number,
        row.label_path,
        row.cost_cents,
        row.result,
        row.created_at,
        started_at,
        row.processed_at,
        duration_s,
        row.idempotency_key,
    )

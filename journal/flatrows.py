"""Rows as flat objects, for tables: the data's own columns, then what the journal knows.

Which columns there are is known when all rows have been looked at, so exports go through the rows
twice: neither time are more than a few of them in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from journal.errors import InvalidValueError, JobNotFoundError, JournalError
from journal.model import Job, JobRow, RowStatus, row_status
from journal.redact import REDACTED, redacted
from journal.service import JobService
from journal.timings import LastTries

# What a column's values are, as bits: a column may hold several kinds.
BOOL, INT, WIDE, FLOAT, TEXT, JSON, TIME = (1 << bit for bit in range(7))

# What the journal knows of a row, in the order of the columns.
JOURNAL_COLUMNS = {
    "job_id": TEXT,
    "row_number": INT,
    "status": TEXT,
    "attempts": INT,
    "error_code": TEXT,
    "error_message": TEXT,
    "reason": TEXT,
    "tracking_number": TEXT,
    "label_path": TEXT,
    "cost_cents": INT,
    "result": JSON,
    "created_at": TIME,
    "started_at": TIME,
    "processed_at": TIME,
    "duration_s": FLOAT,
}
PREFIX = "journal_"  # of a journal's column if the data has one of that name
MAX_COLUMNS = 10_000

_OWN_ENDINGS = tuple(JOURNAL_COLUMNS)
_EXACT = 1 << 53  # integers up to here are the same as floats
_KINDS = {bool: BOOL, int: INT, float: FLOAT, str: TEXT, list: JSON, dict: JSON}


class FlatRows:
    """The rows of some jobs as flat dicts; iterated as often as one likes, they are the same.

    ``columns`` are the data's, in the order in which they come up, then the journal's: each name
    with the kinds of its values (0: only nulls). ``own`` are the names of the journal's columns in
    the order of JOURNAL_COLUMNS; empty with ``data_only``.
    """

    def __init__(
        self,
        service: JobService,
        job_ids: Iterable[str],
        *,
        statuses: Collection[RowStatus | str] = (),
        redact: Collection[str] = (),
        data_only: bool = False,
        tabular: bool = True,
        on_error: Callable[[JournalError], object] | None = None,
    ) -> None:
        """Looks at all rows. ``on_error`` takes the error of a job that can't be read; it is left out.

        Without ``tabular`` only such columns of the data are noted as may clash with the journal's.
        Raises InvalidValueError for a status that is none, and as reading does.
        """
        self._service = service
        self._statuses = {row_status(status) for status in statuses}
        self._redact = redact
        self._data_only = data_only
        self._tabular = tabular
        self._known: dict[str, tuple[Job, Sequence[JobRow] | None]] = {}
        self.columns: dict[str, int] = {}
        job_ids = list(job_ids)
        for job_id in job_ids:
            try:
                self._look_at(job_id, keep=len(job_ids) == 1)
            except JournalError as error:
                if on_error is None:
                    raise
                self._known.pop(job_id, None)
                on_error(error)
        self.own = () if data_only else tuple(self._own_names())
        hidden = {name.casefold() for name in redact}
        self._hidden = []
        for name, (known, kind) in zip(self.own, JOURNAL_COLUMNS.items(), strict=False):
            self.columns[name] = kind
            if name in hidden or known in hidden:
                self._hidden.append(name)
                self.columns[name] = TEXT

    def jobs(self) -> Iterator[Job]:
        """The jobs, as they were when their rows were looked at first."""
        return (job for job, _ in self._known.values())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for job_id, (job, rows) in self._known.items():
            again = self._rows(job_id) if rows is None else self._chosen(rows)
            tries = None if self._data_only else LastTries(self._service.get_history(job_id))
            for row in again:
                if row.created_at <= job.updated_at:  # else it wasn't there at the first look
                    yield self._flat(row, tries)

    def _look_at(self, job_id: str, *, keep: bool) -> None:
        job = self._service.get_job(job_id)
        if job is None:
            raise JobNotFoundError(job_id)
        rows = self._all_rows(job_id)
        # One job's rows stay as they are now. Of many, each would hold its file open.
        self._known[job_id] = job, rows if keep else None
        columns = self.columns
        kinds_of = _KINDS
        for row in self._chosen(rows):
            data = redacted(row.data, self._redact) if self._redact else row.data
            for name, value in data.items():
                if not self._tabular and not name.casefold().endswith(_OWN_ENDINGS):
                    continue
                if value is None:
                    columns.setdefault(name, 0)
                    continue
                kind = kinds_of[type(value)]
                if kind == INT and not -_EXACT <= value <= _EXACT:
                    kind = WIDE if -(1 << 63) <= value < 1 << 63 else JSON
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

    def _rows(self, job_id: str) -> Iterator[JobRow]:
        return self._chosen(self._all_rows(job_id))

    def _all_rows(self, job_id: str) -> Sequence[JobRow]:
        (wanted,) = self._statuses if len(self._statuses) == 1 else (None,)
        return self._service.get_rows(job_id, wanted)

    def _chosen(self, rows: Sequence[JobRow]) -> Iterator[JobRow]:
        statuses = self._statuses
        return iter(rows) if len(statuses) < 2 else (row for row in rows if row.status in statuses)

    def _own_names(self) -> Iterator[str]:
        taken = {name.casefold() for name in self.columns}  # spreadsheets and SQL ignore case
        for name in JOURNAL_COLUMNS:
            while name in taken:
                name = PREFIX + name  # noqa: PLW2901
            yield name

    def _flat(self, row: JobRow, tries: LastTries | None) -> dict[str, Any]:
        flat = redacted(row.data, self._redact) if self._redact else dict(row.data)
        if tries is None:
            return flat
        started_at, duration_s = tries.of(row)
        values = (
            row.job_id,
            row.row_number,
            row.status.value,
            row.attempts,
            row.error_code,
            row.error_message,
            row.reason,
            row.tracking_number,
            row.label_path,
            row.cost_cents,
            redacted(row.result, self._redact) if self._redact else row.result,
            row.created_at,
            started_at,
            row.processed_at,
            duration_s,
        )
        flat.update(zip(self.own, values, strict=True))
        for name in self._hidden:
            flat[name] = REDACTED
        return flat

"""Rows as flat records for tables: the columns of the data, then the columns of the journal.

All rows must be read before the set of columns is known. So each row is first written to a
temporary file without a name. The export is made from that file, so later changes of the job don't
matter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from itertools import takewhile
from operator import attrgetter
from pathlib import Path
from types import GenericAlias
from typing import Any

import msgspec

from journal.errors import InvalidValueError, JournalError
from journal.fs.files import ScratchFile
from journal.history.durations import LastAttempts
from journal.history.redact import HIDEABLE, REDACTED, redacted_members
from journal.model import Job, JobRow, RowStatus, row_statuses
from journal.service import JobService
from journal.store.steps import steps_of_rows
from journal.text import Number, encode_json

# The kinds of a column's values, as bits: a column may hold several kinds.
BOOL, INT, WIDE, FLOAT, TEXT, JSON, TIME = (1 << bit for bit in range(7))

# The columns of the journal in their order, with the kinds of their values.
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
    "usage": JSON,
    "result": JSON,
    "created_at": TIME,
    "started_at": TIME,
    "processed_at": TIME,
    "duration_s": FLOAT,
    "idempotency_key": TEXT,
}
# The columns of an export of steps.
STEP_COLUMNS = {
    "job_id": TEXT,
    "row_number": INT,
    "step": TEXT,
    "state": TEXT,
    "attempt": INT,
    "at": TIME,
    "result": JSON,
    "error_code": TEXT,
    "error_message": TEXT,
}
PREFIX = "journal_"  # of the journal's columns, if the data has a column of the same name
MAX_COLUMNS = 10_000

_OWN_ENDINGS = tuple(JOURNAL_COLUMNS)
_first_values = attrgetter(*takewhile(lambda name: name != "started_at", JOURNAL_COLUMNS))
_EXACT = 1 << 53  # floats represent all integers exactly up to this one
_WIDEST = 1 << 63  # databases have a type for integers below this
_KINDS = {type(None): 0, bool: BOOL, int: INT, Number: FLOAT, str: TEXT, list: JSON, dict: JSON}


def _line_type(columns: dict[str, int]) -> GenericAlias:
    """The type of a line of the file: a row's data, and the values of the journal's columns, which
    are plain JSON except for times.
    """
    own = tuple(datetime | None if kind == TIME else Any for kind in columns.values())
    return GenericAlias(tuple, (dict[str, Any], GenericAlias(tuple, own) | None))


class FlatRows:
    """The rows of some jobs as flat dicts. They can be iterated several times.

    - ``columns``: a dict from each column's name to the kinds of its values (0: only nulls). The
      columns of the data come first, in the order in which they occur, then the columns of the
      journal.
    - ``own``: the names of the journal's columns, in the order of JOURNAL_COLUMNS. Empty with
      ``data_only``.
    - ``jobs``: the jobs.

    - ``count``: the number of rows.

    The rows are in a temporary file until :meth:`close`.

    ``table`` is the name of their table in a database. The first ``key_columns`` of ``own`` identify
    a row; the next one has its status.
    """

    table = "rows"
    known = JOURNAL_COLUMNS
    key_columns = 2

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
        """Read all rows into a file in ``directory`` (default: the system's temporary directory).

        - The fields in ``names`` (from ``check_fields``) are hidden.
        - ``on_error`` is called with the error of each job that can't be read or has too many
          columns. The job is left out.
        - Without ``tabular``, ``columns`` holds only the columns of the data whose names may be
          equal to names of the journal's columns.

        Raises InvalidValueError (no such status), StorageError, and the errors of reading a job.
        """
        self._statuses = row_statuses(statuses or None)
        self._names = names
        self._data_only = data_only
        self._tabular = tabular
        self._hidden: list[str] = []
        self._has_parts_of_cents = False
        self.count = 0
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
        for name, (known, kind) in zip(self.own, self.known.items(), strict=False):
            self.columns[name] = kind
            if known == "cost_cents" and self._has_parts_of_cents:
                self.columns[name] = INT | FLOAT
            if known in HIDEABLE and not names.isdisjoint((name, known)):
                self._hidden.append(name)
                self.columns[name] = TEXT

    def close(self) -> None:
        self._lines.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        decode = msgspec.json.Decoder(_line_type(self.known), float_hook=Number.read).decode
        for line in self._lines.lines():
            flat, own = decode(line)
            if own is not None:
                flat.update(zip(self.own, own, strict=True))
                for name in self._hidden:
                    flat[name] = REDACTED
            yield flat

    def _take(self, service: JobService, job_id: str) -> None:
        """Write the rows of one job to the file. Its columns are added if the whole job can be
        read.
        """
        job, rows, history = service._look(job_id, self._statuses)  # noqa: SLF001  (ours)
        attempts = None if self._data_only else LastAttempts(history.entries())
        columns = self.columns.copy()
        for whole in rows:
            row = redacted_members(whole, self._names)
            self._note(row, columns)
            self._has_parts_of_cents |= isinstance(row.cost_cents, float)
            own = None if attempts is None else _own_values(row, attempts)
            self._lines.write(encode_json((row.data, own)))
        self.columns = columns
        self.count += len(rows)
        self.jobs.append(job)

    def _note(self, row: JobRow, columns: dict[str, int]) -> None:
        for name, value in row.data.items():
            if not self._tabular and not name.casefold().endswith(_OWN_ENDINGS):
                continue
            kind = _KINDS[type(value)]
            if kind == FLOAT and not value.is_float:
                kind = JSON  # as text, so that no digit is lost
            elif kind == INT and not -_EXACT <= value <= _EXACT:
                kind = WIDE if -_WIDEST <= value < _WIDEST else JSON
            columns[name] = columns.get(name, 0) | kind
        if len(columns) > MAX_COLUMNS:
            raise InvalidValueError(
                f"row {row.id}",
                "",
                f"brings the table to over {MAX_COLUMNS} columns: export as JSON Lines (.jsonl)",
            )

    def _own_names(self) -> Iterator[str]:
        taken = {name.casefold() for name in self.columns}  # spreadsheets and SQL ignore case
        for name in self.known:
            while name in taken:
                name = PREFIX + name  # noqa: PLW2901
            yield name


class FlatSteps(FlatRows):
    """The steps of the rows of some jobs as flat dicts, in the order of rows and of first records.

    A step has the columns in STEP_COLUMNS. ``statuses`` are those of the rows.
    """

    table = "steps"
    known = STEP_COLUMNS
    key_columns = 3

    def _take(self, service: JobService, job_id: str) -> None:
        job, rows, _ = service._look(job_id, self._statuses)  # noqa: SLF001  (ours)
        count = 0
        for number, whole in steps_of_rows(rows):
            step = redacted_members(whole, self._names)
            own = (job_id, number, step.name, *_values_of_step(step))
            self._lines.write(encode_json(({}, own)))
            count += 1
        self.count += count
        self.jobs.append(job)


_values_of_step = attrgetter("state", "attempt", "at", "result", "error_code", "error_message")


def _own_values(row: JobRow, attempts: LastAttempts) -> tuple[Any, ...]:
    """The values of JOURNAL_COLUMNS, in their order."""
    started_at, duration_s = attempts.of(row)
    return *_first_values(row), started_at, row.processed_at, duration_s, row.idempotency_key

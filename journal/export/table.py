"""Makes flat records of rows for tables: the columns of the data, then the journal's columns.

The set of columns is known only after all rows were read. So each row is first written to a
temporary file without a name. The export is made from that file. So later changes of the job have
no effect on the export.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from itertools import islice, takewhile
from operator import attrgetter
from pathlib import Path
from types import GenericAlias
from typing import Any

import msgspec

from journal.errors import InvalidValueError, JournalError
from journal.frames.collect import EVERYTHING, Options, choose, member_names
from journal.frames.columns import (
    BOOL,
    FLOAT,
    IF_USED,
    INT,
    JOURNAL_COLUMNS,
    JSON,
    MISSING,
    NESTED,
    TEXT,
    TIME,
    WIDE,
    Key,
    leaves,
    member,
    member_of_own,
    names_of,
)
from journal.fs.files import ScratchFile
from journal.history.durations import LastAttempts
from journal.history.reading import look
from journal.model import Job, JobRow, RowStatus, row_statuses
from journal.service import JobService
from journal.store.steps import steps_of_rows
from journal.text import encode_json, own_number

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
MAX_COLUMNS = 10_000

_OWN_ENDINGS = tuple(JOURNAL_COLUMNS)
_first_values = attrgetter(*takewhile(lambda name: name != "started_at", JOURNAL_COLUMNS))
_EXACT = 1 << 53  # up to this number, floats represent all integers exactly
_WIDEST = 1 << 63  # databases have a type for integers below this
_CHECKED = tuple(enumerate(name if name in IF_USED else "" for name in JOURNAL_COLUMNS))
_KINDS = {type(None): 0, bool: BOOL, int: INT, float: FLOAT, msgspec.Raw: FLOAT, str: TEXT}
_KINDS |= {list: JSON, dict: JSON}


def _line_type(columns: dict[str, int]) -> GenericAlias:
    """Return the type of a line of the temporary file.

    A line has a row's data, and the values of the journal's columns. Except for times, these values
    are plain JSON.
    """
    own = tuple(datetime | None if kind == TIME else Any for kind in columns.values())
    return GenericAlias(tuple, (dict[str, Any], GenericAlias(tuple, own) | None))


class FlatRows:
    """The rows of some jobs as flat dicts. They can be iterated several times.

    - ``columns``: a dict from each column's name to the kinds of its values (0 if all values are
      null). Selected columns are in the given order. Without a selection, the columns of the data
      are first, in the order in which they occur. The columns of the journal follow.
    - ``own``: the names in ``columns`` that belong to the journal's columns.
    - ``key``: the names of the columns that identify a row, and the name of the status column.
      ``key`` is empty if one of these columns isn't in the table.
    - ``jobs``: the jobs.
    - ``count``: the number of rows.

    The rows are in a temporary file until :meth:`close`. ``table`` is the name that the table gets
    in a database.
    """

    table = "rows"
    known = JOURNAL_COLUMNS
    key_columns = 2  # the number of first columns in ``known`` that identify a row

    def __init__(
        self,
        service: JobService,
        job_ids: Iterable[str],
        *,
        statuses: Collection[RowStatus | str] = (),
        data_only: bool = False,
        tabular: bool = True,
        options: Options = EVERYTHING,
        directory: Path | None = None,
        on_error: Callable[[JournalError], object] | None = None,
    ) -> None:
        """Read all rows into a file in ``directory`` (default: the system's temporary directory).

        - ``options``: which columns the table has.
        - ``on_error``: called with the error of each job that can't be read or has too many
          columns. The job is left out.
        - ``tabular``: if False, ``columns`` may lack columns of the data. ``columns`` still has
          those whose names may collide with names of the journal's columns.

        Raises InvalidValueError if a status or a column doesn't exist. Also raises StorageError,
        and the errors of reading a job.
        """
        self._statuses = row_statuses(statuses or None)
        self._data_only = data_only
        self._tabular = tabular or options.columns is not None
        self._options = options
        self._has_parts_of_cents = False
        self.count = 0
        self.jobs: list[Job] = []
        self._kinds: dict[Key, int] = {}
        self._used: frozenset[str] = frozenset()
        self._members: dict[str, None] = {}  # the members of results and usage, for a message
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
            self._choose()
        except BaseException:
            self._lines.close()
            raise

    def _choose(self) -> None:
        """Decide which columns the table has, and their names."""
        kinds = self._kinds
        if not self._data_only:
            for name, kind in self.known.items():
                self._add_own(name, kind)
        if self._options.columns is None:
            self._chosen: dict[str, Key | None] = {
                name: k for k, name in names_of(kinds, self.known).items()
            }
        else:
            seen = dict.fromkeys(key.path[0] for key in kinds if not key.own and key.path[0])
            self._chosen = choose(
                self._options.columns, kinds, seen, self._members, has_rows=self.count > 0
            )
            for name, chosen in self._chosen.items():
                if self._data_only and self.count and (chosen is None or chosen.own):
                    reason = (
                        "is a column of the journal, which an export of only the data leaves out"
                    )
                    raise InvalidValueError("columns", name, reason)
        own = {name: key.path for name, key in self._chosen.items() if key is not None and key.own}
        self.own = tuple(own)
        by_path = {path: name for name, path in own.items()}
        self.columns = {name: kinds.get(key, 0) if key else 0 for name, key in self._chosen.items()}
        key_names = (by_path.get((name,)) for name in islice(self.known, self.key_columns + 1))
        self.key = tuple(name for name in key_names if name is not None)
        if len(self.key) <= self.key_columns:
            self.key = ()
        self._name_of = {key: name for name, key in self._chosen.items() if key is not None}

    def _add_own(self, name: str, kind: int) -> None:
        options, key = self._options, Key(True, (name,))
        is_used = name in self._used or name not in IF_USED
        has_members = options.flatten and name in NESTED
        if name == "cost_cents" and self._has_parts_of_cents:
            kind = INT | FLOAT
        if options.columns is not None or not has_members:
            if is_used or options.all_columns or options.columns is not None:
                self._kinds[key] = kind
        elif key in self._kinds or (
            options.all_columns and not any(k.own and k.path[0] == name for k in self._kinds)
        ):
            self._kinds[key] = kind

    def close(self) -> None:
        self._lines.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        decode = msgspec.json.Decoder(_line_type(self.known), float_hook=own_number).decode
        flat_row = self._flat_of_wanted if self._options.columns is not None else self._flat
        for line in self._lines.lines():
            data, values = decode(line)
            own = {} if values is None else dict(zip(self.known, values, strict=True))
            yield flat_row(data, own)

    def _flat_of_wanted(self, data: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
        flat = {}
        for name, key in self._chosen.items():
            value = None
            if key is not None and key.path[0]:
                value = (own if key.own else data).get(key.path[0])
            elif key is not None:
                value = member_of_own(own, name) if key.own else member(data, name)
            flat[name] = None if value is MISSING else value
        return flat

    def _flat(self, data: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
        names, flatten = self._name_of, self._options.flatten
        flat = data
        if flatten:
            flat = {names[Key(False, path)]: value for path, value in leaves(data)}
        for name, value in own.items():
            if flatten and name in NESTED and value and isinstance(value, dict):
                for path, item in leaves(value, (name,)):
                    flat[names[Key(True, path)]] = item
            elif (shown := names.get(Key(True, (name,)))) is not None:
                flat[shown] = value
        return flat

    def _take(self, service: JobService, job_id: str) -> None:
        """Write the rows of one job to the file. If all rows can be read, add the job's columns."""
        job, rows, history = look(service.store, job_id, self._statuses)
        attempts = None if self._data_only else LastAttempts(history.entries())
        kinds, used = self._kinds.copy(), set(self._used)
        for row in rows:
            own = None if attempts is None else _own_values(row, attempts)
            self._note(row, own, kinds)
            if own is not None:
                used.update([name for at, name in _CHECKED if name and own[at]])
            self._has_parts_of_cents |= isinstance(row.cost_cents, float)
            self._lines.write(encode_json((row.data, own)))
        self._kinds, self._used = kinds, frozenset(used)
        self.count += len(rows)
        self.jobs.append(job)

    def _note(self, row: JobRow, own: tuple[Any, ...] | None, kinds: dict[Key, int]) -> None:
        """Register the columns of a row, and the kinds of their values."""
        for key, value in self._columns_of(row, own is not None):
            kind = _KINDS[type(value)]
            if kind == INT and not -_EXACT <= value <= _EXACT:
                kind = WIDE if -_WIDEST <= value < _WIDEST else JSON
            kinds[key] = kinds.get(key, 0) | kind
        if len(kinds) > MAX_COLUMNS:
            raise InvalidValueError(
                f"row {row.id}",
                "",
                f"brings the table to over {MAX_COLUMNS} columns: export as JSON Lines (.jsonl)",
            )

    def _columns_of(self, row: JobRow, has_own: bool) -> Iterator[tuple[Key, Any]]:
        options, nested = self._options, {"usage": row.usage, "result": row.result}
        if options.columns is None and not options.flatten:
            for name, value in row.data.items():
                if self._tabular or name.casefold().endswith(_OWN_ENDINGS):
                    yield Key(False, (name,)), value
        elif options.columns is None:
            for path, value in leaves(row.data):
                yield Key(False, path), value
            for name, value in nested.items() if has_own else ():
                if isinstance(value, dict) and value:
                    for path, item in leaves(value, (name,)):
                        yield Key(True, path), item
                elif value is not None:
                    yield Key(True, (name,)), value
        else:
            for name in row.data:
                yield Key(False, (name,)), row.data[name]
            for wanted in options.columns:
                if (value := member(row.data, wanted)) is not MISSING and wanted not in row.data:
                    yield Key(False, ("", wanted)), value
                if not has_own or "." not in wanted:
                    continue
                value = member_of_own(nested, wanted)
                if value is not MISSING:
                    yield Key(True, ("", wanted)), value
                else:
                    for name, whole in nested.items():
                        self._members.update(member_names(name, whole))


class FlatSteps(FlatRows):
    """The steps of the rows of some jobs as flat dicts.

    The steps are ordered by row, and then by when they began. A step has the columns in
    STEP_COLUMNS. With ``statuses``, only steps of rows with these statuses are included.
    """

    table = "steps"
    known = STEP_COLUMNS
    key_columns = 3

    def _take(self, service: JobService, job_id: str) -> None:
        job, rows, _ = look(service.store, job_id, self._statuses)
        count = 0
        for number, step in steps_of_rows(rows):
            own = (job_id, number, step.name, *_values_of_step(step))
            self._lines.write(encode_json(({}, own)))
            count += 1
        self.count += count
        self.jobs.append(job)


_values_of_step = attrgetter("state", "attempt", "at", "result", "error_code", "error_message")


def _own_values(row: JobRow, attempts: LastAttempts) -> tuple[Any, ...]:
    """Return the values of the columns in JOURNAL_COLUMNS, in the same order."""
    started_at, duration_s = attempts.of(row)
    return *_first_values(row), started_at, row.processed_at, duration_s, row.idempotency_key

"""Collects the rows of several jobs, for an export.

The set of columns is known only after all rows were read. So the rows are first written to a
temporary file without a name. The export is made from that file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from heapq import merge
from itertools import chain, groupby, islice, repeat, starmap
from operator import itemgetter
from typing import Any

import msgspec

import journal  # for annotations: the room `service` is above this one
from journal.errors import InvalidValueError, RefusedError
from journal.fs.files import ScratchFile
from journal.history.reading import look
from journal.ids import shard_name
from journal.model import Job, JobRow, RowStatus, row_statuses
from journal.tables.columns import ATTEMPT_COLUMNS, JOURNAL_COLUMNS, STEP_COLUMNS, Key, Options
from journal.tables.table import (
    CHUNK_ROWS,
    SLICE_ROWS,
    Chunk,
    Table,
    chunks_of_attempts,
    chunks_of_rows,
    chunks_of_steps,
)
from journal.text import encode_json, own_number

MAX_COLUMNS = 10_000
TABLES = {"rows": JOURNAL_COLUMNS, "steps": STEP_COLUMNS, "attempts": ATTEMPT_COLUMNS}


class Collected:
    """The rows of some jobs, collected in a temporary file without a name.

    So later changes of the jobs have no effect on the export. Iteration yields the rows in chunks,
    and those of the shards of a set by their places in the input. In these chunks, times are text.

    - ``table``: the columns, and their names. ``count``: the number of rows.
    - ``name``: the name that the table gets in a database.
    """

    def __init__(
        self,
        lines: ScratchFile,
        service: journal.JobService,
        job_ids: Iterable[str],
        options: Options,
        *,
        statuses: Collection[RowStatus | str],
        where: Callable[[JobRow], object] | None,
        table: str,
        tabular: bool,
    ) -> None:
        """Read all rows into the empty file ``lines``, which the caller closes.

        - ``table``: one of TABLES.
        - ``tabular``: if False, the table may lack columns of the data. It still has those whose
          names may collide with names of the journal's columns.

        Raises InvalidValueError if a status or a column doesn't exist. Also raises StorageError,
        and the errors of reading a job.
        """
        self.name = table
        self._known = TABLES[table]
        self.table = Table(options, self._known)
        self.jobs: list[Job] = []
        self._statuses, self._where = row_statuses(statuses or None), where
        self._tabular = tabular or options.columns is not None
        self._lines = lines
        self._own: list[str] = []  # the columns of the journal of rows of shards
        self._begins: list[int] = []  # where the rows of each job begin in the file
        for job_id in chain.from_iterable(_shards_in(service, job_id) for job_id in job_ids):
            self._begins.append(lines.size_bytes)
            self._take(service, job_id)
        self.table.choose()
        self.count = self.table.count

    def _take(self, service: journal.JobService, job_id: str) -> None:
        """Write the rows of one job to the file."""
        job, history, (rows,) = look(service.store, job_id, self._statuses)
        if self.jobs:
            _check_input(job, self.jobs[-1])
        if self._where is not None:
            met = [place for place, row in enumerate(rows) if self._where(row)]
            rows.view = rows.view.chosen(met)
        if self.name == "steps":
            self._write(chunks_of_steps(rows), job_id)
        elif self.name == "attempts":
            self._write(chunks_of_attempts(rows, history), job_id)
        else:
            shards = 0 if job.shard is None else job.shard.count
            begin, before = self._lines.size_bytes, self.table.copy()
            chunks = partial(chunks_of_rows, rows, history, before.options, shards)
            if not self._write(chunks(), job_id):  # the order of the input has changed
                self._lines.cut(begin)
                self.table = before
                places = sorted((row.place or row.row_number, at) for at, row in enumerate(rows))
                rows.view = rows.view.chosen(at for _, at in places)
                self._write(chunks(), job_id)
        self.jobs.append(job)

    def _write(self, chunks: Iterable[Chunk], job_id: str) -> bool:
        """Write chunks to the file. Returns False if the rows of a shard aren't in their order."""
        last = 0
        for chunk in chunks:
            if chunk.places:
                if sorted((last, *chunk.places)) != [last, *chunk.places]:
                    return False
                last, self._own = chunk.places[-1], list(chunk.own)
            self._lines.write(encode_json(_by_rows(chunk) if chunk.places else chunk))
            if not self._tabular:
                names = set(chain.from_iterable(chunk.data))
                alike = (name for name in names if name.casefold().endswith(tuple(self._known)))
                self.table.add(chunk._replace(data=[dict.fromkeys(alike)]))
            else:
                self.table.add(chunk)
            if self.table.width() > MAX_COLUMNS:
                reason = (
                    f"brings the table to over {MAX_COLUMNS} columns: export as JSON Lines (.jsonl)"
                )
                raise InvalidValueError(f"job {job_id}", "", reason)
        return True

    def __iter__(self) -> Iterator[Chunk]:
        decode = msgspec.json.Decoder(Chunk, float_hook=own_number).decode
        ends = [*self._begins, self._lines.size_bytes][1:]  # none if there is no job
        parts = zip(self.jobs, self._begins, ends, strict=True)
        for set_id, some in groupby(parts, lambda part: self._set_of(part[0])):
            lines = (self._lines.lines(begin, end) for _, begin, end in some)
            if set_id:
                yield from self._merged(list(lines))
            else:
                yield from map(decode, chain.from_iterable(lines))

    def _set_of(self, job: Job) -> str:
        """The set whose shards are merged, if the job is one of them."""
        return job.id.partition("/")[0] if job.shard is not None and self.name == "rows" else ""

    def _merged(self, shards: list[Iterator[bytes]]) -> Iterator[Chunk]:
        """Merge the rows of shards by place and number. Each row is decoded when its turn comes."""
        decode = msgspec.json.Decoder(list[Any], float_hook=own_number).decode
        rows = merge(*starmap(_rows_of, enumerate(shards)))
        while some := list(islice(rows, CHUNK_ROWS)):
            columns: list[list[Any]] = [[] for _ in range(len(self._own) + 1)]
            for at in range(0, len(some), SLICE_ROWS):
                found = map(decode, map(itemgetter(3), some[at : at + SLICE_ROWS]))
                for values, more in zip(columns, zip(*found, strict=True), strict=True):
                    values.extend(more)
            data, *own = columns
            yield Chunk(len(some), data, dict(zip(self._own, own, strict=True)))

    def cells(self) -> Iterator[list[list[Any]]]:
        """Yield the columns of each chunk."""
        return map(self.table.cells, self)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield each row as a flat dict.

        If the table may lack columns of the data, a row has those columns that it has itself.
        """
        names = {key: name for name, key in self.table.keys.items()}
        shown = {name: names.get(Key(True, name)) for name in self._known}
        for chunk in self:
            if self._tabular:
                for cells in zip(*self.table.cells(chunk), strict=True):
                    yield dict(zip(self.table.columns, cells, strict=True))
                continue
            own = {new: chunk.own[name] for name, new in shown.items() if new and name in chunk.own}
            rows = zip(*own.values(), strict=True) if own else repeat((), chunk.size)
            data: Iterable[dict[str, Any]] = chunk.data or repeat({}, chunk.size)
            for row, values in zip(data, rows, strict=True):
                yield row | dict(zip(own, values, strict=True))


def _shards_in(service: journal.JobService, job_id: str) -> list[str]:
    """Return the ids of all shards of a set, absent ones too, or the job's own id."""
    is_one = "/" in job_id or service.store.holds_job(job_id)
    count = 0 if is_one else service.store.count_shards(job_id)
    return [f"{job_id}/{shard_name(index, count)}" for index in range(count)] or [job_id]


def _check_input(job: Job, other: Job) -> None:
    """Raise RefusedError if two shards of a set without a key have seen different inputs."""
    if job.shard is None or job.shard.key is not None or job.input is None or other.input is None:
        return
    set_id, _, _ = job.id.partition("/")
    if set_id == other.id.partition("/")[0] and job.input.digest != other.input.digest:
        raise RefusedError(
            f"{set_id}: {other.id} and {job.id} have seen different inputs: without a key, a row may "
            "be in two shards, or in none; start each of them again with the whole input first"
        )


def _by_rows(chunk: Chunk) -> tuple[Sequence[int], Sequence[int], list[tuple[Any, ...]]]:
    return chunk.places, chunk.numbers, list(zip(chunk.data, *chunk.own.values(), strict=True))


def _rows_of(shard: int, lines: Iterator[bytes]) -> Iterator[tuple[int, int, int, msgspec.Raw]]:
    """Yield the rows of a shard: the place, the number, ``shard`` and the JSON."""
    decode = msgspec.json.Decoder(tuple[list[int], list[int], list[msgspec.Raw]]).decode
    return chain.from_iterable(
        zip(places, numbers, repeat(shard), rows) for places, numbers, rows in map(decode, lines)
    )

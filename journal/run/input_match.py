"""Compares an input with the job that was made from it, to find new, changed and removed rows.

Nothing is written before the whole input is compared. Usually the input begins with the same rows
as the job. Comparing these rows takes constant memory and decodes no data of the job. After the
first difference, the job's remaining rows are looked up by key.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from journal.errors import (
    InvalidStateTransition,
    InvalidValueError,
    JobNotFoundError,
    RowChangedError,
)
from journal.format import keys as idempotency
from journal.format.keys import Data, Key, UniqueKeys, check_key, is_typed_as, key_of, untyped
from journal.format.pruned import check_not_pruned
from journal.format.records import A_RUN, LOST_CHECKSUM, RowDataRecord, RowRecord
from journal.format.values import checksum_of, encode_value
from journal.fs import system
from journal.history.history import read_history
from journal.ids import row_id_of
from journal.index.summary import job_of
from journal.model import Job, JobRow, JobStatus, RowStatus, Shard
from journal.run.advice import IN_PYTHON, HowTo, numbers_text
from journal.run.plan import Matched
from journal.service import JobService
from journal.sets.input_rows import Item, Split, items_of
from journal.sets.shard_choice import check_not_restarted
from journal.store.batch import Batch
from journal.store.interrupted_rows import settle_gone, skipped_as_gone
from journal.store.journal import Journal
from journal.store.transitions import check_unpaused, reopen, take_input
from journal.text import encode_json

OnChanged = Literal["error", "retry", "redo", "ignore"]
OnGone = Literal["keep", "skip", "error"]

# The job's ``idempotency_key`` if a function makes the idempotency keys of the rows.
EACH_ITS_OWN = ""
_NEEDS_KEY = ("retry", "redo")
_MAX_LOST = 3  # rows whose data a message shows


class Unwritten(msgspec.Struct):
    """The changes that starting the job would write.

    ``new``: the data of new rows. ``changed``: a dict from row number to a changed row's new data.
    ``gone``: the numbers of rows that would be skipped or sent to review.
    """

    new: list[Data] = []
    changed: dict[int, Data] = {}
    gone: set[int] = set()


class InputRules(msgspec.Struct, frozen=True):
    """The rules for comparing an input with a job: see :func:`journal.open_job`."""

    key: Key | None = None
    idempotency_key: Key | None = None
    on_changed: OnChanged = "error"
    on_gone: OnGone = "keep"
    existing: bool = False
    how_to: HowTo = IN_PYTHON

    def __post_init__(self) -> None:
        check_key(self.key, "key", ", a tuple of columns")
        check_key(self.idempotency_key, "idempotency_key")
        for name, kind in (("on_changed", OnChanged), ("on_gone", OnGone)):
            if getattr(self, name) not in get_args(kind):
                words = f"must be one of {', '.join(get_args(kind))}"
                raise InvalidValueError(name, getattr(self, name), words)

    def check_start(self, job: Job) -> None:
        """Raise JobPausedError if a person has paused the job. A refused `journal run` changes nothing."""
        if self.how_to.command:
            check_unpaused(job.id, job.pause)

    @property
    def recorded_idempotency_key(self) -> str | None:
        """The value of ``idempotency_key`` in the record of a new job."""
        key: Any = self.idempotency_key  # never a tuple
        return EACH_ITS_OWN if callable(key) else key


def split_by(
    rules: InputRules, service: JobService, job_id: str, shard: Shard | None, *, anew: bool
) -> tuple[InputRules, Split | None]:
    """Return the split that takes the rows of ``shard`` from an input, and the rules of the set.

    The rules have the key of the set. Raises InvalidValueError if the set has another key. Raises
    RefusedError if the scheduler has restarted this task and the job of this task is gone.
    """
    if shard is None:
        return rules, None
    how_to = rules.how_to
    if not (anew or rules.existing or service.store.holds_job(job_id)):
        check_not_restarted(job_id, "`--anew`" if how_to.command else "`anew=True`")
    set_id = job_id.partition("/")[0]
    split = Split(service.store, set_id, shard, rules.key, how_to.name("key"))
    return msgspec.structs.replace(rules, key=split.key), split


def missing_error(service: JobService, job_id: str, rules: InputRules) -> JobNotFoundError:
    """Make the error for a start that finds no job and makes none.

    Raises JobPrunedError if the job was pruned.
    """
    check_not_pruned(service.root, job_id)
    error = JobNotFoundError(job_id)
    note = "open_job(path, rows) makes a job of these rows"
    if rules.existing:
        name = rules.how_to.name("existing")
        note = (
            f"there is none in {service.root} on {system.host_name()}; with {name}, none is made, "
            "since its rows may be done elsewhere: bring the job here "
            f"(`journal pull`), or, if this is its first start, leave {name} out"
        )
    error.add_note(note)
    return error


class Known(NamedTuple):
    """The part of a job's row that is kept in memory."""

    row_number: int
    row_checksum: str
    status: RowStatus


def new_rows(
    rows: Iterable[Data], rules: InputRules, split: Split | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of an input, as the dicts that :meth:`JobService.create_rows` takes.

    With ``split``, only the rows of a shard. Raises InvalidValueError if a key occurs twice.
    """
    keys = None if rules.key is None else UniqueKeys(rules.key)
    for item in items_of(rows, rules.idempotency_key, split):
        if keys is not None:
            keys.take(item.data, f"input row {item.place}")
        yield item.as_new(item.place if item.seen is None else None)


def match_rows(
    service: JobService,
    job: Job,
    rows: Iterable[Data],
    rules: InputRules,
    unwritten: Unwritten | None = None,
    split: Split | None = None,
) -> Matched:
    """Compare the input with the job's rows, add the new rows and apply the changed data.

    All changes are one commit. This commit reopens a job that has ended. If ``unwritten`` is given,
    the changes are put into ``unwritten``, and nothing is written. The caller has the run lock.

    The input is compared with the data that each row last got from an input. Changes that a person
    has made to the data don't matter. If damage has lost the record or the data of a row, the row
    isn't changed, because it may be done.

    If data has changed, ``rules.on_changed`` decides:

    - "error" raises RowChangedError for the first changed row.
    - "ignore" keeps the job's data.
    - "retry" gives pending, failed and skipped rows their new data and makes them pending. This
      needs a ``key``. Rows keep their numbers. Completed rows are not changed, and are listed in
      the result. RowChangedError is raised for rows in flight, for rows that may have taken effect,
      and for rows with a step that is done or may have taken effect.
    - "redo" does the same, and also redoes completed rows, under new idempotency keys.

    For rows that aren't in the input any more, ``rules.on_gone`` decides:

    - "keep" changes nothing.
    - "skip" skips pending and failed rows. Rows in flight, and rows with a step that is done or may
      have taken effect, need a review. Failed rows that may have taken effect stay failed. If the
      input has no rows at all, RowChangedError is raised.
    - "error" raises RowChangedError if one of these rows is pending, in flight or failed.

    If an exception is raised, nothing was written. Also raises InvalidStateTransition if a
    cancelled job would get new or changed rows, and every exception that reading the input raises.
    """
    key = job.key if rules.key is None else rules.key
    if job.key is not None and key != job.key:
        raise InvalidValueError(
            rules.how_to.name("key"),
            key,
            f"rows of job {job.id!r} have the key {job.key!r}: give that, or none",
        )
    if key is None and rules.on_changed in _NEEDS_KEY:
        reason = "needs a key: without one it isn't certain which row has changed"
        raise InvalidValueError("on_changed", rules.on_changed, reason)
    _check_idempotency_key(job, rules)
    own_key = rules.idempotency_key or job.idempotency_key or None
    match = _Match(service, job, rules, unwritten, split)
    items = items_of(rows, own_key, split)
    if key is None:
        match.by_place(items)
    else:
        match.by_key(items, key)
    if split is not None:
        match.matched.other_inputs = split.others
    return match.matched


def _check_idempotency_key(job: Job, rules: InputRules) -> None:
    """Raise InvalidValueError if the job was created with another ``idempotency_key``."""
    given, made = rules.idempotency_key, job.idempotency_key
    if rules.recorded_idempotency_key == made or (given is None and made != EACH_ITS_OWN):
        return
    was = "without one" if made is None else f"with the column {made!r}"
    if made == EACH_ITS_OWN:
        was = "with a function"
    raise InvalidValueError(
        "idempotency_key",
        given,
        f"job {job.id!r} was made {was}, which can't change, since no row's key may change: pass "
        "the same as then, or make another job",
    )


class _Match:
    """One comparison of an input with a job. The result is ``matched``."""

    def __init__(
        self,
        service: JobService,
        job: Job,
        rules: InputRules,
        unwritten: Unwritten | None,
        split: Split | None,
    ) -> None:
        self.matched = Matched()
        self._service = service
        self._job = job
        self._rules = rules
        self._has_key = (rules.key or job.key) is not None
        self._how_to = rules.how_to
        self._unwritten = unwritten
        self._split = split
        self._changes: list[tuple[int, Item]] = []  # row numbers, and their rows in the input

    def by_place(self, items: Iterator[Item]) -> None:
        known = iter(self._service.get_rows(self._job.id))
        row = next(known, None)

        def new() -> Iterator[dict[str, Any]]:
            nonlocal row
            for item in items:
                if row is None:
                    yield item.as_new(item.place)
                elif row.row_number == item.place:
                    self._compare(row, item)
                    row = next(known, None)
                elif self._job.repaired:
                    self._lose(item.data)
                else:
                    raise InvalidValueError(
                        f"input row {item.place}",
                        _json(item.data),
                        f"job {self._job.id!r} has later rows but no row {item.place}, so it was "
                        "not made from such an input: run the input as a job of its own",
                    )

        self._write(new(), lambda: itertools.chain([] if row is None else [row], known))

    def by_key(self, items: Iterator[Item], key: Key) -> None:
        keys = UniqueKeys(key)
        job_rows = self._service.get_rows(self._job.id)
        count, item = _same_beginning(job_rows, items, keys)
        later = itertools.islice(job_rows, count, None) if count < len(job_rows) else ()
        rest = _by_key(self._service, self._job, later, key)
        added: dict[str, tuple[str, int]] = {}  # by untyped key: the key and its place

        def new() -> Iterator[dict[str, Any]]:
            for one in itertools.chain([item] if item else [], items):
                where = f"input row {one.place}"
                known = rest.pop(text := keys.take(one.data, where), None)
                if known is None:
                    if rest and not (plain := untyped(text)).startswith('"'):
                        added[plain] = (text, one.place)
                    yield one.as_new(None)
                else:
                    self._compare(known, one)
            for gone in rest if added else ():
                text, place = added.get(untyped(gone), (gone, 0))
                if not is_typed_as(gone, text):
                    reason = f"the job has the key {gone}: a key must keep its type"
                    raise InvalidValueError(f"input row {place}", text, reason)

        self._write(new(), rest.values)

    def _row(self, number: int) -> JobRow | None:
        return self._service.get_row(row_id_of(self._job.id, number))

    def _compare(self, known: Known | JobRow, item: Item) -> None:
        if known.row_checksum in (LOST_CHECKSUM, item.checksum()):
            return
        encode_value(item.data, f"input row {item.place}")
        row = self._row(known.row_number)
        # The checksums of equal data differ if the caller of create_rows gave the checksum.
        if row is not None and row.data == item.data:
            return
        if self._rules.on_changed == "error":
            hint = "" if self._has_key else self._how_to.without_key(item.data)
            row_id = row_id_of(self._job.id, known.row_number)
            raise RowChangedError(row_id, _json(row.data if row else {}), _json(item.data), hint)
        self.matched.changed += 1
        if self._rules.on_changed in _NEEDS_KEY:
            self._changes.append((known.row_number, item))

    def _write(
        self, new: Iterator[dict[str, Any]], gone: Callable[[], Iterable[Known | JobRow]]
    ) -> None:
        """Go through the input and write all changes in one commit.

        If an exception is raised, nothing was written. ``gone`` returns the rows of the job that
        the input doesn't have. ``gone`` is called after ``new`` was read to its end.
        """
        first = next(new, None)
        every: Iterator[dict[str, Any]] = itertools.chain([] if first is None else [first], new)
        if self._job.repaired:
            for row in every:
                self._lose(row["data"])
            first = None
        elif first is not None and self._job.idempotency_key is not None:
            every = self._with_keys_of_their_own(every, self._job.idempotency_key)
        if self._unwritten is not None:
            if first is not None:
                self._check_not_cancelled(self._job)
            self._unwritten.new += (row["data"] for row in every)
            self.matched.added = len(self._unwritten.new)
            self._take_changes(None)
            self._take_gone(gone(), None)
        elif first is not None or self._changes or self._rules.on_gone == "skip" or self._split:
            with Batch(self._service.store.journal(self._job.id)) as journal:
                if first is not None:
                    self._reopen(journal)
                    self.matched.added = len(self._service.create_rows(self._job.id, every))
                self._take_changes(journal)
                self._take_gone(gone(), journal)
                if self._split is not None:
                    self._split.record(journal)
        else:
            self._take_gone(gone(), None)

    def _lose(self, data: Data) -> None:
        self.matched.lost += 1
        if len(self.matched.first_lost) < _MAX_LOST:
            self.matched.first_lost.append(data)

    def _with_keys_of_their_own(
        self, new: Iterator[dict[str, Any]], column: str
    ) -> Iterator[dict[str, Any]]:
        """Yield the new rows.

        Raises InvalidValueError if a new row has an idempotency key that the job already has.
        """
        taken: set[int] = set()
        for there in self._service.get_rows(self._job.id):
            key = there.idempotency_key
            # The called service also knows earlier keys of a row.
            taken.update((hash(key), hash(idempotency.first_key(key))))
        for row in new:
            key = row.get("idempotency_key") or idempotency.own_key_text(row["data"].get(column))
            if hash(key) in taken:
                raise InvalidValueError(
                    "a new row of the input",
                    _json(row["data"]),
                    f"a row of job {self._job.id!r} has the idempotency key {key!r} already: the "
                    "service that you call would take both for one row",
                )
            yield row

    def _take_changes(self, journal: Journal | None) -> None:
        """Give changed rows their new data. Without ``journal``, only count the rows."""
        now = ((self._row(number), item) for number, item in self._changes)
        rows = [(row, item) for row, item in now if row is not None]
        doubtful = [row.row_number for row, _ in rows if _may_have_taken_effect(row)]
        for row, item in rows:
            if hint := self._hindrance(row, doubtful):
                raise RowChangedError(row.id, _json(row.data), _json(item.data), hint)
        for row, item in rows:
            if row.status is RowStatus.COMPLETED and self._rules.on_changed != "redo":
                self.matched.done.append(row.row_number)
                continue
            self.matched.updated += 1
            if journal is not None:
                self._reopen(journal)
                take_input(journal, row.row_number, item.data, item.checksum(), A_RUN)
            elif self._unwritten is not None:
                self._check_not_cancelled(self._job)
                self._unwritten.changed[row.row_number] = item.data

    def _take_gone(self, gone: Iterable[Known | JobRow], journal: Journal | None) -> None:
        """Count the rows that are gone, and treat them as ``on_gone`` says."""
        undone = []
        back = skipped_as_gone(self._service.get_rows(self._job.id, RowStatus.SKIPPED))
        for known in gone:
            self.matched.gone += 1
            back.discard(known.row_number)
            if self._rules.on_gone == "keep":
                self.matched.gone_open += known.status in (RowStatus.PENDING, RowStatus.PROCESSING)
            elif known.status in _UNDONE:
                undone.append(known.row_number)
        self.matched.back = sorted(back)
        # True only if no row of the input was found in the job, and no row was new.
        is_empty = self.matched.gone == self._job.total_rows + self.matched.added
        if self._split is not None and self._split.seen is not None:
            is_empty = not self._split.seen.rows  # including the rows of other shards
        if undone and (is_empty or self._rules.on_gone == "error"):
            row = self._service.get_row(row_id := row_id_of(self._job.id, undone[0]))
            hint = self._how_to.gone(undone, is_empty=is_empty)
            raise RowChangedError(row_id, _json(row.data if row else {}), "", hint)
        for number in undone if self._rules.on_gone == "skip" else ():
            row = self._row(number)
            if row is None or row.unknown or row.status not in _UNDONE:
                continue
            self.matched.gone_settled += 1
            if self._unwritten is not None:
                self._unwritten.gone.add(number)
            if journal is not None:
                settle_gone(journal, number)

    def _hindrance(self, row: JobRow, doubtful: list[int]) -> str:
        """The reason why a changed row can't get its new data, with advice.

        "" if the row can get the data.

        ``doubtful``: all changed rows that may have taken effect.
        """
        ignore = self._how_to.argument("on_changed", "ignore")
        if row.row_number in doubtful:
            by_hand = "complete_row(...), fail_row(...), skip_row(...) or retry_row(...)"
            settle = self._how_to.say(by_hand, "show", self._job.id)
            return (
                f"it may have taken effect ({numbers_text(doubtful)}), so nothing was changed: find "
                f"out whether it did, then settle it ({settle}), or use {ignore}"
            )
        steps = [step for step in self._service.get_steps(row.id) if step.state != "failed"]
        if row.status is RowStatus.COMPLETED or not steps:
            return ""
        states = {"done": "is done", "started": "is in doubt"}
        names = " and ".join(f"step {step.name!r} {states[step.state]}" for step in steps)
        first = f"let a run with {ignore} end the row, then " * (row.status is RowStatus.PENDING)
        redo = self._how_to.by_number("redo", self._job.id, [row.row_number])
        return (
            f"{names} with the old data, so nothing was changed: to keep the old data, use "
            f"{ignore}; to repeat all steps with the new data, {first}{redo}"
        )

    def _reopen(self, journal: Journal) -> None:
        job = job_of(journal.index)
        self._check_not_cancelled(job)
        if job.status.is_ended:
            reopen(journal, None)

    def _check_not_cancelled(self, job: Job) -> None:
        if job.status is JobStatus.CANCELLED:
            reopen_first = self._how_to.resume(job.id)
            hint = f"it was cancelled: it takes new or changed rows only after {reopen_first}"
            raise InvalidStateTransition(job.status, JobStatus.PENDING, (), f"job {job.id}", hint)


# The next run, or a run after a retry, takes rows with these statuses.
_UNDONE = (RowStatus.PENDING, RowStatus.PROCESSING, RowStatus.FAILED)


def _may_have_taken_effect(row: JobRow) -> bool:
    """Return whether the row may have taken effect, although it isn't completed."""
    return row.status in (RowStatus.PROCESSING, RowStatus.NEEDS_REVIEW) or row.unknown


def _json(data: Data) -> str:
    return encode_json(data).decode()


def _same_beginning(
    job_rows: Sequence[JobRow], items: Iterator[Item], keys: UniqueKeys
) -> tuple[int, Item | None]:
    """Return how many rows input and job share at the beginning, and the input's next row."""
    count = 0
    for row in job_rows:
        item = next(items, None)
        if item is None or row.row_checksum != item.checksum():
            return count, item
        keys.take(item.data, f"input row {item.place}")
        count += 1
    return count, None


def _by_key(service: JobService, job: Job, rows: Iterable[JobRow], key: Key) -> dict[str, Known]:
    """The job's remaining rows, by key.

    If a person has changed the data of a row, the key comes from the row's last input.
    """
    found: dict[str, Known] = {}
    edited: dict[int, JobRow] = {}
    for row in rows:
        if not _is_here(row):
            continue
        # A person can't change the value of the job's own key column.
        if key != job.key and checksum_of(row.data) != row.row_checksum:
            edited[row.row_number] = row
        else:
            text = _key_in_job(row, row.data, key)
            found[text] = Known(row.row_number, row.row_checksum, row.status)
    if edited:
        inputs = _last_inputs(service, job.id, edited)
        for number, row in edited.items():
            text = _key_in_job(row, inputs.get(number, row.data), key)
            found[text] = Known(number, row.row_checksum, row.status)
    return found


def _is_here(row: JobRow) -> bool:
    """Whether the row still has its data after damage."""
    return row.row_checksum != LOST_CHECKSUM


def _key_in_job(row: JobRow, data: Data, key: Key) -> str:
    """The key of a row of the job.

    If the key function raises an exception, the raised error names the row.
    """
    try:
        return key_of(key, data, f"row {row.id}")
    except InvalidValueError:
        raise
    except Exception as error:
        reason = f"the key function raises {error!r} for this row of the job"
        raise InvalidValueError(f"row {row.id}", _json(data), reason) from error


def _last_inputs(service: JobService, job_id: str, edited: dict[int, JobRow]) -> dict[int, Data]:
    """A dict from row number to the data of the row's last input, if that data is known.

    Reads the whole journal.
    """
    found: dict[int, Data] = {}
    for entry in read_history(service.store, job_id).entries():
        record = entry.record
        if isinstance(record, (RowRecord, RowDataRecord)) and record.row in edited:
            is_input = edited[record.row].row_checksum == checksum_of(record.data)
            if is_input or record.row not in found:
                found[record.row] = record.data
    return found

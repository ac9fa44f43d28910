"""Format 1 of ``journal.jsonl``: the types of records, and their encoding.

The meaning of all fields is specified in ``docs/records.md``.

To add a type of record:

1. Describe it in ``docs/records.md``. A new member of a type needs a default, because older
   journals lack the member.
2. Add a struct here, and to ``RowLevelRecord`` or ``JobLevelRecord``. Mark the members that the
   index needs with ``INDEXED``: opening a job decodes only marked members.
3. Write its effect in ``index/index.py`` (rows) or ``index/job_state.py``. New columns go into
   ``index/columns.py``. ``store/transitions.py`` has the function that appends the record.
4. Define its event in ``history/events.py``. Decide how a merge (``transfer/three_way.py``,
   ``transfer/merge.py``) and a repair (``repair/salvage.py``, ``repair/damaged_lines.py``) treat
   it.
5. Add cases to ``tests/corpus/cases.py``, run ``python tests/corpus/make.py``, and test that older
   journals can be read.
"""

# No ``from __future__ import annotations`` here. Otherwise, msgspec would spend a millisecond on
# compiling the text of each annotation when it makes the first decoder.

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

import msgspec

from journal.ids import MAX_ROW_NUMBER
from journal.model import Shard, StepState
from journal.text import encode_json, encode_json_into, time_text

FORMAT = 1
REPAIRED = "repaired"  # error code of a job and of rows that lost something in a repair
# Error code of the other open rows after a repair: a lost line may be about these rows.
REPAIRED_UNKNOWN = "repaired_unknown"
BOTH_COPIES = "both_copies"  # error code of rows that two copies worked on
# Error code of rows in review that are completed in at least one of the copies.
MAYBE_DONE_TWICE = "maybe_done_twice"
CODES_OF_MERGES = frozenset((BOTH_COPIES, MAYBE_DONE_TWICE))
LOST_CHECKSUM = "lost"  # checksum of a row whose record was lost to damage, so its data is unknown

# The time of a record before the record gets its real time.
UNSET_TIME = datetime.min.replace(tzinfo=UTC)

# An aware time in UTC, with microseconds: see now().
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
AttemptNumber = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
# given_back: the attempt doesn't count. wait: the attempt doesn't count, and ``due`` is the due
# time.
Reset = Literal["retry", "redo", "given_back", "wait"]
# A number whose sums stay far from infinity.
BoundedNumber = Integer | Annotated[float, msgspec.Meta(ge=-(2**63), lt=2**63)]
# A cost: whole cents as an integer. A float has at most six decimals, and prints exactly.
CostCents = BoundedNumber
Usage = dict[str, BoundedNumber]
RowStatusText = Literal["pending", "processing", "completed", "failed", "skipped", "needs_review"]


# Marks the members that an index needs. When a job is opened, only these members are decoded and
# checked.
INDEXED = msgspec.Meta(extra={"indexed": True})


class JobRecord(msgspec.Struct, tag_field="type", tag="job", kw_only=True, omit_defaults=True):
    format: int
    id: str
    name: str
    original_command: str = ""
    description: str | None = None
    mode: str = "confirm"
    metadata: dict[str, Any] | None = None
    key: str | None = None
    idempotency_key: str | None = None
    shard: Shard | None = None  # in a shard, ``id`` is the id of the set
    at: Moment

    @property
    def job_id(self) -> str:
        """The id of the job: ``id``, or ``SET/003-of-064`` for a shard."""
        return self.id if self.shard is None else f"{self.id}/{self.shard.name}"

    @property
    def numbers(self) -> tuple[int, int]:
        """The first row number, and the distance from each row number to the next."""
        return (1, 1) if self.shard is None else self.shard.numbers


# Digits that distinguish a record from all records that other copies of the job write.
RandomId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
# Not 0: in the columns of an index, 0 means no call.
CallId = Annotated[str, msgspec.Meta(pattern=r"^(?!0{16})[0-9a-f]{16}\Z")]
Seal = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}\Z")]


class RunRecord(msgspec.Struct, tag_field="type", tag="run", kw_only=True, omit_defaults=True):
    """The start of a run.

    - ``id``: random digits. So if each of two copies of a job has had a run, the copies differ.
    - ``host``, ``user``, ``pid``: the run's process. ``package``: the version of this package.
    - ``argv``: the words that a person types in ``directory`` to run the job again. If
      ``is_command`` is true, these words are a `journal run`.
    - ``version``: the version of the run's attempts.
    - ``on_interrupted``: the run's policy. "resume" states that each side effect of the run's
      attempts is a step.
    - ``added``, ``changed``, ``retried``: how many rows the start has added, has given new data,
      and has retried after a failure. ``gone``: how many rows are no longer in the input.
    - ``limits``: the run's limits at its start, with the names that a ``tune`` uses.
    """

    id: RandomId
    host: str
    user: str
    pid: Integer
    package: str
    argv: tuple[str, ...] = ()
    directory: str = ""
    is_command: bool = False
    version: str | None = None
    on_interrupted: str = "review"
    added: Integer = 0
    changed: Integer = 0
    retried: Integer = 0
    gone: Integer = 0
    limits: dict[str, Any] = {}
    at: Moment


class InputRecord(msgspec.Struct, tag_field="type", tag="input", kw_only=True):
    """The whole input of the set, as a start of this shard has seen it: see :class:`InputSeen`."""

    rows: Annotated[int, msgspec.Meta(ge=0, le=MAX_ROW_NUMBER)]
    digest: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    at: Moment


class RunEndedRecord(msgspec.Struct, tag_field="type", tag="run_ended", kw_only=True):
    """The last run ends before all rows are done. From this record on, the run starts no row.

    ``kind``: the reason. ``message``: the reason in words, for people.
    """

    kind: str
    message: str
    at: Moment


class Origin(msgspec.Struct, kw_only=True, frozen=True):
    """Marks a record that a merge imported from another copy of the job.

    ``id`` is unique among the changes of the row. ``at`` is when the change happened in the other
    copy.
    """

    id: RandomId
    at: Moment

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "at", writable(self.at))


RowNumber = Annotated[int, msgspec.Meta(ge=1, le=MAX_ROW_NUMBER)]
# Rows in order, as ranges: the first and the last number of each range. In a shard, a range has
# every ``count``-th number: see JobRecord.numbers.
RowRanges = tuple[tuple[RowNumber, RowNumber], ...]


def ranges_of(numbers: Iterable[int], distance: int) -> RowRanges:
    """Return rows as ranges, in their order. ``distance``: from one number of the job to the next."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + distance:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return tuple((first, last) for first, last in ranges)


class RowRecord(
    msgspec.Struct,
    tag_field="type",
    tag="row",
    kw_only=True,
    frozen=True,
    omit_defaults=True,
    gc=False,
):
    row: Annotated[RowNumber, INDEXED]
    checksum: str
    data: dict[str, Any]
    key: str | None = None  # the row's idempotency key, if it isn't the row's id
    place: RowNumber | None = None  # in a shard with a key: the row's first position in the input
    at: Moment


class RowDataRecord(
    msgspec.Struct, tag_field="type", tag="row_data", kw_only=True, frozen=True, omit_defaults=True
):
    """New data for a row. This record supersedes the earlier record that has the row's data.

    ``key`` is the complete idempotency key. ``key_count`` counts the keys that the row has had so
    far, including ``key``.
    """

    row: Annotated[RowNumber, INDEXED]
    checksum: str
    data: dict[str, Any]
    key: str
    key_count: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)] = 1
    place: RowNumber | None = None
    created_at: Annotated[Moment, INDEXED]
    origin: Origin | None = None
    at: Moment


AnyRow = RowRecord | RowDataRecord


class RowStatusRecord(
    msgspec.Struct, tag_field="type", tag="row_status", kw_only=True, omit_defaults=True, gc=False
):
    row: Annotated[RowNumber, INDEXED]
    status: Annotated[RowStatusText, INDEXED]
    tracking_number: str | None = None
    label_path: str | None = None
    cost_cents: Annotated[CostCents | None, INDEXED] = None
    usage: Annotated[Usage | None, INDEXED] = None
    result: Any = None
    error_code: str | None = None
    error_message: str | None = None
    traceback: str | None = None
    reason: str | None = None
    version: str | None = None
    reset: Annotated[Reset | None, INDEXED] = None
    due: Annotated[Moment | None, INDEXED] = None  # when a waiting row may be started
    after_s: BoundedNumber | None = None  # the duration of the wait, from ``at``
    # When the row began to wait for the first time since its last retry or redo. Later statuses
    # that end an attempt repeat this time.
    since: Moment | None = None
    unknown: bool = False
    by: str | None = None  # who has set the status: see By
    person: str | None = None  # the name of the person, if ``by`` is "person"
    origin: Origin | None = None
    at: Moment

    @property
    def happened_at(self) -> datetime:
        """When the change happened. For an imported change, this is the time in the other copy."""
        return self.at if self.origin is None else self.origin.at

    @property
    def waits(self) -> bool:
        """Whether the row is pending and waits until its due time."""
        return self.due is not None and self.status == "pending" and self.reset == "wait"

    @property
    def decision(self) -> Reset | None:
        """Whether somebody has decided to retry or redo the row."""
        return None if self.reset in ("given_back", "wait") else self.reset


class By(msgspec.Struct, frozen=True, omit_defaults=True):
    """The author of a status: a run, a policy of a run, a person, a merge or a repair.

    Without ``by``, a program has set the status by calling :class:`JobService`.
    """

    by: Literal["run", "policy", "person", "merge", "repair"] | None = None
    person: str | None = None

    def sign(self, record: RowStatusRecord) -> RowStatusRecord:
        """Set ``by`` and ``person`` of a record, and return the record."""
        record.by, record.person = self.by, self.person
        return record


A_PROGRAM, A_RUN, A_POLICY = By(), By("run"), By("policy")
A_MERGE, A_REPAIR = By("merge"), By("repair")
BY_OTHERS = (A_POLICY.by, "person")  # these authors may not know how the row's attempt ended


def is_maybe_done_twice(record: RowStatusRecord) -> bool:
    """Return whether this is a merge's review of a row that is completed in one of the copies.

    The record has the outcome of that copy. Only a redo, or a person who settles the row, may end
    the review.
    """
    is_review = record.status == "needs_review" and record.by == A_MERGE.by
    return is_review and record.error_code == MAYBE_DONE_TWICE


class RowStepRecord(
    msgspec.Struct, tag_field="type", tag="row_step", kw_only=True, omit_defaults=True
):
    """The state of a step of a row or, if the record has ``rows``, of all rows of a call.

    ``attempt``: the number of the row's attempt. For a call: the attempt of the first row. Only the
    state "done" has a ``result``. Only "failed" has ``error_code`` and ``error_message``.
    "dropped": the step and all later steps don't count any more, and the rows leave their calls.
    """

    row: Annotated[RowNumber, INDEXED] = 0  # 0: absent, since there are ``rows``
    rows: Annotated[RowRanges, INDEXED] = ()
    attempt: Annotated[AttemptNumber, INDEXED]
    step: Annotated[str, INDEXED]
    state: Annotated[StepState | Literal["dropped"], INDEXED]
    result: Any = None
    error_code: str | None = None
    error_message: str | None = None
    origin: Origin | None = None
    at: Moment


class CallRecord(msgspec.Struct, tag_field="type", tag="call", kw_only=True, omit_defaults=True):
    """The state of a call: one call of a handler with many rows, which stay together.

    The first record of a call has its ``rows``, which are in processing. While the call is
    "waiting", its rows in processing count as pending, and their attempts don't end. "started" ends
    the wait. "ended" removes the rows from the call.

    ``due``, ``after_s``, ``since``, ``reason``, ``by``, ``origin``: as in a row's status.
    """

    id: Annotated[CallId, INDEXED]
    rows: Annotated[RowRanges, INDEXED] = ()
    state: Annotated[Literal["started", "waiting", "ended"], INDEXED]
    due: Annotated[Moment | None, INDEXED] = None
    after_s: BoundedNumber | None = None
    since: Moment | None = None
    reason: str | None = None
    by: str | None = None
    origin: Origin | None = None
    at: Moment


class RowSpentRecord(
    msgspec.Struct, tag_field="type", tag="row_spent", kw_only=True, omit_defaults=True
):
    """The cost of an attempt whose outcome isn't recorded as a status in this copy of the job.

    There are two kinds of such attempts:

    - The attempt was made in another copy of the job, and its status isn't imported. ``id`` is the
      id of the change in that copy, as in :class:`Origin`.
    - The attempt with the number ``attempt`` ended after its row had got a different outcome.
      ``id`` is random.

    Because of the id, a merge imports the cost only once.
    """

    row: RowNumber
    id: RandomId
    attempt: AttemptNumber | None = None
    cost_cents: CostCents | None = None
    usage: Usage | None = None
    at: Moment


class RowElsewhereRecord(
    msgspec.Struct, tag_field="type", tag="row_elsewhere", kw_only=True, omit_defaults=True
):
    """A change of a row that was made in another copy of the job, and that no merge has imported.

    ``change``: the members of the other copy's record of this change.
    """

    row: RowNumber
    change: dict[str, Any]
    origin: Origin
    at: Moment


class MergeRecord(msgspec.Struct, tag_field="type", tag="merge", kw_only=True, omit_defaults=True):
    """The first record of a merge.

    - ``other``: the name of the file with the other copy's journal. ``offset``, ``seal``: the end
      of the merged part of the other copy. ``fork``: the offset of the end of the last common
      commit.
    - ``hosts``, ``job_status``: the hosts of the other copy's runs, and its status.
    - ``message``: a text for people about the rows of the merge.
    """

    other: str
    offset: Integer
    seal: Seal
    fork: Integer
    hosts: tuple[str, ...] = ()
    job_status: str
    message: str
    at: Moment


class JobStatusRecord(msgspec.Struct, tag_field="type", tag="job_status", kw_only=True):
    status: Literal["pending", "running", "completed", "failed", "cancelled", "paused"]
    at: Moment


class JobReopenedRecord(
    msgspec.Struct, tag_field="type", tag="job_reopened", kw_only=True, omit_defaults=True
):
    reason: str | None = None
    at: Moment


class JobPauseRecord(
    msgspec.Struct, tag_field="type", tag="job_pause", kw_only=True, omit_defaults=True
):
    """A person has paused the job, or with ``ended`` has resumed it.

    The pause holds whatever the job's status is.

    ``person``: the name of the person, if it is known.
    """

    ended: bool = False
    person: str | None = None
    at: Moment


class HoldRecord(msgspec.Struct, tag_field="type", tag="hold", kw_only=True, omit_defaults=True):
    """The run **holds**: it starts no row before ``until``. Without ``until``, the hold has ended.

    ``reason``: why the hold has begun or ended, for people.
    """

    until: Moment | None = None
    reason: str = ""
    at: Moment


class TuneRecord(msgspec.Struct, tag_field="type", tag="tune", kw_only=True, omit_defaults=True):
    """A request to a run to change its limits: see :meth:`JobService.tune_job`.

    - ``id``: the answer has the same id. ``run``: the ``id`` of the run. Another run ignores this
      record.
    - ``values``: the arguments that were given. ``person``: the name of the person, if it is known.
    """

    id: RandomId
    run: RandomId
    values: dict[str, Any]
    person: str | None = None
    at: Moment


class TunedRecord(msgspec.Struct, tag_field="type", tag="tuned", kw_only=True, omit_defaults=True):
    """The answer of a run to the ``tune`` with the same ``id``.

    From this record on, the changes count.

    - ``changes``: what was changed, from what to what. None: no limit.
    - ``reason``: why the run has not made all requested changes.
    """

    id: RandomId
    changes: dict[str, tuple[Any, Any]] = {}
    reason: str | None = None
    at: Moment


class JobCountsRecord(
    msgspec.Struct, tag_field="type", tag="job_counts", kw_only=True, omit_defaults=True
):
    total: Integer | None = None
    processed: Integer | None = None
    successful: Integer | None = None
    failed: Integer | None = None
    at: Moment


class JobErrorRecord(
    msgspec.Struct, tag_field="type", tag="job_error", kw_only=True, omit_defaults=True
):
    code: str
    message: str
    by: str | None = None  # "merge" or "repair"
    at: Moment


class LogRecord(msgspec.Struct, tag_field="type", tag="log", kw_only=True, omit_defaults=True):
    """A message for people. A message has no effect on the job or its rows.

    ``attempt``: the number of the attempt that has logged the message. ``logged_at``: set if the
    message was made before the commit of this record.
    """

    message: str
    level: str = "INFO"
    row: RowNumber | None = None
    attempt: AttemptNumber | None = None
    details: dict[str, Any] | None = None
    logged_at: Moment | None = None
    at: Moment


class ExtensionRecord(msgspec.Struct, kw_only=True):
    """A record of another program. Its ``type`` begins with "x_". The record has no effect."""

    type: str
    at: Moment


EXTENSION = "x_"  # the type of such a record begins with this text

JobLevelRecord = (
    JobRecord
    | RunRecord
    | RunEndedRecord
    | InputRecord
    | JobStatusRecord
    | JobReopenedRecord
    | JobPauseRecord
    | HoldRecord
    | TuneRecord
    | TunedRecord
    | JobCountsRecord
    | JobErrorRecord
    | MergeRecord
    | LogRecord
    | CallRecord
)
RowLevelRecord = (
    RowRecord
    | RowDataRecord
    | RowStatusRecord
    | RowStepRecord
    | RowSpentRecord
    | RowElsewhereRecord
)
ROW_LEVEL = frozenset(get_args(RowLevelRecord))
KnownRecord = JobLevelRecord | RowLevelRecord
Record = KnownRecord | ExtensionRecord
# Records that are put one at a time. put_record() sets their time.
SingleRecord = JobLevelRecord | RowStepRecord | RowSpentRecord | RowElsewhereRecord


encode_into = encode_json_into  # Journal.append calls it directly, for speed


# --- time ------------------------------------------------------------------------------------


def now() -> datetime:
    """The current time in UTC."""
    at = datetime.now(UTC)
    return at if at.microsecond else writable(at)


def writable(at: datetime) -> datetime:
    """Return a time that is encoded with a fraction.

    One microsecond is added to a whole second, because msgspec omits a fraction of 0.
    """
    return at if at.microsecond else at.replace(microsecond=1)


# --- encoding --------------------------------------------------------------------------------


def encode_record(record: Record) -> bytes:
    """Encode a record as JSON, without LF and without the seal that ends a commit."""
    return encode_json(record)


def encode_row(
    number: int,
    checksum: str,
    data: bytes,
    end: bytes,
    key: str | None = None,
    place: int | None = None,
) -> bytes:
    """Encode a ``row`` record, with its LF.

    ``data`` is JSON from :func:`journal.format.values.encode_value`. ``end`` comes from
    :func:`row_end`. Usually all rows of a commit share one ``end``.
    """
    text = encode_json(checksum)
    if place is not None:
        end = b',"place":%d%b' % (place, end)
    if key is None:
        return b'{"type":"row","row":%d,"checksum":%b,"data":%b%b' % (number, text, data, end)
    # fmt: off
    return b'{"type":"row","row":%d,"checksum":%b,"data":%b,"key":%b%b' % (
        number, text, data, encode_json(key), end)
    # fmt: on


def row_end(at: datetime) -> bytes:
    """Encode the end of a ``row`` record: its time, and LF."""
    return b',"at":"%b"}\n' % time_text(at).encode()

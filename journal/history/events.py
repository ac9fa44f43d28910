"""Turns a job's history into events that people can read.

Each record is one event, except that all new rows of a commit together are one event.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from journal.display.repr import changes_text, limit_text, tuned_text
from journal.format.commits import START, Block, Position
from journal.format.records import (
    CallRecord,
    ExtensionRecord,
    HoldRecord,
    InputRecord,
    JobCountsRecord,
    JobErrorRecord,
    JobPauseRecord,
    JobRecord,
    JobReopenedRecord,
    JobStatusRecord,
    LogRecord,
    MergeRecord,
    Record,
    RowDataRecord,
    RowElsewhereRecord,
    RowRecord,
    RowSpentRecord,
    RowStatusRecord,
    RowStepRecord,
    RunEndedRecord,
    RunRecord,
    TunedRecord,
    TuneRecord,
)
from journal.format.seal import is_sealed
from journal.history.history import History, log_entry
from journal.model import is_at_least
from journal.text import (
    cents_text,
    clock_text,
    counted,
    duration_text,
    encode_json,
    time_text,
    usage_text,
)

_FIRST_WINDOW_BYTES = 1 << 16  # the last part of the journal, with some 500 events

_ROW = re.compile(rb'\{"type":"row","row":([0-9]+),')
_STATE = re.compile(
    rb'\{"type":"(row_st(?:atus|ep))","row":([0-9]+),'
    rb'(?:"status"|"attempt":[0-9]+,"step":"(?:[^"\\]|\\.)*","state"):"([a-z_]+)"'
)

# The kind and level of an event for each status of a row.
_ROW_KINDS = {
    "processing": ("started", "DEBUG"),
    "completed": ("completed", "INFO"),
    "failed": ("failed", "ERROR"),
    "skipped": ("skipped", "INFO"),
    "needs_review": ("review", "WARNING"),
    "pending": ("put_back", "INFO"),  # "WARNING" if the row has an error
}
_STEP_LEVELS = {"started": "DEBUG", "done": "INFO", "failed": "WARNING", "dropped": "INFO"}
_HIGHEST_LEVELS = {
    b"row_status": {kind: level for kind, (_, level) in _ROW_KINDS.items()}
    | {"pending": "WARNING"},
    b"row_step": _STEP_LEVELS,
}
_DECISION_KINDS = {"retry": "retried", "redo": "redone"}
_MAX_RANGES = 20  # how many ranges of rows a text names
_JOB_LEVELS = {"failed": "ERROR", "cancelled": "WARNING", "paused": "WARNING"}


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that has happened in a job.

    - ``at``: the time, in UTC.
    - ``kind``: one of these words.

      - About the job: "created", "run" (a run begins), "run_ended" (early), "job" (its status changed), "reopened",
        "paused" and "resumed" (by a person), "hold" and "hold_ended" (of the run), "tune" (the run is
        asked to change its limits), "tuned", "counts", "error", "merge", "log".
      - About rows: "added", "changed" (data or idempotency key), "started", "completed", "failed",
        "skipped", "review", "put_back", "waiting" (for somebody else), "retried" (by a person),
        "redone" (by a person).
      - About a step of a row, or a step of all rows of a call: "step_started", "step_done",
        "step_failed", "step_dropped". About calls with many rows: "call_started", "call_waiting",
        "call_ended".
      - About attempts without a status in this journal: "spent" (a cost), "elsewhere" (a change of
        the row in another copy of the job).
      - Of another program: "extension", a record whose type begins with "x_".

    - ``level``: one of LOG_LEVELS.
    - ``row_number``: the row's number. ``None`` if the event is about the job or about many rows.
    - ``text``: a description. ``details``: the members of the event's record.
    """

    at: datetime
    kind: str
    level: str
    row_number: int | None = None
    text: str = ""
    details: dict[str, Any] | None = None


class Choice(NamedTuple):
    """Selects events.

    - ``rows``: select only events about rows in these ascending ranges.
    - ``level``: select only events of this level or a higher level.
    - ``since``: select only events at this time or later.
    """

    rows: list[range] | None = None
    level: str | None = None
    since: datetime | None = None

    def takes(self, level: str) -> bool:
        return self.level is None or is_at_least(level, self.level)

    def has_row(self, number: int | None) -> bool:
        if self.rows is None:
            return True
        if number is None or not self.rows[0].start <= number < self.rows[-1].stop:
            return False
        place = bisect_right(self.rows, number, key=lambda numbers: numbers.start)
        return place > 0 and number in self.rows[place - 1]

    def has_record(self, record: Record) -> bool:
        """Whether events about the rows of a record are selected."""
        ranges = getattr(record, "rows", None)
        if self.rows is None or not ranges or not isinstance(ranges, tuple):
            return self.has_row(getattr(record, "row", None))
        return any(a < rows.stop and rows.start <= b for a, b in ranges for rows in self.rows)

    @property
    def only_row(self) -> int | None:
        """The number of the row, if events about only one row are selected."""
        if self.rows is None or self.rows[-1].stop - self.rows[0].start != 1:
            return None
        return self.rows[0].start

    def blocks(self, history: History, begin: Position, end: Position | None) -> Iterator[Block]:
        """Yield the lines between two positions that may have a selected event."""
        row = self.only_row
        if row is None:
            return history.blocks(begin, end)
        return history.blocks_about(row, begin, end)

    def begin(self, history: History) -> Position:
        """Return the position from which a history must be read."""
        return START if self.since is None else history.position_at(self.since)


ALL = Choice()


def read_events(
    history: History, begin: Position, end: Position | None = None, choice: Choice = ALL
) -> Iterator[Event]:
    """Yield the events between two positions, oldest first, in constant memory.

    Raises the same errors as :meth:`History.blocks`.
    """
    since = choice.since
    for event in _events(history, begin, end, choice):
        if choice.takes(event.level) and (since is None or event.at >= since):
            yield event


def _events(
    history: History, begin: Position, end: Position | None, choice: Choice
) -> Iterator[Event]:
    count, last = 0, 0  # how many rows the present commit has added; the last row
    for block in choice.blocks(history, begin, end):
        for number, line in enumerate(block.lines):
            row = _ROW.match(line)
            if row is not None and choice.has_row(int(row[1])):
                count, last = count + 1, int(row[1])
                if count == 1:
                    first = history.record(block, number)
            if count and (row is None or is_sealed(line)):
                yield _added(first, count, last)
                count = 0
            if row is None and _may_be_wanted(line, choice):
                record = history.record(block, number)
                if choice.has_record(record):
                    yield event_of(record)
    if count:
        yield _added(first, count, last)


def _added(first: Record, count: int, last: int) -> Event:
    """Make one event for all rows that a commit has added. ``first``: the first row's record."""
    event = event_of(first)
    if count == 1:
        return event
    details = {"rows": count, "first": event.row_number, "last": last}
    text = f"{count:,} rows added"
    return msgspec.structs.replace(event, row_number=None, text=text, details=details)


def _may_be_wanted(line: bytes, choice: Choice) -> bool:
    """Return whether the line may contain a selected event. Such a line must be decoded."""
    if choice.rows is None and choice.level is None:
        return True
    found = _STATE.match(line)
    if found is None:
        return True
    if not choice.has_row(int(found[2])):
        return False
    return choice.takes(_HIGHEST_LEVELS[found[1]].get(found[3].decode(), "ERROR"))


def last_events(history: History, count: int, choice: Choice) -> tuple[list[Event], bool]:
    """Return the last ``count`` events, oldest first, and a flag.

    The flag is True if there may be earlier events, and False if there are certainly none. The
    journal is read backwards from its end, in windows. Each window is larger than the window that
    was read before it.
    """
    floor = choice.begin(history)
    end, window_bytes = history.end, _FIRST_WINDOW_BYTES
    events: deque[Event] = deque()
    while len(events) < count and end.offset > floor.offset:
        begin = history.position_before(end.offset - window_bytes, floor)
        left = count - len(events)
        part = deque(read_events(history, begin, end, choice), maxlen=left + 1)
        if len(part) > left:
            part.popleft()
            events.extendleft(reversed(part))
            return list(events), True
        events.extendleft(reversed(part))
        end, window_bytes = begin, window_bytes * 4
    return list(events), end.offset > floor.offset


# --- records in words ------------------------------------------------------------------------


def event_of(record: Record) -> Event:
    """Make the event for a record."""
    make = _EVENTS.get(type(record))
    return _event(record, record.__struct_config__.tag) if make is None else make(record)


def _event(record: Any, kind: Any, level: str = "INFO", text: str = "") -> Event:
    return Event(
        at=record.at,
        kind=kind,
        level=level,
        row_number=getattr(record, "row", None) or None,
        text=text,
        details=_details(record) or None,
    )


def _log_event(record: LogRecord) -> Event:
    entry = log_entry(record)
    event = _event(record, "log", entry.level, entry.message)
    return msgspec.structs.replace(event, at=entry.at, details=entry.details)


def _created_text(record: JobRecord) -> str:
    return ": ".join(filter(None, (record.name, record.original_command)))


def _counts_text(record: JobCountsRecord) -> str:
    return ", ".join(f"{name} {number}" for name, number in _details(record).items())


def _input_text(record: InputRecord) -> str:
    rows = counted(record.rows, "row|rows")
    return f"the whole input has {rows}, digest {record.digest[:16]}"


def _data_text(record: RowDataRecord) -> str:
    key = f"; idempotency key {record.key}" if record.key_count > 1 else ""
    return f"its data{key}" + _origin_text(record)


def _origin_text(record: RowDataRecord | RowStatusRecord | RowStepRecord | CallRecord) -> str:
    return f", on another copy, at {time_text(record.origin.at)}" if record.origin else ""


def _spent_text(record: RowSpentRecord) -> str:
    late = f"attempt {record.attempt} ended after its row was settled"
    whose = late if record.attempt is not None else "an attempt on another copy of this job"
    return ", ".join([whose, *_spent_parts(record)])


def _run_text(record: RunRecord) -> str:
    where = f"on {record.host} by {record.user} as process {record.pid}"
    return ": ".join(filter(None, (where, changes_text(record))))


def _pause_event(record: JobPauseRecord) -> Event:
    kind, level = ("resumed", "INFO") if record.ended else ("paused", "WARNING")
    return _event(record, kind, level, f"by {record.person}" if record.person else "")


def _hold_event(record: HoldRecord) -> Event:
    if record.until is None:
        return _event(record, "hold_ended", "INFO", record.reason)
    length = duration_text((record.until - record.at).total_seconds())
    text = f"for {length}, until {clock_text(record.until, record.at)}: {record.reason}"
    if record.until <= record.at:
        text = f"one row is tried: {record.reason}"
    return _event(record, "hold", "WARNING", text)


def _tune_event(record: TuneRecord) -> Event:
    asked = ", ".join(limit_text(name, value) for name, value in record.values.items())
    return _event(record, "tune", text=f"{asked} by {record.person}" if record.person else asked)


def _tuned_event(record: TunedRecord) -> Event:
    text = tuned_text(record) or "the run had these limits already"
    return _event(record, "tuned", "WARNING" if record.reason else "INFO", text)


def _row_event(record: RowStatusRecord) -> Event:
    kind, level = _ROW_KINDS[record.status]
    if record.decision is not None:
        kind = _DECISION_KINDS[record.decision]
    parts = []
    # A status that gives an attempt back repeats the error of an earlier attempt.
    is_error = record.error_code is not None or record.error_message is not None
    if is_error and not (record.reset and record.decision is None):
        if kind == "put_back" and record.error_code is not None:
            level = "WARNING"
        parts.append(": ".join(filter(None, (record.error_code, record.error_message))))
    if record.unknown:
        parts.append("whether it took effect is unknown")
    if record.due is not None and record.waits:
        kind, level = "waiting", "INFO" if record.since == record.happened_at else "DEBUG"
        parts.append(f"due at {time_text(record.due)}")
    parts += [text for text in (record.reason, record.tracking_number, record.label_path) if text]
    parts += _spent_parts(record)
    if record.result is not None and record.result != "":
        parts.append(_value_text(record.result))
    text = ", ".join(parts) + _origin_text(record)
    return _event(record, kind, level, text.removeprefix(", "))


def _spent_parts(record: RowStatusRecord | RowSpentRecord) -> list[str]:
    parts = [] if record.cost_cents is None else [f"cost {cents_text(record.cost_cents)}"]
    return parts + ([usage_text(record.usage)] if record.usage else [])


def _step_event(record: RowStepRecord) -> Event:
    parts = [record.step]
    if record.state == "failed":
        parts += filter(None, (record.error_code, record.error_message))
    elif record.result is not None:
        parts.append(_value_text(record.result))
    elif record.state == "dropped":
        parts = [f"{record.step}, and the steps after it"]
    text = _rows_text(record) + ": ".join(parts) + _origin_text(record)
    return _event(record, f"step_{record.state}", _STEP_LEVELS[record.state], text)


def _rows_text(record: RowStepRecord | CallRecord) -> str:
    rows = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in record.rows[:_MAX_RANGES])
    return f"rows {rows}{', ...' * (len(record.rows) > _MAX_RANGES)}: " if rows else ""


def _call_event(record: CallRecord) -> Event:
    level = "INFO" if record.state == "waiting" and record.since == record.at else "DEBUG"
    due = "" if record.due is None else f"due at {time_text(record.due)}"
    text = ", ".join(filter(None, (due, record.reason))) + _origin_text(record)
    text = _rows_text(record) + ": ".join(filter(None, (f"call {record.id}", text)))
    return _event(record, f"call_{record.state}", level, text)


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) else encode_json(value).decode()


def _elsewhere_event(record: RowElsewhereRecord) -> Event:
    """Make the event for a change in another copy that wasn't imported."""
    change = encode_json(record.change).decode()
    text = f"on another copy of this job, at {time_text(record.origin.at)}: {change}"
    event = _event(record, "elsewhere", "WARNING", text)
    return msgspec.structs.replace(event, details=record.change)


_NO_DETAILS = frozenset(("format", "id", "row", "at", "checksum", "created_at", "reset"))


def _details(record: Record) -> dict[str, Any]:
    """Return the members of a record that are set and aren't fields of the event."""
    skip = _NO_DETAILS | ({"status"} if isinstance(record, RowStatusRecord) else set())
    return {
        name: value
        for name in record.__struct_fields__
        if name not in skip
        and (value := getattr(record, name)) is not None
        and value is not False
        and value not in ("", ())
    }


# The functions that make events, by type of record. For another type, the name of the type is the
# kind of the event.
_EVENTS: dict[type[Record], Callable[[Any], Event]] = {
    JobRecord: lambda record: _event(record, "created", text=_created_text(record)),
    RunRecord: lambda record: _event(record, "run", text=_run_text(record)),
    RunEndedRecord: lambda record: _event(record, "run_ended", "WARNING", record.message),
    InputRecord: lambda record: _event(record, "input", text=_input_text(record)),
    JobStatusRecord: lambda record: _event(
        record, "job", _JOB_LEVELS.get(record.status, "INFO"), record.status
    ),
    JobReopenedRecord: lambda record: _event(record, "reopened", text=record.reason or ""),
    JobPauseRecord: _pause_event,
    HoldRecord: _hold_event,
    TuneRecord: _tune_event,
    TunedRecord: _tuned_event,
    JobCountsRecord: lambda record: _event(record, "counts", text=_counts_text(record)),
    JobErrorRecord: lambda record: _event(
        record, "error", "ERROR", f"{record.code}: {record.message}"
    ),
    MergeRecord: lambda record: _event(record, "merge", text=record.message),
    LogRecord: _log_event,
    ExtensionRecord: lambda record: _event(record, "extension", "DEBUG", record.type),
    RowRecord: lambda record: Event(
        at=record.at, kind="added", level="INFO", row_number=record.row, text="row added"
    ),
    RowDataRecord: lambda record: _event(record, "changed", text=_data_text(record)),
    RowStatusRecord: _row_event,
    RowStepRecord: _step_event,
    CallRecord: _call_event,
    RowSpentRecord: lambda record: _event(record, "spent", text=_spent_text(record)),
    RowElsewhereRecord: _elsewhere_event,
}

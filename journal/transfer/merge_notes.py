"""What a merge says of rows: in their logs, in their reviews, and in the job's error."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.format.idempotency import AnyRow
from journal.format.records import ELSEWHERE, UNSET_TIME, LogRecord, RowStatusRecord, crc_digits
from journal.format.values import encode_value
from journal.history.error_groups import Numbers
from journal.text import time_text
from journal.transfer.divergence import DATA, Change, key_of
from journal.transfer.merge_plan import Plan

_MOST_RANGES = 40  # in an error; the log names each row
_MOST_CHARACTERS = 1000
_MOST_DETAILS_BYTES = 1 << 20


def merge_record(plan: Plan, other: str) -> LogRecord:
    """What a merge begins with: by it others know how far theirs was merged."""
    theirs = plan.theirs
    counts = {
        "taken over": len(plan.take),
        "added": len(plan.added),
        "of these under another number": len(plan.renumbered),
        "worked on by both": len(plan.both),
        "completed here and worked on there": len(plan.twice),
    }
    text = ", ".join(f"{count} {what}" for what, count in counts.items())
    merge = {
        "other": other,
        "offset": theirs.end.offset,
        "crc": crc_digits(theirs.end.crc),
        "fork": plan.fork.offset,
        "hosts": list(plan.their_state.hosts),
        "job_status": plan.their_state.status.value,
    }
    name = os.path.basename(theirs.name) or theirs.name
    return LogRecord(
        message=f"merged {name}, kept as {other}; rows: {text}",
        details={"merge": merge},
        at=UNSET_TIME,
    )


def error_text(twice: Iterable[int], job: str, other: str, earlier: str) -> str:
    """The job's error: the rows that may be done twice. ``earlier``: what it says of other merges."""
    rows = Numbers(sorted(twice)).text(",", _MOST_RANGES)
    message = (
        f"rows {rows}: completed here, and worked on or given other data by "
        f"the copy in {other} as well: they may be done twice, or with the wrong data; "
        f"`journal log {job} --level error` has them all"
    )
    if len(earlier) > _MOST_CHARACTERS:
        earlier = "rows of earlier merges, too"
    return f"{message}; {earlier}" if earlier else message


def doubt_text(job: str, theirs: int) -> str:
    """The review of a row here that row ``theirs``, which was added to it, may be."""
    return (
        f"row {theirs} may be this row, as another copy has it: damage took the data "
        f"of one of them; `journal log {job} --row {theirs}` has what was done there"
    )


def review_text(plan: Plan, job: str, number: int, changes: list[Change]) -> str:
    """What both have done with a row, in statuses and times.

    Its values stay in their fields, but for the tracking number of a renumbered row.
    """
    log = f"`journal log {job} --row {number}`"
    last = [plan.read(change) for change in changes if change.status != DATA][-1:]
    there = "given other data"
    if last:
        is_status = isinstance(last[0], RowStatusRecord)
        there = _status_text(last[0]) if is_status else "worked on by a third copy"
    if number in plan.renumbered:
        return _renumbered_text(plan, number, changes, there if last else "pending", log)
    what = "worked on it"
    if number in plan.data:
        what = "changed its data, or one did and the other worked on it,"
    here = _status_text(plan.our_status(number))
    return f"both copies {what} since they parted: here {here}; there {there}; {log} has both"


def _renumbered_text(plan: Plan, number: int, changes: list[Change], there: str, log: str) -> str:
    """As :func:`review_text`; with a tracking number, which shows that it need not be done again."""
    told = [_told_tracking(plan.read(change)) for change in changes if change.status != DATA]
    tracking = next((text for text in reversed(told) if text), None)
    theirs = plan.renumbered[number]
    words = f"it is row {theirs} of another copy, {there} there"
    words += f", tracking number {tracking}" if tracking else ""
    if number in plan.doubtful:
        why = f"it may be row {theirs} here: damage took the data of one of them"
    else:
        why = f"row {theirs} here is another row"
    return f"{words}; {why}; {log} has all"


def told_elsewhere(plan: Plan, change: Change, record: RowStatusRecord | AnyRow) -> dict[str, Any]:
    """The members of a change of theirs as a log record holds them."""
    fields = msgspec.to_builtins(record)
    origin = getattr(record, "origin", None) or record
    fields |= {"id": change.id, "at": time_text(origin.at)}
    if not isinstance(record, RowStatusRecord):
        fields["key"] = key_of(record, plan.theirs.header)
    for name in ("type", "row", "origin", "nonce", "created_at", "checksum"):
        fields.pop(name, None)
    return _writable(fields)


def _told_tracking(record: Any) -> Any:
    """The tracking number in a status, or in what a log record tells of one."""
    if isinstance(record, LogRecord):
        return record.details[ELSEWHERE].get("tracking_number")
    return record.tracking_number


def _writable(fields: dict[str, Any]) -> dict[str, Any]:
    """What a log record can hold of a status: it nests deeper there, and takes more bytes."""
    try:
        fits = len(encode_value({ELSEWHERE: fields}, "details")) <= _MOST_DETAILS_BYTES
    except InvalidValueError:
        fits = False
    name = "data" if "data" in fields else "result"
    return fields if fits else {**fields, name: "left out here: too long, or nested too deep"}


def _status_text(record: RowStatusRecord | None) -> str:
    if record is None:
        return "pending"
    status = "in flight" if record.status == "processing" else record.status.replace("_", " ")
    code = f" ({record.error_code})" if record.error_code else ""
    return f"{status}{code} at {time_text(record.happened_at)}"

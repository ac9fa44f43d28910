"""Makes the texts of a merge: for the log, for reviews of rows, and for the job's error."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from journal.errors import InvalidValueError
from journal.format.records import (
    UNSET_TIME,
    AnyRow,
    MergeRecord,
    Origin,
    RowElsewhereRecord,
    RowStatusRecord,
    RowStepRecord,
)
from journal.format.seal import crc_digits
from journal.format.values import encode_value
from journal.history.error_groups import Numbers
from journal.store.steps import deciding_records
from journal.text import decode_json_exact, encode_json, time_text
from journal.transfer.divergence import IN_FLIGHT, Change, key_of
from journal.transfer.merge_plan import Plan
from journal.transfer.merge_steps import BothDid

_MAX_RANGES = 40  # the maximum in the job's error; the log names each row
_MAX_CHARACTERS = 1000
_MAX_DETAILS_BYTES = 1 << 20


def merge_record(plan: Plan, other: str) -> MergeRecord:
    """Make the first record of a merge.

    From this record, later merges know up to which commit the other copy was merged.
    """
    theirs = plan.theirs
    groups = {
        "imported": plan.take,
        "added": plan.added,
        "added under another number": plan.renumbered,
        "worked on by both copies and in review": plan.both,
        "completed here and also worked on there": plan.twice,
    }
    text = ", ".join(
        f"{len(rows)} {what} ({Numbers(sorted(rows)).text(',', _MAX_RANGES)})"
        for what, rows in groups.items()
        if rows
    )
    text = text or "no changes"
    if plan.there.extensions:
        text += f"; {plan.there.extensions} records of other programs (x_…) left out"
    name = os.path.basename(theirs.name) or theirs.name
    return MergeRecord(
        other=other,
        offset=theirs.end.offset,
        seal=crc_digits(theirs.end.crc),
        fork=plan.fork.offset,
        hosts=plan.their_state.hosts,
        job_status=plan.their_state.status.value,
        message=f"merged {name}, kept as {other}; rows: {text}",
        at=UNSET_TIME,
    )


def error_text(twice: Iterable[int], job: str, other: str, earlier: str) -> str:
    """Make the text of the job's error, which names the rows that may have been done twice.

    ``earlier`` is the text of this error from earlier merges, or "".
    """
    rows = Numbers(sorted(twice)).text(",", _MAX_RANGES)
    message = (
        f"rows {rows}: completed here, and also worked on or given other data by the copy in "
        f"{other}: they may have been done twice, or with the wrong data; "
        f"`journal log {job} --level error` lists them all"
    )
    if len(earlier) > _MAX_CHARACTERS:
        earlier = "also rows of earlier merges"
    return f"{message}; {earlier}" if earlier else message


def review_text(plan: Plan, job: str, number: int) -> str:
    """Make the message of a row's review: the reason, with statuses and times.

    Call this function before the review is written. The message states the status that the row has
    before the review. The message contains no value of the row.
    """
    if plan.reviews[number] == IN_FLIGHT:
        text = "it was in flight on another copy: it is unknown whether the attempt took effect"
        states = deciding_records(record for _, record in plan.their_steps(number))
        doubts = [repr(step) for step, record in states.items() if record.state == "started"]
        return f"{text}; step {', '.join(doubts)} began there" if doubts else text
    if number in plan.doubted:
        theirs = plan.doubted[number]
        return (
            f"row {theirs}, added from another copy, may be this row: damage took the data of one "
            f"of them; `journal log {job} --row {theirs}` shows what was done there"
        )
    changes = plan.take.get(number) or plan.conflicts[number]
    log = f"`journal log {job} --row {number}`"
    last = [plan.read(change) for change in changes if change.is_of_status][-1:]
    there = "given other data" if number in plan.data else "only steps changed"
    if last:
        is_status = isinstance(last[0], RowStatusRecord)
        there = _status_text(last[0]) if is_status else "worked on by a third copy"
    if number in plan.renumbered:
        return _renumbered_text(plan, number, there if last else "pending", log)
    what = "worked on it"
    if number in plan.data:
        what = "changed its data, or one did and the other worked on it,"
    here = _status_text(plan.our_status(number))
    steps = "".join(map(_step_text, plan.steps.get(number, ())))
    return f"both copies {what} since they diverged: here {here}; there {there}; {steps}{log} shows both"


def _step_text(did: BothDid) -> str:
    """Make the part of a review's message about a step that both copies did or may have done."""
    return f"step {did.step!r} here {_state_text(did.here)}, there {_state_text(did.there)}; "


def _state_text(record: RowStepRecord | None) -> str:
    if record is None:
        return "forgotten by a redo"
    at = time_text((record.origin or record).at)
    return f"in doubt since {at}" if record.state == "started" else f"done at {at}"


def tracking_number_there(plan: Plan, number: int) -> str | None:
    """Return the tracking number that the other copy has for a renumbered row, if any.

    A tracking number shows that the row needn't be done again.
    """
    if number not in plan.renumbered:
        return None
    changes = plan.take.get(number) or plan.conflicts.get(number) or ()
    found = [_tracking_number(plan.read(change)) for change in changes if change.is_of_status]
    return next((tracking for tracking in reversed(found) if tracking), None)


def _renumbered_text(plan: Plan, number: int, there: str, log: str) -> str:
    """Make the message of the review of a renumbered row: see :func:`review_text`."""
    theirs = plan.renumbered[number]
    text = f"row {theirs} of another copy, {there} there"
    if number in plan.doubtful:
        why = f"it may be row {theirs} here: damage took the data of one of them"
    else:
        why = f"row {theirs} here is another row"
    return f"{text}; {why}; {log} shows all"


def elsewhere_record(
    plan: Plan, change: Change, record: RowStatusRecord | RowStepRecord | AnyRow
) -> RowElsewhereRecord:
    """Make the record about a change of the other copy that isn't imported."""
    fields = decode_json_exact(encode_json(record))
    at = (getattr(record, "origin", None) or record).at
    if not isinstance(record, (RowStatusRecord, RowStepRecord)):
        fields["key"] = key_of(record, plan.theirs.header)
    for name in ("type", "row", "origin", "created_at", "checksum", "at"):
        fields.pop(name, None)
    origin = Origin(id=change.id, at=at)
    return RowElsewhereRecord(
        row=record.row, change=_writable(fields), origin=origin, at=UNSET_TIME
    )


def _tracking_number(record: Any) -> Any:
    """Return the tracking number of a status that was imported, or that is only recorded."""
    if isinstance(record, RowElsewhereRecord):
        return record.change.get("tracking_number")
    return record.tracking_number


def _writable(fields: dict[str, Any]) -> dict[str, Any]:
    """Return ``fields``. A note replaces data or a result that is too long or nested too deep."""
    try:
        fits = len(encode_value(fields, "change")) <= _MAX_DETAILS_BYTES
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

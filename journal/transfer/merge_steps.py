"""Merges the steps of a row that differ between two copies.

A step is one side effect of a row, such as a payment. After a merge, no step may be done twice
without a report.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from journal.format.records import RowStepRecord
from journal.format.values import canonical_json
from journal.store.steps import deciding_records
from journal.transfer.divergence import STEP, Change

Read = Callable[[Change], RowStepRecord]


class BothDid(NamedTuple):
    """A step that both copies did, or may have done.

    ``here`` and ``there`` are the records that decide the step's state in this and the other copy.

    If ``there`` is None, the other copy has redone the row. The redo would remove this step, which
    was done here, or may have been done here.
    """

    step: str
    here: RowStepRecord
    there: RowStepRecord | None


class StepNews(NamedTuple):
    """The changes of a row's steps that only one copy knows.

    - ``take``: the other copy's changes that are imported.
    - ``both``: steps that both copies did or may have done.
    - ``began_here``: True if this copy began a step that may have taken effect. This counts as work
      on the row. ``began_there``: True if the other copy did so.
    """

    take: list[Change]
    both: list[BothDid]
    began_here: bool
    began_there: bool


def compare_steps(
    new: list[Change], mine: list[Change], read_new: Read, read_mine: Read
) -> StepNews:
    """Compare the changes of a row's steps that only one of two copies knows.

    ``new`` are the changes that only the other copy knows. ``mine`` are the changes that only our
    copy knows. Both are in order. For each step:

    - If only the other copy has changes, they are imported.
    - If the other copy did the step, or may have done it, its changes are imported. After the
      merge, the step counts as done here if at least one copy has done it. If neither copy has done
      the step, it is in doubt here.
    - If both copies did the step, or may have done it, the row needs a review. There is one
      exception: both copies have the state "done" with equal results, and neither copy has begun
      the step since the copies diverged. In this case, the step took effect once: it began before
      the copies diverged.
    - If the other copy did not do the step, and our copy has changes, our changes stay. They may
      show that the step is in doubt (begun, without a recorded end).

    If the other copy has redone the row, the redo would remove each step that only our copy did, or
    may have done. If there is such a step, the row needs a review.
    """
    theirs, ours = _by_step(new), _by_step(mine)
    take: list[Change] = []
    both: list[BothDid] = []
    for step, changes in theirs.items():
        own = ours.get(step, [])
        decides, own_decides = _deciding(changes), _deciding(own)
        if own and decides is None:
            continue
        take += changes
        if decides is not None and own_decides is not None:
            did = BothDid(step, read_mine(own_decides), read_new(decides))
            if not _is_one_effect(did, [*changes, *own]):
                both.append(did)
    if _since_redo(new) != new:
        named = {did.step for did in both}
        both += (
            BothDid(step, read_mine(decides), None)
            for step, own in _by_step(_since_redo(mine)).items()
            if step not in named and (decides := _deciding(own)) is not None
        )
    return StepNews(take, both, _began(ours), _began(theirs))


def _by_step(changes: list[Change]) -> dict[str, list[Change]]:
    found: dict[str, list[Change]] = {}
    for change in changes:
        if change.status == STEP:
            found.setdefault(change.step, []).append(change)
    return found


def _since_redo(changes: list[Change]) -> list[Change]:
    redos = (at for at, change in enumerate(changes) if change.is_status and change.reset == "redo")
    return changes[max(redos, default=-1) + 1 :]


def _deciding(changes: list[Change]) -> Change | None:
    """Return the change that decides the state of one step.

    The first change to "done" decides. If there is none, the last change decides. Returns None if
    the deciding change is "failed" (the step was not done), or if there are no changes.
    """
    for change in deciding_records(changes).values():
        return None if change.state == "failed" else change
    return None


def _began(steps: dict[str, list[Change]]) -> bool:
    return any(
        _deciding(changes) is not None and any(change.state == "started" for change in changes)
        for changes in steps.values()
    )


def _is_one_effect(did: BothDid, changes: list[Change]) -> bool:
    here, there = did.here, did.there
    return (
        there is not None
        and here.state == there.state == "done"
        and canonical_json(here.result) == canonical_json(there.result)
        and all(change.state != "started" for change in changes)
    )

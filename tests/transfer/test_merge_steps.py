"""Steps in copies of a job: none is done twice without a word, whatever the copies did."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support.attempts import try_again
from support.children import journal_path
from support.copies import JOB, copied, go_on, is_well, packed
from support.effort import sample

from journal import JobService, RowStatus, open_job
from journal.transfer import pull_job, unpack_job
from journal.transfer.merge import Merged
from journal.transfer.pack import Source

ROW = 3  # is pending when the copies are made
ID = f"{JOB}:{ROW}"
STEP = "charge"
States = dict[str, tuple[str, Any]]


def pull(here: Path, there: Path) -> Merged | None:
    pulled = pull_job(here, Source(there / JOB), merge=True)
    is_well(here)
    return pulled.merged


def merged(here: Path, there: Path) -> Merged:
    found = pull(here, there)
    assert found is not None
    return found


def steps(root: Path, number: int = ROW) -> States:
    with JobService(root, sync="none") as service:
        found = service.get_steps(f"{JOB}:{number}")
        return {step.name: (step.state, step.result) for step in found}


def row(root: Path, number: int = ROW) -> Any:
    with JobService(root, sync="none") as service:
        return service.get_row(f"{JOB}:{number}")


def act(root: Path, *moves: str, number: int = ROW, step: str = STEP) -> None:
    """Do with a row and a step of it what the moves say, one commit each."""
    row_id = f"{JOB}:{number}"

    def do(service: JobService, move: str, result: str) -> None:
        found = service.get_row(row_id)
        attempt = 0 if found is None else found.attempts
        match move:
            case "start":
                service.start_row(row_id)
            case "begin":
                service.begin_step(row_id, attempt, step)
            case "end":
                service.end_step(row_id, attempt, step, result)
            case "fail":
                service.end_step(row_id, attempt, step, error=("E", result))
            case "record":
                service.record_step(row_id, step, result)
            case "record same":
                service.record_step(row_id, step, "same")
            case "not done":
                service.fail_step(row_id, step, result)
            case "complete":
                service.complete_row(row_id, f"T-{root.name}")
            case "review":
                service.review_row(row_id, "E", "m")
            case "fail row":
                service.fail_row(row_id, "E", "m")
            case "back":
                try_again(service, row_id, "E", "m")
            case "retry":
                service.retry_row(row_id)
            case "redo":
                service.redo_row(row_id)

    with JobService(root, sync="none") as service:
        for turn, move in enumerate(moves):
            do(service, move, f"{root.name}-{turn}")


CHARGED = ("start", "begin", "end")


def test_a_step_that_one_copy_has_done_is_not_called_on_the_other_after_a_pull(
    here: Path, there: Path
) -> None:
    act(there, *CHARGED, "back")
    go_on(here, 4)
    found = merged(here, there)
    assert found.review == []
    called: list[str] = []

    def handle(row: Any) -> Any:
        return row.step(STEP, called.append, row.id)

    with open_job(here / JOB) as job:
        job.run(handle)
    assert row(here).result == "there-2"
    assert ID not in called


def test_a_row_that_was_in_flight_there_is_reviewed_with_the_step_that_began(
    here: Path, there: Path
) -> None:
    act(there, "start", "begin")
    go_on(here, 4)
    assert merged(here, there).review == [ROW]
    assert row(here).error_code == "in_flight_elsewhere"
    assert row(here).error_message.endswith("; step 'charge' began there")


@pytest.mark.parametrize("ends", list(product(["end", "in doubt"], repeat=2)), ids="-".join)
def test_a_step_that_both_did_or_may_have_done_needs_a_review_with_both_states(
    here: Path, there: Path, ends: tuple[str, str]
) -> None:
    for root, end in zip((here, there), ends, strict=True):
        act(root, "start", "begin", *(["end"] if end == "end" else []), "back")
    found = merged(here, there)
    assert found.review == [ROW]
    text = row(here).error_message
    for side, end in zip(("here", "there"), ends, strict=True):
        state = "done at" if end == "end" else "in doubt since"
        assert re.search(f"{side} {state} ", text), text
        assert f"{side}-2" not in text
    assert "step 'charge' here" in text
    expected = {STEP: ("started", None)} if "end" not in ends else None
    assert expected is None or steps(here) == expected
    assert steps(here)[STEP][0] == ("done" if "end" in ends else "started")
    merged(there, here)
    assert steps(there)[STEP][0] == steps(here)[STEP][0]
    assert row(there).status is RowStatus.NEEDS_REVIEW
    assert "step 'charge'" in row(there).error_message


def test_what_was_not_done_there_does_not_settle_a_doubt_that_arose_here(here: Path) -> None:
    act(here, "start", "begin", "review")
    there = copied(here, "there")
    act(there, "not done")
    act(here, "not done", "retry", "start", "begin", "review")
    for root, other in ((here, there), (there, here)):
        pull(root, other)
        assert steps(root) == {STEP: ("started", None)}
        assert row(root).error_code == "E"  # the review that was asked for, and no other
    assert pull(here, there) is None
    assert pull(there, here) is None


def test_a_redo_that_comes_through_a_copy_which_had_imported_a_step_after_it_keeps_that_step(
    here: Path,
) -> None:
    act(here, "start", "fail row")
    there, third = copied(here, "there"), copied(here, "third")
    act(there, "redo")
    act(here, "record")
    pull(third, here)
    go_on(third, 4)
    pull(there, here)
    merged(third, there)
    assert steps(third) == steps(there) == {STEP: ("done", "here-0")}
    assert pull(third, there) is None
    pull(there, third)
    assert pull(there, third) is None


def test_a_fast_forward_and_a_pack_copy_steps_byte_for_byte(
    here: Path, there: Path, tmp_path: Path
) -> None:
    act(there, *CHARGED)
    act(there, "begin", step="mail")
    pulled = pull_job(here, Source(there / JOB))
    assert pulled.action == "forwarded"
    unpack_job(tmp_path / "unpacked", packed(there, tmp_path / "pack"))
    for root in (here, tmp_path / "unpacked"):
        assert journal_path(root, JOB).read_bytes() == journal_path(there, JOB).read_bytes()
        assert steps(root) == steps(there)


def test_an_error_that_comes_late_leaves_a_doubt_of_another_copy(here: Path, there: Path) -> None:
    act(here, "start", "begin", "fail")
    act(there, "start", "begin")
    pull(here, there)
    with JobService(here) as service:
        service.end_step(ID, 1, STEP, error=("E", "late"))
    assert steps(here) == {STEP: ("started", None)}


# --- every pair of short histories

BEFORE: Sequence[tuple[str, ...]] = [
    (),
    ("start",),
    ("start", "begin"),
    ("start", "begin", "review"),
    ("start", "begin", "fail"),
    ("start", "begin", "end"),
    ("start", "begin", "end", "fail row"),
]
SINCE: Sequence[tuple[str, ...]] = [
    (),
    ("back",),
    ("record",),
    ("not done",),
    ("end",),
    ("fail",),
    ("end", "complete"),
    ("begin",),
    ("begin", "end"),
    ("begin", "fail"),
    ("begin", "end", "complete"),
    ("redo",),
    ("redo", "start", "begin"),
    ("redo", "start", "begin", "end"),
    ("retry", "start", "begin"),
    ("retry", "start", "begin", "end", "complete"),
    ("not done", "retry", "start", "begin", "end"),
    ("not done", "retry", "start", "begin", "fail", "back"),
    ("start", "begin"),
    ("start", "begin", "end", "complete"),
]


def possible(before: tuple[str, ...], since: tuple[str, ...]) -> bool:
    """Whether the moves can be made, as far as they follow on each other."""
    moves = (*before, *since)
    status, step = "pending", ""
    for move in moves:
        new = {
            "start": ("pending", "processing"), "complete": ("processing", "completed"),
            "review": ("processing", "review"), "fail row": ("processing", "failed"),
            "back": ("processing", "pending"),
        }.get(move)  # fmt: skip
        if new is not None:
            if status != new[0]:
                return False
            status = new[1]
        elif move == "retry":
            if status not in ("review", "failed"):
                return False
            status = "pending"
        elif move == "redo":
            if status not in ("completed", "failed"):
                return False
            status, step = "pending", ""
        elif move == "begin":
            if status != "processing" or step in ("begun", "done"):
                return False
            step = "begun"
        elif move in ("end", "fail"):
            if step != "begun":
                return False
            step = "done" if move == "end" else ""
        elif move == "not done":
            if step != "begun" or status == "processing":
                return False
            step = ""
        elif move == "record":
            if step == "done":
                return False
            step = "done"
    return True


def pairs() -> Iterator[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]:
    for before in BEFORE:
        able = [since for since in SINCE if possible(before, since)]
        yield from ((before, ours, theirs) for ours in able for theirs in able)


def began(since: tuple[str, ...]) -> bool:
    """Whether the step was begun by these moves, and not said to have failed after."""
    at = max((at for at, move in enumerate(since) if move == "begin"), default=-1)
    return at >= 0 and not {"fail", "not done"} & set(since[at:])


def test_of_any_two_short_histories_no_step_is_lost_or_done_twice_without_a_word(
    tmp_path: Path,
) -> None:
    """Each row is one pair of histories. What would let an attempt repeat a step is looked for."""
    cases = sample(pairs(), 150)
    assert len(cases) > 100
    here = tmp_path / "here"
    with JobService(here, sync="none") as service:
        service.create_job("Moved", job_id=JOB, row_data=[{"data": {}} for _ in cases])
        service.start_job(JOB)
    for number, (before, _, _) in enumerate(cases, 1):
        act(here, *before, number=number)
    there = copied(here, "there")
    for number, (_, ours, theirs) in enumerate(cases, 1):
        act(here, *ours, number=number)
        act(there, *theirs, number=number)
    named = {here: set[int](), there: set[int]()}
    for root, other in ((here, there), (there, here)) * 2:
        found = pull(root, other)
        if found is not None:
            named[root] |= {*found.review, *found.twice}
    assert pull(here, there) is None
    assert pull(there, here) is None
    for number, (before, ours, theirs) in enumerate(cases, 1):
        states = [steps(root, number).get(STEP, ("none", None))[0] for root in (here, there)]
        both = began(ours) and began(theirs)
        if both:
            assert all(number in rows for rows in named.values()), (before, ours, theirs)
        if began(ours) or began(theirs):
            quiet = [row(root, number).status for root in (here, there)]
            for state, status in zip(states, quiet, strict=True):
                assert state in ("done", "started") or status in ("completed", "needs_review"), (
                    before, ours, theirs, states, quiet,
                )  # fmt: skip
        may_differ = "redo" in ours + theirs or set(states) == {"started", "failed"}
        assert states[0] == states[1] or may_differ, (before, ours, theirs, states)

"""Copies of a job on the disk, each with the content that the rules of a merge predict."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.attempts import try_again, wait
from support.children import journal_path
from support.copies import JOB, is_well, make_job
from support.merge_rules import (
    DATA,
    STEP,
    Copy,
    Deed,
    Found,
    data_of,
    is_done_review,
    making,
    status_of,
    steps_of,
)

from journal import InvalidStateTransition, JobService
from journal.model import Policy
from journal.service import existing_job
from journal.transfer import pull_job
from journal.transfer.pack import Source
from journal.transfer.three_way import AGAIN

POLICY_STATUSES: dict[Policy, str] = {
    "review": "needs_review",
    "retry": "pending",
    "fail": "failed",
}
# The error codes of policies and of merges. Deeds with these codes have no name.
_NAMELESS = ("interrupted", "in_flight_elsewhere", "both_copies", "maybe_done_twice")
_decode = msgspec.json.Decoder().decode


class Twin:
    """A copy of a job. ``root`` is its store, and ``rules`` is the content that it must have.

    After each pull, the copy is compared with ``rules``. The comparison covers the result of the
    pull, and the status, attempts and records of each row. The records must have the right order,
    times and ids.
    """

    def __init__(self, root: Path, rules: Copy) -> None:
        self.root = root
        self.rules = rules
        self._numbers = itertools.count(1)
        self._known: dict[str, tuple[Any, Any]] = {}  # time and id, by the deed's name

    @classmethod
    def make(cls, root: Path, rows: int) -> Twin:
        make_job(root, rows)
        rules = Copy(rows)
        for number in (1, 2):
            rules.rows[number] += [
                Deed("", "processing"),
                Deed("", "completed", tracking=f"T-{number}"),
            ]
            rules.costs[f"T-{number}"] = number
        rules.commit()
        return cls(root, rules)

    def copied(self, name: str) -> Twin:
        root = Path(shutil.copytree(self.root, self.root.with_name(name)))
        twin = Twin(root, deepcopy(self.rules))
        twin._known = self._known
        return twin

    @property
    def statuses(self) -> dict[int, str]:
        return {number: status_of(row) for number, row in self.rules.rows.items()}

    # --- the changes of a copy

    def act(
        self,
        moves: Mapping[int, Sequence[str]],
        policy: Policy | None = None,
        tracking: Callable[[int, str], str | None] = lambda _number, name: name,
    ) -> None:
        """Change rows in one commit, except rows with steps.

        With ``policy``, settle the rows in flight afterwards, like a run.
        """
        with JobService(self.root, sync="none") as service:
            before = sum(map(len, self.rules.rows.values()))
            with_steps = {n for n, did in moves.items() if any(m.startswith("step ") for m in did)}
            with service.batch(JOB):
                for number in moves.keys() - with_steps:
                    for status in moves[number]:
                        self._move(service, number, status, tracking)
            for number in with_steps:  # a step can't begin in a batch
                for status in moves[number]:
                    self._move(service, number, status, tracking)
            if sum(map(len, self.rules.rows.values())) > before:
                self.rules.commit()
            if policy is not None:
                service.recover_job(JOB, policy)
                self._settle(policy)

    def _move(
        self,
        service: JobService,
        number: int,
        status: str,
        tracking: Callable[[int, str], str | None],
    ) -> None:
        row, count = f"{JOB}:{number}", next(self._numbers)
        if existing_job(service, JOB).status.is_ended:  # with the last open row
            service.reopen_job(JOB)
        name = f"{self.root.name}-{count}"
        if status.startswith("step "):
            return self._step(service, number, status.removeprefix("step "), name)
        if is_done_review(self.rules.rows[number]) and status in ("pending", "retry"):
            with pytest.raises(InvalidStateTransition, match="journal redo"):
                service.retry_row(row)
            status = "redo"
        reset = status.rstrip("#") if status in ("retry", "redo", "redo#", "wait") else None
        shipped = tracking(number, name) if status == "completed" else None
        match status:
            case "processing":
                service.start_row(row)
            case "completed":
                service.complete_row(row, shipped, cost_cents=count, result=name)
            case "failed":
                service.fail_row(row, "E", name, cost_cents=count)
            case "skipped":
                service.skip_row(row, name, cost_cents=count)
            case "pending":
                try_again(service, row, "E", name, cost_cents=count)
            case "wait":
                wait(service, row, reason=name, cost_cents=count)
            case "retry":
                service.retry_row(row)
            case "redo" | "redo#":
                service.redo_row(row, name, new_key=status == "redo#")
            case "same data" | "other data":
                value = name if status == "other data" else "same"
                service.update_row_data(row, {"v": value})
                return self._give(service, row, name)
            case "needs_review":
                service.review_row(row, "E", name, cost_cents=count)
        if reset in (None, "wait") and status != "processing":
            self.rules.costs[name] = count
        deed = Deed(name, "pending" if reset else status, tracking=shipped, reset=reset)
        self.rules.rows[number].append(deed)
        if status == "redo#":
            self._give(service, row, f"{name}#")
        return None

    def _give(self, service: JobService, row_id: str, name: str) -> None:
        row = service.get_row(row_id)
        assert row is not None
        content = (row.data.get("v", ""), row.idempotency_key)
        self.rules.rows[row.row_number].append(Deed(name, DATA, content=content))

    def _step(self, service: JobService, number: int, move: str, name: str) -> None:
        """Begin, do, fail or settle a step, if the step's state and the row's status allow the
        change.
        """
        rules, row = self.rules.rows[number], f"{JOB}:{number}"
        step, _, what = move.partition(" ")
        known, found = steps_of(rules).get(step), service.get_row(row)
        state = known.state if known else ""
        is_in_flight = status_of(rules) == "processing"
        assert found is not None

        def note(state: str) -> None:
            is_begin = state == "started"
            deed = Deed(f"{name}>" if is_begin else name, STEP, step=step, state=state)
            self.rules.rows[number].append(deed)

        if what in ("begin", "do", "break") and is_in_flight and state in ("", "failed"):
            service.begin_step(row, found.attempts, step)
            note("started")
            if what == "do":
                service.end_step(row, found.attempts, step, name)
                note("done")
            elif what == "break":
                service.end_step(row, found.attempts, step, error=("E", name))
                note("failed")
        elif what == "record" and state != "done":
            service.record_step(row, step, name)
            note("done")
        elif what == "not done" and state == "started" and not is_in_flight:
            service.fail_step(row, step, name)
            note("failed")

    def _settle(self, policy: Policy) -> None:
        settled = [n for n, status in self.statuses.items() if status == "processing"]
        for number in settled:
            name = f"{self.root.name}-{next(self._numbers)}"
            self.rules.rows[number].append(Deed(name, POLICY_STATUSES[policy], "policy"))
        if settled or not self.rules.is_paused:
            self.rules.commit()
        self.rules.is_paused = True

    def add_rows(self, *keys: str | None) -> None:
        """Add rows with these keys. For None, the row gets a key that no other copy has."""
        rows = [{"data": {"v": f"{self.root.name}-new"}, "idempotency_key": key} for key in keys]
        with JobService(self.root, sync="none") as service:
            if existing_job(service, JOB).status.is_ended:
                service.reopen_job(JOB)
                self.rules.is_paused = True
            for row in service.create_rows(JOB, rows):
                made = making(row.data["v"], row.idempotency_key)
                self.rules.rows[row.row_number] = [made]
                self.rules.made[row.row_number] = row.idempotency_key
        self.rules.commit()

    def reopen(self) -> None:
        """End the job, and begin another pass."""
        with JobService(self.root, sync="none") as service:
            if self.rules.is_paused:
                service.update_status(JOB, "running")
            service.update_status(JOB, "completed")
            service.reopen_job(JOB)
        self.rules.is_paused = True
        self.rules.commit()

    # --- pulls

    def pull(self, other: Twin) -> tuple[str, Found]:
        """Pull, check the result against the prediction of the rules, and return the prediction."""
        action, expected = self.rules.pull(other.rules)
        before = journal_path(self.root, JOB).read_bytes()
        pulled = pull_job(self.root, Source(other.root / JOB), merge=True)
        assert pulled.action == action
        if action in ("ahead", "identical"):
            assert journal_path(self.root, JOB).read_bytes() == before
            return action, expected
        is_well(self.root)
        assert (pulled.merged is not None) == (action == "merged")
        if pulled.merged is not None:
            for name, numbers in vars(expected).items():
                assert getattr(pulled.merged, name) == numbers, name
            kept = self.root / JOB / pulled.merged.other
            assert kept.read_bytes() == journal_path(other.root, JOB).read_bytes()
        self.check()
        return action, expected

    def check(self) -> None:
        with JobService(self.root, sync="none") as service:
            rows, job = service.get_rows(JOB), service.get_job(JOB)
            steps = {row.row_number: service.get_steps(row.id) for row in rows}
        assert job is not None
        found = self._records()
        for row, (number, deeds) in zip(rows, sorted(self.rules.rows.items()), strict=True):
            statuses = [deed for deed in deeds if deed.status]
            attempts = [deed.status for deed in statuses].count("processing")
            resets = [at for at, deed in enumerate(statuses) if deed.reset not in (None, "wait")]
            begin = resets[-1] if resets else 0
            earlier = [deed.status for deed in statuses[:begin]].count("processing")
            earlier += sum(
                deed.reset == "wait" and before.status == "processing"
                for before, deed in itertools.pairwise(statuses[begin:])
            )
            assert row.status == status_of(deeds), number
            assert (row.attempts, row.earlier_attempts) == (attempts, earlier), number
            assert (row.data.get("v", ""), row.idempotency_key) == data_of(deeds).content, number
            states = {step: deed.state for step, deed in steps_of(deeds).items()}
            assert {step.name: step.state for step in steps[number]} == states, number
            assert (row.error_code == "maybe_done_twice") == is_done_review(deeds), number
            assert found.get(number, []) == list(map(_in_short, deeds[1:])), number
        assert job.total_cost_cents == sum(self.rules.costs.values())

    def _records(self) -> dict[int, list[tuple[str, str, str]]]:
        """Return the deeds of each row that the journal has, in order. See :func:`_in_short`."""
        found: dict[int, list[tuple[str, str, str]]] = {}
        for line in journal_path(self.root, JOB).read_bytes().splitlines():
            record = _decode(line)
            if record["type"] in ("row_status", "row_data", "row_step"):
                level, deed, origin = "", record, record.get("origin")
            elif record["type"] == "row_elsewhere":
                level, deed, origin = "logged", record["change"], record["origin"]
            else:
                continue
            name = _name_of(deed)
            status = DATA if "data" in deed else _step_text(deed) or deed["status"]
            found.setdefault(record["row"], []).append((level, status, name))
            if status == DATA:
                continue  # two deeds may give a row the same content
            if name:
                self._keeps(name, record["at"], origin)
        return found

    def _keeps(self, name: str, at: str, origin: dict[str, str] | None) -> None:
        """Check that a deed has the same time and id in all copies that import or log the deed."""
        time, id_ = self._known.get(name, (None, None))
        new_time, new_id = (at, None) if origin is None else (origin["at"], origin["id"])
        assert new_time == (time or new_time), name
        new_id = None if new_id == AGAIN else new_id
        assert id_ is None or new_id is None or new_id == id_, name
        self._known[name] = (new_time, id_ or new_id)


def _name_of(deed: dict[str, Any]) -> str:
    if "data" in deed:
        return f"{deed['data'].get('v', '')} {deed['key']}"
    if deed.get("reset") == "wait":  # the status repeats the error of an earlier attempt
        return str(deed["reason"])
    if deed.get("error_code") in _NAMELESS:
        return ""
    return deed.get("result") or deed.get("error_message") or deed.get("reason") or ""


def _step_text(deed: dict[str, Any]) -> str:
    return f"{deed['step']} {deed['state']}" if "step" in deed else ""


def _in_short(deed: Deed) -> tuple[str, str, str]:
    """Return "logged" or "", the deed's status, and its name if the record has the name."""
    level = "logged" if deed.is_logged else ""
    if deed.content is not None:
        return level, DATA, " ".join(deed.content)
    if deed.what == STEP:
        return level, f"{deed.step} {deed.state}", deed.name if deed.state != "started" else ""
    is_named = deed.by == "caller" and deed.what != "processing" and deed.reset != "retry"
    return level, deed.what, deed.name if is_named else ""

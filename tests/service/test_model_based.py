"""Random operations against a plain model that knows the transition tables and nothing else."""

import copy
import gc
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.attempts import give_back, start, wait
from support.effort import IS_LONG
from support.platforms import IS_WINDOWS

import journal.fs.locks
import journal.fs.system
from journal import (
    LOG_LEVELS,
    VALID_ROW_TRANSITIONS,
    VALID_TRANSITIONS,
    InvalidStateTransition,
    InvalidValueError,
    JobBusyError,
    JobPausedError,
    JobRow,
    JobService,
    JobStatus,
    RowNotFoundError,
    RowStatus,
    ServiceClosedError,
    StepInDoubtError,
    StepRepeatedError,
)
from journal.model import JOB_MEMBERS
from journal.store.list_jobs import state_of_job

MAX_JOBS = 3
MAX_ROWS = 40
MAX_VIEWS = 6
ROW_TIMES = ("created_at", "updated_at", "processed_at")
JOB_TIMES = (
    *("created_at", "updated_at", "started_at", "completed_at"),
    *("pass_started_at", "reopened_at", "worked_s"),
)
OUTCOMES = (RowStatus.COMPLETED, RowStatus.FAILED, RowStatus.SKIPPED)


class Refused(Exception):
    """The model predicts InvalidStateTransition."""

    def __init__(self, current: str, attempted: str, allowed: tuple[str, ...]) -> None:
        super().__init__(current, attempted, allowed)
        self.expected = (str(current), str(attempted), [str(state) for state in allowed])


class Busy(Exception):
    """The model predicts JobBusyError."""


class Paused(Exception):
    """The model predicts JobPausedError."""


class Missing(Exception):
    """The model predicts RowNotFoundError."""


class Repeated(Exception):
    """The model predicts StepRepeatedError."""


class Taken(Exception):
    """The model predicts InvalidValueError for a row number."""


class Ended(Exception):
    """The model predicts InvalidStateTransition."""


class Doubt(Exception):
    """The model predicts StepInDoubtError."""


class Abandoned(Exception):
    """What a batch that is to be discarded raises."""


class ModelJob:
    """A job as dicts. Every method but begin_step raises before it changes anything."""

    def __init__(self, header: dict[str, Any]) -> None:
        self.header = header
        self.status = JobStatus.PENDING
        self.is_paused = False  # by a person
        self.passes = 1
        self.spent_cents = Decimal(0)
        self.usage: dict[str, int] = {}
        self.keys: dict[int, tuple[str, int]] = {}  # of each row: the first, and how many it had
        self.version: str | None = None  # of the last run in this pass
        self.error: tuple[str | None, str | None] = (None, None)
        self.extra = {"total": 0, "processed": 0, "successful": 0, "failed": 0}
        self.rows: dict[int, dict[str, Any]] = {}
        self.logs: list[tuple[str, str]] = []
        self.holder: int | None = None
        self.in_batch = self.moved_in_batch = False
        self.hosts: tuple[str, ...] = ()
        self.was_started = False
        self.settled: list[int] = []
        self.resumes = False  # whether the last run had the policy "resume"
        self.by_run: set[int] = set()  # rows whose last attempt a run has begun
        self.steps: dict[int, dict[str, dict[str, Any]]] = {}  # of each row that has any, by name
        self.reused: set[tuple[int, int]] = set()  # attempts that began a step twice
        self.waits_since: dict[tuple[int, int | None], datetime] = {}  # by row and reset
        self.resets: dict[int, int] = {}  # the attempts of each row before its last reset
        self.errors_before: dict[int, dict[str, Any]] = {}  # of each row, before its last attempt
        # What the services last said, times included, of all that has not been touched since.
        self.seen_job: Any = None
        self.seen_rows: dict[int, JobRow] = {}
        self.latest: datetime | None = None

    def copy(self) -> "ModelJob":
        new = copy.copy(self)
        new.extra = dict(self.extra)
        new.rows = {number: dict(row) for number, row in self.rows.items()}
        new.seen_rows = dict(self.seen_rows)
        new.logs = list(self.logs)
        new.keys = dict(self.keys)
        new.reused = set(self.reused)
        new.resets, new.errors_before = dict(self.resets), dict(self.errors_before)
        new.steps = {number: dict(steps) for number, steps in self.steps.items()}
        new.by_run = set(self.by_run)
        return new

    def pick(self, pick: int) -> int:
        numbers = sorted(self.rows)
        return numbers[pick % len(numbers)] if numbers and pick != 50 else 2**50

    # --- what follows from the rows

    @property
    def is_over(self) -> bool:
        return not VALID_TRANSITIONS[self.status]

    def numbers(self, status: RowStatus | None = None) -> list[int]:
        return sorted(n for n, row in self.rows.items() if status in (None, row["status"]))

    def row_counts(self) -> dict[str, int]:
        successful = len(self.numbers(RowStatus.COMPLETED))
        failed = len(self.numbers(RowStatus.FAILED))
        return {
            "total": len(self.rows),
            "processed": successful + failed,
            "successful": successful,
            "failed": failed,
        }

    def counts(self) -> dict[str, int]:
        return {
            f"{name}_rows": max(0, value + self.extra[name])
            for name, value in self.row_counts().items()
        }

    def status_counts(self) -> dict[str, int]:
        return {
            "pending_count": len(self.numbers(RowStatus.PENDING)),
            "processing_count": len(self.numbers(RowStatus.PROCESSING)),
            "skipped_count": len(self.numbers(RowStatus.SKIPPED)),
            "needs_review_count": len(self.numbers(RowStatus.NEEDS_REVIEW)),
        }

    # --- changes

    def _refuse_if_over(self) -> None:
        if self.is_over:
            raise Refused(self.status, JobStatus.RUNNING, ())

    def _touch(self, *numbers: int) -> None:
        self.seen_job = None
        for number in numbers:
            self.seen_rows.pop(number, None)

    def create_rows(self, items: list[dict[str, Any]]) -> list[int]:
        self._refuse_if_over()
        following = max(self.rows, default=0) + 1
        new: dict[int, dict[str, Any]] = {}
        for item in items:
            number = item.get("row_number") or following
            if number in self.rows or number in new:
                raise Taken
            following = max(following, number + 1)
            data = item.get("data") or {}
            text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            new[number] = {
                "data": data,
                "row_checksum": item.get("row_checksum")
                or hashlib.sha256(text.encode()).hexdigest(),
                "attempts": 0,
                "earlier_attempts": 0,
                "idempotency_key": "",
                "place": None,
            }
            self._set(new[number], RowStatus.PENDING)
        self.rows.update(new)
        if new:
            self._touch(*new)
        return list(new)

    def _set(self, row: dict[str, Any], target: RowStatus, **fields: Any) -> None:
        row.update(
            dict.fromkeys(
                (
                    "tracking_number",
                    "label_path",
                    "cost_cents",
                    "result",
                    "error_code",
                    "error_message",
                    "reason",
                )
            )
        )
        row.update(version=None, unknown=False, usage=None, traceback=None, due=False)
        row.update(fields)
        row["status"] = target
        if "cost_cents" in fields:
            cost = Decimal(str(fields["cost_cents"]))
            self.spent_cents += cost
            row["cost_cents"] = shown_cost(cost)
        # A new dict, since a batch works on a shallow copy of the model.
        self.usage = {**self.usage}
        for name, number in fields.get("usage", {}).items():
            self.usage[name] = self.usage.get(name, 0) + number
        row["attempts"] += target is RowStatus.PROCESSING

    def change_row(self, who: int, number: int, verb: str, fields: dict[str, Any]) -> None:
        if verb in ("retry", "redo"):
            self._hold_run_if_over(who)
        if number not in self.rows:
            raise Missing
        row, target = self.rows[number], TARGETS[verb]
        is_in_flight = row["status"] is RowStatus.PROCESSING
        if verb == "retry" and is_in_flight and self.holder not in (None, who):
            raise Busy
        allowed = VALID_ROW_TRANSITIONS[row["status"]]
        if target not in allowed and not (verb == "redo" and row["status"] is RowStatus.COMPLETED):
            raise Refused(row["status"], target, allowed)
        if verb == "redo" and row["status"] in (RowStatus.PROCESSING, RowStatus.NEEDS_REVIEW):
            allowed = tuple(status for status in allowed if status is not RowStatus.PENDING)
            raise Refused(row["status"], target, allowed)
        gives_back = verb in ("give_back", "wait")
        if gives_back and row["status"] is not RowStatus.PROCESSING:
            allowed = tuple(status for status in allowed if status is not target)
            raise Refused(row["status"], target, allowed)
        if verb in ("retry", "redo"):
            self._reopen_if_over()
        elif target not in OUTCOMES and not gives_back:  # which ends an attempt
            self._refuse_if_over()
        new_key = fields.pop("new_key", False)
        was_in_flight = row["status"] is RowStatus.PROCESSING
        if target is RowStatus.PROCESSING:
            self.by_run = self.by_run | {number} if verb == "run" else self.by_run - {number}
            fields["version"] = self.version
            self.errors_before[number] = {name: row[name] for name in OF_ERROR}
        elif gives_back:
            fields |= self.errors_before[number]
        elif was_in_flight and target in OUTCOMES:
            fields["version"] = row["version"]
        self._set(row, target, **fields)
        if verb in ("retry", "redo"):
            self._reset(number)
        row["earlier_attempts"] += gives_back
        row["due"] = verb == "wait"
        if new_key:
            self._renew_key(number)
        if verb == "redo":
            self.steps.pop(number, None)
        self._touch(number)
        # The outcome of an attempt ends no pass, and a run that works ends it itself.
        if (
            target in (*OUTCOMES, RowStatus.NEEDS_REVIEW)
            and self.was_started
            and self.status not in (JobStatus.COMPLETED, JobStatus.CANCELLED)
            and self.holder is None
            and not was_in_flight
        ):
            left = {row["status"] for row in self.rows.values()}
            if not left & {RowStatus.PENDING, RowStatus.PROCESSING}:
                is_failed = left & {RowStatus.FAILED, RowStatus.NEEDS_REVIEW}
                self.status = JobStatus.FAILED if is_failed else JobStatus.COMPLETED

    def _hold_run_if_over(self, who: int) -> None:
        if self.is_over and not self.in_batch:
            self.look(who)
        if self.is_over and self.holder is not None:
            raise Busy

    def _reopen_if_over(self) -> None:
        if self.status is JobStatus.CANCELLED:
            self._refuse_if_over()
        if self.is_over:
            self.reopen()

    def reopen(self) -> None:
        if not self.is_over:
            raise Refused(self.status, JobStatus.PENDING, VALID_TRANSITIONS[self.status])
        self.status = JobStatus.PENDING
        self.error = (None, None)
        self.passes += 1
        self.version = None
        self._touch()

    def reopen_job(self, who: int) -> None:
        self._hold_run_if_over(who)
        self.reopen()

    def _renew_key(self, number: int) -> None:
        first, count = self.keys[number]
        self.keys[number] = (first, count + 1)
        self.rows[number]["idempotency_key"] = f"{first}#{count + 1}"

    def update_row_data(self, number: int, data: dict[str, Any], *, new_key: bool) -> None:
        if number not in self.rows:
            raise Missing
        row = self.rows[number]
        if row["status"] in (RowStatus.PROCESSING, RowStatus.COMPLETED):
            raise Refused(row["status"], row["status"], VALID_ROW_TRANSITIONS[row["status"]])
        row["data"] = data
        if new_key:
            self._renew_key(number)
        self._touch(number)

    # --- steps

    def steps_of(self, number: int) -> dict[str, dict[str, Any]]:
        if number not in self.rows:
            raise Missing
        return self.steps.get(number, {})

    def has_doubt(self, number: int) -> bool:
        steps = self.steps_of(number).values()
        is_reused = (number, self.rows[number]["attempts"]) in self.reused
        return is_reused or any(step["state"] == "started" for step in steps)

    def _put_step(self, number: int, name: str, state: str, attempt: int, **fields: Any) -> None:
        empty = dict.fromkeys(("result", "error_code", "error_message"))
        step = {"state": state, "attempt": attempt, **empty, **fields}
        self.steps.setdefault(number, {})[name] = step
        self._touch()

    def begin_step(self, number: int, attempt: int, name: str, *, idempotent: bool) -> bool:
        """Whether the step is done already."""
        if self.in_batch:
            raise Taken
        step = self.steps_of(number).get(name, {})
        known, row = step.get("state"), self.rows[number]
        if (row["status"], row["attempts"]) != (RowStatus.PROCESSING, attempt):
            raise Ended
        if known == "done" and step["attempt"] == attempt:
            self.reused.add((number, attempt))  # recorded, although the start is refused
            self._touch()
            raise Taken
        if known == "done" or idempotent:
            return known == "done"
        if known == "started":
            raise Doubt
        self._put_step(number, name, "started", attempt)
        return False

    def end_step(
        self, number: int, attempt: int, name: str, result: Any, error: tuple[str, str] | None
    ) -> None:
        known = self.steps_of(number).get(name)
        if error is None and known is not None and known["state"] == "done":
            if known["attempt"] != attempt:
                done = f"step {name!r} was done by attempt {attempt}"
                self.log(f"{done}, and another attempt has done it, too", "WARNING")
                raise Repeated
            return
        if error is None:
            if known is not None or attempt > self.resets.get(number, 0):
                self._put_step(number, name, "done", attempt, result=result)
            else:
                done = f"step {name!r} was done by attempt {attempt}"
                self.log(f"{done}, and a redo has forgotten it", "WARNING")
        elif known is None or (
            known["state"] != "done"
            and (
                known["attempt"] == attempt
                or (known["state"] == "failed" and known["attempt"] < attempt)
            )
        ):
            code, message = error
            fields = {"error_code": code, "error_message": message}
            self._put_step(number, name, "failed", attempt, **fields)

    def record_step(self, number: int, name: str, result: Any) -> None:
        known = self.steps_of(number).get(name)
        if known is None or known["state"] != "done":
            self._put_step(number, name, "done", self.rows[number]["attempts"], result=result)
        elif as_json(known["result"]) != as_json(result):
            raise Taken

    def fail_step(self, number: int, name: str, message: str) -> None:
        known = self.steps_of(number).get(name)
        if known is None or known["state"] != "started":
            raise Taken
        status = self.rows[number]["status"]
        if status is RowStatus.PROCESSING:
            raise Refused(status, status, ())
        fields = {"error_code": "not done", "error_message": message}
        self._put_step(number, name, "failed", known["attempt"], **fields)

    def _move_all(
        self, source: RowStatus, target: RowStatus, but: Collection[int] = ()
    ) -> list[int]:
        numbers = [number for number in self.numbers(source) if number not in but]
        for number in numbers:
            version = self.rows[number]["version"] if source is RowStatus.PROCESSING else None
            is_failed = target is RowStatus.FAILED
            self._set(self.rows[number], target, unknown=is_failed, version=version)
        if numbers:
            self._touch(*numbers)
        return numbers

    def retry_failed_rows(self, who: int) -> int:
        self._hold_run_if_over(who)
        failed = self.numbers(RowStatus.FAILED)
        unknown = [number for number in failed if self.rows[number]["unknown"]]
        if len(unknown) == len(failed):
            return 0
        self._reopen_if_over()
        moved = self._move_all(RowStatus.FAILED, RowStatus.PENDING, unknown)
        for number in moved:
            self._reset(number)
        return len(moved)

    def _reset(self, number: int) -> None:
        row = self.rows[number]
        self.resets[number] = row["earlier_attempts"] = row["attempts"]

    def _move(self, target: JobStatus) -> None:
        allowed = VALID_TRANSITIONS[self.status]
        if target not in allowed:
            raise Refused(self.status, target, allowed)
        self.status = target
        self.was_started = self.was_started or target is JobStatus.RUNNING
        self._touch()

    def pause_job(self, who: int) -> None:
        if not self.is_paused:
            self.is_paused = True
            self._touch()
        if self.status is JobStatus.RUNNING:
            self._move(JobStatus.PAUSED)
        if self.in_batch:
            self.moved_in_batch = True
        elif self.holder == who:
            self.let_go()

    def resume_job(self, who: int) -> None:
        self._hold_run_if_over(who)
        if self.is_paused:
            self.is_paused = False
            self._touch()
        has_open = self.numbers(RowStatus.PENDING) or self.numbers(RowStatus.PROCESSING)
        if self.status is JobStatus.CANCELLED or (self.status is JobStatus.FAILED and has_open):
            self.reopen()
        elif self.status is JobStatus.PAUSED and self.holder is not None:
            self._move(JobStatus.RUNNING)

    def update_status(self, who: int, target: JobStatus) -> None:
        if target is JobStatus.RUNNING and self.is_paused:
            raise Paused
        self._move(target)
        if target is JobStatus.RUNNING:
            if self.holder is None:
                self._take_over(who)
        elif self.in_batch:
            self.moved_in_batch = True
        elif self.holder == who:
            self.let_go()

    def let_go(self) -> None:
        self.holder = None

    def end_batch(self, who: int) -> None:
        """The run lock follows the commit: what happened to the job within is past then."""
        if self.moved_in_batch and self.holder == who and self.status is not JobStatus.RUNNING:
            self.let_go()
        self.in_batch = self.moved_in_batch = False

    def _take_over(self, who: int, version: str | None = None, policy: str = "review") -> None:
        self.resumes = policy == "resume"
        self.holder, self.version = who, version
        self.hosts = (journal.fs.system.host_name(),)
        self._touch()

    def look(self, who: int) -> None:
        """Whoever holds the lock of a job that has ended, with nothing in flight, lets go of it."""
        if self.holder == who and self.is_over and not self.numbers(RowStatus.PROCESSING):
            self.let_go()

    def _settle(self, policy: str, but: Collection[int] = ()) -> int:
        if policy == "resume":
            in_flight = set(self.numbers(RowStatus.PROCESSING)) - set(but)
            begun = in_flight & self.by_run if self.resumes else set[int]()
            able = {n for n in begun if not self.has_doubt(n)}
            self._settle("retry", {*but, *(in_flight - able)})
            resumed = self.settled
            self._settle("review", but)
            self.settled = resumed + self.settled
            return len(in_flight)
        target = {
            "review": RowStatus.NEEDS_REVIEW,
            "retry": RowStatus.PENDING,
            "fail": RowStatus.FAILED,
        }[policy]
        numbers = self._move_all(RowStatus.PROCESSING, target, but)
        self.settled = numbers
        return len(numbers)

    def start_job(self, who: int, policy: str, version: str | None) -> None:
        if self.holder is not None:
            raise Busy
        if self.is_paused:
            raise Paused
        if self.status is not JobStatus.RUNNING:
            self._move(JobStatus.RUNNING)
        self._settle(policy)
        self._take_over(who, version, policy)

    def recover_job(self, policy: str) -> int:
        if self.holder is not None:
            raise Busy
        if policy in ("retry", "resume") and self.numbers(RowStatus.PROCESSING):
            self._refuse_if_over()
        settled = self._settle(policy)
        if self.status is JobStatus.RUNNING:
            self._move(JobStatus.PAUSED)
        return settled

    def update_counts(self, counts: dict[str, int]) -> None:
        rows = self.row_counts()
        for name, value in counts.items():
            self.extra[name] = value - rows[name]
        if counts:
            self._touch()

    def set_error(self, code: str, message: str) -> None:
        self.error = (code, message)
        self._touch()

    def log(self, message: str, level: str) -> None:
        self.logs.append((level, message))
        self._touch()


# --- what is drawn

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["\u2028", 'a"b\\', "line\nline", "\r", '"},"crc":"00000000"}', "\x00", "😀"]
)
# Halves: the model's `json` and the package write other floats in different digits.
scalars = st.none() | st.booleans() | st.integers() | texts | st.integers(0, 9).map(lambda n: n / 2)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
new_row_items = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "row_number": st.none() | st.integers(1, 60) | st.integers(1, 2**40),
            "row_checksum": texts.filter(bool),
            "data": st.dictionaries(texts, values, max_size=3),
        },
    ),
    max_size=6,
)
COSTS = st.one_of(
    st.integers(0, 10_000),
    st.integers(0, 10**12).map(lambda n: n / 10**6),
    st.integers(0, 10**12).map(lambda n: Decimal(n) / 10**6),
)
SPENT = {
    "cost_cents": COSTS,
    "usage": st.dictionaries(st.sampled_from("abc"), st.integers(0, 999), min_size=1),
}
row_targets: st.SearchStrategy[tuple[str, dict[str, Any]]] = st.one_of(
    st.tuples(st.just("start"), st.just({})),
    st.tuples(st.just("run"), st.just({})),  # a run starts it
    st.tuples(
        st.just("complete"),
        st.fixed_dictionaries(
            {},
            optional={
                "tracking_number": texts,
                "label_path": st.just("artifacts/1.pdf"),
                "result": values,
                **SPENT,
            },
        ),
    ),
    st.tuples(
        st.just("fail"),
        st.fixed_dictionaries({"error_code": texts, "error_message": texts}, optional=SPENT),
    ),
    st.tuples(st.just("skip"), st.fixed_dictionaries({}, optional={"reason": texts, **SPENT})),
    st.tuples(st.just("give_back"), st.fixed_dictionaries({}, optional={"reason": texts, **SPENT})),
    st.tuples(st.just("wait"), st.fixed_dictionaries({}, optional={"reason": texts, **SPENT})),
    st.tuples(st.just("retry"), st.just({})),
    st.tuples(
        st.just("redo"),
        st.fixed_dictionaries({}, optional={"reason": texts, "new_key": st.booleans()}),
    ),
)
TARGETS = {
    "start": RowStatus.PROCESSING,
    "run": RowStatus.PROCESSING,
    "complete": RowStatus.COMPLETED,
    "fail": RowStatus.FAILED,
    "skip": RowStatus.SKIPPED,
    "retry": RowStatus.PENDING,
    "redo": RowStatus.PENDING,
    "give_back": RowStatus.PENDING,
    "wait": RowStatus.PENDING,
}
OF_ERROR = ("error_code", "error_message", "traceback")
row_picks = st.integers(0, 50)
count_sets = st.dictionaries(
    st.sampled_from(["total", "processed", "successful", "failed"]), st.integers(0, 20)
)
job_statuses = st.sampled_from(JobStatus)
policies = st.sampled_from(["review", "retry", "fail", "resume", "resume"])

create_ops = st.tuples(st.just("create_rows"), new_row_items)
row_ops = st.tuples(st.just("change_row"), row_picks, row_targets)
data_ops = st.tuples(
    st.just("update_row_data"), row_picks, st.dictionaries(texts, values, max_size=2), st.booleans()
)
# The attempt counts from the row's last one: mostly that, or one before, or one that never was.
attempts = st.sampled_from([0, 0, 0, 0, -1, 1])
step_names = st.sampled_from(["a", "b", "\u2028"])
step_ops: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("begin_step"), row_picks, attempts, step_names, st.booleans()),
    st.tuples(st.just("end_step"), row_picks, attempts, step_names, values, st.none()),
    st.tuples(
        st.just("end_step"), row_picks, attempts, step_names, st.none(), st.tuples(texts, texts)
    ),
    st.tuples(st.just("record_step"), row_picks, step_names, st.integers(0, 1) | values),
    st.tuples(st.just("fail_step"), row_picks, step_names, texts),
)
quiet_ops = st.one_of(
    step_ops,
    step_ops,
    create_ops,
    row_ops,
    row_ops,
    row_ops,
    data_ops,
    st.tuples(st.just("retry_failed_rows")),
    st.tuples(st.just("reopen_job")),
    st.tuples(st.just("update_counts"), count_sets),
    st.tuples(st.just("set_error"), texts, texts),
    st.tuples(st.just("log"), texts, st.sampled_from(LOG_LEVELS)),
)
status_ops: st.SearchStrategy[tuple[Any, ...]] = st.one_of(
    st.tuples(st.just("update_status"), job_statuses),
    st.tuples(st.just("update_status"), job_statuses),
    st.tuples(st.sampled_from(["pause_job", "resume_job", "resume_job"])),
)

whos = st.integers(0, 1)
job_picks = st.integers(0, MAX_JOBS - 1)


class JournalMachine(RuleBasedStateMachine):
    """Two services on one store, and the models of its jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.services = [self.open(), self.open()]
        self.models: dict[str, ModelJob] = {}
        self.views: list[tuple[Any, list[JobRow]]] = []

    def open(self) -> JobService:
        return JobService(self.directory / "jobs", sync="none", lock_timeout_s=1.0)

    def teardown(self) -> None:
        for service in self.services:
            service.close()
        for model in self.models.values():
            model.holder = None
        try:
            with self.open() as cold:
                for job_id, model in self.models.items():
                    check(cold, job_id, model)
            self.views_stay_as_they_were()
        finally:
            self.views.clear()
            if IS_WINDOWS:
                gc.collect()  # close what views have open
            shutil.rmtree(self.directory)

    def pick(self, number: int) -> str:
        return list(self.models)[number % len(self.models)]

    # --- one operation on a service and on the model

    def do(self, who: int, job_id: str, op: tuple[Any, ...]) -> None:
        service, model = self.services[who], self.models[job_id]
        name, *args = op
        match name:
            case "create_rows":
                if len(model.rows) + len(args[0]) > MAX_ROWS:
                    return
                rows = self.both(
                    lambda: model.create_rows(args[0]),
                    lambda: [row.row_number for row in service.create_rows(job_id, args[0])],
                )
                assert rows is None or rows[0] == rows[1]
                for number in [] if rows is None else rows[0]:  # only the service knows its nonce
                    row = service.get_row(f"{job_id}:{number}")
                    assert row is not None
                    key = model.rows[number]["idempotency_key"] = row.idempotency_key
                    assert re.fullmatch(rf"{job_id}:{number}\.[0-9a-f]{{8}}", key)
                    model.keys[number] = (key, 1)
            case "change_row":
                self.change_one_row(service, job_id, *args)
            case "update_status":
                self.both(
                    lambda: model.update_status(who, args[0]),
                    lambda: service.update_status(job_id, args[0]),
                )
            case "pause_job" | "resume_job":
                change = getattr(model, name), getattr(service, name)
                self.both(lambda: change[0](who), lambda: change[1](job_id))
            case "update_counts":
                model.update_counts(args[0])
                service.update_counts(job_id, **args[0])
            case "set_error":
                model.set_error(*args)
                service.set_error(job_id, *args)
            case "log":
                model.log(*args)
                service.log(job_id, *args)
            case "retry_failed_rows":
                moved = self.both(
                    lambda: model.retry_failed_rows(who), lambda: service.retry_failed_rows(job_id)
                )
                assert moved is None or moved[0] == moved[1]
            case "reopen_job":
                self.both(lambda: model.reopen_job(who), lambda: service.reopen_job(job_id))
            case "begin_step" | "end_step" | "record_step" | "fail_step":
                self.change_a_step(service, job_id, name, *args)
            case "update_row_data":
                pick, data, new_key = args
                number = model.pick(pick)
                self.both(
                    lambda: model.update_row_data(number, data, new_key=new_key),
                    lambda: service.update_row_data(f"{job_id}:{number}", data, new_key=new_key),
                )

    def change_one_row(
        self, service: JobService, job_id: str, pick: int, move: tuple[str, dict[str, Any]]
    ) -> None:
        model, who = self.models[job_id], self.services.index(service)
        number = model.pick(pick)
        verb, fields = move
        of_runs = {"run": start, "give_back": give_back, "wait": wait}
        method = (
            partial(of_runs[verb], service) if verb in of_runs else getattr(service, f"{verb}_row")
        )
        rows = self.both(
            lambda: model.change_row(who, number, verb, dict(fields)),
            lambda: method(f"{job_id}:{number}", **fields),
        )
        if rows is not None:
            assert rows[1] == service.get_row(f"{job_id}:{number}")

    def change_a_step(
        self, service: JobService, job_id: str, verb: str, pick: int, *args: Any
    ) -> None:
        model = self.models[job_id]
        number = model.pick(pick)
        row_id = f"{job_id}:{number}"
        if verb in ("record_step", "fail_step"):
            name, value = args
            self.both(
                lambda: getattr(model, verb)(number, name, value),
                lambda: getattr(service, verb)(row_id, name, value),
            )
            return
        more, name, *rest = args
        attempt = max(0, model.rows.get(number, {"attempts": 0})["attempts"] + more)
        if verb == "end_step":
            result, error = rest
            ended = self.both(
                lambda: model.end_step(number, attempt, name, result, error),
                lambda: service.end_step(row_id, attempt, name, result, error=error),
            )
            assert ended is None or as_json(ended[1]) == as_json(result)
            return
        begun = self.both(
            lambda: model.begin_step(number, attempt, name, idempotent=rest[0]),
            lambda: service.begin_step(row_id, attempt, name, idempotent=rest[0]),
        )
        assert begun is None or begun[0] == (begun[1] is not None)

    def both(self, predict: Callable[[], Any], call: Callable[[], Any]) -> tuple[Any, Any] | None:
        """Both results; None if the model predicted a refusal and the service raised it."""
        try:
            predicted = predict()
        except Refused as refusal:
            expected = refusal.expected
            assert refusal_of(call) == expected
        except Busy:
            with pytest.raises(JobBusyError) as busy:
                call()
            assert busy.value.pid == os.getpid()
        except Paused:
            with pytest.raises(JobPausedError):
                call()
        except Missing:
            with pytest.raises(RowNotFoundError):
                call()
        except Taken:
            with pytest.raises(InvalidValueError):
                call()
        except Repeated:
            with pytest.raises(StepRepeatedError):
                call()
        except Ended:
            with pytest.raises(InvalidStateTransition):
                call()
        except Doubt:
            with pytest.raises(StepInDoubtError):
                call()
        else:
            return predicted, call()
        return None

    def take_over_settled(self, service: JobService, job_id: str) -> None:
        """The words in which a settled row says that it was interrupted are the service's own."""
        model = self.models[job_id]
        for number in model.settled:
            row = service.get_row(f"{job_id}:{number}")
            assert row is not None
            assert row.error_code
            assert row.error_message
            model.rows[number]["error_code"] = row.error_code
            model.rows[number]["error_message"] = row.error_message
        model.settled = []

    # --- rules

    @initialize(who=whos, items=new_row_items)
    def begin(self, who: int, items: list[dict[str, Any]]) -> None:
        self.new_job(who, {"a": [1, None]})
        self.do(who, self.pick(0), ("create_rows", items))

    @precondition(lambda self: len(self.models) < MAX_JOBS)
    @rule(who=whos, metadata=st.none() | st.dictionaries(texts, values, max_size=2))
    def new_job(self, who: int, metadata: dict[str, Any] | None) -> None:
        number = len(self.models)
        job = self.services[who].create_job(
            f"Job {number}", "cmd", mode="auto", job_id=f"job-{number}", metadata=metadata
        )
        self.models[job.id] = ModelJob(
            {
                "id": f"job-{number}",
                "name": f"Job {number}",
                "original_command": "cmd",
                "description": None,
                "mode": "auto",
                "metadata": metadata,
                "key": None,
            }
        )

    @rule(who=whos, pick=job_picks, op=create_ops)
    def create_rows(self, who: int, pick: int, op: tuple[Any, ...]) -> None:
        self.do(who, self.pick(pick), op)

    @rule(who=whos, pick=job_picks, op=row_ops)
    def change_a_row(self, who: int, pick: int, op: tuple[Any, ...]) -> None:
        self.do(who, self.pick(pick), op)

    @rule(who=whos, pick=job_picks, row=row_picks, ops=st.lists(step_ops, max_size=6))
    def change_steps_of_a_row(
        self, who: int, pick: int, row: int, ops: list[tuple[Any, ...]], verb: str = "start"
    ) -> None:
        """One attempt at a row, as far as it may be started, with several steps."""
        self.do(who, self.pick(pick), ("change_row", row, (verb, {})))
        self.do(who, self.pick(pick), ("begin_step", row, 0, "a", False))
        for name, _, *args in ops:
            self.do(who, self.pick(pick), (name, row, *args))

    @rule(
        who=whos, pick=job_picks, row=row_picks, ops=st.lists(step_ops, max_size=3),
        policy=policies, promised=policies, verb=st.sampled_from(["run", "run", "start"]),
    )  # fmt: skip
    def a_run_dies_within_a_row(
        self, who: int, pick: int, row: int, ops: list[tuple[Any, ...]], policy: str,
        promised: str, verb: str,
    ) -> None:  # fmt: skip
        """The next run settles the row: by its steps, if both runs have the policy for that."""
        self.start_job(who, pick, promised, None)
        self.change_steps_of_a_row(who, pick, row, ops, verb)
        self.reopen(who)
        self.start_job(1 - who, pick, policy, None)

    @rule(who=whos, pick=job_picks, ops=st.lists(row_ops, min_size=2, max_size=6))
    def change_rows(self, who: int, pick: int, ops: list[tuple[Any, ...]]) -> None:
        for op in ops:
            self.do(who, self.pick(pick), op)

    @rule(who=whos, pick=job_picks, op=quiet_ops)
    def change_anything(self, who: int, pick: int, op: tuple[Any, ...]) -> None:
        self.do(who, self.pick(pick), op)

    @rule(who=whos, pick=job_picks, op=status_ops)
    def update_status(self, who: int, pick: int, op: tuple[Any, ...]) -> None:
        self.do(who, self.pick(pick), op)

    @rule(who=whos, pick=job_picks, policy=policies, version=st.sampled_from([None, "v1", "v2"]))
    def start_job(self, who: int, pick: int, policy: Any, version: str | None) -> None:
        job_id = self.pick(pick)
        service, model = self.services[who], self.models[job_id]
        self.both(
            lambda: model.start_job(who, policy, version),
            lambda: service.start_job(job_id, on_interrupted=policy, version=version),
        )
        self.take_over_settled(service, job_id)

    @rule(who=whos, pick=job_picks, policy=policies)
    def recover_job(self, who: int, pick: int, policy: Any) -> None:
        job_id = self.pick(pick)
        service, model = self.services[who], self.models[job_id]
        settled = self.both(
            lambda: model.recover_job(policy), lambda: service.recover_job(job_id, policy)
        )
        assert settled is None or settled[0] == settled[1]
        self.take_over_settled(service, job_id)

    @rule(
        who=whos,
        pick=job_picks,
        ops=st.lists(quiet_ops | status_ops, max_size=8),
        is_nested=st.booleans(),
    )
    def batch_that_commits(
        self, who: int, pick: int, ops: list[tuple[Any, ...]], is_nested: bool
    ) -> None:
        job_id = self.pick(pick)
        service = self.services[who]
        before = self.models[job_id].copy()
        self.models[job_id].in_batch = True
        with service.batch(job_id):
            for op in ops:
                if is_nested:
                    with service.batch(job_id):
                        self.do(who, job_id, op)
                else:
                    self.do(who, job_id, op)
            check(service, job_id, self.models[job_id], sees_locks=False)  # they follow the commit
            check(self.services[1 - who], job_id, before, sees_locks=False)
            view = service.get_rows(job_id)
            inside = list(view)
            assert inside == list(self.models[job_id].seen_rows.values())
        self.models[job_id].end_batch(who)
        self.keep(view, inside)

    @rule(who=whos, pick=job_picks, ops=st.lists(quiet_ops | status_ops, max_size=8))
    def batch_that_is_discarded(self, who: int, pick: int, ops: list[tuple[Any, ...]]) -> None:
        job_id = self.pick(pick)
        service = self.services[who]
        before = self.models[job_id].copy()
        self.models[job_id].in_batch = True
        with suppress(Abandoned), service.batch(job_id):
            for op in ops:
                self.do(who, job_id, op)
            check(service, job_id, self.models[job_id], sees_locks=False)
            view = service.get_rows(job_id)
            raise Abandoned
        if len(view):
            with pytest.raises(ServiceClosedError):
                view[0]
        self.models[job_id] = before

    @rule(who=whos)
    def reopen(self, who: int) -> None:
        self.services[who].close()
        self.services[who] = self.open()
        for model in self.models.values():
            if model.holder == who:
                model.let_go()

    @rule(who=whos, pick=job_picks, status=st.none() | st.sampled_from(RowStatus))
    def take_a_view(self, who: int, pick: int, status: RowStatus | None) -> None:
        job_id = self.pick(pick)
        model = self.models[job_id]
        view = self.services[who].get_rows(job_id, status)
        self.keep(view, [model.seen_rows[number] for number in model.numbers(status)])

    @precondition(lambda self: self.views)
    @rule(number=st.integers(0, MAX_VIEWS - 1))
    def drop_a_view(self, number: int) -> None:
        del self.views[number % len(self.views)]

    def keep(self, view: Any, rows: list[JobRow]) -> None:
        self.views.append((view, rows))
        del self.views[:-MAX_VIEWS]

    # --- what holds after every step

    @invariant()
    def services_and_models_agree(self) -> None:
        for who, service in enumerate(self.services):
            for job_id, model in self.models.items():
                service.get_job(job_id)
                model.look(who)
        for service in self.services:
            for job_id, model in self.models.items():
                check(service, job_id, model)
                logs = [(entry.level, entry.message) for entry in service.get_logs(job_id)]
                assert logs == model.logs
            by_age = sorted(self.models, key=lambda job_id: self.models[job_id].seen_job.created_at)
            assert [job.id for job in service.list_jobs()] == by_age[::-1]
            jobs = service.list_jobs(limit=None)
            states = {job.id: state_of_job(service.store, job) for job in jobs}
            for job_id, model in self.models.items():
                is_dead = model.status is JobStatus.RUNNING and model.holder is None
                assert (states[job_id] == "interrupted") is is_dead

    @invariant()
    def views_stay_as_they_were(self) -> None:
        for view, rows in self.views:
            assert len(view) == len(rows)
            assert list(view) == rows
            assert list(reversed(view)) == rows[::-1]
            assert view[1:-1] == rows[1:-1]


def refusal_of(call: Callable[[], Any]) -> tuple[str, str, Sequence[str]]:
    with pytest.raises(InvalidStateTransition) as caught:
        call()
    error = caught.value
    return error.current_state, error.attempted_state, error.allowed_transitions


def check(service: JobService, job_id: str, model: ModelJob, *, sees_locks: bool = True) -> None:
    """Compare all that the service says of a job with the model."""
    job = service.get_job(job_id)
    assert job is not None
    fields = {name: getattr(job, name) for name in JOB_MEMBERS}
    times = {name: fields.pop(name) for name in JOB_TIMES}
    assert (times["reopened_at"] is None) == (model.passes == 1)
    run, paused = fields.pop("last_run"), fields.pop("pause")
    assert (paused is not None) == model.is_paused
    assert ((run.host,) if run else ()) == model.hosts[-1:]
    assert fields == {
        **model.header,
        **dict.fromkeys(("idempotency_key", "shard", "input", "hold")),
        **model.counts(),
        **model.status_counts(),
        "passes": model.passes,
        "status": model.status,
        "total_cost_cents": shown_cost(model.spent_cents),
        "usage": model.usage,
        "error_code": model.error[0],
        "error_message": model.error[1],
        "repaired": False,
        "hosts": model.hosts,
        "waiting_count": sum(row["due"] for row in model.rows.values()),
    }
    assert (times["started_at"] is not None) == model.was_started
    assert (times["completed_at"] is not None) == model.is_over
    if model.seen_job is not None:
        assert job == model.seen_job
    if model.latest is not None:
        assert job.updated_at >= model.latest
    model.seen_job, model.latest = job, job.updated_at

    assert service.get_job_summary(job_id) == {
        **model.counts(),
        **model.status_counts(),
        "total_cost_cents": shown_cost(model.spent_cents),
        "usage": model.usage,
        "status": model.status.value,
        "created_at": as_text(job.created_at),
        "started_at": as_text(job.started_at),
        "completed_at": as_text(job.completed_at),
    }
    check_rows(service, job_id, model)
    if sees_locks:
        assert (service.run_holder(job_id) is not None) == (model.holder is not None)


def as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def check_steps(service: JobService, row: JobRow, model: ModelJob) -> None:
    found = {step.name: msgspec.structs.asdict(step) for step in service.get_steps(row.id)}
    for step in found.values():
        del step["name"], step["at"]
    expected = model.steps.get(row.row_number, {})
    assert list(found) == list(expected)  # in the order in which they were first recorded
    assert as_json(found) == as_json(expected)


def check_rows(service: JobService, job_id: str, model: ModelJob) -> None:
    rows = list(service.get_rows(job_id))
    assert [row.row_number for row in rows] == model.numbers()
    for row in rows:
        number = row.row_number
        fields = msgspec.structs.asdict(row)
        times = {name: fields.pop(name) for name in ROW_TIMES}
        fields["due"] = row.due is not None
        since = fields.pop("waiting_since")
        assert (since is not None) == fields["due"]
        if since is not None:  # it is that of the first wait since the row's last retry or redo
            resets = model.resets.get(number)
            assert model.waits_since.setdefault((number, resets), since) == since <= row.updated_at
        assert fields == {
            **model.rows[number],
            "id": f"{job_id}:{number}",
            "job_id": job_id,
            "row_number": number,
        }
        assert times["created_at"] <= times["updated_at"] <= model.seen_job.updated_at
        is_out = row.status in OUTCOMES
        assert times["processed_at"] == (times["updated_at"] if is_out else None)
        assert row == model.seen_rows.get(number, row)
        check_steps(service, row, model)
    model.seen_rows = {row.row_number: row for row in rows}
    for status in RowStatus:
        of_status = [row for row in rows if row.status is status]
        assert list(service.get_rows(job_id, status)) == of_status
        if status is RowStatus.PENDING:
            assert list(service.get_pending_rows(job_id)) == of_status
        elif status is RowStatus.FAILED:
            assert list(service.get_failed_rows(job_id)) == of_status
    if rows:
        assert service.get_row(rows[-1].id) == rows[-1]


def shown_cost(cents: Decimal) -> int | float:
    return int(cents) if cents == int(cents) else float(cents)


def as_text(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def test_services_and_model_agree_after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both services are in this thread: a lock that one of them holds isn't worth a wait.
    monkeypatch.setattr(journal.fs.locks, "PATIENCE_S", 0.0)
    run_state_machine_as_test(
        JournalMachine,
        settings=settings(
            max_examples=400 if IS_LONG else 8 if IS_WINDOWS else 16,  # files are slow under wine
            stateful_step_count=40,
            deadline=None,
            report_multiple_bugs=False,  # shrinking each of them can take minutes
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )

"""The requested and the acknowledged changes of a store, kept outside of the store's disk.

Only one thread changes each row and each job, so the entries of each are in order. The entries show
what a power cut at some moment may have left. :func:`losses` compares this with the store.

A row's state is ``"completed T-7"``: the status and the tracking number. A job's state is one of
these words. ``"there"``, ``"gone"``, and ``"packed"`` (gone, and whole in a pack). ``"hurt"`` means
that the job may be damaged. With ``"steps"`` or ``"calls"``, runs work on the job, and each entry
``"effect"`` names a side effect of these runs.
"""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import journal
from journal import (
    AttemptedRow,
    CommitOutcomeUnknownError,
    JobPrunedError,
    JobRow,
    JobService,
    JobStatus,
    JournalError,
    RowStatus,
    StorageError,
)
from journal.format.records import REPAIRED, REPAIRED_UNKNOWN
from journal.model import Policy
from journal.repair import repair_job
from journal.transfer import unpack_job
from journal.verify import verify_job

States = Mapping[str, str]  # by the id of a row or a job
Possible = Mapping[str, set[str]]  # the same
Note = Callable[[str, States], None]

PENDING = "pending"
_ENTRIES = frozenset(["is", "ask", "done", "refused", "effect"])
AFTER = "after-the-cut"
PACKS = "packs"  # beside the store
STEPS = ("charge", "mail")
POLICIES: dict[str, Policy] = {"steps": "resume", "calls": "review"}


def do(note: Note, states: States, call: Callable[[], object], *, synced: bool = True) -> bool:
    """Ask for a change that leads to these states. Returns whether the change was acknowledged.

    After a StorageError, no part of the change is there, even after a power cut. Without
    ``synced``, nothing is promised about the change, and a power cut may damage the end of the
    journal.
    """
    if not synced:
        note("ask", {key.partition(":")[0]: "hurt" for key in states})
    note("ask", states)
    try:
        call()
    except StorageError:
        note("refused", states)
        return False
    except CommitOutcomeUnknownError:
        note("unknown", states)
        return False
    note("done" if synced else "unsynced", states)
    return True


def run(
    directory: Path,
    kind: str,
    effect: Callable[[str], object],
    rows: Iterable[Any] | None = None,
    where: Callable[[JobRow], object] | None = None,
) -> None:
    """Run a job of such a kind; each side effect gets its name."""

    def handle(row: AttemptedRow) -> None:
        if kind == "calls":
            effect(f"{row.id}/call")
        else:
            for step in STEPS:
                row.step(step, effect, f"{row.id}/{step}")

    with journal.open_job(directory, rows, on_interrupted=POLICIES[kind], argv=[]) as job:
        job.run(
            handle,
            workers=2,
            halt="never",
            where=where,
            retry_failed=True,
            handle_signals=False,
            tell=lambda _text: None,
        )


class Ledger:
    """The entries in the order of their arrival. Any thread may add entries."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[tuple[str, States]] = []
        self.counts: Counter[str] = Counter()

    def note(self, what: str, states: States) -> None:
        with self._lock:
            self._entries.append((what, states))
            self.counts[what] += 1

    def moment(self) -> int:
        with self._lock:
            return len(self._entries)

    def problems(self) -> list[str]:
        """The errors that stopped reporting threads, and the repeated side effects."""
        with self._lock:
            told = [(what, key) for what, states in self._entries for key in states]
        effects = Counter(key for what, key in told if what == "effect" and "/" in key)
        twice = [f"{key} was done {count} times" for key, count in effects.items() if count > 1]
        return [*(key for what, key in told if what == "crashed"), *twice]

    def possible(self, before: int | None = None, after: int | None = None) -> dict[str, set[str]]:
        """The possible states after a cut between two moments, by row or job. By default, the cut
        is now.

        A change that was acknowledged before the cut is there. A change that was refused before the
        cut isn't there. A change without an answer may be there or not.
        """
        with self._lock:
            entries = self._entries[:after]
        if before is None:
            before = len(entries)
        found: dict[str, set[str]] = {}
        for number, (what, states) in enumerate(entries):
            if what not in _ENTRIES:
                continue
            for key, state in states.items():
                if what == "is":
                    found[key] = {state}
                may = found.setdefault(key, {PENDING} if ":" in key else {"gone"})
                if what in {"ask", "effect"}:
                    may.add(state)
                if what in {"done", "effect"} and number < before:
                    found[key] = {state}
                elif what == "refused" and number < before and len(may) > 1:
                    may.discard(state)
        return found


def losses(root: Path, possible: Possible, *, go_on: bool = True) -> list[str]:
    """The differences between the store at ``root`` and the acknowledged changes.

    With ``go_on``, all jobs are changed, and runs go on to their end. Failures of this work are in
    the result. Without ``go_on``, only possible damage is repaired.
    """
    jobs = {key: may for key, may in possible.items() if ":" not in key}
    lost = [loss for job_id in jobs for loss in _losses_of(root, job_id, possible, go_on=go_on)]
    try:
        with JobService(root) as service:
            if go_on:
                service.create_job("After the cut", job_id=AFTER, row_data=[{"data": {}}])
            listed = {job.id for job in service.list_jobs(limit=None)}
    except JournalError as error:
        return [*lost, f"no job can be made: {error}"]
    if unknown := listed - jobs.keys() - {AFTER}:
        lost.append(f"jobs that nobody made: {sorted(unknown)}")
    return lost


def seen(root: Path, possible: Possible) -> dict[str, str]:
    """The present states of the jobs and rows that may be in these states."""
    states: dict[str, str] = {}
    with JobService(root) as service:
        for job_id in [key for key in possible if ":" not in key]:
            kind = possible[job_id] & POLICIES.keys()
            if not (root / job_id).exists():
                states[job_id] = "packed" if _packs(root, job_id) else "gone"
            elif kind:
                states[job_id] = kind.pop()
            else:
                found = {row.id: _state(row) for row in service.get_rows(job_id)}
                states[job_id] = "there"
                states |= {key: found.get(key, "absent") for key in _of(job_id, possible)} | found
    return states


def _losses_of(root: Path, job_id: str, possible: Possible, *, go_on: bool) -> list[str]:
    directory, may = root / job_id, possible[job_id]
    try:
        packs = _packs(root, job_id) if "packed" in may else []
        lost = [loss for pack in packs for loss in _losses_of_pack(pack, job_id, possible)]
        if not directory.exists():
            if "gone" not in may and not packs:
                lost.append(f"{job_id} is not there")
            if may == {"packed"} and go_on and not _is_known_as_pruned(root, job_id):
                lost.append(f"{job_id} was pruned, and can be made anew")
            return lost
        if may <= {"gone", "packed"}:
            return [*lost, f"{job_id} is there, and was deleted"]
        if "hurt" in may and verify_job(directory).damaged:
            repair_job(directory)
        if verify_job(directory).damaged:
            return [f"{job_id}: {verify_job(directory).findings}"]
        if kind := may & POLICIES.keys():
            return _losses_of_run(directory, kind.pop(), possible, go_on=go_on)
        with JobService(root) as service:
            rows = list(service.get_rows(job_id))
            lost += _lost_rows(job_id, rows, possible)
            if not go_on:
                return lost
            if (job := service.get_job(job_id)) and job.status is JobStatus.CANCELLED:
                service.reopen_job(job_id)
            service.create_rows(job_id, [{"data": {}}])
            service.complete_row(f"{job_id}:{len(rows) + 1}", "T")
        with JobService(root) as service:
            if list(service.get_rows(job_id))[:-1] != rows:
                lost.append(f"{job_id}: rows have changed since the cut")
        if found := verify_job(directory).findings:
            lost.append(f"{job_id}: {found}")
    except JournalError as error:
        return [f"{job_id}: {type(error).__name__}: {error}"]
    return lost


def _packs(root: Path, job_id: str) -> list[Path]:
    return sorted((root.parent / PACKS).glob(f"{job_id}.*tar.gz"))


def _losses_of_pack(pack: Path, job_id: str, possible: Possible) -> list[str]:
    with tempfile.TemporaryDirectory() as name:
        unpack_job(name, pack)
        with JobService(name) as service:
            return _lost_rows(job_id, list(service.get_rows(job_id)), possible)


def _is_known_as_pruned(root: Path, job_id: str) -> bool:
    with JobService(root) as service:
        try:
            service.create_job("Anew", job_id=job_id)
        except JobPrunedError:
            return True
    return False


def _losses_of_run(directory: Path, kind: str, possible: Possible, *, go_on: bool) -> list[str]:
    """Side effects that the job doesn't know. With ``go_on``, side effects that are repeated."""
    keys = _of(directory.name, possible)
    lost, made = [], {key for key in keys if PENDING not in possible[key]}
    with JobService(directory.parent) as service:
        for key in made:
            row_id, _, name = key.partition("/")
            row = service.get_row(row_id)
            steps = {step.name: step.state for step in service.get_steps(row_id)} if row else {}
            if row is None or row.attempts == 0 or (kind == "steps" and name not in steps):
                lost.append(f"{key} was done, and the job doesn't know: {row}, {steps}")
            elif name == STEPS[1] and steps[STEPS[0]] != "done":
                lost.append(f"{key} was done, and the step before it is {steps[STEPS[0]]}")
    if lost or not go_on:
        return lost
    again: list[str] = []
    run(directory, kind, again.append, where=lambda row: row.attempts > 0)
    twice = [key for key in again if key in made or again.count(key) > 1]
    lost += [f"{key} was done again" for key in twice]
    with JobService(directory.parent) as service:
        for row in service.get_rows(directory.name):
            names = {f"{row.id}/{name}" for name in (STEPS if kind == "steps" else ["call"])}
            if row.status is RowStatus.COMPLETED:
                lost += [f"{name} is nowhere" for name in names - keys - set(again)]
            elif row.attempts and row.status is not RowStatus.NEEDS_REVIEW:
                lost.append(f"{row.id} is {row.status}: {row.error_message}")
    if found := verify_job(directory).findings:
        lost.append(f"{directory.name}: {found}")
    return lost


def _of(job_id: str, possible: Possible) -> set[str]:
    return {key for key in possible if key.startswith(f"{job_id}:")}


def _state(row: JobRow) -> str:
    return f"{row.status.value} {row.tracking_number or ''}".strip()


def _lost_rows(job_id: str, rows: list[JobRow], possible: Possible) -> list[str]:
    lost = []
    for row in rows:
        may = possible.get(row.id, {PENDING})
        if row.error_code in (REPAIRED, REPAIRED_UNKNOWN) and may & {PENDING, "processing"}:
            continue  # a repair has put the open row in review
        if _state(row) not in may:
            lost.append(f"{row.id} is {_state(row)!r}, and not one of {sorted(may)}")
    missing = _of(job_id, possible) - {row.id for row in rows}
    return [
        *lost,
        *(f"{key} is missing" for key in sorted(missing) if "absent" not in possible[key]),
    ]

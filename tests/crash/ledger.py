"""What was asked of a store and what was acknowledged, kept outside of the disk that it is on.

Each row and each job is changed by one thread only, so its entries are in order. From them follows
what a power cut at some moment may have left of it, and :func:`losses` looks.

A row's state is ``"completed T-7"``, status and tracking number; of a job it is ``"there"``,
``"gone"`` or ``"hurt"``, which means that it may be damaged.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from journal import (
    CommitOutcomeUnknownError,
    JobRow,
    JobService,
    JournalError,
    StorageError,
)
from journal.repair import repair_job
from journal.verify import verify_job

States = Mapping[str, str]  # by the id of a row or a job
Note = Callable[[str, States], None]

PENDING = "pending"
_ENTRIES = frozenset(["is", "ask", "done", "refused"])
AFTER = "after-the-cut"


def do(note: Note, states: States, call: Callable[[], object], *, synced: bool = True) -> bool:
    """Ask for a change that leads to these states; whether it was acknowledged.

    A StorageError says that nothing of it is there, also after a power cut. Without ``synced``
    nothing is promised of what was done, and a power cut may damage the end of the journal.
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


class Ledger:
    """The entries in the order in which they were heard of; any thread may add some."""

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

    def crashes(self) -> list[str]:
        """What stopped a thread that told of its work."""
        with self._lock:
            return [text for what, states in self._entries if what == "crashed" for text in states]

    def possible(self, before: int | None = None, after: int | None = None) -> dict[str, set[str]]:
        """What may be there after a cut between two moments, by row or job; now, by default.

        What was acknowledged before it is there, what was refused before it is not; what was
        asked for by then and not answered may be there or not.
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
                if what == "ask":
                    may.add(state)
                elif what == "done" and number < before:
                    found[key] = {state}
                elif what == "refused" and number < before and len(may) > 1:
                    may.discard(state)
        return found


def losses(root: Path, possible: Mapping[str, set[str]]) -> list[str]:
    """What is not as it was acknowledged, or can't be gone on with, in the store at ``root``."""
    jobs = {key: may for key, may in possible.items() if ":" not in key}
    lost = [
        loss for job_id, may in jobs.items() for loss in _losses_of(root, job_id, may, possible)
    ]
    try:
        with JobService(root) as service:
            service.create_job("After the cut", job_id=AFTER, row_data=[{"data": {}}])
            listed = {job.id for job in service.list_jobs(limit=None)}
    except JournalError as error:
        return [*lost, f"no job can be made: {error}"]
    if unknown := listed - jobs.keys() - {AFTER}:
        lost.append(f"jobs that nobody made: {sorted(unknown)}")
    return lost


def _losses_of(
    root: Path, job_id: str, may: set[str], possible: Mapping[str, set[str]]
) -> list[str]:
    directory = root / job_id
    if not directory.exists():
        return [] if "gone" in may else [f"{job_id} is not there"]
    if may == {"gone"}:
        return [f"{job_id} is there, and was deleted"]
    try:
        if "hurt" in may and verify_job(directory).damaged:
            repair_job(directory, open_rows="keep")
        if verify_job(directory).damaged:
            return [f"{job_id}: {verify_job(directory).findings}"]
        with JobService(root) as service:
            rows = list(service.get_rows(job_id))
            lost = _lost_rows(rows, possible)
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


def _lost_rows(rows: list[JobRow], possible: Mapping[str, set[str]]) -> list[str]:
    lost = []
    for row in rows:
        may = possible.get(row.id, {PENDING})
        state = f"{row.status.value} {row.tracking_number or ''}".strip()
        if state not in may:
            lost.append(f"{row.id} is {state!r}, and not one of {sorted(may)}")
    numbers = {row.id for row in rows}
    job_id = rows[0].id.partition(":")[0] if rows else ""
    missing = {key for key in possible if key.startswith(f"{job_id}:")} - numbers
    return [
        *lost,
        *(f"{key} is missing" for key in sorted(missing) if "absent" not in possible[key]),
    ]

"""The run lock of a job. A run holds the lock while it works, so a job has one run at a time.

The run lock is the lock of the job's directory. If the run's process dies, the system releases the
lock. The file ``run.lock`` only names the holder, for messages. On a network file system, the
process that takes the lock also claims the job: see :mod:`journal.fs.network_claims`.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

import msgspec

from journal.errors import JobBusyError, JobNotFoundError, StorageError
from journal.format.records import now
from journal.fs import files, handles, locks, network_claims, system
from journal.fs.file_names import CLAIMS_NAME, JOURNAL_NAME, RUN_LOCK_NAME
from journal.fs.network_claims import Claim
from journal.ids import id_of_directory
from journal.index.columns import PROCESSING
from journal.model import RunHolder
from journal.store.journal import Journal
from journal.store.log import Log
from journal.text import time_text


class RunLock:
    """The run lock of a job, held from :meth:`take` to :meth:`release`."""

    def __init__(self, lock: locks.DirectoryLock, claim: Claim | None = None) -> None:
        self._lock = lock
        self.claim = claim  # on a network file system

    @classmethod
    def take(
        cls,
        directory: Path,
        job_id: str,
        *,
        sign: bool = True,
        lock_timeout_s: float = locks.LOCK_TIMEOUT_S,
    ) -> RunLock:
        """Take the job's run lock. With ``sign``, write the name of this process to ``run.lock``.

        On a network file system, ``sign`` also claims the job. If an earlier run may still work
        there, the journal is replaced with a copy, which needs the commit lock.

        Raises JobBusyError, which names the holder. Also raises JobNotFoundError, StorageError, and
        on a network file system JobLockedError.
        """
        text, claim = b"", None
        try:
            lock = locks.DirectoryLock(directory)
            try:
                if not locks.wait_for_lock(lock, locks.PATIENCE_S):
                    raise busy_error(directory)
                if not lock.is_at_path() or not files.exists(directory / JOURNAL_NAME):  # deleted
                    raise handles.no_job(directory, job_id)
                text = _signature() if sign else b""
                device = system.os.fstat(lock.fd).st_dev
                if network := network_claims.network_of(device, anew=True):
                    claim = _claim(directory, text, network, lock_timeout_s)
                if sign:
                    _write(directory / RUN_LOCK_NAME, text)
            except BaseException:  # a caller may keep the error, which would keep the lock
                if claim is not None:
                    claim.release()
                lock.close()
                raise
        except OSError as error:
            is_gone = isinstance(error, FileNotFoundError | NotADirectoryError)
            if is_gone and not files.exists(directory / JOURNAL_NAME):
                raise JobNotFoundError(job_id) from None
            path = directory if error.filename is None else Path(error.filename)
            raise handles.storage_error(path, "lock", error) from error
        return cls(lock, claim)

    @property
    def held(self) -> bool:
        """Whether this process holds the lock. False in a forked child: the parent has the lock."""
        return self._lock.fd >= 0

    def why_lost(self) -> str:
        """The reason why the lock no longer protects the job at the path, as text, or "".

        - The directory was moved away or deleted. A different directory may be in its place.
        - Another run has claimed the job.
        """
        if not self._lock.is_at_path():
            if files.exists(self._lock.path):
                return f"{self._lock.path} was replaced: make sure that no other run continues it"
            return f"{self._lock.path} was moved or deleted, so this run records nothing more"
        if self.claim is not None and self.claim.lost:
            other = _read_holder(self._lock.directory)
            return f"{self.claim.lost}; the last run is process {other.pid} on {other.host}"
        return ""

    def check(self) -> None:
        """Raise StorageError if the lock is lost: see :meth:`why_lost`."""
        self.look()
        if why := self.why_lost():
            raise StorageError(self._lock.directory, "change", errno.ESTALE, why)

    def look(self) -> None:
        """List the claims, so that :meth:`why_lost` knows a later claim."""
        if self.claim is not None:
            with handles.refusals_of(self.claim.path, "look at"):
                self.claim.why_lost()

    def release(self) -> None:
        if self.claim is not None:
            self.claim.release()
        if self.held:  # unlock first: a child between fork and exec has the file open, too
            with suppress(StorageError):
                self._lock.unlock()
        self._lock.close()


class Held:
    """The run lock of a job that a store takes for a commit, and holds after the commit.

    - ``lock``: None until the lock is taken.
    - ``is_new``: True until the commit has ended.
    - ``keep``: True if a run uses the lock, whatever the job's status is.
    """

    __slots__ = ("is_new", "keep", "lock")

    def __init__(self, *, keep: bool = False) -> None:
        self.lock: RunLock | None = None
        self.is_new, self.keep = True, keep


class RunLocks:
    """The run locks that one store holds. A forked child holds none of them."""

    def __init__(self, root: Path, lock_timeout_s: float) -> None:
        self.root, self._lock_timeout_s = root, lock_timeout_s
        self._held: dict[str, Held] = {}
        self._claims: dict[str, Claim] = {}  # claims of other processes' runs: see `work_for`

    def __bool__(self) -> bool:
        return bool(self._held)

    def close(self) -> None:
        for job_id in list(self._held):
            self.release(job_id)

    def take(self, job_id: str, held: Held) -> None:
        """Take the job's run lock. Raises JobBusyError if the lock is taken, even by this store."""
        if self.holds(job_id):
            raise busy_error(self.root / job_id)
        directory = self.root / job_id
        held.lock = RunLock.take(directory, job_id, lock_timeout_s=self._lock_timeout_s)
        self._held[job_id] = held

    def settle(self, job_id: str, held: Held, *, written: bool) -> None:
        """Release the lock if it was taken for a commit that was not written."""
        if held.is_new and not written:
            self._let_go(job_id, held)
        held.is_new = False

    def has(self, job_id: str) -> bool:
        """Whether this store has taken the lock and hasn't released it. The lock may be lost."""
        return job_id in self._held

    def holds(self, job_id: str) -> bool:
        lock = self._lock(job_id)
        return lock is not None and lock.held and not lock.why_lost()

    def why_lost(self, job_id: str) -> str:
        """See :meth:`RunLock.why_lost`. "" if this store has no lock."""
        lock = self._lock(job_id)
        return "" if lock is None else lock.why_lost()

    def look(self, job_id: str) -> None:
        """Look whether another run has claimed the job: see :meth:`RunLock.look`."""
        if (lock := self._lock(job_id)) is not None:
            lock.look()

    def claim(self, job_id: str) -> Claim | None:
        """The claim under which this store works, if the job is on a network file system."""
        lock = self._lock(job_id)
        return self._claims.get(job_id) if lock is None else lock.claim

    def work_for(self, job_id: str, number: int) -> None:
        """Let this store work for another process's run, which has the claim ``number``."""
        self._claims[job_id] = Claim(self.root / job_id, number)

    def _lock(self, job_id: str) -> RunLock | None:
        held = self._held.get(job_id)
        return None if held is None else held.lock

    def release(self, job_id: str) -> bool:
        """Release the lock. Returns False if this store doesn't have the lock."""
        held = self._held.get(job_id)
        if held is not None:
            self._let_go(job_id, held)
        return held is not None

    def release_unless_kept(self, job_id: str) -> bool:
        """Release the lock like :meth:`release`, after the job has stopped running.

        The lock stays if a run uses it, or if the commit that needs it hasn't ended.
        """
        held = self._held.get(job_id)
        return held is not None and not (held.keep or held.is_new) and self.release(job_id)

    def release_if_over(self, journal: Journal) -> None:
        """If the job has ended and no row is in flight, release the lock, unless a run keeps it.

        Another process may have ended the job. The caller must hold the journal's mutex.
        """
        if (
            self._held.get(journal.job_id)
            and not journal.depth
            and has_ended(journal)
            and not journal.index.status_counts[PROCESSING]
        ):
            self.release_unless_kept(journal.job_id)

    def _let_go(self, job_id: str, held: Held) -> None:
        if held.lock is not None:
            held.lock.release()  # the first step, so that an interrupt can't leave the lock taken
        if self._held.get(job_id) is held:
            del self._held[job_id]


def has_ended(journal: Journal) -> bool:
    """Return whether the job has ended. The caller must hold the journal's mutex."""
    state = journal.index.state
    return state is not None and state.status.is_ended


def has_run(journal: Journal) -> bool:
    """Return whether the last run still works on the job, or waits for a pause to end."""
    holder, run = run_holder(journal.directory), journal.index.state and journal.index.state.run
    # A process that took the run lock after this run's start only settles rows, compares an input,
    # or copies the job.
    return bool(holder and run and holder.started_at <= time_text(run.started_at))


def is_in_flight(journal: Journal, number: int) -> bool:
    """Return whether a row is in flight. The caller must hold the journal's mutex."""
    position = journal.index.position_of(number)
    return position is not None and journal.index.columns.statuses[position] == PROCESSING


def late_results(directory: Path) -> list[str]:
    """Messages about files with results of rows whose run had already lost the job."""
    try:
        late = network_claims.late_files(directory)
    except OSError as error:
        reason = handles.storage_error(directory / CLAIMS_NAME, "list", error)
        return [f"{reason}; there may be results of rows from a run that had lost the job"]
    return [
        f"{path} has results of rows from a run whose job another run had claimed: compare the "
        "file with the job, then delete the file"
        for path in late
    ]


def busy_error(directory: Path) -> JobBusyError:
    """Make the error for a job on which another run works."""
    holder = _read_holder(directory)
    return JobBusyError(id_of_directory(directory), holder.host, holder.pid, holder.started_at)


def run_holder(directory: Path) -> RunHolder | None:
    """Return the run that works on the job now, or None. Raises StorageError."""
    try:
        lock = locks.DirectoryLock(directory, to_look=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise handles.storage_error(directory, "look at", error) from error
    try:
        with handles.refusals_of(directory / CLAIMS_NAME, "list"):
            is_held = lock.is_held() or network_claims.is_claimed(directory)
        return _read_holder(directory) if is_held else None
    finally:
        lock.close()


def _claim(directory: Path, holder: bytes, network: str, lock_timeout_s: float) -> Claim | None:
    """Claim the job for ``holder``.

    With ``b""`` as ``holder``, only raise JobBusyError if a run has the job.
    """
    if not holder:
        with suppress(OSError):  # a full disk must not hinder a deletion
            network_claims.look(directory / CLAIMS_NAME)  # else a cached list may lack a claim
        if network_claims.is_claimed(directory):
            raise busy_error(directory)
        return None
    taken = Claim.take(directory, holder, network)
    if taken is None:
        raise busy_error(directory)
    claim, may_work = taken
    try:
        if may_work:
            Log(directory, sync=True, lock_timeout_s=lock_timeout_s).take_over(claim)
        else:
            claim.forget_earlier()
    except BaseException:
        claim.release()  # but keep the claim's file: the journal may have been replaced
        raise
    return claim


def _signature() -> bytes:
    holder = RunHolder(system.host_name(), system.process_id(), time_text(now()))
    return msgspec.json.encode(holder) + b"\n"


def _write(path: Path, text: bytes) -> None:
    """Write the name of this process to ``run.lock``."""
    try:
        files.write_small(path, text)
    except FileNotFoundError:  # the directory was deleted
        raise
    except OSError as error:
        raise handles.storage_error(path, "write", error) from error


def _read_holder(directory: Path) -> RunHolder:
    """Return the holder that ``run.lock`` names.

    If the file is missing or unreadable, all fields are empty.
    """
    try:
        return msgspec.json.decode(files.read_small(directory / RUN_LOCK_NAME), type=RunHolder)
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError):
        return RunHolder()

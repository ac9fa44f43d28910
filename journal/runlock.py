"""The run lock: held for as long as one run works on a job, freed by the system when it dies."""

from __future__ import annotations

from pathlib import Path

import msgspec

from journal import files
from journal.errors import JobBusyError, JobNotFoundError
from journal.format import now, time_text
from journal.model import RunHolder

RUN_LOCK_NAME = "run.lock"

# Looking who holds the lock takes it for an instant, so a try that fails is repeated for a while.
_PATIENCE_S = 0.25


class RunLock:
    """Held from :meth:`take` to :meth:`release`."""

    def __init__(self, file: files.LockFile) -> None:
        self._file = file

    @classmethod
    def take(cls, directory: Path, job_id: str) -> RunLock:
        """Hold the job's run lock, or raise JobBusyError with its holder."""
        path = directory / RUN_LOCK_NAME
        try:
            file = files.LockFile(path)
            if not file.acquire(_PATIENCE_S):
                file.close()
                holder = run_holder(directory) or RunHolder()
                raise JobBusyError(job_id, holder.host, holder.pid, holder.started_at)
            holder = RunHolder(files.host_name(), files.process_id(), time_text(now()))
            file.write_holder(msgspec.json.encode(holder) + b"\n")
        except (FileNotFoundError, NotADirectoryError):
            raise JobNotFoundError(job_id) from None
        except OSError as error:
            raise files.storage_error(path, "lock", error) from error
        return cls(file)

    @property
    def held(self) -> bool:
        """False in a forked child: the lock stays with the parent."""
        return self._file.fd >= 0

    def release(self) -> None:
        self._file.close()


def run_holder(directory: Path) -> RunHolder | None:
    """Who works on the job in ``directory`` now; None if nobody does."""
    path = directory / RUN_LOCK_NAME
    try:
        text = files.read_lock_holder(path)
    except OSError as error:
        raise files.storage_error(path, "read", error) from error
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=RunHolder)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return RunHolder()  # it holds the lock and has not written its name yet

"""How a command names a job, and how a job's state is put into words."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from journal.cli.exit_codes import Refused
from journal.cli.output import tell
from journal.errors import JobNotFoundError, JournalError
from journal.fs.names import JOURNAL_NAME
from journal.ids import is_job_id
from journal.model import Job, JobStatus, RunHolder
from journal.service import JobService

DEFAULT_ROOT = "jobs"


def complete_job(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """What a shell offers for JOB: ids, and for the beginning of a path what it finds itself."""
    if os.sep in incomplete:
        return complete_path(ctx, parameter, incomplete)
    try:
        service = ReadingService(ctx.find_root().params.get("root") or DEFAULT_ROOT)
        return sorted(job_id for job_id in service.job_ids() if job_id.startswith(incomplete))
    except JournalError:
        return []


def complete_path(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """That a shell is to offer files and directories."""
    return click.Path().shell_complete(ctx, parameter, incomplete)


def did_you_mean(word: str, known: Iterable[str]) -> list[str]:
    """``did you mean 'list'?``, if one of the known words resembles this one; else nothing."""
    from difflib import get_close_matches  # noqa: PLC0415  (needed only after a mistake)

    return [f"did you mean {close!r}?" for close in get_close_matches(word, list(known), n=1)]


def _no_such_job(name: str, known: Iterable[str]) -> JobNotFoundError:
    """The error for a job that isn't there; its note names the job that may have been meant."""
    error = JobNotFoundError(name)
    for note in did_you_mean(name, known):
        error.add_note(note)
    return error


job_argument = click.argument("job", shell_complete=complete_job)


class ReadingService(JobService):
    """For commands that read in one thread: it loads what writing needs when it comes to that."""

    _writes = False


def find_job(root: str, name: str, *, redact: Collection[str] = ()) -> tuple[JobService, str]:
    """The service and the id of the job that ``name`` means: an id, a unique prefix, a path.

    ``redact`` as for JobService.
    """
    path = Path(name)
    looks_like_path = os.sep in name or name in (os.curdir, os.pardir)
    if looks_like_path:
        directory = path.resolve()
        if not os.path.lexists(directory / JOURNAL_NAME):
            raise JobNotFoundError(name)
        service = ReadingService(directory.parent, redact=redact)
        if not is_job_id(directory.name):
            service.check_directory(directory.name)
        return service, directory.name
    service = ReadingService(root, redact=redact)
    return service, expand_prefix(service, name)


def expand_prefix(service: JobService, prefix: str) -> str:
    """The one id in the store that is ``prefix`` or begins with it, which is said then."""
    if is_job_id(prefix):
        directory = service.root / prefix
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with contextlib.suppress(PermissionError):  # who reads it will say so
                os.lstat(directory / JOURNAL_NAME)
            return prefix
        if directory.is_dir():  # who names it whole means no other
            raise Refused(f"{directory} is no job: there is no {JOURNAL_NAME} in it")
    job_ids = list(service.job_ids())
    matches = sorted(job_id for job_id in job_ids if prefix and job_id.startswith(prefix))
    if not matches:
        raise _no_such_job(prefix, job_ids)
    if len(matches) > 1:
        some = ", ".join(matches[:5]) + (", ..." if len(matches) > 5 else "")
        raise click.UsageError(f"{prefix!r} is the beginning of {len(matches)} jobs: {some}")
    tell(f"{matches[0]}: the job that begins with {prefix!r}")
    return matches[0]


def journal_command() -> list[str]:
    """How this program was called, for commands that can be pasted."""
    if os.path.basename(sys.argv[0]) == "__main__.py":
        return [sys.executable, "-m", "journal"]
    return [sys.argv[0] if os.sep in sys.argv[0] else "journal"]


def spoken(ctx: click.Context, service: JobService) -> Callable[..., str]:
    """``spoken(ctx, service)("show", job_id)``: a command that can be pasted, in this store."""
    import shlex  # noqa: PLC0415  (`journal list` starts without it)

    words = ["journal"]
    if os.path.abspath(os.environ.get("JOURNAL_ROOT") or DEFAULT_ROOT) != str(service.root):
        given = os.path.abspath(ctx.obj) == str(service.root)  # else JOB was given as a path
        words += ["--root", ctx.obj if given else str(service.root)]
    return lambda *more: shlex.join([*words, *more])


def duration_s(job: Job, state: str, now: datetime) -> float | None:
    """Seconds that the job's passes took; of the one under way up to now while it runs, else its last record."""
    if job.started_at is None:
        return None
    if job.pass_started_at is None:
        return job.worked_s
    end = now if state == JobStatus.RUNNING else job.updated_at
    return job.worked_s + max(0.0, (end - job.pass_started_at).total_seconds())


def holder_text(holder: RunHolder) -> str:
    """Who runs a job, in words; for an instant its name isn't written yet."""
    return f"process {holder.pid} on {holder.host}" if holder.pid else "a run"

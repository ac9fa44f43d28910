"""Finds the job that a command names."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import click

from journal.cli.mistakes import did_you_mean
from journal.cli.output import echo_err
from journal.errors import JobNotFoundError, JournalDamagedError, RefusedError
from journal.format.pruned import check_not_pruned
from journal.fs import system
from journal.fs.file_names import JOURNAL_NAME
from journal.fs.handles import allow_open_files
from journal.ids import id_of_directory, is_job_id, is_shard_id, root_of, shard_name
from journal.model import (
    Job,
)
from journal.service import ExactService, JobService, existing_job

DEFAULT_ROOT = "jobs"
# The type of an argument that names a file. A shell completes the name.
PATH = click.Path(readable=False)


class ReadingService(ExactService):
    """A service for commands that normally only read.

    Modules for writing are imported at the first write.
    """

    _writes = False

    def __init__(self, root: str | os.PathLike[str]) -> None:
        person = f"{system.user_name()}@{system.host_name()}"
        super().__init__(root, person=person)


class FoundJob(NamedTuple):
    """The job that a command line names.

    ``command``: a function that turns words, such as "show" and the job's id, into a line to paste.
    """

    service: JobService
    id: str
    command: Callable[..., str]

    @classmethod
    def of(cls, ctx: click.Context, service: JobService, job_id: str) -> Self:
        return cls(service, job_id, command_line(ctx, service))

    @property
    def shards(self) -> list[FoundJob]:
        """The job itself. For a set, the shards that are here."""
        return [self]

    def read(self) -> Job:
        return existing_job(self.service, self.id)

    def warn_of_cut(self) -> None:
        """Write a message if a journal was cut. Call this after the job has been read."""
        for shard in self.shards:
            if text := cut_text(self.service, shard.id):
                shard.say(text)

    def say(self, text: str) -> None:
        """Write a message about the job to standard error."""
        echo_err(f"{self.id}: {text}")


class FoundSet(FoundJob):
    """The set of shards that a command line names. Only some commands accept a set."""

    @property
    def shards(self) -> list[FoundJob]:
        """The shards here, by index. Raises RefusedError if they belong to several sets."""
        self.service.store.count_shards(self.id)
        shard_ids = sorted(self.service.store.shards(self.id))
        allow_open_files(len(shard_ids))  # a listing of rows reads all shards side by side
        return [FoundJob(self.service, shard_id, self.command) for shard_id in shard_ids]


class _JobType(click.ParamType):  # type: ignore[type-arg]  # not generic before click 8.4
    """The click type of an argument JOB. ``takes_sets``: JOB may be a :class:`FoundSet`."""

    name = "job"

    def __init__(self, *, takes_sets: bool) -> None:
        self._takes_sets = takes_sets

    def convert(self, value: Any, _: click.Parameter | None, ctx: click.Context | None) -> FoundJob:
        assert ctx is not None
        found = find_job_or_set(ctx, value) if self._takes_sets else find_job(ctx, value)
        ctx.with_resource(found.service)
        return found


def cut_text(service: JobService, job_id: str) -> str:
    """A message if the hint proves that the job's journal was cut, or ""."""
    try:
        service.store.check_uncut(job_id)
    except JournalDamagedError as error:
        return f"this is only what is left: {error.found.removeprefix('that ')}"
    return ""


def find_job(ctx: click.Context, name: str) -> FoundJob:
    """Find a job by its id or its path. Raises JobNotFoundError, and RefusedError for a set."""
    found = find_job_or_set(ctx, name)
    if isinstance(found, FoundSet):
        one = found.command(str(ctx.info_name), min(found.service.store.shards(found.id)))
        raise RefusedError(
            f"{found.id} is a set of shards, and this command takes one of them, with the same options: `{one}`; "
            f"`{found.command('shards', found.id)}` lists them"
        )
    return found


def find_job_or_set(ctx: click.Context, name: str) -> FoundJob:
    """Find a job or a set: see :func:`find_job`."""
    if os.path.dirname(name) or name in (os.curdir, os.pardir):
        name = _whole_shard_id(ctx, name)
        directory = Path(name).resolve()
        if is_shard_id(name) and os.path.lexists(Path(ctx.obj, name, JOURNAL_NAME)):
            directory = Path(ctx.obj).resolve() / name  # in this store, even if the set is a link
        if not os.path.lexists(directory / JOURNAL_NAME):
            above = ReadingService(directory.parent) if is_job_id(directory.name) else None
            if above is None or not above.store.is_set(directory.name):
                if is_shard_id(name):
                    check_not_pruned(Path(ctx.obj).absolute(), name)
                raise _not_found(name)
            return FoundSet.of(ctx, above, directory.name)
        job_id = id_of_directory(directory)
        service = ReadingService(root_of(directory))
        if not (is_job_id(job_id) or is_shard_id(job_id)):
            with service.store.peek(directory.name).reading():
                pass  # never reached: JobMismatchError is raised
        return FoundJob.of(ctx, service, job_id)
    service = ReadingService(ctx.obj)
    _check_known(service, name)
    kind = FoundSet if service.store.is_set(name) else FoundJob
    return kind.of(ctx, service, name)


def _whole_shard_id(ctx: click.Context, name: str) -> str:
    """Return ``ship/003-of-064`` for ``ship/3`` if the store has such a set, else ``name``."""
    set_id, _, index = name.partition("/")
    if re.fullmatch("[0-9]{1,7}", index) and is_job_id(set_id) and not os.path.lexists(name):
        count = ReadingService(ctx.obj).store.count_shards(set_id)
        if 0 < count <= int(index):
            raise RefusedError(f"{set_id} has no shard {index}: they are 0 to {count - 1}")
        return f"{set_id}/{shard_name(int(index), count)}" if count else name
    return name


found_job = click.argument("job", type=_JobType(takes_sets=False))
found_job_or_set = click.argument("job", type=_JobType(takes_sets=True))


def _not_found(name: str) -> JobNotFoundError:
    error = JobNotFoundError(name)
    if is_shard_id(name):
        error.add_note(f"`journal shards {os.path.dirname(name)}` lists the shards of its set")
    if os.path.isfile(name):
        error.add_note(
            "it is a file; if it is a pack, `journal unpack` checks it and makes its job, and "
            "`journal pull --dry-run` compares it with a job"
        )
    return error


def _check_known(service: JobService, name: str) -> None:
    """Raise an error unless the store has a job or a set of this name."""
    if is_job_id(name):
        directory = service.root / name
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with contextlib.suppress(PermissionError):  # reading the job reports the error
                os.lstat(directory / JOURNAL_NAME)
            return
        if service.store.is_set(name):
            return
        check_not_pruned(service.root, name)
        if directory.is_dir():
            raise RefusedError(f"{directory} is not a job: it has no {JOURNAL_NAME}")
    error = _not_found(name)
    for note in did_you_mean(name, [*service.store.job_ids(), *service.store.set_ids()]):
        error.add_note(note)
    raise error


def journal_command() -> list[str]:
    """The words that call this program, for commands to paste."""
    if os.path.basename(sys.argv[0]) == "__main__.py":
        return [sys.executable, "-m", "journal"]
    return [sys.argv[0] if os.path.dirname(sys.argv[0]) else "journal"]


def command_line(ctx: click.Context, service: JobService) -> Callable[..., str]:
    """A function that turns words, such as "show" and an id, into a command line for this store."""
    from journal.fs import shell  # noqa: PLC0415  (`journal list` starts without it)

    words, root = ["journal"], os.path.abspath(service.root)
    if os.path.abspath(os.environ.get("JOURNAL_ROOT") or DEFAULT_ROOT) != root:
        given = os.path.abspath(ctx.obj) == root  # False: JOB was given as a path
        words += ["--root", ctx.obj if given else root]
    return lambda *more: shell.join([*words, *more])

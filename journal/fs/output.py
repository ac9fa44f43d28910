"""Files and pipes for the user: made whole or not at all, also where others may write, too."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from stat import S_ISFIFO, S_ISLNK, S_ISREG
from typing import IO

from journal.errors import InvalidValueError
from journal.fs import files, handles, system
from journal.fs.handles import FILE_MODE, Descriptor, write_all
from journal.fs.names import JOURNAL_NAME, OWN_FILE

_MAX_LINKS = 40  # as the system follows on one way


@contextlib.contextmanager
def whole_file(
    path: str | os.PathLike[str],
    *,
    force: bool = False,
    private: bool = False,
    refused_beside: Sequence[str] = (),
) -> Iterator[Output]:
    """A file to write within the block; at its end it stands, synced, at ``path``.

    It is beside ``path`` until then, as ``.journal-….part``, and gone if the block raises; what
    kills the process leaves it. It is ``private``, or has the permissions of the file that it
    replaces, or of any new one. Raises InvalidValueError, before the block, if ``path`` is
    there and ``force`` isn't given, is a job's own file, is no file, is in no directory, leads
    through another's link, or has a file beside it of its name and one of ``refused_beside``;
    StorageError for what the system refuses.
    """
    target = real_path(path)  # a link stays a link
    _check_free(path, target, force=force, refused_beside=refused_beside)
    output = _beside(target)
    try:
        # Made now: what keeps it from being made is said in our words, and not in some library's.
        is_there = files.exists(target)
        output.make(private=private or is_there)  # what is there may be private
        yield output
        _check_free(path, target, force=force, refused_beside=refused_beside)
        output.put(target, private=private)
    except OSError as error:
        raise handles.storage_error(target, "write", error) from error
    finally:
        output.remove()


def real_path(path: str | os.PathLike[str]) -> Path:
    """The place that ``path`` leads to, for an output.

    A link is followed if it is the user's own, or the system's. In a directory that is shared others
    may have put one where an output is expected, and it would replace the file that it leads to.
    """
    text = os.fspath(path)
    parts = _parts(text if os.path.isabs(text) else os.path.join(os.getcwd(), text))
    found, links = Path("/"), 0
    while parts:
        part = parts.pop()
        if part == "..":
            found = found.parent
            continue
        link = _link_at(found / part)
        if link is None:
            found /= part
            continue
        links += 1
        if links > _MAX_LINKS:
            raise InvalidValueError(
                "out", text, "leads through too many links: name the file itself"
            )
        parts += _parts(link)
        if os.path.isabs(link):
            found = Path("/")
    return found


def _parts(path: str) -> list[str]:
    """The parts of a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _link_at(path: Path) -> str | None:
    """Where a link leads; None for what is none."""
    try:
        stat = os.lstat(path)
        link = os.readlink(path) if S_ISLNK(stat.st_mode) else None
    except OSError:  # it isn't there, or whoever writes it will hear why not
        return None
    if link is not None and not is_trusted(stat):
        raise InvalidValueError(
            "out",
            str(path),
            f"is a link of another user, to {link!r}: name another file, or that one",
        )
    return link


def _beside(target: Path) -> Output:
    try:
        return Output(target)
    except FileNotFoundError:
        raise InvalidValueError(
            "out", str(target), "is in a directory that isn't there: make that first"
        ) from None
    except NotADirectoryError:
        raise InvalidValueError(
            "out", str(target), "is below what is no directory: name another"
        ) from None
    except OSError as error:
        raise handles.storage_error(target, "write", error) from error


def _check_free(
    path: str | os.PathLike[str], target: Path, *, force: bool, refused_beside: Sequence[str]
) -> None:
    _check_not_of_a_job(target)
    for ending in refused_beside:
        beside = target.with_name(target.name + ending)
        if files.exists(beside):
            raise InvalidValueError(
                "out",
                str(target),
                f"can't be replaced beside {beside.name}, which would be taken for a part of it: "
                "end what has that database open, or move that file away, or name another OUT",
            )
    if os.fspath(path).endswith(os.sep):
        raise InvalidValueError("out", os.fspath(path), "is a directory's name: name a file")
    if not os.path.exists(path):
        return
    # A pipe, a device, a directory: to be replaced by none of ours. By the name that was given: a
    # pipe's own is none.
    if not os.path.isfile(path):
        raise InvalidValueError(
            "out",
            os.fspath(path),
            "is there and is not a file: name another, or - for standard output",
        )
    if not force:
        raise InvalidValueError(
            "out", str(target), "is there already: name another file, or say --force to replace it"
        )


def _check_not_of_a_job(target: Path) -> None:
    """Raise InvalidValueError if ``target``, there or not, is one of the journal's own files."""
    if not OWN_FILE.fullmatch(target.name):
        return
    # What is kept of a journal counts also where the journal itself is gone.
    if files.exists(target) or files.exists(target.with_name(JOURNAL_NAME)):
        raise InvalidValueError(
            "out",
            str(target),
            f"is a file of the job {target.parent.name!r}, which would be lost: name another, or one "
            "in its artifacts/",
        )


class Output(Descriptor):
    """A new file for the user, made under a name that nobody can know before.

    From the descriptor of its directory, so that it stays there whatever others do to the way there.
    The methods raise ``OSError`` as it is.
    """

    def __init__(self, target: Path) -> None:
        """Nothing is there yet. ``target``, beside which it will be, is in a directory and no link."""
        # Short, so that there is room for it wherever there is for the target's name.
        super().__init__(target.with_name(f".journal-{system.os.urandom(6).hex()}.part"), -1)
        flags = system.os.O_RDONLY | system.os.O_DIRECTORY
        self._directory = Descriptor(target.parent, system.os.open(target.parent, flags))

    def make(self, *, private: bool) -> None:
        flags = system.os.O_WRONLY | system.os.O_CREAT | system.os.O_EXCL
        mode = FILE_MODE if private else 0o666
        self.fd = system.os.open(self.path.name, flags, mode, dir_fd=self._directory.fd)

    def stream(self) -> IO[bytes]:
        """A stream that writes the file; to be closed before the file is put in its place."""
        return system.os.fdopen(self.fd, "wb", closefd=False)

    def put(self, target: Path, *, private: bool) -> None:
        """Let the file stand at ``target``, synced, and its name too.

        Unless it is ``private``, it takes over the permissions of the file that it replaces.
        """
        directory = self._directory.fd
        if not private:
            with contextlib.suppress(FileNotFoundError):
                replaced = system.os.lstat(target.name, dir_fd=directory)
                if S_ISREG(replaced.st_mode):
                    system.os.fchmod(self.fd, replaced.st_mode & 0o777)
        system.os.fsync(self.fd)
        mine = system.os.fstat(self.fd)
        there = system.os.lstat(self.path.name, dir_fd=directory)
        if not system.os.path.samestat(mine, there):
            raise OSError(errno.ESTALE, "somebody has put another file in the place of its own")
        system.os.rename(self.path.name, target.name, src_dir_fd=directory, dst_dir_fd=directory)
        system.os.fsync(directory)

    def remove(self) -> None:
        """Let go of the file; it is gone if it wasn't put anywhere, also if it was hardly made."""
        with contextlib.suppress(OSError):
            system.os.unlink(self.path.name, dir_fd=self._directory.fd)
        self.close()
        self._directory.close()


class Pipe(Descriptor):
    """A pipe or a device of the user's, to be written. ``OSError`` as it is."""

    def __init__(self, path: Path, *, named: bool) -> None:
        """Waits for who reads it. ``named``: it is in a directory, where others may have put it."""
        self._named = named
        self._check(system.os.stat(path))
        super().__init__(path, system.os.open(path, system.os.O_WRONLY))
        self._check(system.os.fstat(self.fd))

    def _check(self, stat: system.os.stat_result) -> None:
        if S_ISREG(stat.st_mode):
            raise OSError(errno.EINVAL, "it has become a file meanwhile: try again")
        if self._named and S_ISFIFO(stat.st_mode) and not is_trusted(stat):
            raise OSError(errno.EPERM, "this pipe belongs to another user: name another place")

    def write(self, data: bytes | memoryview) -> None:
        write_all(self.fd, data)


def is_trusted(stat: system.os.stat_result) -> bool:
    """Whether it belongs to who runs this, or to the system: nobody else has made it."""
    return stat.st_uid in (system.os.geteuid(), 0)

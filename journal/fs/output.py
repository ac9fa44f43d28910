"""Files and pipes that a user asked for. A file is made whole or not at all.

The directory may be one where other users can write, such as ``/tmp``.
"""

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

_MAX_LINKS = 40  # as many as Linux follows in one path


@contextlib.contextmanager
def whole_file(
    path: str | os.PathLike[str],
    *,
    force: bool = False,
    private: bool = False,
    refused_beside: Sequence[str] = (),
) -> Iterator[Output]:
    """A file to write in the block. At the end of the block it stands at ``path``, synced.

    Until then it is ``.journal-….part`` beside ``path``. It is removed if the block raises, and
    left there if the process is killed. Its permissions are private if ``private`` is set, else
    those of the file that it replaces, else those of any new file.

    Raises StorageError, and before the block InvalidValueError, if ``path``

    - exists and ``force`` isn't given, or isn't a regular file,
    - is one of a job's own files,
    - is in a directory that doesn't exist,
    - leads through a link of another user,
    - has beside it a file with the same name and one of the endings ``refused_beside``.
    """
    target = real_path(path)  # a link stays, and its target is replaced
    _check_free(path, target, force=force, refused_beside=refused_beside)
    output = _beside(target)
    try:
        # Made now, so that a failure raises our error and not one of a library that writes it.
        is_there = files.exists(target)
        output.make(private=private or is_there)  # the file that is replaced may be private
        yield output
        _check_free(path, target, force=force, refused_beside=refused_beside)
        output.put(target, private=private)
    except OSError as error:
        raise handles.storage_error(target, "write", error) from error
    finally:
        output.remove()


def real_path(path: str | os.PathLike[str]) -> Path:
    """The path of an output after following links.

    Only links of this user and of root are followed. In a shared directory another user could place
    a link where an output is expected, and the output would replace the file that it leads to.
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
    """The parts of a path, the last one first, so that the next one can be popped."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _link_at(path: Path) -> str | None:
    """Where a link leads; None if ``path`` isn't a link."""
    try:
        stat = os.lstat(path)
        link = os.readlink(path) if S_ISLNK(stat.st_mode) else None
    except OSError:  # it is missing, or writing will raise the reason
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
            "out", str(target), "is in a directory that doesn't exist: make the directory first"
        ) from None
    except NotADirectoryError:
        raise InvalidValueError(
            "out", str(target), "is below a file, not a directory: name another path"
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
                f"can't be replaced while {beside.name} is beside it, which would be read as a part of it: "
                "close the program that has that database open, move that file away, or name "
                "another file",
            )
    if os.fspath(path).endswith(os.sep):
        raise InvalidValueError("out", os.fspath(path), "is a directory's name: name a file")
    if not os.path.exists(path):
        return
    # Never replace a pipe, a device or a directory. Ask by the given path, since a path such as
    # /dev/stdout may lead to a pipe, which has no path of its own.
    if not os.path.isfile(path):
        raise InvalidValueError(
            "out",
            os.fspath(path),
            "exists and is not a file: name another, or - for standard output",
        )
    if not force:
        raise InvalidValueError(
            "out", str(target), "exists already: name another file, or give --force to replace it"
        )


def _check_not_of_a_job(target: Path) -> None:
    """Raise InvalidValueError if ``target``, existing or not, is one of a job's own files."""
    if not OWN_FILE.fullmatch(target.name):
        return
    # An existing backup counts even if its journal is gone.
    if files.exists(target) or files.exists(target.with_name(JOURNAL_NAME)):
        raise InvalidValueError(
            "out",
            str(target),
            f"is one of the files of job {target.parent.name!r}, which would be lost: name another "
            "file, or one in artifacts/",
        )


class Output(Descriptor):
    """A new file under a random name, to be renamed to its target once it is whole.

    It is reached from the descriptor of its directory, so that others can't redirect it by renaming
    a parent directory. The methods raise ``OSError`` as it is.
    """

    def __init__(self, target: Path) -> None:
        """Choose the name; :meth:`make` makes the file. ``target`` isn't a link."""
        # The name is short, so that it fits wherever the target's name does.
        super().__init__(target.with_name(f".journal-{system.os.urandom(6).hex()}.part"), -1)
        flags = system.os.O_RDONLY | system.os.O_DIRECTORY
        self._directory = Descriptor(target.parent, system.os.open(target.parent, flags))

    def make(self, *, private: bool) -> None:
        flags = system.os.O_WRONLY | system.os.O_CREAT | system.os.O_EXCL
        mode = FILE_MODE if private else 0o666
        self.fd = system.os.open(self.path.name, flags, mode, dir_fd=self._directory.fd)

    def stream(self) -> IO[bytes]:
        """A stream that writes to the file. Close it before :meth:`put`."""
        return system.os.fdopen(self.fd, "wb", closefd=False)

    def put(self, target: Path, *, private: bool) -> None:
        """Sync the file, rename it to ``target``, and sync the name.

        Unless it is ``private``, it gets the permissions of the file that it replaces.
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
            raise OSError(
                errno.ESTALE, "another program has replaced the temporary file: try again"
            )
        system.os.rename(self.path.name, target.name, src_dir_fd=directory, dst_dir_fd=directory)
        system.os.fsync(directory)

    def remove(self) -> None:
        """Close the file, and delete it unless :meth:`put` has renamed it. It may not exist yet."""
        with contextlib.suppress(OSError):
            system.os.unlink(self.path.name, dir_fd=self._directory.fd)
        self.close()
        self._directory.close()


class Pipe(Descriptor):
    """A pipe or a device to write to. Raises ``OSError`` as it is."""

    def __init__(self, path: Path, *, named: bool) -> None:
        """Open it, and wait for its reader.

        ``named``: it has a path, where others may have put it.
        """
        self._named = named
        self._check(system.os.stat(path))
        super().__init__(path, system.os.open(path, system.os.O_WRONLY))
        self._check(system.os.fstat(self.fd))

    def _check(self, stat: system.os.stat_result) -> None:
        if S_ISREG(stat.st_mode):
            raise OSError(errno.EINVAL, "it has become a file meanwhile: try again")
        if self._named and S_ISFIFO(stat.st_mode) and not is_trusted(stat):
            raise OSError(errno.EPERM, "this pipe belongs to another user: name another path")

    def write(self, data: bytes | memoryview) -> None:
        write_all(self.fd, data)


def is_trusted(stat: system.os.stat_result) -> bool:
    """Whether it belongs to this user or to root, so no other user made it."""
    return stat.st_uid in (system.os.geteuid(), 0)

"""Writes files that a user asked for. A file is written completely or not at all.

Other users may have write access to the directory of a file, as in ``/tmp``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from stat import S_ISLNK, S_ISREG
from typing import IO

from journal.errors import InvalidValueError
from journal.fs import files, handles, system
from journal.fs.file_names import JOURNAL_NAME, OWN_FILE
from journal.fs.handles import FILE_MODE, Descriptor

_EXISTS = "exists already: name another file, or give --force to replace it"
# The errors of link() on a file system without hard links, such as exFAT.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@contextlib.contextmanager
def whole_file(
    path: str | os.PathLike[str],
    *,
    force: bool = False,
    private: bool = False,
    refused_beside: Sequence[str] = (),
) -> Iterator[Output]:
    """Make a file for a ``with`` block.

    Within the block, the file is named ``.journal-….part``, in the directory of ``path``. When the
    block ends, the file is synced and renamed to ``path``. If the block raises, the file is
    removed. If the process is killed, the file stays.

    With ``private``, only the owner gets permissions. Otherwise a file that replaces another file
    gets the permissions of that file, and a new file gets the default permissions.

    Raises StorageError. Before the block, InvalidValueError is raised in these cases:

    - ``path`` exists (unless ``force`` is given and ``path`` is a regular file).
    - ``path`` is one of a job's own files.
    - A file exists whose name is ``path`` plus one of the endings in ``refused_beside``.
    - ``path`` is in a directory that doesn't exist.
    - ``path`` leads through a link of another user.

    After the block, the first three cases are checked again.
    """
    target = real_path(path)  # if ``path`` is a link, replace its target, not the link
    _check_free(path, target, force=force, refused_beside=refused_beside)
    output = _beside(target)
    try:
        # The file is made before the block. So if the file can't be made, our error is raised, not
        # the error of a library.
        is_there = files.exists(target)
        output.make(private=private or is_there)  # the file that is replaced may be private
        yield output
        _check_free(path, target, force=force, refused_beside=refused_beside)
        output.put(target, private=private, force=force)
    except FileExistsError:  # another program has made the file since the check
        raise _refused(target, _EXISTS) from None
    except OSError as error:
        raise handles.storage_error(target, "write", error) from error
    finally:
        output.remove()


def real_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of an output after following links.

    Raises InvalidValueError if ``path``, or a directory on it, is a link that belongs neither to
    the current user nor to root. In a shared directory, another user could put a link at the path
    of an output. If the link were followed, the output would replace the target of the link.
    """
    given = Path(os.path.abspath(path))
    for each in (given, *given.parents):
        with contextlib.suppress(OSError):  # no such path, or the later write raises the error
            stat = os.lstat(each)
            if S_ISLNK(stat.st_mode) and not is_trusted(stat):
                why = f"is a link of another user, to {os.readlink(each)!r}: name another file, or"
                raise _refused(each, f"{why} the link's target")
    return Path(os.path.realpath(path))


def _beside(target: Path) -> Output:
    try:
        return Output(target)
    except FileNotFoundError:
        why = "is in a directory that doesn't exist: make the directory first"
        raise _refused(target, why) from None
    except NotADirectoryError:
        raise _refused(target, "is below a file, not a directory: name another path") from None
    except OSError as error:
        raise handles.storage_error(target, "write", error) from error


def _check_free(
    path: str | os.PathLike[str], target: Path, *, force: bool, refused_beside: Sequence[str]
) -> None:
    _check_not_of_a_job(target)
    for ending in refused_beside:
        beside = target.with_name(target.name + ending)
        if files.exists(beside):
            raise _refused(
                target,
                f"can't be replaced while {beside.name} exists, which would be read as a part of "
                "it: close the program that has the database open, move that file away, or name "
                "another file",
            )
    if os.fspath(path).endswith((os.sep, os.altsep or os.sep)):
        raise _refused(path, "is a directory's name: name a file")
    if not os.path.exists(path):
        return
    # Never replace a pipe, a device or a directory. The check uses the path as given, since
    # /dev/stdout may lead to a pipe, and a pipe has no real path.
    if not os.path.isfile(path):
        why = "exists and is not a file: name another file, or - for standard output"
        raise _refused(path, why)
    if not force:
        raise _refused(target, _EXISTS)


def _check_not_of_a_job(target: Path) -> None:
    """Raise InvalidValueError if ``target`` is one of a job's own files.

    ``target`` needn't exist.
    """
    if not re.fullmatch(OWN_FILE, target.name):
        return
    # An existing backup is refused even if the journal beside it is gone.
    if files.exists(target) or files.exists(target.with_name(JOURNAL_NAME)):
        raise _refused(
            target,
            f"is one of the files of job {target.parent.name!r}, which would be lost: name another "
            "file, or one in artifacts/",
        )


def _refused(path: str | os.PathLike[str], why: str) -> InvalidValueError:
    return InvalidValueError("out", os.fspath(path), why)


class Output(Descriptor):
    """A new file under a random name. A complete file is renamed to its target.

    All calls use the descriptor of the directory. So other users can't redirect the output by
    renaming a parent directory. The methods raise ``OSError``.
    """

    def __init__(self, target: Path) -> None:
        """Choose the random name. :meth:`make` makes the file. ``target`` must not be a link."""
        # The name is short, so a file system that allows the target's name also allows this name.
        super().__init__(target.with_name(f".journal-{system.os.urandom(6).hex()}.part"), -1)
        flags = system.os.O_RDONLY | system.os.O_DIRECTORY
        self._directory = Descriptor(target.parent, system.os.open(target.parent, flags))

    def make(self, *, private: bool) -> None:
        flags = system.os.O_WRONLY | system.os.O_CREAT | system.os.O_EXCL
        mode = FILE_MODE if private else 0o666
        self.fd = system.os.open(self.path.name, flags, mode, dir_fd=self._directory.fd)

    def stream(self) -> IO[bytes]:
        """Open a stream that writes to the file. Close the stream before :meth:`put`."""
        return system.os.fdopen(self.fd, "wb", closefd=False)

    def put(self, target: Path, *, private: bool, force: bool) -> None:
        """Sync the file, rename it to ``target``, and sync the directory.

        Without ``force``, raises FileExistsError if anything is at ``target``. Without ``private``,
        the file gets the permissions of the file that it replaces.
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
        if force or not self._link(target.name):
            system.os.rename(
                self.path.name, target.name, src_dir_fd=directory, dst_dir_fd=directory
            )
        system.os.fsync(directory)

    def _link(self, name: str) -> bool:
        """Rename the file to ``name``. If ``name`` is already in use, raise FileExistsError.

        Returns False if the file system can't check the name and rename the file in one step. In
        this case, the caller must replace the empty file ``name`` that this method has made.
        """
        directory = self._directory.fd
        try:
            system.os.link(
                self.path.name,
                name,
                src_dir_fd=directory,
                dst_dir_fd=directory,
                follow_symlinks=False,
            )
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            flags = system.os.O_WRONLY | system.os.O_CREAT | system.os.O_EXCL
            handles.close_fd(system.os.open(name, flags, FILE_MODE, dir_fd=directory))
            return False
        system.os.unlink(self.path.name, dir_fd=directory)
        return True

    def remove(self) -> None:
        """Close the file, and delete it unless :meth:`put` has renamed it.

        Nothing happens if :meth:`make` hasn't made the file.
        """
        with contextlib.suppress(OSError):
            system.os.unlink(self.path.name, dir_fd=self._directory.fd)
        self.close()
        self._directory.close()


def is_trusted(stat: system.os.stat_result) -> bool:
    """Return whether a file belongs to this user or to root."""
    return stat.st_uid in (system.os.geteuid(), 0)

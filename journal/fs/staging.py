"""The staging directory of a store: jobs are built in it, and moved into it to be deleted.

Nobody else can write to the staging directory, and the names in it are random. So even a user who
may write to the store can't redirect these writes and removals.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator
from pathlib import Path

from journal.errors import JobLockedError, StorageError
from journal.fs import files, system
from journal.fs.file_names import JOB_STAGING_NAME, JOURNAL_NAME
from journal.fs.files import DIRECTORY_MODE, NewFile
from journal.fs.handles import Descriptor, JournalFile
from journal.fs.locks import DirectoryLock, wait_for_lock
from journal.fs.network_claims import network_of

_MAX_TRIES = 100  # a try fails if another process has changed the set meanwhile


class Staging(Descriptor):
    """The open staging directory of a store. The methods raise ``OSError``.

    All names are looked up in the open directory. It doesn't matter what happens to the path of
    this directory.
    """

    def __init__(self, root: Path) -> None:
        """Open the staging directory, or make it.

        Another user may have made ``.staging`` first. So if ``.staging`` isn't private (see
        ``_is_private``), ``.staging-UID`` is used instead. Raises FileExistsError if neither
        directory is private.

        On a network file system, other nodes don't see the lock of a directory. Other nodes would
        remove the jobs that this node is making. So each node has its own directory there,
        ``.staging-HOST``.
        """
        first = JOB_STAGING_NAME
        flags = system.os.O_RDONLY | system.os.O_DIRECTORY
        with contextlib.closing(Descriptor(root, system.os.open(root, flags))) as directory:
            if network_of(system.os.fstat(directory.fd).st_dev):
                first += f"-{system.host_name()}"
        for name in (first, f"{first}-{system.os.geteuid()}"):
            path = root / name
            with contextlib.suppress(FileExistsError):
                system.os.mkdir(path, DIRECTORY_MODE)
            with contextlib.suppress(PermissionError, NotADirectoryError):
                super().__init__(path, files.open_directory(path))
                if self._is_private():
                    return
                self.close()
        reason = f"{first} and {name} are not private directories of this user: remove"
        raise FileExistsError(errno.EEXIST, f"{reason} one of them")

    @contextlib.contextmanager
    def locked(self, timeout_s: float) -> Iterator[None]:
        """Lock the staging directory for a ``with`` block, and remove leftovers.

        A leftover is a directory without a lock, because the process that made the directory has
        died. Raises JobLockedError if the lock isn't free within ``timeout_s`` seconds.
        """
        # Windows can't lock a directory. There, the lock is on a file in the directory.
        lock = DirectoryLock(self.path) if sys.platform == "win32" else self
        if not wait_for_lock(lock, timeout_s):
            raise JobLockedError(system.os.fspath(self.path.parent), timeout_s)
        try:
            for name in files.subdirectories(self.fd):
                self._remove_leftover(self.path / name)
            yield
        finally:
            with contextlib.suppress(StorageError):
                lock.unlock()

    def _remove_leftover(self, path: Path) -> None:
        # If a leftover can't be removed, a new job can still be made.
        with contextlib.suppress(OSError, StorageError):
            lock = DirectoryLock(path, to_rename=True)
            try:
                if lock.try_lock():
                    self.remove(path)
            finally:
                lock.close()

    def make(self, name: str) -> DirectoryLock:
        """Make a directory, and return it locked.

        The caller must hold the lock of the staging directory.
        """
        system.os.mkdir(name, DIRECTORY_MODE, dir_fd=self.fd)
        lock = DirectoryLock(self.path / name, to_rename=True)
        lock.try_lock()
        return lock

    def remove(self, path: Path) -> None:
        """Remove the directory ``path`` in the staging directory, if it is there."""
        files.remove_tree(path, self.fd)

    def _is_private(self) -> bool:
        """Return whether the directory belongs to this user, and gives others no permissions.

        Some file systems don't keep owners or permissions. There, the directory is compared with a
        new private file.
        """
        mine = system.os.fstat(self.fd)
        if mine.st_uid == system.os.geteuid() and not mine.st_mode & 0o077:
            return True
        file = NewFile(self.path.with_name(f".{system.nonce()}"))
        try:
            new = system.os.fstat(file.fd)
        finally:
            system.os.unlink(file.path)
            file.close()
        return new.st_uid == mine.st_uid and bool(new.st_mode & 0o077 or not mine.st_mode & 0o077)

    def take(self, directory: Path, name: str, journal: JournalFile) -> Path:
        """Move the directory of a job into the staging directory.

        If the moved directory isn't the directory of the open ``journal``, move it back, and raise
        ``OSError``.

        Windows refuses to rename a directory in which a file is open. There, the files are moved
        one by one, the journal first. Files that can't be moved stay.
        """
        path, above = self.path / name, directory.parent
        try:
            flags = system.os.O_RDONLY | system.os.O_DIRECTORY
            is_of_set = above != self.path.parent  # a store may be a link, a set may not
            fd = files.open_directory(above) if is_of_set else system.os.open(above, flags)
            parent = Descriptor(above, fd)
            job = Descriptor(directory, files.open_directory(directory.name, parent.fd))
        except NotADirectoryError as error:
            why = f"it, or the directory of its set, is a link: delete {directory.resolve()}, or the link"
            raise OSError(errno.ELOOP, why, system.os.fspath(directory)) from error
        if sys.platform == "win32":
            system.os.mkdir(path)
            system.os.rename(journal.path, path / JOURNAL_NAME)
            with contextlib.suppress(OSError):
                for each in list(files.names_in(directory)):
                    system.os.rename(directory / each, path / each)
                system.os.rmdir(directory)
            return path
        another = OSError(errno.ESTALE, "another directory was put in its place: try again")
        opened, of_journal = system.os.fstat(job.fd), system.os.fstat(journal.fd)
        file = system.os.lstat(JOURNAL_NAME, dir_fd=job.fd)
        if not system.os.path.samestat(file, of_journal):
            raise another
        system.os.rename(directory.name, name, src_dir_fd=parent.fd, dst_dir_fd=self.fd)
        try:
            moved = system.os.lstat(name, dir_fd=self.fd)
        except OSError:  # the job is gone from its place; files that can't be read stay
            return path
        if not system.os.path.samestat(moved, opened):
            system.os.rename(name, directory.name, src_dir_fd=self.fd, dst_dir_fd=parent.fd)
            raise another
        return path

    def place(self, path: Path, target: Path) -> None:
        """Move a directory out of the staging directory.

        If ``target`` is an empty directory, it is replaced.
        """
        system.os.rename(path.name, target, src_dir_fd=self.fd)

    def place_shard(self, path: Path, target: Path) -> None:
        """Move a directory from a directory in the staging directory to ``target``.

        If the parent of ``target`` is missing, the parent of ``path`` is moved to its place. So the
        directory of a set is never empty. Raises FileExistsError if ``target`` or a job is there.
        """
        for _ in range(_MAX_TRIES):
            if files.exists(target / JOURNAL_NAME) or files.exists(target.parent / JOURNAL_NAME):
                break
            try:
                for left in (target, target.parent):  # left by a deletion that died
                    files.remove_if_empty(left)
                if files.exists(target.parent):
                    system.os.rename(path, target)
                    if files.exists(target.parent / JOURNAL_NAME):  # a job was made here
                        system.os.rename(target, path)
                        break
                else:
                    self.place(path.parent, target.parent)
            except OSError as error:  # another process has made this or another shard
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                    raise
            else:
                return
        raise FileExistsError(errno.EEXIST, "a job is there", target)

"""Files and pipes for the user, in directories that others may write in, too."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from stat import S_ISFIFO, S_ISREG
from typing import IO

from journal.fs import system
from journal.fs.handles import FILE_MODE, Descriptor, write_all


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

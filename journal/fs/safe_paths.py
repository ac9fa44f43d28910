"""Opens files below a directory by relative names such as ``a/b/c``, without following links.

Each part of a name is opened relative to the descriptor of the part before. So a name never leads
out of the directory. This holds even if another process replaces a part of the path with a link at
the same time.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from journal.fs import system
from journal.fs.file_names import no_name_for_windows
from journal.fs.files import DIRECTORY_MODE, open_directory, write_file
from journal.fs.handles import DerivedFile, close_fd, how_to_own

_MAX_PATH_BYTES = 4096  # the limit of Linux, NUL included: no program can open a longer path


class Below:
    """The files below the directory ``top``. ``top`` itself may be a link.

    The methods raise ``OSError``, with the whole path in ``filename``. If a part of a name should
    be a directory but is a link or a file, the methods raise NotADirectoryError.

    ``is_to_copy``: the files are read to be copied elsewhere. Then :meth:`opened` refuses a file
    with a second hard link, since another user may have linked a private file here.
    """

    def __init__(self, top: Path, *, is_to_copy: bool = False) -> None:
        self.top = top
        self._is_to_copy = is_to_copy

    def opened(self, name: str) -> DerivedFile:
        with self._parent(name) as directory:
            file = DerivedFile(self.top / name, directory)
            if self._is_to_copy and (names := file.count_names()) > 1:
                why = f"it has {names} hard links, so it may be a file from elsewhere"
                raise OSError(errno.EMLINK, f"{why}: {how_to_own(file.path)}")
            return file

    def write(self, name: str, pieces: Iterable[bytes], *, sync: bool = True) -> None:
        """Make a new file, and missing directories on its path.

        With ``sync``: on return, the content survives a power cut.
        """
        with self._parent(name, make=True) as directory:
            write_file(self.top / name, pieces, sync=sync, directory=directory)

    def exists(self, name: str) -> bool:
        """Return whether a file, a directory or a link has this name. A broken link counts."""
        return self._mode(name) is not None

    def is_file(self, name: str) -> bool:
        return S_ISREG(self._mode(name) or 0)

    def is_directory(self, name: str) -> bool:
        return S_ISDIR(self._mode(name) or 0)

    def _mode(self, name: str) -> int | None:
        try:
            with self._parent(name) as directory:
                return system.os.lstat(_last(name), dir_fd=directory).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None

    def rename(self, name: str, new: str) -> None:
        """Rename a file. Missing directories on the path of ``new`` are made."""
        with self._parent(new, make=True) as target, self._parent(name) as source:
            system.os.rename(_last(name), _last(new), src_dir_fd=source, dst_dir_fd=target)

    def sync_directories(self, names: Iterable[str]) -> None:
        """Sync all these directories. On return, the names in them survive a power cut."""
        for name in names:
            with self._directory(name) as directory:
                system.os.fsync(directory)

    def tree(self, name: str, deepest: int) -> Iterator[tuple[str, bool]]:
        """Yield the name of each file below the directory ``name``, with a flag.

        If the directory doesn't exist, nothing is yielded. The flag is True for a readable, regular
        file. The flag is False in these cases:

        - a link or a special file,
        - a directory whose name has more than ``deepest`` parts (this directory is not entered),
        - anything whose path is too long.
        """
        with suppress(FileNotFoundError), self._directory(name) as directory:
            yield from self._tree(f"{name}/", directory, deepest)

    def _tree(self, prefix: str, directory: int, deepest: int) -> Iterator[tuple[str, bool]]:
        with system.os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        below = []
        for entry in entries:
            name = prefix + entry.name
            if len(bytes(self.top / name)) >= _MAX_PATH_BYTES:
                yield name, False
            elif entry.is_dir(follow_symlinks=False):
                below.append(entry.name)
            else:
                yield name, entry.is_file(follow_symlinks=False)
        for last in reversed(below):
            name = prefix + last
            if name.count("/") >= deepest:
                yield name, False
                continue
            try:
                deeper = _open_directory(last, directory)
            except FileNotFoundError:  # the directory was removed since it was listed
                continue
            except NotADirectoryError:  # the directory was replaced since it was listed
                yield name, False
                continue
            try:
                yield from self._tree(f"{name}/", deeper, deepest)
            finally:
                close_fd(deeper)

    @contextmanager
    def _parent(self, name: str, *, make: bool = False) -> Iterator[int]:
        """Yield a descriptor of the directory that contains ``name``, for a ``with`` block."""
        try:
            if sys.platform == "win32" and (refused := no_name_for_windows(name)):
                why = f"Windows allows no file of the name {refused!r}"
                raise OSError(errno.EILSEQ if make else errno.ENOENT, why)
            with self._directory(name.rpartition("/")[0], make=make) as directory:
                yield directory
        except OSError as error:
            error.filename = system.os.fspath(self.top / name)
            raise

    @contextmanager
    def _directory(self, name: str, *, make: bool = False) -> Iterator[int]:
        """Yield a descriptor of a directory, for a ``with`` block. The name "" means ``top``."""
        directory = system.os.open(self.top, system.os.O_RDONLY | system.os.O_DIRECTORY)
        try:
            for part in name.split("/") if name else ():
                outer, directory = directory, _open_directory(part, directory, make=make)
                close_fd(outer)
            yield directory
        finally:
            close_fd(directory)


def parents_of(name: str) -> Iterator[str]:
    """Yield the directories above ``name``, from the nearest to the top, which is ""."""
    while name:
        name = name.rpartition("/")[0]
        yield name


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _open_directory(name: str, directory: int, *, make: bool = False) -> int:
    try:
        return open_directory(name, directory)
    except FileNotFoundError:
        if not make:
            raise
    system.os.mkdir(name, DIRECTORY_MODE, dir_fd=directory)
    return open_directory(name, directory)

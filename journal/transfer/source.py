"""Where a copy of a job is read from: a directory, a pack, or a stream of one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from journal.errors import InvalidValueError, PackError
from journal.fs import directories, files, handles
from journal.transfer.copies import Copy, open_copy
from journal.transfer.snapshot import place
from journal.transfer.tarball import Contents, Manifest, read_pack

Read = Callable[[int], bytes]


class Source:
    """A copy to be read: the path of a job's directory or of a pack, or the stream of a pack."""

    def __init__(self, path: str | os.PathLike[str], read: Read | None = None) -> None:
        """``read(n)`` gives the next up to ``n`` bytes of a pack, which ``path`` then only names."""
        self.name = os.fspath(path)
        self.directory = Path(self.name) if read is None and os.path.isdir(self.name) else None
        self._read = read

    @contextmanager
    def pack(self) -> Iterator[tuple[Manifest, Contents]]:
        """What :func:`read_pack` gives. Raises PackError, InvalidValueError for no such file."""
        if self._read is not None:
            yield read_pack(self._read, self.name)
            return
        try:
            stream = handles.Stream(Path(self.name))
        except OSError as error:
            reason = f"can't be read: {error.strerror}; name a job's directory or a pack"
            raise InvalidValueError("source", self.name, reason) from None
        try:
            yield read_pack(stream.read, self.name)
        finally:
            stream.close()

    @contextmanager
    def copy(self, max_bytes: int | None = None) -> Iterator[Copy]:
        """It as a copy; of a pack, all is checked and the journal kept while the block lasts."""
        if self.directory is not None:
            yield open_copy(self.directory, self.name)
            return
        with self.pack() as (manifest, contents), directories.scratch_directory() as scratch:
            if max_bytes is None:  # no more than the journal is written
                check_size(self.name, manifest.offset, None, scratch)
            else:
                check_size(self.name, manifest.size_bytes, max_bytes, scratch)
            yield place(scratch, manifest, contents, self.name, scratch=True)


def check_size(name: str, size_bytes: int, max_bytes: int | None, target: Path) -> None:
    """Raise PackError for a pack that holds more than is allowed or, by default, than is free."""
    if max_bytes is not None:
        if size_bytes > max_bytes:
            reason = f"it takes {size_bytes} bytes, more than the {max_bytes} that are allowed"
            raise PackError(name, f"{reason} (--max-bytes)")
        return
    try:
        free = files.free_bytes(target)
    except OSError as error:
        raise handles.storage_error(target, "look at", error) from error
    if size_bytes > free:
        reason = f"it takes {size_bytes} bytes, more than the {free} that are free in {target}"
        raise PackError(name, f"{reason}; --max-bytes allows more, or less")


def as_source(source: Source | str | os.PathLike[str]) -> Source:
    return source if isinstance(source, Source) else Source(source)

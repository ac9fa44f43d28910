"""Opens a copy of a job that is to be read: a directory, a pack, or the stream of a pack."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from journal.errors import InvalidValueError
from journal.fs import files, handles
from journal.transfer.copies import Copy, open_copy
from journal.transfer.pack_contents import Contents, place
from journal.transfer.tarball import read_pack

Read = Callable[[int], bytes]


class Source:
    """A copy to read: a job's directory, a pack, or the stream of a pack."""

    def __init__(self, path: str | os.PathLike[str], read: Read | None = None) -> None:
        """``path`` is the path of a directory or a pack.

        With ``read``, the pack comes from a stream, and ``path`` is only a name for messages.
        ``read(n)`` must return the next bytes of the stream, at most ``n``.
        """
        self.name = os.fspath(path)
        self.directory = Path(self.name) if read is None and os.path.isdir(self.name) else None
        self._read = read

    def pack(self) -> tuple[str, Contents]:
        """Open the pack; return the results of :func:`read_pack`.

        Raises PackError, and InvalidValueError if there is no such file.
        """
        read = self._read
        if read is None:
            try:
                read = handles.Stream(Path(self.name)).read
            except OSError as error:
                reason = f"can't be read: {error.strerror}; name a job's directory or a pack"
                raise InvalidValueError("source", self.name, reason) from None
        return read_pack(read, self.name)

    @contextmanager
    def copy(self) -> Iterator[Copy]:
        """Open the copy for a ``with`` block.

        A pack is checked completely, and its journal is extracted to a temporary directory.
        """
        if self.directory is not None:
            yield open_copy(self.directory, self.name)
            return
        job_id, contents = self.pack()
        with files.scratch_directory() as scratch:
            yield place(scratch, job_id, contents, self.name, scratch=True).copy


def as_source(source: Source | str | os.PathLike[str]) -> Source:
    return source if isinstance(source, Source) else Source(source)

"""A file for the user, made whole or not at all: an export, a report."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from journal import files
from journal.errors import InvalidValueError


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """The path of a file to write within the block; at its end it stands, synced, at ``path``.

    It is beside ``path`` until then, and gone if the block raises. Raises InvalidValueError, before
    the block, if ``path`` is there and ``force`` isn't given, or is no file; StorageError for what
    the system refuses.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    _check_free(target, force=force)
    part = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
    try:
        part.touch(exist_ok=False)  # refused now, in our words, not later in some library's
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        _check_free(target, force=force)
        files.rename(part, target)
    except OSError as error:
        raise files.storage_error(target, "write", error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _check_free(target: Path, *, force: bool) -> None:
    if not files.exists(target):
        return
    if not target.is_file():  # a pipe, a device, a directory: to be replaced by none of ours
        raise InvalidValueError("out", str(target), "is there and is not a file: name another")
    if not force:
        raise InvalidValueError(
            "out", str(target), "is there already: name another file, or say --force to replace it"
        )

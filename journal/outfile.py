"""A file for the user, made whole or not at all: an export, a report, a pack."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from journal import files, handles
from journal.errors import InvalidValueError
from journal.format import JOURNAL_NAME

# The files in a job's directory that are the journal's own. Some file systems ignore case.
_OWN = re.compile(
    r"journal\.jsonl(\.new)?|index\.hint.*|run\.lock|sync\.mark|journal\.(damaged|torn|other)-.*",
    re.IGNORECASE,
)


@contextlib.contextmanager
def whole_file(
    path: str | os.PathLike[str],
    *,
    force: bool = False,
    private: bool = False,
    refused_beside: Sequence[str] = (),
) -> Iterator[Path]:
    """The path of a file to write within the block; at its end it stands, synced, at ``path``.

    It is beside ``path`` until then, as ``.journal-….part``, and gone if the block raises; what
    kills the process leaves it. It is ``private``, or has the permissions of the file that it
    replaces, or of any new one. Raises InvalidValueError, before the block, if ``path`` is
    there and ``force`` isn't given, is a job's own file, is no file, is in no directory, or has a
    file beside it of its name and one of ``refused_beside``; StorageError for what the system
    refuses.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    _check_free(path, target, force=force, refused_beside=refused_beside)
    # Short, so that there is room for it wherever there is for the target's name.
    part = target.with_name(f".journal-{secrets.token_hex(6)}.part")
    try:
        # Refused now, in our words, and not later in some library's.
        is_there = files.exists(target)
        _make(part, target, private=private or is_there)  # which may be private
        yield part
        _check_free(path, target, force=force, refused_beside=refused_beside)
        files.put_output(part, target, private=private)
    except OSError as error:
        raise handles.storage_error(target, "write", error) from error
    finally:
        files.remove_file(part)


def _make(part: Path, target: Path, *, private: bool) -> None:
    try:
        files.new_output(part, private=private)
    except FileNotFoundError:
        raise InvalidValueError(
            "out", str(target), "is in a directory that isn't there: make that first"
        ) from None
    except NotADirectoryError:
        raise InvalidValueError(
            "out", str(target), "is below what is no directory: name another"
        ) from None


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
    if not _OWN.fullmatch(target.name):
        return
    # What is kept of a journal counts also where the journal itself is gone.
    if files.exists(target) or files.exists(target.with_name(JOURNAL_NAME)):
        raise InvalidValueError(
            "out",
            str(target),
            f"is a file of the job {target.parent.name!r}, which would be lost: name another, or one "
            "in its artifacts/",
        )

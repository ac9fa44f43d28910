"""What a copy of a job has and ours lacks, brought here: commits to the byte, artifacts whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from journal import files
from journal.archive import ARTIFACTS_NAME, PIECE_BYTES
from journal.copies import Copy, blocks_since, replay_copy
from journal.errors import StorageError
from journal.files import JournalFile
from journal.format import JOURNAL_NAME, SEALED_LINE_END
from journal.log import Log
from journal.replay import START, Position

STAGING_NAME = ".pull"
_SYNC_BYTES = 1 << 18  # so many are copied in the time of a sync, by and large


def forward(log: Log, ours: Copy, theirs: Copy) -> int:
    """Put the commits that ours lacks behind it, to the byte; return how many.

    After a power cut no commit may be damaged but the last. So each is synced before the next is
    written; or, if that would take longer, all of it is written to a new file that takes the
    place of the old one.
    """
    replay_copy(theirs, log.index, ours.end)  # that it makes sense, before any of it is written
    missing = sum(ends for _, ends in _commits(theirs, ours.end))
    if missing * _SYNC_BYTES <= theirs.end.offset:
        _append(log.file, ours, theirs)
    else:
        _rewrite(log.file, theirs)
    return missing


def _commits(copy: Copy, begin: Position) -> Iterator[tuple[bytes, bool]]:
    """The bytes since ``begin``, a commit at a time or a part of one; whether it ends there."""
    for block in blocks_since(copy, begin):
        text = b"\n".join([*block.lines, b""])
        at = 0
        for match in SEALED_LINE_END.finditer(text):
            yield text[at : match.end()], True
            at = match.end()
        if at < len(text):
            yield text[at:], False


def _append(file: JournalFile, ours: Copy, theirs: Copy) -> None:
    try:
        for text, ends in _commits(theirs, ours.end):
            file.append(text)
            if ends:
                file.sync()
    except BaseException as error:
        try:
            file.truncate(ours.end.offset)
            file.sync()
        except StorageError as refused:  # some of it may be there
            raise files.outcome_unknown(refused) from error
        raise


def _rewrite(old: JournalFile, theirs: Copy) -> None:
    directory = old.path.parent
    staging = directory / STAGING_NAME
    files.make_directory(staging)
    try:
        files.write_new(staging / JOURNAL_NAME, (text for text, _ in _commits(theirs, START)))
        new = JournalFile(staging / JOURNAL_NAME)
        new.take_owner_of(old)
        new.sync()
        new.close()
        files.rename(staging / JOURNAL_NAME, old.path)
    finally:
        files.remove_tree(staging)
    try:
        files.sync_directory(directory)
    except OSError as error:
        raise files.outcome_unknown(files.storage_error(directory, "sync", error)) from error


class Artifacts:
    """The artifacts of another copy, and what became of them here."""

    def __init__(self, directory: Path, theirs: Path) -> None:
        self._ours = directory / ARTIFACTS_NAME
        self._theirs = theirs / ARTIFACTS_NAME
        self._staging = directory / STAGING_NAME
        self.new: list[str] = []
        self.differing: list[str] = []
        self.left_out: list[str] = []

    def pull(self) -> None:
        """Copy those that are missing here, each whole or not at all; on the disk on return."""
        for name, regular in files.tree(self._theirs):
            path = f"{ARTIFACTS_NAME}/{name}"
            if not regular:
                self.left_out.append(path)
            elif files.exists(self._ours / name):
                if not _same_content(self._ours / name, self._theirs / name):
                    self.differing.append(path)
            else:
                self._copy(name)
                self.new.append(path)

    def _copy(self, name: str) -> None:
        target = self._ours / name
        directory = self._ours.parent
        files.make_directories(target.parent, directory)
        files.make_directory(self._staging)
        try:
            new = files.NewFile(self._staging / "artifact")
            for piece in _all_of(self._theirs / name):
                new.write(piece)
            new.sync()
            new.close()
            files.rename(self._staging / "artifact", target)
        finally:
            files.remove_tree(self._staging)
        for parent in target.parents:
            if parent.is_relative_to(directory):
                files.sync_directory(parent)


def _same_content(a: Path, b: Path) -> bool:
    try:
        return all(x == y for x, y in zip(_all_of(a), _all_of(b), strict=True))
    except (ValueError, OSError):  # one has more pieces, or is no regular file
        return False


def _all_of(path: Path) -> Iterator[bytes]:
    file = files.DerivedFile(path)
    file.size_bytes()  # a regular file
    offset = 0
    while piece := file.read_at(offset, PIECE_BYTES):
        yield piece
        offset += len(piece)

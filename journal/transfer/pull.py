"""The commits that another copy of a job has and ours lacks, put behind ours to the byte."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from journal.errors import StorageError
from journal.format.commits import Position
from journal.format.records import SEALED_LINE_END
from journal.fs import handles
from journal.store.journal import Journal
from journal.transfer.copies import Copy, blocks_since, replay_copy
from journal.transfer.snapshot import pieces_of

_SYNC_BYTES = 1 << 18  # so many are copied in the time of a sync, by and large


def replay_missing(journal: Journal, ours: Copy, theirs: Copy) -> int:
    """Bring the index of ``journal`` to where theirs is; how many commits its journal lacks for that.

    If it raises, the index is of no more use. Raises JournalDamagedError and FormatVersionError if
    they make no sense.
    """
    replay_copy(theirs, journal.index, ours.end)
    return sum(ends for _, ends in _commits(theirs, ours.end))


def forward(journal: Journal, ours: Copy, theirs: Copy, missing: int) -> None:
    """Put the commits that ours lacks, ``missing`` in number, behind it, to the byte.

    After a power cut no commit may be damaged but the last. So each is synced before the next is
    written; or, if that would take longer, all of it is written to a new file that takes the
    place of the old one.
    """
    if missing * _SYNC_BYTES <= theirs.end.offset:
        _append(journal, ours, theirs)
    else:
        _rewrite(journal, ours, theirs)


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


def _append(journal: Journal, ours: Copy, theirs: Copy) -> None:
    file = journal.file
    try:
        for text, ends in _commits(theirs, ours.end):
            file.append(text)
            if ends:
                journal.sync_file(ours.end.offset)
    except BaseException as error:
        try:
            file.truncate(ours.end.offset)
            journal.sync_file(ours.end.offset)
        except StorageError as refused:  # some of it may be there
            raise handles.outcome_unknown(refused) from error
        raise


def _rewrite(journal: Journal, ours: Copy, theirs: Copy) -> None:
    # What both have is written as we have it: the seals say only that they are very likely equal.
    missing = (text for text, _ in _commits(theirs, ours.end))
    old = journal.file
    new = journal.write_beside(itertools.chain(pieces_of(old, ours.end.offset), missing))
    try:
        journal.replace_file(new)
    except StorageError as error:
        if journal.file is old:
            raise
        raise handles.outcome_unknown(error) from error

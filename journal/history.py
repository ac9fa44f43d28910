"""What a journal says in the order in which it was written: records out of verified commits.

The index knows how things stand; this is how they came to be so. Read in constant memory, and on
from where a reader stopped, so that a live job can be followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from journal.errors import JournalDamagedError
from journal.files import JournalFile
from journal.format import Record, UndecodableError, UnknownRecordError, decode_record, read_error
from journal.log import Log
from journal.replay import START, Position, verified_blocks


class Entry(NamedTuple):
    """A record, and the position behind the last commit that ``record`` is known to be followed by.

    ``offset`` (bytes) is where the record stands. To go on reading later, begin at ``after`` of the
    last entry that was taken *and* whose ``ends`` is true: it ends a block of whole commits.
    """

    offset: int
    record: Record
    after: Position
    ends: bool


def read_history(log: Log, begin: Position = START) -> Iterator[Entry]:
    """The records from ``begin`` up to the last commit there is now, in their order.

    The caller holds the log's mutex, and may let go of it before it takes the first entry. Raises
    JournalDamagedError if the file no longer holds what it held.
    """
    log.refresh()
    return _entries(log.file, begin, log.end)


def _entries(file: JournalFile, begin: Position, end: int) -> Iterator[Entry]:
    position = begin
    for block in verified_blocks(file, begin, end):
        offset = block.offset
        last = len(block.lines) - 1
        for number, line in enumerate(block.lines):
            try:
                record = decode_record(line)
            except (UndecodableError, UnknownRecordError) as error:
                raise read_error(file.path, file.count_lines(offset) + 1, offset, error) from None
            yield Entry(offset, record, block.after, block.ends and number == last)
            offset += len(line) + 1
        position = block.after
    if position.offset < end:
        raise JournalDamagedError(
            file.path,
            file.count_lines(position.offset) + 1,
            position.offset,
            f"a commit that continues crc {position.crc:08x}",
            "something else: the file was changed in place",
        )

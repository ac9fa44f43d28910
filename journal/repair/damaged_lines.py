"""Reads the lines of a damaged journal, and decodes the lines that can be decoded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, groupby, pairwise
from typing import NamedTuple

from journal.format.commits import Readable
from journal.format.decode import UndecodableError, UnknownRecordError, decode_record
from journal.format.records import CallRecord, Record, RowLevelRecord, RowRecord
from journal.format.seal import stated_crc, unsealed
from journal.format.torn_tail_or_damage import lines_of

_SEEMS_ABOUT = re.compile(rb'.{0,40}"row":([0-9]{1,18}),', re.DOTALL)


class Line(NamedTuple):
    """A line of a damaged journal.

    - ``number``: the number of the line (1-based).
    - ``text``: the line without LF, and without the seal (a CRC-32) that ends a commit.
    - ``stated``: the crc in the line's seal, or None if the line has no seal.
    - ``record``: the record, or None if the line can't be decoded.
    - ``error``: the reason why the line can't be decoded, or None.
    """

    number: int
    text: bytes
    stated: int | None
    record: Record | None
    error: UndecodableError | UnknownRecordError | None

    @property
    def about(self) -> list[tuple[int, int]]:
        """The ranges of the rows that the line names.

        If the line can't be decoded, a single row is guessed from the text.
        """
        if isinstance(self.record, RowLevelRecord | CallRecord):
            row, rows = getattr(self.record, "row", 0), getattr(self.record, "rows", ())
            return list(rows) or [(row, row)] * (row > 0)
        if self.record is None and (found := _SEEMS_ABOUT.match(self.text)):
            return [(int(found[1]), int(found[1]))]
        return []

    @property
    def made(self) -> int | None:
        """The number of the row that the line adds, or None."""
        return self.record.row if isinstance(self.record, RowRecord) else None


class DroppedLines:
    """Lines that a repair doesn't keep.

    - ``line``: the number of the first line. ``lines``: how many lines there are.
    - ``ours``: how many of the lines may come from this journal.
    - ``rows``: the ranges of the rows that the lines name.
    - ``made``: the numbers of the rows that the lines add.
    """

    def __init__(self) -> None:
        self.line = 0
        self.lines = 0
        self.ours = 0
        self.rows: list[tuple[int, int]] = []
        self.made: set[int] = set()

    def add(self, line: Line) -> None:
        self.line = self.line or line.number
        self.lines += 1
        self.ours += line.record is not None or line.text.startswith(b'{"type":"')
        self.rows += line.about
        if line.made is not None:
            self.made.add(line.made)


def read_lines(file: Readable, offset: int, end: int, line: int) -> Iterator[Line]:
    """Yield the lines from ``offset`` to ``end``. ``line`` is the number of the first line."""
    for number, (_, text, _) in enumerate(lines_of(file, offset, end), line):
        stated = stated_crc(text)
        body = text if stated is None else unsealed(text)
        try:
            yield Line(number, body, stated, decode_record(body), None)
        except (UndecodableError, UnknownRecordError) as error:
            yield Line(number, body, stated, None, error)


def commits_of(lines: Iterable[Line]) -> Iterator[Iterator[Line]]:
    """Group lines by commit. Read all lines of a commit before you ask for the next commit."""
    number = 0

    def number_of(line: Line) -> int:
        nonlocal number
        own = number
        number += line.stated is not None
        return own

    for _, commit in groupby(lines, number_of):
        yield commit


def with_next(lines: Iterable[Line]) -> Iterator[tuple[Line, int | None]]:
    """Yield each line with the number of the row that the next line adds.

    If the next line adds no row, the number is None.
    """
    ended: Iterable[Line | None] = chain(lines, [None])
    for line, following in pairwise(ended):
        assert line is not None
        yield line, None if following is None else following.made

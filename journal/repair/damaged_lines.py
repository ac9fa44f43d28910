"""Reads the lines of a damaged journal, and decodes the lines that can be decoded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, groupby, pairwise
from typing import NamedTuple

from journal.format.commits import Readable
from journal.format.damage import lines_of
from journal.format.decode import UndecodableError, UnknownRecordError, decode_record
from journal.format.records import CallRecord, Record, RowLevelRecord, RowRecord
from journal.format.seal import stated_crc, unsealed

_SEEMS_ABOUT = re.compile(rb'.{0,40}"row":([0-9]{1,18}),', re.DOTALL)
_SEEMS_ABOUT_ROWS = re.compile(
    rb'.{0,60}"rows":\[((?:\[[0-9]{1,18},[0-9]{1,18}\],?)+)\]', re.DOTALL
)
_SEEMS_OF_CALL = re.compile(rb'.{0,40}"call","id":"([0-9a-f]{16})"', re.DOTALL)


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
        """The ranges of the rows that the line is about.

        If the line can't be decoded, they are guessed from the text.
        """
        if isinstance(self.record, RowLevelRecord | CallRecord):
            row, rows = getattr(self.record, "row", 0), getattr(self.record, "rows", ())
            return list(rows) or [(row, row)] * (row > 0)
        if self.record is None and (found := _SEEMS_ABOUT.match(self.text)):
            return [(int(found[1]), int(found[1]))]
        if self.record is None and (found := _SEEMS_ABOUT_ROWS.match(self.text)):
            numbers = iter(map(int, re.findall(rb"[0-9]+", found[1])))
            return list(zip(numbers, numbers, strict=True))
        return []

    @property
    def call(self) -> int | None:
        """The call that the line is about, as a number, or None."""
        if isinstance(self.record, CallRecord):
            return int(self.record.id, 16)
        found = None if self.record else _SEEMS_OF_CALL.match(self.text)
        return int(found[1], 16) if found else None

    @property
    def made(self) -> int | None:
        """The number of the row that the line adds, or None."""
        return self.record.row if isinstance(self.record, RowRecord) else None


class DroppedLines:
    """Lines that a repair doesn't keep.

    - ``line``: the number of the first line. ``lines``: how many lines there are.
    - ``ours``: how many of the lines may come from this journal.
    - ``rows``: the ranges of the rows that the lines are about. ``calls``: their calls.
    - ``made``: the numbers of the rows that the lines add.
    """

    def __init__(self) -> None:
        self.line = 0
        self.lines = 0
        self.ours = 0
        self.rows: list[tuple[int, int]] = []
        self.calls: set[int] = set()
        self.made: set[int] = set()

    def add(self, line: Line) -> None:
        self.line = self.line or line.number
        self.lines += 1
        self.ours += line.record is not None or line.text.startswith(b'{"type":"')
        self.rows += line.about
        if line.call is not None:
            self.calls.add(line.call)
        if line.made is not None:
            self.made.add(line.made)

    def add_commit(self, lines: Iterable[Line]) -> int:
        """Add the lines of a commit. Returns the crc in its seal."""
        seal = 0
        for line in lines:
            self.add(line)
            seal = line.stated or 0  # of the last line
        return seal


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

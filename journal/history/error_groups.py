"""Groups rows by error."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from journal.model import JobRow, RowStatus, cents_of, millionths
from journal.text import Numbers, headline, shorten

_FRAME = re.compile(r'^[ |]*File "(.*)", line ([0-9]+), in (.*)$', re.MULTILINE)
_LIBRARY = re.compile(r"[/\\](?:lib[/\\]python[0-9.]+|site-packages|dist-packages)[/\\]|^<")


def where_of(traceback: str | None) -> str:
    """Return a text that says where an exception was raised, such as ``ship.py:12 in ship``.

    The text names the last frame of the traceback outside of libraries. If all frames are in
    libraries, the text names the last frame. Without frames, the text is "".
    """
    frames = _FRAME.findall(traceback or "")
    if not frames:
        return ""
    own = [frame for frame in frames if not _LIBRARY.search(frame[0])]
    path, line, function = (own or frames)[-1]
    file = re.split(r"[/\\]", path)[-1]
    return f"{file}:{line} in {function}"


_MAX_MESSAGE_CHARACTERS = 1000  # limits the memory, since there may be many long messages
_MAX_MESSAGES = 100  # how many different messages of a group are counted
_SHOWN_MESSAGES = 3
# Numbers differ from row to row. But 422 and 503 are different errors, since they may be HTTP
# statuses.
_NUMBER = re.compile(r"(?<!\d)(?![1-5]\d\d(?!\d))\d+")


class ErrorGroup:
    """Rows with the same status and error code, or rows that were skipped for the same reason.

    - ``numbers``: the row numbers.
    - ``message``: the error message of the first row, or the reason why the rows were skipped. From
      a Python traceback, only the last line is kept. A long message is shortened and ends with an
      ellipsis.
    - ``cost_cents``: the cost of the attempts that gave the rows this status.
    """

    __slots__ = ("_messages", "_millionths", "code", "message", "numbers", "status", "where")

    def __init__(self, error: JobRow) -> None:
        self.status = error.status.value
        self.code = error.error_code or ""
        self.message = _message_of(error)
        self._messages: dict[str, list[Any]] = {}  # by text without numbers: [message, count]
        self.where = where_of(error.traceback)
        self.numbers = Numbers()
        self._millionths = 0

    def add(self, row: JobRow) -> None:
        self.numbers.add(row.row_number)
        message = _message_of(row)
        text = _NUMBER.sub("", message)
        if text in self._messages or len(self._messages) < _MAX_MESSAGES:
            self._messages.setdefault(text, [message, 0])[1] += 1
        self._millionths += millionths(row.cost_cents or 0)

    @property
    def count(self) -> int:
        """The number of rows."""
        return self.numbers.count

    @property
    def cost_cents(self) -> int | float:
        return cents_of(self._millionths)

    def messages(self) -> list[tuple[str, int]]:
        """The three most frequent messages with their counts.

        The last pair may count all other messages.

        Messages that differ only in numbers count as one message, unless the numbers may be HTTP
        statuses.
        """
        found = sorted(self._messages.values(), key=lambda pair: -pair[1])[:_SHOWN_MESSAGES]
        others = self.count - sum(count for _, count in found)
        return [(text, n) for text, n in found] + [("other messages", others)] * (others > 0)


def _message_of(row: JobRow) -> str:
    is_skipped = row.status is RowStatus.SKIPPED
    message = row.reason if is_skipped else headline(row.error_message or "")
    return shorten(message or "", _MAX_MESSAGE_CHARACTERS)


def group_errors(rows: Iterable[JobRow], max_groups: int | None = None) -> list[ErrorGroup]:
    """Group rows by status and error code, or by the reason of a skip. The largest group is first.

    ``rows`` must be in the order of their numbers. When there are ``max_groups`` groups, no new
    group is made. From then on, rows that belong to none of the groups are left out.
    """
    groups: dict[tuple[str, str | None], ErrorGroup] = {}
    for row in rows:
        key = (row.status, row.reason if row.status is RowStatus.SKIPPED else row.error_code)
        group = groups.get(key)
        if group is None:
            if len(groups) == max_groups:
                continue
            group = groups[key] = ErrorGroup(row)
        group.add(row)
    return sorted(groups.values(), key=lambda group: -group.count)

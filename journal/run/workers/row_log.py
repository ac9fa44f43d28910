"""The log of an attempt, and a ``logging`` handler that adds messages to this log."""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Protocol

from journal.errors import InvalidValueError
from journal.format.records import now
from journal.format.values import as_json_value, read_back
from journal.model import LOG_LEVELS, LogEntry, log_level
from journal.run.outcome import repr_of_lost, text_of
from journal.run.workers.tracebacks import traceback_of
from journal.text import encode_json

MAX_LOG_BYTES = 256 << 10  # for one attempt, measured as JSON
MAX_LOG_ENTRIES = 1000
_MAX_DETAILS_BYTES = 16 << 10  # of one entry


class RowLog:
    """Keeps the log entries of one attempt until they are recorded. Any thread may add entries.

    An attempt may have at most MAX_LOG_ENTRIES entries, and at most MAX_LOG_BYTES in all. If
    entries were dropped, one more entry says how many.
    """

    def __init__(self, row_number: int, attempt: int) -> None:
        self._row_number = row_number
        self._attempt = attempt
        self._lock = threading.RLock()  # a __del__ that logs may run while this thread holds it
        self._entries: list[LogEntry] = []  # not recorded yet
        self._count = self._bytes = self._dropped = 0

    def add(self, message: object, level: object, details: dict[str, Any]) -> None:
        """Add an entry. Values that JSON can't hold are logged as text. Raises no exception."""
        entry = self._entry(text_of(message), _level(level), now(), _plain(details))
        size = len(encode_json(entry))
        with self._lock:
            if self._count >= MAX_LOG_ENTRIES or self._bytes + size > MAX_LOG_BYTES:
                self._dropped += 1
                return
            self._count += 1
            self._bytes += size
            self._entries.append(entry)

    def _entry(
        self, message: str, level: str, at: datetime, details: dict[str, Any] | None = None
    ) -> LogEntry:
        return LogEntry(
            at=at,
            level=level,
            message=message,
            row_number=self._row_number,
            attempt=self._attempt,
            details=details,
        )

    def put_back(self, entries: tuple[LogEntry, ...]) -> None:
        """Keep entries that could not be recorded."""
        with self._lock:
            self._entries[:0] = entries

    def take(self) -> tuple[LogEntry, ...]:
        """Return the entries that are not recorded yet, oldest first.

        No other call returns these entries. If they can't be recorded, pass them to
        :meth:`put_back`.
        """
        with self._lock:
            taken, self._entries = tuple(self._entries), []
            dropped, self._dropped = self._dropped, 0
        if dropped:
            message = f"{dropped} more messages of this attempt were dropped"
            taken += (self._entry(message, "WARNING", now()),)
        return taken


def _level(given: object) -> str:
    """The level in LOG_LEVELS for a level's name, or for a numeric level of ``logging``.

    Any other value gives "INFO".
    """
    if isinstance(given, int):
        return LOG_LEVELS[min(max(given // 10, 1), len(LOG_LEVELS)) - 1]
    try:
        return log_level(given)
    except InvalidValueError:
        return "INFO"


def _plain(details: dict[str, Any]) -> Any:
    """The details as JSON values.

    Values that are too long, or that JSON can't hold, become text.
    """
    if not details:
        return None
    plain: Any = _json_or_text(details)
    if not isinstance(plain, dict):
        each = {text_of(key): _json_or_text(value) for key, value in details.items()}
        # A value of the maximum depth is too deep inside a dict.
        plain = _json_or_text(each)
        if not isinstance(plain, dict):
            return {"details": plain}
    text = encode_json(plain)
    return plain if len(text) <= _MAX_DETAILS_BYTES else {"details": text_of(text.decode())}


def _json_or_text(value: Any) -> Any:
    try:
        return read_back(as_json_value(value, "details"))
    except BaseException:  # noqa: BLE001  (a value's own code may raise anything)
        return repr_of_lost(value)


class _LoggingRow(Protocol):
    def log(self, message: object, /, level: Any = "INFO", **details: Any) -> None: ...


# The row whose handler runs in this thread or task. asyncio.to_thread passes this variable on.
current_row: ContextVar[_LoggingRow | None] = ContextVar("current_row", default=None)


class RowLogHandler(logging.Handler):
    """A handler for ``logging`` that adds messages to the log of the row that is being processed.

    Call ``logging.getLogger().addHandler(journal.RowLogHandler())`` first. From then on, a message
    that is logged in the thread or asyncio task of a row's handler is stored with the row, as by
    :meth:`AttemptedRow.log`. The details hold the name of the logger, and the traceback of an
    exception. Messages of other threads and tasks are ignored. A process of a pool needs its own
    RowLogHandler.

    To store messages below WARNING, lower the level of the root logger:
    ``logging.getLogger().setLevel("INFO")``. As long as ``logging`` has no handler, ``logging``
    prints warnings to standard error. A RowLogHandler ends this printing. To keep the warnings
    there, call ``logging.basicConfig()`` before you add a RowLogHandler. Later, ``basicConfig()``
    has no effect.
    """

    of_rows = True  # shows nothing to a person

    def emit(self, record: logging.LogRecord) -> None:
        """Add a message to the log of the row that is being processed, if there is one."""
        row = current_row.get()
        if row is None:
            return
        try:
            message = record.getMessage() if self.formatter is None else self.format(record)
            details = {"logger": record.name}
            if record.exc_info and record.exc_info[1] is not None:
                details["traceback"] = traceback_of(record.exc_info[1]) or ""
            row.log(message, record.levelno, **details)
        except Exception:  # noqa: BLE001  (as every handler of logging does)
            self.handleError(record)

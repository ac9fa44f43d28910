"""What became of one attempt at a row, in the words of a handler and in those of a run.

A handler returns a value or raises; :func:`call_handler` makes an :class:`Outcome` of it, wherever
the handler runs: in a thread, in another process or on another machine.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any, Literal

import msgspec

from journal.format.arguments import check_count
from journal.format.values import encode_value
from journal.model import JobRow

Handler = Callable[[JobRow], Any]
Errors = tuple[type[BaseException], ...]

MESSAGE_CHARACTERS = 4096


class RowResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler returns to fill the row's named fields; anything else it returns is ``result``.

    ``result``: any JSON value. ``cost_cents``: int from 0, added to the job's total.
    ``label_path``: kept relative to the job's directory if it lies in there.
    """

    result: Any = None
    tracking_number: str | None = None
    label_path: str | os.PathLike[str] | None = None
    cost_cents: int | None = None


class RowOutcome(Exception):
    """Base of what a handler raises to say exactly what became of its row."""


class Fail(RowOutcome):
    """The row has failed for good, with this code and message: no further attempt."""

    code = "Fail"
    message = ""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


class Retry(RowOutcome):
    """Nothing has happened yet: try the row again, as long as attempts are left.

    ``after_s`` (seconds, 0 or more): how long to wait; None: as the run's backoff says. Out of
    attempts, the row fails with ``code`` and ``message``. Raises ValueError.
    """

    after_s: float | None = None
    code = "Retry"
    message = "no attempt is left"

    def __init__(
        self, after_s: float | None = None, code: str = code, message: str = message
    ) -> None:
        if after_s is not None and not (after_s >= 0 and math.isfinite(after_s)):
            raise ValueError(f"after_s must be 0 or more seconds, not {after_s!r}")
        super().__init__(after_s, code, message)
        self.after_s = after_s
        self.code = code
        self.message = message


class Skip(RowOutcome):
    """The row needs nothing done."""

    reason: str | None = None

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason


class NeedsReview(RowOutcome):
    """Whether the row took effect isn't known: a person must look before it is tried again."""

    code = "NeedsReview"
    message = ""

    def __init__(self, message: str, code: str = code) -> None:
        super().__init__(message, code)
        self.message = message
        self.code = code


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What to record. Plain values only, so that it comes back from any worker.

    ``lost``: the worker has died, or was given up: whether the row took effect isn't known, and the
    run's policy for interrupted rows decides. ``unstarted``: the attempt never began.
    ``elapsed_s``: how long the handler took. ``retryable``: of a failure, whether another attempt
    may be made.
    """

    kind: Literal["completed", "failed", "skipped", "review", "lost", "unstarted"]
    result: Any = None
    tracking_number: str | None = None
    label_path: str | None = None
    cost_cents: int | None = None
    error_code: str = ""
    error_message: str = ""
    retryable: bool = False
    after_s: float | None = None
    reason: str | None = None
    elapsed_s: float = 0.0


def call_handler(handler: Handler, retry_on: Errors, row: JobRow) -> Outcome:
    """Call the handler on a row; whatever it does ends in an outcome. Runs in the worker."""
    _leave_interrupts_to_the_driver()
    begin_s = perf_counter()
    try:
        value = handler(row)
    except BaseException as error:  # noqa: BLE001  (whatever it is, the row has to say so)
        outcome = outcome_of_error(error, retry_on)
    else:
        outcome = outcome_of_value(value)
    return msgspec.structs.replace(outcome, elapsed_s=perf_counter() - begin_s)


def outcome_of_value(value: Any) -> Outcome:
    """The outcome of a handler that returned ``value``.

    What can't be recorded makes it a matter for a person: the work is done, and must not be
    repeated for the sake of its result.
    """
    if isinstance(value, Outcome):  # of a handler of our own
        return value
    result = value if isinstance(value, RowResult) else RowResult(result=value)
    try:
        if result.result is not None:
            encode_value(result.result, "result")
        for name in ("tracking_number", "label_path"):
            part = getattr(result, name)
            if part is not None:
                encode_value(os.fspath(part), name)
        check_count(result.cost_cents, "cost_cents")
        label_path = None if result.label_path is None else os.fspath(result.label_path)
    except BaseException as error:  # noqa: BLE001  (a value's own code may raise anything)
        return outcome_of_bad_value(error)
    return Outcome(
        kind="completed",
        result=result.result,
        tracking_number=result.tracking_number,
        label_path=label_path,
        cost_cents=result.cost_cents,
    )


def outcome_of_bad_value(error: BaseException) -> Outcome:
    """The outcome of a handler that has done its work and returned what can't be recorded."""
    return Outcome(
        kind="review",
        error_code="InvalidResult",
        error_message=_text(
            f"the handler has returned, and what it returned can't be recorded: {_words(error)}"
        ),
    )


def outcome_of_error(error: BaseException, retry_on: Errors) -> Outcome:
    """The outcome of a handler that raised ``error``."""
    try:
        return _outcome_of_error(error, retry_on)
    except BaseException:  # noqa: BLE001  (of somebody's own class, of which any part may raise)
        return failed(type(error).__name__, type(error).__name__)


def _outcome_of_error(error: BaseException, retry_on: Errors) -> Outcome:
    match error:
        case Fail():
            return failed(_words(error.code), _words(error.message))
        case Retry():
            return failed(
                _words(error.code), _words(error.message), retryable=True, after_s=error.after_s
            )
        case Skip():
            return Outcome(
                kind="skipped", reason=None if error.reason is None else _words(error.reason)
            )
        case NeedsReview():
            code, message = _words(error.code), _words(error.message)
            return Outcome(kind="review", error_code=code, error_message=message)
    name = type(error).__name__
    return failed(name, _words(error) or name, retryable=isinstance(error, retry_on))


def _words(value: object) -> str:
    """``str(value)``; what it can't say is no reason to say nothing."""
    try:
        return _text(str(value))
    except BaseException:  # noqa: BLE001  (somebody's own __str__)
        return ""


def failed(
    code: str, message: str, *, retryable: bool = False, after_s: float | None = None
) -> Outcome:
    """A failure in text that can be recorded."""
    return Outcome(
        kind="failed",
        error_code=_text(code),
        error_message=_text(message),
        retryable=retryable,
        after_s=after_s,
    )


def lost(error: BaseException) -> Outcome:
    """Of an attempt whose worker is gone."""
    return Outcome(
        kind="lost",
        error_code=type(error).__name__,
        error_message=_text(f"the worker was lost while this row was in flight: {_words(error)}"),
    )


def _text(text: str) -> str:
    """What can be written, of a length that a person reads."""
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= MESSAGE_CHARACTERS else text[:MESSAGE_CHARACTERS] + "..."


def _leave_interrupts_to_the_driver() -> None:
    """In a process of a pool: Ctrl-C reaches the whole group, and the driver drains.

    Otherwise a worker that waits for its next row dies of it, and breaks the pool.
    """
    multiprocessing = sys.modules.get("multiprocessing")
    if (
        multiprocessing is not None
        and multiprocessing.parent_process() is not None
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    ):
        signal.signal(signal.SIGINT, signal.SIG_IGN)

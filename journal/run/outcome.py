"""The outcome of one attempt, made from the value or exception of a handler."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import msgspec

from journal.errors import InvalidValueError, JournalError
from journal.format.arguments import (
    check_cost,
    check_optional_text,
    check_usage,
    names_unknown_keywords,
)
from journal.format.records import now
from journal.format.values import as_json_value, repr_text, str_or_empty
from journal.model import Cost, LogEntry, Usage, added_usage, cents_of, millionths
from journal.run.workers.tracebacks import traceback_of
from journal.store.interrupted_rows import TIMED_OUT
from journal.text import encode_json

Errors = Collection[type[BaseException]]  # classes of exceptions that allow another attempt
Repeated = type[BaseException] | str  # str: an error code
RetryOn = Repeated | Collection[Repeated]

MESSAGE_CHARACTERS = 4096
INVALID_RESULT = "InvalidResult"  # error code of an outcome that can't be recorded unchanged
MAX_AFTER_S = 366 * 86400.0  # a larger value is probably a time, not a duration
WAITS = "0 to 31,622,400 seconds (366 days)"
TWO_OUTCOMES = "TwoOutcomes"  # error code of a row whose command has printed two outcomes
WAITED_TOO_LONG = "WaitedTooLong"  # error code of a row that has waited for ``max_wait_s``
NO_OUTCOME = "NoOutcome"  # error code of a row that the handler's return value leaves out
# Error codes of reviews for an invalid return value. The handler has not asked for such a review.
WRONG_ANSWERS = frozenset((INVALID_RESULT, TWO_OUTCOMES, NO_OUTCOME))
_BROKEN = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
# Parts of the names of common classes. The last two mean that the connection broke within the
# answer.
_BROKEN_NAMES = ("Timeout", "Disconnected", "RemoteProtocol", "IncompleteRead", "ClientPayload")
_NOT_SENT_NAMES = ("ConnectTimeout", "PoolTimeout")
_EVERY = (Exception, BaseException)  # too general to declare an error harmless


class RowResult(msgspec.Struct, frozen=True, kw_only=True):
    """A value that a handler returns to set fields of its row.

    Any other return value becomes the row's ``result``.

    - ``result``: any JSON value.
    - ``tracking_number``: text.
    - ``label_path``: a path. A path inside the job's directory is stored relative to this
      directory.
    - ``cost_cents``, ``usage``: what the attempt has cost: see :meth:`JobService.complete_row`.
    """

    result: Any = None
    tracking_number: str | None = None
    label_path: str | os.PathLike[str] | None = None
    cost_cents: Cost | None = None
    usage: Usage | None = None


class RowOutcome(Exception):
    """Base class of the exceptions that a handler raises, or returns, to set its row's outcome.

    ``cost_cents``, ``usage``: what the attempt has cost: see :meth:`JobService.complete_row`.
    """

    # A subclass may have a constructor that doesn't call this one.
    code = ""
    message = ""
    cost_cents: Cost | None = None
    usage: Usage | None = None

    @names_unknown_keywords
    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        cost_cents: Cost | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message
        self.cost_cents, self.usage = cost_cents, usage


class Fail(RowOutcome):
    """Make the row failed, with this code and message.

    The row is attempted again only if ``retry_on`` has the code, and attempts are left.
    """

    code = "Fail"


class _Later(RowOutcome):
    """Base of Retry and Hold. ``code`` and ``message`` have defaults in each class."""

    after_s: float | str | None = None  # text if the text can't be read as a time

    @names_unknown_keywords
    def __init__(
        self,
        code: str = "",
        message: str = "",
        *,
        after_s: float | str | None = None,
        cost_cents: Cost | None = None,
        usage: Usage | None = None,
    ) -> None:
        given: object = code
        if not isinstance(given, str):  # probably seconds
            name, seconds = type(self).__name__, "" if given is None else f"after_s={given!r}"
            call = f"{name}(code, message, after_s=seconds)"
            raise TypeError(f"{call}: write {name}({seconds})")
        waits_s = seconds_of(after_s)
        self.after_s = after_s if waits_s is None else waits_s
        words = code or type(self).code, message or type(self).message
        super().__init__(*words, cost_cents=cost_cents, usage=usage)


class Retry(_Later):
    """Attempt the row again, if attempts are left. Use Retry only if this attempt had no effect.

    ``counts=False``: this one call was throttled, for example by a limit of calls a second. The
    attempt doesn't count for ``max_attempts``. The row is attempted until a call isn't throttled.
    Other rows continue. But many successive throttled calls mean that the whole account has reached
    a limit. So a hold begins, as with :class:`Hold`, when the number of these calls has reached
    both 10 and the number of workers.

    ``after_s``: seconds until the next attempt, up to 366 days. This is a number, or the text of a
    header Retry-After (seconds or a date). Text that can't be read is ignored, and the row's log
    gets a warning. With ``None``, the run's backoff decides. If no attempt is left, the row fails
    with ``code`` and ``message``.

    ``from_step``: the next attempt does the step of this name and all later steps again. A row in
    a call of a :class:`Batch` leaves this call, and does this call's steps again, too.

    The constructor raises ValueError if ``after_s`` is neither text nor a number in these bounds.
    It raises TypeError if the code isn't text.
    """

    code = "Retry"
    message = "the handler asked for another attempt"
    counts = True
    from_step: str | None = None

    @names_unknown_keywords
    def __init__(
        self,
        code: str = "",
        message: str = "",
        *,
        after_s: float | str | None = None,
        counts: bool = True,
        from_step: str | None = None,
        cost_cents: Cost | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(code, message, after_s=after_s, cost_cents=cost_cents, usage=usage)
        self.counts, self.from_step = counts, from_step


class Hold(_Later):
    """The called service is down, or throttles all calls: no row starts for ``after_s`` seconds.

    - Use Hold only if this attempt had no effect. The row becomes pending, and the attempt doesn't
      count for ``max_attempts``. But if nobody knows whether a step of the row took effect, the row
      needs a review. If a call with many rows raises Hold, these rules apply to all rows of the
      call.
    - ``after_s``: as for :class:`Retry`. Without ``after_s``, the run's backoff decides. The
      backoff grows with each further hold.
    - After the hold, the run tries one row. If the row succeeds, or has an outcome such as Fail,
      all workers continue. If the handler raises Retry, or an exception such as ConnectionError,
      the run holds again, for the time of the run's backoff.
    - If the service hasn't answered after an hour of holds, the run pauses.

    The constructor raises the same errors as the constructor of :class:`Retry`.
    """

    code = "Hold"
    message = "the handler asked the run to wait"


class Wait(RowOutcome):
    """The work was handed to somebody, such as a provider's batch endpoint, and isn't done yet.

    - The row becomes pending, and is attempted again after ``after_s`` seconds, as for
      :class:`Retry`. With ``None``, the next wait is as long as the row has waited so far, but at
      least ``backoff_s`` and at most ``max_backoff_s``. A wait takes at least 0.1 s. A waiting row
      takes no worker and no slot of ``limit_per``.
    - The attempt doesn't count for ``max_attempts``.
    - Submit the work in a :meth:`step <AttemptedRow.step>`. The next attempt then has the step's
      result, and can ask for the state of the work. If nobody knows whether a step of the row took
      effect, the row needs a review.
    - ``message``: recorded as the reason.

    The constructor raises the same errors as the constructor of :class:`Retry`.
    """

    code = "Wait"
    after_s: float | str | None = None

    @names_unknown_keywords
    def __init__(
        self,
        after_s: float | str | None = None,
        message: str = "",
        *,
        cost_cents: Cost | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(type(self).code, message, cost_cents=cost_cents, usage=usage)
        seconds_of(after_s)
        self.args, self.after_s = (after_s, message), after_s


class Skip(RowOutcome):
    """The row needs no work. ``reason`` is recorded."""

    reason: str | None = None

    @names_unknown_keywords
    def __init__(
        self,
        reason: str | None = None,
        *,
        cost_cents: Cost | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__("", cost_cents=cost_cents, usage=usage)
        self.args, self.reason = (reason,), reason


class NeedsReview(RowOutcome):
    """The row needs a review: a person must find out whether the attempt took effect.

    ``code``: use one code for all rows with the same question. ``message``: what to find out.
    """

    code = "NeedsReview"
    result: str | None = None  # the repr of a step's result, if that could not be recorded


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of an attempt, as a run records it.

    All values are plain, so that workers in other processes can send the outcome.

    - ``kind``: "lost" means that the worker died or was given up. Nobody knows then whether the row
      took effect, so ``on_interrupted`` decides. "unstarted" means that the attempt never began.
      "review" means the status needs_review. "held" means that the attempt had no effect, and that
      the whole run must wait: see :class:`Hold`. "throttled" means that the attempt had no effect,
      and that the row must wait: see :class:`Retry`. "waiting" means that the row waits for
      somebody else: see :class:`Wait`. The other kinds are statuses of a row.
    - ``retryable``: whether a failed attempt may be repeated.
    - ``unknown``: whether the call of a failed attempt may have taken effect. See
      :func:`may_have_taken_effect`.
    - ``after_s``: seconds until the next attempt, or for "held", seconds for which the run holds.
      None: the run's backoff decides.
    - ``usage``: {} if the usage of the row's call is recorded with the first row of the call.
    - ``from_step``: the step from which the next attempt does its steps again, or "".
    - ``elapsed_s``: how long the handler took; 0 for all rows of a call except the first.
    - ``logs``: messages of the row that aren't recorded yet.
    """

    kind: Literal[
        "completed",
        "failed",
        "skipped",
        "review",
        "held",
        "throttled",
        "waiting",
        "lost",
        "unstarted",
    ]
    result: Any = None
    tracking_number: str | None = None
    label_path: str | None = None
    cost_cents: int | float | None = None
    usage: dict[str, int | float] | None = None
    error_code: str = ""
    error_message: str = ""
    traceback: str | None = None
    retryable: bool = False
    unknown: bool = False
    after_s: float | None = None
    from_step: str = ""
    reason: str | None = None
    elapsed_s: float = 0.0
    logs: tuple[LogEntry, ...] = ()

    @property
    def is_given_back(self) -> bool:
        """Whether the attempt has done nothing, so that it doesn't count."""
        return self.kind in ("unstarted", "held", "throttled")

    @property
    def is_answer(self) -> bool:
        """Whether the outcome shows that the called service has answered.

        An outcome shows an answer if the handler has decided the outcome. An exception, a timeout,
        or an outcome that repeats the attempt doesn't show an answer.
        """
        if self.kind in ("failed", "review"):
            is_final = not (self.retryable or self.unknown) and self.traceback is None
            return is_final and self.error_code != TIMED_OUT
        return self.kind in ("completed", "skipped", "waiting")


_COMPLETED = Outcome(kind="completed")


def outcome_of_value(value: Any) -> Outcome:
    """The outcome of a handler that returned ``value``.

    If a part of the value can't be recorded, the row needs a review: the row's work is done, and
    must not be repeated. The review keeps the other parts.
    """
    if value is None:  # the usual case
        return _COMPLETED
    kind = type(value)
    if issubclass(kind, Outcome):  # from a handler of this package
        done: Outcome = value
        return done
    given = {"result": value}
    if issubclass(kind, RowResult):
        try:
            given = {name: each for name in CHECKS if (each := getattr(value, name)) is not None}
        except BaseException as error:  # noqa: BLE001  (the code of a subclass may raise anything)
            problem = f"what the handler returned can't be read: {text_of(error)}"
            return as_review(with_fields(_COMPLETED, given), INVALID_RESULT, problem)
    return with_fields(_COMPLETED, given)


def with_fields(outcome: Outcome, given: dict[str, Any]) -> Outcome:
    """The outcome with the fields of ``given`` that can be recorded.

    If a field can't be recorded, the row needs a review. The message of the review names the field.
    If the field is a text or the result, it gets the repr of the value. If the field is the cost or
    the usage, the message shows the value instead.
    """
    fields: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in given.items():
        if value is None:
            continue
        try:
            fields[name] = CHECKS[name](value)
        except BaseException as error:  # noqa: BLE001  (a value's own code may raise anything)
            problems.append(_problem_with(name, value, error))
            if name in _REPLACED_BY_REPR:
                fields[name] = repr_text(value)
            if not isinstance(error, JournalError):
                fields["traceback"] = outcome.traceback or traceback_of(error)
    if fields:
        outcome = msgspec.structs.replace(outcome, **fields)
    return as_review(outcome, INVALID_RESULT, "; ".join(problems)) if problems else outcome


def _problem_with(name: str, value: object, error: BaseException) -> str:
    is_of_field = isinstance(error, InvalidValueError) and error.where == name
    reason = error.reason if is_of_field else text_of(error)  # type: ignore[attr-defined]
    kept = f"the {name} of this review is its repr" if name in _REPLACED_BY_REPR else ""
    return _text(f"{name} can't be recorded: {reason}; {kept or f'it was {repr_text(value)}'}")


def _recorded_path(value: Any) -> str | None:
    return check_optional_text(os.fspath(value), "label_path")


_REPLACED_BY_REPR = ("result", "tracking_number", "label_path")
# The fields that a handler sets, each with the function that checks and converts its value.
CHECKS: dict[str, Callable[[Any], Any]] = {
    "result": partial(as_json_value, where="result"),
    "tracking_number": partial(check_optional_text, where="tracking_number"),
    "label_path": _recorded_path,
    "cost_cents": check_cost,
    "usage": check_usage,
}


def with_missing(outcome: Outcome, other: Outcome) -> Outcome:
    """Return ``outcome``. Missing fields, such as the cost, are taken from ``other``."""
    missing = {name: getattr(other, name) for name in CHECKS if getattr(outcome, name) is None}
    return msgspec.structs.replace(outcome, **missing)


def without_refused(outcome: Outcome, error: InvalidValueError) -> Outcome:
    """Return a review in place of an outcome that the journal has refused to record.

    The review has all fields that can be recorded. ``error``: the exception that the journal
    raised, for example for a record that is too long. If no field of the outcome is the cause, the
    error is raised again.
    """
    fields: dict[str, Any] = {}
    problems: list[str] = []
    is_one = error.where in CHECKS
    for name in (error.where,) if is_one else CHECKS:
        value = getattr(outcome, name)
        if is_one or len(encode_json(value)) > MESSAGE_CHARACTERS:
            problems.append(_problem_with(name, value, error))
            fields[name] = repr_text(value) if name in _REPLACED_BY_REPR else None
    if not problems:
        raise error
    outcome = msgspec.structs.replace(outcome, **fields)
    return as_review(outcome, INVALID_RESULT, "; ".join(problems))


def as_review(outcome: Outcome, code: str, problem: str) -> Outcome:
    """Turn the outcome of an attempt into a review. Other fields, such as the result, stay.

    ``problem``: the reason, which becomes the review's message. ``code``: the error code. If the
    outcome already is a review, it keeps its own code.
    """
    if outcome.kind == "review":
        code = outcome.error_code
        message = "; ".join(filter(None, (outcome.error_message, problem)))
    else:
        parts = (outcome.error_code, outcome.error_message)
        said = ": ".join(part for part in parts if part)
        ended = f"the attempt ended as {outcome.kind}" + (f" ({said})" if said else "")
        message = f"{problem}; {ended}"
    return msgspec.structs.replace(
        outcome,
        kind="review",
        error_code=code,
        error_message=message,
        retryable=False,
    )


def in_doubt(outcome: Outcome, code: str, doubt: str) -> Outcome:
    """Turn the outcome of an attempt into a review, because a step is in doubt.

    Nobody knows whether that step took effect. The review keeps the fields of the outcome.

    ``doubt``: the message about the step.
    """
    if outcome.error_code == code:  # the message is already about the step
        return outcome
    if outcome.kind == "completed" and outcome.result == "":  # a command that has printed nothing
        outcome = msgspec.structs.replace(outcome, result=None)
    return as_review(outcome, code, doubt)


def outcome_of_error(error: BaseException, retry_on: Errors) -> Outcome:
    """The outcome of a handler that raised ``error``."""
    try:
        if isinstance(error, RowOutcome):
            return with_cost(_outcome_of(error), error.cost_cents, error.usage)
        return _outcome_of_exception(error, retry_on)
    except BaseException:  # noqa: BLE001  (any code of an exception's class may raise)
        name = text_of(type.__getattribute__(type(error), "__name__"))
        return failed(name, name)


def with_cost(outcome: Outcome, cost_cents: Any, usage: Any) -> Outcome:
    """The outcome with the cost and usage of the attempt.

    Cost and usage count, whatever the kind of the outcome is. If one of them can't be recorded, the
    row needs a review.
    """
    return with_fields(outcome, {"cost_cents": cost_cents, "usage": usage})


def with_sums(outcome: Outcome, parts: Iterable[Outcome]) -> Outcome:
    """The outcome with the sums of the costs and usages of ``parts``."""
    usage: dict[str, int | float] = {}
    costs: list[int] = []
    for part in parts:
        usage = added_usage(usage, part.usage or {})
        if part.cost_cents is not None:
            costs.append(millionths(part.cost_cents))
    return with_cost(outcome, cents_of(sum(costs)) if costs else None, usage or None)


def _outcome_of(error: RowOutcome) -> Outcome:
    code, message = text_of(error.code), text_of(error.message)
    match error:
        case Retry():
            outcome = failed(code, message, retryable=True, after_s=error.after_s)
            if not error.counts:
                outcome = later("throttled", code, message, error.after_s)
            return msgspec.structs.replace(outcome, from_step=text_of(error.from_step or ""))
        case Hold():
            return later("held", code, message, error.after_s)
        case Wait():
            return later("waiting", "", message, error.after_s)
        case Skip():
            reason = None if error.reason is None else text_of(error.reason)
            return Outcome(kind="skipped", reason=reason)
        case NeedsReview():
            review = Outcome(kind="review", error_code=code, error_message=message)
            return msgspec.structs.replace(review, result=error.result)
    return failed(code, message)


def _outcome_of_exception(error: BaseException, retry_on: Errors) -> Outcome:
    code, message = code_and_message(error)
    if isinstance(error, TypeError) and message.startswith("Unexpected keyword argument"):
        message += f" (RowResult has {', '.join(CHECKS)})"  # msgspec doesn't name them
    named = tuple(kind for kind in retry_on if kind not in _EVERY)
    return Outcome(
        kind="failed",
        error_code=code,
        error_message=message,
        retryable=issubclass(type(error), tuple(retry_on)),
        unknown=not issubclass(type(error), named) and may_have_taken_effect(error),
        traceback=traceback_of(error),
    )


def may_have_taken_effect(error: BaseException) -> bool:
    """Whether an exception says that a call timed out, or that its connection broke.

    Nobody knows then whether the call took effect. The signs are: the class of the exception, the
    name of this class or of a base class, the exception from which it was raised, or an exception
    in its group. The answer is False if no connection was made, because it was refused or took too
    long.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(map(may_have_taken_effect, error.exceptions))
    link: BaseException | None = error
    for _ in range(50):  # a chain of exceptions may be a ring
        if link is None:
            break
        names = " ".join(base.__name__ for base in type(link).__mro__)
        if isinstance(link, ConnectionRefusedError) or any(n in names for n in _NOT_SENT_NAMES):
            return False
        if isinstance(link, _BROKEN) or any(n in names for n in _BROKEN_NAMES):
            return True
        try:
            link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
        except Exception:  # noqa: BLE001  (an exception's own code may raise anything)
            break
    return False


def seconds_of(given: Any) -> float | None:
    """``after_s`` as a float. None for None, and for text that can't be read.

    The text is the text of a header Retry-After: seconds or a date (RFC 9110). The seconds until a
    date in the past are 0. A number may have a type of another library, such as numpy.float64.

    Raises ValueError unless ``given`` is None, text, or a number from 0 to MAX_AFTER_S.
    """
    if given is None:
        return None
    try:
        seconds = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        seconds = _seconds_until(given) if isinstance(given, str) else math.nan
    if 0 <= seconds <= MAX_AFTER_S:  # this is also False for NaN
        return seconds
    if isinstance(given, str):
        return None
    raise ValueError(f"after_s must be {WAITS}, not {given!r}")


def _seconds_until(text: str) -> float:
    """The seconds until a date of HTTP, at least 0. NaN for any other text."""
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  (few rows need it)

    try:
        at = parsedate_to_datetime(text)
        # A date without a zone, such as the form of asctime(), is also in UTC.
        return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except Exception:  # noqa: BLE001  (the parser takes any text apart)
        return math.nan


def code_and_message(error: BaseException) -> tuple[str, str]:
    """The error code and message of an exception that isn't a :class:`RowOutcome`."""
    name = type(error).__name__
    return _text(name), text_of(error) or _text(name)


def repr_of_lost(value: object) -> str:
    """The repr of a value for a message, cut to MESSAGE_CHARACTERS."""
    return _text(repr_text(value))


def text_of(value: object) -> str:
    """``str(value)`` as text that can be recorded, or "" if ``str`` raises."""
    return _text(str_or_empty(value))


def failed(code: str, message: str, *, retryable: bool = False, after_s: Any = None) -> Outcome:
    """The outcome of an attempt that failed. ``after_s``: see :func:`seconds_of`."""
    return msgspec.structs.replace(later("failed", code, message, after_s), retryable=retryable)


def later(
    kind: Literal["failed", "held", "throttled", "waiting"],
    code: str = "",
    message: str = "",
    after_s: Any = None,
) -> Outcome:
    """The outcome of an attempt that another attempt may follow, after ``after_s``.

    If ``after_s`` is text that can't be read, the row's log gets a warning. If the row waits for
    somebody else, ``message`` is the reason.
    """
    waits = kind == "waiting"
    logs: tuple[LogEntry, ...] = ()
    seconds = seconds_of(after_s)
    if seconds is None and after_s is not None:
        text = _text(f"after_s={after_s!r} is ignored: it must be {WAITS}, or a date of HTTP")
        logs = (LogEntry(at=now(), level="WARNING", message=text),)
    return Outcome(
        kind=kind,
        error_code=_text(code),
        error_message="" if waits else _text(message),
        reason=_text(message) or None if waits else None,
        after_s=seconds,
        logs=logs,
    )


def lost(error: BaseException, why: str = "") -> Outcome:
    """The outcome of an attempt whose worker is gone. ``why``: what to say in place of ``error``."""
    return Outcome(
        kind="lost",
        error_code=type(error).__name__,
        error_message=_text(
            f"the worker was lost while this row was in flight: {why or text_of(error)}"
        ),
    )


def interrupted(error: BaseException) -> Outcome:
    """The outcome of an attempt that an interrupt, such as KeyboardInterrupt, has ended."""
    name = type(error).__name__
    message = f"{name} while it was in flight"
    outcome = Outcome(kind="lost", error_code=name, error_message=message)
    return msgspec.structs.replace(outcome, traceback=traceback_of(error))


def _text(text: str) -> str:
    """The text without characters that UTF-8 can't encode, cut to MESSAGE_CHARACTERS."""
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= MESSAGE_CHARACTERS else text[:MESSAGE_CHARACTERS] + "..."

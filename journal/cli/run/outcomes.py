"""Converts the exit status of a command, or JSON that it prints, to the outcome of its row."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from journal.cli.mistakes import did_you_mean
from journal.errors import InvalidValueError
from journal.format.size_limits import MAX_DEPTH
from journal.format.values import nests_deeper_than, read_back
from journal.run.outcome import (
    INVALID_RESULT,
    TWO_OUTCOMES,
    WAITS,
    Fail,
    Hold,
    NeedsReview,
    Outcome,
    Retry,
    RowResult,
    as_review,
    code_and_message,
    failed,
    later,
    outcome_of_value,
    seconds_of,
    text_of,
    with_cost,
    with_fields,
)
from journal.run.platform.processes import MAX_STATUS
from journal.text import as_text, decode_json_exact, shorten

_QUOTED_CHARACTERS = 200  # characters of the output in a message

# --- exit statuses

_STATUSES = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?", re.ASCII)
_MAX_RANGE = 255
_SIGNALS = frozenset(number.name for number in signal.Signals)
_OUTCOMES = ("retry", "throttled", "skip", "review", "hold", "wait")  # for --on


def error_codes(text: str, *, or_timeout: bool) -> Iterator[str]:
    """The error codes in text such as ``75,111``, ``64-78`` or ``SIGTERM``.

    ``or_timeout``: whether TimeoutError is allowed, too.

    Raises ValueError, whose message quotes the invalid part of the text.
    """
    names = _SIGNALS | {TimeoutError.__name__} if or_timeout else _SIGNALS
    for part in map(str.strip, text.split(",")):
        match = _STATUSES.fullmatch(part)
        if match is None and part in names:
            yield part
            continue
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= min(MAX_STATUS, first + _MAX_RANGE):
            also = "; 0 completes a row" if match and not first else ""
            raise ValueError(
                f"{part!r} must be an exit status from 1 to {MAX_STATUS}, a range such as 64-78, the "
                f"name of a signal such as SIGKILL, or TimeoutError (only with =retry){also}"
            )
        yield from map(str, range(first, last + 1))


class Statuses(msgspec.Struct, frozen=True):
    """The meaning of the exit statuses of a command, except 0, which completes the row.

    - ``retry_on``: the error codes that allow another attempt, for :meth:`JobRun.run`. If
      ``retry_on`` is empty, all statuses allow another attempt.
    - ``others``: the outcomes of other statuses, such as "skip".
    """

    retry_on: tuple[str, ...] = ()
    others: Mapping[str, str] = {}

    @classmethod
    def of_options(cls, values: Iterable[str]) -> Statuses:
        """Read the values of ``--on``, such as ``75,64-78=retry``.

        Raises InvalidValueError if a value is invalid, or if a status has two outcomes.
        """
        words: dict[str, str] = {}
        for value in values:
            text, _, word = value.rpartition("=")
            try:
                if not text or word not in _OUTCOMES:
                    form = "must be STATUSES=OUTCOME, such as 75=retry or 70,SIGTERM=review"
                    known = f"OUTCOME must be one of {', '.join(_OUTCOMES)}"
                    raise ValueError("; ".join([form, known, *did_you_mean(word, _OUTCOMES)]))
                for code in error_codes(text, or_timeout=word == "retry"):
                    if words.setdefault(code, word) != word:
                        both = f"{words[code]} and {word}"
                        raise ValueError(f"{code} has two outcomes, {both}: give it one of them")
            except ValueError as error:
                raise InvalidValueError("--on", value, str(error)) from None
        retried = tuple(code for code, word in words.items() if word == "retry")
        return cls(retried, {code: word for code, word in words.items() if word != "retry"})

    def outcome(self, code: str, message: str, *, was_ended: bool) -> Outcome:
        """The outcome of a command that has ended with the status ``code``, which isn't 0.

        ``was_ended``: True if the run has ended the command. In this case, ``--on`` doesn't apply
        to ``code``.
        """
        word = None if was_ended else self.others.get(code)
        if word is None:
            return failed(code, message, retryable=not self.retry_on)
        return _outcome(word, code, message)


ALL_FAIL = Statuses()


# --- printed JSON

_FIELDS = ("tracking_number", "label_path", "cost_cents", "usage")
_SPENT = ("cost_cents", "usage")
_WORDS = {
    "completed": "completed",
    "retry": "retry",
    "skip": "skip",
    "skipped": "skip",
    "review": "review",
    "needs_review": "review",
    "fail": "fail",
    "failed": "fail",
    "hold": "hold",
    "wait": "wait",
}
_MEMBERS = {
    "fail": ("code", "message", *_SPENT),
    "retry": ("code", "message", "after_s", "counts", "from_step", *_SPENT),
    "skip": ("reason", *_SPENT),
    "hold": ("code", "message", "after_s", *_SPENT),
    "wait": ("message", "after_s", *_SPENT),
}
_WITH_TIME = ("retry", "hold", "wait")
_DEFAULTS = {
    "fail": (Fail.code, Fail.message),
    "retry": (Retry.code, "the command asked for another attempt"),
    "review": (NeedsReview.code, NeedsReview.message),
    "skip": ("", ""),
    "wait": ("", ""),
    "hold": (Hold.code, "the command asked the run to wait"),
}


def outcome_of_printed(ended: Outcome) -> Outcome:
    """The outcome of a command that prints JSON.

    ``ended``: the outcome according to the exit status, with the command's output as the result.

    - The member ``outcome`` sets the outcome, whatever the status is. The row needs a review if
      this outcome can't be read, or if this outcome is "completed" and the status isn't 0.
    - Without the member ``outcome``, the status decides. ``tracking_number``, ``label_path``,
      ``cost_cents`` and ``usage`` become fields of the row, and ``result`` becomes its result.
      Without ``result``, all other members become the result. A row that fails or is skipped gets
      only the cost and the usage.
    - If the output isn't JSON and the status is 0, the row needs a review, with the output as its
      result.

    Raises no exception. The row needs a review if this package can't convert the output.
    """
    try:
        return _outcome_of_printed(ended)
    except BaseException as error:  # noqa: BLE001  (the command has ended, and must not be repeated)
        return unread(error, ended.result)


def unread(error: BaseException, output: Any = None) -> Outcome:
    """The review of a row whose command has ended with a result that can't be read.

    The row must not count as failed, because a failed row may be attempted again.
    """
    name, message = code_and_message(error)
    review = Outcome(
        kind="review",
        error_code=name,
        error_message=f"the command has ended, but how it ended can't be read: {message}",
    )
    return with_fields(review, {"result": output})


def _outcome_of_printed(ended: Outcome) -> Outcome:
    text = ended.result or ""
    try:
        value = _decoded(text) if text else None
    except Exception as error:  # noqa: BLE001  (the work is done, whatever the reason)
        if ended.kind != "completed":  # the command may have failed before it printed
            return ended
        return _unreadable(text, f"which can't be read as JSON: {error}", {})
    if isinstance(value, dict) and "outcome" in value:
        return _said(value.pop("outcome"), value, ended)
    fields = _fields_of(value)
    if ended.kind == "completed":
        return outcome_of_value(RowResult(**fields))
    if ended.kind == "review":
        return with_fields(msgspec.structs.replace(ended, result=None), fields)
    return with_cost(ended, fields.get("cost_cents"), fields.get("usage"))


def _decoded(text: str) -> Any:
    """The value of printed JSON. Numbers in the result of the row keep their text."""
    if nests_deeper_than(text.encode(), MAX_DEPTH - 1):
        raise ValueError(f"it nests more than {MAX_DEPTH - 1} deep")
    value = decode_json_exact(text)
    if isinstance(value, dict):
        value |= read_back({name: value[name] for name in (*_FIELDS, "after_s") if name in value})
    return value


def _fields_of(value: Any) -> dict[str, Any]:
    """The fields of the row in a printed value."""
    if not isinstance(value, dict):
        return {"result": value}
    rest = value.copy()
    fields = {name: rest.pop(name, None) for name in _FIELDS}
    return {"result": rest.pop("result", rest or None), **fields}


def _said(named: Any, members: dict[str, Any], ended: Outcome) -> Outcome:
    """The outcome that a command has printed, with the other members of its JSON object."""
    word = _WORDS.get(named) if isinstance(named, str) else None
    if word == "completed":
        done = outcome_of_value(RowResult(**_fields_of(members)))
        if ended.kind == "completed":
            return done
        problem = f"the command printed the outcome 'completed', but its exit status said {_status(ended)}"
        return as_review(done, TWO_OUTCOMES, problem)
    problem = _problem(named, word, members)
    if word is None or problem:
        return _unreadable(ended.result, f"an outcome that can't be read: {problem}", members)
    code, message = _DEFAULTS[word]
    code = as_text(members.pop("code", None)) or code
    given = members.pop("reason" if word == "skip" else "message", None)
    message = as_text(given) or ended.error_message or ended.reason or message
    after_s = members.pop("after_s", None) if word in _WITH_TIME else None
    if word == "retry" and members.pop("counts", True) is False:
        word = "throttled"
    outcome = _outcome(word, code, message, after_s)
    if word in ("retry", "throttled"):
        outcome = msgspec.structs.replace(outcome, from_step=members.pop("from_step", None) or "")
    if word == "review":
        return with_fields(outcome, _fields_of(members))
    return with_cost(outcome, members.get("cost_cents"), members.get("usage"))


def _problem(named: Any, word: str | None, members: Mapping[str, Any]) -> str:
    """The reason why a printed outcome isn't valid, or ""."""
    if word is None:
        known = (
            f"it must be {', '.join(dict.fromkeys(_WORDS.values()))}, and not {as_text(named)!r}"
        )
        return "; ".join([known, *did_you_mean(as_text(named), _WORDS)])
    allowed = _MEMBERS.get(word, members)  # a review's other members become its result
    wrong = [name for name in members if name not in allowed]
    if wrong:
        return f"{word} has no member {wrong[0]!r}; its members are {', '.join(allowed)}"
    if word == "retry" and not isinstance(counts := members.get("counts", True), bool):
        return f"counts must be true or false, and not {as_text(counts)}"
    if word == "retry" and not isinstance(step := members.get("from_step", ""), str):
        return f"from_step must be the name of a step, and not {as_text(step)}"
    after_s = members.get("after_s")
    if word not in _WITH_TIME or after_s is None:
        return ""
    try:
        seconds_of(after_s)
    except ValueError:
        return f"after_s must be {WAITS}, and not {as_text(after_s)}"
    return ""


def _status(ended: Outcome) -> str:
    said = ended.error_message or ended.reason or ""
    return ": ".join(part for part in (ended.error_code, said) if part)


def _unreadable(text: Any, problem: str, members: Mapping[str, Any]) -> Outcome:
    quoted = shorten(repr(text), _QUOTED_CHARACTERS)
    review = Outcome(
        kind="review",
        result=text,
        error_code=INVALID_RESULT,
        error_message=f"the command printed {quoted}, {problem}; the result of this review has the whole text",
    )
    return with_cost(review, members.get("cost_cents"), members.get("usage"))


def _outcome(word: str, code: str, message: str, after_s: Any = None) -> Outcome:
    match word:
        case "skip":
            return Outcome(kind="skipped", error_code=code, reason=text_of(message) or None)
        case "review":
            return Outcome(kind="review", error_code=text_of(code), error_message=text_of(message))
        case "hold":
            return later("held", code, message, after_s)
        case "throttled":
            return later("throttled", code, message, after_s)
        case "wait":
            return later("waiting", "", message, after_s)
    return failed(code, message, retryable=word == "retry", after_s=after_s)

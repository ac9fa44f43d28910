"""Unknown names of arguments and attributes: the error says what to write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

from journal.text import similar

Given = ParamSpec("Given")
Result = TypeVar("Result")

# Names in other libraries, by the name here.
_OTHER_NAMES = {
    "max_attempts": "attempts max_retries max_tries retries retry tries",
    "workers": "concurrency jobs max_concurrency max_concurrent max_workers n_jobs parallel processes "
    "threads",
    "rows": "data df ids input items numbers records",
    "key": "id id_column index key_column primary_key unique",
    "max_rows": "limit",
    "max_cost_cents": "budget cost_limit max_cost",
    "batch": "batch_size chunk chunk_size chunks chunksize",
    "backoff_s": "backoff delay retry_delay",
    "rate": "rate_limit",
    "halt": "on_error",
    "on_gone": "on_deleted on_missing on_removed on_vanished",
    "error_code": "code",
    "executor": "pool",
    "on_progress": "callback",
    "where": "condition filter",
    "delimiter": "sep separator",
}
_MEANT = {other: name for name, others in _OTHER_NAMES.items() for other in others.split()}
# What other libraries have, and `journal errors`.
_ATTRIBUTES = dict.fromkeys(("errors", "failed", "failures"), "job.rows('failed')") | {
    "results": "job.rows('completed')",
    "to_df": "rows.to_pandas()",
}
_ARGUMENTS: dict[str, tuple[str, ...]] = {}  # of each function, those that run jobs last


def names_unknown_keywords(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Let a call with an unknown keyword raise a TypeError that says what to write.

    Don't use this for functions that are called for each row: the check costs time.
    """
    code = function.__code__
    known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    name = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
    if "error_code" not in known:  # those that choose rows of a job share names with `open_job`
        _ARGUMENTS[name] = known

    @wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        for unknown in sorted(kwargs.keys() - known):
            called = type(args[0]).__name__ if function.__name__ == "__init__" else name
            raise TypeError(f"{called}() has no argument {unknown!r}: {_advice(unknown, known)}")
        return function(*args, **kwargs)

    return call


def no_attribute(of: object, name: str, places: Mapping[str, type]) -> AttributeError:
    """The error for an attribute of ``of``. ``places``: where it may be, each with its class."""
    found = (f"{place}.{name}" for place, kind in places.items() if hasattr(kind, name))
    meant = "" if name.startswith("_") else _ATTRIBUTES.get(name) or next(found, "")
    text = f"{type(of).__name__!r} object has no attribute {name!r}{meant and f': write {meant}'}"
    return AttributeError(text, name=name, obj=of)


def _advice(unknown: str, known: tuple[str, ...]) -> str:
    meant = _MEANT.get(unknown, unknown)
    if meant == "key" and "error_code" in known:
        meant = "where"
    if meant in known:
        counts = ", which counts the first attempt, too" if meant == "max_attempts" else ""
        return f"write {meant!r}{counts}"
    for other, arguments in reversed(_ARGUMENTS.items()):
        if meant in arguments:
            return f"{meant!r} is an argument of {other}()"
    close = similar(unknown, known)
    names = ", ".join(name for name in known if name != "self")
    return f"its arguments are {names}" if close is None else f"did you mean {close!r}?"

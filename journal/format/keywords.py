"""Unknown names of arguments and attributes: the error says what to write."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, ClassVar, Never, ParamSpec, TypeVar

from journal.text import similar

Given = ParamSpec("Given")
Result = TypeVar("Result")

# Names in other libraries, by the name here.
_OTHER_NAMES = {
    "max_attempts": "attempts max_retries max_tries retries retry tries",
    "workers": "concurrency jobs max_workers n_jobs parallel processes threads",
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
_ARGUMENTS: dict[str, tuple[str, ...]] = {}  # of each function, those that run jobs last
# Attributes that are guessed, by what they are called, if they aren't called similarly.
_ATTRIBUTES = {
    "cancel": 'update_status(job.id, "cancelled")',
    "errors": "get_failed_rows(job.id)",
    "history": "get_history(job.id)",
    "pause": "pause_job(job.id)",  # and not Job.pause, which is a record
    "resolve": "complete_row(row.id, result=...)",
    "state": "status",
}


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
            raise TypeError(f"{name}() has no argument {unknown!r}: {_advice(unknown, known)}")
        return function(*args, **kwargs)

    return call


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


class NamesAttributesElsewhere:
    """The AttributeError for an attribute of a related object says where it is.

    Not for JobService: with ``__getattr__``, each use of an attribute costs more (5% of a batch).

    ``_elsewhere``: an expression for each of these objects, and its class.
    """

    __slots__ = ()
    _elsewhere: ClassVar[tuple[tuple[str, type], ...]] = ()

    if not TYPE_CHECKING:  # else type checkers would accept any name

        def __getattr__(self, name: str) -> Never:
            found = (
                f": write {where}.{other}"
                for where, kind in self._elsewhere
                for other in (
                    _ATTRIBUTES.get(name, name),
                    *(f"{name}_{what}" for what in ("job(job.id)", "row(row.id)", "rows", "count")),
                )
                if not name.startswith("_") and hasattr(kind, other.partition("(")[0])
            )
            text = f"{type(self).__name__!r} object has no attribute {name!r}{next(found, '')}"
            raise AttributeError(text, name=name, obj=self)

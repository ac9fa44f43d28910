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
    "max_cost_cents": "budget",
    "executor": "pool",
    "on_progress": "callback",
    "where": "condition filter",
    "delimiter": "sep separator",
}
_MEANT = {other: name for name, others in _OTHER_NAMES.items() for other in others.split()}
_ARGUMENTS: dict[str, tuple[str, ...]] = {}  # of each function, those that run jobs last


def names_unknown_keywords(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Let a call with an unknown keyword raise a TypeError that says what to write.

    Don't use this for functions that are called for each row: the check costs time.
    """
    code = function.__code__
    known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    name = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
    _ARGUMENTS[name] = known

    @wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        for unknown in sorted(kwargs.keys() - known):
            raise TypeError(f"{name}() has no argument {unknown!r}: {_advice(unknown, known)}")
        return function(*args, **kwargs)

    return call


def _advice(unknown: str, known: tuple[str, ...]) -> str:
    meant = _MEANT.get(unknown, unknown)
    if meant in known:
        return f"write {meant!r}"
    for other, arguments in reversed(_ARGUMENTS.items()):
        if meant in arguments:
            return f"{meant!r} is an argument of {other}()"
    close = similar(unknown, known)
    names = ", ".join(name for name in known if name != "self")
    return f"its arguments are {names}" if close is None else f"did you mean {close!r}?"


class NamesAttributesElsewhere:
    """The AttributeError for an attribute of a related object says where it is.

    ``_elsewhere``: an expression for each of these objects, and its class.
    """

    __slots__ = ()
    _elsewhere: ClassVar[tuple[tuple[str, type], ...]] = ()

    if not TYPE_CHECKING:  # else type checkers would accept any name

        def __getattr__(self, name: str) -> Never:
            found = (
                f": write {where}.{other}"
                for where, kind in self._elsewhere
                for other in (name, *(f"{name}_{what}" for what in ("job", "rows", "count")))
                if not name.startswith("_") and hasattr(kind, other)
            )
            text = f"{type(self).__name__!r} object has no attribute {name!r}{next(found, '')}"
            raise AttributeError(text, name=name, obj=self)

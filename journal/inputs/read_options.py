"""The path and the options of an input, and their names in errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.fs import shell

STANDARD_INPUT = "-"
SQLITE_PREFIX = "sqlite:"

Rows = Iterator[dict[str, Any]]


class Source(msgspec.Struct, frozen=True):
    """The arguments of :func:`journal.read_rows`.

    ``argument``: a command's name for the path, such as ROWS, or "" if the arguments come from
    Python. With such a name, messages name options of the command.
    """

    path: str
    format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    argument: str = ""

    @property
    def in_shell(self) -> bool:
        return bool(self.argument)

    @property
    def name(self) -> str:
        """The name of the input in messages."""
        if self.path == STANDARD_INPUT:
            return "standard input"
        return self.path.partition("?")[0] if self.is_query else self.path

    @property
    def is_query(self) -> bool:
        return self.path.startswith(SQLITE_PREFIX)

    @property
    def is_file(self) -> bool:
        """Whether the input can be read again, at any offset, unlike a pipe."""
        return self.path != STANDARD_INPUT and os.path.isfile(self.path)

    def give(self, name: str, value: str) -> str:
        """An option and its value, in the form that a person types."""
        if self.in_shell:
            return f"--{name} {shell.quote(value)}"
        return f"{name}={value!r}"

    def refused(self, reason: str, where: str = "", value: object = "") -> InvalidValueError:
        """The error about a part of the input. ``where``: the part, such as ``line 7``."""
        return InvalidValueError(f"{self.name}, {where}" if where else self.name, value, reason)

    def refused_option(self, name: str, reason: str) -> InvalidValueError:
        value: Any = getattr(self, name)
        option = f"--{name}" if self.in_shell else name
        return InvalidValueError(option, value, reason)

"""A command with placeholders. The values of a row replace the placeholders."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import Any, NoReturn

from journal.cli.mistakes import did_you_mean
from journal.errors import InvalidValueError
from journal.fs import shell
from journal.inputs.text_lines import BYTES_COLUMN, LINE_COLUMN, exact_line
from journal.model import JobRow
from journal.run.workers.handler import AttemptedRow
from journal.text import as_text

NUMBER = "#"
ROW_ID = "id"

# Shells whose words after a script become $0, $1 and so on.
_SHELLS = frozenset(["ash", "bash", "dash", "ksh", "mksh", "rbash", "sh", "yash", "zsh"])
_OTHER_SHELLS = frozenset(("csh", "fish", "tcsh"))
# Programs that run the word after -c as a line of a shell.
_WITH_LINE = frozenset(("flock", "runuser", "script", "su"))
_LINE_FOLLOWS = re.compile(r"-[A-Za-z]*c|--command")
# Shells that take all words after an option as one line of code.
_SHELLS_OF_LINES = {
    "cmd": re.compile(r"/[ck]", re.IGNORECASE),
    **dict.fromkeys(("powershell", "pwsh"), re.compile(r"-c(o(m(m(a(nd?)?)?)?)?)?", re.IGNORECASE)),
}
_OPTIONS_WITH_VALUE = frozenset(("--rcfile", "--init-file"))
_OPTIONS_OF_FLOCK = frozenset(("-w", "--wait", "--timeout", "-E", "--conflict-exit-code"))
# A script that uses its arguments. `for x; do` uses the arguments without naming them.
_ARGUMENT = re.compile(r"\$\{{0,2}[1-9@*]|\bfor\s+\w+\s*(?:;|\n|\bdo\b)")
_IN_BRACES = re.compile(r"\{([^{}]*)\}")
_IN_BRACES_OR_DOUBLED = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
# Text in braces that matches this pattern counts as a placeholder even if no column has this name.
# The name is probably misspelt.
_NAME = re.compile(r"#|%|(?:[\w-]+(?:\.[\w-]+)*)?(?://|/\.|/|\.)?")
_RESEMBLES = 0.8  # similarity by difflib, from 0 to 1, of a misspelt name to a column


def _without_extension(path: str) -> str:
    end = path.rfind(".")
    return path[:end] if end >= len(path) - len(os.path.basename(path)) else path


# The parts of a path, by the end of the placeholder, as in GNU parallel.
_PATH_PARTS: dict[str, Callable[[str], str]] = {
    "//": lambda path: str(PurePath(path).parent),
    "/.": lambda path: _without_extension(os.path.basename(path)),
    "/": os.path.basename,
    ".": _without_extension,
}


class Template:
    """An argv with ``{column}`` placeholders.

    - ``{#}`` is the row's number, and ``{id}`` is the row's id, unless a column has this name.
    - If the value is a path, ``{column.}`` is the path without its extension, ``{column/}`` is the
      file name, ``{column//}`` is the directory, and ``{column/.}`` is the file name without its
      extension. If a column has such a name, the placeholder stands for this column.
    - If the input has lines, ``{}`` is the line, and ``{.}``, ``{/}``, ``{//}`` and ``{/.}`` are
      these parts of the line.
    - Other text in braces isn't changed. If the text may be a misspelt placeholder, it is refused:
      see :meth:`check`.
    - In an argument that contains ``{{``, ``{{`` and ``}}`` stand for single braces, and all other
      text in braces must be a placeholder.
    - A text value is filled in unchanged. Null becomes empty text. Any other value becomes compact
      JSON.
    - No shell is involved, so values need no quoting.

    A placeholder inside the script of a shell (``sh -c``) raises InvalidValueError, because the
    shell would execute the value as code, in spite of any quotes. The script must take values as
    arguments.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = argv
        self._needed: set[str] = set()  # names in braces that must be placeholders
        self._parts = [self._split(argument) for argument in argv]
        self._names = [name for parts in self._parts for name in parts[1::2]]
        self._filled = self._needed  # names in braces that are placeholders
        self._scripts = _scripts_of(argv, _SHELLS)  # the positions of scripts
        self._other_scripts = _scripts_of(argv, _OTHER_SHELLS | _WITH_LINE)
        self._line = _line_of(argv)
        self._check_scripts()
        for place in self._scripts:
            _check_arguments(argv, place)

    def _split(self, argument: str) -> list[str]:
        """Split an argument into parts: text, then a name in braces, then text, and so on."""
        parts, end = [""], 0
        is_doubled = "{{" in argument
        for match in (_IN_BRACES_OR_DOUBLED if is_doubled else _IN_BRACES).finditer(argument):
            parts[-1] += argument[end : match.start()]
            end = match.end()
            name = match[1]
            if name is None:
                parts[-1] += match[0][0]
                continue
            is_of_shell = argument[: match.start()].endswith("$")
            if is_doubled or (_NAME.fullmatch(name) and not is_of_shell):
                self._needed.add(name)
            parts += [name, ""]
        parts[-1] += argument[end:]
        return parts

    def check(self, columns: Collection[str] | None) -> None:
        """Decide which texts in braces are placeholders. A placeholder names a column of the input.

        Raises InvalidValueError for a placeholder inside a shell's script, and for other text in
        braces in these cases:

        - it has the form of a placeholder, and no ``$`` comes before it;
        - it resembles the name of a column;
        - doubled braces are in the same argument.

        If each row has its own columns, ``columns`` is None, and :meth:`checked` checks each row.
        """
        if columns is None:
            return
        name = self._misspelt(columns)
        if name is not None:
            raise InvalidValueError("COMMAND", f"{{{name}}}", _no_column(name, columns))
        self._fill_only(self._known(columns))

    def checked(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Check each row, and yield it unchanged.

        Raises InvalidValueError as :meth:`check` does, and for a row without a column that the
        command needs.
        """
        columns: Collection[str] | None = None
        for place, data in enumerate(rows, 1):
            if data.keys() != columns:
                where = f"input row {place}"
                name = self._misspelt(data.keys())
                if name is not None:
                    reason = f"has no {name!r}, but COMMAND has {{{name}}}: {_ADD_IT}"
                    reason = "; ".join([reason, *_of_object(name, data), *did_you_mean(name, data)])
                    raise InvalidValueError(where, list(data), reason)
                known = self._known(data.keys())
                if columns is not None and known != self._filled:
                    (name, *_) = known ^ self._filled
                    reason = f"only some rows have {name!r}, and COMMAND has {{{name}}}: {_ADD_IT}"
                    raise InvalidValueError(where, list(data), reason)
                self._fill_only(known)
                columns = data.keys()
            yield data

    def fill(self, row: JobRow | AttemptedRow) -> list[str]:
        """The argv for one row. Raises InvalidValueError if the row lacks a column."""
        values = {NUMBER: row.row_number, ROW_ID: row.id} | row.data
        texts = {}
        for name in self._filled:
            found = _column_and_part(name, row.data)
            if found is None:
                raise InvalidValueError(
                    "COMMAND",
                    f"{{{name}}}",
                    f"this row has no such column: it has {list(row.data)}",
                )
            column, part = found
            is_line = column == LINE_COLUMN
            text = exact_line(row.data) if is_line else as_text(values[column])
            texts[name] = _PATH_PARTS[part](text) if part else text
        return [
            "".join(
                texts.get(part, f"{{{part}}}") if place % 2 else part
                for place, part in enumerate(parts)
            )
            for parts in self._parts
        ]

    def _known(self, columns: Collection[str]) -> set[str]:
        return {name for name in self._names if _column_and_part(name, columns) is not None}

    def _misspelt(self, columns: Collection[str]) -> str | None:
        """The first text in braces that is probably a misspelt placeholder of these columns."""
        for name in self._names:
            if _column_and_part(name, columns) is None and (
                name in self._needed or _resembles_one(name, columns)
            ):
                return name
        return None

    def _fill_only(self, names: set[str]) -> None:
        self._filled = names
        self._check_scripts()

    def fill_all(self, rows: Sequence[JobRow | AttemptedRow]) -> list[str]:
        """The argv for many rows. An argument with a placeholder is repeated for each row."""
        filled = [self.fill(row) for row in rows]
        return [
            text
            for place, texts in enumerate(zip(*filled, strict=True))
            for text in (texts if self._is_filled(place) else texts[:1])
        ]

    def without_placeholder(self) -> list[str]:
        """A list with a message if the command has no placeholder; otherwise an empty list."""
        if self._filled:
            return []
        return [
            f"COMMAND has no {{column}}, so it is the same for each row: {shell.join(self._argv)}"
        ]

    def check_program(self) -> None:
        """Raise InvalidValueError if the program, or the script of a shell, depends on the row.

        Also raises InvalidValueError if the shell would use the value of the first row as the
        script's ``$0``.
        """
        for place in (0, *self._scripts, *self._other_scripts):
            if self._is_filled(place):
                what = "script" if place else "program"
                raise InvalidValueError(
                    "COMMAND",
                    self._argv[place],
                    f"with -n, the {what} must be the same for all rows",
                )
        for place in self._scripts:
            if place + 1 < len(self._argv) and self._is_filled(place + 1):
                _refuse_first_word(self._argv, place)

    def _is_filled(self, place: int) -> bool:
        return not self._filled.isdisjoint(self._parts[place][1::2])

    def _check_scripts(self) -> None:
        for place in (*self._scripts, *self._other_scripts):
            texts, names = self._parts[place][::2], set(self._parts[place][1::2])
            # If the whole script is one value, the input contains scripts.
            if names & self._filled and (any(texts) or names - self._filled):
                of_shell = self._argv[place - 2 : place] if place in self._scripts else ("sh", "-c")
                raise InvalidValueError(
                    "COMMAND",
                    self._argv[place],
                    "a value inside a shell's script is run as a part of the script, even if the "
                    f"value is quoted; {_instead(of_shell)}; {_DOUBLE}",
                )
        is_one_value = len(self._line) == 1 and not any(self._parts[self._line[0]][::2])
        for place in self._line:
            if self._is_filled(place) and not is_one_value:
                raise InvalidValueError(
                    "COMMAND",
                    self._argv[place],
                    f"{_program_name(self._argv[0])} runs a value as a part of its line, even if the "
                    "value is quoted: put the line into a script, and give the script's name, then {column}",
                )


_ADD_IT = "add it to the row, as null if need be"
_DOUBLE = "to write braces, double all braces of the argument: {{ and }}"


def _column_and_part(name: str, columns: Collection[str]) -> tuple[str, str] | None:
    """The column of a placeholder, and the part of the path that the placeholder selects, or "".

    None if no column has this name.
    """
    if name in columns or name in (NUMBER, ROW_ID):
        return name, ""
    for part in ("", *_PATH_PARTS):
        column = name.removesuffix(part)
        if column in columns and name == column + part:
            return column, part
        if (
            name == part
            and LINE_COLUMN in columns
            and {LINE_COLUMN, BYTES_COLUMN}.issuperset(columns)
        ):
            return LINE_COLUMN, part
    return None


def _resembles_one(name: str, columns: Collection[str]) -> bool:
    if _NAME.fullmatch(name):  # with a $ before it, the text is a variable of a shell
        return False
    from difflib import get_close_matches  # noqa: PLC0415  (most commands don't need it)

    known = [column.strip().casefold() for column in columns]
    return bool(get_close_matches(name.strip().casefold(), known, n=1, cutoff=_RESEMBLES))


def _no_column(name: str, columns: Collection[str]) -> str:
    known = ", ".join(f"{{{column}}}" for column in columns)
    reasons = ["there is no such column", *_of_object(name, columns), *did_you_mean(name, columns)]
    if name in ("", *_PATH_PARTS):
        reasons = [
            f"{{{name}}} stands for a line, but this input has columns: write {{COLUMN{name}}}"
        ]
    own = {NUMBER: "the row's number", ROW_ID: "the row's id"}
    others = [f"{{{key}}} is {what}" for key, what in own.items() if key not in columns]
    also = ", and " + " and ".join(others) if others else ""
    reasons += [f"the columns are {known}{also}", _DOUBLE]
    return "; ".join(reasons)


def _of_object(name: str, columns: Collection[str]) -> list[str]:
    """The reason why ``a.b`` isn't a placeholder, although there is a column ``a``."""
    column, _, member = name.partition(".")
    if not member.strip("/.") or column not in columns:
        return []
    return [f"members of an object aren't filled in: {{{column}}} is all of it, as JSON"]


def _check_arguments(argv: Sequence[str], place: int) -> None:
    """Raise InvalidValueError for a value that becomes the $0 of the script at ``place``."""
    if len(argv) == place + 2 and _ARGUMENT.search(argv[place]):
        _refuse_first_word(argv, place)


def _refuse_first_word(argv: Sequence[str], place: int) -> NoReturn:
    raise InvalidValueError(
        "COMMAND",
        argv[place + 1],
        "the first word after a shell's script becomes its $0, and not its $1; "
        + _instead(argv[place - 2 : place]),
    )


def _instead(of_shell: Sequence[str]) -> str:
    return f"give it as an argument: {' '.join(of_shell)} 'echo \"$1\"' sh {{column}}"


def _program_name(path: str) -> str:
    return os.path.basename(path).lower().removesuffix(".exe")


def _line_of(argv: Sequence[str]) -> range:
    """The places of the words that cmd or PowerShell runs as code. Empty for other programs."""
    option = _SHELLS_OF_LINES.get(_program_name(argv[0]))
    for place, word in enumerate(argv if option is not None else ()):
        if option is not None and option.fullmatch(word):
            return range(place + 1, len(argv))
    return range(0)


def _scripts_of(argv: Sequence[str], programs: Collection[str]) -> list[int]:
    """The positions of the scripts that these programs get with the option ``-c``."""
    of = {"flock": _line_of_flock} | dict.fromkeys(_WITH_LINE - {"flock"}, _line_after_option)
    found = (
        of.get(name, _script_of)(argv, place)
        for place, argument in enumerate(argv)
        if (name := _program_name(argument)) in programs
    )
    return [place for place in found if place is not None and place < len(argv)]


def _line_after_option(argv: Sequence[str], program: int) -> int | None:
    for place in range(program + 1, len(argv)):
        if _LINE_FOLLOWS.fullmatch(argv[place]):
            return place + 1
        if argv[place].startswith(("-c", "--command=")):
            return place
    return None


def _line_of_flock(argv: Sequence[str], program: int) -> int | None:
    """The line of code comes after the options, the file and ``-c``. Other words are a command."""
    place = program + 1
    while place < len(argv) and argv[place].startswith("-"):
        place += 2 if argv[place] in _OPTIONS_OF_FLOCK else 1
    return place + 2 if argv[place + 1 : place + 2] in (["-c"], ["--command"]) else None


def _script_of(argv: Sequence[str], shell: int) -> int | None:
    """The position of the script that a shell gets with the option ``-c``.

    ``shell``: the position of the shell. Returns None if there is no such script.
    """
    place, takes_script = shell + 1, False
    while place < len(argv) and argv[place][:1] in ("-", "+"):
        option = argv[place]
        place += 1
        if option in ("-", "--"):
            break
        if option.startswith("--command="):  # an option of fish
            return place - 1
        if option.startswith("--"):
            place += option in _OPTIONS_WITH_VALUE
            takes_script = takes_script or option == "--command"
        else:
            takes_script = takes_script or (option[0] == "-" and "c" in option)
            place += option[-1] in "oO"  # then the next word is the name of an option
    return place if takes_script else None

"""A command as the work on a row: placeholders filled in, run without a shell."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from journal.errors import InvalidValueError
from journal.files import storage_error

RESULT_BYTES = 1 << 20
MESSAGE_BYTES = 4096

_OUR_OWN_LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


class Template:
    """An argv with ``{column}`` placeholders; ``{{`` and ``}}`` stand for single braces."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = list(argv)

    def check(self, columns: Collection[str]) -> None:
        """Raise InvalidValueError for a placeholder that is no column of the input."""
        for argument in self.argv:
            for match in _PLACEHOLDER.finditer(argument):
                name = match[1]
                if name is not None and name not in columns:
                    known = ", ".join(f"{{{column}}}" for column in columns)
                    raise InvalidValueError(
                        "COMMAND",
                        f"{{{name}}}",
                        f"there is no such column: the columns are {known}; a brace that is "
                        "meant as such is written twice, {{ or }}",
                    )

    def fill(self, data: Mapping[str, Any]) -> list[str]:
        """The argv for one row. No shell sees it: values need no quoting."""

        def value(match: re.Match[str]) -> str:
            if match[1] is None:
                return match[0][0]
            if match[1] not in data:
                raise InvalidValueError(
                    "COMMAND", match[0], f"this row has no such column: it holds {list(data)}"
                )
            return str(data[match[1]])

        return [_PLACEHOLDER.sub(value, argument) for argument in self.argv]


class CommandOutcome(msgspec.Struct, frozen=True):
    """``error_code`` None: exit status 0, with its output. Else the status, or what happened."""

    output: str = ""
    error_code: str | None = None
    error_message: str = ""


def run_command(
    argv: list[str],
    row_id: str,
    started: Callable[[subprocess.Popen[bytes]], object],
    ended: Callable[[subprocess.Popen[bytes]], object],
) -> CommandOutcome:
    """Run ``argv`` to its end in a session of its own; tell of its start and end.

    So the terminal's Ctrl-C reaches only us, and a command in flight can finish; one that wants
    to ask on the terminal fails at once instead of stopping. Its output goes through files: a
    command may print more than memory holds, and a child that it leaves behind doesn't keep us
    waiting. It finds its row's id, for use as an idempotency key, in JOURNAL_ROW_ID.

    Raises StorageError if this process has no means left to start it; then it did not begin.
    """
    with contextlib.ExitStack() as files:
        try:
            output = files.enter_context(tempfile.TemporaryFile())
            errors = files.enter_context(tempfile.TemporaryFile())
        except OSError as error:
            raise storage_error(Path(tempfile.gettempdir()), "use", error) from error
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**os.environ, "JOURNAL_ROW_ID": row_id},
                start_new_session=True,
            )
        except OSError as error:
            if error.errno in _OUR_OWN_LIMITS:
                raise storage_error(Path(argv[0]), "start", error) from error
            # No such program, or its interpreter; not executable; argument list too long.
            code = "127" if isinstance(error, FileNotFoundError) else "126"
            return CommandOutcome("", code, f"{argv[0]}: can't be started: {error.strerror}")
        except ValueError as error:  # a NUL byte in an argument
            return CommandOutcome("", "126", f"{argv[0]}: {error}")
        started(process)
        status = process.wait()
        ended(process)
        if status == 0:
            return CommandOutcome(_head(output))
        return CommandOutcome("", _code(status), _message(status, errors))


def _code(status: int) -> str:
    if status > 0:
        return str(status)
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _message(status: int, errors: IO[bytes]) -> str:
    end = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, end - MESSAGE_BYTES))
    text = errors.read(MESSAGE_BYTES).decode(errors="backslashreplace").strip()
    what = f"exit status {status}" if status > 0 else f"killed by {_code(status)}"
    return text or what


def _head(output: IO[bytes]) -> str:
    end = output.seek(0, os.SEEK_END)
    output.seek(0)
    text = output.read(RESULT_BYTES).decode(errors="backslashreplace")
    if end > RESULT_BYTES:
        return f"{text}\n[{end - RESULT_BYTES} more bytes of output were not kept]"
    return text.removesuffix("\n")

"""Runs a command for each row, in a separate process group."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from journal.cli.run.outcomes import ALL_FAIL, Statuses, outcome_of_printed, unread
from journal.cli.run.template import Template
from journal.cli.shared_options import MAX_COMMANDS
from journal.errors import InvalidValueError, StorageError
from journal.fs import shell, system
from journal.fs.handles import allow_open_files, refusals_of, storage_error
from journal.run.outcome import MESSAGE_CHARACTERS, Outcome, failed, lost
from journal.run.platform import processes
from journal.run.platform.processes import Environment, Process
from journal.run.workers.handler import claim_of
from journal.text import encode_json

# The last variable is for `journal step`: the run's claim on a network file system, else 0.
ROW_VARIABLES = (
    "JOURNAL_ROW_ID",
    "JOURNAL_IDEMPOTENCY_KEY",
    "JOURNAL_ATTEMPT",
    "JOURNAL_CLAIM",
)
RESULT_BYTES = 1 << 20
# A command line with one of these characters needs a shell.
_SHELL_SIGNS = re.compile(r"[|><;&$`*\n]")
_FILES = 2 * MAX_COMMANDS  # two files for each command


class Commands:
    """The handler of a run that runs a row's command. Used by many threads at the same time.

    Outcomes:

    - Exit status 0 completes the row. The first MiB of standard output is the row's result.
    - Another status fails the row, unless ``statuses`` says otherwise. The status, or the name of
      the signal, is the error code. The end of standard error is the message.
    - If the command can't be started, the row fails and is not retried. The error code is 127 (no
      such program) or 126.
    - If the system has no resources left, or no space for the output, the command isn't started.
    - With ``stdout_json``, the output may change the outcome: see :func:`outcome_of_printed`.

    Processes:

    - Ctrl-C on the terminal reaches only this process, so a command in flight can finish. If a
      command tries to read from the terminal, the read fails, and the system doesn't suspend the
      command.
    - Cancelling a command ends all processes that it has started. If a command ends by itself, its
      background processes continue to run. If this process is killed, its commands continue to run
      on POSIX, and end on Windows: see :mod:`journal.run.platform.processes`.

    A command gets:

    - the environment variables JOURNAL_JOB (the job's directory), JOURNAL_ROW_ID,
      JOURNAL_IDEMPOTENCY_KEY, and JOURNAL_ATTEMPT (the number of the row's attempt);
    - with ``stdin_json``, the row's data on standard input, as one line of JSON.
    """

    def __init__(
        self,
        template: Template,
        directory: Path,
        *,
        statuses: Statuses = ALL_FAIL,
        stdin_json: bool = False,
        stdout_json: bool = False,
    ) -> None:
        """Must be called in the main thread. ``directory``: the job's absolute path."""
        allow_open_files(_FILES)
        self._template = template
        self._statuses = statuses
        self._stdin_json = stdin_json
        self._stdout_json = stdout_json
        job = processes.variables({"JOURNAL_JOB": str(directory)})
        self._environment = processes.environment() | job
        self._running: dict[str, _Running] = {}
        # reentrant, because a signal handler may take the lock while this thread holds the lock
        self._lock = threading.RLock()
        processes.keep_exit_statuses()

    def cancel(self, row_id: str, *, force: bool) -> bool:
        """Terminate the row's command and all processes of its group; with ``force``, kill them.

        If the command hasn't begun, it is never started. Otherwise, the way in which the command
        ends still decides the row's outcome. May be called in a signal handler of the main thread.
        """
        with self._lock:
            running = self._running.setdefault(row_id, _Running())
            running.is_cancelled = True
            running.is_forced = running.is_forced or force
            if running.process is not None:
                running.process.end(force=running.is_forced)
        return True

    def __call__(self, row: Any) -> Any:
        """Run the row's command until it ends. Returns the outcome of the row."""
        outcome = self._outcome(row.id, row)
        is_printed = self._stdout_json and outcome.kind not in ("lost", "unstarted")
        return outcome_of_printed(outcome) if is_printed else outcome

    def _outcome(self, row_id: str, given: Any) -> Outcome:
        """Run the command of ``given``: a row, or rows of which the first has the id."""
        with self._lock:  # from now on, cancel() finds the command
            running = self._running.setdefault(row_id, _Running())
        try:
            return Outcome(kind="unstarted") if running.is_cancelled else self._run(given, running)
        except StorageError as error:
            name = type(error).__name__
            return Outcome(kind="unstarted", error_code=name, error_message=str(error))
        finally:
            with self._lock:
                del self._running[row_id]

    def _run(self, given: Any, running: _Running) -> Outcome:
        argv = self._argv(given)
        # Pipes aren't used. Background processes could keep them open, and we would wait for these
        # processes. A background process may still write during the next attempt, so each attempt
        # has new files. The output may be larger than the memory.
        with contextlib.ExitStack() as files:
            output, errors = temporary_file(files), temporary_file(files)
            stdin = self._open_input(given, files)
            try:
                process = self._start(given, argv, stdin, output, errors)
                if isinstance(process, Outcome):
                    return process
                self._wait(running, process)
            except ChildProcessError as error:  # other code in this process has reaped it
                return lost(error)
            try:
                return self._ended(given, running, process.close(), output, errors)
            except BaseException as error:  # noqa: BLE001  (the command may be done)
                return unread(error)

    def _ended(
        self, given: Any, running: _Running, status: int, output: IO[bytes], errors: IO[bytes]
    ) -> Outcome:
        """The outcome of a command that has ended with ``status``."""
        if status == 0:
            return Outcome(kind="completed", result=self._kept(given, output))
        if processes.is_of_console(status) and not running.is_cancelled:
            return lost(KeyboardInterrupt("the console ended it, by Ctrl-Break or by closing"))
        outcome = self._statuses.outcome(
            processes.status_code(status),
            _message(status, errors),
            was_ended=running.is_cancelled,
        )
        return msgspec.structs.replace(outcome, result=self._kept(given, output) or None)

    def _kept(self, given: Any, output: IO[bytes]) -> Any:  # noqa: ARG002
        """The command's output, as the result of a row."""
        return output_head(output)

    def _argv(self, given: Any) -> list[str]:
        return self._template.fill(given)

    def _variables(self, given: Any) -> Environment:
        texts = (given.id, given.idempotency_key, str(given.attempts), str(claim_of(given)))
        return processes.variables(dict(zip(ROW_VARIABLES, texts, strict=True)))

    def _input(self, given: Any) -> bytes:
        return encode_json(given.data) + b"\n"

    def _start(
        self, given: Any, argv: list[str], stdin: Any, output: IO[bytes], errors: IO[bytes]
    ) -> Process | Outcome:
        environment = self._environment | self._variables(given)
        try:
            return processes.start(argv, environment, stdin=stdin, stdout=output, stderr=errors)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and processes.is_lack_of_resources(error):
                raise storage_error(Path(argv[0]), "start", error) from error
            return failed(*unstarted_error(argv[0], error))

    def _wait(self, running: _Running, process: Process) -> None:
        """Wait until the command has ended.

        After a cancelled command has ended, kill all processes that it has started.
        """
        with self._lock:
            running.process = process
            if running.is_cancelled:  # while the command was being started
                process.end(force=running.is_forced)
        process.wait()
        with self._lock:
            running.process = None
            if running.is_cancelled:
                process.end(force=True)

    def _open_input(self, given: Any, files: contextlib.ExitStack) -> IO[bytes] | int:
        """Open a file as the command's input.

        Pipes aren't used. A pipe would need a thread, and the write would fail if the command
        didn't read the pipe.
        """
        if not self._stdin_json:
            return subprocess.DEVNULL
        file = temporary_file(files)
        with refusals_of(Path(tempfile.gettempdir()), "write to"):
            line = memoryview(self._input(given))
            while line:  # an unbuffered write may write only a part
                line = line[file.write(line) :]
            file.seek(0)
        return file


class _Running(msgspec.Struct):
    """A command that runs or will run. ``is_forced``: whether it was cancelled by force."""

    process: Process | None = None
    is_cancelled: bool = False
    is_forced: bool = False


def temporary_file(files: contextlib.ExitStack) -> IO[bytes]:
    with refusals_of(Path(tempfile.gettempdir()), "use"):
        return files.enter_context(tempfile.TemporaryFile(buffering=0))


def unstarted_error(program: str, error: OSError | ValueError) -> tuple[str, str]:
    """The error code and message of a command that can't be started."""
    if not isinstance(error, OSError):  # a NUL byte in an argument
        return "126", f"{program}: {error}"
    # The program or its interpreter doesn't exist or isn't executable, or the arguments are too
    # long.
    code = "127" if isinstance(error, FileNotFoundError) else "126"
    return code, f"{program}: can't be started: {error.strerror}"


def _message(status: int, errors: IO[bytes]) -> str:
    text = _part(errors, max(0, _size(errors) - MESSAGE_CHARACTERS), MESSAGE_CHARACTERS).strip()
    code = processes.status_code(status)
    what = f"exit status {code}" if status > 0 else f"killed by {code}"
    return text[-MESSAGE_CHARACTERS:] or what  # escaped bytes take several characters


def output_head(output: IO[bytes]) -> str:
    more = _size(output) - RESULT_BYTES
    text = _part(output, 0, RESULT_BYTES)
    return _cut_off(text, more) if more > 0 else text.removesuffix("\n").removesuffix("\r")


def output_lines(output: IO[bytes]) -> Iterator[tuple[str, bool]]:
    """Yield each line of an output, and whether the line was cut off after 1 MiB.

    The output may have any length. Only a line feed ends a line: JSON text may contain the other
    characters at which Python splits lines.
    """
    reader = io.BufferedReader(_FromStart(output), 1 << 16)
    while line := reader.readline(RESULT_BYTES):
        more, part = 0, line
        while not part.endswith(b"\n") and (part := reader.readline(RESULT_BYTES)):
            more += len(part.rstrip(b"\n"))
        text = _text(line.removesuffix(b"\n"))
        yield (_cut_off(text, more), True) if more else (text, False)


class _FromStart(io.RawIOBase):
    """Reads a file from its beginning to its present end.

    The position of the file itself doesn't change, because the writing processes use this position.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._at, self._end = file, 0, _size(file)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = system.os.pread(
            self._file.fileno(), min(len(buffer), self._end - self._at), self._at
        )
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


def _cut_off(text: str, more: int) -> str:
    return f"{text}\n[{more} more bytes of output were not kept]"


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _part(file: IO[bytes], start: int, length: int) -> str:
    return _text(system.os.pread(file.fileno(), length, start))


def _text(output: bytes) -> str:
    return output.decode(errors="backslashreplace").replace("\r\n", "\n")


# --- whether a program can be started at all


def check_program(program: str) -> None:
    """Raise InvalidValueError if the program doesn't exist: all rows would fail."""
    path = processes.find_program(program)
    if path is not None:
        _check_script(path, program)
        return
    first, _, rest = program.partition(" ")
    if rest and processes.find_program(first) is not None:
        why = "the quotes make one word of the command, and this word is taken as the name of a program"
        reason = f"{why}: write -- {program}"
        if _SHELL_SIGNS.search(program):  # a value in the script would be run as code
            reason = f"{why}: after --, write {shell.A_SCRIPT} with each column as an argument"
    elif "{" in program:
        return
    elif os.path.isfile(program) and os.path.dirname(program):
        reason = processes.why_not_started(program)
    elif os.path.isfile(program):
        why = "there is no such program on PATH: if you mean the file in this directory"
        reason = f"{why}, write ./{program}"
    else:
        reason = "there is no such program: check its name, or give its path"
    raise InvalidValueError("COMMAND", program, reason)


def _check_script(path: str, program: str) -> None:
    """Raise InvalidValueError for a script whose interpreter has a CR at the end of its name."""
    try:
        with open(path, "rb") as file:
            line = file.readline(200)
    except OSError:
        return
    if line.startswith(b"#!") and line.endswith(b"\r\n"):
        reason = "the script has line ends of Windows, so its first line names no program: convert the script, by "
        raise InvalidValueError("COMMAND", program, reason + f"sed -i 's/\\r$//' {path}")

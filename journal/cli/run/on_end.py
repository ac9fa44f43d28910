"""Runs the command of ``--on-end`` when a run has ended, and gives it the summary as JSON."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import msgspec

from journal.cli.run.subprocesses import temporary_file
from journal.errors import InvalidValueError, JournalError
from journal.fs import shell
from journal.run.held_job import RunReport
from journal.run.platform import processes
from journal.run.platform.processes import Process
from journal.run.signals import stopping_signals
from journal.text import encode_json

TIME_LIMIT_S = 60.0  # for the command, which is then terminated
_GRACE_S = 5.0  # after that, until the command is killed


_OPERATOR = re.compile(r"[<>|&;]+")


def parse_command(text: str) -> list[str]:
    """Split a command into words, as a shell does.

    Raises InvalidValueError if the text can't be split, has no words, or has one of ``<>|&;``
    outside of quotes. Only a shell interprets these.
    """
    try:
        words = shell.split(text)
    except ValueError as error:
        raise InvalidValueError("--on-end", text, f"can't be split into words: {error}") from None
    operator = _OPERATOR.search(shell.outside_of_quotes(text))
    if operator is not None:
        raise InvalidValueError(
            "--on-end",
            text,
            f"has {operator[0]!r} outside of quotes, but no shell is involved: quote it, or write "
            f"{shell.A_SCRIPT}",
        )
    if not words:
        raise InvalidValueError("--on-end", text, "must be a command")
    return words


def event_of(report: RunReport) -> str:
    """What happened to the job, in one word.

    "end": the job has ended. "halt": the run ended early, and ``report.reason`` says why.
    "pause": a signal, a person or another process has paused the job.
    """
    if report.job.status.is_ended:
        return "end"
    return "halt" if report.reason is not None else "pause"


def summary_of(report: RunReport, exit_code: int) -> dict[str, Any]:
    """The input of the command: the event, the counts of the run, and all fields of the job."""
    own = {"event": event_of(report), "exit_code": exit_code}
    return own | msgspec.structs.asdict(report)


def run_on_end(
    argv: list[str],
    directory: Path,
    report: RunReport,
    exit_code: int,
    warn: Callable[[str], object],
    *,
    time_limit_s: float = TIME_LIMIT_S,
) -> None:
    """Run the command and wait for its end. Any failure is reported as a warning.

    After ``time_limit_s`` seconds, or a signal such as Ctrl-C, the command is ended with all
    processes that it has started. The command's output goes to standard error.
    """
    command = _Command()
    try:
        with contextlib.ExitStack() as files, stopping_signals(command.stop):
            stdin = temporary_file(files)
            stdin.write(encode_json(summary_of(report, exit_code)) + b"\n")
            stdin.seek(0)
            ended = command.run(argv, stdin, directory, time_limit_s)
    except (OSError, ValueError, JournalError) as error:
        warn(f"the command of --on-end could not be run: {error}")
    else:
        if ended:
            warn(f"the command of --on-end {ended}")


class _Command:
    """One command. The first signal asks the command to end. The second signal ends it by force."""

    def __init__(self) -> None:
        self._stops = 0
        self._process: Process | None = None

    def stop(self, _number: int) -> None:
        self._stops += 1
        if self._process is not None:
            self._process.end(force=self._stops > 1)

    def run(self, argv: list[str], stdin: IO[bytes], directory: Path, time_limit_s: float) -> str:
        """Run the command. Returns text that says what went wrong; "" if nothing did."""
        environment = processes.environment() | processes.variables({"JOURNAL_JOB": str(directory)})
        process = processes.start(argv, environment, stdin=stdin, stdout=2, stderr=2)
        self._process = process
        try:
            if self._stops:  # the signal came during the start
                process.end(force=False)
            is_over = process.wait(time_limit_s)
            if not is_over:
                process.end(force=False)
                process.wait(_GRACE_S)
            if self._stops or not is_over:
                process.end(force=True)  # the other processes of its group
                process.wait()
        finally:
            self._process = None
        status = process.close()
        if not is_over:
            return f"was ended after {time_limit_s:g} s"
        if self._stops:
            return "was interrupted"
        code = processes.status_code(status)
        return f"failed: {f'exit status {code}' if status > 0 else code}" if status else ""

"""Runs the command of ``--on-end`` when a run has ended, and gives it the summary as JSON."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from journal.cli.run.subprocesses import temporary_file
from journal.errors import InvalidValueError, JournalError
from journal.model import TERMINAL_STATUSES
from journal.run.held_job import RunReport
from journal.run.signals import stopping_signals
from journal.text import encode_json

TIME_LIMIT_S = 60.0  # for the command; then it is terminated
_GRACE_S = 5.0  # between SIGTERM and SIGKILL


_QUOTED = re.compile(r"""'[^']*'|"(?:[^"\\]|\\.)*"|\\.""", re.DOTALL)
_OPERATOR = re.compile(r"[<>|&;]+")


def parse_command(text: str) -> list[str]:
    """Split a command into words, as a shell does. Raises InvalidValueError.

    Characters that only a shell interprets are refused.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidValueError("--on-end", text, f"can't be split into words: {error}") from None
    operator = _OPERATOR.search(_QUOTED.sub("", text))
    if operator is not None:
        raise InvalidValueError(
            "--on-end",
            text,
            f"has {operator[0]!r} outside of quotes, but no shell is involved: quote it, or write "
            "sh -c '...'",
        )
    if not words:
        raise InvalidValueError("--on-end", text, "must be a command")
    return words


def event_of(report: RunReport) -> str:
    """What happened to the job, in one word.

    "end": it has ended. "halt": the run ended early, for a reason. "pause": a person or another
    process paused it.
    """
    if report.job.status in TERMINAL_STATUSES:
        return "end"
    return "halt" if report.reason is not None else "pause"


def summary_of(report: RunReport, exit_code: int) -> dict[str, Any]:
    """The input of the command: the event, the counts of the run, and all fields of the job."""
    return {
        "event": event_of(report),
        "reason": report.reason,
        "signal": report.signal,
        "exit_code": exit_code,
        "started": report.started,
        "completed": report.completed,
        "failed": report.failed,
        "skipped": report.skipped,
        "problems": report.problems,
        "elapsed_s": report.elapsed_s,
        "job": report.job,
    }


def run_on_end(
    argv: list[str],
    directory: Path,
    report: RunReport,
    exit_code: int,
    warn: Callable[[str], object],
    *,
    time_limit_s: float = TIME_LIMIT_S,
) -> None:
    """Run the command and wait for its end. A failure of any kind is a warning.

    The command leads a session of its own. After ``time_limit_s`` seconds, or a signal such as
    Ctrl-C, it is ended with all processes of its group. Its output goes to standard error.
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
    """One command, which a signal ends: the first by SIGTERM, the second by SIGKILL."""

    def __init__(self) -> None:
        self._stops = 0
        self._process: subprocess.Popen[bytes] | None = None

    def stop(self, _number: int) -> None:
        self._stops += 1
        self._signal(signal.SIGTERM if self._stops == 1 else signal.SIGKILL)

    def run(self, argv: list[str], stdin: IO[bytes], directory: Path, time_limit_s: float) -> str:
        """Return what went wrong, as text; "" if nothing did."""
        process = self._process = subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=2,
            env={**os.environb, b"JOURNAL_JOB": os.fsencode(directory)},
            start_new_session=True,
        )
        if self._stops:  # while it was being started
            self._signal(signal.SIGTERM)
        try:
            status = process.wait(time_limit_s)
        except subprocess.TimeoutExpired:
            self._end(process)
            return f"was ended after {time_limit_s:g} s"
        if self._stops:
            self._signal(signal.SIGKILL)  # the rest of its group
            return "was interrupted"
        if status:
            what = f"exit status {status}" if status > 0 else signal.Signals(-status).name
            return f"failed: {what}"
        return ""

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
        self._signal(signal.SIGKILL)
        process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

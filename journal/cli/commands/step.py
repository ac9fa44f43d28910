"""`journal step`: runs one side effect of a row, or of the rows of a call with many rows.

The command of `journal run` contains `journal step`.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import click
import msgspec
from click.core import ParameterSource

from journal.cli.output import data_stream, echo_err
from journal.cli.run.subprocesses import output_head, temporary_file, unstarted_error
from journal.errors import InvalidValueError, JournalError, StepInDoubtError
from journal.ids import id_of_directory, root_of
from journal.run.exit_codes import EXIT_OK
from journal.run.platform import processes
from journal.run.signals import SHARED_SIGNALS, stopping_signals
from journal.run.workers.steps import CallSteps, RowSteps
from journal.service import JobService
from journal.text import as_text

_PART_BYTES = 1 << 16
_OF_A_ROW = ("JOURNAL_JOB", "JOURNAL_ROW_ID", "JOURNAL_ATTEMPT", "JOURNAL_CLAIM")
_OF_A_CALL = ("JOURNAL_JOB", "JOURNAL_CALL", "JOURNAL_CLAIM")


@click.command("step", short_help="Run a side effect of a row. No later attempt repeats it.")
@click.argument("name")
@click.argument("command", metavar="-- COMMAND...", nargs=-1, required=True)
@click.option(
    "--idempotent",
    is_flag=True,
    help="COMMAND may be repeated if nobody knows whether it took effect. The step's start isn't "
    "recorded, which saves a commit.",
)
@click.pass_context
def step_command(ctx: click.Context, name: str, command: tuple[str, ...], idempotent: bool) -> int:
    """Run COMMAND as the step NAME of a row. Use `journal step` inside the command of `journal
    run`.

    With `journal run -n`, the step belongs to all rows of the command, and these rows stay together
    from then on.

    The start and the result are recorded in the job. The result is the standard output of COMMAND,
    up to 1 MiB, without its last line end. The result is first recorded, and then printed. If the
    step was done in an earlier attempt, COMMAND isn't run, and the recorded result is printed.

    If COMMAND exits with a status other than 0, the step has failed, and `journal step` exits with
    the same status. A later attempt may run COMMAND again.

    A step is in doubt if nobody knows whether it took effect. For example, COMMAND is killed by a
    signal, dies with the machine, or exits with a status that stands for a signal, such as 137. The
    step is also in doubt if `journal step` itself gets a signal, for example at a timeout, and
    COMMAND doesn't exit with status 0. The row then needs a review, and `journal resolve --step`
    settles the step.

    COMMAND gets the environment variables of `journal run`, and JOURNAL_STEP_KEY, the idempotency
    key of this step.

    If the step has been in doubt since an earlier attempt, COMMAND isn't run, and the exit code is
    4. The same is true if the present attempt has already ended: its run has died, or has given up
    the attempt. If the present attempt has already done a step called NAME, COMMAND isn't run, the
    exit code is 2, and the row needs a review.

    In a shell script: id=$(journal step charge -- ./charge "$order") || exit

    Example: journal step charge -- ./charge A-7
    """
    if ctx.find_root().get_parameter_source("root") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--root can't be given: the job is that of `journal run`")
    child = _Child()
    with contextlib.ExitStack() as stack:
        service, of = _steps_of_environment(stack)
        output = temporary_file(stack)  # if this fails, the step hasn't begun
        stack.enter_context(stopping_signals(child.forward))
        try:
            done = of.begin_step(service, name, idempotent=idempotent)
        except StepInDoubtError as error:
            since = f"is in doubt since attempt {error.attempt}"
            echo_err(f"journal: step {name!r} {since}, so its command was not run")
            return error.exit_code
        if done is not None:
            _print_result(done.result)
            return EXIT_OK
        if child.signals:
            why = "it came before the command was started"
            of.end_step(service, name, error=(processes.status_code(-child.signals[0]), why))
            return 128 + child.signals[0]
        try:
            key = of.key(service, name)
            status = child.run(command, output, os.environ | {"JOURNAL_STEP_KEY": key})
        except (OSError, ValueError) as error:
            code, message = unstarted_error(command[0], error)
            of.end_step(service, name, error=(code, message))
            echo_err(f"journal: {message}")
            return int(code)
        if status == 0:
            return _end(service, of, name, output_head(output))
        if not processes.is_of_signal(status) and not child.signals:
            of.end_step(service, name, error=(str(status), f"exit status {status}"))
        elif not idempotent:
            what = (
                f"was killed by {processes.status_code(status)}"
                if status < 0
                else f"ended with {status}"
            )
            if child.signals and status > 0:
                what += f" after {processes.status_code(-child.signals[0])}"
            echo_err(f"journal: step {name!r} is in doubt, because its command {what}")
        output.seek(0)
        for part in iter(lambda: output.read(_PART_BYTES), b""):
            data_stream(is_json=False).write(part)
        return processes.exit_code(status)


def _end(service: JobService, of: RowSteps | CallSteps, name: str, result: str) -> int:
    """Record that the step is done, then print its result. Returns the exit code."""
    try:
        of.end_step(service, name, result)
    except JournalError as error:
        echo_err(
            f"journal: step {name!r} is done, but its result could not be recorded ({error}); "
            f"the result: {result!r}"
        )
        return error.exit_code
    _print_result(result)
    return EXIT_OK


def _print_result(result: Any) -> None:
    text = as_text(result)
    if text:
        data_stream(is_json=False).write(text.encode() + b"\n")


class _Child:
    """The command of the step. Signals that would end this process are passed on to the command.

    This process must not end first, because it records how the command ends.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.signals: list[int] = []  # the received signals, which may have ended the command

    def run(self, argv: Sequence[str], output: IO[bytes], environment: dict[str, str]) -> int:
        """Start the command, and wait for its end. Returns its exit status, or -SIGNAL.

        Raises OSError and ValueError if the command can't be started.
        """
        program, line = processes.command_line(argv)
        # The command inherits descriptors, as from a shell.
        process = subprocess.Popen(
            line, executable=program, stdout=output, env=environment, close_fds=False
        )
        self._process = process  # from now on forward() sends the signals
        for number in tuple(self.signals):
            process.send_signal(number)
        return processes.wait(process)

    def forward(self, number: int) -> None:
        self.signals.append(number)
        # Ctrl-C on a terminal reaches the command too.
        if self._process is not None and number not in SHARED_SIGNALS:
            self._process.send_signal(number)


def _number(values: dict[str, str], variable: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", values[variable]):
        raise InvalidValueError(variable, values[variable], "is not a number")
    return int(values[variable])


def _steps_of_environment(stack: contextlib.ExitStack) -> tuple[JobService, RowSteps | CallSteps]:
    """The steps of the row or call that the environment variables name, and the service of the job.

    The command of the row has started this process. When ``stack`` is closed, it closes the job.
    """
    is_call = "JOURNAL_CALL" in os.environ
    variables = _OF_A_CALL if is_call else _OF_A_ROW
    values = {variable: os.environ.get(variable, "") for variable in variables}
    missing = [variable for variable, value in values.items() if not value]
    if missing:
        raise click.UsageError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set: use "
            "`journal step` inside the command of `journal run`"
        )
    directory = Path(values["JOURNAL_JOB"])
    service = stack.enter_context(JobService(root_of(directory)))
    job_id = id_of_directory(directory)
    if is_call:
        try:
            of: RowSteps | CallSteps = CallSteps.from_text(job_id, values["JOURNAL_CALL"])
        except msgspec.DecodeError as error:
            given = values["JOURNAL_CALL"]
            raise InvalidValueError("JOURNAL_CALL", given, str(error)) from None
    else:
        row_id = values["JOURNAL_ROW_ID"]
        if service.store.locate(row_id)[0] != job_id:
            raise InvalidValueError("JOURNAL_ROW_ID", row_id, f"is not a row of {directory}")
        attempt = _number(values, "JOURNAL_ATTEMPT")
        of = RowSteps(row_id, attempt, os.environ.get("JOURNAL_IDEMPOTENCY_KEY", row_id))
    claim = _number(values, "JOURNAL_CLAIM")
    if claim:
        service.store.runs.work_for(job_id, claim)
    return service, of

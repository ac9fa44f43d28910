"""Finds the job or shard of a start, by a path, an index and a count, or a scheduler's variable."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from journal.errors import InvalidValueError, RefusedError
from journal.fs.file_names import JOURNAL_NAME
from journal.ids import is_job_id, slug, split_shard_name
from journal.model import Shard

# The variables with the number of a task. Each line has the variables of one scheduler.
VARIABLES = (
    ("SLURM_ARRAY_TASK_ID",),
    ("JOB_COMPLETION_INDEX",),  # of Kubernetes
    ("AWS_BATCH_JOB_ARRAY_INDEX",),
    ("CLOUD_RUN_TASK_INDEX",),
    ("HQ_TASK_ID",),  # of HyperQueue
    ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "RANK"),  # of MPI and torchrun
)
_NO_NUMBER = "4294967294"  # Slurm sets this number in a task outside of an array
# The variables that count how often a task was started, and the first value after a restart.
RESTARTS = {"SLURM_RESTART_COUNT": 1, "CLOUD_RUN_TASK_ATTEMPT": 1, "AWS_BATCH_JOB_ATTEMPT": 2}
_FORM = "must be '3/64', 'auto/64' or 'VARIABLE/64', or in Python (3, 64): an index and a count"


def job_directory(path: str | os.PathLike[str]) -> Path:
    """Return the directory of a job or set, as an absolute path. Raises InvalidValueError."""
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise InvalidValueError("path", path, "must be the path of a job, such as 'jobs/ship-ca'")
    directory = Path(path).absolute()
    if os.path.lexists(directory.parent / JOURNAL_NAME):
        reason = f"is inside of the job {str(directory.parent)!r}: jobs lie side by side"
        raise InvalidValueError("path", os.fspath(path), reason)
    if not is_job_id(directory.name):
        reason = f"must end in a job's id: a-z 0-9 . _ -, such as {slug(directory.name)!r}"
        if found := split_shard_name(directory.name):
            reason = f"is a shard: give {str(directory.parent)!r} and shard={found}"
        raise InvalidValueError("path", os.fspath(path), reason)
    return directory


def chosen_shard(given: Any, where: str = "shard") -> Shard:
    """Return the shard for (3, 64), "3/64", "auto/64" or "VARIABLE/64". The result has no key.

    Raises InvalidValueError.
    """
    match given:
        case (int() as index, int() as count) if bool not in (type(index), type(count)):
            pass
        case str() if match := re.fullmatch(r"(\w+)/([0-9]{1,7})", given, re.ASCII):
            word, count = match[1], int(match[2])
            if word == "auto":
                index = _task(where, given) % max(count, 1)
            else:
                index = int(word) if word.isdecimal() else _number(word, where)
        case _:
            raise InvalidValueError(where, given, _FORM)
    try:
        return Shard(int(index), int(count))  # a subclass can't be recorded
    except InvalidValueError as error:
        raise InvalidValueError(where, given, f"{error.reason}, not {index}/{count}") from None


def task_variables() -> list[list[str]]:
    """The variables that are set in this process. Each scheduler has a list of its own."""
    none = (None, "", _NO_NUMBER)
    found = ([name for name in names if os.environ.get(name) not in none] for names in VARIABLES)
    return [names for names in found if names]


def with_variable(argv: list[str], given: Any) -> list[str]:
    """The words that start this program by hand, with the variable of the index.

    ``given``: the argument of :func:`chosen_shard`.
    """
    word = given.partition("/")[0] if isinstance(given, str) else ""
    name = task_variables()[0][0] if word == "auto" else word
    value = os.environ.get(name)
    return argv if value is None or not argv else ["env", f"{name}={value}", *argv]


def _task(where: str, given: str) -> int:
    """Return the number of this task. Raises InvalidValueError if the number isn't certain."""
    every = task_variables()
    numbers = {_number(name, where) for names in every for name in names}
    if len(every) == 1 and len(numbers) == 1:
        return numbers.pop()
    names = [name for names in every for name in names]
    count = given.partition("/")[2]
    if not names:
        known = ", ".join(name for names in VARIABLES for name in names)
        by_hand = f"by hand, set {VARIABLES[0][0]}=0, or give 0/{count}, to start shard 0"
        empty = "or the array was empty: nothing is open"
        reason = f"finds no number of this task: none of {known} is set, {empty}; {by_hand}"
    else:
        reason = (
            f"several numbers are set ({', '.join(names)}): name one, such as {names[0]}/{count}"
        )
    raise InvalidValueError(where, given, reason)


def _number(variable: str, where: str) -> int:
    text = os.environ.get(variable, "")
    if not re.fullmatch("[0-9]{1,9}", text):
        reason = f"the variable {variable} must be set to a number from 0"
        raise InvalidValueError(where, text, reason)
    return int(text)


def check_not_restarted(job_id: str, how: str) -> None:
    """Raise RefusedError if the scheduler has restarted this task. The caller has found no job.

    ``how``: text that says how to make the job nevertheless.
    """
    for name, first in RESTARTS.items():
        text = os.environ.get(name, "")
        if text.isdecimal() and int(text) >= first:
            raise RefusedError(
                f"{job_id}: {name} is {text}, so this task was started before, and there is no such "
                "job here: its rows may be done already, in a job on a disk that is gone or not "
                f"mounted; to do all of them anew: {how}"
            )

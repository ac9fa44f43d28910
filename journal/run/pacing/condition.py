"""The condition that chooses the rows of a run: ``where``."""

from __future__ import annotations

import re
from typing import Any

from journal.errors import InvalidValueError
from journal.model import FoundRow, Job
from journal.run.plan import HowTo, Where
from journal.service import JobService
from journal.text import counted


def check_where(where: Any) -> None:
    """Raise InvalidValueError if ``where`` is neither None nor callable."""
    if where is not None and not callable(where):
        raise InvalidValueError("where", where, "must be a function of a row, or None")


class Chosen:
    """The pending rows that meet the condition of a run.

    A row that doesn't meet the condition is passed over, and isn't checked again in this run. So a
    search for rows that other processes have made pending is cheap, even among a million rows.
    """

    def __init__(self, service: JobService, job_id: str, where: Where | None) -> None:
        self._service = service
        self._job_id = job_id
        self._where = where
        self._passed_over = bytearray()  # by position: 1 if the row was passed over
        self.left = 0  # pending rows that the latest search has passed over

    def __bool__(self) -> bool:
        """Whether there is a condition."""
        return self._where is not None

    def begin_search(self) -> None:
        """Call this before all pending rows are searched again from the first."""
        self.left = 0

    def has(self, found: FoundRow, *, again: bool) -> bool:
        """Return whether a row meets the condition.

        ``again``: the row was found before in the same search.
        """
        if self._where is None:
            return True
        at = found.position
        if at >= len(self._passed_over):
            self._passed_over.extend(bytes(at + 1 - len(self._passed_over)))
        if self._passed_over[at]:
            self.left += not again
            return False
        row = self._service.get_row(f"{self._job_id}:{found.row_number}")
        if row is not None and self._where(row):
            return True
        self._passed_over[at] = 1
        self.left += 1
        return False


_WORD = re.compile(r"""\s*(?:[^\s'"]|'[^']*'|"[^"]*")+""")  # a word of a command line


def left_open(job: Job, how_to: HowTo) -> str:
    """The message of a run that ends because no open row meets the run's condition."""
    rows = counted(job.pending_count, "row|rows stays|stay open")
    return f"{rows}, because of {how_to.argument('where')}"


def command_for_rest(command: str, reason: str | None) -> str:
    """The command line that continues a job. ``reason``: why its last run has ended early, or "".

    If the last run has ended because none of the rows left meets the run's condition, the condition
    is removed from the command. With the condition, the command would start no row.
    """
    if not (reason or "").endswith(", because of `--where`"):
        return command
    kept = []
    words = iter(_WORD.findall(command))
    for word in words:
        if word.strip() == "--":  # the words after it are the command for a row
            kept += [word, *words]
        elif word.strip() == "--where":
            next(words, None)
        else:
            kept.append(word)
    return "".join(kept)


def command_with(command: str, option: str) -> str:
    """The command line of a `journal run` with one more option, such as ``--on-changed retry``."""
    words = _WORD.findall(command)
    place = next((n for n, word in enumerate(words) if word.strip() == "--"), len(words))
    head, tail = "".join(words[:place]), "".join(words[place:])
    return command if f" {option} " in f"{head} " else f"{head} {option}{tail}"

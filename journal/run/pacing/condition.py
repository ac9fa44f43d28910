"""The condition that chooses the rows of a run: ``where``."""

from __future__ import annotations

from collections.abc import Sequence

from journal.fs import shell
from journal.ids import row_id_of
from journal.model import EarlyEnd, Job, Run
from journal.run.plan import Where
from journal.run.signals import OwnProcess
from journal.service import JobService
from journal.store.rows import FoundRow
from journal.text import counted


class Chosen:
    """The pending rows that meet the condition of a run.

    A row that doesn't meet the condition is passed over, and isn't checked again in this run. So a
    search for rows that other processes have made pending is cheap, even among a million rows.
    """

    def __init__(self, service: JobService, job_id: str, where: Where | None) -> None:
        self._service = service
        self._job_id = job_id
        self._where = where
        self._own_process = OwnProcess()  # no process that the function forks is a second driver
        self._passed_over = bytearray()  # by position: 1 if the row was passed over
        self.left = 0  # pending rows that the latest search has passed over

    def __bool__(self) -> bool:
        """Whether there is a condition."""
        return self._where is not None

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
        row = self._service.get_row(row_id_of(self._job_id, found.row_number))
        with self._own_process:
            if row is not None and self._where(row):
                return True
        self._passed_over[at] = 1
        self.left += 1
        return False


def left_open(job: Job) -> EarlyEnd:
    """The end of a run because no open row meets the run's condition."""
    rows = counted(job.pending_count, "row|rows stays|stay open")
    return EarlyEnd("where", f"{rows}, since the run is for others")


CHOOSING = ("--row", "--where")  # options of `journal run`, each with a value


def before_command(words: Sequence[str]) -> int:
    """The place in the words of a `journal run` where its options end: at ``--``."""
    return words.index("--") if "--" in words else len(words)


def words_for_rest(run: Run) -> list[str]:
    """The words that continue a job after ``run``.

    If none of the rows left meets the run's condition, the condition is removed from a `journal
    run`. With the condition, it would start no row.
    """
    words = list(run.argv)
    if run.is_command and run.ended_early is not None and run.ended_early.kind == "where":
        for option in CHOOSING:
            while option in words[: before_command(words)]:
                place = words.index(option)
                del words[place : place + 2]
    return words


def line_for_rest(run: Run | None) -> str:
    """The line to paste that continues a job: see :func:`words_for_rest`. "" if none is known."""
    if run is None or not run.argv:
        return ""
    return shell.in_directory(run.directory, words_for_rest(run))

"""Records the steps of a row, or of a call with many rows, for a worker.

A call is recorded itself when its first step begins, or is asked for its key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from journal.errors import InvalidValueError, StepRepeatedError
from journal.format.arguments import check_step_name
from journal.format.idempotency import step_key
from journal.format.values import read_back
from journal.model import RowStep
from journal.service import JobService
from journal.store import calls
from journal.store.journal import Journal
from journal.store.rows import position_of


class Turn(NamedTuple):
    """A turn of a call that is recorded: see ``store/calls.py``."""

    id: Annotated[int, msgspec.Meta(ge=0)]
    number: int


# A call as text: its turn, and ranges of rows with the number of their attempt.
_Ranges = Annotated[list[tuple[int, int, int]], msgspec.Meta(min_length=1)]
_Text = tuple[Turn | None, _Ranges]


class RowSteps(NamedTuple):
    """Records the steps of an attempt at a row. ``key_of_row``: the row's idempotency key."""

    row_id: str
    attempt: int
    key_of_row: str

    def key(self, _service: JobService, name: str) -> str:
        return step_key(self.key_of_row, name)

    def begin_step(self, service: JobService, name: str, **options: Any) -> RowStep | None:
        return service.begin_step(self.row_id, self.attempt, name, **options)

    def end_step(self, service: JobService, name: str, result: Any = None, **options: Any) -> Any:
        return service.end_step(self.row_id, self.attempt, name, result, **options)


class CallSteps:
    """Records the steps of a call with many rows. Threads may share it.

    - ``job_id``: the job of the rows. ``attempts``: the number of each row and of its attempt, in the
      order of the call.
    - ``turn``: None until the call is recorded.
    """

    def __init__(
        self, job_id: str, attempts: Sequence[tuple[int, int]], turn: Turn | None = None
    ) -> None:
        self.job_id, self.attempts, self.turn = job_id, attempts, turn
        self._first = threading.Lock()  # held while the call is recorded

    def __reduce__(self) -> tuple[Any, ...]:
        return CallSteps, (self.job_id, self.attempts, self.turn)

    def key(self, service: JobService, name: str) -> str:
        """The idempotency key of a step. Records the call."""
        turn, id_of_rows = self._change(service, lambda journal, _turn: journal.id_of_rows)
        return step_key(f"{id_of_rows}:call-{turn.id:016x}", name)

    def begin_step(self, service: JobService, name: str, **options: Any) -> RowStep | None:
        """Record that a step begins: as :meth:`JobService.begin_step`. Also records the call."""
        check_step_name(name)
        begin = calls.begin_step
        step: RowStep | None
        _, step = self._change(service, lambda log, turn: begin(log, *turn, name, **options))
        return step

    def end_step(self, service: JobService, name: str, result: Any = None, **options: Any) -> Any:
        """Record the end of a step: as :meth:`JobService.end_step`. ``result``: a JSON value."""
        rows = [row for row, _ in self.attempts]
        end, given = calls.end_step, (rows, name)
        _, other = self._change(
            service,
            lambda log, turn: end(log, *turn, *given, result=result, **options),
            is_end=True,
        )
        if other is not None:
            raise StepRepeatedError(
                f"{self.job_id}:{rows[0]}", name, other.attempt, self.attempts[0][1]
            )
        return None if result is None else read_back(result)

    def _change(
        self, service: JobService, change: Callable[[Journal, Turn], Any], *, is_end: bool = False
    ) -> tuple[Turn, Any]:
        """Record the call, if need be, and make a change, in one commit."""

        def change_of_call(journal: Journal) -> tuple[Turn, Any]:
            turn = self.turn or self._turn(journal)
            return turn, change(journal, turn)

        journal = service.store.journal(self.job_id)
        if journal.in_own_commit and not is_end:
            raise InvalidValueError("batch", self.job_id, "is open: end it before a step begins")
        if self.turn is not None:
            return journal.change(change_of_call)
        with self._first:
            turn, value = journal.change(change_of_call)
            self.turn = turn
        return turn, value

    def _turn(self, journal: Journal) -> Turn:
        """The first turn of the call. A command records it in the first of its processes that asks.

        So a call that was never resumed, and has these attempts in progress, is this one.
        """
        known = calls.call_of_row(journal, self.attempts[0][0])
        if known is not None:
            columns, found = journal.index.columns, journal.index.calls[known.id]
            present = ((row, columns.attempts[position_of(journal, row)]) for row in known.open)
            if found.turn == found.first and set(present) <= set(self.attempts):
                return Turn(known.id, known.turn)
        call = calls.begin_call(journal, self.attempts)
        return Turn(call.id, call.turn)

    # --- as text, for the environment of a command

    def __str__(self) -> str:
        parts = list[list[int]]()
        for row, attempt in self.attempts:
            if parts and parts[-1][1:] == [row - 1, attempt]:
                parts[-1][1] = row
            else:
                parts.append([row, row, attempt])
        return msgspec.json.encode((self.turn, parts)).decode()

    @classmethod
    def from_text(cls, job_id: str, text: str) -> CallSteps:
        """Make the call of which ``text`` is the ``str``. Raises msgspec.DecodeError."""
        turn, parts = msgspec.json.decode(text, type=_Text)
        attempts = [(row, attempt) for a, b, attempt in parts for row in range(a, b + 1)]
        return cls(job_id, attempts, turn)

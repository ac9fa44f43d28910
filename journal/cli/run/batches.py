"""Commands that get many rows: ``journal run -n 50``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from journal.cli.run.outcomes import outcome_of_printed
from journal.cli.run.subprocesses import ROW_VARIABLES, CommandHandler, Commands
from journal.model import JobRow
from journal.run.handler import AttemptedRow
from journal.run.outcome import Outcome
from journal.run.workers.batches import Answer
from journal.text import counted, decode_json_exact, encode_json

_LEFT_OUT = "it printed no line for this row, whose work may be done"


class _Rows(NamedTuple):
    """The rows of a command. Its output is kept as that of the first row."""

    id: str
    row_number: int
    attempts: int
    rows: Sequence[JobRow]


class BatchCommands(Commands):
    """Runs a command for many rows: see :class:`Commands`.

    - An argument with a placeholder is repeated for each row.
    - With ``stdin_json``, the command gets a line of JSON for each row, with its number, id,
      idempotency key, attempt and data. The environment names no row.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for name in ROW_VARIABLES:  # of a command around this process
            self._environment.pop(name, None)

    def _argv(self, row: _Rows) -> list[str]:
        return self._template.fill_all(row.rows)

    def _variables(self, row: _Rows) -> dict[bytes, bytes]:  # noqa: ARG002
        return {}

    def _input(self, row: _Rows) -> bytes:
        return b"".join(
            encode_json(
                {
                    "row": one.row_number,
                    "id": one.id,
                    "idempotency_key": one.idempotency_key,
                    "attempt": one.attempts,
                    "data": one.data,
                }
            )
            + b"\n"
            for one in row.rows
        )


class BatchHandler:
    """The handler of a run with :class:`BatchCommands`, for ``run_batches``.

    The outcome of the command is that of each row. Its output is the result of the first row.

    With ``stdout_json``, the command prints a line of JSON for each row: an object as for one row,
    with the row's number as the member ``row``. Such a line is the outcome of its row, whatever the
    exit status. A row without a line needs a review if the exit status is 0.
    """

    def __init__(self, commands: BatchCommands, *, stdout_json: bool = False) -> None:
        self._has_lines = stdout_json
        self._handler: Any = CommandHandler(commands)
        self.cancel = self._handler.cancel

    def __call__(self, rows: list[AttemptedRow]) -> Answer:
        first, *others = rows
        batch = _Rows(first.id, first.row_number, first.attempts, [row.row for row in rows])
        outcome: Outcome = self._handler(batch)
        of_others = msgspec.structs.replace(outcome, result=None)
        if not self._has_lines:
            return Answer(
                {first.id: outcome} | dict.fromkeys((row.id for row in others), of_others)
            )
        by_row, rest = _outcomes_by_row(outcome.result, {row.row_number: row.id for row in rows})
        if outcome.kind != "completed":
            by_row = dict.fromkeys((row.id for row in rows), of_others) | by_row
        lines = counted(len(rest), "line|lines that names|name none of its rows")
        return Answer(by_row, rest, f"the command printed {lines}" if rest else "", _LEFT_OUT)


def _outcomes_by_row(
    text: str | None, ids: dict[int, str]
) -> tuple[dict[str, Outcome], dict[str, str]]:
    """The outcomes in the lines by row id, and the other lines by their place.

    A second line of the same row is among the others.
    """
    outcomes: dict[str, Outcome] = {}
    others: dict[str, str] = {}
    for place, line in enumerate((text or "").splitlines(), 1):
        number, printed = _read(line)
        row_id = ids.get(number) if type(number) is int else None
        if row_id is not None and row_id not in outcomes:
            outcomes[row_id] = outcome_of_printed(Outcome(kind="completed", result=printed))
        elif line.strip():
            others[f"line {place}"] = line
    return outcomes, others


def _read(line: str) -> tuple[Any, str]:
    """The row's number in a line, and the line without it; (None, "") if there is none."""
    try:
        value = decode_json_exact(line)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None, ""
    if not isinstance(value, dict):
        return None, ""
    number = value.pop("row", None)
    return number, encode_json(value).decode() if value else ""

"""Commands that get many rows: ``journal run -n 50``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any

import msgspec

from journal.cli.run.outcomes import outcome_of_printed, unread
from journal.cli.run.subprocesses import RESULT_BYTES, ROW_VARIABLES, Commands, output_lines
from journal.run.outcome import TWO_OUTCOMES, Outcome, with_sums
from journal.run.platform import processes
from journal.run.platform.processes import Environment
from journal.run.workers.handler import Answer, Batch, claim_of
from journal.text import counted, decode_json_exact, encode_json

CALL_VARIABLES = ("JOURNAL_CALL", "JOURNAL_CLAIM")
_MAX_CALL_CHARACTERS = 30_000  # variables on Windows can't be much longer
_LEFT_OUT = "it printed no line for this row"
_BYTES_OF_PLACE = 16  # in the result, for a line's number and quotes


class BatchCommands(Commands):
    """The handler of a run whose commands get many rows: see :class:`Commands`.

    - An argument with a placeholder is repeated for each row.
    - With ``stdin_json``, the command gets a line of JSON for each row, with the row's number, id,
      idempotency key, attempt and data.
    - The command has no environment variables about a row. JOURNAL_CALL names the rows for `journal
      step`.

    Each row gets the outcome of the command. The first row gets the command's output as its result.

    With ``stdout_json``, the command prints a line of JSON for each row. The line is the JSON
    object that a command for one row would print, with the additional member ``row``, the row's
    number. The line sets the outcome of its row, whatever the exit status is. A row without a line
    needs a review if the exit status is 0. A row with two lines always needs a review. If a line
    can't be converted, only its own row needs a review.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # if this process runs in a command of a run, remove the variables of that command
        for name in processes.variables(dict.fromkeys(ROW_VARIABLES + CALL_VARIABLES, "")):
            self._environment.pop(name, None)

    def _kept(self, given: Batch, output: IO[bytes]) -> Any:
        return _Printed(output, given) if self._stdout_json else super()._kept(given, output)

    def _argv(self, given: Batch) -> list[str]:
        return self._template.fill_all(given)

    def _variables(self, given: Batch) -> Environment:
        call = str(given.call)
        if len(call) > _MAX_CALL_CHARACTERS:
            return {}
        values = (call, str(claim_of(given[0])))
        return processes.variables(dict(zip(CALL_VARIABLES, values, strict=True)))

    def _input(self, given: Batch) -> bytes:
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
            for one in given
        )

    def __call__(self, rows: Batch) -> Answer:
        """Run the command of the rows until it ends. Returns the outcomes of the rows."""
        outcome = self._outcome(rows[0].id, rows)
        try:
            return self._answer(rows, outcome)
        except BaseException as error:  # noqa: BLE001  (the command has ended)
            return Answer(dict.fromkeys((row.id for row in rows), unread(error)))

    def _answer(self, rows: Batch, outcome: Outcome) -> Answer:
        first, *others = rows
        printed, of_others = outcome.result, msgspec.structs.replace(outcome, result=None)
        if not isinstance(printed, _Printed):
            return Answer(
                {first.id: outcome} | dict.fromkeys((row.id for row in others), of_others)
            )
        by_row = printed.outcomes()
        if outcome.kind != "completed" and not printed.cut_off:
            by_row = dict.fromkeys((row.id for row in rows), of_others) | by_row
        left_out = f"{_LEFT_OUT}, or one that was cut off" if printed.cut_off else _LEFT_OUT
        left_out = f"{left_out}, and its work may be done"
        kept = printed.others.kept
        return Answer(by_row, kept, printed.problem(), left_out, _outcomes(kept.values()))


class _Lines:
    """Printed lines: the first ones, up to about 1 MiB, and the number of further lines."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.more = 0
        self._room = RESULT_BYTES

    def __len__(self) -> int:
        return len(self.kept) + self.more

    def add(self, place: int, line: str) -> None:
        if self._room > 0:
            self.kept[f"line {place}"] = line
            self._room -= len(line) + _BYTES_OF_PLACE
        else:
            self.more += 1

    def not_kept(self) -> str:
        """A message about lines that are not kept, or ""."""
        return f", and {counted(self.more, 'of them was|were')} not kept" if self.more else ""


class _Printed:
    """The output of a command: the lines of each row, and the lines that belong to no row."""

    def __init__(self, output: IO[bytes], rows: Batch) -> None:
        self._by_row = {row.row_number: _Lines() for row in rows}
        self._ids = {row.row_number: row.id for row in rows}
        self.others = _Lines()
        self.cut_off = 0
        for place, (line, is_cut_off) in enumerate(output_lines(output), 1):
            self.cut_off += is_cut_off
            number, printed = (None, "") if is_cut_off else _read(line)
            if type(number) is int and number in self._by_row:
                self._by_row[number].add(place, printed)
            elif line.strip():
                self.others.add(place, line)

    def outcomes(self) -> dict[str, Outcome]:
        """A dict from a row's id to its outcome, for the rows that have a line."""
        return {
            self._ids[number]: _outcome(lines) for number, lines in self._by_row.items() if lines
        }

    def problem(self) -> str:
        """A message about lines that belong to no row, or ""."""
        if not self.others:
            return ""
        lines = counted(len(self.others), "line|lines that names|name none of its rows")
        cut_off = f", {self.cut_off} of them cut off after 1 MiB" if self.cut_off else ""
        return f"the command printed {lines}{cut_off}{self.others.not_kept()}"


def _outcome(lines: _Lines) -> Outcome:
    """The outcome of a row with these lines.

    With two or more lines, the row needs a review. The review has the costs of all kept lines.
    """
    outcomes = _outcomes(lines.kept.values())
    if len(lines) == 1:
        return outcomes[0]
    review = Outcome(
        kind="review",
        result=lines.kept,
        error_code=TWO_OUTCOMES,
        error_message=f"the command printed {len(lines)} lines for this row{lines.not_kept()}; see "
        "the result of this review",
    )
    return with_sums(review, outcomes)


def _outcomes(lines: Iterable[str]) -> list[Outcome]:
    return [outcome_of_printed(Outcome(kind="completed", result=line)) for line in lines]


def _read(line: str) -> tuple[Any, str]:
    """The row's number in a line of JSON, and the line without this number.

    Returns (None, "") if the line isn't a JSON object.
    """
    try:
        value = decode_json_exact(line)
    except Exception:  # noqa: BLE001  (the work is done, whatever the reason)
        return None, ""
    if not isinstance(value, dict):
        return None, ""
    number = value.pop("row", None)
    return number, encode_json(value).decode() if value else ""

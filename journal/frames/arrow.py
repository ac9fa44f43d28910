"""Makes an Arrow table of rows.

Each column has one Arrow type, which can hold all of the column's values:

- Booleans, integers (int64), text and times (timestamp in UTC, with microseconds) have types of
  their own.
- Floats are float64. In a column with floats, integers are float64, too, if all of them are from
  -2**53 to 2**53. A double represents each of these integers exactly.
- Objects and lists become JSON text.
- Integers beyond 64 bits, and values that have no common type, become JSON text. In such a column,
  text has quotes, so that ``json.loads`` returns each value.
"""

from __future__ import annotations

from array import array
from typing import Any

from journal.frames.collect import Options, Side, resolve
from journal.frames.columns import BOOL, EMPTY, FLOAT, INT, JOURNAL_COLUMNS, JSON, TEXT, TIME, Key
from journal.frames.dicts import read_row_by_row
from journal.frames.parts import Part, Parts, load_pyarrow
from journal.frames.scan import NEVER, Scan
from journal.history.reading import History
from journal.index.index import STATUSES
from journal.store.rows import RowSequence

_KINDS = {BOOL: "bool", INT: "int", FLOAT: "float", TEXT: "text", JSON: "json", TIME: "time"}


def arrow_table(rows: RowSequence, history: History, options: Options, purpose: str) -> Any:
    """Make a ``pyarrow.Table`` of the rows.

    ``history`` must end at the last commit that ``rows`` contains.
    """
    pa = load_pyarrow(purpose)
    parts = Parts(pa)
    if rows.is_in_batch:  # the rows of the open batch aren't in the file yet
        sides = [(read_row_by_row(rows, history, options, parts.of), None)]
    else:
        scan = Scan(rows, history, options, parts)
        positions: list[int] | None = list(rows.view.positions(range(len(rows)))) if rows else []
        if positions == list(range(len(scan.of_data))):
            positions = None  # all rows, in their order
        sides = [
            (scan.data, parts.order(scan.of_data, positions)),
            (scan.statuses, parts.order(scan.of_status, positions)),
            (_indexed(rows, positions, scan.started_us, options, parts), None),
        ]
    chosen = resolve(options, *(side for side, _ in sides))
    table: dict[str, Any] = {}
    # A column may have several names, such as status and journal_status. This is the first name.
    first: dict[Key, str] = {}
    for name, key in chosen.items():
        if key is not None and first.setdefault(key, name) != name:
            table[name] = table[first[key]]
            continue
        own = key.path[0] if key and key.own and len(key.path) == 1 else ""
        kind = _KINDS[JOURNAL_COLUMNS[own]] if own else "null"
        column = None
        for side, order in sides:
            # Remove the parts from the side, so that the memory of this column is freed before the
            # next column is made.
            found = side.parts.pop(key, None) if key else None
            if found is not None:
                parts_of_all = [
                    found.get(at) or parts.repeated(EMPTY.get(own), kind, count)
                    for at, count in enumerate(side.counts)
                ]
                column = parts.ordered(parts.joined(parts_of_all, kind), order)
        if column is None:
            column = parts.joined([parts.repeated(EMPTY.get(own), kind, len(rows))], kind)
        table[name] = column if own not in EMPTY else column.fill_null(EMPTY[own])
    return pa.table(table)


def _indexed(
    rows: RowSequence,
    positions: list[int] | None,
    started_us: array[int],
    options: Options,
    parts: Parts,
) -> Side[Part]:
    """Make the columns whose values are in the job's index.

    ``positions`` are the positions of the rows in the index. None stands for all rows.
    """
    columns = rows.view.columns
    count = len(rows)
    numbers = columns.numbers or array("q", range(1, len(columns.statuses) + 1))
    side: Side[Part] = Side(options, parts.of)
    own: dict[str, Any] = {
        "job_id": parts.repeated(rows.job_id, "text", count),
        "row_number": parts.integers(numbers[:], positions),
        "status": parts.names(columns.statuses, [status.value for status in STATUSES], positions),
        "attempts": parts.integers(columns.attempts[:], positions),
        "started_at": parts.times_of_us(started_us, NEVER, positions),
    }
    if columns.earlier is not None or columns.given_back is not None:
        at = range(count) if positions is None else positions
        own["earlier_attempts"] = [columns.earlier_attempts(position) for position in at]
    side.add(count, {name: own[name] for name in JOURNAL_COLUMNS if name in own})
    return side

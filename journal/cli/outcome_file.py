"""`journal resolve --from FILE`: a file that names rows, with values for each row."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from itertools import chain
from typing import Any, NamedTuple

import click

from journal.cli.find import FoundJob
from journal.cli.output import echo_err, first_of
from journal.cli.resolution import WAYS, how_of
from journal.cli.selection import Selection, value_of
from journal.cli.shared_options import input_options, json_or_text, option, parse_cents
from journal.errors import InvalidValueError, RefusedError
from journal.format.arguments import check_text
from journal.format.keys import is_typed_as, key_json, key_of, untyped
from journal.format.values import as_json_value
from journal.inputs.read import RowInput
from journal.inputs.read_options import Source
from journal.model import RowStatus
from journal.tables.columns import MISSING
from journal.text import counted, similar
from journal.verbs import VERBS, row_ranges

_RESOLVABLE = VERBS["resolve"].named
_MAX_UNUSED = 20  # columns in a message
_OPTIONS = (
    option("--from FILE path", "Settle the rows that FILE names: see above. - is standard input."),
    option(
        "--key COLUMN",
        "With --from: the column that names rows, in FILE and in the job. Default: the job's --key, "
        "or else row_number.",
    ),
    *input_options("FILE"),
)


class _Named(NamedTuple):
    """A row of a file: its place, the key, and the values by column."""

    place: str
    key: Any
    values: dict[str, Any]


def from_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--from`` and its options to `journal resolve`.

    The command gets the rows of the file as ``selection``, and their values as ``values``.
    ``values`` is a dict from a row number to the row's values, by the names of the options.
    """

    @wraps(command)
    def with_file(
        job: FoundJob,
        selection: Selection,
        path: str | None,
        key: str | None,
        reason: str | None,
        **given: Any,
    ) -> None:
        how_to_read = [
            given.pop(name) for name in ("file_format", "encoding", "delimiter", "sheet")
        ]
        values: dict[int, dict[str, Any]] = {}
        if path is None:
            if key or any(how_to_read):
                raise click.UsageError("--key and the options for reading a file need --from")
        elif selection.ranges is not None:
            raise click.UsageError("--from names rows, and so does --row: give only one of them")
        else:
            names = WAYS[how_of(given, in_file=True)][1]
            file = RowInput(Source(*[path, *how_to_read, "--from"]))
            own = job.shards[0].read().key
            key = key or own or "row_number"
            wanted = _read(file, key, names, tuple(name for name in names if given[name] is None))
            found = _find(job, key, wanted, is_unique=key == own)
            if selection.is_empty:  # otherwise, the selection leaves out rows
                _check_open(wanted, found)
            values = {found[text][0]: named.values for text, named in wanted.items()}
            selection = selection._replace(ranges=row_ranges(",".join(map(str, values))))
        command(job=job, selection=selection, reason=reason, values=values, **given)

    made: Callable[..., Any] = with_file
    for add in reversed(_OPTIONS):
        made = add(made)
    return made


def _read(
    file: RowInput, key: str, names: tuple[str, ...], free: tuple[str, ...]
) -> dict[str, _Named]:
    """The rows of a file by their keys. Reports the columns that are not used.

    ``free``: the names without an option. If there is no option at all, each row must have a value.
    """
    wanted: dict[str, _Named] = {}
    shapes = set[tuple[str, ...]]()  # the columns of rows; in JSON, each row has its own
    unused: dict[str, None] = {}
    needed = names if free == names else ()
    for number, data in enumerate(file, 1):
        place = f"{file.source.name}, row {number}"
        text = key_of(key, data, place, "key (--key names another column)")
        if text in wanted:
            raise InvalidValueError(place, data[key], f"is named twice: see {wanted[text].place}")
        if (shape := tuple(data)) not in shapes:
            shapes.add(shape)
            others = [name for name in data if name != key and name not in names]
            _check_names([name for name in free if name not in data], others, place)
            unused |= dict.fromkeys(others)
        values = {
            name: _value(name, value, f"{place}: {name}", is_table=file.columns is not None)
            for name in names
            if (value := data.get(name)) not in (None, "")
        }
        if needed and not values:
            why = f"has no {' or '.join(needed)}: rename a column, or leave out this row, or give"
            raise InvalidValueError(place, data, f"{why} a value for all rows by an option")
        wanted[text] = _Named(place, data[key], values)
    if not wanted:
        raise file.source.refused("has no rows")
    if names and unused:
        echo_err(f"{file.source.name}: columns not used: {first_of([*unused], _MAX_UNUSED)}")
    return wanted


def _check_names(missing: list[str], others: list[str], place: str) -> None:
    """Raise InvalidValueError if one of ``others`` may be a misspelt name of a missing column.

    The values can't be added later, since the rows are completed then.
    """
    for name in missing:
        longer = (each for each in others if each.casefold().startswith(name))
        shorter = (each for each in others if each[2:] and name.startswith(each.casefold()))
        if meant := next(chain(longer, shorter), None) or similar(name, others):
            why = (
                f"has no {name}; did you mean its column {meant}? Rename this column, or remove it"
            )
            raise InvalidValueError(place, "", why)


def _value(name: str, value: Any, where: str, *, is_table: bool) -> Any:
    """Check a value. In a table, a result may be JSON in text."""
    if name == "cost_cents":
        try:
            return parse_cents(str(value))
        except ValueError as error:
            raise InvalidValueError(where, "", str(error)) from None
    if name != "result":
        return check_text(str(value) if type(value) is int else value, where)
    result = json_or_text(value) if is_table and isinstance(value, str) else value
    as_json_value(result, where)  # this call raises the error
    return result


def _find(
    job: FoundJob, key: str, wanted: dict[str, _Named], *, is_unique: bool
) -> dict[str, tuple[int, RowStatus]]:
    """The number and status of each wanted row. ``is_unique``: the job has no key in two rows.

    A key may be text in the file and a number in the job, or the reverse, if no other row has this
    key.
    """
    found: dict[str, tuple[int, RowStatus]] = {}
    untyped_keys = {untyped(text): text for text in wanted}
    for statuses in (_RESOLVABLE, None) if is_unique else (None,):
        for row in (
            row for shard in job.shards for row in job.service.get_rows(shard.id, statuses)
        ):
            if (value := value_of(row, key)) is MISSING:
                continue
            text = key_json(value)
            if text not in wanted:
                other = None if statuses else untyped_keys.get(untyped(text))
                if other is None or is_typed_as(text, other):
                    continue
                text = other
            number, _ = found.setdefault(text, (row.row_number, row.status))
            if number != row.row_number:
                why = f"rows {number} and {row.row_number} of {job.id} have this {key}"
                raise InvalidValueError(wanted[text].place, wanted[text].key, why)
        if len(found) == len(wanted):
            return found
    named = next(named for text, named in wanted.items() if text not in found)
    count = counted(len(wanted) - len(found), "row|rows of the file names|name no row")
    raise InvalidValueError(named.place, named.key, f"{job.id} has no row with this {key}; {count}")


def _check_open(wanted: dict[str, _Named], found: dict[str, tuple[int, RowStatus]]) -> None:
    """Raise RefusedError if one of the rows neither needs a review nor is in flight."""
    settled = [text for text in wanted if found[text][1] not in _RESOLVABLE]
    if settled:
        named, (number, status) = wanted[settled[0]], found[settled[0]]
        others = f" (and {counted(len(settled) - 1, 'other|others')})" if settled[1:] else ""
        raise RefusedError(
            f"{named.place}: row {number} ({named.key}) is {status} and needs no review{others}; "
            f"nothing was changed; --status {','.join(_RESOLVABLE)} leaves out such rows"
        )

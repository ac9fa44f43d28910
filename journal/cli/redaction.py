"""``--redact``: one option for all that shows what rows hold, and what a name is that hides nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import click
from click.core import ParameterSource

from journal.cli.output import tell
from journal.errors import JournalError
from journal.format.records import RowRecord
from journal.history.redact import OWN_NAMES, check_fields, names_in
from journal.service import JobService

_MOST_NAMED = 20

redact_option = click.option(
    "--redact",
    metavar="FIELD",
    multiple=True,
    help="Hide the values of FIELD, nested ones, too; repeatable. Texts aren't searched: results and "
    "messages have names of their own, result and error_message.",
)


def check_redacted(
    ctx: click.Context,
    service: JobService,
    job_ids: Iterable[str],
    redact: Collection[str],
    *,
    handed_on: bool = False,
) -> None:
    """Raise UsageError for a name of ``--redact`` that no record of the jobs has.

    A variable may be meant for many jobs: what it names in vain is told of, and no error, unless
    what is made is to be ``handed_on``. Rows may have different members, so all are looked at,
    until the last of the names is found. Raises what is wrong with a job that can't be read, for it
    may be the one that has the name.
    """
    missing = {name.casefold(): name for name in redact if check_fields([name]) - OWN_NAMES}
    job_ids = list(job_ids)
    if not missing or not job_ids:
        return
    columns: dict[str, None] = {}
    unread = None
    for job_id in job_ids:
        try:
            for entry in service._history(job_id).entries():  # noqa: SLF001  (this package's own)
                for name in names_in(entry.record):
                    missing.pop(name.casefold(), None)
                if not missing:
                    return
                if isinstance(entry.record, RowRecord) and len(columns) <= _MOST_NAMED:
                    columns.update(dict.fromkeys(entry.record.data))
        except JournalError as error:
            unread = unread or error
    if unread is not None:
        raise unread
    reason = _reason(list(missing.values()), list(columns))
    if ctx.get_parameter_source("redact") is not ParameterSource.ENVIRONMENT:
        raise click.UsageError(reason)
    if handed_on:
        variable = f"JOURNAL_{ctx.command.name}_REDACT".upper()
        raise click.UsageError(
            f"{reason}; {variable} says it: unset it, or say --redact with names that this has"
        )
    tell(f"journal: {reason}")


def _reason(missing: list[str], columns: list[str]) -> str:
    there = "the rows' data has no columns"
    if columns:
        more = ", ..." if len(columns) > _MOST_NAMED else ""
        there = f"the columns of the data are {', '.join(columns[:_MOST_NAMED])}{more}"
    return (
        f"--redact {', '.join(missing)}: nothing that is stored has such a name; {there}, and of "
        f"what the journal knows there are {', '.join(sorted(OWN_NAMES))}"
    )

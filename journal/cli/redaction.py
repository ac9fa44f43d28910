"""The option ``--redact``, which hides values, and the check that the given names exist."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import click
from click.core import ParameterSource

from journal.cli.find import find_job
from journal.cli.output import echo_err, first_of
from journal.errors import JournalError
from journal.format.arguments import check_fields
from journal.format.records import RowRecord
from journal.history.redact import OWN_NAMES, names_in
from journal.service import JobService

_MAX_NAMED = 20

redact_option = click.option(
    "--redact",
    metavar="FIELD",
    multiple=True,
    help="Hide the values of FIELD, at any depth. Repeatable. Text isn't searched: to hide "
    "results or error messages, name the field result or error_message.",
)


def find_redacted_job(
    ctx: click.Context, job: str, redact: Collection[str]
) -> tuple[JobService, str]:
    """Find a job as find_job does.

    The fields ``redact`` are checked by check_redacted, and hidden.
    """
    service, job_id = find_job(ctx.obj, job, redact=redact)
    check_redacted(ctx, service, [job_id], redact)
    return service, job_id


def check_redacted(
    ctx: click.Context,
    service: JobService,
    job_ids: Iterable[str],
    redact: Collection[str],
    *,
    handed_on: bool = False,
) -> None:
    """Raise UsageError if ``--redact`` gives a name that doesn't occur in the records of the jobs.

    A name from an environment variable may be meant for other jobs. So if such a name hides
    nothing, there is only a warning. But if the output is made for other people (``handed_on``),
    UsageError is raised for these names, too.

    Rows may have different fields, so records are read until each name is found. If a job can't be
    read, the error is raised, since this job may have the name.
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
                if isinstance(entry.record, RowRecord) and len(columns) <= _MAX_NAMED:
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
            f"{reason}; the name is from {variable}: unset it, or give --redact with names that exist"
        )
    echo_err(f"journal: {reason}")


def _reason(missing: list[str], columns: list[str]) -> str:
    there = "the data of the rows has no columns"
    if columns:
        there = f"the columns of the data are {first_of(columns, _MAX_NAMED)}"
    return (
        f"--redact {', '.join(missing)}: no stored field has this name; {there}; the journal's own "
        f"fields are {', '.join(sorted(OWN_NAMES))}"
    )

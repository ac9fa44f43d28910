"""`journal export`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from journal.cli.find import PATH, FoundJob, FoundSet, found_job_or_set
from journal.cli.output import data_stream, echo_err, echo_problems
from journal.cli.selection import Selection, selection_options
from journal.cli.shared_options import columns_option, force_option, option
from journal.run.exit_codes import EXIT_OK, EXIT_REFUSED
from journal.run.signals import ending_signals
from journal.sets.shard_states import ABSENT, OTHER_INPUT, PRUNED, look_at_set
from journal.tables.export import FORMATS, STREAMED, export_rows, format_of
from journal.text import Numbers, counted


@click.command("export", short_help="Write rows as CSV, JSON Lines, JSON, SQLite or Parquet.")
@found_job_or_set
@click.argument("out", metavar="OUT|-", type=PATH)
@option(
    "--format file_format",
    "The format of OUT. Default: the extension of OUT selects the format. excel-csv is CSV with a "
    "byte order mark, so that Excel shows umlauts when it opens the file.",
    type=click.Choice(FORMATS),
)
@selection_options
@option(
    "--data-only", "Write only the columns of the data, so that a run can read the file as input."
)
@columns_option("Write only these columns, in the order given. Example: zip,status,result.price.")
@option(
    "--steps table",
    "Write a record for each step, instead of a record for each row.",
    flag_value="steps",
)
@option(
    "--attempts table",
    "Write a record for each attempt, instead of a record for each row.",
    flag_value="attempts",
)
@force_option
def export_command(
    *,
    job: FoundJob,
    out: str,
    file_format: str | None,
    table: str | None,
    selection: Selection,
    **options: Any,
) -> int:
    """Write the rows of JOB to OUT, as CSV, JSON Lines, JSON, SQLite or Parquet.

    The extension of OUT selects the format: .csv .jsonl .json .db .sqlite .parquet. If OUT is
    -, the rows are written to standard output, as CSV or in the format that --format gives. On a
    terminal, control characters are escaped. A file is written completely or not at all.

    The columns of the data come first. The columns of the journal follow: job_id, row_number,
    status, attempts, error_code, error_message, result, created_at, started_at, processed_at,
    duration_s and idempotency_key. The following columns are written only if a row has a value for
    them, or if --columns names them: place (in the input, only in shards with a key),
    earlier_attempts (attempts that limits don't count), version, unknown (true if a failed row may
    have taken effect), reason, due (when a waiting row is due), waiting_since, tracking_number,
    label_path, cost_cents (of the last outcome), total_cost_cents (of all attempts) and usage. If
    the data has a column with one of these names, the journal's column is called journal_NAME.

    With --steps, the columns are job_id, row_number, step, state, attempt, at, result, error_code
    and error_message. All steps of the chosen rows are written.

    With --attempts, the columns are job_id, row_number, attempt, outcome, started_at, ended_at,
    duration_s, host, error_code, error_message and result. These columns follow if an attempt uses
    them: version, unknown, reason, tracking_number, label_path, cost_cents and usage. All attempts
    at the chosen rows are written, in the order in which they ended. The sum of the attempts' costs
    is the cost of these rows.

    The rows of a set of shards are sorted by their places in the input. Rows are missing if shards
    aren't here, and may be missing if shards have not seen the last input. In both cases, the other
    rows are written, and the exit code is 4.

    Example: journal export ship-ca failed.csv --status failed --status needs_review
    """
    table = _checked(table, options)
    service = job.service
    missing = list(_missing(job)) if isinstance(job, FoundSet) else []
    file_format = file_format or ("csv" if out == "-" else format_of(out))
    if out == "-" and file_format not in STREAMED:
        raise click.UsageError(f"{file_format} can't be written to standard output: name a file")
    with ending_signals():
        count = export_rows(
            service,
            [shard.id for shard in job.shards],
            data_stream(is_json=file_format.startswith("json")) if out == "-" else out,
            file_format,
            table=table,
            statuses=selection.statuses,
            where=None if selection._replace(statuses=()).is_empty else selection.holds,
            **options,
        )
    job.warn_of_cut()
    echo_problems(*missing, *selection.where.unmet())
    if out != "-":
        echo_err(f"{counted(count, f'{table[:-1]}|{table}')} in {out}")
    elif not count:
        echo_err(f"0 {table}")
    return EXIT_REFUSED if missing else EXIT_OK


def _checked(table: str | None, options: dict[str, object]) -> str:
    for name in ("data_only", "columns"):
        if table and options[name]:
            raise click.UsageError(f"--{table} and --{name.replace('_', '-')} exclude each other")
    return table or "rows"


def _missing(found: FoundSet) -> Iterator[str]:
    """Messages about missing rows: shards aren't here, or have not seen the last input."""
    whole = look_at_set(found.service, found.id)
    for why, states in (
        ("are missing: shards that aren't here", (ABSENT, PRUNED)),
        ("may be missing: shards that have not seen the last input", (OTHER_INPUT,)),
    ):
        if indexes := whole.indexes(*states):
            shards = f"{Numbers(indexes).text(',')} ({len(indexes)} of {len(whole.parts)})"
            yield f"{found.id}: rows {why}: {shards}"

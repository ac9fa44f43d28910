"""`journal pack`, `unpack`, `compare` and `pull`: a job moved between machines."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import click

from journal.cli.exit_codes import (
    EXIT_OK,
    EXIT_ROWS_OPEN,
    EXIT_UNEXPECTED,
    NoVerdict,
    exit_code_of,
)
from journal.cli.find import complete_job, complete_path, find_job, job_argument, journal_command
from journal.cli.output import clean, echo_json, local_time, tell
from journal.errors import JobExistsError, JobNotFoundError, JournalError
from journal.history.error_groups import Numbers
from journal.run.signals import ending_signals
from journal.transfer import (
    Packed,
    Pulled,
    compare_copies,
    pack_job,
    pack_to_file,
    pull_job,
    unpack_job,
)
from journal.transfer.compare import Comparison, Side
from journal.transfer.merge import Merged
from journal.transfer.source import Source
from journal.transfer.tarball import MAX_COMPONENTS, MAX_NAME_BYTES, Compression

_MOST_LINES = 10
_MOST_RANGES = 40
_STDIN = "-"
_STDIN_NAME = "standard input"

_json_option = click.option("--json", "json_output", is_flag=True, help="One JSON object.")
_max_bytes_option = click.option(
    "--max-bytes",
    type=click.IntRange(min=0),
    help="Refuse a pack that holds more; default: than is free on the disk.",
)


@click.command("pack", short_help="Pack a job into one file or stream that any tar reads.")
@job_argument
@click.option("-o", "--output", help="FILE.tar.gz, FILE.tar.zst, or - for standard output.")
@click.option("--zstd", is_flag=True, help="Compress by zstd, whatever the file is called.")
@click.option("--kept", is_flag=True, help="With journal.torn-*, .damaged-* and .other-*, too.")
@click.pass_context
def pack_command(ctx: click.Context, job: str, output: str | None, zstd: bool, kept: bool) -> int:
    """Pack a job, as of its last commit, into one file or stream that any tar reads.

    Others may work on the job meanwhile. The pack holds the journal, the artifacts, and a
    manifest that all of it is checked against by unpack. By default it is JOB.tar.gz, in here.

    To send it on: journal pack ship-ca -o - | ssh other journal unpack -

    Example: journal pack ship-ca -o ship-ca.tar.gz
    """
    service, job_id = find_job(ctx.obj, job)
    directory = service.root / job_id
    output = output or f"{job_id}.tar.gz"
    compression: Compression = "zst" if zstd else _compression_of(output)
    if output == _STDIN and sys.stdout.isatty():
        raise click.UsageError("a pack is no text for a terminal: send it into a pipe or file")
    with ending_signals():
        if output == _STDIN:
            packed = pack_job(directory, sys.stdout.buffer.write, compression, kept=kept)
            sys.stdout.buffer.flush()
        else:
            packed = pack_to_file(directory, output, compression, kept=kept)
    _tell_packed(job_id, output, packed)
    return EXIT_OK


def _compression_of(output: str) -> Compression:
    suffix = os.path.splitext(output)[1]
    if suffix in (".zst", ".tzst"):
        return "zst"
    if suffix in ("", ".gz", ".tgz"):
        return "gz"
    raise click.UsageError(
        f"no pack is called {suffix}: say .tar.gz or .tgz, or .tar.zst or .tzst for zstd"
    )


def _tell_packed(job_id: str, output: str, packed: Packed) -> None:
    manifest = packed.manifest
    where = "" if output == _STDIN else f" in {output}"
    tell(
        f"{job_id}: packed{where} as of byte {manifest.offset}, {sum(manifest.rows.values())} rows, "
        f"{len(manifest.files) - 1} other files"
    )
    for name in packed.grown:
        tell(f"{name} was written to meanwhile: the pack holds it as it was")
    for line in _left_out(packed.left_out):
        tell(line)


def _left_out(names: list[str]) -> list[str]:
    return [
        f"left out: {name} is no regular file, or has gone meanwhile, or its name isn't UTF-8, "
        f"has more than {MAX_COMPONENTS} parts or more than {MAX_NAME_BYTES} bytes"
        for name in names
    ]


def _tell_some(lines: list[str]) -> None:
    """As many as a screen holds beside all else."""
    for line in lines[:_MOST_LINES]:
        tell(line)
    if len(lines) > _MOST_LINES:
        tell(f"... and {len(lines) - _MOST_LINES} more; --json names all")


@click.command("unpack", short_help="Make the job that a pack holds, once it is checked.")
@click.argument("file")
@_max_bytes_option
@click.pass_context
def unpack_command(ctx: click.Context, file: str, max_bytes: int | None) -> int:
    """Make the job that a pack holds, once all of the pack has been checked; prints its id.

    FILE is a pack, or - for standard input. If the job is here already, nothing is changed: what
    the pack has beyond that is for `journal pull`.

    Example: journal unpack ship-ca.tar.gz
    """
    source = _source(ctx.obj, file)
    try:
        manifest = unpack_job(ctx.obj, source, max_bytes=max_bytes)
    except JobExistsError as error:
        tell(_what_to_do_instead(ctx.obj, file, error.job_id))
        raise
    tell(
        f"{manifest.job_id}: unpacked, as packed on {manifest.host} at {manifest.made_at}: "
        f"{sum(manifest.rows.values())} rows, {len(manifest.files) - 1} other files"
    )
    click.echo(manifest.job_id)
    return EXIT_OK


def _what_to_do_instead(root: str, file: str, job_id: str) -> str:
    """What there is to be had from a pack whose job is here already."""
    pull = shlex.join([*journal_command(), "--root", root, "pull", file])
    in_general = f"to take over what the pack has beyond the job here: {pull}"
    if file == _STDIN:
        return in_general
    try:
        found = compare_copies(Path(root) / job_id, file)
    except JournalError:  # what is to be told is why it wasn't unpacked
        return in_general
    if found.relation == "behind":
        return f"the job here is behind the pack by {found.theirs.commits} commits: {pull}"
    if found.relation == "diverged":
        return f"the job here and the pack have diverged: {pull} --merge-outcomes"
    return f"there is nothing to be had from the pack: the job here is {found.relation}"


@click.command("compare", short_help="Tell two copies of a job apart, and what each did since.")
@click.argument("a", shell_complete=complete_job)
@click.argument("b", shell_complete=complete_job)
@_max_bytes_option
@_json_option
@click.pass_context
def compare_command(
    ctx: click.Context, a: str, b: str, max_bytes: int | None, json_output: bool
) -> int:
    """Tell two copies of a job apart, and what each did since they parted.

    A and B are jobs, directories of jobs, packs, or - for a pack on standard input. What only one
    of them holds is verified; damage in what both hold is for `journal verify` to find.

    Exit codes: 0 identical, 1 one is ahead of the other, 3 diverged; no verdict: 2 different jobs
    or bad usage, 4 no such job, 5 locked, 6 damaged, of a newer version, or can't be read.

    Example: journal compare ship-ca /mnt/old/jobs/ship-ca
    """
    if a == b == _STDIN:
        raise click.UsageError("only one of the two can be standard input")
    found = _compared(ctx.obj, a, b, max_bytes)
    if json_output:
        echo_json(found)
    else:
        click.echo(_comparison_text(found))
    if found.relation == "identical":
        return EXIT_OK
    return EXIT_ROWS_OPEN if found.relation == "diverged" else EXIT_UNEXPECTED


def _compared(root: str, a: str, b: str, max_bytes: int | None) -> Comparison:
    """Raises NoVerdict for what would else have the exit code that means ahead or behind."""
    try:
        return compare_copies(_source(root, a), _source(root, b), max_bytes=max_bytes)
    except JournalError as error:
        if exit_code_of(error) != EXIT_UNEXPECTED:
            raise
        raise NoVerdict(str(error)) from error
    except click.ClickException:
        raise
    except Exception as error:
        if os.environ.get("JOURNAL_TRACEBACK"):
            raise
        raise NoVerdict(f"{type(error).__name__}: {error}") from error


def _comparison_text(found: Comparison) -> str:
    sides = [("A", found.ours), ("B", found.theirs)]
    if found.relation == "identical":
        return f"identical {found.job_id}: {found.ours.size_bytes} bytes up to the last commit"
    if found.relation == "diverged":
        lines = [f"diverged  {found.job_id}: at line {found.line} (byte {found.fork.offset})"]
    else:
        (ahead, side), (behind, _) = sides if found.relation == "ahead" else sides[::-1]
        text = f"{ahead} is ahead of {behind} by {side.commits} commits"
        lines = [f"{'ahead' if ahead == 'A' else 'behind':<9} {found.job_id}: {text}"]
    for letter, side in sides:
        if side.commits:
            lines += [f"  {letter} since then: {_side_text(side)}   [{clean(side.name)}]"]
            lines += [f"    {clean(message)}" for message in side.messages]
    return "\n".join(lines)


def _side_text(side: Side) -> str:
    words = {"processing": "started", "needs_review": "to review"}
    words |= {"retry": "retried", "redo": "redone"}
    parts = [f"{side.rows_added} rows added"] if side.rows_added else []
    parts += [f"data of {side.data_changes} changed"] if side.data_changes else []
    parts += [f"{words[name]} {n}" for name, n in side.resets.items()]
    parts += [f"{words.get(name, name)} {n}" for name, n in side.row_statuses.items()]
    parts += [f"job {status}" for status in side.job_statuses[-1:]]
    assert side.first_at is not None
    assert side.last_at is not None
    times = " to ".join(
        f"{local_time(at):%Y-%m-%d %H:%M:%S}" for at in (side.first_at, side.last_at)
    )
    what = ", ".join(parts) or f"{side.records} records"
    return f"{side.commits} commits, {times}: {what}"


@click.command("pull", short_help="Bring a job to where another copy of it is.")
@click.argument("source", shell_complete=complete_path)
@click.argument("job", required=False, shell_complete=complete_job)
@click.option(
    "--merge-outcomes",
    "merge",
    is_flag=True,
    help="If both went on: take over what only the other has done.",
)
@_max_bytes_option
@_json_option
@click.pass_context
def pull_command(
    ctx: click.Context,
    source: str,
    job: str | None,
    merge: bool,
    max_bytes: int | None,
    json_output: bool,
) -> int:
    """Bring a job to where another copy of it is: a directory, a pack, or - for a pack on stdin.

    Appends exactly the commits that are missing, if the job here is the beginning of the other;
    artifacts that are missing are copied. A job that isn't here is made. If both have gone on since
    they parted, nothing is changed (exit code 3), unless you say --merge-outcomes: then the other's
    history is kept beside the journal as journal.other-..., what only the other has done is taken
    over (outcomes, retries, redos, changed data), and rows that both have worked on, or given
    different data, need a review. What both have completed stays completed, and is named in the
    job's error. Rows that both have added are one row if they have one idempotency key; others get
    a new number here if theirs is taken, and are named. Of an artifact that differs both are kept: where the
    other's commits are taken over, ours as NAME.before-N, in a merge the other's as NAME.other-N.
    Exit code 3 if a row or an artifact needs you to look at it.

    Example: journal pull /mnt/old/jobs/ship-ca
    """
    root, job_id = ctx.obj, job
    if job is not None:
        try:
            service, job_id = find_job(root, job)
            root = str(service.root)
        except JobNotFoundError:  # it is to be made here
            if os.sep in job:
                raise
    pulled = pull_job(root, _source(root, source), job_id, merge=merge, max_bytes=max_bytes)
    if json_output:
        echo_json(pulled)
    else:
        click.echo(_pulled_text(pulled))
    _tell_differing(pulled)
    _tell_some(_left_out(pulled.left_out))
    open_code = EXIT_ROWS_OPEN if pulled.differing else EXIT_OK
    if pulled.merged is None:
        return open_code
    _tell_merged(str(root), pulled.job_id, pulled.merged)
    is_open = pulled.merged.review or pulled.merged.twice or pulled.merged.left_open
    return EXIT_ROWS_OPEN if is_open else open_code


def _tell_merged(root: str, job_id: str, merged: Merged) -> None:
    journal = shlex.join([*journal_command(), "--root", root])
    if merged.job_status != merged.their_job_status:
        tell(f"{job_id}: the job is {merged.their_job_status} there, and {merged.job_status} here")
    _tell_some(
        [
            f"row {theirs} of the other copy is row {ours} here, where its number was taken: "
            f"{journal} log {job_id} --row {ours}"
            for ours, theirs in merged.renumbered.items()
        ]
    )
    for numbers, what in (
        (merged.data, "both copies changed the data, or one did and the other worked on the row"),
        (merged.redone, "one copy redid them, and the other worked on them or redid them, too"),
    ):
        if numbers:
            rows = Numbers(numbers).text(",", _MOST_RANGES)
            tell(f"rows {rows}: {what}; `{journal} log {job_id} --row N` has both")
    if merged.review:
        tell(f"see: {journal} rows {job_id} --status needs_review")
    if merged.twice:
        tell(f"both copies worked on rows that are completed here: {journal} show {job_id}")
    if merged.left_open:
        tell(
            f"{merged.left_open} rows are open, and the job has ended here ({merged.job_status}): "
            f"{journal} reopen {job_id}, then run it again"
        )


def _tell_differing(pulled: Pulled) -> None:
    lines = []
    for name in pulled.differing:
        put_by = pulled.put_by.get(name)
        if put_by is None:
            what = "differs from the other's: the one here was kept"
        elif pulled.merged is None and pulled.action == "forwarded":
            what = f"differs: it is the other's now, and the one that was here is {put_by}"
        else:
            what = f"differs: the one here was kept, and the other's is {put_by}"
        lines.append(f"{name} {what}")
    _tell_some(lines)


def _pulled_text(pulled: Pulled) -> str:
    files = f", {len(pulled.artifacts)} new files" if pulled.artifacts else ""
    what = {
        "made": f"made, as the copy is{files}",
        "forwarded": f"{pulled.commits} commits taken over{files}",
        "merged": f"merged{files}",
        "identical": f"no commits to pull: the copies are identical{files}",
        "ahead": f"no commits to pull: the job here is ahead{files}",
    }
    text = f"{pulled.job_id}: {what[pulled.action]}"
    if pulled.merged is not None:
        merged = pulled.merged
        text += (
            f": {len(merged.took_over)} outcomes taken over, {len(merged.added)} rows added, "
            f"{_renumbered(merged)}{len(merged.review)} rows need a review, {len(merged.twice)} completed here were "
            f"worked on there too; the other history is kept as {merged.other}"
        )
    return text


def _renumbered(merged: Merged) -> str:
    """Of the rows that were added, how many have another number here; "" if none."""
    count = len(merged.renumbered)
    return f"{count} of them under another number, " if count else ""


def _source(root: str, name: str) -> Source:
    """What a person means: standard input, a job, a job's directory, or a pack."""
    if name == _STDIN:
        return Source(_STDIN_NAME, sys.stdin.buffer.read)
    if os.path.isfile(name) or os.path.isdir(name) or os.sep in name:
        return Source(name)
    service, job_id = find_job(root, name)
    return Source(service.root / job_id)

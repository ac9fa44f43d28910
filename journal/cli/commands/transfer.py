"""`journal pack`, `unpack` and `pull`: moving a job between machines."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from journal.cli.find import PATH, FoundJob, ReadingService, command_line, find_job, found_job
from journal.cli.output import echo_err, echo_result
from journal.cli.shared_options import json_option, option
from journal.errors import JobExistsError, JobNotFoundError, JournalError, RefusedError
from journal.format.records import CODES_OF_MERGES
from journal.fs.file_names import CLAIMS_NAME, JOURNAL_NAME
from journal.ids import is_job_id, is_shard_id
from journal.model import RowStatus
from journal.run.exit_codes import EXIT_NEEDS_PERSON, EXIT_OK
from journal.run.signals import ending_signals
from journal.store.list_jobs import lost_shards
from journal.text import Numbers, counted
from journal.transfer import (
    Packed,
    Preview,
    Pulled,
    pack_job,
    pack_to_file,
    preview_pull,
    pull_job,
    unpack_job,
)
from journal.transfer.merge import Merged
from journal.transfer.pack import MAX_COMPONENTS, Source
from journal.transfer.three_way import Judgement

_MAX_LINES = 10
_MAX_RANGES = 40
_STDIN = "-"
_AHEAD = "no commits to pull: the job here has everything from there"


@click.command("pack", short_help="Pack a job into one file, to move the job.")
@found_job
@option(
    "-o --output OUT",
    "The file to write: FILE.tar.gz, or - for standard output. Default: JOB.tar.gz in the "
    "current directory.",
    type=PATH,
)
def pack_command(job: FoundJob, output: str | None) -> None:
    """Pack a job into a tar archive, to move the job to another machine.

    First pause the job, stop its run by Ctrl-C, and remove the job from cron. Otherwise, both
    machines process its rows. Leave the job here paused, so that no run starts here.

    The pack contains the journal (up to its last commit) and the artifacts (the job's other files).
    `journal unpack` checks all files. While the job is packed, a run may work on it.

    To send the pack to another machine: journal pack ship-ca -o - | ssh other journal unpack -

    Example: journal pack ship-ca -o ship-ca.tar.gz
    """
    directory = job.service.root / job.id
    output = output or f"{job.id.replace('/', '-')}.tar.gz"
    suffix = os.path.splitext(output)[1]
    if suffix not in ("", ".gz", ".tgz"):
        reason = f"the name of a pack can't end with {suffix}: use .tar.gz or .tgz"
        raise click.UsageError(reason)
    if output == _STDIN and sys.stdout.isatty():
        raise click.UsageError("a pack can't be written to a terminal: use a pipe or a file")
    with ending_signals():
        if output == _STDIN:
            packed = pack_job(directory, sys.stdout.buffer.write)
            sys.stdout.buffer.flush()
        else:
            packed = pack_to_file(directory, output)
    _report_packed(output, packed)


def _report_packed(output: str, packed: Packed) -> None:
    where = "" if output == _STDIN else f" in {output}"
    echo_err(
        f"{packed.job_id}: packed{where} up to byte {packed.offset}, {counted(packed.rows, 'row|rows')}, "
        f"{counted(len(packed.files), 'other file|files')}"
    )
    if packed.in_flight:
        rows = counted(packed.in_flight, "row|rows is|are")
        again = "if a run is active, stop it, and pack the job again"
        echo_err(f"{rows} in flight, and the copy won't have the outcome: {again}")
    for line in _left_out(packed.left_out):
        echo_err(line)


def _left_out(names: list[str]) -> list[str]:
    why = "it was deleted, or isn't a regular file, or its name isn't UTF-8, or the name has more"
    return [
        f"left out: {name}: "
        + (
            "it is for people"
            if name.startswith(f"{CLAIMS_NAME}/")
            else f"{why} than {MAX_COMPONENTS} parts"
        )
        for name in names
    ]


def _report_some(lines: list[str]) -> None:
    """Report the first lines: as many lines as fit on a screen."""
    for line in lines[:_MAX_LINES]:
        echo_err(line)
    if len(lines) > _MAX_LINES:
        echo_err(f"... and {len(lines) - _MAX_LINES} more; --json lists all")


@click.command("unpack", short_help="Check packs, and make their jobs.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=PATH)
@click.pass_context
def unpack_command(ctx: click.Context, files: tuple[str, ...]) -> int:
    """Check packs, and unpack their jobs. Prints the ids of these jobs.

    FILE is a pack, or - for standard input. An existing job is not changed. For such a job, use
    `journal pull`, which applies the commits that the job lacks.

    If a pack can't be unpacked, the other packs are still unpacked, and the exit code is that of
    the error.

    Example: journal unpack ship-ca.tar.gz
    """
    code = EXIT_OK
    for file in files:
        try:
            _unpack(ctx, file)
        except JournalError as error:
            if len(files) == 1:
                raise
            echo_err(f"journal: {error}")
            code = max(code, error.exit_code)
    return code


def _unpack(ctx: click.Context, file: str) -> None:
    source = _source(ctx, file)
    try:
        unpacked = unpack_job(ctx.obj, source)
    except JobExistsError as error:
        pull = command_line(ctx, ReadingService(ctx.obj))("pull", file, "--dry-run")
        why = f"job {error.job_id!r} exists already; nothing was changed"
        raise RefusedError(f"{why}; if it is a copy of this job, see what is new: {pull}") from None
    echo_err(
        f"{unpacked.job_id}: unpacked, {counted(unpacked.rows, 'row|rows')}, "
        f"{counted(len(unpacked.files), 'other file|files')}"
    )
    click.echo(unpacked.job_id)


@click.command("pull", short_help="Apply the changes of another copy of a job.")
@click.argument("source", type=PATH)
@click.argument("job", required=False)
@option(
    "--merge-outcomes merge",
    "If the copies have diverged: apply changes of rows that only the other copy worked on.",
)
@option(
    "--dry-run",
    "Print what a pull with --merge-outcomes would do with each row. Change nothing.",
)
@json_option
@click.pass_context
def pull_command(ctx: click.Context, /, source: str, job: str | None, **given: Any) -> int:
    """Apply the changes of another copy of a job. If the job doesn't exist here, it is created.

    SOURCE is the other copy: a directory, a pack, or - for a pack on standard input. If SOURCE is
    the directory of a set of shards, each of its shards is pulled. Shards that can't be pulled are
    named.

    If the other copy has all commits of the job here and also further commits, the further commits
    are appended. Missing artifacts are copied. If the copies have diverged, give --merge-outcomes.
    Without this option, nothing is changed, and the exit code is 3, unless the other copy was
    merged before and has nothing new.

    With --merge-outcomes, rows on which only the other copy worked get their outcomes, retries,
    redos and changed data from that copy. A row, even a completed row, needs a review if both
    copies worked on it or gave it different data. If both copies added a row with the same
    idempotency key, the two rows become one row. A row that only the other copy added is added
    here. If another row here has the number of the added row, the added row gets a new number,
    which is reported. The other copy's history is kept beside the journal as journal.other-....

    With --dry-run, nothing is changed. For each copy, the output counts the commits that the other
    copy lacks. For each row that the other copy has changed, the output says what a merge does:
    "add" or "take" the row, "keep" the row as it is here, or put the row in "review". Artifacts
    aren't compared.

    If an artifact differs, both files are kept. When commits are appended, the other copy's file
    takes the name NAME, and the file here is renamed to NAME.before-N. In a merge, the file here
    keeps the name NAME, and the other copy's file is called NAME.other-N.

    The exit code is 3 if a row needs a review, if an artifact differs, or if a merge leaves rows
    open in a job that has ended here. `journal show` says how to continue. Until all rows on which
    both copies worked are settled, each further pull exits with 3, too.

    Example: journal pull /mnt/old/jobs/ship-ca
    """
    names = _shards_in(source)
    if not names:
        return _pull(ctx, source, job, **given)
    codes = [EXIT_OK]
    for name in names:
        try:
            shard = None if job is None else f"{job}/{name}"
            codes.append(_pull(ctx, os.path.join(source, name), shard, **given))
        except JournalError as error:  # the other shards are still pulled
            echo_err(f"journal: {error}")
            codes.append(error.exit_code)
    return max(codes)


def _shards_in(source: str) -> list[str]:
    """The names of the shards if ``source`` is the directory of a set, else an empty list.

    The list includes shards without a journal. They were copied in part, and are refused.
    """
    above, name = os.path.split(os.path.abspath(source))
    store = ReadingService(above).store
    if not is_job_id(name) or not store.is_set(name):
        return []
    return sorted(map(os.path.basename, [*store.shards(name), *lost_shards(store, name)]))


def _pull(
    ctx: click.Context,
    source: str,
    job: str | None,
    *,
    merge: bool,
    dry_run: bool,
    json_output: bool,
) -> int:
    """Pull one copy of a job or shard. Returns the exit code."""
    root, job_id, there = ctx.obj, job, _source(ctx, source)
    if job is not None:
        try:
            here = find_job(ctx, job)
            root, job_id = str(here.service.root), here.id
        except JobNotFoundError:  # the job doesn't exist yet, and will be made
            if os.path.dirname(job) and not is_shard_id(job):
                raise
    if dry_run:
        found = preview_pull(root, there, job_id)
        echo_result(found, _preview_text, is_json=json_output)
        return EXIT_NEEDS_PERSON if any(row.verdict == "review" for row in found.rows) else EXIT_OK
    pulled = pull_job(root, there, job_id, merge=merge)
    where = f"in {os.path.join(root, pulled.job_id)} from {there.name}"
    echo_result(pulled, lambda pulled: _pulled_text(pulled, where), is_json=json_output)
    _report_some([f"{name} {_difference(pulled, name)}" for name in pulled.differing])
    _report_some(_left_out(pulled.left_out))
    merged = pulled.merged
    if merged is not None:
        _report_merged(merged, pulled.job_id)
    now = FoundJob.of(ctx, ReadingService(root), pulled.job_id)
    rows = now.service.get_rows(now.id, RowStatus.NEEDS_REVIEW)
    is_open = any(row.error_code in CODES_OF_MERGES for row in rows)
    is_open = is_open or (merged is not None and bool(merged.left_open or merged.review))
    if is_open:
        echo_err(f"see what to do: {now.command('show', now.id)}")
    return EXIT_NEEDS_PERSON if is_open or pulled.differing else EXIT_OK


def _preview_text(found: Preview) -> str:
    """The lines of a dry run: how the copies differ, and what a merge would do with each row."""
    news, own = (counted(n, "commit|commits") for n in (found.commits, found.our_commits))
    text = {
        "made": f"the job isn't here: it would be created, with {news}",
        "forwarded": f"behind: {news} there would be applied",
        "merged": f"diverged at line {found.line}: {news} there; {own} here",
        "identical": "no commits to pull: both copies end with the same commit",
        "ahead": f"{_AHEAD}, and {own} of its own",
    }
    groups: dict[tuple[str, str | None, str, bool], list[Judgement]] = {}
    for row in found.rows if found.action == "merged" else ():
        kind = row.verdict, row.here, row.there, row.row != row.their_row
        groups.setdefault(kind, []).append(row)
    lines = [f"{found.job_id}: {text[found.action]}"]
    for (verdict, ours, theirs, is_renumbered), rows in groups.items():
        here = Numbers(row.row for row in rows).words()
        if is_renumbered:
            here += f" (there {Numbers(row.their_row for row in rows).text()})"
        state = f"{ours} here" if ours else "not here"
        lines.append(f"{verdict:<7}{here}: {state}, {theirs} there")
    return "\n".join(lines)


def _report_merged(merged: Merged, job_id: str) -> None:
    if merged.job_status != merged.their_job_status:
        echo_err(
            f"{job_id}: the job is {merged.their_job_status} there, and {merged.job_status} here"
        )
    moved = "row {} of the other copy is row {} here, because its number was taken"
    _report_some([moved.format(theirs, ours) for ours, theirs in merged.renumbered.items()])
    if merged.twice:
        echo_err(
            f"{Numbers(merged.twice).words(_MAX_RANGES)}: completed in one copy, and also worked "
            "on by the other copy: perhaps done twice, even if both tracking numbers are equal"
        )
    others = sorted(set(merged.review).difference(merged.twice))
    if others:
        echo_err(
            f"{Numbers(others).words(_MAX_RANGES)}: in flight or in review there, or worked on by both copies"
        )
    if merged.left_open:
        rows = counted(merged.left_open, "row|rows is|are")
        echo_err(f"{rows} open, and the job has ended here ({merged.job_status})")


def _difference(pulled: Pulled, name: str) -> str:
    """Text that says how an artifact differs, and which names the files have now."""
    kept_as = pulled.backups.get(name)
    if kept_as is None:
        return "differs from the other copy's file: the file here was kept"
    if pulled.merged is None and pulled.action == "forwarded":
        return f"differs: the file is now the other copy's; the file that was here is {kept_as}"
    return f"differs: the file here was kept; the other copy's file is {kept_as}"


def _pulled_text(pulled: Pulled, where: str) -> str:
    """Text about a pull. ``where``: the directory and the copy, as text."""
    what = {
        "made": f"created {where}",
        "forwarded": f"{counted(pulled.commits, 'commit|commits')} applied {where}",
        "merged": f"merged {where}",
        "identical": "no commits to pull: both copies end with the same commit",
        "ahead": _AHEAD,
    }
    files = f", {counted(len(pulled.artifacts), 'new file|files')}" if pulled.artifacts else ""
    text = f"{pulled.job_id}: {what[pulled.action]}{files}"
    merged = pulled.merged
    if merged is not None:
        moved = len(merged.renumbered)
        text += (
            f": {counted(len(merged.applied), 'outcome|outcomes')} applied, {counted(len(merged.added), 'row|rows')} added, "
            f"{f'{moved} of them under another number, ' if moved else ''}"
            f"{counted(len(merged.review), 'row|rows needs|need')} a review; the other history is kept as {merged.other}"
        )
    return text


def _source(ctx: click.Context, name: str) -> Source:
    """The source called ``name``: standard input, a job's directory, or a pack."""
    if name == _STDIN:
        return Source("standard input", sys.stdin.buffer.read)
    if os.path.isdir(name) and not os.path.lexists(os.path.join(name, JOURNAL_NAME)):
        raise RefusedError(
            f"{name} is no copy of a job: it is a directory without a {JOURNAL_NAME}"
        )
    host, _, path = name.partition(":")
    if os.path.splitdrive(name)[0]:  # a path on Windows
        host = ""
    if host and path and not os.path.dirname(host) and not os.path.exists(name):
        far = f"ssh {host} journal --root {os.path.dirname(path) or '.'} pack {os.path.basename(path)}"
        here = f"journal {ctx.info_name} -"
        raise click.UsageError(f"{name!r} is not on this machine: {far} -o - | {here}")
    if os.path.isfile(name) or os.path.isdir(name) or os.path.dirname(name):
        return Source(name)
    # The id of a job isn't enough: the user may have swapped SOURCE and JOB.
    what = "the copy to read comes first, and is named by its path"
    raise click.UsageError(f"there is no file or directory {name!r}: {what}")

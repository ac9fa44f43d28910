"""The facts of `journal show` about a set, and commands that settle rows of several shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import click

from journal.cli.find import FoundJob, FoundSet
from journal.cli.job_status import progress_text
from journal.cli.listing_formats import MAX_RANGES, group_text, named_once, next_lines
from journal.cli.next_start import maybe_alive
from journal.cli.output import first_of, local_text
from journal.errors import RefusedError
from journal.history.error_groups import group_errors
from journal.ids import row_id_of
from journal.model import JOB_MEMBERS, JobStatus, RowStatus
from journal.sets.shard_states import (
    ABSENT,
    HOLDING,
    INTERRUPTED,
    OTHER_INPUT,
    PAUSED,
    PRUNED,
    UNREADABLE,
    Whole,
    look_at_set,
    merged_rows,
)
from journal.store.run_lock import late_results
from journal.text import Numbers, cents_text, counted, usage_text
from journal.verbs import missing_rows

_MEMBERS = ("index", "id", "state", "is_open", "has_other_input", "error")
_MAX_CODES = 10
_MAX_READ = 2_000  # rows of each shard that are read for the errors
_WRONG = (RowStatus.FAILED, RowStatus.NEEDS_REVIEW)


class ShownSet:
    """The facts about a set that `journal show` shows."""

    def __init__(self, found: FoundSet) -> None:
        self.whole = whole = look_at_set(found.service, found.id)
        self.job, self.state = whole.job, whole.state
        shards = [found.service.get_rows(job.id, _WRONG) for job in whole.jobs]
        self.errors = group_errors(merged_rows(rows[:_MAX_READ] for rows in shards))
        self.is_partial = any(len(rows) > _MAX_READ for rows in shards)
        self._all_errors = found.command("errors", whole.id)
        directories = (found.service.store.directory(job.id) for job in whole.jobs)
        self.late = [text for directory in directories for text in late_results(directory)]
        self.is_unreadable = any(part.error for part in whole.parts if part.job is None)
        self.next = list(_advice(whole, found))

    def lines(self, width: int | None) -> Iterator[tuple[str, str]]:
        """The lines for people, as pairs of a name and a value."""
        whole, job = self.whole, self.job
        more = ""
        if away := job.total_rows - sum(job.counts.values()):
            more = f", {away} in shards that aren't here" + " or can't be read" * bool(whole.errors)
        facts = {
            "set": whole.id,
            "name": job.name,
            "status": self.state,
            "shards": shards_text(whole),
            "hosts": ", ".join(job.hosts),
            "created": local_text(job.created_at, "%Y-%m-%d %H:%M:%S %Z"),
            "cost": cents_text(job.total_cost_cents) if job.total_cost_cents else "",
            "usage": usage_text(job.usage),
            "progress": progress_text(job, more),
            "waiting": counted(job.waiting_count, "row|rows for somebody else")
            if job.waiting_count
            else "",
        }
        yield from ((name, value) for name, value in facts.items() if value)
        for name, is_read in (("unreadable", False), ("damaged", True)):
            refused = (part.error for part in whole.parts if (part.job is not None) is is_read)
            yield from named_once(name, filter(None, refused))
        yield from named_once("late", self.late)
        errors = [*map(group_text, self.errors[:_MAX_CODES])]
        if self.is_partial or len(self.errors) > _MAX_CODES:
            errors.append(f"`{self._all_errors}` has all")
        yield from named_once("errors", errors)
        yield from named_once("next", next_lines(self.next, width))

    def plain(self) -> dict[str, Any]:
        """The object for ``--json``."""
        return {
            **{name: getattr(self.job, name) for name in JOB_MEMBERS},
            "status": self.state,
            "late": self.late,
            "open": self.whole.open_text,
            "shards": [
                {name: getattr(part, name) for name in _MEMBERS} for part in self.whole.parts
            ],
            "errors": [
                {"code": group.code, "status": group.status, "count": group.count}
                for group in self.errors
            ],
            "errors_partial": self.is_partial,
            "next": [{"command": command, "why": why} for command, why in self.next],
        }


_UNFINISHED = (
    *(JobStatus.RUNNING.value, HOLDING, INTERRUPTED, "unknown", JobStatus.PAUSED.value),
    *(JobStatus.PENDING.value, JobStatus.FAILED.value, JobStatus.CANCELLED.value),
    *(ABSENT, PRUNED, UNREADABLE, PAUSED, OTHER_INPUT),
)


def shards_text(whole: Whole) -> str:
    """The number of shards, and the shards that are not completed, as text."""
    completed = len(whole.indexes(JobStatus.COMPLETED.value))
    of_all = f"{completed} of {len(whole.parts)} completed"
    return "; ".join(filter(None, (of_all, states_text(whole, _UNFINISHED))))


def states_text(whole: Whole, states: Iterable[str]) -> str:
    """The shards in some states, as text such as "1 paused (3)"."""
    found = ((state, whole.indexes(state)) for state in states)
    return "; ".join(
        f"{len(indexes)} {state} ({Numbers(indexes).text(',', MAX_RANGES)})"
        for state, indexes in found
        if indexes
    )


def open_command(whole: Whole, found: FoundJob) -> str:
    """The command that prints the open shards. Absent shards may have been started elsewhere."""
    return found.command("shards", whole.id, "--open", *["--here"][: len(whole.indexes(ABSENT))])


def _advice(whole: Whole, found: FoundSet) -> Iterator[tuple[str, str]]:
    parts = (part for part in whole.parts if part.state == INTERRUPTED)
    died = [part.job for part in parts if part.job is not None]
    if warning := maybe_alive(*died):
        yield "", warning
    if in_doubt := sum(job.processing_count for job in died):
        when = "" if warning else " when its|their run|runs died"
        rows = counted(in_doubt, f"row|rows was|were in flight{when}")
        yield (
            found.command("rows", whole.id, "--status", "processing"),
            f"{rows}: look now, or leave this to the next start (--on-interrupted)",
        )
    for shard_id in [part.id for part in whole.parts if part.is_paused][:_MAX_CODES]:
        yield found.command("resume", shard_id), "paused: no run starts until the job is resumed"
    if whole.open_text:
        why = "the shards to start again (with open rows, or of another input), for a scheduler's array"
        if whole.indexes(ABSENT):
            why += "; leave out --here only if no absent shard was started elsewhere"
        yield open_command(whole, found), why
    if whole.job.failed_rows:
        yield found.command("errors", whole.id), "what went wrong, with all rows"
        yield (
            found.command("retry", whole.id),
            "makes failed rows pending again; then start their shards",
        )
        accept = "or accept the failed rows, which then count as done"
        yield found.command("skip", whole.id, "--status", "failed"), accept
    if whole.job.needs_review_count:
        need = "row|rows needs|need a review: look, then settle it|them"
        rows = counted(whole.job.needs_review_count, need)
        yield found.command("rows", whole.id, "--status", "needs_review"), rows
        resolve = found.command("resolve", whole.id, "--row", "ROWS")
        by_file = " (--from FILE: each with its own values)"
        yield f"{resolve} --completed", f"the rows that took effect{by_file}"
        yield f"{resolve} --retry", "the rows that took no effect; then start their shards"
    if whole.job.status.is_ended and not whole.errors:
        yield found.command("export", whole.id, f"{whole.id}.csv"), "all rows in one table"


def ranges_of_shards(
    job: FoundJob, ranges: list[range] | None
) -> Iterator[tuple[FoundJob, list[range]]]:
    """Yield each shard that has rows in ``ranges``, with these rows. Without ranges, yield nothing.

    Raises RefusedError if one of these shards isn't here.
    """
    if not ranges:
        return
    if not isinstance(job, FoundSet):
        yield job, ranges
        return
    here = {shard.id: shard for shard in job.shards}
    count = job.service.store.count_shards(job.id)
    found: dict[str, list[range]] = {}
    for wanted in ranges:
        for number in range(wanted.start, min(wanted.stop, wanted.start + count)):
            shard_id, _ = job.service.store.locate(row_id_of(job.id, number))
            found.setdefault(shard_id, []).append(range(number, wanted.stop, count))
    if absent := sorted(found.keys() - here.keys()):
        first = min(numbers.start for name in absent for numbers in found[name])
        where = f"a shard that isn't here: {first_of(absent, _MAX_CODES)}"
        raise RefusedError(f"row {job.id}:{first} belongs to {where}")
    for shard_id, wanted_of in found.items():
        yield here[shard_id], wanted_of


def missing_in(job: FoundJob, ranges: list[range] | None) -> list[str]:
    """Messages about rows in ``ranges`` that the job, or each of the shards, doesn't have."""
    return [
        text
        for shard, numbers in ranges_of_shards(job, ranges)
        if (text := missing_rows(shard.id, job.service.get_rows(shard.id), numbers))
    ]


def report_changed(job: FoundSet, done: list[int]) -> None:
    """Report how many rows were changed in each shard, and which shards to start."""
    click.echo(sum(done))
    if done:
        rows = counted(sum(done), "row|rows")
        job.say(f"{rows} changed in {counted(len(done), 'shard|shards')}")
        if (whole := look_at_set(job.service, job.id)).open_text:
            job.say(f"the shards to start again: {open_command(whole, job)}")

"""What `journal show` says about a set of shards, and commands that settle rows of several shards."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from journal.cli.find import FoundJob, FoundSet, counts_text, row_counts, shards_in
from journal.cli.output import bar, local_text
from journal.errors import RefusedError
from journal.history.error_groups import ErrorGroup, Numbers, group_errors
from journal.ids import row_id_of, split_shard_name
from journal.model import JOB_MEMBERS, JobStatus, RowStatus
from journal.sets.whole import (
    ABSENT,
    INTERRUPTED,
    PRUNED,
    UNREADABLE,
    Whole,
    look_at_set,
    merged_rows,
)
from journal.text import as_text, cents_text, counted, shorten, usage_text
from journal.verbs import missing_rows

_MEMBERS = ("index", "id", "state", "is_open", "has_other_input", "error")
_MAX_CODES = 10
_MAX_RANGES = 8
_MOST_READ = 2_000  # rows of each shard that are read for the errors
_WRONG = (RowStatus.FAILED, RowStatus.NEEDS_REVIEW)


class ShownSet:
    """The facts about a set that `journal show` shows."""

    def __init__(self, found: FoundSet) -> None:
        self.whole = look_at_set(found.service, found.id)
        self.command = found.command
        shards = (found.service.get_rows(job.id, _WRONG) for job in self.whole.jobs)
        rows = merged_rows(rows[:_MOST_READ] for rows in shards)
        self.errors = list(group_errors(rows))
        self.next = list(_advice(self.whole, found))

    def lines(self) -> Iterator[tuple[str, str]]:
        """The lines for people, as pairs of a name and a value."""
        whole, job = self.whole, self.whole.job
        total, done = job.total_rows, job.done_rows
        counts = counts_text(row_counts(job))
        if away := total - sum(job.counts.values()):
            counts += f", {away} in shards that aren't here"
        percent = f"{100 * done // total}%" if total else "no rows yet"
        rows = counted(total, "row|rows")
        facts = {
            "set": whole.id,
            "name": job.name,
            "status": whole.state,
            "shards": shards_text(whole),
            "hosts": ", ".join(job.hosts),
            "created": local_text(job.created_at, "%Y-%m-%d %H:%M:%S %Z"),
            "cost": cents_text(job.total_cost_cents) if job.total_cost_cents else "",
            "usage": usage_text(job.usage),
            "progress": f"{bar(done, total, 24)} {percent}, of {rows}: {counts}",
            "waiting": counted(job.waiting_count, "row|rows for somebody else")
            if job.waiting_count
            else "",
        }
        yield from ((name, value) for name, value in facts.items() if value)
        yield from _once("unreadable", (part.error for part in whole.parts if part.error))
        yield from _once("errors", map(_error_text, self.errors[:_MAX_CODES]))
        yield from _once(
            "next", (line for command, why in self.next for line in (f"# {why}", command))
        )

    def plain(self) -> dict[str, Any]:
        """The object for ``--json``."""
        return {
            **{name: getattr(self.whole.job, name) for name in JOB_MEMBERS},
            "status": self.whole.state,
            "open": self.whole.open_text,
            "shards": [
                {name: getattr(part, name) for name in _MEMBERS} for part in self.whole.parts
            ],
            "errors": [
                {"code": group.code, "status": group.status, "count": group.count}
                for group in self.errors
            ],
            "next": [{"command": command, "why": why} for command, why in self.next],
        }


def _once(name: str, values: Any) -> Iterator[tuple[str, str]]:
    for value in values:
        yield name, value
        name = ""


def _error_text(group: ErrorGroup) -> str:
    code = shorten(group.code or "no code", 60)
    review = " (review)" if group.status == RowStatus.NEEDS_REVIEW else ""
    rows = group.numbers.words(_MAX_RANGES)
    return f"{group.count} x {code}{review}: {rows}: {shorten(as_text(group.message), 200)}"


def shards_text(whole: Whole) -> str:
    """How many shards there are, and which of them are not completed."""
    states = (
        *(JobStatus.RUNNING.value, INTERRUPTED, JobStatus.PAUSED.value, JobStatus.PENDING.value),
        *(JobStatus.FAILED.value, JobStatus.CANCELLED.value, ABSENT, PRUNED, UNREADABLE),
    )
    found = [(state, whole.indexes(state)) for state in states]
    found.append(("of another input", [part.index for part in whole.parts if part.has_other_input]))
    texts = [
        f"{len(indexes)} {state} ({Numbers(indexes).text(',', _MAX_RANGES)})"
        for state, indexes in found
        if indexes
    ]
    completed = whole.indexes(JobStatus.COMPLETED.value)
    return "; ".join([f"{len(completed)} of {len(whole.parts)} completed", *texts])


def _advice(whole: Whole, found: FoundSet) -> Iterator[tuple[str, str]]:
    died = (part.job for part in whole.parts if part.state == INTERRUPTED)
    if in_doubt := sum(job.processing_count for job in died if job is not None):
        rows = counted(in_doubt, "row|rows was|were in flight when its|their run|runs died")
        yield (
            found.command("rows", whole.id, "--status", "processing"),
            f"{rows}: look now, or leave this to the next start (--on-interrupted)",
        )
    if whole.open_text:
        why = "the shards to start again, for the array of a scheduler: absent, or with open rows"
        if whole.indexes(ABSENT):
            why += "; if an absent one was started elsewhere, gather it first"
        yield found.command("shards", whole.id, "--open"), why
    if whole.job.failed_rows:
        yield found.command("errors", whole.id), "what went wrong, with all rows"
        yield (
            found.command("retry", whole.id),
            "makes failed rows pending again; then start their shards",
        )
    if whole.job.needs_review_count:
        need = "row|rows needs|need a review: look, then settle it|them"
        rows = counted(whole.job.needs_review_count, need)
        yield found.command("rows", whole.id, "--status", "needs_review"), rows
        resolve = found.command("resolve", whole.id, "--row", "ROWS")
        yield f"{resolve} --completed", "those that took effect"
        yield f"{resolve} --retry", "those that took no effect; then start their shards"
    if whole.job.done_rows == whole.job.total_rows:
        yield found.command("export", whole.id, f"{whole.id}.csv"), "all rows in one table"


def ranges_of_shards(
    job: FoundJob | FoundSet, ranges: list[range] | None
) -> Iterator[tuple[FoundJob, list[range]]]:
    """Yield each shard that has rows in ``ranges``, with these rows. Nothing if there are no ranges.

    Raises RefusedError if one of these shards isn't here.
    """
    if isinstance(job, FoundJob):
        if ranges:
            yield job, ranges
        return
    here = {shard.id: shard for shard in shards_in(job)}
    last = (job.service.get_rows(shard_id)[-1:] for shard_id in here)
    highest = max((row.row_number for rows in last for row in rows), default=0)
    _, count = split_shard_name(next(iter(here), "").partition("/")[2]) or (0, 1)
    found: dict[str, list[range]] = {}
    for wanted in ranges or ():
        # Of the numbers that no row has, the first one stands for all.
        end = min(wanted.stop, max(wanted.start, highest + 1) + 1)
        for number in range(wanted.start, min(end, wanted.start + count)):
            shard_id, _ = job.service.store.locate(row_id_of(job.id, number))
            found.setdefault(shard_id, []).append(range(number, end, count))
    if absent := found.keys() - here.keys():
        numbers = Numbers(heapq.merge(*(each for name in absent for each in found[name])))
        raise RefusedError(f"{numbers.words(_MAX_RANGES)}: {', '.join(sorted(absent))} isn't here")
    yield from ((here[shard_id], numbers) for shard_id, numbers in found.items())


def missing_in(job: FoundJob, ranges: list[range]) -> str | None:
    """A message about rows in ``ranges`` that the job or shard doesn't have, or None."""
    return missing_rows(job.id, job.service.get_rows(job.id), ranges)

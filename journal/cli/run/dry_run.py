"""`journal run --dry-run`: which commands would run, and why."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import click

from journal.cli.advice import echo_advice
from journal.cli.find import ReadingService
from journal.cli.job_status import pause_text
from journal.cli.output import echo_err
from journal.cli.run.messages import about_input
from journal.cli.run.template import Template
from journal.format.pruned import check_may_be_made
from journal.format.records import UNSET_TIME
from journal.fs import shell
from journal.ids import row_id_of
from journal.model import Job, JobRow, Shard
from journal.run.advice import HowTo, nothing_to_do
from journal.run.input_match import (
    InputRules,
    Unwritten,
    match_rows,
    missing_error,
    new_rows,
    split_by,
)
from journal.run.plan import (
    LEFT_OPEN,
    NOT_RUN,
    Matched,
    Plan,
    Planned,
    about_rows_left,
    planned_rows,
)
from journal.store.calls import open_calls
from journal.text import counted, escaped


class DryRun:
    """One call of `journal run --dry-run`. It reads the job, and writes nothing."""

    def __init__(
        self,
        service: ReadingService,
        job_id: str,
        shard: Shard | None,
        template: Template,
        given: Mapping[str, Any],
        how_to: HowTo,
        where: Callable[[JobRow], object] | None,
    ) -> None:
        self._service = service
        self._job_id = job_id
        self._shard = shard
        self._template = template
        self._given = given
        self._how_to = how_to
        self._where = where
        self._commands = 0

    def work(self, rows: Iterable[dict[str, Any]]) -> None:
        """Print a line for each command that would run, then a summary."""
        given = self._given
        job = self._service.get_job(self._job_id)
        matched, plan, count = Matched(), Plan(self._job_id), 0
        planned: Iterable[Planned]
        if job is None:
            if not given["anew"]:
                check_may_be_made(self._service.root, self._job_id)
            rules = InputRules(key=given["key"], existing=given["existing"], how_to=self._how_to)
            if rules.existing:
                raise missing_error(self._service, self._job_id, rules)
            rules, split = split_by(
                rules, self._service, self._job_id, self._shard, anew=given["anew"]
            )
            new = new_rows(rows, rules, split)
            planned = (
                Planned(row, "new" if self._where is None or self._where(row) else LEFT_OPEN, "new")
                for row in self._new_rows(
                    zip(self._numbers(None), (row["data"] for row in new), strict=False)
                )
            )
        else:
            self._service.store.check_uncut(job.id)  # the start would be refused
            matched, planned = self._of_job(job, rows)
        batch: list[Planned] = []
        calls, resumed = self._rows_of_calls(job), dict[int, list[Planned]]()
        for one in planned:
            plan.take(one)
            if call := calls.get(one.row.row_number):
                resumed.setdefault(call, []).append(one)
                continue
            if one.kind in NOT_RUN or count == given["max_rows"]:
                continue
            count += 1
            batch.append(one)
            if len(batch) == (given["batch"] or 1):
                self._take(batch)
                batch.clear()
        for rest in filter(None, (batch, *resumed.values())):
            self._take(rest)
        for text in given["where"].unmet():
            echo_err(f"{self._job_id}: {text}")
        self._report(job, matched, plan)

    def _of_job(
        self, job: Job, rows: Iterable[dict[str, Any]]
    ) -> tuple[Matched, Iterable[Planned]]:
        given, unwritten = self._given, Unwritten()
        names = ("key", "on_changed", "on_gone")
        rules = InputRules(**{name: given[name] for name in names}, how_to=self._how_to)
        rules, split = split_by(rules, self._service, job.id, self._shard, anew=False)
        matched = match_rows(self._service, job, rows, rules, unwritten, split)
        numbered = zip(self._numbers(job.id), unwritten.new, strict=False)
        planned = planned_rows(
            *(self._service, job, given["on_interrupted"]),
            retry_failed=given["retry_failed"],
            new=self._new_rows(numbered),
            changed=unwritten.changed,
            gone=unwritten.gone,
            where=self._where,
        )
        return matched, planned

    def _rows_of_calls(self, job: Job | None) -> dict[int, int]:
        """The open rows of recorded calls, by call: the rows of a call come back together."""
        if job is None:
            return {}
        with self._service.store.reading(job.id) as journal:
            return {row: call.id for call in open_calls(journal) for row in call.open}

    def _numbers(self, job_id: str | None) -> Iterator[int]:
        """The numbers that the next new rows get."""
        rows = () if job_id is None else self._service.get_rows(job_id)
        first, distance = (self._shard or Shard(0, 1)).numbers
        return itertools.count(rows[-1].row_number + distance if rows else first, distance)

    def _take(self, planned: list[Planned]) -> None:
        self._commands += 1
        numbers = ",".join(str(one.row.row_number) for one in planned)
        reasons = ", ".join(dict.fromkeys(one.why for one in planned))
        line = shell.join(self._template.fill_all([one.row for one in planned]))
        click.echo("\t".join(map(escaped, (numbers, reasons, line))))

    def _report(self, job: Job | None, matched: Matched, plan: Plan) -> None:
        for text in about_input(job, matched, self._given, self._template, is_new=job is None):
            echo_err(f"{self._job_id}: {text}")
        for text in about_rows_left(self._job_id, matched, self._how_to):
            echo_err(text)
        changes = self._commands or matched.gone_settled
        if job is not None:
            if job.pause is not None:
                echo_err(
                    f"{job.id}: paused {pause_text(job.pause)}: no run starts until `journal resume`"
                )
            plan.leave(job, matched)
            if job.status.is_ended and not changes:
                echo_err(nothing_to_do(job, self._how_to))
        echo_err(f"{self._job_id}: {plan}")
        would = counted(self._commands, "command|commands would run")
        echo_err(f"{self._job_id}: {would}; nothing was run or written")
        if job is not None and job.status.is_ended and not changes:
            echo_advice(self._service, job, self._how_to.line)

    def _new_rows(self, numbered: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[JobRow]:
        """The new rows, with the numbers that the journal would give them."""
        for number, data in numbered:
            row_id = row_id_of(self._job_id, number)
            yield JobRow(row_id, self._job_id, number, "", data, UNSET_TIME, UNSET_TIME)

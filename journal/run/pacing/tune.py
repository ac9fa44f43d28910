"""Changes the limits of a run while it works: see :meth:`JobService.tune_job`."""

from __future__ import annotations

from typing import Any

from journal.display.repr import tuned_text
from journal.errors import InvalidValueError
from journal.format.arguments import NONE, ROWS, check_tune
from journal.format.records import UNSET_TIME, TunedRecord, TuneRecord
from journal.run.lifecycle import RunningJob
from journal.run.pacing.concurrency import Starts
from journal.run.pacing.holds import Holds
from journal.run.pacing.limit_per import unknown_column
from journal.run.pacing.limits import Limits
from journal.run.pacing.rates import UsageRates, row_rate
from journal.run.row_queue import RowQueue
from journal.run.signals import Stops
from journal.run.workers.base import Workers
from journal.run.workers.in_flight import InFlight
from journal.text import counted, time_text


class Tuning:
    """Makes the changes that somebody has requested from a run. Only the driver uses this class."""

    def __init__(
        self,
        job: RunningJob,
        limits: Limits,
        workers: Workers,
        in_flight: InFlight,
        queue: RowQueue,
        holds: Holds,
        starts: Starts,
        stops: Stops,
    ) -> None:
        self._job = job
        self._limits = limits
        self._workers = workers
        self._in_flight = in_flight
        self._queue = queue
        self._holds = holds
        self._starts = starts
        self._stops = stops

    def take(self) -> None:
        """Take the changes that are requested now, in their order.

        Each change is recorded, and then made.

        Raises the errors of a commit. After such an error, the run is unchanged.
        """
        for tune in self._job.tunes():
            with self._job.service.batch(self._job.id):
                if tune not in self._job.tunes():
                    continue  # the commit with the request was undone
                answer = self._answer(tune)
                self._job.put(answer)
                if "end_hold" in answer.changes:
                    self._holds.end()
            self._change(answer.changes)
            by = f" by {tune.person}" if tune.person else ""
            text = f"tuned{by}: {tuned_text(answer) or 'nothing has changed'}"
            self._job.report(f"{self._job.id}: {text}")

    def _answer(self, tune: TuneRecord) -> TunedRecord:
        reasons: list[str] = []
        changes: dict[str, tuple[Any, Any]] = {}
        try:
            asked = check_tune(**tune.values)
            if self._stops.count:
                asked, reasons = {}, ["the run is ending: start the job again with these limits"]
            for name, value in asked.items():
                was, now, reason = self._tuned(name, value)
                reasons += [reason] if reason else []
                changes |= {} if was == now else {name: (was, now)}
        except (InvalidValueError, TypeError) as error:  # from another program or version
            changes, reasons = {}, [str(error)]
        why = "; ".join(reasons) or None
        return TunedRecord(id=tune.id, changes=changes, reason=why, at=UNSET_TIME)

    def _tuned_workers(self, asked: int) -> tuple[int, int, str]:
        count, most = self._workers.count, self._workers.maximum
        lost = count - self._in_flight.slots
        if asked <= lost:
            hang = counted(lost, "worker|workers hangs|hang")
            return (
                count,
                count,
                f"{hang} in attempts that were given up: give more workers than that",
            )
        if most is None or asked <= most:
            return count, asked, ""
        workers = counted(most, "worker|workers")
        return count, most, f"the executor has {workers}, and no run uses more"

    def _tuned(self, name: str, asked: Any) -> tuple[Any, Any, str]:
        """The value of a limit before and after the change, and why it isn't as requested, or ""."""
        was = self._limits.tunable.get(name)
        now, reason = None if asked == NONE else asked, ""
        if name == "rate":
            rates = {**(was or {}), **asked}
            known = {ROWS: 0, **self._job.job().usage}
            wrong = [each for each in asked if each not in (*known, *(was or {}))]
            if len(known) > 1 and wrong:
                names = ", ".join(map(repr, known))
                return was, was, f"no outcome has used {wrong[0]!r}, but {names}"
            now = {each: rate for each, rate in rates.items() if rate != NONE} or None
        elif name == "limit_per" and (reason := unknown_column(self._job, now)):
            now = was
        elif name == "workers":
            return self._tuned_workers(asked)
        elif name == "end_hold":
            until, now = self._holds.until, None
            was, reason = (time_text(until), "") if until else (None, "the run doesn't hold")
        return was, now, reason

    def _change(self, changes: dict[str, tuple[Any, Any]]) -> None:
        limits = self._limits
        for name in changes.keys() - {"end_hold"}:
            setattr(limits, name, changes[name][1])
        if "workers" in changes:
            self._workers.resize(changes["workers"][1])
            self._queue.workers = self._holds.workers = self._workers.count
        if "rate" in changes:
            former, self._starts.rate = self._starts.rate, row_rate(limits)
            if self._starts.rate is not None:
                self._starts.rate.follow(former)
            usage = self._queue.usage if limits.usage_rates else None
            if usage is not None:
                usage.change(limits.usage_rates)
            elif limits.usage_rates:
                usage = UsageRates(limits, self._job)
            self._queue.usage = usage
        if "limit_per" in changes:
            self._queue.limit_per(limits.limit_per, self._in_flight.rows)
        if changes.keys() - {"end_hold"}:
            self._starts.change()
            self._in_flight.take_back()  # rows not yet begun start again, by the new limits

"""A job of six rows. Its calls with many rows are begun, wait and are resumed."""

from collections.abc import Callable
from functools import partial
from typing import Any

from journal import Job, JobService
from journal.format.records import A_RUN
from journal.store import bulk, calls
from journal.store.calls import Call
from journal.store.interrupted_rows import start_run
from journal.store.journal import Journal

JOB, COUNT = "calls", 6


class Work:
    """The job. Each method makes a commit."""

    def __init__(self, service: JobService) -> None:
        self.service = service

    def make(self, rows: int = COUNT) -> None:
        data = [{"data": {"n": n}} for n in range(rows)]
        self.service.create_job("Calls", job_id=JOB, row_data=data)
        start_run(self.service.store, JOB, "resume")

    @property
    def journal(self) -> Journal:
        return self.service.store.journal(JOB)

    def do(self, change: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return self.journal.change(partial(change, **named), *arguments)

    def start_rows(self, *numbers: int) -> None:
        started = self.do(bulk.start_rows, iter(numbers), len(numbers), A_RUN)
        assert [row.row_number for row in started] == list(numbers)

    def begin(self, *numbers: int) -> Call:
        """Start rows, and a call with these rows."""
        self.start_rows(*numbers)
        call: Call = self.do(calls.begin_call, [(number, 1) for number in numbers])
        return call

    def get(self, call: Call) -> Call:
        with self.service.store.reading(JOB) as journal:
            return calls.get_call(journal, call.id)

    def open(self) -> list[Call]:
        with self.service.store.reading(JOB) as journal:
            return calls.open_calls(journal)

    def wait(self, call: Call, after_s: float | None = 60) -> Call:
        self.do(calls.wait_call, call.id, after_s, "submitted")
        return self.get(call)

    def resume(self, call: Call) -> Call:
        resumed: Call = self.do(calls.resume_call, call.id)[0]
        return resumed

    def step(self, call: Call, name: str, *, idempotent: bool = False) -> Any:
        return self.do(calls.begin_step, call.id, call.turn, name, idempotent=idempotent)

    def done(self, call: Call, name: str, result: Any = None) -> Any:
        return self.do(calls.end_step, call.id, call.turn, call.open, name, result=result)

    def do_step(self, call: Call, name: str, result: Any = None) -> None:
        self.step(call, name)
        self.done(call, name, result)

    def statuses(self) -> list[str]:
        return [row.status.value for row in self.service.get_rows(JOB)]

    def job(self) -> Job:
        job = self.service.get_job(JOB)
        assert job is not None
        return job

    def crash(self, policy: Any = "resume") -> None:
        """Start another run after the death of this run, in another service without a hint."""
        self.service.close()
        self.service = JobService(self.service.root)
        start_run(self.service.store, JOB, policy)


def row(number: int) -> str:
    return f"{JOB}:{number}"

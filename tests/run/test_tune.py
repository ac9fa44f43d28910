"""`tune`: somebody changes the limits of a run while it works."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from support.platforms import needs_signals

import journal
from journal import AttemptedRow, Hold, InvalidValueError, JobRun, JobService, RefusedError, Wait
from journal.cli.commands import control
from journal.cli.main import main
from journal.display.repr import tuned_text
from journal.format.records import UNSET_TIME, RunEndedRecord, TunedRecord, TuneRecord
from journal.history.history import read_history
from journal.model import Tuned
from journal.run.lifecycle import RunningJob
from journal.run.pacing.concurrency import Ahead
from journal.store.transitions import put_record, state_of
from journal.text import counted

WAIT_S = 60.0


class Crowd:
    """A handler that stays until it is let go: how many calls are at work, and the most since."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Future[None]] = []
        self._is_open = False
        self.at_work = self.most = 0

    def arrive(self) -> Future[None]:
        future = Future[None]()
        with self._changed:
            self.at_work += 1
            self.most = max(self.most, self.at_work)
            self._waiting.append(future)
            self._changed.notify_all()
            if self._is_open:
                self._let_go(1)
        return future

    def _let_go(self, count: int) -> None:
        for _ in range(min(count, len(self._waiting))):
            self.at_work -= 1
            self._waiting.pop(0).set_result(None)

    def let_go(self, count: int) -> None:
        with self._changed:
            self._let_go(count)
            self.most = self.at_work

    def until(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.at_work == count, WAIT_S), self.at_work

    def open(self) -> None:
        """Let go all who are here or come later."""
        with self._changed:
            self._is_open = True
            self._let_go(len(self._waiting))


def open_job(path: Path, count: int = 40, **options: Any) -> JobRun:
    rows = [{"n": n, "c": "x"} for n in range(count)]
    return journal.open_job(path, rows, sync="none", **options)


@contextmanager
def in_thread(call: Callable[[], object]) -> Iterator[threading.Thread]:
    """Make a call in a thread during the block, and raise its error at the end."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(WAIT_S)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


def tune_elsewhere(path: Path, **values: Any) -> Tuned:
    """Tune the run as another process does."""
    with JobService(path.parent, sync="none", person="alice@host") as service:
        tuned = service.tune_job("j", **values, wait_s=WAIT_S)
    assert tuned is not None
    return tuned


def records(path: Path, *kinds: type[Any]) -> list[Any]:
    with JobService(path.parent) as service:
        return list(read_history(service.store, "j").records(*kinds))


def assert_nothing_is_lost(job: JobRun) -> None:
    rows = job.rows()
    assert {row.status.value for row in rows} == {"completed"}
    assert {row.attempts - row.earlier_attempts for row in rows} == {1}


# --- workers


def five_ahead(ahead: Ahead, _slots: int) -> int:
    """As many rows wait for a worker as while handlers are faster than commits."""
    ahead.rows = 5
    return 5


def in_threads(job: JobRun, crowd: Crowd, **options: Any) -> None:
    job.run(lambda _row: crowd.arrive().result(WAIT_S), **options)


async def _stay(crowd: Crowd) -> None:
    await asyncio.wrap_future(crowd.arrive())


def in_a_new_loop(job: JobRun, crowd: Crowd, **options: Any) -> None:
    async def handler(_row: AttemptedRow) -> None:
        await _stay(crowd)

    job.run(handler, **options)


def in_the_callers_loop(job: JobRun, crowd: Crowd, **options: Any) -> None:
    async def handler(_row: AttemptedRow) -> None:
        await _stay(crowd)

    asyncio.run(job.arun(handler, **options))


def in_a_pool(job: JobRun, crowd: Crowd, **options: Any) -> None:
    with ThreadPoolExecutor(6) as pool:
        job.run(lambda _row: crowd.arrive().result(WAIT_S), pool, **options)


@pytest.mark.usefixtures("no_threads_left")
@pytest.mark.parametrize("place", [in_threads, in_a_new_loop, in_the_callers_loop, in_a_pool])
def test_the_number_of_workers_goes_up_and_down_under_load_and_nothing_in_flight_is_lost(
    path: Path, place: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ahead, "look", five_ahead)
    crowd = Crowd()
    with open_job(path) as job:
        run = lambda: place(job, crowd, workers=2, halt="never", handle_signals=False)  # noqa: E731
        with in_thread(run):
            crowd.until(2)
            assert tune_elsewhere(path, workers=6) == Tuned(changes={"workers": (2, 6)})
            crowd.until(6)
            assert tune_elsewhere(path, workers=3) == Tuned(changes={"workers": (6, 3)})
            crowd.let_go(4)
            crowd.until(3)
            crowd.let_go(0)  # from now on, the most is that of three workers
            crowd.let_go(2)
            crowd.until(3)
            assert tune_elsewhere(path, workers=1).changes == {"workers": (3, 1)}
            assert tune_elsewhere(path, workers=1) == Tuned(), "it has so many already"
            assert crowd.most == 3
            crowd.let_go(3)
            crowd.until(1)
            crowd.let_go(0)
            crowd.open()
        assert crowd.most == 1
        assert_nothing_is_lost(job)
        assert job.job.last_run is not None
        assert job.job.last_run.tuned == {"workers": 1}


def test_the_size_of_a_pool_is_its_bound_and_the_answer_says_so(path: Path) -> None:
    crowd = Crowd()
    bound = "the executor has 6 workers, and no run uses more"
    with open_job(path) as job, in_thread(lambda: in_a_pool(job, crowd, workers=2, halt="never")):
        crowd.until(2)
        assert tune_elsewhere(path, workers=16) == Tuned(changes={"workers": (2, 6)}, reason=bound)
        crowd.until(6)
        with pytest.raises(RefusedError, match=f"^the run of job 'j' changes nothing: {bound}"):
            tune_elsewhere(path, workers=7)
        crowd.open()


def test_workers_that_hang_are_not_the_last_ones_that_a_run_is_left_with(path: Path) -> None:
    """Otherwise the run would end, and the rows in flight with it."""
    hung = threading.Event()

    def handler(row: AttemptedRow) -> Any:
        return Wait(3600) if row.row_number == 2 else hung.wait(WAIT_S)

    with open_job(path, 2) as job, ThreadPoolExecutor(3) as pool:
        with in_thread(lambda: job.run(handler, pool, timeout_s=0.01)):
            until_recorded(job, 1)
            text = "1 worker hangs in attempts that were given up: give more workers than that"
            with pytest.raises(RefusedError, match=f"changes nothing: {text}"):
                tune_elsewhere(path, workers=1)
            assert tune_elsewhere(path, workers=2).changes == {"workers": (3, 2)}
            job.stop()
            hung.set()
        assert job.job.waiting_count == 1


def test_commands_of_a_run_are_tuned_from_another_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows").write_text("".join(f"{n}\n" for n in range(12)))
    begun = Path("begun")
    begun.mkdir()
    command = 'echo > "begun/$1"; while [ ! -e "go$1" -a ! -e go ]; do sleep 0.01; done'
    words = ("--lines", "--job", "j", "-j", "1", "--", "sh", "-c", command, "sh", "{line}")
    start = (sys.executable, "-m", "journal", "--root", "jobs", "run", "rows", *words)
    process = subprocess.Popen(start, stderr=subprocess.PIPE, text=True)

    def until_begun(count: int) -> None:
        while len(os.listdir(begun)) < count:
            assert process.poll() is None

    try:
        until_begun(1)
        assert main(["--root", "jobs", "tune", "j", "-j", "3", "--rate", "900/s"]) == 0
        assert capfd.readouterr().err == "j: workers 1 -> 3, rate none -> 900/s\n"
        until_begun(3)
        assert main(["--root", "jobs", "tune", "j", "--rate", "many"]) == 2
        assert capfd.readouterr().err.endswith("above 0 and /s, /m or /h: 50/s, or none\n")
        assert main(["--root", "jobs", "tune", "j", "-j", "2", "--rate", "none"]) == 0
        assert capfd.readouterr().err == "j: workers 3 -> 2, rate 900/s -> none\n"
        for number in (0, 1):
            Path(f"go{number}").touch()
        until_begun(4)
        assert main(["--root", "jobs", "tune", "j", "-j", "2"]) == 0  # the run has looked again
        text = "j: the run has these limits already: nothing was changed\n"
        assert capfd.readouterr().err == text
        assert len(os.listdir(begun)) == 4
    finally:
        Path("go").touch()
        said = process.communicate(timeout=WAIT_S)[1]
    assert process.returncode == 0
    assert "workers 1 -> 3, rate none -> 900/s\n" in said


@needs_signals
@pytest.mark.parametrize(
    ("number", "kind", "why"),
    [
        (None, "cost", "the job has cost 5 cents, and `--max-cost-cents` is 5: start again with a"),
        (signal.SIGTERM, "signal", "stopped by SIGTERM"),
    ],
)
def test_a_run_that_begins_to_end_says_so_to_every_reader_and_takes_no_change(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int | None,
    kind: str,
    why: str,
) -> None:
    """A row hangs then. Nobody forecasts an end of the open rows, since the run starts none."""
    monkeypatch.chdir(tmp_path)
    Path("rows").write_text("".join(f"{n}\n" for n in range(999)))
    command = (
        "if [ $1 != 0 ]; then until [ -e go ]; do sleep 0.01; done; fi; echo '{\"cost_cents\":5}'"
    )
    most = "5" if number is None else "500"
    limits = f"--lines --job j -j 2 --stdout json --max-cost-cents {most}".split()
    words = (*limits, "--", "sh", "-c", command, "sh", "{line}")
    start = (sys.executable, "-m", "journal", "--root", "jobs", "run", "rows", *words)

    def printed(*words: str) -> str:
        assert main(["--root", "jobs", *words]) == 0
        return capfd.readouterr().out

    process = subprocess.Popen(start, stderr=subprocess.PIPE, text=True)
    with JobService("jobs") as service:
        try:
            while (job := service.get_job("j")) is None or job.total_cost_cents < 5:
                assert process.poll() is None
            if number is not None:
                process.send_signal(number)
            until_s, early = monotonic() + WAIT_S, None
            while early is None:
                assert monotonic() < until_s
                job = service.get_job("j")
                assert job is not None
                assert job.last_run is not None
                early = job.last_run.ended_early
            assert (job.status, early.kind) == ("running", kind)
            shown = printed("show", "j")
            text = f"pausing, {counted(job.processing_count, 'row|rows')} in flight"
            assert f"\nstatus      {text}\n" in shown
            assert f"\npaused      {why}" in shown
            assert f"\nlimits      workers 2, max_cost_cents {500 if number else 5}\n" in shown
            assert " left" not in shown
            assert f"  {text}" in printed("list")
            assert main(["--root", "jobs", "tune", "j", "--max-cost-cents", "9000"]) == 4
            text = "the run is ending: start the job again with these limits"
            assert text in capfd.readouterr().err
        finally:
            Path("go").touch()
            process.communicate(timeout=WAIT_S)
        assert f"\npaused      {why}" in printed("show", "j")
    assert len(records(Path("jobs/j"), RunEndedRecord)) == 1


@needs_signals
@pytest.mark.parametrize("count", [1, 2])
def test_a_signal_during_the_last_rows_of_a_run_ends_nothing_early(path: Path, count: int) -> None:
    with open_job(path, count) as job:

        def early() -> str | None:
            run = job.job.last_run
            return run.ended_early.kind if run and run.ended_early else None

        def handler(_row: AttemptedRow) -> None:
            signal.raise_signal(signal.SIGINT)
            until_s = monotonic() + 1
            while early() is None and monotonic() < until_s:
                pass

        job.run(handler, workers=1, progress=False)
        expected = ("completed", None) if count == 1 else ("paused", "signal")
        assert (job.job.status, early()) == expected


# --- other limits


def until_recorded(job: JobRun, number: int) -> None:
    """Wait until a row's outcome is on the disk."""
    while (row := job.service.get_row(f"j:{number}")) is None or row.status.is_open:
        pass


def test_a_rate_begins_changes_and_ends_with_the_next_start(path: Path) -> None:
    """The first rate lets one row start at once. A rate that follows it counts this start."""
    slow = threading.Event()

    def handler(row: AttemptedRow) -> None:
        if row.row_number == 5:
            assert job.tune(rate="1/h", wait_s=WAIT_S) == Tuned(
                changes={"rate": (None, {"rows": "1/h"})}
            )
            slow.set()

    with open_job(path) as job, in_thread(lambda: job.run(handler)):
        assert slow.wait(WAIT_S)
        until_recorded(job, 6)
        tune_elsewhere(path, max_cost_cents=99)  # the run has looked again
        assert job.job.done_rows == 6
        assert tune_elsewhere(path, rate="2/h").changes["rate"] == (
            {"rows": "1/h"},
            {"rows": "2/h"},
        )
        tune_elsewhere(path, max_cost_cents=98)  # the run has looked again
        assert job.job.done_rows == 6
        assert tune_elsewhere(path, rate="none").changes["rate"] == ({"rows": "2/h"}, None)
    with journal.open_job(path) as job:
        assert_nothing_is_lost(job)


def test_a_rate_by_usage_begins_and_ends_while_calls_are_in_flight(path: Path) -> None:
    crowd = Crowd()

    def handler(_row: AttemptedRow) -> Any:
        crowd.arrive().result(WAIT_S)
        return journal.RowResult(usage={"tokens": 10, "calls": 1})

    with open_job(path) as job, in_thread(lambda: job.run(handler, workers=4, halt="never")):
        crowd.until(4)
        tune_elsewhere(path, rate={"tokens": "100/h"})
        crowd.let_go(4)  # they began before
        crowd.until(1)  # as long as no usage is known
        tune_elsewhere(path, rate={"tokens": "1000/h", "calls": "6/h"})
        crowd.let_go(1)
        crowd.until(1)
        crowd.let_go(1)
        crowd.until(2)  # two usages are known
        with pytest.raises(
            RefusedError, match="no outcome has used 'token', but 'rows', 'tokens', "
        ):
            tune_elsewhere(path, rate={"token": "1/h"})
        changed = tune_elsewhere(path, rate={"calls": "none", "tokens": "20/h"})
        assert changed.changes == {
            "rate": ({"tokens": "1000/h", "calls": "6/h"}, {"tokens": "20/h"})
        }
        crowd.let_go(2)
        tune_elsewhere(path, workers=5)
        tune_elsewhere(path, workers=4)  # the run has recorded them, and looked again
        assert crowd.at_work == 0
        tune_elsewhere(path, rate={"tokens": "none"})
        crowd.until(4)
        crowd.open()
    with journal.open_job(path) as job:
        assert_nothing_is_lost(job)


def test_rows_that_wait_for_a_slot_keep_their_turn_when_the_limit_changes(path: Path) -> None:
    """Rows to be tried again, and rows that have waited, start though ``max_rows`` are started."""
    crowd, seen = Crowd(), list[int]()

    def handler(row: AttemptedRow) -> Any:
        seen.append(row.row_number)
        if row.row_number == 3:
            crowd.arrive().result(WAIT_S)
        elif row.attempts == 1 and row.row_number == 1:
            raise journal.Retry("again", after_s=0.2)
        elif row.attempts == 1:
            return Wait(0.2)
        return None

    limits: dict[str, Any] = {"workers": 4, "max_attempts": 3, "max_rows": 3, "limit_per": {"c": 1}}
    with open_job(path, 9) as job, in_thread(lambda: job.run(handler, **limits)):
        crowd.until(1)
        due_s = monotonic() + 0.2
        while monotonic() < due_s:  # until the run has looked, and they wait for the slot
            tune_elsewhere(path, workers=4)
        tune_elsewhere(path, limit_per={"c": 2})
        while len(seen) < 5:
            assert crowd.at_work
        crowd.open()
    assert sorted(seen) == [1, 1, 2, 2, 3]


def test_a_limit_of_the_cost_below_what_is_spent_pauses_the_run_and_a_higher_one_lets_it_go_on(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def handler(row: AttemptedRow) -> Any:
        if row.row_number == 3:
            tuned = job.tune(max_cost_cents=100, wait_s=WAIT_S)
            assert tuned == Tuned(changes={"max_cost_cents": (50, 100)})
        if row.row_number == 8:
            job.tune(max_cost_cents=25, wait_s=WAIT_S)
        return journal.RowResult(cost_cents=10)

    with open_job(path) as job:
        report = job.run(handler, max_cost_cents=50)
        assert (report.completed, job.job.status) == (8, "paused")
        assert report.reason is not None
        assert "the job has cost 70 cents" in report.reason
        assert "`max_cost_cents` is 25: start again with a higher limit" in report.reason
    assert main(["--root", str(path.parent), "show", "j"]) == 0
    shown = capfd.readouterr().out
    assert "to continue, run the script again" in shown
    assert "pauses at once" not in shown, "the next run has the limit with which it is started"


def test_no_row_waits_for_a_worker_once_the_cost_is_limited(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the row that reaches the limit, no row may begin."""
    monkeypatch.setattr(Ahead, "look", five_ahead)
    begun = list[int]()

    def handler(row: AttemptedRow) -> Any:
        begun.append(row.row_number)
        if row.row_number == 20:
            job.tune(max_cost_cents=1, wait_s=WAIT_S)
            return journal.RowResult(cost_cents=1)
        return None

    with open_job(path) as job:
        job.run(handler, halt="never")
    assert begun == list(range(1, 21))


def test_the_end_of_a_hold_lets_the_run_try_a_row_at_once(path: Path) -> None:
    refused, said = list[int](), list[str]()

    def handler(row: AttemptedRow) -> None:
        if not refused:
            refused.append(row.row_number)
            raise Hold("Empty", "no credit", after_s=3600)

    def tell(text: str) -> None:
        said.append(text)
        if "holding" in text:
            tuned = job.tune(end_hold=True, workers=2, wait_s=WAIT_S)
            assert tuned is not None
            assert tuned.changes.keys() == {"end_hold", "workers"}

    with open_job(path) as job:
        job.run(handler, tell=tell)
        assert_nothing_is_lost(job)
        assert job.job.last_run is not None
        assert job.job.last_run.tuned == {"workers": 2}
    assert any("tuned: workers 1 -> 2, the hold ends" in text for text in said)


@pytest.mark.parametrize("state", ["works", "is paused", "waits for rows"])
def test_a_run_takes_a_change_while_it_works_is_paused_or_waits(path: Path, state: str) -> None:
    crowd, said = Crowd(), threading.Event()

    def handler(_row: AttemptedRow) -> Any:
        if state == "waits for rows":
            return Wait(3600)
        return crowd.arrive().result(WAIT_S)

    def tell(text: str) -> None:
        if "paused by another" in text or "for somebody else" in text:
            said.set()

    with open_job(path, 3) as job, in_thread(lambda: job.run(handler, tell=tell)):
        if state != "waits for rows":
            crowd.until(1)
        if state == "is paused":
            job.service.pause_job("j")
        assert state == "works" or said.wait(WAIT_S)
        with pytest.raises(RefusedError, match="changes nothing: the run doesn't hold"):
            tune_elsewhere(path, end_hold=True)
        assert tune_elsewhere(path, workers=3).changes == {"workers": (1, 3)}
        if state == "is paused":
            assert crowd.at_work == 1
            job.service.resume_job("j")
        crowd.open()
        if state == "waits for rows":
            job.stop()


# --- who asks, and what is recorded


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "tune: says nothing to change: give workers, rate, limit_per, max_cost_cents or end_"),
        ({"workers": 0}, "workers: must be an int from 1 (got 0)"),
        ({"workers": "4"}, "workers: must be an int from 1 (got '4')"),
        ({"rate": "5"}, "rate: must be a number above 0 and /s, /m or /h: 5/s (got '5')"),
        ({"rate": {}}, "tune: says nothing to change"),
        ({"rate": {"tokens": "0/s"}}, "rate['tokens']: must be a number above 0 and"),
        ({"limit_per": {"c": 0}}, "limit_per['c']: must be an int from 1 (got 0)"),
        ({"limit_per": {}}, "limit_per: must be a dict from one column to a number of rows"),
        ({"max_cost_cents": -1}, "max_cost_cents: must be from 0 to"),
        ({"end_hold": 1}, "end_hold: must be True or False (got 1)"),
        ({"wait_s": -1}, "wait_s: must be seconds, 0 or more (got -1)"),
    ],
)
def test_nonsense_is_refused_before_anything_is_recorded(
    path: Path, values: dict[str, Any], text: str
) -> None:
    with open_job(path, 1) as job:
        job.service.start_job("j")
        with pytest.raises(InvalidValueError) as caught:
            job.tune(**values)
        job.service.update_status("j", "paused")
    assert str(caught.value).startswith(text)
    assert records(path, TuneRecord) == []


@pytest.mark.parametrize("values", [{"workers": 0}, {"frobs": 1}, {"rate": ["x"]}, {}])
def test_what_another_program_has_asked_and_this_one_does_not_know_is_answered(
    path: Path, values: dict[str, Any]
) -> None:
    crowd = Crowd()
    with open_job(path, 2) as job, in_thread(lambda: in_threads(job, crowd)):
        crowd.until(1)
        with JobService(path.parent, sync="none") as service, service.batch("j"):
            log = service.store.journal("j")
            run = state_of(log).run
            assert run is not None
            foreign = TuneRecord(id="f" * 16, run=run.id, values=values, at=UNSET_TIME)
            log.change(put_record, foreign)
            other = TuneRecord(id="e" * 16, run="0" * 16, values={"workers": 2}, at=UNSET_TIME)
            log.change(put_record, other)
        tune_elsewhere(path, workers=2)
        crowd.open()
    answers = records(path, TunedRecord)
    assert [(record.id, record.changes) for record in answers[:1]] == [("f" * 16, {})]
    assert answers[0].reason
    assert len(answers) == 2, "another run's has no effect"


def test_without_a_run_there_is_nothing_to_tune(path: Path) -> None:
    with open_job(path, 1) as job:
        for _ in range(2):
            with pytest.raises(RefusedError, match="no run works on job 'j', so there is nothing"):
                job.tune(workers=4)
            job.run(lambda _row: None)
        with pytest.raises(journal.JobNotFoundError):
            job.service.tune_job("k", workers=4)
    assert records(path, TuneRecord) == []


def test_in_a_batch_nobody_waits_and_what_the_batch_undoes_is_not_taken(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd, tunes = Crowd(), RunningJob.tunes
    looks, asked, seen = threading.Event(), threading.Event(), threading.Event()

    def look(held: RunningJob) -> tuple[TuneRecord, ...]:
        looks.set()
        asked.wait(WAIT_S)
        found = tunes(held)
        if found:
            seen.set()
        return found

    monkeypatch.setattr(RunningJob, "tunes", look)
    with open_job(path) as job, in_thread(lambda: in_threads(job, crowd, workers=2)):
        assert looks.wait(WAIT_S)
        with suppress(ZeroDivisionError), job.service.batch("j"):
            assert job.tune(workers=9) is None
            asked.set()
            assert seen.wait(WAIT_S), "the run sees it before it is committed"
            raise ZeroDivisionError
        assert job.tune(workers=3, wait_s=WAIT_S) == Tuned(changes={"workers": (2, 3)})
        crowd.open()
    assert [record.values for record in records(path, TuneRecord)] == [{"workers": 3}]


RUN = """
import sys, threading, journal

def handler(row):
    if row.row_number == 3:
        print("up", flush=True)
        threading.Event().wait()

with journal.open_job(sys.argv[1]) as job:
    job.run(handler)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="a process can't be stopped here")
def test_a_run_that_was_killed_before_its_answer_has_changed_nothing_for_the_next_one(
    path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_job(path, 5).close()
    monkeypatch.setattr(control, "_TUNE_WAIT_S", 0.0)
    process = subprocess.Popen([sys.executable, "-c", RUN, path], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        assert main(["--root", str(path.parent), "tune", "j", "-j", "3"]) == 4
        text = "the run of job j hasn't answered within 0 s, and may still take the change: "
        assert text in capfd.readouterr().err
    finally:
        process.kill()
        process.communicate()
    with open_job(path, 5, on_interrupted="retry") as job:
        with pytest.raises(RefusedError, match="no run works on job 'j'"):
            job.tune(workers=3)
        crowd = Crowd()
        with in_thread(lambda: in_threads(job, crowd)):
            crowd.until(1)
            assert tune_elsewhere(path, workers=2).changes == {"workers": (1, 2)}
            crowd.open()
        assert {row.status.value for row in job.rows()} == {"completed"}
    assert [record.changes for record in records(path, TunedRecord)] == [{"workers": (1, 2)}]


def test_a_limit_by_a_column_that_is_called_as_the_rate_of_starts_is_named() -> None:
    tuned = Tuned(changes={"limit_per": (None, {"rows": 2}), "rate": ({"rows": "5/s"}, None)})
    assert tuned_text(tuned) == "limit_per none -> rows=2, rate 5/s -> none"


def test_ctrl_c_while_tune_waits_says_that_the_change_may_still_come(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    open_job(path, 1).close()

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(JobService, "tune_job", interrupt)
    assert main(["--root", str(path.parent), "tune", "j", "-j", "3"]) == 130
    assert "j: the run may still take the change\ninterrupted" in capfd.readouterr().err


def test_who_waits_for_a_run_that_ends_is_told_so(path: Path) -> None:
    with open_job(path, 1) as job, JobService(path.parent) as holder:
        holder.start_job("j")
        assert job.tune(workers=2, wait_s=0) is None
        said = list[BaseException]()

        def ask() -> None:
            with pytest.raises(RefusedError) as caught:
                job.tune(workers=2, wait_s=WAIT_S)
            said.append(caught.value)

        with in_thread(ask):
            while len(records(path, TuneRecord)) < 2:
                pass
            holder.update_status("j", "paused")
    text = "the run of job 'j' has ended, and the next start doesn't take the change"
    assert str(said[0]).startswith(text)


def test_the_next_start_takes_no_change_over_and_says_what_it_has_not_taken(path: Path) -> None:
    def handler(row: AttemptedRow) -> None:
        if row.row_number == 1:
            job.tune(workers=16, rate="900/s", limit_per={"c": 2}, max_cost_cents="none")
            job.stop()

    said: list[str] = []
    with open_job(path) as job:
        job.run(handler, workers=4, max_cost_cents=500)
        job.run(lambda _row: job.stop(), workers=4, max_cost_cents=500, tell=said.append)
    assert (
        "j: the last run was tuned to workers 16, rate 900/s, limit_per c=2, max_cost_cents none; this "
        "start has workers 4, rate none, limit_per none, max_cost_cents 500"
    ) in said
    del said[:]
    with open_job(path) as job:
        job.run(lambda _row: None, workers=4, tell=said.append)
    assert not any("tuned" in text for text in said), "the run before it was not tuned"

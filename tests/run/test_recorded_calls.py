"""Calls with many rows that stay together: their steps, waits, crashes, and the rows that leave."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from support.children import JOURNAL_NAME, Child
from support.platforms import needs_signals

import journal
from journal import Batch, Fail, Job, JobRun, JobService, Retry, Wait
from journal.cli.main import main
from journal.run.workers.steps import CallSteps

ROWS = 6


def open_job(path: Path, count: int = ROWS, **options: Any) -> JobRun:
    rows = ({"n": n} for n in range(1, count + 1))
    return journal.open_job(path, rows, on_interrupted="resume", argv=[], **options)


def records(path: Path, kind: str) -> list[dict[str, Any]]:
    lines = (path / JOURNAL_NAME).read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["type"] == kind]


class Service:
    """A far side: what was submitted to it, and how often each batch is asked before it is done."""

    def __init__(self, polls: int = 2) -> None:
        self.submitted: list[list[int]] = []
        self.polls = polls
        self.asked: dict[int, int] = {}

    def submit(self, numbers: list[int]) -> int:
        self.submitted.append(numbers)
        return len(self.submitted)

    def is_done(self, batch_id: int) -> bool:
        self.asked[batch_id] = self.asked.get(batch_id, 0) + 1
        return self.asked[batch_id] > self.polls

    def handle(self, batch: Batch) -> Any:
        batch_id = batch.step("submit", self.submit, [row.row_number for row in batch])
        if not self.is_done(batch_id):
            return Wait(0)
        return {row.id: f"batch {batch_id}" for row in batch}


def test_a_call_that_waits_comes_back_with_its_rows_and_its_step_is_done_once(path: Path) -> None:
    service = Service(polls=3)
    with open_job(path) as job:
        job.run(service.handle, batch=4)
        assert service.submitted == [[1, 2, 3, 4], [5, 6]]
        assert [row.result for row in job.rows()] == ["batch 1"] * 4 + ["batch 2"] * 2
        assert {row.attempts for row in job.rows()} == {1}
    waits = [record for record in records(path, "call") if record["state"] == "waiting"]
    assert len(waits) == 6  # not one for each row
    assert len(records(path, "row_status")) == 2 * ROWS


KILLED = """
    import journal

    def submit(numbers):
        with open(sys.argv[3], "a") as ledger:
            ledger.write(json.dumps(numbers) + "\\n")
        if sys.argv[4] == "submit":
            tell("within")
            hear()
        return len(numbers)

    def handle(batch):
        size = batch.step("submit", submit, [row.row_number for row in batch])
        tell("within")
        hear()

    rows = [{"n": n} for n in range(1, 7)]
    with journal.open_job(f"{root}/{job_id}", rows, on_interrupted="resume", argv=[]) as job:
        job.run(handle, batch=4, tell=lambda text: None)
"""


def kill(path: Path, where: str) -> list[list[int]]:
    """Kill a run within a call, and return what was submitted."""
    ledger = path.parent / "ledger"
    path.parent.mkdir(exist_ok=True)
    with Child(KILLED, path.parent, path.name, ledger, where) as child:
        assert child.hear() == "within"
        child.kill()
    return [json.loads(line) for line in ledger.read_text().splitlines()]


def test_after_a_crash_the_same_rows_are_one_call_whatever_the_limits_of_the_next_run_are(
    path: Path,
) -> None:
    assert kill(path, "poll") == [[1, 2, 3, 4]]
    service, sizes = Service(polls=0), list[int]()

    def handle(batch: Batch) -> Any:
        sizes.append(len(batch))
        return service.handle(batch)

    with open_job(path) as job:
        job.run(handle, batch=1, rate="1/h", max_rows=1, where=lambda row: row.row_number > 5)
        assert sizes == [4, 1]
        assert service.submitted == [[6]]
        assert [row.result for row in job.rows()][:4] == ["batch 4"] * 4


def test_a_call_killed_within_a_step_is_in_review_and_settled_as_a_whole(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kill(path, "submit")
    service = Service(polls=0)
    with open_job(path) as job:
        job.run(service.handle, batch=4)
        assert service.submitted == [[5, 6]]
        rows = job.rows("needs_review")
        assert {row.error_code for row in rows} == {"StepInDoubt"}
        assert all("'submit'" in (row.error_message or "") for row in rows)
        assert len(rows) == 4
    words = "resolve j --row 2 --step submit --result 7"
    assert main(["--root", str(path.parent), *words.split()]) == 0
    assert "4" in capsys.readouterr().out
    with open_job(path) as job:
        assert job.counts["pending"] == 4
        job.run(service.handle, batch=1)
        assert service.submitted == [[5, 6]]
        assert [row.result for row in job.rows()] == ["batch 7"] * 4 + ["batch 1"] * 2


def test_rows_that_a_mapping_lets_wait_stay_in_the_call_and_others_are_settled(path: Path) -> None:
    seen: list[list[int]] = []

    def handle(batch: Batch) -> Any:
        numbers = [row.row_number for row in batch]
        seen.append(numbers)
        if len(numbers) == 4:
            first, second, third, fourth = batch
            return {
                first.id: "done",
                second.id: Wait(0),
                third.id: Fail("E", "no"),
                fourth.id: Wait(9),
            }
        return {row.id: "later" for row in batch}

    with open_job(path, 4) as job:
        job.run(handle, batch=4)
        assert seen == [[1, 2, 3, 4], [2, 4]]
        assert [row.result for row in job.rows()] == ["done", "later", None, "later"]


def test_a_list_as_answer_is_refused_once_a_row_has_left_the_call(path: Path) -> None:
    answers: list[Any] = [Wait(0), ["a", "b", "c"]]

    def handle(batch: Batch) -> Any:
        batch.step("submit", list)
        if len(answers) == 2:
            job.service.skip_row("j:1")
        return answers.pop(0)

    with open_job(path, 4) as job:
        job.run(handle, batch=4)
        assert [row.status for row in job.rows()] == ["skipped", *["needs_review"] * 3]
        messages = [row.error_message or "" for row in job.rows("needs_review")]
        assert all("return a mapping by row.id" in message for message in messages)


def test_a_row_that_was_retried_comes_back_to_its_call_with_its_steps(path: Path) -> None:
    service = Service(polls=0)

    def handle(batch: Batch) -> Any:
        done = service.handle(batch)
        return {**done, "j:2": Fail("E", "no")} if len(batch) == 4 else done

    with open_job(path, 4) as job:
        job.run(handle, batch=4)
        assert job.retry() == 1
        job.run(handle, batch=50)
        assert [row.result for row in job.rows()] == ["batch 1"] * 4
        assert [row.attempts for row in job.rows()] == [1, 2, 1, 1]
    assert service.submitted == [[1, 2, 3, 4]]
    assert records(path, "call")[-1]["state"] == "ended"


def test_a_run_of_single_rows_is_refused_while_calls_are_open(path: Path) -> None:
    kill(path, "poll")
    before = (path / JOURNAL_NAME).read_bytes()
    with open_job(path) as job, pytest.raises(journal.RefusedError, match=r"4 rows .* `batch`"):
        job.run(lambda row: row.row_number)
    assert (path / JOURNAL_NAME).read_bytes() == before


def test_steps_and_waits_of_calls_in_an_event_loop(path: Path) -> None:
    service = Service(polls=1)

    async def submit(numbers: list[int]) -> int:
        await asyncio.sleep(0)
        return service.submit(numbers)

    async def handle(batch: Batch) -> Any:
        numbers = [row.row_number for row in batch]
        number, key = await asyncio.gather(
            batch.step("submit", submit, numbers), batch.step("note", submit, ["note"])
        )
        assert batch.step_key("submit").startswith("j:call-")
        return dict.fromkeys((row.id for row in batch), number) if service.is_done(key) else Wait(0)

    with open_job(path) as job:
        job.run(handle, batch=3, workers=2)
        assert job.status == "completed"
    assert len(service.submitted) == 4


def handle_in_a_pool(batch: Batch) -> Any:
    """Wait once, and then return the key of the step and the rows for which it was done."""
    before = batch.step("submit", list, [row.row_number for row in batch])
    key = batch.step_key("submit")
    waited = Path("waited", key.replace("/", "-"))
    if not waited.exists():
        waited.touch()
        return Wait(0)
    return {row.id: [key, before] for row in batch}


def test_steps_and_waits_of_calls_in_a_pool(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "waited").mkdir()
    monkeypatch.chdir(tmp_path)
    with (
        open_job(path) as job,
        ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool,
    ):
        job.run(handle_in_a_pool, pool, batch=4)
        results = [row.result for row in job.rows()]
    assert [rows for _, rows in results] == [[1, 2, 3, 4]] * 4 + [[5, 6]] * 2
    assert len({key for key, _ in results}) == 2


def die(numbers: list[int]) -> None:
    Path("ledger").write_text(json.dumps(numbers))
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_a_pool(batch: Batch) -> Any:
    batch.step("submit", die, [row.row_number for row in batch])


@needs_signals
def test_a_call_whose_worker_dies_within_a_step_is_in_review_as_a_whole(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    context = get_context("forkserver")
    with open_job(path, 4) as job:
        job.run(die_in_a_pool, lambda: ProcessPoolExecutor(1, context), batch=4)
        assert {row.error_code for row in job.rows("needs_review")} == {"StepInDoubt"}
        assert job.counts["needs_review"] == 4
        job.run(die_in_a_pool, lambda: ProcessPoolExecutor(1, context), batch=4)
    assert json.loads(Path("ledger").read_text()) == [1, 2, 3, 4]


def test_a_result_of_a_call_that_cant_be_recorded_is_kept_by_its_repr_once(path: Path) -> None:
    with open_job(path, 3) as job:
        job.run(lambda batch: batch.step("submit", object), batch=3)
        rows = job.rows("needs_review")
        assert {row.error_code for row in rows} == {"StepNotRecorded"}
        assert [bool(row.result) for row in rows] == [True, False, False]


def test_commands_of_many_rows_have_steps_for_all_of_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words.txt").write_text("one\ntwo\nthree\n")
    Path("submit.sh").write_text(
        f'set -e\njournal() {{ {shlex.quote(sys.executable)} -m journal "$@"; }}\n'
        'id=$(journal step submit -- sh -c \'echo "$JOURNAL_STEP_KEY $*" >> ledger; echo id\' - "$@")\n'
        'again=$(journal step note -- echo note)\n[ -e "$id.$1" ] || { touch "$id.$1"; exit 75; }\necho "$id $*"\n'
    )
    command = "--root jobs run words.txt --lines --job j -n 2 --on 75=wait --backoff 0"
    code = main(
        [*command.split(), "--on-interrupted", "resume", "--", *["sh", "submit.sh", "{line}"]]
    )
    assert code == 0, capfd.readouterr().err
    first, second = (line.split() for line in Path("ledger").read_text().splitlines())
    assert (first[1:], second[1:]) == (["one", "two"], ["three"])
    assert first[0].startswith("j:call-")
    assert first[0] != second[0]


def test_rows_that_failed_together_come_back_together_after_their_backoff(path: Path) -> None:
    calls: list[int] = []

    def handle(batch: Batch) -> Any:
        calls.append(len(batch))
        return {row.id: Retry("Undone") if row.attempts == 1 else 1 for row in batch}

    with open_job(path, 500) as job:
        job.run(handle, batch=500, max_attempts=2, backoff_s=0.2)
        assert job.status == "completed"
    assert calls == [500, 500]


@pytest.mark.parametrize("counts", [True, False])
def test_rows_that_begin_again_at_a_step_leave_their_calls_and_are_submitted_together(
    path: Path, *, counts: bool
) -> None:
    """Two calls come back in part: nothing of their uploads is used again."""
    service, uploads = Service(polls=0), list[list[int]]()
    again = Retry("Expired", "no answer", after_s=0.05, from_step="submit", counts=counts)

    def handle(batch: Batch) -> Any:
        numbers = [row.row_number for row in batch]
        batch.step("upload", uploads.append, numbers)
        done = service.handle(batch)
        for row in batch:
            if row.attempts == 1 and row.row_number in (1, 4):
                done[row.id] = again
        return done

    with open_job(path) as job:
        job.run(handle, batch=3, max_attempts=2, backoff_s=0)
        assert job.status == "completed"
    submitted = sorted(number for numbers in service.submitted for number in numbers)
    assert submitted == [1, 1, 2, 3, 4, 4, 5, 6]
    assert uploads == service.submitted


def test_answers_for_unknown_ids_of_a_call_with_a_step_can_be_retried_for_free(path: Path) -> None:
    def handle(batch: Batch) -> Any:
        batch.step("submit", lambda: "b1")
        return {"A-1": 1}

    with open_job(path, 2) as job:
        job.run(handle, batch=2)
        (message, _) = (row.error_message or "" for row in job.rows("needs_review"))
        assert "a retry repeats no step that is done: 'submit'" in message


@pytest.mark.parametrize("ends", ["waits", "is retried"])
def test_a_worker_that_outlives_its_turn_or_attempt_begins_no_step_of_its_call(
    path: Path, ends: str
) -> None:
    late: list[Batch] = []

    def handle(batch: Batch) -> Any:
        late.append(batch)
        if len(late) == 1 and ends == "is retried":
            return Retry("Undone", after_s=0)
        if len(late) == 1:
            with JobService(path.parent) as other:  # as another process of this call would
                CallSteps("j", batch.call.attempts).begin_step(other, "submit", idempotent=True)
            return Wait(0)
        if ends == "is retried":
            batch.step("submit", lambda: "b1")
        with pytest.raises(journal.InvalidStateTransition):
            late[0].step("mail", list)
        return dict.fromkeys((row.id for row in batch), batch.step("mail", lambda: 1))

    with open_job(path, 2) as job:
        job.run(handle, batch=2, max_attempts=2, backoff_s=0)
        assert [row.result for row in job.rows()] == [1, 1]


def test_a_run_that_does_not_wait_pauses_though_a_waiting_call_has_a_retry(path: Path) -> None:
    def handle(batch: Batch) -> Any:
        batch.step("submit", lambda: "b1")
        again = Retry("Undone", after_s=0)
        return {row.id: Wait(30) if row.row_number > 1 else again for row in batch}

    with open_job(path, 4) as job:
        (stop := threading.Timer(60, job.stop)).start()
        report = job.run(handle, batch=4, max_attempts=3, no_wait=True)
        stop.cancel()
        assert (report.exit_code, job.job.waiting_count) == (4, 3)
        assert "3 rows wait for somebody else" in (report.reason or "")


@pytest.mark.parametrize("when", ["between two runs", "in a run"])
def test_a_row_that_a_person_retries_lets_its_call_be_asked_at_once(path: Path, when: str) -> None:
    calls: list[list[int]] = []

    def handle(batch: Batch) -> Any:
        batch.step("submit", lambda: "b1")
        calls.append([row.row_number for row in batch])
        return Wait(3600) if len(calls) == 1 else {row.id: "done" for row in batch}

    def retry(now: Job) -> None:
        if now.waiting_count == 3:
            job.service.skip_row(f"{job.id}:2")
            job.service.retry_row(f"{job.id}:2")

    with open_job(path, 3) as job:
        (stop := threading.Timer(60, job.stop)).start()
        if when == "between two runs":
            job.run(handle, batch=3, no_wait=True)
            retry(job.job)
        assert job.run(handle, batch=3, on_progress=retry).completed == 3
        stop.cancel()
    assert calls == [[1, 2, 3], [1, 2, 3]]

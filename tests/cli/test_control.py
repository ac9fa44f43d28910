"""`journal pause`, `resume`, `cancel`, `retry`, `redo`, `skip` and `resolve`, beside runs of others."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from support.terminal import on_terminal

from journal import Job, JobRow, JobService, JobStatus, open_job
from journal.cli.main import main
from journal.cli.output import as_json
from journal.format.records import UNSET_TIME, HoldRecord, now
from journal.fs import system
from journal.repair import repair_job
from journal.store.transitions import put_record
from journal.text import clock_text, time_text

# Holds the run of job j with row 1 in flight, and says how the job stands whenever it is asked.
RUN = """
import sys
from journal import JobService

with JobService(sys.argv[1]) as service:
    service.start_job("j")
    service.start_row("j:1")
    print("up", flush=True)
    for _ in sys.stdin:
        print(service.get_job("j").status, *(row.status for row in service.get_rows("j")), flush=True)
"""


class OtherRun:
    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.hear() == "up"

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    def sees(self) -> str:
        """The job's status and its rows', as the other process reads them now."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.hear()

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


class Cli:
    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        code = main(["--root", str(self.root), *arguments])
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err
        return code, out.strip(), err

    def statuses(self) -> list[str]:
        with JobService(self.root) as service:
            return [str(row.status) for row in service.get_rows("j")]

    def row(self, number: int) -> JobRow:
        with JobService(self.root) as service:
            row = service.get_row(f"j:{number}")
            assert row is not None
            return row

    def journal(self) -> bytes:
        return (self.root / "j" / "journal.jsonl").read_bytes()


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Job j, pending, of rows: 1 pending, 2 and 3 failed (E1, E2), 4 skipped, 5 completed."""
    root = tmp_path / "jobs"
    with JobService(root) as service:
        service.create_job("J", "./ship {order}", job_id="j", row_data=[{}] * 5)
        service.fail_row("j:2", "E1", "m")
        service.fail_row("j:3", "E2", "m")
        service.skip_row("j:4")
        service.complete_row("j:5")
    return Cli(root, capsys)


@pytest.fixture
def run(cli: Cli) -> Iterator[OtherRun]:
    run = OtherRun(cli.root)
    yield run
    run.stop()


@pytest.fixture
def review(cli: Cli) -> Cli:
    """The same, its rows 1 to 3 in review after a run that died, and paused."""
    with JobService(cli.root) as service:
        service.start_job("j")
        for number in (1, 2, 3):
            service.start_row(f"j:{number}")
    with JobService(cli.root) as service:
        service.recover_job("j")
    return cli


def end_job(cli: Cli, status: str = "failed") -> None:
    with JobService(cli.root) as service:
        service.start_job("j")
        service.update_status("j", status)


# --- pause


BY = f"by {system.user_name()}@{system.host_name()} since 20"


def test_pause_reaches_the_run_of_another_process(cli: Cli, run: OtherRun) -> None:
    code, out, err = cli("pause", "j")
    assert (code, out) == (0, "")
    assert f"j: paused; process {run.process.pid} on " in err
    assert run.sees().startswith("paused processing")
    before = cli.journal()
    code, out, err = cli("pause", "j")
    assert (code, out, err.startswith(f"j: is paused already, {BY}")) == (0, "", True)
    assert cli.journal() == before


@pytest.mark.parametrize("status", ["pending", "completed", "cancelled"])
def test_a_job_without_a_run_is_paused_until_it_is_resumed_and_each_command_says_so(
    cli: Cli, status: str
) -> None:
    if status != "pending":
        end_job(cli, status)
    code, out, err = cli("pause", "j")
    assert (code, out) == (0, "")
    assert f"j: paused; no run starts until: journal --root {cli.root} resume j" in err
    assert job(cli).status == status
    assert f" {status}, paused until resume " in cli("list")[1]
    (listed,) = json.loads(cli("list", "--json")[1])
    assert (listed["status"], listed["pause"]["person"]) == (status, BY.split()[1])
    shown = cli("show", "j")[1]
    assert f"status      {status}, paused until resume\n" in shown
    assert f"paused      {BY}" in shown
    assert f"journal --root {cli.root} resume j" in shown
    assert shown.endswith("cost_cents=0")
    assert f"status={status} " in shown
    assert ("no run starts until the job is resumed" in shown) == (status != "cancelled")
    assert f" paused {BY.split(' since', 1)[0]}" in " ".join(cli("log", "j")[1].split())
    code, _, err = cli("resume", "j")
    assert code == 0
    assert f"j: the pause ({BY}" in err
    assert job(cli).status == ("pending" if status == "cancelled" else status)
    assert "paused" not in cli("list")[1] + cli("show", "j")[1]
    events = [json.loads(line) for line in cli("log", "j", "--nl")[1].splitlines()]
    assert [(e["level"], e["kind"]) for e in events if e["kind"] in ("paused", "resumed")] == [
        ("WARNING", "paused"),
        ("INFO", "resumed"),
    ]


@pytest.mark.parametrize("command", ["wait", "watch"])
def test_who_waits_for_a_paused_job_without_a_run_is_told_to_resume_it(
    cli: Cli, command: str
) -> None:
    with JobService(cli.root) as service:
        service.create_job("K", job_id="k", row_data=[{}])
    cli("pause", "k")
    code, _, err = cli(command, "k", "--timeout", "20s")
    assert code == 4
    assert "k: pending, paused until resume: " in err
    assert f"journal --root {cli.root} resume k" in err


def test_a_paused_job_is_not_run_and_the_start_takes_no_input(cli: Cli, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    run = ("run", str(lines), "--lines", "--job", "daily")
    lines.write_text("a\n")
    assert cli(*run, "--", "true")[0] == 0
    cli("pause", "daily")
    path = cli.root / "daily" / "journal.jsonl"
    before = path.read_bytes()
    lines.write_text("a\nb\n")
    for more in ((), ("--retry-failed",), ("--on-gone", "skip")):
        code, _, err = cli(*run, *more, "--", "touch", str(tmp_path / "{line}"))
        assert code == 4
        assert f"journal: job 'daily' was paused {BY.split(' since', 1)[0]} at 20" in err
        assert "`journal resume daily`" in err
    code, out, err = cli(*run, "--dry-run", "--", "true")
    assert (code, out) == (0, "2\tnew in the input\ttrue")
    assert f"daily: paused {BY}" in err
    assert path.read_bytes() == before
    assert not (tmp_path / "b").exists()
    assert cli("resume", "daily")[0] == 0
    assert cli(*run, "--", "touch", str(tmp_path / "{line}"))[0] == 0
    assert (tmp_path / "b").exists()


# --- resume


def test_resume_reaches_the_run_that_waits(cli: Cli, run: OtherRun) -> None:
    cli("pause", "j")
    code, _, err = cli("resume", "j")
    assert code == 0
    assert f"process {run.process.pid} on " in err
    assert run.sees().startswith("running processing")
    before = cli.journal()
    assert cli("resume", "j") == (0, "", "j: is running already\n")
    assert cli.journal() == before


def test_resume_without_a_run_that_waits_ends_the_pause_and_says_what_to_run(
    cli: Cli, run: OtherRun
) -> None:
    cli("pause", "j")
    run.stop()
    code, _, err = cli("resume", "j")
    assert code == 0
    assert "j: to continue, start again the program that made the job: ./ship {order}" in err
    before = cli.journal()
    code, _, err = cli("resume", "j")
    assert code == 4
    assert "job j is paused, and no run of it waits: nothing was changed" in err
    assert cli.journal() == before


# --- cancel


def test_cancel_reaches_the_run_and_says_what_stays_undone(cli: Cli, run: OtherRun) -> None:
    code, out, err = cli("cancel", "j")
    assert (code, out) == (0, "")
    assert "j: cancelled; of 5 rows: 1 completed, 2 failed, 1 skipped, 1 processing" in err
    assert f"process {run.process.pid} on " in err
    assert f"journal --root {cli.root} resume j" in err
    assert run.sees().startswith("cancelled processing")
    assert cli("cancel", "j") == (0, "", "j: is cancelled already\n")


def test_a_job_that_was_never_run_is_cancelled_and_one_that_has_ended_is_not(cli: Cli) -> None:
    assert (
        "j: cancelled; of 5 rows: 1 completed, 2 failed, 1 skipped, 1 pending"
        in cli("cancel", "j")[2]
    )
    with JobService(cli.root) as service:
        service.create_job("K", job_id="k")
        service.start_job("k")
        service.update_status("k", "completed")
    assert cli("cancel", "k")[0] == 4


# --- retry


def test_retry_puts_failed_rows_back_for_the_run_of_another_process(
    cli: Cli, run: OtherRun
) -> None:
    code, out, err = cli("retry", "j")
    assert (code, out) == (0, "2")
    assert f"process {run.process.pid} on " in err
    assert run.sees() == "running processing pending pending skipped completed"
    assert cli("retry", "j")[:2] == (0, "0")


@pytest.mark.parametrize("verb", [["retry", "j"], ["redo", "j", "--row", "2-3", "--yes"]], ids=str)
def test_rows_are_done_again_from_a_step_if_one_of_them_has_it(cli: Cli, verb: list[str]) -> None:
    with JobService(cli.root) as service:
        for name in ("upload", "submit"):
            service.record_step("j:2", name)
    before = cli.journal()
    code, _, err = cli(*verb, "--from-step", "sumbit")
    assert (code, cli.journal()) == (4, before)
    assert "none of these rows has a step 'sumbit'; their steps: 'upload', 'submit'" in err
    assert cli(*verb, "--from-step", "submit")[:2] == (0, "2")
    with JobService(cli.root) as service:
        assert [step.name for step in service.get_steps("j:2")] == ["upload"]
    assert "submit, and the steps after it" in cli("show", "j", "--row", "2")[1]


def commits(cli: Cli) -> int:
    return cli.journal().count(b'"crc"')


def job(cli: Cli) -> Job:
    with JobService(cli.root) as service:
        found = service.get_job("j")
    assert found is not None
    return found


@pytest.mark.parametrize(
    "arguments",
    [["retry", "j"], ["retry", "j", "--row=2"], ["redo", "j", "--row=5", "--yes"]],
    ids=" ".join,
)
def test_rows_of_a_cancelled_job_stay_as_they_are_until_it_is_resumed(
    cli: Cli, arguments: list[str]
) -> None:
    cli("cancel", "j")
    before = cli.journal()
    code, out, err = cli(*arguments)
    assert (code, out) == (4, "")
    assert "job j was cancelled: `journal resume j` first; nothing was changed" in err
    assert cli.journal() == before
    code, _, err = cli("resume", "j", "--reason", "the customer called")
    assert code == 0
    assert "j: pending again: pass 2; 1 row is not done: j was never run" in err
    assert cli(*arguments)[0] == 0
    assert "the customer called" in cli("log", "j")[1]


def test_a_job_that_has_ended_is_resumed_but_not_while_a_run_works_on_it(
    cli: Cli, run: OtherRun
) -> None:
    cli("cancel", "j")
    before = cli.journal()
    code, _, err = cli("resume", "j")
    assert code == 5
    assert f"process {run.process.pid} on " in err
    assert cli.journal() == before
    run.stop()
    assert cli("resume", "j")[0] == 0
    assert job(cli).status == "pending"
    before = cli.journal()
    assert cli("resume", "j")[0] == 4
    assert cli.journal() == before


def test_a_job_that_has_failed_becomes_pending_only_if_rows_are_pending(
    cli: Cli,
) -> None:
    with JobService(cli.root) as service:
        service.create_job("F", job_id="f")
        service.create_rows("f", [{"data": {}}])
        service.start_job("f")
        service.fail_row("f:1", "E", "m")
        service.update_status("f", "failed")
        code, _, err = cli("resume", "f")
        assert (code, service.get_job("f").status) == (4, "failed")  # type: ignore[union-attr]
        assert "job f is failed, and no run of it waits: nothing was changed" in err
        service.pause_job("f")
        assert cli("resume", "f")[0] == 0  # the pause has ended
        assert service.get_job("f").status == "failed"  # type: ignore[union-attr]
        service.reopen_job("f")
        service.create_rows("f", [{"data": {}}])
        service.start_job("f")
        service.update_status("f", "failed")
        assert cli("resume", "f")[0] == 0


def test_what_may_have_taken_effect_is_retried_only_if_it_is_named(cli: Cli) -> None:
    with JobService(cli.root) as service:
        service.create_rows("j", [{"data": {"zip": "1"}}, {"data": {"zip": "1"}}])
        service.fail_row("j:6", "lost", "m", unknown=True)
        service.fail_row("j:7", "E1", "m")
    code, out, err = cli("retry", "j", "--where", "zip=1")
    assert (code, out) == (0, "1")
    unknown = "1 row failed, and it is unknown whether it took effect: look first, then name them"
    assert unknown in err
    assert cli.row(6).status == "failed"
    assert cli("retry", "j")[1] == "2"
    assert unknown in cli("retry", "j")[2]
    assert cli.row(6).status == "failed"
    assert cli("retry", "j", "--error-code", "lost")[:2] == (0, "1")


def test_show_advises_nothing_that_is_refused_for_a_row_whose_data_was_lost(cli: Cli) -> None:
    path = cli.root / "j" / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"checksum":"44', b'"checksum":"55', 1))
    repair_job(path.parent)
    shown = cli("show", "j")[1]
    assert (
        "# 1 row lost its data by damage: `journal help damage` says how to restore data" in shown
    )
    ways = re.findall(r"(resolve j --row 1 --.*)", shown)
    assert [way.split()[4] for way in ways] == ["--completed", "--skip", "--failed"]
    assert [cli(*way.split())[:2] for way in ways[-1:]] == [(0, "1")]


def test_show_advises_a_skip_of_a_row_that_has_left_the_input_in_flight(cli: Cli) -> None:
    with open_job(cli.root / "gone", [{"n": 1}, {"n": 2}], key="n") as job:
        job.service.start_row("gone:1")
    open_job(cli.root / "gone", [{"n": 2}], key="n", on_gone="skip").close()
    ways = re.findall(r"(resolve gone --row 1 --.*)", cli("show", "gone")[1])
    assert [way.split()[4] for way in ways] == ["--completed", "--skip", "--retry", "--failed"]
    assert cli(*ways[1].split())[:2] == (0, "1")


def test_a_row_whose_data_was_lost_is_left_by_a_retry_which_says_how_to_skip_it(cli: Cli) -> None:
    path = cli.root / "j" / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"checksum":"44', b'"checksum":"55', 1))
    repair_job(path.parent)
    with JobService(cli.root) as service:
        for number, error_code in ((1, "E1"), (2, "E1"), (3, "E2")):
            service.fail_row(f"j:{number}", error_code, "m")
    for arguments in (("retry", "j", "--error-code", "E1"), ("retry", "j")):
        code, out, err = cli(*arguments)
        assert (code, out) == (0, "1"), "row 2, and then row 3"
        lost = "1 row can't be retried: its data is lost by damage; `journal skip j --row 1`"
        assert f"j: {lost}" in err
        assert "took effect" not in err
        code, _, err = cli("retry", "j", "--row", "1")
        assert code == 4
        assert (
            "row j:1 is 'failed', so it can't be set back to pending: its data was lost to damage"
            in err
        )
        assert "`journal skip`" in err
    assert cli("skip", "j", "--row", "1")[:2] == (0, "1")


# --- redo


def test_redo_does_completed_rows_again_under_their_keys_and_new_ones_if_so_said(cli: Cli) -> None:
    assert cli("redo", "j", "--row", "5", "--reason", "wrong label", "--yes")[:2] == (0, "1")
    row = cli.row(5)
    assert (row.status, row.reason, row.idempotency_key) == ("pending", "wrong label", "j:5")
    with JobService(cli.root) as service:
        service.complete_row("j:5")
    assert cli("redo", "j", "--row", "5", "--new-key", "--yes")[:2] == (0, "1")
    assert cli.row(5).idempotency_key == "j:5#2"
    assert "idempotency key j:5#2" in cli("log", "j", "--row", "5")[1]


@pytest.mark.parametrize("what", ["status", "data"])
def test_redo_does_nothing_if_a_row_has_changed_since_it_asked(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def answer(*_: object, **__: object) -> bool:
        with JobService(cli.root) as service:
            if what == "data":
                service.update_row_data("j:3", {"n": 99})
            else:
                service.skip_row("j:3")
        return True

    with JobService(cli.root) as service:
        for number in (2, 3):
            service.update_row_data(f"j:{number}", {"n": number})
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(system, "can_answer", lambda: True)  # Windows looks for a console, too
    monkeypatch.setattr(click, "confirm", answer)
    code, out, err = cli("redo", "j", "--row", "2,3", "--where", "n!=99")
    assert (code, out) == (4, "")
    assert "rows of j were changed by another process; this command changed none of them" in err
    last = "skipped" if what == "status" else "failed"
    assert cli.statuses()[:3] == ["pending", "failed", last]


def test_redo_asks_on_a_terminal_says_what_it_means_and_elsewhere_refuses_without_yes(
    cli: Cli,
) -> None:
    before = cli.journal()
    code, out, err = cli("redo", "j", "--row", "2-5")
    assert (code, out) == (2, "")
    assert (
        "j: 4 rows would be done again (2 failed, 1 skipped, 1 completed), with all side effects"
        in err
    )
    assert "nothing was changed: this command asks first" in err
    arguments = ("--root", str(cli.root), "redo", "j", "--row", "5")
    code, shown = on_terminal(*arguments, columns=200, answer="n\n")
    assert code == 4
    assert "j: 1 row would be done again (1 completed)" in shown
    assert "nothing was changed" in shown
    assert cli.journal() == before
    code, shown = on_terminal(*arguments, columns=200, answer="y\n")
    assert code == 0
    assert "\n1\n" not in shown  # the number alone is for scripts
    assert "j: 1 row is pending again" in shown
    assert cli.row(5).status == "pending"


# --- skip


def test_skip_skips_the_rows_that_failed_with_a_code(cli: Cli) -> None:
    with JobService(cli.root) as service:
        service.create_rows("j", [{}] * 2)
        service.fail_row("j:6", "E1", "m")
        service.start_job("j")
        service.start_row("j:7")
        service.review_row("j:7", "E1", "look")
    assert cli("skip", "j", "--row", "1-3", "--error-code", "E1", "--reason", "old")[:2] == (0, "1")
    assert cli.row(2).reason == "old"
    assert cli.statuses()[5:] == ["failed", "needs_review"]
    assert cli("skip", "j", "--error-code", "E1")[:2] == (0, "1")
    assert cli.statuses() == [
        "pending",
        "skipped",
        "failed",
        "skipped",
        "completed",
        "skipped",
        "needs_review",
    ]


def test_a_failed_job_becomes_completed_as_its_last_row_is_settled(cli: Cli) -> None:
    with JobService(cli.root) as service:
        service.skip_row("j:1")
    end_job(cli)
    assert cli("skip", "j", "--row", "2")[2] == ""
    for command in ("skip", "retry", "skip"):
        assert ("j: completed, since" in cli(command, "j", "--row", "3")[2]) is (command == "skip")
    assert job(cli).status is JobStatus.COMPLETED


def test_skip_does_nothing_if_one_of_the_rows_is_in_flight_or_done(cli: Cli, run: OtherRun) -> None:
    before = cli.journal()
    for number, status in ((1, "processing"), (4, "skipped"), (5, "completed")):
        code, out, err = cli("skip", "j", "--row", f"2,3,{number}")
        assert (code, out) == (4, "")
        assert f"row j:{number} is {status}, not pending or failed or needs_review" in err
    assert cli.journal() == before


# --- resolve


def test_resolve_completes_rows_with_all_that_is_known_in_one_commit(review: Cli) -> None:
    commits = review.journal().count(b'"crc"')
    details = ["--tracking-number", "1Z9", "--cost-cents", "1250", "--label-path", "l.pdf"]
    code, out, _ = review(
        "resolve", "j", "--row", "1-2", "--completed", *details, "--result", '{"a":[1]}'
    )
    assert (code, out) == (0, "2")
    assert review.statuses() == ["completed", "completed", "needs_review", "skipped", "completed"]
    for number in (1, 2):
        row = review.row(number)
        assert (row.tracking_number, row.cost_cents, row.label_path) == ("1Z9", 1250, "l.pdf")
        assert row.result == {"a": [1]}
    assert review.journal().count(b'"crc"') == commits + 1


def test_resolve_fails_retries_and_skips_rows(review: Cli) -> None:
    failed = ["--failed", "E9", "--error-message", "not there"]
    assert review("resolve", "j", "--row", "1", *failed)[:2] == (0, "1")
    code, out, err = review("resolve", "j", "--row", "2", "--retry")
    assert (code, out) == (0, "1")
    assert "j: 1 row is pending again: start again the program that made the job" in err
    assert review("resolve", "j", "--row", "3", "--skip", "--reason", "why")[:2] == (0, "1")
    assert review.statuses() == ["failed", "pending", "skipped", "skipped", "completed"]
    assert (review.row(1).error_code, review.row(1).error_message) == ("E9", "not there")
    assert review.row(3).reason == "why"


def test_resolve_settles_a_row_in_flight_only_if_its_run_has_died(cli: Cli, run: OtherRun) -> None:
    before = cli.journal()
    code, out, err = cli("resolve", "j", "--row", "1", "--completed")
    assert (code, out) == (5, "")
    assert "is being worked on by process" in err
    assert cli.journal() == before
    run.process.kill()
    run.process.wait()
    assert cli("resolve", "j", "--row", "1", "--completed")[:2] == (0, "1")
    assert cli.row(1).status == "completed"


def test_a_row_that_a_person_settles_has_no_attempt_that_lasted_until_then(
    cli: Cli, run: OtherRun
) -> None:
    run.process.kill()
    run.process.wait()
    code, _, err = cli("resolve", "j", "--row", "1", "--retry")
    assert (code, "may still be running" in err) == (0, False)  # it wasn't a run of commands
    with JobService(cli.root) as service:
        history = service.get_row_history("j:1")
    (attempt,) = history.attempts
    assert (attempt.outcome, attempt.error_code, attempt.duration_s) == (
        *("needs_review", "interrupted"),
        None,
    )
    assert [event.kind for event in history.changes] == ["retried"]


def test_resolve_settles_no_row_that_a_run_has_started_since_the_command_looked(
    review: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start_again(service: JobService, job_id: str) -> Any:
        with JobService(review.root) as other:
            other.retry_row("j:2")
            other.start_row("j:2")
        return batch(service, job_id)

    batch = JobService.batch
    monkeypatch.setattr(JobService, "batch", start_again)
    code, _, err = review("resolve", "j", "--row", "2", "--retry")
    assert (code, "row j:2 is processing" in err) == (4, True)
    assert review.row(2).status == "processing"


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        (["--completed"], "completed"),
        (["--failed", "E", "--error-message", "m"], "failed"),
        (["--retry"], "retried"),
        (["--skip"], "skipped"),
    ],
)
def test_the_log_says_which_rows_a_person_has_settled(
    review: Cli, how: list[str], outcome: str
) -> None:
    assert review("resolve", "j", "--row", "2", *how)[0] == 0
    _, out, _ = review("log", "j", "--row", "2", "--nl")
    settled, changed = map(json.loads, out.splitlines()[-2:])
    assert settled["text"] == f"settled by hand: resolve {how[0]}"
    assert changed["kind"] == outcome
    assert f"settled by hand: resolve {how[0]}" in review("show", "j", "--row", "2")[1]


@pytest.mark.parametrize("how", ["--completed", "--skip", "--retry"])
def test_the_log_says_who_has_settled_a_row_and_why(review: Cli, how: str) -> None:
    assert review("resolve", "j", "--row", "2", how, "--reason", "in the ledger")[0] == 0
    _, out, _ = review("log", "j", "--row", "2", "--json")
    (settled,) = [event for event in json.loads(out) if "by hand" in event["text"]]
    by = f"{system.user_name()}@{system.host_name()}"
    assert settled["details"] == {"by": by, "reason": "in the ledger"}
    assert as_json(settled["details"]) in review("show", "j", "--row", "2")[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "give exactly one of --completed, --failed, --retry, --skip and --step"),
        (["--completed", "--skip"], "give exactly one of"),
        (
            ["--failed", "E", "--cost-cents", "1"],
            "--cost-cents belongs to --completed, not --failed",
        ),
        (["--failed", "E"], "--failed needs --error-message"),
        (["--completed", "--cost-cents", "-1"], "-1"),
        (["--completed", "--cost-cents", str(1 << 64)], "must be from 0 to"),
        (["--completed", "--result", "\udcff"], "result: must be text"),
    ],
)
def test_resolve_refuses_what_does_not_go_together(
    review: Cli, options: list[str], words: str
) -> None:
    before = review.journal()
    code, _, err = review("resolve", "j", "--row", "1", *options)
    assert code == 2
    assert words in err
    assert review.journal() == before


# --- which rows


@pytest.mark.parametrize("numbers", ["2 3", "row_number\n2\n3\n", "2-3,"])
def test_numbers_of_rows_are_read_from_standard_input(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, numbers: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(numbers))
    assert cli("retry", "j", "--row", "-")[:2] == (0, "2")
    assert cli.statuses()[:3] == ["pending"] * 3
    assert cli("retry", "j", "--row", "-")[0] == 2, "nothing is left to be read"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is neither a row number nor"),
        ("1,,2", "'' is neither a row number nor"),
        ("5-", "'5-' is neither a row number nor"),
        ("-5", "'-5' is neither a row number nor"),
        ("1-2-3", "'1-2-3' is neither a row number nor"),
        ("x", "'x' is neither a row number nor"),
        ("\u0663", "is neither a row number nor"),
        ("0", "'0': rows are numbered from 1"),
        ("0-4", "'0-4': rows are numbered from 1"),
        ("9223372036854775808", "rows are numbered from 1 to 2**63-1"),
        ("40-12", "'40-12' is reversed: give 12-40"),
    ],
)
@pytest.mark.parametrize("command", ["retry", "redo", "skip", "resolve"])
def test_rows_that_cannot_be_named_so_are_refused(
    cli: Cli, command: str, text: str, words: str
) -> None:
    before = cli.journal()
    code, _, err = cli(command, "j", f"--row={text}")
    assert code == 2
    assert words in err
    assert cli.journal() == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2,6", "no row 6: its rows are 1 to 5"),
        ("2-9999999999999", "no row 6 (and 9999999999993 others): its rows"),
        ("2,11,13,15,17,19,21,23", "no row 11 (and 6 others):"),
    ],
)
def test_rows_that_are_not_there_are_named_and_nothing_is_done(
    cli: Cli, text: str, words: str
) -> None:
    before = cli.journal()
    code, _, err = cli("skip", "j", "--row", text)
    assert code == 4
    assert f"job j has {words}" in err
    assert cli.journal() == before


# --- a hold


def test_a_hold_is_shown_while_its_run_works_and_not_when_the_run_has_died(cli: Cli) -> None:
    reason, until = "Down: 503", now() + timedelta(seconds=3600)
    clock = clock_text(until, now())
    with JobService(cli.root) as service:
        service.start_job("j")
        service.start_row("j:1")
        service.complete_row("j:1")
        assert "rows end per second" in cli("show", "j")[1]
        hold = HoldRecord(until=until, reason=reason, at=UNSET_TIME)
        service.store.journal("j").change(put_record, hold)
        out = cli("show", "j")[1]
        assert re.search(f"^status +holding until .*{clock}$", out, re.MULTILINE)
        assert re.search(f"^holding +since 20.*: {reason}$", out, re.MULTILINE)
        assert out.splitlines()[-1].startswith("job=j status=running ")
        assert "rows end per second" not in out
        assert json.loads(cli("show", "j", "--json")[1])["hold"]["reason"] == reason
        assert f"holding until {clock}" in cli("list")[1]
        assert json.loads(cli("list", "--json")[1])[0]["hold"]["until"] == time_text(until)
        assert f"1h00m, until {clock}: {reason}" in cli("log", "j")[1]
        hold.until = now()
        service.store.journal("j").change(put_record, hold)
        assert re.search(
            r"^status +holding since .*, one row is tried$", cli("show", "j")[1], re.MULTILINE
        )
        ended = HoldRecord(reason="answered", at=UNSET_TIME)
        service.store.journal("j").change(put_record, ended)
        assert re.search("hold ended +answered$", cli("log", "j")[1])
        service.store.journal("j").change(put_record, hold)
    assert "holding" not in cli("show", "j")[1]
    assert json.loads(cli("show", "j", "--json")[1])["hold"] is None
    assert json.loads(cli("list", "--json")[1])[0]["hold"] is None

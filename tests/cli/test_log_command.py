"""`journal log`, `watch` and `wait`: what they show, how they follow, how they end."""

import json
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.platforms import needs_open_files_moved, needs_time_zones
from support.terminal import Command

import journal.fs.system
import journal.history.events
from journal import JobService, JobStatus, RowStatus
from journal.cli.main import main
from journal.cli.shared_options import parse_seconds
from journal.cli.watch.follow import follow_job
from journal.errors import RefusedError
from journal.fs import system
from journal.progress.show import Progress
from journal.repair import repair_job
from journal.store.run_lock import run_holder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with a job ``j`` to which everything has happened that can."""
    path = tmp_path / "jobs"
    who = {"host_name": "here", "process_id": 7, "user_name": "ann", "nonce": "00000000deadbeef"}
    for name, value in who.items():
        monkeypatch.setattr(journal.fs.system, name, lambda value=value: value)
    with JobService(path, sync="none") as service:
        rows = [{"data": {"zip": str(90000 + n)}} for n in range(4)]
        service.create_job("Ship CA", "ship --state CA", job_id="j", row_data=rows)
        service.create_rows("j", [{}])
        service.start_job("j")
        service.start_row("j:1")
        service.complete_row("j:1", "1Z999", cost_cents=1250, result={"zip": "90000", "n": [1]})
        service.fail_row("j:2", "E42", "no such \x1b[31mzip\n\u202e")
        service.retry_row("j:2")
        service.start_row("j:3")
        service.review_row("j:3", "lost", "no answer")
        service.skip_row("j:4", "a duplicate")
        service.log("j", "slow today", "WARNING", row_number=5, details={"zip": "90004", "s": 3})
        service.set_error("j", "E1", "trouble")
        service.update_counts("j", total=6)
        service.update_status("j", "paused")
    return path


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(root: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["--root", str(root), *arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


HEADER = "TIME                 EVENT         ROW  TEXT"


def parts(out: str) -> list[list[str]]:
    """Of each line behind the header what it is about, the row, and the text."""
    header, *lines = out.splitlines() or [HEADER]
    assert header == HEADER
    return [[line[21:30].strip(), line[32:38].strip(), line[40:].strip()] for line in lines]


ALL = [
    ["created", "", "Ship CA: ship --state CA"],
    ["added", "", "4 rows added"],
    ["added", "5", "row added"],
    ["run", "", "on here by ann as process 7"],
    ["job", "", "running"],
    ["started", "1", ""],
    ["completed", "1", '1Z999, cost 1250 cents, {"zip":"90000","n":[1]}'],
    ["failed", "2", r"E42: no such \x1b[31mzip\n\u202e"],
    ["retried", "2", ""],
    ["started", "3", ""],
    ["review", "3", "lost: no answer"],
    ["skipped", "4", "a duplicate"],
    ["WARNING", "5", 'slow today  {"zip":"90004","s":3}'],
    ["error", "", "E1: trouble"],
    ["counts", "", "total 6"],
    ["job", "", "paused"],
]


def test_the_log_says_all_that_has_happened_in_words_oldest_first(run: Run) -> None:
    code, out, err = run("log", "j")
    assert (code, err) == (0, "")
    assert parts(out) == ALL


@needs_time_zones
def test_the_times_of_the_log_are_local(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "PST8")
    time.tzset()
    try:
        out = run("log", "j")[1]
    finally:
        monkeypatch.undo()
        time.tzset()
    now = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=8)
    for line in out.splitlines()[1:]:
        at = datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007
        assert timedelta(seconds=-1) < now - at < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-n", "3"], ALL[-3:]),
        (["-n", "0"], []),
        (["-n", "all"], ALL),
        (["-n", "999999999"], ALL),
        (["--since", "1h"], ALL),
        (["--since", "2h ago", "-n", "1"], ALL[-1:]),
        (["--since", "2099-01-01"], []),
        (["--row", "2,4"], [["added", "", "2 rows added"], ALL[7], ALL[8], ALL[11]]),
        (["--row", "5"], [ALL[2], ALL[12]]),
        (["--row", "5", "-n", "1"], [ALL[12]]),
        (["--level", "warning"], [ALL[7], *ALL[10:14:2], ALL[13], ALL[15]]),
        (["--level", "ERROR"], [ALL[7], ALL[13]]),
        (["--level", "info", "--row", "1-3"], [["added", "", "3 rows added"], *ALL[6:9], ALL[10]]),
        (["--level", "critical"], []),
    ],
    ids=lambda value: " ".join(value) if value and isinstance(value[0], str) else "",
)
def test_events_are_chosen_by_number_time_row_and_level(
    run: Run, options: list[str], expected: list[list[str]]
) -> None:
    code, out, err = run("log", "j", *options)
    assert (code, err) == (0, "" if expected else "j: 0 events\n")
    assert parts(out) == expected


def test_all_rows_of_a_commit_are_one_line_however_many(root: Path, run: Run) -> None:
    with JobService(root, sync="none") as service, service.batch("j"):
        service.create_rows("j", ({"data": {"pad": "x" * 200}} for _ in range(3000)))
        service.log("j", "and then")
    assert parts(run("log", "j", "-n", "2")[1]) == [
        ["added", "", "3,000 rows added"],
        ["INFO", "", "and then"],
    ]
    (event,) = json.loads(run("log", "j", "-n", "all", "--row", "6-2999999", "--json")[1])
    assert event["details"] == {"rows": 3000, "first": 6, "last": 3005}


def test_what_is_left_out_by_default_is_said_and_only_then(root: Path, run: Run) -> None:
    with JobService(root, sync="none") as service:
        for number in range(60):
            service.log("j", f"m{number}")
    _, out, err = run("log", "j")
    assert [line[2] for line in parts(out)] == [f"m{number}" for number in range(10, 60)]
    assert err == "j: the last 50 events; -n all shows all\n"
    assert run("log", "j", "-n", "5")[2] == ""
    assert len(run("log", "j", "-n", "all")[1].splitlines()) == 1 + len(ALL) + 60


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["-n", "x"], 2, "'x' is not a whole number from 0"),
        (["-n", "-1"], 2, "'-1' is not a whole number from 0"),
        (["--since", "yesterday"], 2, "'yesterday' is not a time"),
        (["--since", "999999999w"], 2, "is not a time"),
        (["--since", "2026-13-01"], 2, "is not a time"),
        (["--row", "5-"], 2, "'5-' is neither a row number nor"),
        (["--level", "loud"], 2, "'loud'"),
        (["--json", "-f"], 2, "give --nl"),
        (["--json", "--nl"], 2, "--nl"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_be_are_refused(
    run: Run, options: list[str], code: int, words: str
) -> None:
    found, out, err = run("log", "j", *options)
    assert (found, out) == (code, "")
    assert words in err


# --- the last events, read from the end


# --- in a terminal, and in a pipe


@pytest.mark.parametrize(
    "arguments", [["log", "j", "-f"], ["watch", "j"], ["wait", "j"]], ids=" ".join
)
def test_ctrl_c_ends_what_waits(root: Path, arguments: list[str]) -> None:
    with (
        JobService(root) as service,
        service.store.hold_run("j"),
        Command(root, *arguments, columns=80) as command,
    ):
        command.awaits("paused")
        command.press("\x03")
        assert command.ends() == 130
        assert "Traceback" not in command.out


# --- following


@pytest.mark.parametrize("columns", [None, 80], ids=["pipe", "terminal"])
def test_what_another_process_commits_is_shown_across_a_pause_until_the_job_ends(
    root: Path, columns: int | None
) -> None:
    with (
        Command(root, "log", "j", "-f", "-n", "2", columns=columns) as command,
        JobService(root) as service,
    ):
        command.awaits("paused")
        service.start_job("j")
        command.awaits("running")
        service.complete_row("j:2", "first")
        command.awaits("first")
        service.update_status("j", "paused")
        command.awaits("paused", times=2)
        service.start_job("j")
        service.log("j", "second")
        command.awaits("second")
        with service.batch("j"):
            service.log("j", "the last word")
            service.update_status("j", "cancelled")
        assert command.ends() == 0
        assert [line[2] for line in parts(command.out.replace("\r\n", "\n"))][-3:] == [
            "second",
            "the last word",
            "cancelled",
        ]


def test_rows_in_flight_of_an_ended_job_are_waited_for(root: Path) -> None:
    with JobService(root) as run, JobService(root) as other:
        run.start_job("j")
        run.start_row("j:2")
        with Command(root, "log", "j", "-f") as command:
            command.awaits("running")
            other.update_status("j", "cancelled")
            command.awaits("cancelled")
            run.complete_row("j:2", "at last")
            assert command.ends() == 0
            assert "at last" in command.out


def replace_journal(root: Path, change: Callable[[bytes], bytes]) -> None:
    """Put a changed and repaired copy of the journal in its place, as `journal repair` does."""
    copy = root.parent / "copy" / "j"
    copy.mkdir(parents=True)
    content = (root / "j" / "journal.jsonl").read_bytes()
    (copy / "journal.jsonl").write_bytes(change(content))
    repair_job(copy)
    system.os.rename(copy / "journal.jsonl", root / "j" / "journal.jsonl")  # others read it


def without_row_4(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(line for line in lines if b"a duplicate" not in line)


def test_a_journal_that_was_repaired_with_losses_is_followed_from_its_beginning(root: Path) -> None:
    with Command(root, "log", "j", "-f") as command:
        command.awaits("paused")
        replace_journal(root, without_row_4)
        command.awaits("another journal has replaced its journal; starting over")
        command.awaits("created", times=2)
        with JobService(root) as service:
            service.log("j", "it goes on")
            command.awaits("it goes on")
            service.update_status("j", "cancelled")
        assert command.ends() == 0
        assert command.out.count("a duplicate") == 1


@pytest.mark.parametrize(
    "arguments", [["log", "j", "-f"], ["watch", "j"], ["wait", "j"]], ids=" ".join
)
@needs_open_files_moved
def test_a_job_that_is_deleted_meanwhile_is_waited_for_no_longer(
    root: Path, arguments: list[str]
) -> None:
    with (
        JobService(root) as service,
        service.store.hold_run("j"),
        Command(root, *arguments) as command,
    ):
        command.awaits("paused")
        shutil.rmtree(root / "j")
        assert command.ends() == 4
        end = "journal: job j is no longer there: it was deleted or moved"
        assert command.err.splitlines()[-1] == end


def test_a_job_that_vanishes_while_it_is_looked_at_was_deleted_or_moved(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JobService(root) as service:
        service.start_job("j")

    def moves_before(directory: Path) -> Any:
        if directory.exists():
            directory.rename(root.parent / "elsewhere")
        return run_holder(directory)

    monkeypatch.setattr("journal.store.list_jobs.run_holder", moves_before)
    with pytest.raises(RefusedError, match="no longer there: it was deleted or moved"):
        list(follow_job(JobService(root), "j"))


def test_the_time_of_a_pause_is_not_in_the_rate_that_watch_shows(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with JobService(root) as service:
        job = service.get_job("j")
        assert job is not None
        running = msgspec.structs.replace(
            job, status=JobStatus.RUNNING, counts={RowStatus.PENDING: 3}
        )
        two_done = msgspec.structs.replace(running, counts={RowStatus.PENDING: 1})
    now_s = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    for resting in ((running, "interrupted"), (job, "")):
        now_s = 0.0
        with Progress(running, True, in_shell=True) as progress:
            progress.show(running, "running")
            now_s = 1000.0
            progress.show(*resting)
            now_s = 2000.0
            progress.show(running, "running")
            now_s = 2010.0
            progress.show(two_done, "running")
        line = capsys.readouterr().err.splitlines()[-1]
        cost = "cost 1250 cents, about 1500 cents expected in all"
        assert line.endswith(f"0.2/s, 0:00:05 left, {cost}")


def test_a_run_that_ends_while_it_is_looked_at_is_not_called_interrupted(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with JobService(root) as service:
        service.start_job("j")

        def ends_before(directory: Path) -> Any:
            monkeypatch.setattr("journal.store.list_jobs.run_holder", run_holder)
            service.update_status("j", "failed")
            return run_holder(directory)

        monkeypatch.setattr("journal.store.list_jobs.run_holder", ends_before)
        seen = [each.ended for each in follow_job(JobService(root), "j")]
    assert seen[-1]
    assert capsys.readouterr().err == ""


# --- watch and wait


def end_failed(service: JobService) -> None:
    service.update_status("j", "running")
    service.skip_row("j:3")
    for number in (2, 5):
        service.fail_row(f"j:{number}", "E", "m")


def end_completed(service: JobService) -> None:
    service.update_status("j", "running")
    for number in (2, 3, 5):
        service.skip_row(f"j:{number}")


def end_undone(service: JobService) -> None:
    service.skip_row("j:3")
    service.update_status("j", "cancelled")


def end_left_open(service: JobService) -> None:
    """As a merge may leave it."""
    service.skip_row("j:3")
    service.update_status("j", "running")
    service.update_status("j", "completed")


@pytest.mark.parametrize(
    ("command", "end", "code", "words"),
    [
        ("watch", end_completed, 0, "j: completed: 1 completed, 4 skipped"),
        ("wait", end_failed, 3, "j: failed: 1 completed, 2 failed, 2 skipped"),
        (
            "watch",
            end_undone,
            4,
            (
                "j: cancelled: 1 completed, 2 skipped, 2 pending\n"
                "the job was cancelled; to continue the job, resume it first: "
                "journal --root {root} resume j\n"
                "j: 2 rows are not done; start again the program that made the job: ship --state CA, as "
                "job j"
            ),
        ),
        (
            "wait",
            end_left_open,
            4,
            (
                "j: completed: 1 completed, 2 skipped, 2 pending\n"
                "j: 2 rows are not done; start again the program that made the job: ship --state CA, as "
                "job j, which reopens it"
            ),
        ),
    ],
    ids=["completed", "failed", "undone", "left open"],
)
def test_the_exit_code_is_how_the_job_has_ended(
    root: Path, run: Run, command: str, end: Callable[[JobService], Any], code: int, words: str
) -> None:
    words = words.replace("{root}", str(root))
    with (
        JobService(root) as service,
        service.store.hold_run("j"),
        Command(root, command, "j") as process,
    ):
        process.awaits("j: is paused; waiting for it to be resumed")
        end(service)
        assert process.ends() == code
        assert process.out == ""
        # For the other process, who recorded the run is somebody else.
        said = process.err.replace(" (recorded on here by ann: look before you paste)", "")
        assert said.endswith(f"\n{words}\n")
    assert run(command, "j") == (code, "", words + "\n")  # it has ended already


@pytest.mark.parametrize("command", ["wait", "watch"])
def test_a_job_whose_run_died_after_its_last_row_is_waited_for_no_longer(
    root: Path, run: Run, command: str
) -> None:
    with JobService(root) as service:
        service.create_job("k", job_id="k", row_data=[{"data": {}}])
        service.start_job("k")
        service.start_row("k:1")
        service.complete_row("k:1")
        code, _, err = run(command, "k", "--timeout", "0")
        assert (code, "it is running" in err) == (124, True)
    code, _, err = run(command, "k", "--timeout", "0")
    assert code == 0
    assert "its run died after the last row, and the next start ends the job" in err
    assert "k: interrupted: 1 completed\nk: its run has died; start again the program" in err


def test_a_wait_may_be_limited(root: Path, run: Run) -> None:
    with JobService(root) as service:
        with service.store.hold_run("j"):
            code, out, err = run("wait", "j", "--timeout", "0")
        assert (code, out) == (124, "")
        assert "j: has not ended after 0 s; it is paused" in err
        service.start_job("j")
    code, out, err = run("wait", "j", "--timeout", "0")
    assert (code, out) == (124, "")
    assert "j: has not ended after 0 s; it is interrupted" in err
    with JobService(root) as service:
        service.update_status("j", JobStatus.CANCELLED)
    assert run("wait", "j", "--timeout", "0")[0] == 3  # a row needs review
    assert run("wait", "j", "--timeout", "-1")[0] == 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("0.5", 0.5),
        (".5s", 0.5),
        ("250ms", 0.25),
        ("1m", 60),
        ("1.5 h", 5400),
        ("0", 0),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_has_a_unit(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds

"""The live view of `journal watch`: what it reads of a job, what it draws, how it uses the terminal."""

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.platforms import needs_signals, needs_terminals
from support.terminal import Command, as_shown

import journal
from journal import JobService, JobStatus, RowStatus
from journal.cli.find import FoundJob, ReadingService
from journal.cli.main import main
from journal.cli.output import width_of
from journal.cli.watch.drawing import job_lines, set_lines
from journal.cli.watch.reading import InFlight, JobReader, SeenJob, SeenSet, SeenShard, SetReader
from journal.cli.watch.screen import Screen
from journal.format.records import UNSET_TIME, HoldRecord
from journal.history.events import Event
from journal.history.recent_activity import Recent
from journal.model import EarlyEnd, HoldState, Job, Pause, Run
from journal.sets.shard_states import Part, Whole, look_at_set
from journal.store.transitions import put_record

NOW = datetime(2026, 12, 1, 13, 2, 38, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def seen(**changes: Any) -> SeenJob:
    """A job at work, with a little of everything."""
    run = Run(
        id="00000000deadbeef",
        host="node7",
        user="ann",
        pid=4711,
        started_at=ago(60),
        limits={"workers": 2, "max_cost_cents": 500},
        tuned={"workers": 4, "rate": {"rows": "5/s"}, "max_cost_cents": None},
    )
    counts = {RowStatus.COMPLETED: 40, RowStatus.FAILED: 2, RowStatus.PROCESSING: 3}
    job = Job(
        id="ship",
        name="Ship",
        status=JobStatus.RUNNING,
        total_rows=100,
        counts=counts | {RowStatus.PENDING: 55},
        waiting_count=12,
        total_cost_cents=30,
        last_run=run,
        created_at=ago(60),
        updated_at=NOW,
    )
    job = msgspec.structs.replace(job, **changes.pop("job", {}))
    return SeenJob(
        **{
            "job": job,
            "state": "running",
            "now": NOW,
            "rate": 2.0,
            "in_flight": (
                InFlight(row=7, attempt=2, began=ago(30), step="mail", step_state="done"),
                InFlight(
                    row=8,
                    attempt=1,
                    began=ago(2),
                    step="charge",
                    step_state="started",
                    step_at=ago(1),
                ),
                InFlight(row=9, attempt=1, began=ago(0.5), data='{"city":"東京"}'),
            ),
            "median_s": 1.5,
            "timed": 42,
            "next_due": NOW + timedelta(seconds=142),
            "errors": (
                Event(at=ago(9), kind="failed", level="ERROR", row_number=3, text="503: busy"),
                Event(
                    at=ago(4), kind="put_back", level="WARNING", row_number=5, text="503: \x1b[2J"
                ),
            ),
            "events": (Event(at=ago(59), kind="log", level="INFO", text="hello"),),
            **changes,
        }
    )


def texts(shown: SeenJob, width: int = 80, height: int = 60) -> list[str]:
    return [text for text, _ in job_lines(shown, width, height)]


@pytest.mark.parametrize("width", [1, 20, 40, 80, 200])
@pytest.mark.parametrize("height", [1, 2, 5, 10, 24, 60])
def test_a_view_fits_each_terminal_and_leaves_out_the_least_valuable(
    width: int, height: int
) -> None:
    rows = tuple(InFlight(row=n, attempt=1, began=ago(5), data="東京" * n) for n in range(1, 200))
    shown = texts(seen(in_flight=rows), width, height)
    assert height - 3 <= len(shown) <= height
    assert max(map(width_of, shown)) <= width
    if width >= 40:
        assert "40%  40/100 rows  2/s" in shown[0]
        found = [any(part in line for line in shown) for part in ("in flight", "errors,", "log,")]
        assert found == sorted(found, reverse=True)
        assert found[1] or height < 24, "many rows in flight don't hide the errors"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"job": {"hold": HoldState(reason="503: busy", until=ago(-42), since=ago(9))}},
            "holding until 13:03:20 (in 42.0s): 503: busy",
        ),
        (
            {"job": {"hold": HoldState(reason="503: busy", until=ago(1), since=ago(9))}},
            "holding since 13:02:29, one row is tried: 503: busy",
        ),
        ({"stalled_s": 720.0}, "STALLED: no attempt has ended for 12m00s"),
        ({"next_due": ago(1)}, "12 rows wait for somebody else, the next is due now"),
        ({"job": {"pause": Pause(since=ago(9), person="ann@here")}}, "paused by ann@here since 2026-12-01"),
        ({"job": {"error_code": "E1", "error_message": "trouble"}}, "E1: trouble"),
        (
            {
                "state": "paused",
                "job": {
                    "status": JobStatus.PAUSED,
                    "last_run": Run(
                        id="0000000000000000", host="h", user="u", pid=1, started_at=NOW,
                        ended_early=EarlyEnd("cost", "500 cents are spent"),
                    ),
                },
            },
            "500 cents are spent",
        ),
        ({"state": "interrupted"}, "ship: interrupted: its run died"),
        ({"next": (("journal run x", "run it again"),)}, "  journal run x"),
    ],
)  # fmt: skip
def test_what_hinders_a_job_and_what_to_do_next_is_shown_before_its_rows(
    changes: dict[str, Any], line: str
) -> None:
    shown = texts(seen(**changes), height=24)
    place = next(n for n, text in enumerate(shown) if text.startswith(line))
    assert place < next(n for n, text in enumerate(shown) if "in flight" in text)


def test_no_end_is_forecast_while_a_run_holds_or_has_stalled_or_all_rows_wait() -> None:
    hold = HoldState(reason="503: busy", until=ago(-42), since=ago(9))
    assert "left" in texts(seen())[0]
    assert "left" not in texts(seen(job={"hold": hold}))[0]
    assert "left" not in texts(seen(job={"waiting_count": 58}))[0]
    assert "left" not in texts(seen(stalled_s=720.0))[0]


def test_no_end_is_forecast_under_a_rate_by_usage() -> None:
    job = seen().job
    assert job.last_run is not None
    limited = {"rate": {"rows": "5/s", "tokens": "60000/m"}}
    run = msgspec.structs.replace(job.last_run, tuned=limited)
    assert "left" not in texts(seen(job={"last_run": run}))[0]
    for last_run in (job.last_run, run):
        parts = [Part(0, "ship/0", "running", job), Part(1, "ship/1", "absent")]
        parts.append(Part(2, "ship/2", "running", seen(job={"last_run": last_run}).job))
        whole = Whole("ship", parts, msgspec.structs.replace(job, last_run=None))
        shards = tuple(SeenShard(part, 2.0) for part in parts)
        (line, _), *_ = set_lines(SeenSet(whole, NOW, 4.0, shards), 120, 20)
        assert ("left" in line) is (last_run is not run)


def test_control_characters_move_no_column() -> None:
    flying = (
        InFlight(row=row, attempt=1, began=ago(1), step=step, step_state="failed", data="DATA")
        for row, step in enumerate(("mail", "\x1b]0;mail\n\u202e"))
    )
    shown = [text for text in texts(seen(in_flight=tuple(flying))) if text.endswith("  DATA")]
    assert len(shown) == 3
    assert len(set(map(len, shown))) == 1


def reader(root: Path, job_id: str) -> JobReader:
    return JobReader(FoundJob(ReadingService(root), job_id, lambda *words: " ".join(words)))


def test_rows_in_flight_are_read_with_their_attempts_and_steps_oldest_first(tmp_path: Path) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Ship", job_id="ship", row_data=[{"data": {"n": n}} for n in range(4)])
        service.start_job("ship")
        view = reader(tmp_path, "ship")
        for row in ("ship:2", "ship:1", "ship:3"):
            service.start_row(row)
        service.begin_step("ship:1", 1, "mail")
        service.retry_row(service.fail_row("ship:2", "E", "no").id)
        service.start_row("ship:2")
        found = view.read("running")
        assert [
            (each.row, each.attempt, each.step, each.step_state) for each in found.in_flight
        ] == [
            (1, 1, "mail", "started"),
            (3, 1, "", ""),
            (2, 2, "", ""),
        ]
        assert [each.data for each in found.in_flight] == ['{"n":0}', '{"n":2}', '{"n":1}']
        assert [error.text for error in found.errors] == ["E: no"]
        service.end_step("ship:1", 1, "mail", "sent")
        service.complete_row("ship:3")
        again = view.read("running")
        assert [(each.row, each.step_state) for each in again.in_flight] == [(1, "done"), (2, "")]
        assert (found.timed, again.timed) == (1, 2)


def test_a_view_keeps_no_row_of_a_journal_that_was_replaced(tmp_path: Path) -> None:
    view = reader(tmp_path / "jobs", "ship")
    for root, name in ((tmp_path / "jobs", "old"), (tmp_path / "other", "new")):
        with JobService(root, sync="none") as service:
            service.create_job("Ship", job_id="ship", row_data=[{"data": {"name": name}}])
            service.start_job("ship")
            service.start_row("ship:1")
        if name == "old":
            assert [each.data for each in view.read("running").in_flight] == ['{"name":"old"}']
    (tmp_path / "other/ship/journal.jsonl").replace(tmp_path / "jobs/ship/journal.jsonl")
    assert [each.data for each in view.read("running").in_flight] == ['{"name":"new"}']


def test_the_rows_of_a_call_are_one_line(tmp_path: Path) -> None:
    found: list[SeenJob] = []
    with journal.open_job(tmp_path / "ship", [{"n": n} for n in range(6)]) as job:
        view = reader(tmp_path, "ship")

        def handler(batch: journal.Batch) -> list[str]:
            batch.step("submit", str)  # from now on, its rows stay together
            found.append(view.read("running"))
            return ["done"] * len(batch)

        job.run(handler, batch=3, workers=1, progress=False)
    assert [
        [(each.row, each.others, each.step) for each in shown.in_flight] for shown in found
    ] == [[(1, 2, "submit")], [(4, 2, "submit")]]
    assert any(text.startswith("  1 +2  ") for text in texts(found[0]))


def test_a_stall_is_seen_and_shown_only_while_rows_are_expected_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Recent, "stalled_s", lambda *_: 720.0)
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Ship", job_id="ship", row_data=[{}] * 3)
        service.start_job("ship")
        view = reader(tmp_path, "ship")
        service.start_row("ship:3")
        service.complete_row("ship:3")
        assert view.read("running").stalled_s is None, "no row is in flight"
        service.start_row("ship:1")
        assert view.read("running").stalled_s == 720
        assert view.read("interrupted").stalled_s is None
        shown = texts(msgspec.structs.replace(view.read("running"), state="interrupted"))
        assert not any("AGE" in text for text in shown), "nothing works on the row any more"
        assert main(["--root", str(tmp_path), "show", "ship"]) == 0
        out = capsys.readouterr().out
        assert "\nin flight   row 1; the oldest, row 1, for " in out
        assert "\nstalled     no attempt has ended for 12m00s\n" in out
        assert " left" not in out, "no end is forecast"
        assert main(["--root", str(tmp_path), "list"]) == 0
        assert "ship  running, stalled  " in capsys.readouterr().out
        hold = HoldRecord(until=datetime.now(UTC) + timedelta(hours=1), reason="503", at=UNSET_TIME)
        service.store.journal("ship").change(put_record, hold)
        assert (view.read("running").stalled_s, view.read("running").rate) == (None, None)
        for words in (("show", "ship"), ("list",)):
            assert main(["--root", str(tmp_path), *words]) == 0
            assert "stalled" not in capsys.readouterr().out


def test_a_view_writes_nothing_and_needs_no_right_to_write(tmp_path: Path) -> None:
    with JobService(tmp_path, sync="none") as service:
        rows: list[dict[str, Any]] = [
            {"data": {"text": "x" * 1000}}
        ] * 3000  # a hint is worth writing
        service.create_job("Ship", job_id="ship", row_data=rows)
        service.start_job("ship")
        service.start_row("ship:1")
        service.store.directory("ship").joinpath("index.hint").unlink(missing_ok=True)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        with Command(tmp_path, "watch", "ship", columns=80) as command:
            command.awaits("1 row in flight")
            command.press("q")
            assert command.ends() == 130
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# --- in a terminal


@pytest.fixture
def working(tmp_path: Path) -> Iterator[tuple[Path, JobService]]:
    """A job ``ship`` that this process runs."""
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Ship", job_id="ship", row_data=[{"data": {"n": n}} for n in range(4)])
        service.start_job("ship")
        service.start_row("ship:1")
        yield tmp_path, service


def test_a_view_is_drawn_in_place_until_the_job_ends_and_its_last_state_stays(
    working: tuple[Path, JobService],
) -> None:
    root, service = working
    with Command(root, "watch", "ship", columns=60) as command:
        command.awaits("0/4 rows")
        command.awaits("1 row in flight")
        service.complete_row("ship:1")
        command.awaits("1/4 rows")
        shown, normal, _ = as_shown(command.out)
        assert normal == ""
        assert "25%  1/4 rows" in shown[0]
        assert max(map(width_of, shown)) <= 60
        for number in (2, 3, 4):
            service.fail_row(f"ship:{number}", "E", "no")
        service.update_status("ship", "failed")
        assert command.ends() == 3
        _, normal, modes = as_shown(command.out)
    lines = normal.splitlines()
    assert "25%  1/4 rows" in lines[0]
    assert lines[1] == "ship: failed"
    assert any(line.endswith("row 4: E: no") for line in lines)
    assert any(line.endswith(f" --root {root} retry ship") for line in lines), "a command to paste"
    assert "ship: failed: 1 completed, 3 failed" in lines
    assert modes == {"?7", "?25"}


@needs_terminals
@pytest.mark.parametrize("key", ["q", "Q", "\x03"])
def test_a_key_ends_the_view_and_restores_the_terminal(
    working: tuple[Path, JobService], key: str
) -> None:
    import termios  # noqa: PLC0415  (not on Windows)

    root, _ = working
    with Command(root, "watch", "ship", columns=80) as command:
        assert command._terminal is not None
        before = termios.tcgetattr(command._terminal)
        command.awaits("1 row in flight")
        command.press("x\x1b[A\x1bOQ\x1b[20~")  # other keys, such as F2, do nothing
        command.awaits("1 row in flight")
        command.press(key)
        assert command.ends() == 130
        assert termios.tcgetattr(command._terminal) == before
        _, normal, modes = as_shown(command.out)
    assert modes == {"?7", "?25"}
    assert normal.endswith("ship: only this view has ended\n")
    assert "1 row in flight" in normal


def test_commands_to_paste_are_left_whole_when_a_view_of_a_dead_run_ends(tmp_path: Path) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Ship", job_id="ship", row_data=[{}])
        service.start_job("ship")
        service.start_row("ship:1")
    with Command(tmp_path, "watch", "ship", columns=40) as command:
        command.awaits("ship: interrupted: its run died")
        command.awaits("  journal --root ")
        command.press("q")
        assert command.ends() == 130
        _, normal, _ = as_shown(command.out)
    assert f"journal --root {tmp_path} rows ship --status processing\n" in normal


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_view_restores_the_terminal(
    working: tuple[Path, JobService], number: signal.Signals
) -> None:
    root, _ = working
    with Command(root, "watch", "ship", columns=80) as command:
        command.awaits("1 row in flight")
        command.process.send_signal(number)
        assert command.ends() == 128 + number
        _, normal, modes = as_shown(command.out)
    assert modes == {"?7", "?25"}
    assert "1 row in flight" in normal


@needs_terminals
def test_ctrl_backslash_ends_the_process_and_restores_the_terminal(
    working: tuple[Path, JobService],
) -> None:
    import termios  # noqa: PLC0415  (not on Windows)

    root, _ = working
    with Command(root, "watch", "ship", columns=80) as command:
        assert command._terminal is not None
        before = termios.tcgetattr(command._terminal)
        command.awaits("1 row in flight")
        command.process.send_signal(signal.SIGQUIT)
        assert command.ends() == -signal.SIGQUIT
        assert termios.tcgetattr(command._terminal) == before
        modes = as_shown(command.out)[2]
    assert modes == {"?7", "?25"}


@needs_terminals
def test_a_terminal_without_unicode_gets_no_bytes_of_another_encoding(tmp_path: Path) -> None:
    """In an 8-bit terminal, a byte of UTF-8 may be a control character: the last one of "Û"."""
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Ship", job_id="ship", row_data=[{"data": {"city": "\u00db2J"}}])
        service.start_job("ship")
        service.start_row("ship:1")
        latin = {"PYTHONIOENCODING": "latin-1"}
        with Command(tmp_path, "watch", "ship", columns=80, more=latin) as command:
            command.awaits("1 row in flight")
            command.press("q")
            assert command.ends() == 130
            shown = next(iter(command._streams.values()))
    assert b'{"city":"\xdb2J"}' in shown
    assert b"\x9b" not in shown


@needs_terminals
def test_a_terminal_that_another_program_has_left_non_blocking_gets_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = [("x" * 1000, "")] * 200  # more than a pipe holds
    ours, there = os.pipe()
    os.set_blocking(there, False)
    with open(ours) as read, ThreadPoolExecutor() as threads, open(there, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        screen = Screen()
        shown = threads.submit(lambda: [read.readline() for _ in lines])
        screen.leave_behind(lines)
        assert shown.result() == ["x" * 1000 + "\n"] * 200


@needs_signals
def test_a_view_that_is_suspended_gives_the_terminal_back_and_is_drawn_again_when_resumed(
    working: tuple[Path, JobService],
) -> None:
    root, _ = working
    with Command(root, "watch", "ship", columns=80) as command:
        command.awaits("1 row in flight")
        # A process without a shell can't be suspended: it leaves the screen, and goes on.
        command.process.send_signal(signal.SIGTSTP)
        command.awaits("\x1b[?1049l")
        command.awaits("\x1b[?1049h", 2)
        command.awaits("1 row in flight", 2)
        command.press("q")
        assert command.ends() == 130


def test_without_keys_or_colours_lines_are_written(working: tuple[Path, JobService]) -> None:
    root, service = working
    with (
        Command(root, "watch", "ship", columns=80, more={"TERM": "dumb"}) as dumb,
        Command(root, "watch", "ship") as piped,
    ):
        for command in (dumb, piped):
            command.awaits("ship: running: 1 processing, 3 pending")
        service.update_status("ship", "cancelled")
        service.close()
        assert (dumb.ends(), piped.ends()) == (4, 4)
        assert "\x1b" not in dumb.out
        assert piped.out == ""


# --- of a set


def test_the_shards_that_need_a_person_are_shown_first(tmp_path: Path) -> None:
    for index in range(5):
        with journal.open_job(tmp_path / "ship", [{}] * 60, shard=(index, 6)):
            pass
    with JobService(tmp_path, sync="none") as service:
        first, dead, paused, failing, _ = sorted(service.store.shards("ship"))
        with JobService(tmp_path, sync="none") as other:
            other.start_job(dead)
            other.start_row("ship:2")
        for shard_id in (first, failing):
            service.start_job(shard_id)
        service.start_row("ship:7")
        service.fail_row("ship:4", "E", "no")
        service.pause_job(paused)
        view = SetReader(FoundJob(ReadingService(tmp_path), "ship", str))
        shown = view.read(look_at_set(service, "ship"))
    lines = [text for text, _ in set_lines(shown, 200, 24)]
    assert lines[0].endswith("  0%  0/60 rows")
    assert lines[1].startswith("ship: running; 0 of 6 completed; 2 running (0,3); 1 interrupted")
    assert lines[2] == "1 failed, 2 processing, 47 pending"
    cells = [line.split() for line in lines[4:]]
    assert cells[0] == ["SHARD", "STATE", "DONE", "IN", "FLIGHT", "FAILED", "OLDEST"]
    assert [row[0][:3] for row in cells[1:]] == ["001", "002", "003", "000", "004", "005"]
    assert cells[1][1:4] == ["interrupted", "0/10", "1"]
    assert cells[2][1:] == ["pending,", "paused", "until", "resume", "0/10"]
    assert cells[3][1:] == ["running", "0/10", "1"], "a row failed"
    assert cells[4][1:4] == ["running", "0/10", "1"]
    assert cells[6][1:] == ["absent"]
    assert [text for text, _ in set_lines(shown, 30, 2)] == [
        lines[0][-30:],
        "ship: running; 0 of 6 complet…",
    ]


def test_a_set_is_drawn_until_its_shards_have_ended(tmp_path: Path) -> None:
    with (
        journal.open_job(tmp_path / "ship", [{}] * 4, shard=(0, 1)) as job,
        Command(tmp_path, "watch", "ship", columns=80) as command,
    ):
        command.awaits("0/4 rows")
        job.run(lambda _: "done", progress=False)
        assert command.ends() == 0
        _, normal, modes = as_shown(command.out)
    assert modes == {"?7", "?25"}
    assert "000-of-001  completed   4/4" in normal
    assert normal.endswith("ship: completed: 4 completed\n")

"""`journal list` and `show`: what somebody needs to know who is called at night."""

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.platforms import needs_fifos, skip_without
from support.terminal import on_terminal

import journal
from journal import Job, JobService, RowResult
from journal.cli.main import main
from journal.progress.rate import RecentRate

Capture = pytest.CaptureFixture[str]


def run(root: Path, *arguments: str) -> int:
    return main(["--root", str(root), *arguments])


def as_json(root: Path, capsys: Capture, *arguments: str) -> Any:
    assert run(root, *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def ids(root: Path, capsys: Capture, *arguments: str) -> list[str]:
    return [job["id"] for job in as_json(root, capsys, "list", *arguments)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Jobs that are pending, interrupted, paused and completed, in this order of their making."""
    path = tmp_path / "store"
    with JobService(path, sync="none") as service:
        for name in ("waits", "died", "rests", "done"):
            service.create_job(f"Ship {name}", job_id=name, row_data=[{}] * 3)
        for name in ("died", "rests", "done"):
            service.start_job(name)
        service.start_row("died:1")
        service.store.release_run("died")
        service.update_status("rests", "paused")
        for number in (1, 2, 3):
            service.complete_row(f"done:{number}")
        service.update_status("done", "completed")
    return path


# --- list


def test_list_takes_moments_and_how_long_ago(root: Path, capsys: Capture) -> None:
    with JobService(root) as service:
        job = service.get_job("rests")
    assert job is not None
    at = job.created_at
    assert ids(root, capsys, "--since", at.isoformat()) == ["done", "rests"]
    assert ids(root, capsys, "--since", f"{at.astimezone():%Y-%m-%d %H:%M:%S.%f}") == [
        "done",
        "rests",
    ]
    assert len(ids(root, capsys, "--since", "3d")) == 4
    assert len(ids(root, capsys, "--since", "2h ago")) == 4
    assert ids(root, capsys, "--since", "3000-01-01") == []


def test_list_shows_the_newest_and_says_that_there_are_more(root: Path, capsys: Capture) -> None:
    assert run(root, "list", "--limit", "2") == 0
    captured = capsys.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()] == ["JOB", "done", "rests"]
    assert captured.err == "these are the newest 2 jobs; --limit all shows all\n"
    assert run(root, "list", "--limit", "4") == 0
    assert capsys.readouterr().err == ""
    assert len(ids(root, capsys, "--limit", "all")) == 4


def _damaged(directory: Path) -> None:
    path = directory / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b"Ship", b"Shop"))


def _foreign(directory: Path) -> None:
    (directory / "journal.jsonl").write_text("these are\nmy notes\n")


def _of_another_name(directory: Path) -> None:
    path = directory / "journal.jsonl"
    path.write_bytes((directory.parent / "done" / "journal.jsonl").read_bytes())


def _newer(directory: Path) -> None:
    path = directory / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2'))


def _empty(directory: Path) -> None:
    (directory / "journal.jsonl").write_bytes(b"")


def _pipe(directory: Path) -> None:
    """Whoever opens it to read waits for somebody to write."""
    (directory / "journal.jsonl").unlink()
    skip_without(needs_fifos)
    os.mkfifo(directory / "journal.jsonl")


def _directory(directory: Path) -> None:
    (directory / "journal.jsonl").unlink()
    (directory / "journal.jsonl").mkdir()


def _lost(directory: Path) -> None:
    (directory / "journal.jsonl").unlink()
    (directory / "artifacts").mkdir()


def _only_the_damaged_one_is_left(directory: Path) -> None:
    (directory / "journal.jsonl").rename(directory / "journal.damaged-1")


HURT = [_damaged, _foreign, _of_another_name, _newer, _empty]
HURT += [_pipe, _directory]


def test_strange_things_in_a_store_hide_no_job(root: Path, capsys: Capture) -> None:
    (root / "loop").symlink_to("loop")
    (root / "nowhere").symlink_to("/nowhere")
    (root / "notes").mkdir()
    (root / "notes" / "journal.txt").write_text("dear journal")
    (root / "a-file").write_text("")
    assert len(ids(root, capsys)) == 4
    _pipe(root / "waits")
    (root / "New Folder").mkdir()
    _foreign(root / "New Folder")
    assert run(root, "list") == 6
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 4
    assert captured.err.count("\n") == 2
    assert run(root, "show", "died") == 0


@pytest.mark.parametrize("lose", [_lost, _only_the_damaged_one_is_left])
def test_a_job_that_has_lost_its_journal_is_named(
    root: Path, capsys: Capture, lose: Callable[[Path], None]
) -> None:
    lose(root / "waits")
    assert run(root, "list", "--nl") == 6
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 3
    (line,) = captured.err.splitlines()
    assert f"{root / 'waits' / 'journal.jsonl'}: it is gone, and other files of its job" in line
    with JobService(root) as service:
        assert len(service.list_jobs()) == 3


@pytest.mark.parametrize("hurt", HURT)
def test_what_cannot_be_read_is_named_and_hides_nothing(
    root: Path, capsys: Capture, hurt: Callable[[Path], None]
) -> None:
    hurt(root / "waits")
    assert run(root, "list", "--nl") == 6
    captured = capsys.readouterr()
    listed = [json.loads(line)["id"] for line in captured.out.splitlines()]
    assert listed == ["done", "rests", "died"]
    assert captured.err.count("\n") == 1
    assert str(root / "waits") in captured.err
    for command in ("show", "rows", "errors"):
        assert run(root, command, "died") == 0
        assert run(root, command, "waits") in (1, 4, 6)
        assert str(root / "waits") in capsys.readouterr().err


def test_list_reads_no_more_journals_than_it_shows_and_one(root: Path, capsys: Capture) -> None:
    """Of the others it reads the first line: so it answers at once, however many there are."""
    path = root / "waits" / "journal.jsonl"
    head, _, rest = path.read_bytes().partition(b"\n")
    path.write_bytes(head + b"\n" + rest.replace(b"row", b"rod"))
    assert ids(root, capsys, "--limit", "2") == ["done", "rests"]
    assert run(root, "list") == 6


# --- show


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """A job that ended with failed rows, some in review and some that were never begun."""
    path = tmp_path / "ended"
    with JobService(path, sync="none") as service:
        service.create_job("Ship CA", job_id="ca", row_data=[{"data": {"n": n}} for n in range(60)])
        service.start_job("ca")
        for number in (5, 12, *range(34, 48)):
            service.fail_row(f"ca:{number}", "E42", "Missing ZIP")
        for number in range(52, 60):
            text = "HTTP Error 503" if number > 56 else f"HTTP Error 422: order {number}"
            service.fail_row(f"ca:{number}", "HTTPError", text)
        service.fail_row("ca:50", "timeout", "took longer than 30 s")
        service.complete_row("ca:1", cost_cents=100)
        for number in (20, 21, 23):
            service.start_row(f"ca:{number}")
        service.store.release_run("ca")
        service.start_job("ca")
        service.update_status("ca", "failed")
    return path


def test_show_groups_errors_with_their_rows_and_an_example(ended: Path, capsys: Capture) -> None:
    assert run(ended, "show", "ca") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "errors      16 x E42: rows 5, 12, 34-47: Missing ZIP" in lines
    codes = "5 x HTTP Error 422: order 52; 3 x HTTP Error 503"
    assert f"            8 x HTTPError: rows 52-59: {codes}" in lines
    assert "            1 x timeout: row 50: took longer than 30 s" in lines
    assert "in review   rows 20-21, 23" in lines


def _paste(commands: list[str]) -> None:
    """Type the commands into a shell, where `journal` is this one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        done = subprocess.run(
            ["sh", "-c", command],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)


@pytest.mark.parametrize(
    ("how", "status"),
    [("--completed", "completed"), ("--retry", "pending"), ("--failed", "failed")],
)
def test_the_commands_of_show_settle_rows_of_a_job_that_goes_on(
    root: Path, capsys: Capture, how: str, status: str
) -> None:
    with JobService(root, sync="none") as service:
        service.start_job("died", "review")
        service.update_status("died", "paused")
    found = as_json(root, capsys, "show", "died")["next"]
    _paste([each["command"] for each in found if how in each["command"]])
    with JobService(root) as service:
        row = service.get_row("died:1")
    assert row is not None
    assert row.status == status


def test_show_says_what_became_of_an_interrupted_run(root: Path, capsys: Capture) -> None:
    assert run(root, "show", "died") == 0
    out = capsys.readouterr().out
    assert "in flight   row 1\n" in out
    assert "--on-interrupted" in out


def test_show_of_a_running_job_has_a_rate_and_a_time_left(root: Path, capsys: Capture) -> None:
    with JobService(root, sync="none") as service:
        service.start_job("waits")
        service.complete_row("waits:1")
        shown = as_json(root, capsys, "show", "waits")
        assert run(root, "show", "waits") == 0
    assert shown["status"] == "running"
    assert shown["run_holder"]["pid"] == os.getpid()
    assert shown["rows_per_s"] > 0
    assert shown["left_s"] is not None
    out = capsys.readouterr().out
    assert " rows end per second, " in out
    assert " left\n" in out


def test_show_says_that_a_run_waits_for_its_rate_by_usage(
    root: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    def look(_job: Job) -> None:
        if job.pace:
            run(root, "show", "limited")
            shown.append(capsys.readouterr().out)
            job.stop()

    with journal.open_job(root / "limited", [{"n": n} for n in range(3)]) as job:
        handler = lambda _row: RowResult(usage={"tokens": 9})  # noqa: E731
        job.run(handler, rate={"tokens": "10/h"}, on_progress=look)
    assert "per second; none is in flight: it may wait for tokens=10/h\n" in shown[0]


def test_the_rate_of_what_is_watched_leaves_out_pauses_and_what_was_long_ago() -> None:
    rate = RecentRate()
    assert rate.look(0.0, 500) is None
    assert rate.look(10.0, 510) == 1.0
    assert rate.look(20.0, 510) == 0.5  # it hangs
    assert rate.look(70.0, 510) is None  # no row ends any more
    rate.pause()
    assert rate.look(5000.0, 510) is None
    assert rate.look(5010.0, 530) == 2.0
    assert rate.look(5011.0, 520) is None  # rows were put back
    assert rate.look(5012.0, 540) == 20.0
    for second in range(1, 1001):
        assert rate.look(5012.0 + second, 540 + 100 * second) is not None
    assert rate.look(6013.0, 100_640) == 100.0


def _in_doubt(root: Path, count: int, *, review: bool) -> None:
    """A job ``doubt`` whose rows were all in flight when its run died, and may be in review."""
    with JobService(root, sync="none") as service:
        service.create_job("Doubt", job_id="doubt", row_data=[{}] * count)
        service.start_job("doubt")
        with service.batch("doubt"):
            for number in range(1, count + 1):
                service.start_row(f"doubt:{number}")
        service.store.release_run("doubt")
        if review:
            service.start_job("doubt", "review")
            service.update_status("doubt", "paused")


def test_no_command_of_show_settles_a_part_of_the_rows_that_its_text_names(
    tmp_path: Path, capsys: Capture
) -> None:
    _in_doubt(tmp_path, 10_002, review=True)
    shown = as_json(tmp_path, capsys, "show", "doubt")
    assert shown["needs_review_rows"] == "1-10000,..."
    assert shown["errors_partial"] is True
    resolving = [each["command"] for each in shown["next"] if " resolve " in each["command"]]
    assert len(resolving) == 3
    assert all(" --row ROWS " in command for command in resolving)
    assert run(tmp_path, "show", "doubt") == 0
    out = capsys.readouterr().out
    assert "in review   rows 1-10000, ...\n" in out
    assert (
        "of 10002 rows that failed or need a review, the first 10000 were read; "
        f"`journal --root {tmp_path} errors doubt` has all" in out
    )


@pytest.mark.parametrize(
    ("codes", "rows"),
    [
        ("ABA", [("A: ", "1,3"), ("B: ", "2")]),
        ("AAA", [("", "1-3")]),
        ("ABCDA", [("", "1-5")]),
    ],
)
def test_rows_in_review_are_settled_by_their_codes_if_these_are_few(
    tmp_path: Path, capsys: Capture, codes: str, rows: list[tuple[str, str]]
) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Mixed", job_id="mixed", row_data=[{}] * len(codes))
        service.start_job("mixed")
        for number, code in enumerate(codes, 1):
            service.start_row(f"mixed:{number}")
            service.review_row(f"mixed:{number}", code, "look")
        service.update_status("mixed", "failed")
    assert run(tmp_path, "show", "mixed") == 0
    lines = capsys.readouterr().out.splitlines()
    found = [
        (
            why.strip().removeprefix("# ").partition("if they took effect")[0],
            line.split()[-2].strip('"'),
        )
        for why, line in itertools.pairwise(lines)
        if line.endswith(" --completed")
    ]
    assert found == rows
    many = [row for _, row in rows if not row.isdigit()]
    assert len([line for line in lines if "--from FILE" in line]) == len(many)


def test_done_is_completed_or_skipped_in_every_command(tmp_path: Path, capsys: Capture) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Ten", job_id="ten", row_data=[{}] * 10)
        service.start_job("ten")
        for number in range(1, 5):
            service.complete_row(f"ten:{number}") if number > 1 else service.skip_row("ten:1")
            service.fail_row(f"ten:{number + 4}", "E", "no")
        for number in (9, 10):
            service.start_row(f"ten:{number}")
            service.review_row(f"ten:{number}", "unknown", "look")
        service.update_status("ten", "failed")
    assert run(tmp_path, "list") == 0
    assert " 4/10 " in capsys.readouterr().out
    assert run(tmp_path, "show", "ten") == 0
    out = capsys.readouterr().out
    assert " 40%, of 10 rows: 3 completed, 4 failed, 2 needs_review, 1 skipped" in out
    assert " done=4 " in out
    code, shown = on_terminal("--root", str(tmp_path), "watch", "ten", columns=80)
    assert code == 3
    assert "  40%  4/10 rows\n" in shown
    _, shown = on_terminal("--root", str(tmp_path), "delete", "ten", columns=80, answer="n\n")
    assert "4 of 10 rows are done" in shown


def test_show_of_an_interrupted_job_names_the_rows_in_flight(
    tmp_path: Path, capsys: Capture
) -> None:
    _in_doubt(tmp_path, 3, review=False)
    found = as_json(tmp_path, capsys, "show", "doubt")["next"]
    resolve = f"journal --root {tmp_path} resolve doubt --row 1-3"
    assert [each["command"] for each in found] == [
        "",
        f"journal --root {tmp_path} rows doubt --status processing",
        f"{resolve} --completed",
        f"{resolve} --retry",
        f"{resolve} --failed CODE --error-message TEXT",
    ]
    assert re.search("; start again the program .*--on-interrupted", found[0]["why"])


@pytest.mark.parametrize("command", ["show", "rows", "errors"])
def test_of_a_traceback_the_line_is_shown_that_names_the_error(
    tmp_path: Path, capsys: Capture, command: str
) -> None:
    frames = "".join(f'  File "ship.py", line {n}, in ship\n    ship()\n' for n in range(100))
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Ship", job_id="j", row_data=[{}])
        message = f"Traceback (most recent call last):\n{frames}ValueError: no address\n"
        service.fail_row("j:1", "1", message)
    assert run(tmp_path, command, "j") == 0
    assert "ValueError: no address" in capsys.readouterr().out

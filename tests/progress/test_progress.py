"""What a run shows of its progress: a bar on a terminal, lines if asked for, nothing else."""

from __future__ import annotations

import io
import logging
import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.platforms import needs_fork

import journal
from journal import Job, JobStatus, RowStatus
from journal.model import HoldState, Run, hold_text
from journal.progress.show import Progress
from journal.progress.stalls import is_stalled
from journal.progress.terminal import Bar, bar_line

ROWS = [{"n": n} for n in range(1, 41)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> str:
        """What is to be seen: what was erased is not."""
        lines = self.getvalue().split("\n")
        return "\n".join(line.rpartition("\r\x1b[K")[2] for line in lines)


@pytest.fixture(name="terminal")
def fixture_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


@contextmanager
def on(terminal: io.StringIO | None) -> Iterator[None]:
    """With the terminal as standard output and standard error."""
    with redirect_stdout(terminal), redirect_stderr(terminal):
        yield


def run(
    path: Path,
    terminal: io.StringIO | None,
    handle: Callable[[Any], object] = lambda row: row.row_number,
    **options: Any,
) -> journal.RunReport:
    with on(terminal), journal.open_job(path / "j", ROWS, key="n", sync="none") as job:
        return job.run(handle, **options)


def job_of(**values: Any) -> Job:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Job(**{"id": "j", "name": "j", "created_at": at, "updated_at": at, **values})


# --- where it is shown


@pytest.mark.parametrize("progress", [None, False])
def test_without_a_terminal_nothing_is_shown_unless_asked_for(
    progress: bool | None, tmp_path: Path
) -> None:
    run(tmp_path, plain := io.StringIO(), progress=progress)
    assert plain.getvalue() == ""


@pytest.mark.parametrize(("options", "term"), [({"progress": False}, "xterm"), ({}, "dumb")])
def test_a_terminal_gets_no_bar_if_none_is_wanted_or_can_be_drawn(
    options: dict[str, Any],
    term: str,
    tmp_path: Path,
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", term)
    run(tmp_path, terminal, **options)
    assert terminal.getvalue() == ""


def test_of_two_runs_at_a_time_one_has_a_bar(tmp_path: Path, terminal: Terminal) -> None:
    def handle(row: journal.AttemptedRow) -> None:
        if row.row_number == 1:
            with journal.open_job(tmp_path / "inner", ROWS) as inner:
                inner.run(lambda _row: None)

    run(tmp_path, terminal, handle)
    assert "40/40" in terminal.screen
    assert "inner" not in terminal.getvalue()


# --- other lines


def test_lines_of_others_stand_above_the_bar(tmp_path: Path, terminal: Terminal) -> None:
    def handle(row: journal.AttemptedRow) -> None:
        if row.row_number == 7:
            print("one", 2)
            sys.stderr.writelines(["three\n", "four\n"])

    run(tmp_path, terminal, handle, max_rows=20)
    *others, first, bar, advice = terminal.screen.splitlines()
    assert others == ["one 2", "three", "four"]
    assert first == "j: 20 rows were started, as many as were asked for: pausing"
    assert re.match(r"j  \[#{15}-{15}\]  20/40  0 failed", bar)
    assert advice.startswith("to continue: ")


@pytest.mark.parametrize("stream", ["stderr", "stdout"])
@pytest.mark.parametrize("name", ["", "mine"])
@pytest.mark.parametrize("is_early", [True, False])
def test_lines_of_logging_stand_above_the_bar_and_messages_come_once(
    stream: str, name: str, is_early: bool, tmp_path: Path, terminal: Terminal
) -> None:
    logger, handlers = logging.getLogger(name), list[logging.Handler]()

    def add_handler() -> None:
        handlers.append(logging.StreamHandler(getattr(sys, stream)))
        logger.addHandler(handlers[0])

    def handle(row: journal.AttemptedRow) -> None:
        if row.row_number == 1 and not is_early:
            add_handler()
        if row.row_number == 7:
            logger.warning("seven")

    with on(terminal):
        if is_early:
            add_handler()
        try:
            with journal.open_job(tmp_path / "j", ROWS) as job:
                job.run(handle, max_rows=20)
            assert handlers[0].stream is terminal  # type: ignore[attr-defined]
        finally:
            logger.removeHandler(handlers[0])
    first, second, bar, advice = terminal.screen.splitlines()
    assert first == "seven"
    assert second == "j: 20 rows were started, as many as were asked for: pausing"
    assert "20/40" in bar
    assert advice.startswith("to continue: ")


def test_a_run_that_is_refused_leaves_no_bar_and_names_the_run_of_this_process(
    tmp_path: Path, terminal: Terminal
) -> None:
    refused: list[journal.JobBusyError] = []
    with journal.open_job(tmp_path / "j", ROWS) as job:

        def handle(row: journal.AttemptedRow) -> None:
            if row.row_number == 1:
                with (
                    on(terminal),
                    journal.open_job(tmp_path / "j") as again,
                    pytest.raises(journal.JobBusyError) as error,
                ):
                    again.run(print)
                refused.append(error.value)

        job.run(handle, progress=False)
    assert "j  [" in terminal.getvalue()
    assert terminal.screen == ""
    assert "another run of this process" in str(refused[0])
    assert "await or join it, or stop it by job.stop()" in str(refused[0])


def test_the_bar_waits_until_the_line_of_another_has_ended(terminal: Terminal) -> None:
    with on(terminal), Progress(job_of(total_rows=4)) as progress:
        print("half a ", end="")
        progress.end(job_of(total_rows=4, counts={RowStatus.COMPLETED: 2}))
        print("line")
    assert terminal.screen.splitlines()[0] == "half a line"
    assert "2/4" in terminal.screen.splitlines()[1]


def test_who_hears_messages_may_wait_for_another_thread_that_prints(
    tmp_path: Path, terminal: Terminal
) -> None:
    def tell(text: str) -> None:
        thread = threading.Thread(target=print, args=("heard:", text))
        thread.start()
        thread.join()

    run(tmp_path, terminal, max_rows=5, tell=tell)
    first, bar, _advice = terminal.screen.splitlines()
    assert first == "heard: j: 5 rows were started, as many as were asked for: pausing"
    assert "5/40" in bar


def test_after_the_run_the_streams_are_those_from_before(
    tmp_path: Path, terminal: Terminal
) -> None:
    during: list[object] = []
    with on(terminal), journal.open_job(tmp_path / "j", ROWS) as job:
        job.run(lambda _row: during.append(sys.stdout))
        assert (sys.stdout, sys.stderr) == (terminal, terminal)
    assert len(during) == 40
    assert terminal not in during


def test_who_has_kept_a_stream_from_the_run_writes_as_before(
    tmp_path: Path, terminal: Terminal
) -> None:
    kept: list[Any] = []
    run(tmp_path, terminal, lambda _row: kept.append(sys.stdout))
    before = terminal.getvalue()
    print("later", file=kept[0])
    assert terminal.getvalue() == f"{before}later\n"


# --- errors of the terminal


class Broken(Terminal):
    def write(self, _: str) -> int:
        raise self.error

    error: Exception = OSError("the terminal is gone")


@pytest.mark.parametrize("error", [OSError(5, "gone"), ValueError("closed"), RuntimeError("odd")])
@pytest.mark.parametrize("progress", [None, True])
def test_an_error_of_the_terminal_never_ends_a_run(
    error: Exception, progress: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken()
    broken.error = error
    monkeypatch.setenv("TERM", "xterm")
    assert run(tmp_path, broken, progress=progress).completed == 40
    with on(broken):
        bar = Bar.begin()
        assert bar is not None
        bar.close()


# --- how it is shown


@pytest.mark.parametrize("columns", [12, 20, 40, 80, 200])
@pytest.mark.parametrize("job_id", ["j", "a-job-of-a-name-that-is-long-" * 3])
def test_a_bar_fits_its_line_whatever_the_terminal_s_width(columns: int, job_id: str) -> None:
    job = job_of(
        id=job_id, total_rows=12345, counts={RowStatus.COMPLETED: 678, RowStatus.FAILED: 9}
    )
    line = bar_line(job, ["9 failed", "12.5/s", "0:15:33 left", "cost 1 cent"], columns)
    assert len(line) <= columns - 3
    assert ("9 failed" in line) == (columns >= 40)
    assert ("cost 1 cent" in line) == (columns >= (80 if job_id == "j" else 200))


def test_a_redraw_is_limited_in_rate(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    with on(terminal), Progress(job_of(total_rows=1000)) as progress:
        for done in range(1000):
            now_s += 0.001
            progress.show(job_of(total_rows=1000, counts={RowStatus.COMPLETED: done}))
        assert 2 <= terminal.getvalue().count("/1000") <= 12


def test_a_hold_is_shown_in_place_of_the_rate_unless_its_run_has_died(terminal: Terminal) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    hold = HoldState(reason="Down:\n503", until=until, since=until)
    job = job_of(total_rows=8, status=JobStatus.RUNNING, hold=hold)
    for state, details in (
        ("", f"  0/8  0 failed, {hold_text(hold)}, Down:\\n503"),
        ("interrupted", "  0/8  0 failed"),
    ):
        with on(terminal), Progress(job) as progress:
            progress.show(job, state)
            progress.end(job)
        assert details in terminal.screen.splitlines()[-1]
    assert "holding" not in terminal.screen.splitlines()[-1]


def test_what_a_run_under_a_rate_by_usage_waits_for_is_shown_in_place_of_a_forecast(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, at = time.monotonic(), datetime.now(UTC)
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    limits = {"rate": {"t": "9/m"}}
    last = Run(id="1", host="h", user="u", pid=1, started_at=at, limits=limits)
    with on(terminal), Progress(job_of(total_rows=20), pace=lambda: "waiting") as progress:
        for done in (4, 12):
            now_s += 4
            counts = {RowStatus.COMPLETED: done, RowStatus.PENDING: 20 - done}
            job = job_of(total_rows=20, counts=counts, status=JobStatus.RUNNING, last_run=last)
            progress.show(job)
        assert "2.0/s, waiting" in terminal.screen


def test_who_watches_and_fails_is_not_called_again_so_that_no_second_stop_ends_rows() -> None:
    seen: list[Job] = []

    def complain(job: Job) -> None:
        seen.append(job)
        raise OSError("nobody watches")

    job = job_of()
    show = Progress(job).then(complain)
    with pytest.raises(OSError, match="nobody"):
        show(job)
    show(job)
    assert seen == [job]


@pytest.mark.parametrize(
    ("took_s", "least_s"),
    [
        ([], math.inf),  # nobody knows how long an attempt takes
        ([0.1], 60),
        ([8.0, 9.0, 9.0, 10.0], 90),
        ([1.0, 1.0, 400.0], 800),  # one of three took long: so may the next
        ([600.0, *[1.0] * 30], 60),  # one of many
        ([600.0, *[1.0] * 9] * 3, 1200),
    ],
)
def test_a_run_has_stalled_after_a_minute_ten_medians_and_twice_a_long_attempt(
    took_s: list[float], least_s: float
) -> None:
    assert not is_stalled(took_s, min(least_s - 0.01, 1e9))
    assert is_stalled(took_s, least_s) == (least_s < math.inf)


def test_a_run_imports_neither_ipython_nor_click(tmp_path: Path) -> None:
    code = (
        "import journal, sys\n"
        f"with journal.open_job({str(tmp_path / 'j')!r}, [{{}}]) as job:\n"
        "    job.run(print, progress=True)\n"
        "print({'IPython', 'click', 'html'} & set(sys.modules) or 'none of them')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("none of them\n")


@needs_fork
def test_a_process_that_was_forked_while_a_line_was_written_writes_its_own(tmp_path: Path) -> None:
    code = """
import os, threading
from journal.progress.terminal import Bar

held, done = threading.Event(), threading.Event()

def write():
    with Bar._lock:
        held.set()
        done.wait(60)

thread = threading.Thread(target=write)
thread.start()
held.wait(60)
child = os.fork()
if child == 0:
    with Bar._lock:
        os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
done.set()
thread.join()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "7\n"

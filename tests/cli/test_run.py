"""`journal run` on real processes: the job is made, killed, gone on with, paused, refused."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import PYTHON, journal, journal_process
from support.platforms import needs_fifos, needs_rlimits, needs_shell, skip_without

from journal import JobService, RowStatus
from journal.fs.shell import quote

JOURNAL = [sys.executable, "-m", "journal"]
# Announces its row in a file of its own, then waits until the gate is opened: no clock involved.
HELD = """
import pathlib, sys
directory, row = pathlib.Path(sys.argv[1]), sys.argv[2]
(directory / row).touch()
try:
    (directory / "gate").read_text()
except FileNotFoundError:
    pass
print("done", row)
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNAL_ROOT", raising=False)
    (tmp_path / "rows.csv").write_text("order,zip\n" + "".join(f"A-{n},{n}\n" for n in range(1, 6)))
    return tmp_path


def statuses(job_id: str) -> Counter[str]:
    with JobService("jobs") as service:
        return Counter(str(row.status) for row in service.get_rows(job_id))


# --- the ordinary course of things


@needs_rlimits
@needs_shell
def test_more_commands_run_at_a_time_than_the_shell_lets_have_files_open(work: Path) -> None:
    """Each has two files for its output. `journal tune` may ask for up to 1,000 commands."""
    (work / "rows.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(60)))
    run = ["run", "rows.csv", "--job", "j", "-j", "60", "--halt", "never", "--", "sleep", "1"]
    line = shlex.join([*JOURNAL, *run])
    done = subprocess.run(
        ["sh", "-c", f"ulimit -S -n 64; {line}"], stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "60 completed" in done.stderr


def test_each_row_runs_the_command_with_its_own_values(work: Path) -> None:
    done = journal(
        "run", "rows.csv", "--job", "j", "-j", "3", "--", "echo", "{order}/{zip}", "{{}}"
    )
    assert done.returncode == 0, done.stderr
    assert "5 completed, 0 failed" in done.stderr
    with JobService("jobs") as service:
        rows = list(service.get_rows("j"))
        job = service.get_job("j")
    assert [row.result for row in rows] == [f"A-{n}/{n} {{}}" for n in range(1, 6)]
    assert {row.attempts for row in rows} == {1}
    assert job is not None
    assert job.status == "completed"
    assert job.original_command == "echo '{order}/{zip}' '{{}}'"


def test_values_reach_the_command_without_a_shell(work: Path) -> None:
    nasty = "$(touch pwned) `id` ; * \"'\\ | > x"
    quoted = nasty.replace('"', '""')
    (work / "rows.csv").write_text(f'v\n"{quoted}"\n')
    command = (*PYTHON, "import sys; sys.stdout.write(sys.argv[1])", "{v}")
    assert journal("run", "rows.csv", "--job", "j", "--", *command).returncode == 0
    with JobService("jobs") as service:
        assert service.get_rows("j")[0].result == nasty
    assert not (work / "pwned").exists()


def test_a_lonely_header_of_an_input_of_no_known_format_is_named(work: Path) -> None:
    (work / "names").write_text("ada\nbob\n")
    (work / "names.csv").write_text("ada\nbob\n")
    said = "its first line, ['ada'], is the header of CSV; if each line is a row, add --lines"
    for where, *options, is_said in [
        ("-", True),
        ("names", True),
        ("names.csv", False),
        ("names", "--format", "csv", False),
        ("names", "--quiet", False),
    ]:
        words = ("run", str(where), "--job", "j", *map(str, options), "--", "true")
        assert (said in journal(*words, text="ada\nbob\n").stderr) is is_said


def test_a_command_that_fails_fails_its_row_with_status_and_standard_error(work: Path) -> None:
    script = """
import sys
if sys.argv[1] == "A-3":
    print("no", sys.argv[1], file=sys.stderr)
    sys.exit(7)
"""
    done = journal("run", "rows.csv", "--job", "j", "--", *PYTHON, script, "{order}")
    assert done.returncode == 3
    assert "4 completed, 1 failed" in done.stderr
    assert "errors j" in done.stderr
    with JobService("jobs") as service:
        (row,) = service.get_failed_rows("j")
        job = service.get_job("j")
    assert (row.row_number, row.error_code, row.error_message) == (3, "7", "no A-3")
    assert job is not None
    assert job.status == "failed"


def test_a_job_that_is_done_is_not_done_again(work: Path) -> None:
    assert journal("run", "rows.csv", "--job", "j", "--", "true").returncode == 0
    before = Path("jobs/j/journal.jsonl").read_bytes()
    again = journal("run", "rows.csv", "--job", "j", "--anew", "--", "touch", "again")
    assert again.returncode == 0
    assert "nothing to do" in again.stderr
    assert "j: exists, so --anew has no effect" in again.stderr
    assert Path("jobs/j/journal.jsonl").read_bytes() == before
    assert not (work / "again").exists()


def test_what_is_said_of_failed_rows_can_be_pasted_and_runs_them_alone(
    work: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (work / "fail.sh").write_text('[ -e "$1" ] && exit 1; : > "$1"; [ "$1" != A-2 ]\n')
    command = ["run", "rows.csv", "--job", "j", "--version", "1", "--", "sh", "fail.sh", "{order}"]
    assert journal(*command).returncode == 3
    idle = journal(*command)
    assert idle.returncode == 3
    assert "j: failed already, and nothing is new\n" in idle.stderr
    (work / "A-2").unlink()
    (work / "fail.sh").write_text('[ ! -e "$1" ]\n')  # of the others, every one would fail
    assert len(idle.stderr.splitlines()) == 5, "besides what has happened, three lines of advice"
    assert idle.stderr.endswith(f"\nwhat else can be done: {shlex.join(JOURNAL)} show j\n")
    shown = journal("show", "j").stdout
    (pasted,) = [line for line in shown.splitlines() if " --retry-failed -- " in line]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert "--version 1 --retry-failed --" in pasted
    subprocess.run(["sh", "-c", pasted], cwd=elsewhere, check=True)
    assert statuses("j") == {"completed": 5}
    with JobService("jobs") as service:
        assert [row.attempts for row in service.get_rows("j")] == [1, 2, 1, 1, 1]
        assert {row.version for row in service.get_rows("j")} == {"1"}


# --- killed and gone on with


@pytest.fixture
def held_run(work: Path) -> Iterator["HeldRun"]:
    run = HeldRun(work)
    yield run
    run.stop()


class HeldRun:
    """A run of two at a time, stopped in the middle of its first two commands."""

    def __init__(self, work: Path) -> None:
        skip_without(needs_fifos)
        self.started = work / "started"
        self.started.mkdir()
        (work / "held.py").write_text(HELD)
        os.mkfifo(self.started / "gate")
        # Held open for writing, so that a command's read ends only when we close it.
        self._gate = os.open(self.started / "gate", os.O_RDWR)
        self.arguments = [
            *("run", "rows.csv", "--job", "j", "-j", "2", "--"),
            *(sys.executable, "held.py", "started", "{order}"),
        ]
        self.process = subprocess.Popen(
            [*JOURNAL, *self.arguments], stderr=subprocess.PIPE, text=True
        )
        self.wait_for({"A-1", "A-2"})

    def wait_for(self, names: set[str]) -> None:
        while not names <= {path.name for path in self.started.iterdir()}:
            assert self.process.poll() is None
            os.sched_yield()

    def open_gate(self) -> None:
        if self._gate >= 0:
            (self.started / "gate").unlink()
            os.close(self._gate)
            self._gate = -1

    def stop(self) -> None:
        self.open_gate()
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


def test_rows_in_flight_at_sigkill_need_review_and_the_rest_is_done_once(
    held_run: HeldRun, work: Path
) -> None:
    held_run.process.kill()
    held_run.process.wait()
    assert "interrupted" in journal("show", "j").stdout
    done = journal("run", "rows.csv", "--job", "j", "-j", "2", "--", "touch", "{order}")
    assert done.returncode == 3
    assert "2 rows were in flight" in done.stderr
    assert "j: failed (2 rows need a review) in " in done.stderr
    with JobService("jobs") as service:
        rows = list(service.get_rows("j"))
    assert [row.status for row in rows] == [RowStatus.NEEDS_REVIEW] * 2 + [RowStatus.COMPLETED] * 3
    assert [row.attempts for row in rows] == [1] * 5
    assert not (work / "A-1").exists()
    assert (work / "A-5").exists()


def test_rows_in_flight_at_sigkill_fail_if_told_so(held_run: HeldRun) -> None:
    held_run.process.kill()
    held_run.process.wait()
    done = journal(*("run", "rows.csv", "--job", "j", "--on-interrupted", "fail", "--", "true"))
    assert done.returncode == 3
    assert statuses("j") == {"failed": 2, "completed": 3}
    for said in (done.stderr, journal("show", "j").stdout):
        assert "--retry-failed" not in said
        (retry,) = re.findall(r"journal .*(retry j.*)", said)
        assert retry == "retry j --row 1-2"
    assert journal(*retry.split()).returncode == 0
    assert statuses("j") == {"pending": 2, "completed": 3}


def test_a_second_run_of_the_same_job_is_refused_with_its_holder(held_run: HeldRun) -> None:
    second = journal(*held_run.arguments)
    assert second.returncode == 5
    assert f"process {held_run.process.pid} on " in second.stderr


# --- the input changes between two runs


def test_an_order_that_left_the_input_is_not_shipped_if_that_is_asked_for(work: Path) -> None:
    run = ("run", "rows.csv", "--job", "j", "--key", "order")
    assert journal(*run, "--limit", "1", "--", "true").returncode == 4
    (work / "rows.csv").write_text("order,zip\nA-5,5\nA-1,1\n")
    refused = journal(*run, "--on-gone", "error", "--", "true")
    assert refused.returncode == 2
    assert "row j:2 is no longer in the input" in refused.stderr
    assert "`--on-gone skip` skips such rows, `--on-gone keep` runs them" in refused.stderr
    planned = journal(*run, "--dry-run", "--", "echo", "{order}")
    assert "3 open rows are no longer in the input, and are run nevertheless" in planned.stderr
    done = journal(*run, "--on-gone", "skip", "--", "true")
    assert done.returncode == 0
    assert "j: 3 of them are skipped, or put under review\n" in done.stderr
    assert statuses("j") == {"completed": 2, "skipped": 3}
    journal("retry", "j", "--status", "skipped")
    (work / "rows.csv").write_text("order,zip\n")
    for options in (("--on-gone", "skip"), ("--quiet",), ("--quiet", "--job", "new")):
        refused = journal(*run, *options, "--", "true")
        assert (refused.returncode, "rows.csv: has no rows, so" in refused.stderr) == (2, True)
    assert not (work / "jobs" / "new").exists()


# --- bad input: an error of our own, exit code 2, no job made


def test_lines_that_have_moved_lead_to_their_key_which_can_be_given_later(work: Path) -> None:
    run = ("run", "lines.txt", "--job", "j", "-q")
    (work / "lines.txt").write_text("a\nb\n")
    assert journal(*run, "--", "echo", "{}").returncode == 0
    (work / "lines.txt").write_text("new\na\nb\n")
    done = journal(*run, "--", "echo", "{}")
    assert done.returncode == 2
    assert "if they only moved, identify them by a column with unique values, by `--key line`" in (
        done.stderr
    )
    assert "retry" not in done.stderr
    assert journal(*run, "--key", "line", "--", "echo", "{}").returncode == 0
    with JobService("jobs") as service:
        assert [row.result for row in service.get_rows("j")] == ["a", "b", "new"]


# --- what reviewers have found


def test_a_command_finds_its_rows_id_and_its_key_in_the_environment(work: Path) -> None:
    script = "import os; print(*map(os.environ.get, ('JOURNAL_ROW_ID', 'JOURNAL_IDEMPOTENCY_KEY')))"
    run = ("run", "rows.csv", "--job", "j", "--key", "order", "--", *PYTHON, script)
    assert journal(*run).returncode == 0
    with JobService("jobs") as service:
        assert [row.result for row in service.get_rows("j")] == (
            [f"j:{n} j:order=A-{n}" for n in range(1, 6)]
        )


def test_of_standard_input_the_line_to_continue_can_be_pasted_behind_it(work: Path) -> None:
    lines = "a\nb\n"
    words = ("run", "-", "--lines", "--job", "j", "--limit", "1", "--", "echo", "{line}")
    done = journal(*words, text=lines)
    assert done.returncode == 4
    assert " # " not in done.stderr  # an interactive zsh takes it for arguments
    line = done.stderr.partition("\nto continue, run it again, with the same input: ")[2]
    again = subprocess.run(
        line, shell=True, input=lines, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr


def test_on_interrupted_says_what_shows_how_to_settle_rows_in_review(work: Path) -> None:
    run = ("run", "rows.csv", "--job", "j")
    command = ("--", "echo", "{zip}")
    journal(*run, "--limit", "1", *command)
    with JobService("jobs") as service:
        service.start_job("j")
        service.start_row("j:2")
        service.review_row("j:2", "unknown", "look")
        service.update_status("j", "paused")
    done = journal(*run, "--on-interrupted", "retry", *command)
    said = " show j` says how to settle\n"
    assert "j: 1 row is in review already, and stays in review: `" in done.stderr
    assert said in done.stderr
    assert "in review already" not in journal(*run, *command).stderr


def test_the_command_for_a_corrected_input_keeps_on_changed_redo(work: Path) -> None:
    chosen = ("--key", "order", "--on-changed", "redo", "--limit", "1")
    journal("run", "rows.csv", "--job", "j", *chosen, "--", "false")
    start, *_, retry, _ = json.loads(journal("show", "j", "--json").stdout)["next"]
    assert "--limit 1 -- false" in start["command"], "what continues comes first"
    assert "--on-changed redo --limit 1 --retry-failed -- false" in retry["command"]
    assert "if you have corrected the input, with --on-changed redo instead" in retry["why"]


def test_the_line_to_continue_names_the_root_that_the_environment_gave(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_ROOT", str(work / "elsewhere"))
    (work / "stop.sh").write_text("kill -TERM $PPID\nsleep 0.2\n")
    (work / "rows.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(50)))
    done = journal_process("run", "rows.csv", "--job", "j", "--", "sh", "stop.sh")
    assert done.returncode == 143
    (resume,) = [line for line in done.stderr.splitlines() if line.startswith("to continue")]
    assert f"--root {work / 'elsewhere'} run rows.csv --job j -- sh stop.sh" in resume


def test_what_show_names_to_go_on_with_a_dead_run_can_be_pasted_anywhere(
    work: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (work / "die.sh").write_text('[ -e died ] || { : > died; kill -KILL $PPID; }; echo "$1"\n')
    died = journal_process("run", "rows.csv", "--job", "j", "--", "sh", "die.sh", "{order}")
    assert died.returncode == -signal.SIGKILL
    warning, start, _, *settle = json.loads(journal("show", "j", "--json").stdout)["next"]
    assert warning["why"].startswith("commands of the run that died may still be running")
    assert [each["command"].partition(" --row 1 --")[2].split()[0] for each in settle] == [
        *("completed", "retry", "failed")
    ]
    assert "--on-interrupted review or retry or fail or resume (default: review)" in start["why"]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    subprocess.run(["sh", "-c", start["command"]], cwd=elsewhere, check=False)
    assert statuses("j") == {"completed": 4, "needs_review": 1}
    assert warning["why"] in journal("show", "j").stdout
    (work / "died").unlink()
    journal_process("run", "rows.csv", "--job", "k", "--", "sh", "die.sh", "{order}")
    words = ("run", "rows.csv", "--job", "k", "--on-interrupted", "retry", "--", "true")
    assert warning["why"] in journal(*words).stderr, "it may run beside its first attempt"


@pytest.mark.parametrize("is_started_again", [False, True])
def test_a_row_is_not_settled_as_to_be_run_again_without_a_look_at_its_command(
    held_run: HeldRun, is_started_again: bool
) -> None:
    held_run.process.kill()
    held_run.process.wait()
    if is_started_again:
        journal("run", "rows.csv", "--job", "j", "--", "true")
    warning = "j: commands of the run that died may still be running"
    assert warning not in journal("resolve", "j", "--row", "1", "--completed").stderr
    assert warning in journal("resolve", "j", "--row", "2", "--retry").stderr


@needs_fifos
def test_a_signal_is_seen_at_once_whatever_thread_it_is_given_to(work: Path) -> None:
    (work / "rows.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(4000)))
    os.mkfifo(work / "at work")
    for attempt in range(2):
        command = ["sh", "-c", ': > "at work"']
        with subprocess.Popen(
            [*JOURNAL, "run", "rows.csv", "--job", f"j{attempt}", "-j", "4", "--", *command],
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            with (work / "at work").open():  # returns when the first command opens it
                process.send_signal(signal.SIGTERM)
                process.stderr.read()
        assert process.returncode == 143
        assert statuses(f"j{attempt}")["pending"] > 0


def test_messages_to_a_closed_standard_error_do_not_reach_the_journal(work: Path) -> None:
    (work / "stop.sh").write_text("kill -TERM $PPID\nsleep 0.2\n")
    command = [*JOURNAL, "run", "rows.csv", "--job", "j", "--", "sh", "stop.sh"]
    done = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *command], check=False)
    assert done.returncode == 143
    assert b"pausing" not in Path("jobs/j/journal.jsonl").read_bytes()
    assert not list(Path("jobs/j").glob("journal.torn-*"))


@pytest.mark.parametrize(
    ("closed", "arguments"),
    [("<&-", "list"), (">&-", "list"), ("2>&-", "run - --lines --job k -- true")],
)
def test_closed_standard_streams_are_no_reason_for_a_traceback(
    work: Path, closed: str, arguments: str
) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *JOURNAL, *arguments.split()],
        input="1\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 0


def test_a_run_of_a_job_that_another_run_is_making_leaves_it_alone(work: Path) -> None:
    script = "import sys; print('order,zip'); sys.stdout.flush(); sys.stdin.read(); print('A,1')"
    with (
        subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as slow,
        subprocess.Popen(
            [*JOURNAL, "run", "-", "--job", "j", "--", "true"],
            stdin=slow.stdout,
            stderr=subprocess.PIPE,
            text=True,
        ) as late,
    ):
        while not list(Path("jobs").glob(".staging/j.*")):
            assert late.poll() is None
            time.sleep(0)
        assert journal("run", "rows.csv", "--job", "j", "--", "true").returncode == 0
        before = Path("jobs/j/journal.jsonl").read_bytes()
        assert slow.stdin is not None
        assert slow.stdout is not None
        slow.stdout.close()  # ours; the run has its own
        slow.stdin.close()
        late.communicate()
        assert late.returncode == 5
    assert Path("jobs/j/journal.jsonl").read_bytes() == before


# --- what would run


def test_a_dry_run_of_a_new_job_says_what_would_run_and_writes_nothing(work: Path) -> None:
    done = journal("run", "rows.csv", "--job", "j", "--dry-run", "--", "touch", "{order} {#}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"1\tnew\ttouch {quote('A-1 1')}"
    assert "5 commands would run; nothing was run or written" in done.stderr
    assert sorted(path.name for path in work.iterdir()) == ["rows.csv"]


def test_a_dry_run_of_a_job_that_is_there_says_why_each_row_would_run(
    held_run: HeldRun, work: Path
) -> None:
    held_run.process.kill()
    held_run.process.wait()
    with (work / "rows.csv").open("a") as file:
        file.write("A-6,6\n")
    before = Path("jobs/j/journal.jsonl").read_bytes()
    said = {}
    for policy in ("retry", "review"):
        done = journal(
            *("run", "rows.csv", "--job", "j", "--dry-run", "--on-interrupted", policy),
            *("--", "echo", "{order}"),
        )
        assert done.returncode == 0, done.stderr
        assert "1 new row " in done.stderr
        said[policy] = [line.split("\t")[:2] for line in done.stdout.splitlines()]
    rest = [["3", "new"], ["4", "new"], ["5", "new"], ["6", "new in the input"]]
    assert said == {
        "review": rest,
        "retry": [*rest, ["1", "was in flight"], ["2", "was in flight"]],
    }
    assert Path("jobs/j/journal.jsonl").read_bytes() == before


def test_what_a_run_says_about_changed_completed_rows_does_them_again_with_the_new_data(
    work: Path,
) -> None:
    command = ("--", "sh", "-c", 'echo "$0" >> shipped', "{zip}")
    run = ("run", "rows.csv", "--job", "j", "--key", "order")
    journal(*run, *command)
    (work / "rows.csv").write_text("order,zip\nA-1,x\nA-2,2\nA-3,3\nA-4,4\nA-5,5\n")
    done = journal(*run, "--on-changed", "retry", *command)
    assert "take effect twice: start again with `--on-changed redo`\n" in done.stderr
    planned = journal(*run, "--on-changed", "redo", "--dry-run", *command)
    assert planned.stdout.startswith('1\tchanged; before: {"zip":"1"}\t')
    assert "j: changed: 1 (row 1), done: 4\n" in planned.stderr
    assert journal(*run, "--on-changed", "redo", *command).returncode == 0
    assert Path("shipped").read_text().split()[5:] == ["x"]


def test_a_dry_run_counts_what_a_start_would_do_in_a_job_that_has_ended_too(work: Path) -> None:
    run = ("run", "rows.csv", "--job", "j", "--key", "order")
    journal(*run, "--", "test", "{order}", "!=", "A-2")
    (work / "rows.csv").write_text("order,zip\nA-1,x\nA-2,y\nA-3,3\nA-4,4\nA-6,6\n")
    before = Path("jobs/j/journal.jsonl").read_bytes()
    done = journal(*run, "--on-changed", "retry", "--dry-run", "--", "echo", "{order}", "{zip}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "6\tnew in the input\techo A-6 6",
        '2\tchanged; before: {"zip":"2"}\techo A-2 y',
    ]
    assert "j: new: 1 (row 6), changed: 1 (row 2), outdated: 1 (row 1), done: 3\n" in done.stderr
    assert "1 completed row has changed in the input, and stays as done (row 1)" in done.stderr
    retry = journal(
        *run, "--on-changed", "ignore", "--retry-failed", "--dry-run", "--", "echo", "{zip}"
    )
    assert retry.stdout.splitlines() == ["6\tnew in the input\techo 6", "2\tfailed (1)\techo 2"]
    assert "j: retry: 1 (row 2), new: 1 (row 6), done: 4\n" in retry.stderr
    assert Path("jobs/j/journal.jsonl").read_bytes() == before
    (work / "rows.csv").write_text("order,zip\nA-1,1\n")
    nothing = journal(*run, "--dry-run", "--", "echo")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "j: failed already, and nothing is new\n" in nothing.stderr
    assert "j: failed: 1, done: 4\n" in nothing.stderr
    gone = journal(*run, "--on-gone", "skip", "--retry-failed", "--dry-run", "--", "echo")
    assert (gone.returncode, gone.stdout) == (0, "")
    assert "j: 4 rows of the job are no longer in the input\n" in gone.stderr
    assert "j: 1 of them is skipped, or put under review\n" in gone.stderr
    assert "j: gone: 1 (row 2), done: 4\n" in gone.stderr
    assert "failed" not in gone.stderr
    assert Path("jobs/j/journal.jsonl").read_bytes() == before


def test_quiet_says_nothing_if_all_rows_are_done_and_else_the_first_errors(work: Path) -> None:
    run = ("run", "rows.csv", "--job", "j", "--key", "order", "-q")
    script = '[ "$1" = A-1 ] || { echo no; echo more; exit 7; } >&2'
    failed = journal(*run, "--", "sh", "-c", script, "sh", "{order}")
    assert failed.stderr.startswith("j: failed in")
    assert failed.stderr.splitlines()[1:] == [f"j: row {number} (7): no" for number in (2, 3, 4)]
    (work / "rows.csv").write_text((work / "rows.csv").read_text().replace("A-1,1", "A-1,9"))
    done = journal(*run, "--on-changed", "retry", "--retry-failed", "--", "true")
    assert (done.returncode, done.stderr) == (0, "")


def test_advice_about_a_pipe_says_to_pipe_the_input_in_again(work: Path) -> None:
    words = ("run", "-", "-0", "--key", "line", "--job", "j", "--", "false")
    journal(*words, text="a\0b\0")
    said = journal("show", "j").stdout
    assert "# or do both in one step (pipe the input in again)\n" in said
    assert "--on-changed" not in said, "a line that changes is another row"


def test_a_dry_run_refuses_what_a_run_would_refuse(work: Path) -> None:
    journal("run", "rows.csv", "--job", "j", "--limit", "1", "--", "true")
    (work / "rows.csv").write_text((work / "rows.csv").read_text().replace("A-4,4", "A-4,9"))
    done = journal("run", "rows.csv", "--job", "j", "--dry-run", "--", "true")
    assert done.returncode == 2
    assert "row j:4 has changed" in done.stderr


# --- inputs, and what a command is given and gives


def test_the_option_shell_is_refused_with_the_command_that_stands_in_for_it(work: Path) -> None:
    harm = "a[$(: > pwned)]; $(: > pwned)"
    (work / "rows.csv").write_text(f"v\n{harm}\n")
    run = ("run", "rows.csv", "--job", "j")
    refused = journal(*run, "--shell", "--", "x={v}; echo $((x+1))")
    assert refused.returncode == 2
    assert not (work / "jobs").exists()
    _, said = refused.stderr.split("No such option: --shell. ")
    instead = shlex.split(said.split(" -- ")[1].replace("{column}", "{v}"))
    assert instead[0] == "sh"
    done = journal(*run, "--", *instead)
    assert done.returncode == 0, done.stderr
    with JobService("jobs") as service:
        assert service.get_rows("j")[0].result == harm.upper()
    assert not (work / "pwned").exists()


def test_arguments_that_can_not_be_are_named_and_make_no_job(work: Path) -> None:
    good = ["rows.csv", "--job", "j", "--", "true"]
    tables = [
        (["none.csv", *good[1:]], "none.csv"),
        ([*good[:3], "--", "echo", "{nope}"], "{nope}"),
        ([*good[:3], "--", "echo", "{}"], "{}"),
        ([*good[:3], "--", "no-such-program"], "no-such-program"),
        (["rows.csv", "--job", "../j", "--", "true"], "../j"),
        (["rows.csv", "--job", "j"], "COMMAND"),
        (["rows.csv", "--", "true"], "--job"),
    ]
    options = {
        "-j 0": "0",
        "--encoding klingon": "klingon",
        "--halt sometimes": "20%",
        "--rate fast": "50/s",
        "--rate 5/s --rate 6/s": "starts have two rates",
        "--rate tokens=9/m --rate tokens=8/m": "tokens has two rates",
        "--rate tokens=many": "'tokens=many': must be a number above 0",
        "--rate tokens=9/m": "--rate tokens=... needs --stdout json",
        "--timeout 0": "0",
        "--key nope": "nope",
        "--on-changed retry": "--key",
        "--lines --format csv": "--lines",
        "--max-attempts 0": "0",
        "--limit 0": "0",
    }
    tables += [([*good[:3], *text.split(), *good[3:]], words) for text, words in options.items()]
    for arguments, words in tables:
        done = journal("run", *arguments)
        assert (done.returncode, words in done.stderr) == (2, True), (arguments, done.stderr)
        assert "Traceback" not in done.stderr
        assert not Path("jobs/j").exists()


def test_what_is_typed_to_go_on_puts_no_row_back_once_more(work: Path) -> None:
    run = ("run", "rows.csv", "--job", "j", "--key", "order")
    journal(*run, "--", "false")
    done = journal(*run, "--retry-failed", "--halt", "2", "--", "false")
    assert done.returncode != 0
    with JobService(work / "jobs") as service:
        job = service.get_job("j")
    assert job is not None
    assert job.last_run is not None
    assert "--halt 2" in " ".join(job.last_run.argv)
    assert "--retry-failed" not in job.last_run.argv

"""`journal pause`, `resume`, `cancel`, `retry`, `skip` and `resolve`, beside a run of another process."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from journal import JobRow, JobService, JobStatus
from journal.cli import main
from journal.cli.rows import row_ranges, rows_of
from journal.model import RunHolder

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


@pytest.mark.parametrize(
    "arguments",
    [
        ["cancel", "j"],
        ["wait", "j"],
        ["watch", "j"],
        ["retry", "j", "--row=2"],
        ["resolve", "j", "--row=1", "--retry"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands_that_are_named_are_for_the_store_in_which_the_job_is(
    cli: Cli, arguments: list[str]
) -> None:
    with JobService(cli.root) as service:
        service.start_job("j")
    if arguments[0] != "cancel":
        assert cli("cancel", "j")[0] == 0
    _, _, err = cli(*arguments)
    named = re.findall(r"journal --root (\S+) retry j", err)
    assert named == [str(cli.root)] * err.count("retry j")
    assert named


# --- pause


def test_pause_reaches_the_run_of_another_process(cli: Cli, run: OtherRun) -> None:
    code, out, err = cli("pause", "j")
    assert (code, out) == (0, "")
    assert f"j: paused; process {run.process.pid} on " in err
    assert run.sees().startswith("paused processing")
    before = cli.journal()
    assert cli("pause", "j") == (0, "", "j: is paused already\n")
    assert cli.journal() == before


def test_pause_of_a_job_whose_run_died_says_what_was_in_flight(cli: Cli, run: OtherRun) -> None:
    run.stop()
    code, _, err = cli("pause", "j")
    assert code == 0
    assert "no run works on it" in err
    assert "1 row was in flight" in err


def test_a_job_that_is_not_running_is_not_paused(cli: Cli) -> None:
    code, _, err = cli("pause", "j")
    assert code == 4
    assert "'pending' to 'paused'" in err


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


@pytest.mark.parametrize("paused", [True, False])
def test_resume_without_a_run_that_waits_changes_nothing_and_says_what_to_run(
    cli: Cli, run: OtherRun, paused: bool
) -> None:
    if paused:
        cli("pause", "j")
    run.stop()
    before = cli.journal()
    code, _, err = cli("resume", "j")
    assert code == 4
    assert "no run waits for job j" in err
    assert "run again what made it: ./ship {order}" in err
    assert cli.journal() == before


def test_resume_of_a_job_that_was_never_run_says_how_to_run_it(cli: Cli) -> None:
    code, _, err = cli("resume", "j")
    assert code == 4
    assert "no run of j has begun: `journal run` the same input with --job j" in err


def test_resume_puts_a_job_back_whose_run_left_in_that_moment(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_job(cli, "paused")
    holder = JobService.run_holder
    seen: list[RunHolder | None] = [RunHolder("h", 1, "t")]

    def outdated(service: JobService, job_id: str) -> RunHolder | None:
        return seen.pop() if seen else holder(service, job_id)

    monkeypatch.setattr(JobService, "run_holder", outdated)
    assert cli("resume", "j")[0] == 4
    with JobService(cli.root) as service:
        job = service.get_job("j")
        assert job is not None
        assert job.status is JobStatus.PAUSED
        assert holder(service, "j") is None


def test_a_job_that_has_ended_is_not_resumed(cli: Cli) -> None:
    end_job(cli)
    code, _, err = cli("resume", "j")
    assert code == 4
    assert "'failed' to 'running'" in err


# --- cancel


def test_cancel_reaches_the_run_and_says_what_stays_undone(cli: Cli, run: OtherRun) -> None:
    code, out, err = cli("cancel", "j")
    assert (code, out) == (0, "")
    assert "j: cancelled; 2 of 5 rows are done, and 1 in flight, 2 failed" in err
    assert f"process {run.process.pid} on " in err
    assert f"journal --root {cli.root} retry j" in err
    assert run.sees().startswith("cancelled processing")
    assert cli("cancel", "j") == (0, "", "j: is cancelled already\n")


def test_cancel_says_that_rows_are_in_flight_no_more_where_their_run_has_died(
    cli: Cli, run: OtherRun
) -> None:
    run.stop()
    assert "rows are done, and 1 in flight when the run died, 2 failed" in cli("cancel", "j")[2]


def test_a_paused_job_is_cancelled_and_a_pending_or_ended_one_is_not(cli: Cli) -> None:
    assert cli("cancel", "j")[0] == 4
    end_job(cli, "paused")
    assert cli("cancel", "j")[0] == 0
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


@pytest.mark.parametrize(
    ("options", "count", "statuses"),
    [
        (["--row", "2"], "1", "pending pending failed skipped completed"),
        (["--row", "3-4"], "2", "pending failed pending pending completed"),
        (["--error-code", "E2"], "1", "pending failed pending skipped completed"),
        (["--error-code", "E"], "0", "pending failed failed skipped completed"),
        (["--row", "1-5", "--error-code", "E1"], "1", "pending pending failed skipped completed"),
    ],
)
def test_retry_puts_back_the_rows_that_are_named(
    cli: Cli, options: list[str], count: str, statuses: str
) -> None:
    assert cli("retry", "j", *options)[:2] == (0, count)
    assert cli.statuses() == statuses.split()


def test_retry_of_a_job_that_has_ended_makes_a_new_one(cli: Cli) -> None:
    end_job(cli)
    assert cli("retry", "j")[:2] == (0, "j-retry")
    before = cli.journal()
    for option in ("--row=2", "--error-code=E1"):
        code, out, err = cli("retry", "j", option)
        assert (code, out) == (4, "")
        assert "job j is failed and stays as it is" in err
    assert cli.journal() == before


def test_retry_of_a_job_that_has_not_ended_has_nothing_to_do_with_interrupted_rows(
    cli: Cli,
) -> None:
    code, _, err = cli("retry", "j", "--on-interrupted", "retry")
    assert code == 2
    assert "--on-interrupted is for a job that has ended, and j is pending" in err
    with JobService(cli.root) as service:
        service.start_job("j")
    for option in ("--on-interrupted=retry", "--again"):
        code, _, err = cli("retry", "j", option)
        assert code == 2
        assert "and j is interrupted" in err


# --- skip


def test_skip_skips_the_rows_that_are_named(review: Cli) -> None:
    with JobService(review.root) as service:
        service.retry_row("j:3")
    code, out, _ = review("skip", "j", "--row", "1,3", "--reason", "the customer has cancelled")
    assert (code, out) == (0, "2")
    assert review.statuses() == ["skipped", "needs_review", "skipped", "skipped", "completed"]
    assert review.row(1).reason == "the customer has cancelled"


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


def test_a_code_that_no_row_failed_with_is_said_and_changes_nothing(cli: Cli) -> None:
    before = cli.journal()
    for command in ("skip", "retry"):
        code, out, err = cli(command, "j", "--error-code", "E3")
        assert (code, out) == (0, "0")
        assert "no row failed with code 'E3': `journal errors j` names the codes" in err
        assert "no row of these failed" in cli(command, "j", "--error-code", "E1", "--row", "3")[2]
    assert cli("skip", "j", "--error-code", "E1", "--row", "77")[0] == 4
    assert cli("skip", "j")[0] == 2
    assert cli.journal() == before


def test_skip_does_nothing_if_one_of_the_rows_is_in_flight_or_done(cli: Cli, run: OtherRun) -> None:
    before = cli.journal()
    for number, status in ((1, "processing"), (4, "skipped"), (5, "completed")):
        code, out, err = cli("skip", "j", "--row", f"2,3,{number}")
        assert (code, out) == (4, "")
        assert f"row j:{number} is {status}, which is not pending or failed or needs_review" in err
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


@pytest.mark.parametrize(
    ("text", "result"),
    [("shipped", "shipped"), ("[" * 300 + "]" * 300, "[" * 300 + "]" * 300), ("12", 12), ("", "")],
)
def test_a_result_that_is_no_json_is_text(review: Cli, text: str, result: object) -> None:
    assert review("resolve", "j", "--row", "1", "--completed", "--result", text)[0] == 0
    assert review.row(1).result == result


def test_resolve_fails_retries_and_skips_rows(review: Cli) -> None:
    failed = ["--failed", "--error-code", "E9", "--error-message", "not there"]
    assert review("resolve", "j", "--row", "1", *failed)[:2] == (0, "1")
    code, out, err = review("resolve", "j", "--row", "2", "--retry")
    assert (code, out) == (0, "1")
    assert "run the job again" in err
    assert review("resolve", "j", "--row", "3", "--skip", "--reason", "why")[:2] == (0, "1")
    assert review.statuses() == ["failed", "pending", "skipped", "skipped", "completed"]
    assert (review.row(1).error_code, review.row(1).error_message) == ("E9", "not there")
    assert review.row(3).reason == "why"


def test_resolve_does_nothing_if_one_of_the_rows_needs_no_review(review: Cli) -> None:
    before = review.journal()
    code, out, err = review("resolve", "j", "--row", "1-5", "--completed")
    assert (code, out) == (4, "")
    assert "row j:4 is skipped, which is not needs_review; nothing was changed, of any row" in err
    assert review.journal() == before


def test_resolve_works_in_a_job_that_has_ended_but_tries_nothing_again(review: Cli) -> None:
    end_job(review)
    code, _, err = review("resolve", "j", "--row", "1", "--retry")
    assert code == 4
    assert f"journal --root {review.root} retry j --on-interrupted retry" in err
    assert review("resolve", "j", "--row", "1", "--completed")[0] == 0
    failed = ["--failed", "--error-code", "E", "--error-message", "m"]
    assert review("resolve", "j", "--row", "2", *failed)[0] == 0
    assert review("resolve", "j", "--row", "3", "--skip")[0] == 0
    assert review.statuses() == ["completed", "failed", "skipped", "skipped", "completed"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "say one of --completed, --failed, --retry and --skip"),
        (["--completed", "--skip"], "say one of"),
        (["--retry", "--reason", "x"], "--reason goes with --skip, not --retry"),
        (["--failed", "--cost-cents", "1"], "--cost-cents goes with --completed, not --failed"),
        (["--failed", "--error-code", "E"], "--failed needs --error-code and --error-message"),
        (["--completed", "--cost-cents", "-1"], "-1"),
        (["--completed", "--cost-cents", str(1 << 64)], "cost_cents"),
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


# --- rows by number


def test_rows_are_named_by_numbers_and_ranges() -> None:
    assert row_ranges("12-40, 5") == [range(5, 6), range(12, 41)]
    assert row_ranges("5-9,7,10,3-6,1") == [range(1, 2), range(3, 11)]
    assert row_ranges("1-9223372036854775807") == [range(1, 1 << 63)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is no row number"),
        ("1,,2", "'' is no row number"),
        ("5-", "'5-' is no row number"),
        ("-5", "'-5' is no row number"),
        ("1-2-3", "'1-2-3' is no row number"),
        ("x", "'x' is no row number"),
        ("\u0663", "is no row number"),
        ("0", "'0': rows are numbered from 1"),
        ("0-4", "'0-4': rows are numbered from 1"),
        ("9223372036854775808", "rows are numbered from 1 to 2**63-1"),
        ("40-12", "'40-12' is the wrong way round: say 12-40"),
    ],
)
@pytest.mark.parametrize("command", ["retry", "skip", "resolve"])
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
        ("2,6", "no row 6: they go from 1 to 5"),
        ("2-9999999999999", "no row 6-9999999999999: they"),
        ("2,11,13,15,17,19,21,23", "no row 11, 13, 15, 17, 19, ...:"),
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


def test_of_a_job_with_gaps_rows_are_found_and_gaps_are_named(cli: Cli) -> None:
    with JobService(cli.root) as service:
        numbers = [1, 2, 3, 10, 11, 20]
        service.create_job("K", job_id="k", row_data=[{"row_number": n} for n in numbers])
        rows = service.get_rows("k")
        found = rows_of("k", rows, row_ranges("2-3,10-11,20"))
        assert [row.row_number for row in found] == [2, 3, 10, 11, 20]
    _, _, err = cli("skip", "k", "--row", "1-3,5,8-12,15-99999999999")
    assert "has no row 5, 8-9, 12, 15-19, 21-99999999999: they go from 1 to 20" in err


def test_of_a_job_without_rows_none_is_there(cli: Cli) -> None:
    with JobService(cli.root) as service:
        service.create_job("K", job_id="k")
    code, _, err = cli("skip", "k", "--row", "1")
    assert code == 4
    assert "job k has no row 1: it has none" in err


@pytest.mark.parametrize("command", ["pause", "resume", "cancel", "retry", "skip", "resolve"])
def test_each_command_has_an_example_and_knows_a_job_that_is_not_there(
    cli: Cli, command: str
) -> None:
    code, out, _ = cli(command, "--help")
    assert code == 0
    assert f"Example: journal {command} " in " ".join(out.split())
    options = {"skip": ["--row", "1"], "resolve": ["--row", "1", "--skip"]}.get(command, [])
    code, _, err = cli(command, "none", *options)
    assert code == 4
    assert "there is no job 'none'" in err

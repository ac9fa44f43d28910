"""What a command says about its row, by its exit status or by JSON that it prints."""

import json
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.commands import PYTHON
from support.platforms import IS_WINDOWS, needs_signals

from journal import JobRow, JobService
from journal.cli.main import main
from journal.cli.run.outcomes import Statuses, error_codes
from journal.cli.run.subprocesses import Commands
from journal.cli.run.template import Template
from journal.run.outcome import Outcome

Capture = pytest.CaptureFixture[str]
NOW = datetime(2026, 11, 24, tzinfo=UTC)
ROW = JobRow("j:7", "j", 7, "", {}, NOW, NOW, attempts=1)
TOO_LARGE = "4294967296" if IS_WINDOWS else "256"
STATUSES = Statuses(("75",), {"65": "skip", "70": "review", "69": "hold", "68": "throttled"})

SAY = """
import sys
sys.stdout.write(sys.argv[1])
sys.stderr.write(sys.argv[2])
sys.exit(int(sys.argv[3]))
"""
# Begins each script of a run.
NAMES = """
import os, sys, time
number, attempt = sys.argv[1], int(os.environ["JOURNAL_ATTEMPT"])
"""
END_WITH_STATUS = """
print("out", number)
print("err", number, file=sys.stderr)
sys.exit(int(number) if attempt == 1 else 0)
"""


def said(printed: object, status: int = 0, errors: str = "") -> Outcome:
    """The outcome of a command that prints JSON, or text, and ends with a status."""
    text = printed if isinstance(printed, str) else json.dumps(printed)
    template = Template([*PYTHON, SAY, "{text}", "{errors}", "{status}"])
    commands = Commands(template, Path("/jobs/j"), statuses=STATUSES, stdout_json=True)
    row = JobRow("j:7", "j", 7, "", {"text": text, "errors": errors, "status": status}, NOW, NOW)
    outcome: Outcome = commands(row)
    return outcome


# --- options


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("75", ["75"]),
        ("75, 111", ["75", "111"]),
        ("1-3,255", ["1", "2", "3", "255"]),
        ("SIGTERM,TimeoutError,075", ["SIGTERM", "TimeoutError", "75"]),
    ],
)
def test_statuses_are_numbers_and_ranges_and_some_names(text: str, codes: list[str]) -> None:
    assert list(error_codes(text, or_timeout=True)) == codes


@pytest.mark.parametrize(
    "text", ["0", TOO_LARGE, "7-5", "x", "", "1,", "-1", "sigkill", f"1-{TOO_LARGE}"]
)
def test_what_no_exit_status_can_be_is_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"must be an exit status from 1 to [0-9]+, a range such as"
    ):
        list(error_codes(text, or_timeout=True))
    with pytest.raises(ValueError, match=r"'TimeoutError' must be .* 64-78, .*only with =retry"):
        list(error_codes("SIGTERM,TimeoutError", or_timeout=False))


@needs_signals
def test_a_command_that_a_signal_kills_may_have_taken_effect_if_the_options_say_so(
    work: Path,
) -> None:
    script = "os.kill(os.getpid(), int(number))"
    assert run(["--on", "SIGTERM=review"], [signal.SIGTERM, signal.SIGHUP], script) == 3
    assert [(str(row.status), row.error_code) for row in rows()] == [
        ("needs_review", "SIGTERM"),
        ("failed", "SIGHUP"),
    ]


# --- whole runs


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNAL_ROOT", raising=False)
    return tmp_path


def run(options: list[str], statuses: list[int], script: str = END_WITH_STATUS) -> int:
    """Run a row for each status, whose command ends with it; the second attempt ends with 0."""
    Path("rows.txt").write_text("".join(f"{status}\n" for status in statuses))
    options = ["rows.txt", "--job", "j", "--backoff", "0", *options]
    return main(["run", *options, "--", *PYTHON, NAMES + script, "{}"])


def rows() -> list[JobRow]:
    with JobService("jobs") as service:
        return list(service.get_rows("j"))


def test_statuses_repeat_skip_and_review_a_row_or_fail_it(work: Path) -> None:
    options = [
        *("--on", "75,111=retry", "--on", "65-66=skip", "--on", "70=review", "--on", "71=review")
    ]
    assert run([*options, "--max-attempts", "2"], [0, 75, 111, 66, 71, 7]) == 3
    found = rows()
    assert [(str(row.status), row.attempts) for row in found] == [
        ("completed", 1),
        ("completed", 2),
        ("completed", 2),
        ("skipped", 1),
        ("needs_review", 1),
        ("failed", 1),
    ]
    assert (found[3].reason, found[3].error_code) == ("err 66", None)
    review = found[4]
    assert (review.error_code, review.error_message, review.result) == ("71", "err 71", "out 71")
    assert (found[5].error_code, found[5].error_message) == ("7", "err 7")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (("60-75=retry", "70=skip"), "70 has two outcomes, retry and skip: give it one of them"),
        (("0=review",), "0 completes a row"),
        (("TimeoutError=hold",), "'TimeoutError' must be an exit status .*only with =retry"),
        (("3=skipped",), "OUTCOME must be one of retry, throttled, .*; did you mean 'skip'?"),
        (("75=",), "must be STATUSES=OUTCOME, such as 75=retry"),
        (("retry",), "must be STATUSES=OUTCOME, such as 75=retry"),
    ],
)
def test_a_status_of_an_unknown_outcome_or_of_two_is_refused_and_makes_no_job(
    work: Path, capsys: Capture, values: tuple[str, ...], problem: str
) -> None:
    options = [word for value in values for word in ("--on", value)]
    assert run([*options, "--max-attempts", "2"], [1]) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "--on:" in each]
    assert re.search(problem, line)
    assert f"(got '{values[-1]}')" in line
    assert not Path("jobs").exists()


@needs_signals
def test_the_status_of_a_command_that_was_asked_to_end_says_nothing_about_its_row() -> None:
    begun = threading.Event()
    script = "trap 'exit 65' TERM; kill -USR1 $PPID; while :; do sleep 0.05; done"
    commands = Commands(Template(["sh", "-c", script]), Path("/jobs/j"), statuses=STATUSES)
    previous = signal.signal(signal.SIGUSR1, lambda *_: begun.set())
    try:
        with ThreadPoolExecutor(1) as pool:
            outcome = pool.submit(commands, ROW)
            while not begun.wait(0.05):
                pass
            assert commands.cancel("j:7", force=False)
            assert (outcome.result().kind, outcome.result().error_code) == ("failed", "65")
    finally:
        signal.signal(signal.SIGUSR1, previous)


# --- printed outcomes

SPENT = {"cost_cents": 2.5, "usage": {"tokens": 3}}


@pytest.mark.parametrize("status", [0, 7, 65, 69, 70, 75])
def test_a_printed_outcome_counts_whatever_the_status_is(status: int) -> None:
    again = said(
        {
            "outcome": "retry",
            "after_s": 30,
            "code": "Busy",
            "message": "m",
            "from_step": "a",
            **SPENT,
        },
        status,
    )
    assert again == Outcome(
        kind="failed",
        error_code="Busy",
        error_message="m",
        retryable=True,
        after_s=30.0,
        from_step="a",
        cost_cents=2.5,
        usage={"tokens": 3},
    )
    failure = said({"outcome": "fail", "code": 429, "message": {"a": 1}, **SPENT}, status)
    assert failure == Outcome(
        kind="failed",
        error_code="429",
        error_message='{"a":1}',
        cost_cents=2.5,
        usage={"tokens": 3},
    )
    hold = said({"outcome": "hold", "after_s": "0.5", **SPENT}, status)
    assert (hold.kind, hold.error_code, hold.after_s) == ("held", "Hold", 0.5)
    date = said({"outcome": "hold", "after_s": "Sun, 06 Nov 1994 08:49:37 GMT"}, status)
    assert (date.kind, date.after_s, date.logs) == ("held", 0.0, ())
    free = said({"outcome": "retry", "counts": False, "from_step": "a"}, status)
    assert (free.kind, free.from_step) == ("throttled", "a")
    soon = said({"outcome": "hold", "after_s": "soon"}, status)
    assert (soon.kind, soon.after_s, soon.logs[0].level) == ("held", None, "WARNING")
    assert (hold.cost_cents, hold.usage) == (2.5, {"tokens": 3})
    wait = said({"outcome": "wait", "after_s": 300, "message": "in b1", **SPENT}, status)
    assert (wait.kind, wait.reason, wait.after_s, wait.cost_cents) == ("waiting", "in b1", 300, 2.5)
    skip = said({"outcome": "skip", "reason": "done before", **SPENT}, status)
    assert (skip.kind, skip.reason, skip.cost_cents) == ("skipped", "done before", 2.5)
    review = said(
        {"outcome": "review", "code": "C", "tracking_number": "1Z", "x": 1, **SPENT}, status
    )
    assert (review.kind, review.error_code, review.result) == ("review", "C", {"x": 1})
    assert (review.tracking_number, review.cost_cents) == ("1Z", 2.5)


def test_what_a_printed_outcome_leaves_out_has_a_default_or_is_the_end_of_standard_error() -> None:
    for word, code, message in [
        ("retry", "Retry", "the command asked for another attempt"),
        ("fail", "Fail", ""),
        ("hold", "Hold", "the command asked the run to wait"),
        ("review", "NeedsReview", ""),
    ]:
        silent, loud = said({"outcome": word}), said({"outcome": word, "code": None}, 7, "oops")
        assert (silent.error_code, silent.error_message) == (code, message)
        assert (loud.error_code, loud.error_message) == (code, "oops")
    assert (said({"outcome": "wait"}).reason, said({"outcome": "wait"}).after_s) == (None, None)
    assert said({"outcome": "skip"}).reason is None
    assert said({"outcome": "skip"}, 65, "oops").reason == "oops"


@pytest.mark.parametrize("status", [7, 65, 69, 70, 75])
def test_a_completion_whose_status_contradicts_needs_a_review_that_keeps_all(status: int) -> None:
    printed = {"outcome": "completed", "result": {"id": 5}, "tracking_number": "1Z", **SPENT}
    review = said(printed, status, "oops")
    assert (review.kind, review.error_code, review.retryable) == ("review", "TwoOutcomes", False)
    assert f"but its exit status said {status}: oops" in review.error_message
    assert (review.result, review.tracking_number) == ({"id": 5}, "1Z")
    assert (review.cost_cents, review.usage) == (2.5, {"tokens": 3})


WRONG = [
    ({"outcome": "reviw"}, "did you mean 'review'?"),
    ({"outcome": "won"}, "it must be completed, retry, skip, review, fail, hold"),
    ({"outcome": None}, "it must be"),
    ({"outcome": ["retry"]}, "it must be"),
    (
        {"outcome": "retry", "after": 30},
        "retry has no member 'after'; its members are code, message",
    ),
    ({"outcome": "skip", "result": 1}, "skip has no member 'result'"),
    ({"outcome": "fail", "after_s": 1}, "fail has no member 'after_s'"),
    (
        {"outcome": "retry", "after_s": -1},
        "after_s must be 0 to 31,622,400 seconds (366 days), and not -1",
    ),
    ({"outcome": "hold", "after_s": 1790000000000}, "(366 days), and not 1790000000000"),
    ({"outcome": "retry", "after_s": True}, "after_s must be"),
    ({"outcome": "retry", "counts": 0}, "counts must be true or false, and not 0"),
    ({"outcome": "hold", "counts": False}, "hold has no member 'counts'"),
    ({"outcome": "retry", "from_step": 1}, "from_step must be the name of a step, and not 1"),
    ({"outcome": "wait", "code": "C"}, "wait has no member 'code'"),
    ({"outcome": "wait", "after_s": -1}, "after_s must be"),
    ({"outcome": "retry", "after_s": [1]}, "after_s must be"),
]


@pytest.mark.parametrize("status", [0, 7])
@pytest.mark.parametrize(("printed", "words"), WRONG)
def test_an_outcome_that_can_t_be_read_needs_a_review_that_keeps_the_output_and_the_cost(
    printed: dict[str, Any], words: str, status: int
) -> None:
    printed = {**printed, **SPENT}
    review = said(printed, status)
    assert (review.kind, review.error_code, review.retryable) == ("review", "InvalidResult", False)
    assert words in review.error_message
    assert json.loads(review.result) == printed
    assert (review.cost_cents, review.usage) == (2.5, {"tokens": 3})


@pytest.mark.parametrize("part", ["outcomes._said", "subprocesses._part"])
def test_a_command_that_has_ended_is_not_repeated_because_of_an_error_of_this_package(
    work: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("can't read it")

    monkeypatch.setattr(f"journal.cli.run.{part}", fail)
    script = (
        """print('{"outcome": "fail"}', file=open("calls", "a")); print(open("calls").read())"""
    )
    options = ["--stdout", "json", "--max-attempts", "3"]
    assert run(options, [1], script) == 3
    assert [(row.status, row.error_code) for row in rows()] == [("needs_review", "OSError")]
    assert Path("calls").read_text() == '{"outcome": "fail"}\n'


UNREADABLE = [
    '{"result": [1e400]}',
    '{"cost_cents": 1e99999999999999999999}',
    '{"usage": {"tokens": -1e400}}',
    "9" * 5000,
    "NaN",
    r'"\ud800"',
    "[" * 100_000,
    "[" * 500 + "1.10" + "]" * 500,
]


def test_a_command_whose_output_can_t_be_read_is_not_repeated_and_its_output_is_kept(
    work: Path,
) -> None:
    script = f"""
open("calls", "a").write(number + "\\n")
print({UNREADABLE}[int(number)])
"""
    numbers = list(range(len(UNREADABLE)))
    assert run(["--stdout", "json", "--max-attempts", "3"], numbers, script) == 3
    assert [row.result for row in rows()] == UNREADABLE
    assert {(row.status, row.error_code) for row in rows()} == {("needs_review", "InvalidResult")}
    assert sorted(map(int, Path("calls").read_text().split())) == numbers


def test_a_status_or_a_printed_outcome_holds_the_run_and_gives_the_attempt_back(
    work: Path, capsys: Capture
) -> None:
    script = """
with open("calls", "a+") as calls:
    calls.write(number + "\\n")
    calls.seek(0)
    is_first = calls.read().split().count(number) == 1
if number == "1" and is_first:
    print("down", file=sys.stderr)
    sys.exit(69)
elif number == "3" and is_first:
    sys.exit(68)
elif number == "4" and is_first:
    print('{"outcome": "retry", "counts": false, "after_s": 0, "code": "Busy", "cost_cents": 3}')
elif number == "2" and is_first:
    print('{"outcome": "hold", "after_s": 0.01, "code": "Busy", "cost_cents": 2}')
else:
    print('{"outcome": "completed", "result": "done"}')
"""
    statuses = ("--on", "69=hold", "--on", "68=throttled")
    assert run(["--stdout", "json", *statuses], [1, 2, 3, 4, 5], script) == 0
    # More attempts than --max-attempts allows to those that fail.
    assert [(row.status, row.result) for row in rows()] == [("completed", "done")] * 5
    assert sorted(Path("calls").read_text().split()) == list("112233445")
    messages = capsys.readouterr().err
    assert "69: down" in messages
    assert "Busy" in messages
    with JobService("jobs") as service:
        assert service.get_job_summary("j")["total_cost_cents"] == 5
        (attempt, _) = service.get_row_history("j:3").attempts
    assert (attempt.outcome, attempt.reason) == ("given_back", "68: exit status 68")


WAITS = """
if number == "1":
    print('{"outcome": "wait", "after_s": 3600, "message": "in batch b1"}')
elif number == "2":
    print("asked", file=sys.stderr)
    sys.exit(75)
else:
    print('{"outcome": "completed"}')
"""


def test_no_backoff_is_longer_than_the_longest_one(work: Path) -> None:
    options = ["--max-attempts", "2", "--backoff", "1h", "--max-backoff", "10ms"]
    second = "import os, sys; sys.exit(os.environ['JOURNAL_ATTEMPT'] != '2')"
    assert run(options, [1], second) == 0


def test_rows_that_wait_are_shown_with_the_time_when_the_next_is_due(
    work: Path, capsys: Capture
) -> None:
    options = ["--stdout", "json", "--on", "75=wait", "--backoff", "2h", "--no-wait"]
    for _ in range(2):
        assert run(options, [1, 2, 3], WAITS) == 4
        said = capsys.readouterr().err
        assert "j: 2 rows wait for somebody else; the next is due at 20" in said
        assert "1 completed, 0 failed, 0 skipped, 0 need review, 2 pending (2 wait)" in said
    assert [(row.status, row.attempts) for row in rows()] == [
        *[("pending", 1), ("pending", 1), ("completed", 1)]
    ]
    assert run([*options, "--dry-run"], [1, 2, 3], WAITS) == 0
    assert "j: waiting: 2 (rows 1, 2), done: 1\n" in capsys.readouterr().err
    assert main(["show", "j"]) == 0
    shown = capsys.readouterr().out
    assert re.search(
        r"^waiting     2 rows wait for somebody else; the next is due at 20.* in (59m|1h00m)",
        shown,
        re.MULTILINE,
    )
    assert main(["show", "j", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    due = [row.due for row in rows()]
    assert due[0] is not None
    assert (plain["waiting_count"], plain["pending_count"]) == (2, 2)
    assert datetime.fromisoformat(plain["next_due"]) == due[0]
    assert main(["show", "j", "--row", "1"]) == 0
    assert re.search("^due  .*\n^waiting     since 20", capsys.readouterr().out, re.MULTILINE)
    assert main(["rows", "j", "--status", "pending"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.search("due at 20.*: in batch b1 ", lines[1])
    assert re.search("due at 20.*: asked ", lines[2])
    assert main(["rows", "j", "--columns", "due,waiting_since", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [row["due"] is None for row in listed] == [False, False, True]
    assert main(["list"]) == 0
    titles, line = capsys.readouterr().out.splitlines()
    begin = titles.index("PENDING")
    assert titles[begin:].split()[:2] == ["PENDING", "WAITING"]
    assert line[begin:].split()[:2] == ["2", "2"]
    assert main(["log", "j"]) == 0
    assert re.search("waiting  +1  due at 20.*Z, in batch b1", capsys.readouterr().out)


def test_a_status_may_let_a_row_wait_until_its_command_says_that_it_is_done(work: Path) -> None:
    script = "sys.exit(75) if attempt < 3 else print('done')"
    options = ["--on", "70-75=wait", "--max-wait", "1h", "--max-waiting", "1"]
    assert run(options, [1, 2], script) == 0
    assert [(row.result, row.attempts, row.earlier_attempts) for row in rows()] == [
        *[("done", 3, 2)] * 2
    ]

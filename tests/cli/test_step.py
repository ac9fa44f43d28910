"""`journal step`, `resolve --step` and `--on-interrupted resume`, by real processes."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from support.attempts import start
from support.clock import Clock
from support.commands import journal, journal_process
from support.platforms import needs_fifos, needs_shell, skip_without

from journal import JobRow, JobService, RowStatus, RowStep
from journal.fs.shell import quote
from journal.model import Policy

JOURNAL = [sys.executable, "-m", "journal"]
STEP = shlex.join([*JOURNAL, "step"])
ROW = "j:1"
TWICE = ("--max-attempts", "2", "--backoff", "0")
KILLED = "step charge -- sh -c 'kill -9 $$' || exit"


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNAL_ROOT", raising=False)
    (tmp_path / "rows.csv").write_text("order\nA-1\n")
    return tmp_path


def command(script: str) -> Sequence[str]:
    """`journal run` of a script of the shell, in which ``step`` is `journal step`."""
    Path("script").write_text(f'step() {{ {STEP} "$@"; }}\n{script}')
    return ("run", "rows.csv", "--job", "j", "--on-interrupted", "resume", "--halt", "never")


def run(
    script: str, *options: str, by: Callable[..., CompletedProcess[str]] = journal
) -> CompletedProcess[str]:
    skip_without(needs_shell)
    return by(*command(script), *options, "--", "sh", "script", "{order}")


def row() -> JobRow:
    with JobService("jobs") as service:
        return service.get_rows("j")[0]


def steps() -> dict[str, RowStep]:
    with JobService("jobs") as service:
        return {step.name: step for step in service.get_steps(ROW)}


def states() -> dict[str, str]:
    return {name: step.state for name, step in steps().items()}


def retry() -> None:
    with JobService("jobs") as service:
        service.retry_row(ROW)


def effects() -> list[str]:
    path = Path("effects")
    return path.read_text().splitlines() if path.exists() else []


# --- the ordinary course of things


def test_a_later_attempt_gets_the_results_of_steps_that_are_done_and_runs_only_the_others() -> None:
    script = """
    set -e
    id=$(step charge -- sh -c 'echo charge >> effects; echo ch_7')
    step mail -- sh -c 'echo "mail for $1" >> effects; test $JOURNAL_ATTEMPT = 2' sh "$id"
    echo "sent $id"
    """
    done = run(script, *TWICE)
    assert done.returncode == 0, done.stderr
    assert effects() == ["charge", "mail for ch_7", "mail for ch_7"]
    assert row().result == "sent ch_7"
    assert {name: (step.state, step.result) for name, step in steps().items()} == {
        "charge": ("done", "ch_7"),
        "mail": ("done", ""),
    }


def test_a_recorded_result_that_is_not_text_is_printed_as_json() -> None:
    assert run("exit 1").returncode == 3
    with JobService("jobs") as service:
        service.record_step(ROW, "charge", {"id": "ch_1"})
    assert run("step charge -- false", "--retry-failed").returncode == 0
    assert json.loads(str(row().result)) == {"id": "ch_1"}


def test_a_step_finds_its_job_from_any_directory_and_has_the_streams_of_the_row() -> None:
    script = """
    exec 2> err
    cd /
    echo in | step s -- sh -c 'cat; echo $JOURNAL_STEP_KEY; echo err >&2; ls "$JOURNAL_JOB"'
    """
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert str(row().result).split()[:2] == ["in", "j:1/s"]
    assert "journal.jsonl" in str(row().result)
    assert Path("err").read_text() == "err\n"


# --- failed steps


def test_a_command_that_fails_fails_its_step_which_begins_again() -> None:
    script = "step s -- sh -c 'echo part; echo $JOURNAL_ATTEMPT >> effects; exit 7' > out"
    assert run(script, *TWICE).returncode == 3
    assert effects() == ["1", "2"]
    assert (row().status, row().error_code) == (RowStatus.FAILED, "7")
    step = steps()["s"]
    assert (step.state, step.error_code, step.error_message) == ("failed", "7", "exit status 7")
    assert Path("out").read_text() == "part\n"


@pytest.mark.parametrize(("program", "code"), [("./nope", "127"), ("./script", "126")])
def test_a_command_that_cant_be_started_fails_its_step(program: str, code: str) -> None:
    assert run(f"step s -- {program}").returncode == 3
    assert (row().status, row().error_code) == (RowStatus.FAILED, code)
    assert f"{program}: can't be started" in str(row().error_message)
    assert (steps()["s"].state, steps()["s"].error_code) == ("failed", code)


# --- steps in doubt


@pytest.mark.parametrize(
    ("killed", "then"),
    [("kill -9 $$", "|| exit"), ("sh -c 'kill -9 $$'; exit 137", "; true")],
    ids=["stops", "goes on"],
)
def test_a_step_whose_command_is_killed_is_in_doubt_and_its_row_in_review(
    killed: str, then: str
) -> None:
    done = run(f"step charge -- sh -c {shlex.quote(killed)} {then}", *TWICE)
    assert done.returncode == 3
    assert states() == {"charge": "started"}
    found = row()
    assert (found.status, found.error_code) == (RowStatus.NEEDS_REVIEW, "StepInDoubt")
    assert found.attempts == 1
    assert "journal resolve j --row 1 --step charge --result RESULT_AS_JSON" in str(
        found.error_message
    )


def test_a_script_that_ignores_the_doubt_of_an_earlier_attempt_does_not_complete_its_row() -> None:
    run(KILLED)
    retry()
    assert run("id=$(step charge -- sh -c 'echo again >> effects'); echo ok").returncode == 3
    assert row().status is RowStatus.NEEDS_REVIEW
    assert str(row().error_message).endswith("; the attempt ended as completed")
    assert row().result == "ok"
    assert effects() == []


def test_a_doubt_ends_journal_step_with_code_4_and_an_idempotent_step_repeats() -> None:
    run(KILLED)
    retry()
    run("step charge -- true 2> err; echo $? > code; exit 1")
    assert Path("code").read_text() == "4\n"
    assert Path("err").read_text() == (
        "journal: step 'charge' is in doubt since attempt 1, so its command was not run\n"
    )
    retry()
    assert run("step charge --idempotent -- echo ch_9").returncode == 0
    assert (steps()["charge"].state, steps()["charge"].result) == ("done", "ch_9")


@pytest.mark.parametrize(
    ("idempotent", "then"), [("", "|| exit"), ("--idempotent", "; true")], ids=["stops", "goes on"]
)
def test_a_name_used_twice_in_an_attempt_runs_nothing_and_puts_the_row_in_review(
    idempotent: str, then: str
) -> None:
    script = f"""
    exec 2> err
    for item in a b c
    do step mail {idempotent} -- sh -c 'echo "mail $1" >> effects' sh $item {then}
    done
    echo all sent
    """
    run(script, "--max-attempts", "3", "--backoff", "0")
    assert effects() == ["mail a"]
    assert (row().status, row().error_code, row().attempts) == ("needs_review", "StepNameReused", 1)
    assert str(row().error_message).startswith(
        "'mail' is the name of a step that this attempt has begun already: give each step of a row "
        "its own name, such as 'mail 2'; the attempt ended as "
    )
    assert "name: is the name of a step" in Path("err").read_text()
    assert states() == {"mail": "done"}
    resolved = journal("resolve", "j", "--row", "1", "--retry")
    assert (resolved.returncode, "in doubt" in resolved.stderr) == (0, False)


def test_a_killed_idempotent_step_leaves_no_doubt() -> None:
    assert run("step put --idempotent -- sh -c 'kill -9 $$'").returncode == 3
    assert (row().status, row().error_code, steps()) == (RowStatus.FAILED, "137", {})


IN_STEP = """
step first -- sh -c 'echo $PPID > began; read line < gate; echo one >> effects; echo one'
step second -- sh -c 'echo two >> effects'
echo $? > code
echo over > began
"""


def start_in_step(*options: str) -> tuple[subprocess.Popen[bytes], int]:
    """A run that is in the first step, and the process of that step."""
    for name in ("began", "gate"):
        skip_without(needs_fifos)
        os.mkfifo(name)
    words = [*JOURNAL, *command(IN_STEP), *options, "--", "sh", "script"]
    child = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    return child, int(Path("began").read_text())


def test_a_death_of_journal_step_leaves_its_step_in_doubt() -> None:
    child, step = start_in_step()
    os.kill(step, signal.SIGKILL)
    assert Path("began").read_text() == "over\n"
    assert child.wait() == 3
    assert states() == {"first": "started", "second": "done"}
    assert row().status is RowStatus.NEEDS_REVIEW
    Path("gate").write_text("\n")


def test_a_command_that_outlives_its_run_is_refused_its_next_step_and_keeps_what_it_has_done() -> (
    None
):
    child, _ = start_in_step()
    child.kill()
    child.wait()
    assert journal(*command(IN_STEP), "--", "sh", "script").returncode == 3
    assert row().status is RowStatus.NEEDS_REVIEW
    assert "step 'first' of row j:1 began in attempt 1" in str(row().error_message)
    Path("gate").write_text("\n")
    assert Path("began").read_text() == "over\n"
    assert Path("code").read_text() == "4\n"
    assert (states(), effects()) == ({"first": "done"}, ["one"])


def test_a_run_that_dies_between_steps_resumes_after_the_steps_that_are_done() -> None:
    script = """
    set -e
    step first -- sh -c 'echo one >> effects'
    test $JOURNAL_ATTEMPT = 2 || { kill -9 $PPID; sleep 1000; }
    step second -- sh -c 'echo two >> effects'
    """
    assert run(script, by=journal_process).returncode == -signal.SIGKILL
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert (row().attempts, effects()) == (2, ["one", "two"])


@pytest.mark.parametrize(("status", "state"), [(0, "done"), (5, "started")])
def test_a_terminated_step_waits_for_its_command_and_is_in_doubt_unless_that_succeeds(
    status: int, state: str
) -> None:
    skip_without(needs_fifos)
    os.mkfifo("began")
    trap = f"trap 'exit {status}' TERM; echo $PPID > began; while true; do sleep 0.01; done"
    script = f"exec 2> err; step s -- sh -c {shlex.quote(trap)}"
    with subprocess.Popen(
        [*JOURNAL, *command(script), "--", "sh", "script"],
        stderr=subprocess.DEVNULL,
    ) as child:
        os.kill(int(Path("began").read_text()), signal.SIGTERM)
        assert child.wait() == (3 if status else 0)
    assert states() == {"s": state}
    said = "journal: step 's' is in doubt, because its command ended with 5 after SIGTERM\n"
    assert Path("err").read_text() == (said if status else "")


def test_a_step_whose_command_fails_at_the_timeout_of_its_row_is_not_repeated(
    clock: Clock,
) -> None:
    clock.pass_timeouts_after(lambda: bool(effects()))
    script = """
    step charge -- sh -c "trap 'exit 1' TERM; echo charged >> effects; sleep 60 & wait"
    """
    assert run(script, *TWICE, "--timeout", "1").returncode == 3
    assert (states(), effects()) == ({"charge": "started"}, ["charged"])
    assert (row().status, row().error_code) == (RowStatus.NEEDS_REVIEW, "StepInDoubt")
    assert str(row().error_message).startswith("TimeoutError: ")
    assert "step 'charge' of row j:1 began in attempt 1" in str(row().error_message)


def test_a_result_that_cant_be_recorded_is_told_and_its_step_is_in_doubt() -> None:
    script = """
    step s -- sh -c 'mv "$JOURNAL_JOB/journal.jsonl" away; echo ch_7' 2> said
    code=$?
    mv away "$JOURNAL_JOB/journal.jsonl"
    exit $code
    """
    run(script)
    assert "step 's' is done, but its result could not be recorded" in Path("said").read_text()
    assert "'ch_7'" in Path("said").read_text()
    assert states() == {"s": "started"}


# --- outside of a run


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"JOURNAL_ATTEMPT": "one"}, "JOURNAL_ATTEMPT: is not a number (got 'one')"),
        ({"JOURNAL_CLAIM": ""}, "JOURNAL_CLAIM is not set"),
        (
            {"JOURNAL_ROW_ID": "k:1"},
            f"JOURNAL_ROW_ID: is not a row of {Path('jobs/j')} (got 'k:1')",
        ),
        ({"JOURNAL_ROW_ID": "j"}, "'j'"),
    ],
)
def test_variables_that_cannot_be_are_refused_by_name(
    environment: dict[str, str], words: str
) -> None:
    given = {"JOURNAL_JOB": "jobs/j", "JOURNAL_ROW_ID": ROW, "JOURNAL_ATTEMPT": "1"}
    given["JOURNAL_CLAIM"] = "0"
    done = journal("step", "charge", "--", "true", **(given | environment))
    assert done.returncode == 2
    assert words in done.stderr


# --- settling a step


def in_flight(service: JobService, policy: Policy, rows: int = 1) -> None:
    """A job whose rows are in flight in a run, which lasts as long as the service."""
    service.create_job("J", job_id="j", row_data=[{"data": {}} for _ in range(rows)])
    service.start_job("j", policy)
    for number in range(1, rows + 1):
        start(service, f"j:{number}")


def in_doubt(root: str = "jobs", rows: int = 1, *, ended: bool = True) -> None:
    """A job whose rows are in review, each with the step ``charge`` in doubt."""
    with JobService(root) as service:
        service.create_job("J", job_id="j", row_data=[{"data": {}} for _ in range(rows)])
        service.start_job("j", "resume")
        for number in range(1, rows + 1):
            service.start_row(f"j:{number}")
            service.begin_step(f"j:{number}", 1, "charge")
            service.review_row(f"j:{number}", "StepInDoubt", "m")
        if ended:
            service.update_status("j", "failed")


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize(
    ("option", "state", "result"),
    [
        (["--result", '{"id": 7}'], "done", {"id": 7}),
        (["--result", '"ch_7"'], "done", "ch_7"),
        (["--result", "ch_7"], "done", "ch_7"),
        (["--not-done"], "failed", None),
    ],
    ids=["json", "quoted", "text", "not done"],
)
def test_a_settled_step_makes_its_row_pending_in_the_same_commit(
    option: list[str], state: str, result: object, *, ended: bool
) -> None:
    in_doubt(ended=ended)
    seals = Path("jobs/j/journal.jsonl").read_text().count(',"crc":')
    done = journal("resolve", "j", "--row", "1", "--step", "charge", *option)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n"
    assert "1 row is pending again" in done.stderr
    assert row().status is RowStatus.PENDING
    assert (steps()["charge"].state, steps()["charge"].result) == (state, result)
    assert Path("jobs/j/journal.jsonl").read_text().count(',"crc":') == seals + 1


def test_the_log_says_which_step_a_person_has_settled() -> None:
    in_doubt()
    why = ["--reason", "not in the ledger"]
    journal("resolve", "j", "--row", "1", "--step", "charge", "--not-done", *why)
    log = journal("log", "j", "--row", "1").stdout
    assert "settled by hand: step 'charge'" in log
    assert '"reason":"not in the ledger"' in log


def test_a_row_with_another_step_in_doubt_stays_in_review_and_the_step_is_named() -> None:
    in_doubt()
    with JobService("jobs") as service:
        service.retry_row(ROW)
        service.start_job("j", "resume")
        service.start_row(ROW)
        service.begin_step(ROW, 2, "send mail")
        service.review_row(ROW, "StepInDoubt", "m")
    done = journal("resolve", "j", "--row", "1", "--step", "charge", "--result", "1")
    assert row().status is RowStatus.NEEDS_REVIEW
    assert "j: step 'send mail' of 1 row is in doubt: " in done.stderr
    assert f"`journal resolve j --row 1 --step {quote('send mail')} --not-done`" in done.stderr


@pytest.mark.parametrize("code", ["both_copies", "repaired", "in_flight_elsewhere", "FraudCheck"])
def test_a_row_with_another_question_stays_in_review(code: str) -> None:
    in_doubt(ended=False)
    with JobService("jobs") as service:
        service.retry_row(ROW)
        service.start_row(ROW)
        service.review_row(ROW, code, "m")
    done = journal("resolve", "j", "--row", "1", "--step", "charge", "--not-done")
    assert done.returncode == 0
    assert row().status is RowStatus.NEEDS_REVIEW
    assert f"j: 1 row still needs a review ({code}): --row 1\n" in done.stderr
    assert "pending" not in done.stderr


@pytest.mark.parametrize("policy", ["review", "resume"])
def test_a_row_whose_run_died_becomes_pending_only_if_each_of_its_effects_is_a_step(
    policy: Policy,
) -> None:
    with JobService("jobs") as service:
        in_flight(service, policy)
        service.begin_step(ROW, 1, "charge")
    with JobService("jobs") as service:  # its run has died
        service.recover_job("j", policy)
    done = journal("resolve", "j", "--row", "1", "--step", "charge", "--not-done")
    assert done.returncode == 0
    if policy == "resume":
        assert row().status is RowStatus.PENDING
    else:
        assert row().status is RowStatus.NEEDS_REVIEW
        assert "j: 1 row still needs a review (interrupted): --row 1\n" in done.stderr


@pytest.mark.parametrize(
    ("option", "code", "words"),
    [
        (["--step", "chrage", "--not-done"], 4, "'chrage' of row j:1 is not known; steps in doubt"),
        (["--step", "charge"], 2, "--step needs either --result or --not-done"),
        (["--step", "charge", "--not-done", "--result", "1"], 2, "either --result or --not-done"),
        (["--step", "charge", "--not-done", "--retry"], 2, "give exactly one of --completed"),
        (["--not-done"], 2, "give exactly one of --completed"),
    ],
)
def test_what_settles_no_step_is_refused_and_changes_nothing(
    option: list[str], code: int, words: str
) -> None:
    in_doubt()
    before = Path("jobs/j/journal.jsonl").read_bytes()
    done = journal("resolve", "j", "--row", "1", *option)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert Path("jobs/j/journal.jsonl").read_bytes() == before


def test_if_one_of_the_rows_has_no_such_doubt_no_row_is_changed() -> None:
    in_doubt(rows=2)
    with JobService("jobs") as service:
        service.record_step("j:2", "charge", "ch_2")
    done = journal("resolve", "j", "--row", "1,2", "--step", "charge", "--not-done")
    assert done.returncode == 4
    assert "step 'charge' of row j:2 is done, with the result 'ch_2'" in done.stderr
    assert "`journal resolve j --row 2 --retry` continues the row" in done.stderr
    assert states() == {"charge": "started"}


@pytest.mark.parametrize("option", [["--result", "1"], ["--not-done"]], ids=["done", "not done"])
@pytest.mark.parametrize("policy", ["review", "resume"])
def test_a_step_of_a_row_in_flight_is_settled_only_if_its_run_has_died(
    policy: Policy, option: list[str]
) -> None:
    resolve = ["resolve", "j", "--row", "1", "--step", "charge", *option]
    with JobService("jobs") as service:
        in_flight(service, policy)
        service.begin_step(ROW, 1, "charge")
        done = journal(*resolve)
        assert done.returncode == 5
        assert "is being worked on" in done.stderr
        assert states() == {"charge": "started"}
    done = journal(*resolve)
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert states() == {"charge": "done" if "--result" in option else "failed"}
    assert row().status == ("pending" if policy == "resume" else "needs_review")


def test_completing_a_row_by_hand_names_the_only_steps_that_are_done_and_what_is_left() -> None:
    with JobService("jobs") as service:
        in_flight(service, "resume")
        service.record_step(ROW, "charge", "ch_1")
        service.create_rows("j", [{"data": {}}])
    done = journal("resolve", "j", "--row", "1", "--completed")
    assert done.returncode == 0
    assert "j: 1 row is pending as before: " in done.stderr
    assert "j: only these steps of --row 1 are done: charge" in done.stderr


# --- looking


def test_show_counts_the_rows_of_each_step_in_doubt_and_its_commands_can_be_pasted() -> None:
    in_doubt("other store", rows=3)
    shown = journal("--root", "other store", "show", "j").stdout
    assert "in doubt    step charge: rows 1-3\n" in shown
    (line,) = [line for line in shown.splitlines() if line.strip().endswith("--not-done")]
    words = shlex.split(line)
    assert words[0] == "journal"
    assert journal(*words[1:]).returncode == 0
    assert "in doubt" not in journal("--root", "other store", "show", "j").stdout


@pytest.mark.parametrize(("rows", "number"), [(1, "1"), (3, "N")])
def test_the_command_that_records_a_result_is_refused_until_the_result_is_filled_in(
    rows: int, number: str
) -> None:
    in_doubt(rows=rows)
    (line,) = [line for line in journal("show", "j").stdout.splitlines() if "--result" in line]
    words = shlex.split(line)
    assert words[words.index("--row") + 1] == number  # of several rows, each has its own result
    done = journal(*["1" if word == "N" else word for word in words[1:]])
    assert done.returncode == 2
    assert "RESULT_AS_JSON stands for the result: replace it by the result" in done.stderr
    assert states() == {"charge": "started"}


def advised() -> dict[str, str]:
    """What `journal show` advises: from each command to the reason for it."""
    found = json.loads(journal("show", "j", "--json").stdout)["next"]
    return {each["command"]: each["why"] for each in found}


@pytest.mark.parametrize("policy", ["retry", "resume"])
def test_rows_in_flight_that_the_policy_of_the_run_settles_are_left_to_the_next_start(
    policy: Policy,
) -> None:
    with JobService("jobs") as service:
        in_flight(service, policy, rows=3)
        service.begin_step("j:2", 1, "charge")
        service.record_step("j:2", "charge", "ch_2")
    (start, why), look = advised().items()
    assert "start again the program" in why
    assert f"--on-interrupted {policy} settles them" in why
    assert (start, look[0]) == ("", "journal rows j --status processing")


def test_of_rows_in_flight_only_steps_in_doubt_are_for_a_person_if_the_run_resumes_them() -> None:
    with JobService("jobs") as service:
        in_flight(service, "resume", rows=3)
        service.begin_step("j:2", 1, "charge")
    resolves = [command for command in advised() if " resolve " in command]
    assert len(resolves) == 2
    assert all("--row 2 --step charge" in command for command in resolves)


def test_rows_that_are_in_doubt_beyond_their_steps_are_not_simply_continued() -> None:
    in_doubt(rows=2, ended=False)
    with JobService("jobs") as service:
        for row_id in ("j:1", "j:2"):
            service.record_step(row_id, "charge", "ch")
        service.retry_row("j:2")
        service.start_row("j:2")
        service.review_row("j:2", "both_copies", "m")
    found = advised()
    assert "continues" in found["journal resolve j --row 1 --retry"]
    assert found["journal resolve j --row 2 --completed"] == "if they took effect"


def test_the_commands_in_a_rows_message_can_be_pasted() -> None:
    run(KILLED.replace("charge", '"charge it"'))
    message = str(row().error_message)
    (line,) = [part for part in message.split("`") if part.endswith("--not-done")]
    assert journal(*shlex.split(line)[1:]).returncode == 0
    assert row().status is RowStatus.PENDING

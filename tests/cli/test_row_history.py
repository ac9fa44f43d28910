"""`journal show --row` and `get_row_history`: all about one row. `journal errors`: where it failed."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.attempts import give_back

import journal
from journal import JobService, RowHistory
from journal.cli.main import main
from journal.fs.system import host_name

Capture = pytest.CaptureFixture[str]


def lookup(row: journal.AttemptedRow) -> Any:
    row.log("looking up", "debug", zip=row.data["zip"])
    return row.data["street"]


def charge(row: journal.AttemptedRow) -> str:
    if row.data["n"] == 3:
        lookup(row)
    row.log("charging")
    row.step("charge", lambda: {"id": "ch_1"})
    return "label 1"


@pytest.fixture(name="root", scope="module")
def fixture_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job whose row 2 has been through a lot: see the tests."""
    path = tmp_path_factory.mktemp("store")
    rows = [{"n": n, "zip": f"9000{n}"} for n in (1, 2, 3)]
    with journal.open_job(path / "j", rows, key="n", argv=[], version="v1") as job:
        job.run(lookup, max_attempts=2, backoff_s=0)
    with JobService(path) as service:
        service.update_row_data("j:2", {"n": 2, "zip": "90002", "street": "Elm"})
        service.log("j", "asked the customer", row_number=2)
        service.log("j", "not about a row", details={"row": 2})
    with journal.open_job(path / "j", argv=[], version="v2") as job:
        job.run(charge, retry_failed=True)
    return path


@pytest.fixture(name="history", scope="module")
def fixture_history(root: Path) -> RowHistory:
    with JobService(root) as service:
        return service.get_row_history("j:2")


def test_the_history_of_a_row_has_its_attempts(history: RowHistory) -> None:
    first, second, third = history.attempts
    assert [first.number, second.number, third.number] == [1, 2, 3]
    assert [a.outcome for a in history.attempts] == ["repeated", "failed", "completed"]
    assert [a.version for a in history.attempts] == ["v1", "v1", "v2"]
    assert {a.host for a in history.attempts} == {host_name()}
    assert (first.error_code, first.error_message) == ("KeyError", "'street'")
    assert "in lookup" in str(first.traceback)
    assert third.traceback is None
    for attempt in history.attempts:
        assert attempt.ended_at is not None
        assert attempt.duration_s == (attempt.ended_at - attempt.started_at).total_seconds()


def test_the_history_of_a_row_has_its_messages_steps_and_other_changes(history: RowHistory) -> None:
    assert [(log.message, log.attempt) for log in history.logs] == [
        ("looking up", 1),
        ("looking up", 2),
        ("asked the customer", None),
        ("charging", 3),
    ]
    (step,) = history.steps
    assert (step.name, step.state, step.attempt, step.result) == (
        "charge",
        "done",
        3,
        {"id": "ch_1"},
    )
    assert [event.kind for event in history.changes] == ["changed", "retried"]
    assert (history.row.status, history.row.result) == ("completed", "label 1")


def test_an_attempt_in_flight_that_was_given_back_or_cut_says_so(tmp_path: Path) -> None:
    with JobService(tmp_path) as service:
        job = service.create_job("j", job_id="j", row_data=[{"data": {}}])
        service.start_job(job.id)
        service.start_row("j:1")
        assert service.get_row_history("j:1").attempts[0].outcome == "processing"
        give_back(service, "j:1")
        service.start_row("j:1")
        service.review_row("j:1", "E", "?")
        service.complete_row("j:1", cost_cents=5)
        service.redo_row("j:1", "wrong label")
        service.start_row("j:1")
    with JobService(tmp_path) as service:
        service.recover_job("j", "fail")
        history = service.get_row_history("j:1")
    given_back, reviewed, cut = history.attempts
    assert (given_back.outcome, reviewed.outcome) == ("given_back", "needs_review")
    assert (cut.outcome, cut.duration_s, cut.unknown) == ("failed", None, True)
    assert [(event.kind, event.text) for event in history.changes] == [
        ("completed", "cost 5 cents"),
        ("redone", "wrong label"),
    ]


# --- commands


def show(root: Path, capsys: Capture, *arguments: str) -> str:
    assert main(["--root", str(root), "show", "j", "--row", "2", *arguments]) == 0
    return capsys.readouterr().out


def test_show_of_a_row_shows_all_about_it(root: Path, capsys: Capture) -> None:
    lines = show(root, capsys).splitlines()
    text = "\n".join(lines)
    assert lines[0] == "row         2 of j"
    assert lines[1] == "status      completed"
    assert 'data        {"n":2,"zip":"90002","street":"Elm"}' in lines
    assert "result      label 1" in lines
    assert [line.split()[1] for line in lines if line.startswith("attempt ")] == ["1", "2", "3"]
    assert "repeated, " in text
    assert f"on {host_name()}, version v2" in text
    assert text.count("            Traceback (most recent call last):") == 2
    assert text.count("in lookup") == 2
    assert ' DEBUG looking up {"zip":"90002"}' in text
    assert "steps       charge: done, attempt 3, " in text
    assert '{"id":"ch_1"}' in text
    assert "INFO asked the customer" in text
    assert " changed: its data" in text
    assert "not about a row" not in text


def test_a_key_in_place_of_a_row_number_is_refused_with_the_command_that_finds_the_row(
    tmp_path: Path, capsys: Capture
) -> None:
    assert main(["--root", str(tmp_path), "show", "j", "--row", "B-2"]) == 2
    assert "'B-2' is not a row number" in (error := capsys.readouterr().err)
    assert "journal rows JOB --where COLUMN=B-2\n" in error


def test_errors_say_where_an_exception_was_raised(
    root: Path, tmp_path: Path, capsys: Capture
) -> None:
    line = lookup.__code__.co_firstlineno + 2
    where = f"test_row_history.py:{line} in lookup"
    assert main(["--root", str(root), "errors", "j"]) == 0
    assert f"'street' ({where})" in capsys.readouterr().out
    assert main(["--root", str(root), "errors", "j", "--json"]) == 0
    (group,) = json.loads(capsys.readouterr().out)
    assert (group["example"], group["where"]) == ("'street'", where)
    assert main(["--root", str(root), "show", "j"]) == 0
    assert f"'street' ({where})" in capsys.readouterr().out


def test_what_an_attempt_has_returned_stays_visible_after_a_person_has_settled_its_row(
    tmp_path: Path, capsys: Capture
) -> None:
    def charge_and_return(_row: journal.AttemptedRow) -> Any:
        return journal.RowResult(
            result="charge ch_7", cost_cents=float("nan"), tracking_number="T1"
        )

    with journal.open_job(tmp_path / "j", [{"n": 1}], "n", argv=[]) as job:
        job.run(charge_and_return, tell=lambda _text: None)
        job.service.complete_row("j:1", "T2", result={"id": "ch_7"})
        (attempt,) = job.service.get_row_history("j:1").attempts
        assert (attempt.result, attempt.tracking_number) == ("charge ch_7", "T1")
    assert main(["--root", str(tmp_path), "show", "j", "--row", "1"]) == 0
    assert "result charge ch_7" in capsys.readouterr().out

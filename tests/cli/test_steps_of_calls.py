"""Calls with many rows at the command line: each row shows the call and its steps."""

from pathlib import Path

import pytest
from support.calls import JOB, Work
from support.commands import journal

from journal import JobService


@pytest.fixture(name="work")
def fixture_work(tmp_path: Path) -> Work:
    """A call of rows 1 to 3 is in review, with a step in doubt."""
    with JobService(tmp_path) as service:
        work = Work(service)
        work.make()
        work.step(work.begin(1, 2, 3), "submit")
        work.crash()
        work.service.close()
    return work


@pytest.mark.parametrize("answer", [["--not-done"], ["--result", "7"]])
def test_one_command_settles_a_step_for_all_rows_of_a_call_and_puts_them_back(
    work: Work, answer: list[str]
) -> None:
    root = str(work.service.root)
    settled = journal("--root", root, "resolve", JOB, "--row", "1-3", "--step", "submit", *answer)
    assert settled.returncode == 0, settled.stderr
    assert "step 'submit' of 3 rows is recorded as" in settled.stderr
    with JobService(work.service.root) as service:
        assert Work(service).statuses() == ["pending"] * 6
        text = Work(service).journal.path.read_text()
        assert text.count('"row_step","rows":[[1,3]]') == 2
        assert [call.open for call in Work(service).open()] == [(1, 2, 3)]


def test_a_row_shows_the_step_of_its_call_and_so_do_its_log_and_an_export(work: Work) -> None:
    root = str(work.service.root)
    shown = journal("--root", root, "show", JOB, "--row", "2").stdout
    assert "submit" in shown
    assert "in doubt" in shown
    logged = journal("--root", root, "log", JOB, "--row", "2", "--level", "DEBUG").stdout
    assert "call started" in logged
    assert "rows 1-3: submit" in logged
    other = journal("--root", root, "log", JOB, "--row", "4", "--level", "DEBUG").stdout
    assert "call" not in other
    exported = journal("--root", root, "export", JOB, "-", "--steps").stdout
    assert [line.split(",")[1] for line in exported.splitlines()[1:]] == ["1", "2", "3"]


def test_two_calls_are_not_given_one_result(tmp_path: Path) -> None:
    with JobService(tmp_path) as service:
        work = Work(service)
        work.make()
        for numbers in ((1, 2, 3), (4, 5)):
            work.step(work.begin(*numbers), "submit")
        work.crash()
        work.service.close()
    shown = journal("--root", str(tmp_path), "show", JOB).stdout
    for first, rows in (("1", "rows 1-3"), ("4", "rows 4-5")):
        assert f"resolve {JOB} --row {first} --step submit --not-done" in shown
        assert f"step 'submit' of the call of {rows} (key {JOB}:call-" in " ".join(shown.split())
    resolve = ("--root", str(tmp_path), "resolve", JOB, "--row", "1-5", "--step", "submit")
    refused = journal(*resolve, "--result", "7")
    assert refused.returncode == 2, refused.stderr
    assert "is of another call" in refused.stderr
    with JobService(tmp_path) as service:
        assert [Work(service).statuses().count(text) for text in ("pending", "needs_review")] == [
            1,
            5,
        ]
    assert journal(*resolve, "--not-done").returncode == 0


def test_a_step_of_one_row_alone_is_settled_for_each_row_that_is_named(tmp_path: Path) -> None:
    with JobService(tmp_path) as service:
        work = Work(service)
        work.make()
        work.begin(1, 2, 3)
        for number in (1, 2, 3):
            service.begin_step(f"{JOB}:{number}", 1, "mail")
        work.crash()
        work.service.close()
    resolve = ("--root", str(tmp_path), "resolve", JOB, "--row", "1,3", "--step", "mail")
    assert journal(*resolve, "--result", "sent").returncode == 0
    with JobService(tmp_path) as service:
        assert Work(service).statuses()[:3] == ["pending", "needs_review", "pending"]

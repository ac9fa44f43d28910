"""open_job: an input and its job, matched by key or by place."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import journal
import journal.match
from journal import (
    InvalidValueError,
    JobBusyError,
    JobNotFoundError,
    JobService,
    RowChangedError,
)

Data = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs" / "enrich"


def people(*names: str) -> Iterator[Data]:
    return ({"id": name, "mail": f"{name}@example.com"} for name in names)


def done(row: journal.JobRow) -> str:
    return f"did {row.data['id']}"


def results(path: Path) -> dict[str, Any]:
    with journal.open_job(path) as job:
        return {row.data["id"]: row.result for row in job.rows()}


def test_a_job_is_made_of_its_input_and_gone_on_with_by_the_same_call(path: Path) -> None:
    for added in (2, 0):
        with journal.open_job(path, people("a", "b"), key="id") as job:
            assert job.matched.added == added
            assert job.job.total_rows == 2
            assert job.job.original_command.endswith("pytest") or "python" in (
                job.job.original_command
            )


def test_without_rows_a_job_must_be_there(path: Path) -> None:
    with pytest.raises(JobNotFoundError):
        journal.open_job(path)
    assert not path.parent.exists()
    journal.open_job(path, people("a")).close()
    with journal.open_job(path) as job:
        assert job.job.total_rows == 1


@pytest.mark.parametrize("bad", ["Enrich 2026", "a/..", "con", "x."])
def test_a_path_that_names_no_job_is_refused_with_one_that_does(tmp_path: Path, bad: str) -> None:
    with pytest.raises(InvalidValueError, match="such as '"):
        journal.open_job(tmp_path / bad, people("a"))


def test_reordered_input_is_the_same_input_where_rows_have_keys(path: Path) -> None:
    with journal.open_job(path, people("a", "b", "c"), key="id") as job:
        job.run(done)
    with journal.open_job(path, people("c", "a", "b"), key="id") as job:
        assert job.matched == journal.match.Matched()
        assert job.run(done).started == 0


def test_reordered_input_without_keys_is_changed_input(path: Path) -> None:
    journal.open_job(path, people("a", "b")).close()
    with pytest.raises(RowChangedError) as caught:
        journal.open_job(path, people("b", "a"))
    assert caught.value.row_id == "enrich:1"


@pytest.mark.parametrize("key", ["id", None, lambda data: data["mail"]])
def test_new_rows_at_the_end_are_added_and_run(path: Path, key: Any) -> None:
    with journal.open_job(path, people("a", "b"), key) as job:
        assert job.run(done, max_rows=1).job.status == "paused"
    with journal.open_job(path, people("a", "b", "c"), key) as job:
        assert job.matched.added == 1
        assert job.run(done).completed == 2
    assert results(path) == {name: f"did {name}" for name in "abc"}


def test_rows_anywhere_in_the_input_are_new_by_their_key(path: Path) -> None:
    journal.open_job(path, people("b", "d"), key="id").close()
    with journal.open_job(path, people("a", "b", "c", "d"), key="id") as job:
        assert job.matched.added == 2
        assert [row.data["id"] for row in job.rows()] == ["b", "d", "a", "c"]


def test_rows_that_left_the_input_are_counted_and_stay(path: Path) -> None:
    journal.open_job(path, people("a", "b", "c"), key="id").close()
    for names in (("a", "c"), ("c",), ("a",)):
        with journal.open_job(path, people(*names), key="id") as job:
            assert job.matched.gone == 3 - len(names)
            assert job.job.total_rows == 3


def test_changed_data_is_an_error_that_names_the_row_and_leaves_the_job_as_it_was(
    path: Path,
) -> None:
    journal.open_job(path, people("a", "b"), key="id").close()
    before = (path / "journal.jsonl").read_bytes()
    changed = [*people("new", "a"), {"id": "b", "mail": "other"}, *people("newer")]
    with pytest.raises(RowChangedError) as caught:
        journal.open_job(path, changed, key="id")
    assert caught.value.row_id == "enrich:2"
    assert '"other"' in caught.value.found
    assert (path / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize("key", ["id", None])
def test_changed_data_is_ignored_if_that_is_asked_for(path: Path, key: str | None) -> None:
    journal.open_job(path, people("a"), key).close()
    with journal.open_job(path, [{"id": "a", "mail": "x"}], key, on_changed="ignore") as job:
        assert job.matched.changed == 1
        assert job.rows()[0].data == {"id": "a", "mail": "a@example.com"}


def test_changed_rows_are_run_anew_with_their_new_data_if_that_is_asked_for(path: Path) -> None:
    with journal.open_job(path, people("a", "b", "c"), key="id") as job:
        job.run(done, max_rows=1)
    changed = [{"id": "a", "mail": "x"}, {"id": "b", "mail": "y"}, *people("c")]
    seen = []
    with journal.open_job(path, changed, key="id", on_changed="retry") as job:
        assert (job.matched.changed, job.matched.replaced) == (2, 2)
        assert [str(row.status) for row in job.rows()] == (
            ["completed", "skipped", "pending", "pending", "pending"]
        )
        assert job.run(lambda row: seen.append(row.data["mail"])).exit_code == 0
    assert sorted(seen) == ["c@example.com", "x", "y"]
    with journal.open_job(path, changed, key="id") as job:
        assert job.matched == journal.match.Matched()


def test_a_row_that_was_changed_and_changed_back_is_compared_with_its_last_data(
    path: Path,
) -> None:
    journal.open_job(path, people("a", "b"), key="id").close()
    changed = [{"id": "a", "mail": "x"}, *people("b")]
    journal.open_job(path, changed, key="id", on_changed="retry").close()
    with pytest.raises(RowChangedError) as caught:
        journal.open_job(path, people("a", "b"), key="id")
    assert caught.value.row_id == "enrich:3"
    with journal.open_job(path, people("a", "b"), key="id", on_changed="retry") as job:
        assert job.matched.replaced == 1
        assert job.rows("pending")[-1].data["mail"] == "a@example.com"


def test_a_changed_row_whose_outcome_is_unknown_is_left_for_a_person(path: Path) -> None:
    journal.open_job(path, people("a"), key="id").close()
    with JobService(path.parent) as service:
        service.start_row("enrich:1")
        service.review_row("enrich:1", "lost", "who knows")
    with journal.open_job(path, [{"id": "a", "mail": "x"}], key="id", on_changed="retry") as job:
        assert (job.matched.changed, job.matched.replaced) == (1, 0)
        assert [str(row.status) for row in job.rows()] == ["needs_review"]


@pytest.mark.parametrize("key", ["id", None])
def test_a_row_with_a_checksum_of_its_makers_is_changed_only_if_its_data_is(
    path: Path, key: str | None
) -> None:
    with JobService(path.parent) as service:
        rows = [{"row_checksum": "mine", "data": data} for data in people("a", "b")]
        service.create_job("Enrich", job_id="enrich", row_data=rows)
    for _ in range(2):
        with journal.open_job(path, people("a", "b"), key) as job:
            assert job.matched == journal.match.Matched()


def test_new_rows_of_a_job_that_has_ended_are_refused_with_what_to_do(path: Path) -> None:
    with journal.open_job(path, people("a"), key="id") as job:
        job.run(done)
    with pytest.raises(journal.InvalidStateTransition, match="make a new job for them"):
        journal.open_job(path, people("a", "b"), key="id")


def test_rows_that_a_follow_up_job_does_not_hold_are_counted_and_left_alone(path: Path) -> None:
    with journal.open_job(path, people("a", "b"), key="id") as job:
        job.run(lambda row: 1 / (row.row_number - 1))
        job.retry().close()
    for key in ("id", None):
        with journal.open_job(path.parent / "enrich-retry", people("a", "b", "c"), key) as again:
            assert again.matched == journal.match.Matched(elsewhere=2)
            assert again.job.total_rows == 1


def test_changed_rows_can_only_be_run_anew_by_key(path: Path) -> None:
    journal.open_job(path, people("a")).close()
    with pytest.raises(InvalidValueError, match="needs a key"):
        journal.open_job(path, people("a"), on_changed="retry")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": "a"}, {"id": "b"}, {"id": "a"}], "input row 3: an earlier row has the same key"),
        ([{"id": "a"}, {"no": "b"}], "input row 2: it has no 'id'"),
        ([{"id": None}], "input row 1: its key is empty"),
        ([{"id": ""}], "input row 1: its key is empty"),
        ([["a"]], "input row 1: must be a dict"),
        ([{"id": "a", "x": {1, 2}}], "set is not a JSON value"),
    ],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_bad_input_is_named_and_changes_nothing(
    path: Path, rows: list[Any], said: str, is_there: bool
) -> None:
    if is_there:
        journal.open_job(path, [{"id": "a"}], key="id").close()
        before = (path / "journal.jsonl").read_bytes()
    with pytest.raises(InvalidValueError, match=said):
        journal.open_job(path, rows, key="id")
    if is_there:
        assert (path / "journal.jsonl").read_bytes() == before
    else:
        assert not path.exists()


def test_a_number_and_its_text_are_two_keys(path: Path) -> None:
    with journal.open_job(path, [{"id": 1}, {"id": "1"}], key="id") as job:
        assert job.job.total_rows == 2


def test_an_input_that_breaks_off_changes_nothing(path: Path) -> None:
    def broken() -> Iterator[Data]:
        yield from people("a", "b", "c")
        raise OSError("the file has gone")

    journal.open_job(path, people("a"), key="id").close()
    with pytest.raises(OSError, match="gone"):
        journal.open_job(path, broken(), key="id")
    with journal.open_job(path) as job:
        assert job.job.total_rows == 1


def test_a_job_that_another_run_works_on_is_refused_before_its_input_is_read(path: Path) -> None:
    journal.open_job(path, people("a"), key="id").close()
    with JobService(path.parent) as service:
        service.start_job("enrich")
        with pytest.raises(JobBusyError) as caught:
            journal.open_job(path, (1 / 0 for _ in range(1)), key="id")  # type: ignore[misc]
        assert caught.value.pid > 0
        with journal.open_job(path) as job, pytest.raises(JobBusyError):
            job.run(done)


def test_two_that_find_the_same_new_rows_add_them_once(path: Path) -> None:
    journal.open_job(path, people("a"), key="id").close()

    def slow() -> Iterator[Data]:
        yield from people("a")
        with pytest.raises(JobBusyError):
            journal.open_job(path, people("a", "b"), key="id")
        yield from people("b")

    with journal.open_job(path, slow(), key="id") as job:
        assert job.matched.added == 1
        assert job.job.total_rows == 2


def test_a_job_that_has_ended_is_reported_as_it_is_and_nothing_is_called(path: Path) -> None:
    with journal.open_job(path, people("a"), key="id") as job:
        assert job.run(done).exit_code == 0
    with journal.open_job(path, people("a"), key="id") as job:
        report = job.run(lambda _row: 1 / 0)
        assert (report.exit_code, report.started, report.job.status) == (0, 0, "completed")
        assert list(job.attempts()) == []


@pytest.mark.parametrize("how", ["run", "attempts"])
def test_an_empty_resume_command_leaves_the_command_line_out_of_the_journal(
    path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "script.py", "--api-key", "sk_live"])
    said: list[str] = []
    with journal.open_job(path, people("a", "b"), key="id", resume_command="") as job:
        if how == "run":
            job.run(done, max_rows=1, tell=said.append)
            assert said[-1] == "to go on: run this program again"
        else:
            attempts = job.attempts()
            with next(attempts):
                pass
        assert (job.job.original_command, job.job.resume_command) == ("", None)
    content = (path / "journal.jsonl").read_bytes()
    assert b"sk_live" not in content
    assert b'"resume"' not in content


def test_a_job_that_is_completed_with_rows_left_open_is_no_success(path: Path) -> None:
    with journal.open_job(path, people("a", "b"), key="id") as job:
        job.service.start_job(job.id)
        job.service.complete_row(f"{job.id}:1")
        job.service.update_status(job.id, "completed")
        report = job.run(done)
        assert (report.exit_code, report.started) == (4, 0)
        with job.retry() as again:
            assert again.run(done).exit_code == 0


def test_the_follow_up_of_a_failed_job_is_run_like_any_other(path: Path) -> None:
    with journal.open_job(path, people("a", "b"), key="id") as job:
        assert job.run(lambda _row: 1 / 0).exit_code == 3
        for _ in range(2):
            with job.retry() as again:
                assert (again.id, again.job.retry_of) == ("enrich-retry", "enrich")
        with job.retry() as again:
            assert again.run(done).exit_code == 0
        assert job.job.status == "failed"


def test_a_job_set_running_by_hand_is_opened_and_run_in_the_same_process(path: Path) -> None:
    with journal.open_job(path, people("a", "b")) as job:
        job.service.update_status(job.id, "running")
        with journal.open_job(path, people("a", "b", "c")) as again:
            assert again.run(done).completed == 3
        assert job.job.status == "completed"
        assert job.service.run_holder(job.id) is None

"""open_job: an input and its job, matched by key or by place."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import journal
import journal.run.input_match
import journal.run.plan
from journal import InvalidValueError, JobBusyError, JobService, RowChangedError

Data = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs" / "enrich"


def people(*names: str) -> Iterator[Data]:
    return ({"id": name, "mail": f"{name}@example.com"} for name in names)


def done(row: journal.JobRow) -> str:
    return f"did {row.data['id']}"


@pytest.mark.parametrize("bad", ["Enrich 2026", "a/..", "con", "x."])
def test_a_path_that_names_no_job_is_refused_with_one_that_does(tmp_path: Path, bad: str) -> None:
    with pytest.raises(InvalidValueError, match="such as '"):
        journal.open_job(tmp_path / bad, people("a"))


def test_changed_data_is_an_error_that_names_the_row_and_changes_nothing(path: Path) -> None:
    journal.open_job(path, people("a", "b"), key="id").close()
    before = (path / "journal.jsonl").read_bytes()
    changed = [*people("new", "a"), {"id": "b", "mail": "other"}, *people("newer")]
    with pytest.raises(RowChangedError) as caught:
        journal.open_job(path, changed, key="id")
    assert caught.value.row_id == "enrich:2"
    assert '"other"' in caught.value.found
    assert "; later rows weren't compared; restore the row, or" in str(caught.value)
    assert (path / "journal.jsonl").read_bytes() == before


def test_changed_rows_that_are_not_done_get_new_data_under_their_old_numbers(path: Path) -> None:
    def handle(row: journal.JobRow) -> str:
        if row.data["id"] == "b":
            raise ValueError("no such mail")
        return done(row)

    with journal.open_job(path, people("a", "b", "c"), key="id") as job:
        job.run(handle)
        before = [row.idempotency_key for row in job.rows()]
    changed = [{"id": "a", "mail": "x"}, {"id": "b", "mail": "y"}, *people("c", "d")]
    with journal.open_job(path, changed, key="id", on_changed="retry") as job:
        matched = journal.run.plan.Matched(added=1, changed=2, updated=1, done=[1])
        assert job.matched == matched
        assert repr(matched) == "<Matched added 1, changed 2, updated 1, done 1>"
        assert [str(row.status) for row in job.rows()] == (
            ["completed", "pending", "completed", "pending"]
        )
        assert [row.data["mail"] for row in job.rows()][:2] == ["a@example.com", "y"]
        assert job.job.passes == 2
        said: list[str] = []
        assert str(job.plan()) == "retry: 1 (row 2), new: 1 (row 4), outdated: 1 (row 1), done: 1"
        report = job.run(done, tell=said.append)
        assert (report.exit_code, report.started, report.outdated) == (0, 2, 1)
        assert ", 1 with the result of old data, 2 completed" in repr(report)
        assert "outdated" not in repr(job.plan())
        (alone,) = said
        assert alone.startswith(
            "enrich: 1 completed row has changed in the input, and stays as done (row 1)"
        )
        assert alone.endswith('take effect twice: start again with `on_changed="redo"`')
        assert [row.idempotency_key for row in job.rows()][:3] == before
    unchanged = [*people("a"), *changed[1:]]
    with journal.open_job(path, unchanged, key="id") as job:
        assert job.matched == journal.run.plan.Matched()


def test_completed_rows_whose_data_has_changed_are_redone_with_it_in_one_start(path: Path) -> None:
    with journal.open_job(path, people("a", "b", "c"), key="id") as job:
        job.service.start_row("enrich:1")
        job.service.begin_step("enrich:1", 1, "charge")
        job.service.end_step("enrich:1", 1, "charge", "ch_1")
        job.service.complete_row("enrich:1", result="done")
        job.run(done)
        keys = [row.idempotency_key for row in job.rows()]
    changed = [{"id": "a", "mail": "x"}, *people("b"), {"id": "c", "mail": "z"}]
    seen: list[tuple[str, str, int]] = []

    def handle(row: journal.JobRow) -> str:
        steps = len(job.service.get_steps(row.id))
        seen.append((row.data["mail"], row.idempotency_key, steps))
        return done(row)

    with journal.open_job(path, changed, key="id", on_changed="redo") as job:
        matched = journal.run.plan.Matched(changed=2, updated=2)
        assert job.matched == matched
        assert (job.job.status, job.job.pending_count) == ("pending", 2)
        assert job.run(handle).completed == 2
    assert [(mail, steps) for mail, _, steps in seen] == [("x", 0), ("z", 0)]
    assert not {key for _, key, _ in seen} & set(keys)
    with journal.open_job(path, changed, key="id", on_changed="redo") as job:
        assert job.matched == journal.run.plan.Matched()
        assert job.rows()[1].idempotency_key == keys[1]


def _make_in_every_state(path: Path, key: str | None) -> None:
    """Make a job with a completed row, then one row of each kind that isn't done, by name."""
    names = ("done", "pending", "failed", "unknown", "flight", "step", "failed step", "review")
    with journal.open_job(path, people(*names), key) as job:
        service = job.service
        for number in (1, 3, 4, 5, 6, 7, 8):
            service.start_row(f"enrich:{number}")
        for number in (6, 7):
            service.begin_step(f"enrich:{number}", 1, "charge")
            service.end_step(f"enrich:{number}", 1, "charge", "ch")
        service.complete_row("enrich:1")
        service.fail_row("enrich:3", "E", "no")
        service.fail_row("enrich:4", "E", "who knows", unknown=True)
        service.retry_row("enrich:6")
        service.fail_row("enrich:7", "E", "no")
        service.review_row("enrich:8", "E", "who knows")


@pytest.mark.parametrize("key", ["id", None])
def test_rows_that_are_gone_from_the_input_are_skipped_if_that_is_asked_for(
    path: Path, key: str | None
) -> None:
    _make_in_every_state(path, key)
    rows = [*people("done"), *(people("new") if key else ())]
    with journal.open_job(path, rows, key, on_gone="skip", on_interrupted="retry") as job:
        assert (job.matched.gone, job.matched.gone_open, job.matched.gone_settled) == (7, 0, 5)
        assert {row.row_number: (str(row.status), row.error_code) for row in job.rows()} == {
            1: ("completed", None),
            2: ("skipped", None),
            3: ("skipped", None),
            4: ("failed", "E"),
            5: ("needs_review", "gone"),
            6: ("needs_review", "gone"),
            7: ("needs_review", "gone"),
            8: ("needs_review", "E"),
        } | ({9: ("pending", None)} if key else {})
        assert job.rows()[1].reason == "the row is no longer in the input"
        assert job.run(done, retry_failed=True).started == bool(key)
    commits = (path / "journal.jsonl").read_bytes()
    with journal.open_job(path, rows, key, on_gone="skip") as job:
        assert (job.matched.gone, job.matched.gone_settled) == (7, 0)
    assert (path / "journal.jsonl").read_bytes() == commits
    names = ("done", "pending", "failed", "unknown", "flight", "step", "failed step", "review")
    said: list[str] = []
    with journal.open_job(path, [*people(*names), *(rows[1:] if key else ())], key) as job:
        assert job.matched.back == [2, 3]
        job.run(done, tell=said.append)
    text = "2 rows are in the input again, and stay skipped: `job.retry([2, 3])`"
    assert said[0] == f"enrich: {text}"


@pytest.mark.parametrize("key", ["id", None])
def test_rows_that_are_gone_and_not_done_are_an_error_if_that_is_asked_for(
    path: Path, key: str | None
) -> None:
    journal.open_job(path, people("a", "b", "c"), key).close()
    before = (path / "journal.jsonl").read_bytes()
    rows = [*people("a"), *(people("new") if key else ())]
    with pytest.raises(RowChangedError) as caught:
        journal.open_job(path, rows, key, on_gone="error")
    assert str(caught.value) == (
        'row enrich:2 is no longer in the input: it was {"id":"b","mail":"b@example.com"}; gone and '
        'not done: rows 2, 3; `on_gone="skip"` skips such rows, `on_gone="keep"` runs them'
    )
    assert (path / "journal.jsonl").read_bytes() == before
    with journal.open_job(path) as job:
        job.run(done)
    with journal.open_job(path, people("a"), key, on_gone="error") as job:
        assert job.matched.gone == 2


@pytest.mark.parametrize("key", ["id", None])
def test_an_empty_input_skips_no_rows_since_it_is_more_likely_a_mistake(
    path: Path, key: str | None
) -> None:
    journal.open_job(path, people("a", "b"), key).close()
    before = (path / "journal.jsonl").read_bytes()
    with pytest.raises(RowChangedError) as caught:
        journal.open_job(path, [], key, on_gone="skip")
    assert caught.value.hint == (
        "gone and not done: rows 1, 2; the input has no rows at all: if that is no mistake, "
        '`job.skip(status=["pending", "failed"])` skips these rows'
    )
    assert (path / "journal.jsonl").read_bytes() == before
    with journal.open_job(path) as job:
        job.run(done)
    journal.open_job(path, [], key, on_gone="skip").close()


def test_a_row_that_was_changed_begins_anew_with_all_its_attempts(path: Path) -> None:
    calls: list[str] = []

    def broken(row: journal.JobRow) -> None:
        calls.append(row.data["mail"])
        if calls == ["x", "x"]:
            job.stop()
        raise ValueError

    for mail, tried in (("x", 2), ("y", 5), ("z", 8)):  # it is pending, and then failed
        rows = [{"id": "a", "mail": mail}]
        with journal.open_job(path, rows, key="id", on_changed="retry") as job:
            job.run(broken, max_attempts=3, backoff_s=0)
            assert job.rows()[0].attempts == tried
    assert calls == ["x"] * 2 + ["y"] * 3 + ["z"] * 3


@pytest.mark.parametrize("how", ["in review", "in flight", "unknown"])
def test_a_changed_row_that_may_have_taken_effect_is_refused_by_name_and_nothing_is_done(
    path: Path, how: str
) -> None:
    with journal.open_job(path, people("a", "b"), key="id") as job:
        job.service.start_row("enrich:2")
        if how == "in review":
            job.service.review_row("enrich:2", "lost", "who knows")
        elif how == "unknown":
            job.service.fail_row("enrich:2", "lost", "who knows", unknown=True)
    before = (path / "journal.jsonl").read_bytes()
    changed = [{"id": "a", "mail": "x"}, {"id": "b", "mail": "y"}, *people("c")]
    with pytest.raises(RowChangedError, match=r"enrich:2 .* taken effect \(row 2\), so nothing"):
        journal.open_job(path, changed, key="id", on_changed="retry")
    assert (path / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("state", "status", "reason"),
    [
        ("done", "failed", "step 'charge' is done with the old data.*, `job.redo"),
        ("done", "pending", "step 'charge' is done.* end the row, then `job.redo"),
        ("started", "pending", "step 'charge' is in doubt with the old data"),
    ],
)
def test_a_changed_row_with_a_step_that_has_or_may_have_taken_effect_is_refused_by_name(
    path: Path, state: str, status: str, reason: str
) -> None:
    with journal.open_job(path, people("a", "b"), key="id") as job:
        job.service.start_row("enrich:2")
        job.service.begin_step("enrich:2", 1, "charge")
        if state == "done":
            job.service.end_step("enrich:2", 1, "charge", "ch_1")
        if status == "failed":
            job.service.fail_row("enrich:2", "E", "no mail server")
        else:
            job.service.retry_row("enrich:2")
    before = (path / "journal.jsonl").read_bytes()
    changed = [{"id": "a", "mail": "x"}, {"id": "b", "mail": "y"}]
    with pytest.raises(RowChangedError, match=f"enrich:2 .*{reason}"):
        journal.open_job(path, changed, key="id", on_changed="retry")
    assert (path / "journal.jsonl").read_bytes() == before
    with journal.open_job(path, changed, key="id", on_changed="ignore") as job:
        assert job.matched.changed == 2


def test_a_changed_row_is_taken_if_its_steps_failed_or_a_redo_forgot_them(path: Path) -> None:
    with journal.open_job(path, people("a", "b"), key="id") as job:
        for number in (1, 2):
            job.service.start_row(f"enrich:{number}")
            job.service.begin_step(f"enrich:{number}", 1, "charge")
        job.service.end_step("enrich:1", 1, "charge", error=("Declined", "no money"))
        job.service.end_step("enrich:2", 1, "charge", "ch_1")
        for number in (1, 2):
            job.service.fail_row(f"enrich:{number}", "E", "no mail server")
        job.service.redo_row("enrich:2")
    changed = [{"id": "a", "mail": "x"}, {"id": "b", "mail": "y"}]
    with journal.open_job(path, changed, key="id", on_changed="retry") as job:
        assert job.matched.updated == 2


@pytest.mark.parametrize("key", ["id", None])
def test_a_row_with_a_checksum_of_its_makers_is_changed_only_if_its_data_is(
    path: Path, key: str | None
) -> None:
    with JobService(path.parent) as service:
        rows = [{"row_checksum": "mine", "data": data} for data in people("a", "b")]
        service.create_job("Enrich", job_id="enrich", row_data=rows)
    for _ in range(2):
        with journal.open_job(path, people("a", "b"), key) as job:
            assert job.matched == journal.run.plan.Matched()


@pytest.mark.parametrize("what", ["new", "changed"])
def test_a_cancelled_job_takes_nothing_before_it_is_reopened(path: Path, what: str) -> None:
    with journal.open_job(path, people("a", "b"), key="id") as job:
        job.service.update_status(job.id, "cancelled")
    rows = [*people("a"), {"id": "b", "mail": "x"}] if what == "changed" else people("a", "b", "c")
    with pytest.raises(journal.InvalidStateTransition, match=r'resume_job\("enrich"\)'):
        journal.open_job(path, rows, key="id", on_changed="retry")
    said: list[str] = []
    with journal.open_job(path, people("a", "b"), key="id") as job:
        for retry_failed in (False, True):
            report = job.run(done, retry_failed=retry_failed, tell=said.append)
            assert (report.started, report.job.status) == (0, "cancelled")
    assert (
        said
        == [
            'enrich: cancelled with 2 rows pending, so nothing is run: first `job.service.resume_job("enrich")`, then start again'
        ]
        * 2
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": "a"}, {"id": "b"}, {"id": "a"}], "input row 3: an earlier row has the same key"),
        ([{"id": "a"}, {"no": "b"}], "input row 2: it has no 'id'"),
        ([{"id": None}], "input row 1: its key is empty"),
        ([{"id": ""}], "input row 1: its key is empty"),
        ([["a"]], "input row 1: must be a dict"),
        ([{"id": "a", "x": 1j}], "complex can't be written as JSON"),
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


def test_a_whole_float_is_the_key_that_the_int_is_as_frames_have_floats(path: Path) -> None:
    with journal.open_job(path, [{"id": 1, "n": 1}, {"id": 2, "n": 2}], key="id") as job:
        job.run(lambda row: row.data["n"])
    rows = [{"id": 2.0, "n": 2.0}, {"id": 1.0, "n": 1}, {"id": 2.5, "n": 3}]
    with journal.open_job(path, rows, key="id") as job:
        assert (job.matched.added, job.matched.changed, job.matched.gone) == (1, 0, 0)
        assert [row.idempotency_key for row in job.rows()] == [
            *("enrich:id=1", "enrich:id=2", "enrich:id=2.5")
        ]


@pytest.mark.parametrize(
    ("known", "new", "key"),
    [
        ({"id": 1}, {"id": "1"}, "id"),
        ({"id": 1}, {"id": "1.0"}, "id"),
        ({"id": "2.5"}, {"id": 2.5}, "id"),
        ({"id": "1.0"}, {"id": 1}, "id"),
        ({"a": 1, "b": "x"}, {"a": "1", "b": "x"}, ("a", "b")),
        ({"a": 1, "b": "2"}, {"a": "1", "b": "2"}, ("a", "b")),
    ],
)
def test_a_key_that_is_known_with_another_type_is_refused_and_nothing_is_added(
    path: Path, known: Data, new: Data, key: Any
) -> None:
    journal.open_job(path, [known], key=key).close()
    with pytest.raises(InvalidValueError, match="a key must keep its type") as refused:
        journal.open_job(path, [new], key=key)
    assert "input row 1" in str(refused.value)
    with journal.open_job(path) as job:
        assert job.job.total_rows == 1


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


def test_rows_left_pending_in_a_job_that_has_ended_are_taken_up(path: Path) -> None:
    with journal.open_job(path, people("a", "b"), key="id") as job:
        job.service.start_job(job.id)
        job.service.complete_row(f"{job.id}:1")
        job.service.update_status(job.id, "completed")
        assert (report := job.run(done)).exit_code == 0
        assert report.started == 1
        assert (job.job.status, job.job.passes, job.job.successful_rows) == ("completed", 2, 2)


def test_a_start_that_does_nothing_says_why_and_what_takes_failed_rows_up(path: Path) -> None:
    said: list[str] = []
    with journal.open_job(path, people("a", "b"), key="id") as job:
        assert job.run(lambda _row: 1 / 0, tell=said.append).exit_code == 3
        assert job.run(done, tell=said.append).exit_code == 3
        assert job.run(done, retry_failed=True, tell=said.append).exit_code == 0
        job.run(done, retry_failed=True, tell=said.append)
    failed, see, idle, again, all_done = said
    left = "2 rows failed: `run(..., retry_failed=True)` tries them again, unless they may have taken effect"
    assert failed == f"enrich: failed; {left}"
    assert see == again == f"see: journal --root {path.parent} show enrich"
    assert idle == f"enrich: failed already, and nothing is new, but {left}"
    assert all_done == "enrich: completed already, and nothing is new: nothing to do"


def test_failed_rows_that_may_have_taken_effect_are_retried_only_by_name(path: Path) -> None:
    said: list[str] = []
    with journal.open_job(path, people("a", "b"), key="id") as job:
        job.service.start_row("enrich:1")
        job.service.fail_row("enrich:1", "lost", "who knows", unknown=True)
        job.run(done, tell=said.append)
        assert job.run(done, tell=said.append).started == 0
        assert job.run(done, retry_failed=True, tell=said.append).started == 0
        again = "`run(..., retry_failed=True)` tries it again"
        look = f"1 row failed: {again}, unless it may have taken effect"
        assert [text for text in said if text.startswith("enrich: ")] == [
            f"enrich: failed; {look}",
            *[f"enrich: failed already, and nothing is new, but {look}"] * 2,
        ]
        job.service.retry_row("enrich:1")
        assert job.run(done).exit_code == 0


def test_an_open_job_retries_redoes_and_skips_chosen_rows_as_the_commands_do(path: Path) -> None:
    def fail(row: journal.JobRow) -> None:
        raise journal.Fail("E-ODD" if row.row_number % 2 else "E-EVEN", "no")

    def numbers(status: str) -> list[int]:
        return [row.row_number for row in job.rows(status)]

    with journal.open_job(path, people(*"abcdef"), key="id") as job:
        job.run(fail, halt="never")
        assert (job.status, job.counts["failed"]) == ("failed", 6)
        assert job.retry(where=lambda row: row.data["id"] in "ab") == 2
        assert (job.status, numbers("pending")) == ("pending", [1, 2])
        assert job.retry(error_code=["E-EVEN", "E-NONE"]) == 2
        assert job.retry(error_code=[]) == 0
        assert job.skip([3, job.rows()[0]], reason="sold out") == 2
        assert job.skip("5", error_code="E-EVEN") == 0  # left out, since it has another code
        assert numbers("skipped") == [1, 3]
        assert job.retry([]) == job.redo(status=[]) == 0
        job.run(done)
        assert job.redo(status=["completed", "skipped"], where=lambda row: row.row_number < 4) == 3
        assert numbers("pending") == [1, 2, 3]
        job.service.start_row("enrich:1")
        job.service.fail_row("enrich:1", "lost", "who knows", unknown=True)
        assert job.retry() == 1  # row 5: of row 1, nobody knows whether it took effect
        assert job.retry(status="failed") == job.retry(where=lambda _row: True) == 0
        job.service.record_step("enrich:1", "mail")
        with pytest.raises(journal.RefusedError, match="none of these rows has a step 'mial'"):
            job.redo(1, from_step="mial")
        assert job.retry(1, from_step="mail") == 1
        assert job.service.get_steps("enrich:1") == ()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            lambda job: job.retry([1, 2]),
            journal.RefusedError,
            "row enrich:2 is completed, not failed",
        ),
        (lambda job: job.retry(7), journal.RefusedError, "job enrich has no row 7"),
        (lambda job: job.retry("x"), InvalidValueError, "'x' is neither a row number nor a range"),
        (lambda job: job.retry(status="needs_review"), journal.RefusedError, "`journal resolve e"),
        (lambda job: job.skip(status="completed"), journal.RefusedError, "rows must be pending or"),
        (lambda job: job.redo(), InvalidValueError, "rows: give rows, status, error_code or where"),
        (lambda job: job.skip(where="x"), InvalidValueError, "where: must be a function of a row"),
        (lambda job: job.skip(of_another_job()), InvalidValueError, "is a row of another job"),
        (lambda job: job.skip(b"1"), InvalidValueError, "is neither a row number nor a range"),
        (lambda job: job.skip(2.5), InvalidValueError, "'2.5' is neither a row number nor a range"),
        (lambda job: job.skip(1, error_code=[503]), InvalidValueError, "error_code: must be text"),
    ],
)
def test_a_choice_of_rows_that_cannot_be_changed_changes_none(
    change: Any, error: Any, words: str, path: Path
) -> None:
    with journal.open_job(path, people("a", "b"), key="id") as job:
        job.run(lambda row: 1 // (row.row_number - 1))
        with pytest.raises(error, match=re.escape(words)):
            change(job)
        assert job.counts["failed"] == job.counts["completed"] == 1


def of_another_job() -> journal.JobRow:
    now = datetime.now(UTC)
    return journal.JobRow("x:1", "x", 1, "", {}, now, now)


# --- idempotency keys


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        ({}, ["enrich:1", "enrich:2", "enrich:3."]),
        ({"key": "id"}, ["enrich:id=a", "enrich:id=b", "enrich:id=c"]),
        ({"key": "id", "idempotency_key": "mail"}, [f"{name}@example.com" for name in "abc"]),
        ({"idempotency_key": lambda data: f"k-{data['id']}"}, ["k-a", "k-b", "k-c"]),
    ],
)
def test_what_a_rows_idempotency_key_is_made_of_is_fixed_when_its_job_is_made(
    path: Path, given: dict[str, Any], keys: list[str]
) -> None:
    journal.open_job(path, people("a", "b"), **given).close()
    with journal.open_job(path, people("a", "b", "c"), **given) as job:
        found = [row.idempotency_key for row in job.rows()]
        assert [key[: len(keys[-1])] for key in found] == keys
    if "key" not in given and not callable(given.get("idempotency_key")):
        with journal.open_job(path, people("a", "b", "c"), **(given | {"key": "mail"})) as job:
            assert [row.idempotency_key for row in job.rows()] == found


@pytest.mark.parametrize("own", ["uuid", lambda data: data["uuid"]])
@pytest.mark.parametrize("is_there", [True, False])
def test_an_idempotency_key_that_is_there_twice_is_refused(
    path: Path, own: Any, *, is_there: bool
) -> None:
    first = {"id": "a", "uuid": "1"}
    if is_there:
        journal.open_job(path, [first], key="id", idempotency_key=own).close()
    with pytest.raises(InvalidValueError, match="row 2: an earlier row has the same idempotency"):
        journal.open_job(path, [first, {"id": "b", "uuid": "1"}], key="id", idempotency_key=own)
    with pytest.raises(InvalidValueError, match="its idempotency key is empty"):
        journal.open_job(path, [{"id": "a", "uuid": ""}], key="id", idempotency_key=own)


def keys_of(job: journal.JobRun) -> list[str]:
    return [row.idempotency_key for row in job.rows()]


@pytest.mark.parametrize("key", ["k", lambda data: data["k"]])
def test_a_key_of_ones_own_is_never_that_of_a_row_that_was_done_anew(path: Path, key: Any) -> None:
    rows = [{"k": "A"}, {"k": "A#2"}]
    with journal.open_job(path, rows, idempotency_key=key) as job:
        job.run(done)
        job.service.redo_row(f"{job.id}:1", new_key=True)
        redone, other = keys_of(job)
        assert re.fullmatch(r"A#2\.[0-9a-f]{8}", redone)
        assert other == "A#2"


def test_rows_are_known_for_good_by_the_key_that_the_job_was_made_with(path: Path) -> None:
    with journal.open_job(path, [{"a": "A", "b": "1"}], key="a"):
        pass
    with pytest.raises(InvalidValueError, match="have the key 'a'"):
        journal.open_job(path, [{"a": "A", "b": "2"}], key="b")
    with journal.open_job(path, [{"a": "B", "b": "1"}, {"a": "A", "b": "1"}]) as job:
        assert job.matched.added == 1
        assert keys_of(job) == [f"{job.id}:a=A", f"{job.id}:a=B"]


@pytest.mark.parametrize("is_redone", [False, True])
def test_the_first_idempotency_key_of_a_row_stays_taken_though_it_was_redone_under_another(
    path: Path, *, is_redone: bool
) -> None:
    with journal.open_job(path, [{"o": 1, "k": "A"}], "o", idempotency_key="k") as job:
        job.run(done)
        if is_redone:
            job.service.redo_row(f"{job.id}:1", new_key=True)
    with pytest.raises(InvalidValueError, match="has the idempotency key 'A' already"):
        journal.open_job(path, [{"o": 2, "k": "A"}], "o")
    same: list[Data] = [{"o": 2, "k": 1}, {"o": 3, "k": "1"}]
    equal: list[Data] = [{"o": 2, "k": "B"}, {"o": 3, "k": "B"}]
    for rows in (same, equal, [{"o": 2, "k": None}]):
        with pytest.raises(InvalidValueError, match="idempotency key"):
            journal.open_job(path, rows, "o")
    with journal.open_job(path) as job:
        assert job.job.total_rows == 1


def test_a_run_of_a_job_that_has_ended_makes_no_executor(tmp_path: Path) -> None:
    made = []

    def make() -> ThreadPoolExecutor:
        made.append(ThreadPoolExecutor(1))
        return made[-1]

    with journal.open_job(tmp_path / "j", [{"n": 1}]) as job:
        for _ in range(2):
            assert job.run(lambda row: row.row_number, make).exit_code == 0
    assert len(made) == 1


def test_a_new_job_of_a_script_started_elsewhere_is_named_with_both_places(tmp_path: Path) -> None:
    script, home = tmp_path / "ship.py", tmp_path / "home"
    script.write_text("import journal\njournal.open_job('jobs/ship', [{'n': 1}]).close()\n")
    home.mkdir()
    words, there = [sys.executable, str(script)], os.path.realpath(home / "jobs" / "ship")
    said = [
        subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=True).stderr
        for cwd in (home, home, tmp_path)
    ]
    new = f"ship: a new job, {there}; the script is in {os.path.realpath(tmp_path)}\n"
    assert said == [new, "", ""]

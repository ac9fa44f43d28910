"""Starts and completions of many rows in one commit: the rules are those of single changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import astuple

from journal import InvalidStateTransition, JobRow, JobService, RowNotFoundError
from journal.format.records import A_RUN, UNSET_TIME, RowStatusRecord
from journal.format.size_limits import MAX_LINE_BYTES, MAX_USAGE_NAMES
from journal.store import bulk
from journal.store.batch import Batch
from journal.store.interrupted_rows import start_run


@pytest.fixture(name="service")
def fixture_service(tmp_path: Path) -> Iterator[JobService]:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Bulk", job_id="j")
        service.create_rows("j", ({"data": {"n": n}} for n in range(1, 6)))
        yield service


def started(service: JobService, numbers: Iterator[int], count: int = 1000) -> list[JobRow]:
    with Batch(service.store.journal("j")) as journal:
        return bulk.start_rows(journal, numbers, count, A_RUN)


def start(service: JobService, *numbers: int) -> list[int]:
    return [row.row_number for row in started(service, iter(numbers))]


def complete(service: JobService, *numbers: int, **members: Any) -> list[bool]:
    return service.store.journal("j").change(
        bulk.complete_rows,
        [
            RowStatusRecord(row=number, status="completed", at=UNSET_TIME, **members)
            for number in numbers
        ],
    )


def statuses(service: JobService) -> list[str]:
    return [str(row.status) for row in service.get_rows("j")]


def test_many_starts_and_completions_leave_what_single_ones_leave(tmp_path: Path) -> None:
    rows = []
    for name, is_bulk in (("bulk", True), ("single", False)):
        with JobService(tmp_path / name) as service:
            service.create_job("Bulk", job_id="j", key="n")
            service.create_rows("j", ({"data": {"n": f"é {n}"}} for n in range(1, 4)))
            start_run(service.store, "j", version="v2", keep=True)
            if is_bulk:
                rows_begun = started(service, iter((1, 2)), 2)
                complete(service, 1, 2, result=[1.5], cost_cents=2, usage=None)
            else:
                rows_begun = [service.start_row(f"j:{number}") for number in (1, 2)]
                for number in (1, 2):
                    service.complete_row(f"j:{number}", result=[1.5], cost_cents=2)
            rows += [(name, astuple(row)) for row in (*rows_begun, *service.get_rows("j"))]
            assert service.get_job_summary("j")["total_cost_cents"] == 4
    times = {5, 6, 16}  # created, updated and processed
    plain = [(name, [v for i, v in enumerate(values) if i not in times]) for name, values in rows]
    assert [values for name, values in plain if name == "bulk"] == [
        values for name, values in plain if name == "single"
    ]


def test_rows_that_may_not_start_are_left_out(service: JobService) -> None:
    service.skip_row("j:2")
    assert start(service, 1, 2, 1, 3) == [1, 3]
    assert statuses(service) == ["processing", "skipped", "processing", "pending", "pending"]
    assert [row.attempts for row in service.get_rows("j")] == [1, 0, 1, 0, 0]


def test_rows_that_were_read_are_not_those_that_are_added_later(service: JobService) -> None:
    rows = service.get_rows("j")
    columns = rows.view.columns
    service.create_rows("j", [{"data": {"n": 6}}])
    assert len(columns.statuses) == len(columns.row_offsets) == len(rows) == 5
    with JobService(service.root) as other:
        assert len(other.get_rows("j")) == 6


def test_no_row_starts_twice_or_after_the_callers_code_has_settled_it(service: JobService) -> None:
    kept: list[Any] = []

    def numbers() -> Iterator[int]:
        yield 1
        kept.append(service.get_rows("j"))  # these rows stay as they are
        service.skip_row("j:3")
        yield from (3, 2, 1, 2)

    with service.batch("j"):
        assert [row.row_number for row in started(service, numbers())] == [1, 2]
    assert statuses(service)[:3] == ["processing", "processing", "skipped"]


def test_a_start_after_a_change_of_the_callers_code_is_no_earlier_than_the_change(
    service: JobService,
) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        service.skip_row("j:3")
        yield 2

    with service.batch("j"):
        first, second = started(service, numbers())
    rows = service.get_rows("j")
    assert first.updated_at < rows[2].updated_at <= second.updated_at == rows[1].updated_at


def test_no_row_starts_in_a_job_that_has_ended_or_if_there_is_none(service: JobService) -> None:
    with pytest.raises(RowNotFoundError):
        start(service, 1, 6)
    assert statuses(service) == ["pending"] * 5
    service.update_status("j", "cancelled")
    with pytest.raises(InvalidStateTransition, match="can't be started"):
        start(service, 1)


def test_only_rows_in_processing_are_completed_and_the_others_stay(service: JobService) -> None:
    start(service, 1, 2, 3)
    service.fail_row("j:2", "E", "by a person")
    assert complete(service, 1, 2, 3, 4, 6) == [True, False, True, False, False]
    assert statuses(service) == ["completed", "failed", "completed", "pending", "pending"]


def test_a_row_with_steps_and_one_with_too_long_a_result_are_left_to_single_changes(
    service: JobService,
) -> None:
    start(service, 1, 2)
    service.begin_step("j:1", 1, "charge")
    assert complete(service, 1, 2) == [False, True]
    start(service, 3, 4)
    assert complete(service, 3, result="x" * MAX_LINE_BYTES) == [False]
    assert complete(service, 4, result="short") == [True]
    assert statuses(service)[2:4] == ["processing", "completed"]


def test_of_a_completion_that_is_too_long_among_others_nothing_is_written(
    service: JobService, tmp_path: Path
) -> None:
    start(service, 1, 2)
    path = tmp_path / "j" / "journal.jsonl"
    before = path.read_bytes()
    assert complete(service, 1, 2, result="x" * MAX_LINE_BYTES) == [False, False]
    assert path.read_bytes() == before


def test_new_usage_names_are_left_to_single_changes_which_count_them(service: JobService) -> None:
    start(service, 1, 2)
    assert complete(service, 1, usage={"tokens": 5}) == [False]
    service.complete_row("j:1", usage={f"t{n}": n for n in range(MAX_USAGE_NAMES)})
    assert complete(service, 2, usage={"t1": 4}) == [True]
    job = service.get_job("j")
    assert job is not None
    assert job.usage["t1"] == 5


def test_a_row_does_not_start_before_what_was_recorded_while_it_was_chosen(
    service: JobService, tmp_path: Path
) -> None:
    def admits(position: int, _data: dict[str, Any] | None) -> bool:
        service.skip_row(f"j:{position + 4}")
        return True

    with Batch(service.store.journal("j")) as opened:
        assert len(bulk.start_rows(opened, iter((1, 2)), 2, A_RUN, admits)) == 2
    times = re.findall(rb'"at":"(.*?)"', (tmp_path / "j" / "journal.jsonl").read_bytes())
    assert times == sorted(times)

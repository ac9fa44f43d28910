"""New rows: an iterable that uses the job, or its own dicts again, leaves what it has yielded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from journal import InvalidValueError, JobService

COUNT = 300


@pytest.fixture(name="service")
def fixture_service(tmp_path: Path) -> Iterator[JobService]:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("New rows", job_id="j")
        yield service


def numbered(count: int = COUNT) -> Iterator[dict[str, Any]]:
    return ({"data": {"n": number}} for number in range(1, count + 1))


def in_file(service: JobService) -> list[tuple[int, int]]:
    """The row numbers and data of all rows, as the next process reads them."""
    with JobService(service.root) as other:
        return [(row.row_number, row.data["n"]) for row in other.get_rows("j")]


def test_an_iterable_that_reads_the_job_finds_each_row_it_has_yielded(service: JobService) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(numbered(), 1):
            yield row
            if number % 7 == 0:
                found = service.get_row(f"j:{number}")
                assert found is not None
                assert found.data == row["data"]
                assert len(service.get_rows("j")) == number

    assert len(service.create_rows("j", rows())) == COUNT
    assert in_file(service) == [(n, n) for n in range(1, COUNT + 1)]


def test_an_iterable_that_completes_the_rows_that_it_has_yielded_leaves_them_completed(
    service: JobService,
) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(numbered(), 1):
            yield row
            if number % 50 == 0:
                service.complete_row(f"j:{number}")

    service.create_rows("j", rows())
    with JobService(service.root) as other:
        assert other.get_job_summary("j")["successful_rows"] == COUNT // 50
    assert in_file(service) == [(n, n) for n in range(1, COUNT + 1)]


def test_rows_that_the_iterable_adds_stand_between_those_it_yields(service: JobService) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for row in numbered(100):
            yield row
            if row["data"]["n"] in (10, 90):
                service.create_rows("j", [{"data": {"n": -row["data"]["n"]}}])

    service.create_rows("j", rows())
    wanted = [*range(1, 11), -10, *range(11, 91), -90, *range(91, 101)]
    assert in_file(service) == list(enumerate(wanted, 1))


@pytest.mark.parametrize("place", [1, 2, 64, 65, 66, 129, COUNT])
def test_the_error_names_the_element_of_the_iterable(service: JobService, place: int) -> None:
    rows: list[Any] = list(numbered())
    rows[place - 1] = {"row_number": "x"}
    with pytest.raises(InvalidValueError, match=f"row_data, element {place}: row_number"):
        service.create_rows("j", rows)
    assert in_file(service) == []


def test_a_bad_row_is_refused_before_the_next_one_is_taken(service: JobService) -> None:
    taken = []

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(1, 100):
            taken.append(number)
            yield {"data": {"n": number if number != 7 else float("nan")}}

    with pytest.raises(InvalidValueError, match="row 7"):
        service.create_rows("j", rows())
    assert taken == list(range(1, 8))


def test_a_row_yielded_inside_a_batch_of_the_iterable_is_refused(service: JobService) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"data": {"n": 1}}
        with suppress(KeyError), service.batch("j"):
            yield {"data": {"n": 2}}
            raise KeyError
        yield {"data": {"n": 3}}

    with pytest.raises(InvalidValueError, match="element 2"):
        service.create_rows("j", rows())
    assert in_file(service) == []
    service.create_rows("j", numbered(3))
    assert in_file(service) == [(1, 1), (2, 2), (3, 3)]

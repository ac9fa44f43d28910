"""The rows that a journal keeps for the next change are those that are in the file now."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from journal import JobService
from journal.fs import files
from journal.store.journal import SPILL_BYTES

JOB = "kept"


def rows(letter: str, count: int = 4) -> list[dict[str, dict[str, str]]]:
    return [{"data": {"text": letter * 8}} for _ in range(count)]


@pytest.mark.parametrize("in_place", [False, True])
def test_a_journal_that_another_copy_has_replaced_shows_the_rows_of_that_copy(
    tmp_path: Path, *, in_place: bool
) -> None:
    with JobService(tmp_path / "other") as other:
        other.create_job("Kept", job_id=JOB, row_data=rows("b"))
    with JobService(tmp_path / "here") as service:
        service.create_job("Kept", job_id=JOB, row_data=rows("a"))
        assert service.complete_row(f"{JOB}:1").data == {"text": "aaaaaaaa"}
        here, there = (tmp_path / name / JOB / "journal.jsonl" for name in ("here", "other"))
        if in_place:
            here.write_bytes(there.read_bytes())
        else:
            files.rename(there, here)  # replaces an open file on Windows, too
        assert [service.complete_row(f"{JOB}:{n}").data["text"][0] for n in (1, 2)] == ["b", "b"]


def test_rows_of_a_batch_that_was_discarded_are_not_kept(tmp_path: Path) -> None:
    class Discarded(Exception):
        pass

    many = SPILL_BYTES // 100  # they are written to the file before the batch ends
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Kept", job_id=JOB, row_data=rows("a"))
        with suppress(Discarded), service.batch(JOB):
            service.create_rows(JOB, rows("b", many))
            service.complete_row(f"{JOB}:4")
            raise Discarded
        service.create_rows(JOB, rows("c", many))
        assert service.complete_row(f"{JOB}:4").data == {"text": "aaaaaaaa"}
        assert service.complete_row(f"{JOB}:5").data == {"text": "cccccccc"}


def test_a_row_that_begins_an_open_batch_is_read_out_of_the_batch(tmp_path: Path) -> None:
    with JobService(tmp_path) as service:
        service.create_job("Kept", job_id=JOB, row_data=rows("a"))
        with service.batch(JOB):
            service.create_rows(JOB, rows("b"))
            assert service.complete_row(f"{JOB}:5").data == {"text": "bbbbbbbb"}


def test_a_number_of_a_batch_that_was_discarded_is_no_row(tmp_path: Path) -> None:
    def numbered(*numbers: int) -> list[dict[str, object]]:
        return [{"data": {"n": number}, "row_number": number} for number in numbers]

    with JobService(tmp_path) as service:
        service.create_job("Kept", job_id=JOB, row_data=numbered(5, 3))
        with suppress(ZeroDivisionError), service.batch(JOB):
            service.create_rows(JOB, numbered(1))
            raise ZeroDivisionError
        service.create_rows(JOB, numbered(2))
        assert service.get_row(f"{JOB}:1") is None

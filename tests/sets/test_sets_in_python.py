"""What Python programs do with a set of shards."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import journal
from journal import JobNotFoundError, JobService, Shard
from journal.sets import look_at_set
from journal.tables import export_rows

ROWS = [{"id": f"a{n}", "n": n} for n in range(1, 21)]


def run(root: Path, index: int, rows: Any = ROWS, key: str | None = "id") -> None:
    with journal.open_job(root / "ship", rows, key=key, shard=(index, 4)) as job:
        job.run(lambda row: row.data["n"], progress=False)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    """A store with the set ship, whose shard 3 isn't here."""
    for index in range(3):
        run(tmp_path, index)
    with JobService(tmp_path) as service:
        yield service


@pytest.mark.parametrize(
    "call",
    [
        JobService.get_job,
        JobService.get_rows,
        JobService.get_history,
        JobService.start_job,
        JobService.pause_job,
        JobService.artifacts_dir,
        JobService.delete_job,
        lambda service, name: service.create_rows(name, []),
        lambda service, name: journal.open_job(service.root / name),
    ],
)
def test_a_call_for_one_job_says_that_a_set_is_none(
    service: JobService, call: Callable[[JobService, str], object]
) -> None:
    with pytest.raises(JobNotFoundError, match=r"'ship' is a set of 4 shards: .*000-of") as info:
        call(service, "ship")
    assert (info.value.job_id, info.value.shard) == ("ship", "ship/000-of-004")
    assert not getattr(info.value, "__notes__", ())
    assert len(look_at_set(service, "ship").jobs) == 3


def test_rows_are_exported_at_their_places_if_the_order_of_the_input_has_changed(
    tmp_path: Path,
) -> None:
    new = [{"id": f"b{n}", "n": 100 + n} for n in range(1, 21)]
    for rows in (ROWS, [*new, *ROWS]):
        for index in range(4):
            run(tmp_path, index, rows)
    out = io.BytesIO()
    with JobService(tmp_path) as service:
        assert export_rows(service, "ship", out, "csv", columns=["place", "n"]) == 40
    exported = [tuple(map(int, line.split(b","))) for line in out.getvalue().split()[1:]]
    assert [place for place, _ in exported] == sorted([*range(1, 21), *range(1, 21)])
    assert {n: place for place, n in exported} == {n + e: n for n in range(1, 21) for e in (0, 100)}


def test_the_shards_of_a_set_are_listed_with_their_states_and_sums(service: JobService) -> None:
    service.create_job("Other", job_id="other")
    assert [job.id for job in service.list_jobs()] == ["other"]
    whole = look_at_set(service, "ship")
    assert [part.state for part in whole.parts] == [*["completed"] * 3, "absent"]
    assert (whole.state, whole.open_text, whole.job.total_rows) == ("pending", "3", len(ROWS))
    assert whole.jobs[2].shard == Shard(2, 4, ("id",))
    assert whole.jobs[2].input is not None
    assert whole.jobs[2].input.rows == len(ROWS)


def test_a_set_is_exported_by_its_name_and_a_shard_that_is_not_here_is_reported(
    service: JobService,
) -> None:
    with pytest.raises(JobNotFoundError, match="ship/003-of-004"):
        export_rows(service, "ship", io.BytesIO(), "csv")
    here = [job.id for job in look_at_set(service, "ship").jobs]
    assert 0 < export_rows(service, here, io.BytesIO(), "csv") < len(ROWS)
    run(service.root, 3)
    out = io.BytesIO()
    assert export_rows(service, "ship", out, "csv", columns=["n"]) == len(ROWS)
    numbers = [str(row["n"]).encode() for row in ROWS]
    assert out.getvalue().split() == [b"n", *numbers]
    service.create_job("Other", job_id="other", row_data=[{"data": {"n": 99}}])
    jobs, out = ["other", "ship", "other"], io.BytesIO()
    assert export_rows(service, jobs, out, "csv", columns=["n"]) == 2 + len(ROWS)
    assert out.getvalue().split() == [b"n", b"99", *numbers, b"99"]

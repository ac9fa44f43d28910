"""Shards on the disk: their directories, numbers and ids."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

import journal
from journal import InvalidValueError, JobService, RefusedError
from journal.ids import is_job_id, is_shard_id, shard_name, split_shard_name
from journal.repair.rebuild import repair_job
from journal.transfer.pack import pack_to_file, unpack_job
from journal.transfer.pull import pull_job
from journal.verify import verify_job

ROWS = [{"id": f"a{n}"} for n in range(12)]


def make(root: Path, index: int, count: int = 3) -> str:
    with journal.open_job(root / "ship", ROWS, shard=(index, count)) as job:
        return job.id


@pytest.mark.parametrize("name", ["0-of-3", "003-of-003", "0003-of-064", "03-of-64", "3-of-064"])
def test_only_one_spelling_names_a_shard(name: str) -> None:
    assert split_shard_name(name) is None
    assert is_job_id(name)
    assert not is_shard_id(f"ship/{name}")


@pytest.mark.parametrize(("index", "count"), [(0, 1), (63, 64), (7, 1000), (999_998, 999_999)])
def test_the_name_of_a_shard_is_no_jobs_id(index: int, count: int) -> None:
    name = shard_name(index, count)
    assert split_shard_name(name) == (index, count)
    assert not is_job_id(name)
    assert is_shard_id(f"ship/{name}")


def test_a_shard_takes_only_numbers_of_its_own(tmp_path: Path) -> None:
    job_id = make(tmp_path, 1)
    with JobService(tmp_path) as service:
        assert service.create_rows(job_id, [{"row_number": 20, "data": {}}])[0].id == "ship:20"
        assert service.create_rows(job_id, [{"data": {}}])[0].row_number == 23
        with pytest.raises(InvalidValueError, match="the numbers of this shard are 2, 5,"):
            service.create_rows(job_id, [{"row_number": 21, "data": {}}])


def test_a_row_of_a_set_is_found_and_changed_by_its_id(tmp_path: Path) -> None:
    ids = [make(tmp_path, index) for index in range(3)]
    with JobService(tmp_path) as service:
        service.start_row("ship:5")
        service.complete_row("ship:5", result="r")
        row = service.get_row("ship:5")
        assert row is not None
        assert (row.id, row.job_id, row.result) == ("ship:5", "ship", "r")
        assert [service.get_job_summary(job_id)["successful_rows"] for job_id in ids] == [0, 1, 0]
        service.delete_job(ids[1])
        assert service.get_row("ship:5") is None


def test_shards_that_are_made_at_once_make_one_set(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda index: make(tmp_path, index, 8), range(8)))
    assert sorted(path.name for path in (tmp_path / "ship").iterdir()) == [
        job_id.partition("/")[2] for job_id in made
    ]


def test_the_last_shard_takes_its_set_with_it_and_the_name_is_free_again(tmp_path: Path) -> None:
    ids = [make(tmp_path, index) for index in range(3)]
    with JobService(tmp_path) as service:
        for job_id in ids:
            assert service.delete_job(job_id)
        assert service.create_job("Ship", job_id="ship").id == "ship"


def test_a_shard_is_packed_unpacked_pulled_verified_and_repaired(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    job_id = make(here, 2)
    pack_to_file(here / job_id, tmp_path / "pack")
    assert unpack_job(there, tmp_path / "pack").job_id == job_id
    with JobService(here) as service:
        service.skip_row("ship:3")
    assert pull_job(there, here / job_id).action == "forwarded"
    assert verify_job(there / job_id).findings == []
    path = there / job_id / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"type":"job"', b'"type":"jab"', 1))
    repair_job(there / job_id)
    with JobService(there) as service:
        assert [row.id for row in service.get_rows(job_id)][:2] == ["ship:3", "ship:6"]


def test_only_a_start_makes_a_shard(tmp_path: Path) -> None:
    with JobService(tmp_path) as service, pytest.raises(InvalidValueError, match="open_job"):
        service.create_job("Ship", job_id="ship/000-of-002")
    assert list(tmp_path.iterdir()) == []


def test_a_merge_gives_a_row_of_the_other_copy_the_next_number_of_the_shard(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    mine = [
        key
        for n in range(40)
        if int(sha256(f'"{(key := f"k{n}")}"'.encode()).hexdigest(), 16) % 3 == 1
    ]
    for root, keys in (
        (here, mine[:3]),
        (there, mine[:3]),
        (here, mine[:4]),
        (there, [*mine[:3], mine[4]]),
    ):
        if root is there and not there.exists():
            shutil.copytree(here, there)
        with journal.open_job(root / "ship", [{"id": key} for key in keys], "id", shard=(1, 3)):
            pass
    pulled = pull_job(here, there / "ship" / "001-of-003", merge=True)
    assert pulled.merged is not None
    assert (pulled.merged.added, pulled.merged.renumbered) == ([14], {14: 11})
    with JobService(here) as service:
        rows = list(service.get_rows("ship/001-of-003"))
    assert [(row.row_number, row.data["id"], row.place) for row in rows[2:]] == [
        (8, mine[2], 3),
        (11, mine[3], 4),
        (14, mine[4], 4),
    ]
    assert rows[-1].idempotency_key == f"ship:id={mine[4]}"


@pytest.mark.parametrize("is_same", [True, False])
def test_a_row_that_both_copies_of_a_shard_without_a_key_have_added_keeps_its_place(
    tmp_path: Path, is_same: bool
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    job_id = make(here, 1)
    shutil.copytree(here, there)
    for root, new in (here, "x"), (there, "x" if is_same else "y"):
        rows = [*ROWS, {"id": "w"}, {"id": new}]
        with journal.open_job(root / "ship", rows, shard=(1, 3)) as job:
            job.service.complete_row("ship:14", new)
            if not is_same:
                job.service.complete_row("ship:5", new)
    if not is_same:
        reason = "different inputs .*: row 14 is another one.*; both copies have worked on row 5$"
        with pytest.raises(RefusedError, match=reason):
            pull_job(here, there / job_id, merge=True)
        return
    for into, copy in (here, there), (there, here):
        merged = pull_job(into, copy / job_id, merge=True).merged
        assert merged is not None
        assert (merged.added, merged.review, merged.twice) == ([], [14], [14])
    with JobService(here) as service:
        assert [row.row_number for row in service.get_rows(job_id)] == [2, 5, 8, 11, 14]

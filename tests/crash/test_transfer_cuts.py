"""A power cut in the middle of a pull, an unpack or a prune: nothing is lost or half there.

The tests try a sample of the states. This command tries all states:
``LONG=1 python -m pytest tests/crash/test_transfer_cuts.py``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from crash.disk import distinct_crash_states
from crash.explore import place
from crash.recorder import STORE, record
from crash.scenarios import Acknowledge, Scenario
from support.children import journal_path
from support.copies import JOB, go_on, make_job, packed, put_artifact
from support.effort import sample
from support.memory import fast_directory
from support.platforms import needs_directory_syncs

from journal import JobPrunedError, JobService
from journal.transfer import prune_jobs, pull_job, unpack_job
from journal.transfer.copies import open_copy
from journal.transfer.pack import Source
from journal.verify import verify_job

pytestmark = needs_directory_syncs


@pytest.fixture(name="base", scope="module")
def fixture_base() -> Iterator[Path]:
    base = fast_directory("crash-")
    yield base
    shutil.rmtree(base)


@pytest.fixture(name="other", scope="module")
def fixture_other(base: Path) -> Path:
    """The other machine: the same job, further on."""
    make_job(base / "before", 6)
    put_artifact(base / "before", "2.pdf", b"ours" * 300)
    shutil.copytree(base / "before", base / "other")
    put_artifact(base / "other", "2.pdf", b"theirs" * 300)
    go_on(base / "other", 3, 4)
    put_artifact(base / "other", "x/3.pdf", b"label" * 300)
    packed(base / "other", base / "pack")
    return base / "other"


@pytest.mark.parametrize("way", ["forwarded", "merged", "a pack", "made", "unpacked"])
def test_after_a_power_cut_at_any_moment_the_job_is_as_before_or_as_pulled(
    base: Path,
    other: Path,
    way: str,
    count: Callable[[str, int], None],
) -> None:
    def prepare(root: Path) -> None:
        root.mkdir(parents=True)
        if way not in ("made", "unpacked"):
            shutil.copytree(base / "before" / JOB, root / JOB)
        if way == "merged":
            go_on(root, 5)

    def act(root: Path, acknowledge: Acknowledge) -> None:
        if way == "unpacked":
            unpack_job(root, Source(base / "pack"))
        else:
            source = base / "pack" if way == "a pack" else other / JOB
            pull_job(root, Source(source), merge=way == "merged")
        acknowledge()

    directory = base / way
    directory.mkdir()
    recording = record(Scenario(way, prepare, act), directory)
    after = journal_path(directory / STORE, JOB).read_bytes()
    states = sample(distinct_crash_states(recording, Random(1), 20), 200)
    for cut, tree in states:
        root = base / "state"
        place(root, tree)
        store = root / STORE
        if way in ("made", "unpacked") and not (store / JOB).exists():
            assert not cut.acknowledged
        else:
            check(store, after, cut.acknowledged, PUT_BY.get(way, PUT_BY["a pack"]))
        shutil.rmtree(root)
    assert len(states) > 20
    count("disk states that a power cut leaves of a pull", len(states))


def test_after_a_power_cut_at_any_moment_of_a_prune_the_job_is_there_or_known_to_be_pruned(
    base: Path, other: Path, count: Callable[[str, int], None]
) -> None:
    def prepare(root: Path) -> None:
        root.mkdir(parents=True)
        shutil.copytree(other / JOB, root / JOB)
        with JobService(root) as service:
            service.update_status(JOB, "cancelled")

    def act(root: Path, acknowledge: Acknowledge) -> None:
        later = datetime.now(UTC) + timedelta(days=1)
        assert [pruned.action for pruned in prune_jobs(root, later)] == ["deleted"]
        acknowledge()

    directory = base / "pruned"
    directory.mkdir()
    recording = record(Scenario("pruned", prepare, act), directory)
    states = sample(distinct_crash_states(recording, Random(1), 20), 200)
    there = 0
    for cut, tree in states:
        root = base / "state"
        place(root, tree)
        store = root / STORE
        if (store / JOB).exists():
            assert not cut.acknowledged
            assert verify_job(store / JOB).findings == []
            there += 1
        else:
            with JobService(store, sync="none") as service, pytest.raises(JobPrunedError):
                service.create_job("Anew", job_id=JOB)
        shutil.rmtree(root)
    assert 0 < there < len(states)
    count("disk states that a power cut leaves of a prune", len(states))


# What the artifact that both have is called, and what is beside it.
PUT_BY = {
    "merged": {"2.pdf": b"ours" * 300, "2.pdf.other-1": b"theirs" * 300},
    "made": {"2.pdf": b"theirs" * 300},
    "unpacked": {"2.pdf": b"theirs" * 300},
    "a pack": {"2.pdf": b"theirs" * 300, "2.pdf.before-1": b"ours" * 300},
}


def check(store: Path, after: bytes, acknowledged: int, put_by: dict[str, bytes]) -> None:
    assert not verify_job(store / JOB).damaged
    end = open_copy(store / JOB).end.offset
    found = journal_path(store, JOB).read_bytes()[:end]
    assert after.startswith(found)
    artifact = store / JOB / "artifacts" / "x" / "3.pdf"
    both = {path.name: path.read_bytes() for path in artifact.parents[1].glob("2.*")}
    assert found != after or both == put_by
    if len(put_by) == 2:
        assert b"ours" * 300 in both.values()
        assert set(both.values()) <= set(put_by.values())
    if acknowledged:
        assert found == after
    if found == after:
        assert artifact.read_bytes() == b"label" * 300
        if b'"type":"merge"' in after:
            (other,) = (store / JOB).glob("journal.other-*")
            assert b'"T-4"' in other.read_bytes()
    elif artifact.exists():
        assert artifact.read_bytes() == b"label" * 300
    with JobService(store, sync="none") as service:
        service.complete_row(f"{JOB}:6")
    assert verify_job(store / JOB).findings == []

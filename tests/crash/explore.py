"""Opens the states that power cuts may leave, and checks that nothing is lost and work goes on.

As a command, this module checks more states than the tests do, and other states with each seed::

    python tests/crash/explore.py --states 200000 --seed 7
    python tests/crash/explore.py --seed 7 "create job"       only cases whose name has this text
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from random import Random
from time import monotonic
from types import SimpleNamespace
from typing import Any, NamedTuple
from zlib import crc32

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from crash.disk import Cut, crash_states
from crash.recorder import STORE, Recording, Tree, record
from crash.scenarios import (
    JOB,
    REPAIRS,
    SCENARIOS,
    SMALL_HINTS,
    SMALL_SPILLS,
    Scenario,
    make_shard,
    repair,
)
from support.memory import fast_directory
from support.system_os import SYSTEM_OS

import journal.fs.system
import journal.index.hint
import journal.store.journal
from journal import Job, JobRow, JobService
from journal.ids import is_job_id, is_shard_id
from journal.repair import repair_job
from journal.verify import verify_job

JOURNAL_NAME = "journal.jsonl"
SEAL_BYTES = 18
OF_MEGABYTES = frozenset({"streamed create_rows", "discarded batch"})
REPAIRED = f"{STORE}/{JOB}/{JOURNAL_NAME}"  # by the cases of repairs
SMALL_SPILL_BYTES = 4096  # so that a few small rows exceed the buffer of a commit

Check = Callable[[Path, Tree, Cut], None]
Known = tuple[Job | None, Any, list[JobRow], list[Any]]


class Case(NamedTuple):
    """A recorded scenario. ``check`` is called with each state on the disk."""

    name: str
    recording: Recording
    check: Check
    draws: int  # random states of each cut at each grain


def record_all(base: Path, draws: int) -> list[Case]:
    cases = [
        _record(scenario, base, 10 if scenario.name in OF_MEGABYTES else draws)
        for scenario in SCENARIOS
    ]
    cases += [_record(scenario, base, draws, check_repair) for scenario in REPAIRS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.store.journal, "SPILL_BYTES", SMALL_SPILL_BYTES)
        cases += [_record(scenario, base, draws) for scenario in SMALL_SPILLS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.index.hint, "MIN_BYTES", 1500)
        patch.setattr(journal.index.hint, "GROWTH_BYTES", 1)
        cases += [_record(scenario, base, draws // 10) for scenario in SMALL_HINTS]
    return cases


def _record(scenario: Scenario, base: Path, draws: int, check: Check | None = None) -> Case:
    directory = base / scenario.name
    directory.mkdir()
    return Case(scenario.name, record(scenario, directory), check or check_service, draws)


def explore(case: Case, base: Path, seed: int, states: set[int], share: float = 1) -> None:
    """Check each distinct state of the case, or a random ``share`` of them.

    ``states`` has the checked states, since a state may be right at one moment, or in one case, and
    wrong if more was acknowledged. In some of the checked states, something must be missing.
    """
    chance = Random(seed)
    about = case.name, _digest(case.recording.before.tree())
    met = set(states)
    lacking = 0
    for cut, tree in crash_states(case.recording, Random(seed), case.draws):
        lacks = tree != cut.views[-1]
        state = hash((about, cut.acknowledged, _digest(tree)))
        if state in met:
            lacking += lacks and state in states
            continue
        met.add(state)
        if chance.random() >= share and (lacking or not lacks):
            continue
        place(base, tree)
        try:
            with pytest.MonkeyPatch.context() as patch:
                if any(path.endswith("/index.hint") for path in tree):
                    patch.setattr(journal.fs.system, "os", AfterTheCut(base))
                case.check(base, tree, cut)
        except Exception as error:
            error.add_note(_describe(case, tree, cut, seed))
            raise
        finally:
            shutil.rmtree(base)
        states.add(state)
        lacking += lacks
    assert lacking, f"{case.name!r}, seed {seed}: no cut takes anything away"


def recoveries(case: Case, base: Path, seed: int, count: int) -> Iterator[Case]:
    """Recordings of the recovery of ``count`` states of the case, to be cut in their turn.

    If possible, half of the states have a tail that is no commit.
    """
    draw = Random(seed)
    torn: list[tuple[Cut, Tree]] = []
    others: list[tuple[Cut, Tree]] = []
    met: set[int] = set()
    for cut, tree in crash_states(case.recording, draw, min(case.draws, 20)):
        digest = _digest(tree)
        if digest in met:
            continue
        met.add(digest)
        kept, seen = (torn, len(met)) if has_tail(tree) else (others, len(met))
        if len(kept) < count:
            kept.append((cut, tree))
        elif (place_of := draw.randrange(seen)) < count:
            kept[place_of] = (cut, tree)
    half = max(count // 2, count - len(others))
    for cut, tree in [*torn[:half], *others[: count - len(torn[:half])]]:
        place(base, tree)
        is_damaged = case.check is check_repair and tree[REPAIRED] == cut.first[REPAIRED]
        act = repair if is_damaged else go_on
        recording = record(Scenario(f"recovery after {case.name}", keep_all, act), base)
        shutil.rmtree(base)
        check = check_repair if is_damaged else check_service
        yield Case(f"recovery after {case.name}", recording, check, 2)


def explore_recoveries(
    case: Case, base: Path, seed: int, count: int, states: set[int], share: float = 1
) -> None:
    """Cut ``count`` recoveries of the case, and the recoveries of what that leaves, two of each."""
    for first in recoveries(case, base, seed, count):
        explore(first, base, seed, states, share)
        for second in recoveries(first, base, seed, 2):
            explore(second, base, seed, states, share)


def keep_all(root: Path) -> None:
    """The state after a power cut is durable."""


def go_on(root: Path, acknowledge: Callable[[], None]) -> None:
    """Add a row to each job, or make a job if there is none."""
    with JobService(root) as service:
        job_ids = ids_in(service)
        for job_id in job_ids:
            add_row(service, job_id)
            acknowledge()
        if not job_ids:
            service.create_job("Made", job_id="made")
            acknowledge()


def ids_in(service: JobService) -> list[str]:
    """The ids of all jobs and shards."""
    store = service.store
    shards = (shard_id for set_id in store.set_ids() for shard_id in store.shards(set_id))
    return [*store.job_ids(), *shards]


def add_row(service: JobService, job_id: str) -> None:
    with service.batch(job_id):
        if is_over(service.get_job(job_id)):
            service.reopen_job(job_id)
        service.create_rows(job_id, [{"data": {"after": "the cut"}}])


def has_tail(tree: Tree) -> bool:
    return any(content != whole_commits(content) for content in journals(tree).values())


def _digest(tree: Tree) -> int:
    return hash(frozenset(tree.items()))  # of a content that trees share, made once


def place(base: Path, tree: Tree) -> None:
    """Make ``base`` a directory that holds the tree."""
    base.mkdir()
    for path in sorted(tree):  # a directory comes before what is in it
        content = tree[path]
        if content is None:
            (base / path).mkdir(mode=0o700)
        else:
            (base / path).write_bytes(content)


class AfterTheCut:
    """Replaces ``journal.fs.system.os``, as if the system was started anew on the same disk.

    Each journal looks like the file from which its hint was made, with the time of the last change
    in the hint. The hint doesn't look like a copy. So no hint is ignored only because the files
    were made just now.
    """

    boot_id = b"after the cut\n"

    def __init__(self, base: Path) -> None:
        self._files: dict[int, tuple[int, int]] = {}
        self._asking: set[int] = set()
        for hint in base.rglob("index.hint"):
            found = re.search(
                rb'"own_inode":(\d+),"inode":(\d+),"changed_ns":(\d+),', hint.read_bytes()
            )
            path = hint.with_name(JOURNAL_NAME)
            if found and path.exists():
                self._files[path.stat().st_ino] = (int(found[2]), int(found[3]))
                self._files[hint.stat().st_ino] = (int(found[1]), 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(SYSTEM_OS, name)

    def stat(self, path: str | Path, *, dir_fd: int | None = None) -> Any:
        return self._as_it_was(os.stat(path, dir_fd=dir_fd))

    def fstat(self, fd: int) -> Any:
        return self._as_it_was(os.fstat(fd))

    def _as_it_was(self, stat: os.stat_result) -> Any:
        if stat.st_ino not in self._files:
            return stat
        inode, changed_ns = self._files[stat.st_ino]
        members = {name: getattr(stat, name) for name in dir(stat) if name.startswith("st_")}
        return SimpleNamespace(**members | {"st_ino": inode, "st_ctime_ns": changed_ns})

    def open(self, path: str | Path, flags: int, mode: int = 0o777, **options: int) -> int:
        fd = os.open(path, flags, mode, **options)
        if Path(path).name == "boot_id":
            self._asking.add(fd)
        return fd

    def read(self, fd: int, length: int) -> bytes:
        if fd in self._asking:
            self._asking.remove(fd)
            return self.boot_id
        return os.read(fd, length)


def _describe(case: Case, tree: Tree, cut: Cut, seed: int) -> str:
    operations = case.recording.operations
    near = [str(operation)[:100] for operation in operations[max(0, cut.after - 6) : cut.after]]
    lines = [f"{case.name!r}, seed {seed}: cut after operation {cut.after} of {len(operations)}:"]
    lines += ["  ...", *(f"  {one}" for one in near), "which left:"]
    for path, content in sorted(tree.items()):
        lines.append(f"  {path}" + ("/" if content is None else f" {len(content)} bytes"))
    return "\n".join(lines)


# --- what each state must stand --------------------------------------------------------------


@lru_cache(maxsize=256)
def whole_commits(content: bytes) -> bytes:
    """The whole commits at the beginning, by the specification instead of our reader."""
    crc = start = end = 0
    while (lf := content.find(b"\n", start)) >= 0:
        line = content[start:lf]
        seal = line[-SEAL_BYTES:]
        if seal.startswith(b',"crc":"') and seal.endswith(b'"}'):
            crc = crc32(line[:-SEAL_BYTES], crc)
            if seal[8:16] != b"%08x" % crc:
                break
            end = lf + 1
        else:
            crc = crc32(line + b"\n", crc)
        start = lf + 1
    return content[:end]


def journals(tree: Tree) -> dict[str, bytes]:
    """The content of each job's journal, by the job's id."""
    found = {}
    for path, content in tree.items():
        directory, _, name = path.rpartition("/")
        job_id = directory.removeprefix(f"{STORE}/")
        is_id = job_id != directory and (is_job_id(job_id) or is_shard_id(job_id))
        if content is not None and name == JOURNAL_NAME and is_id:
            found[job_id] = content
    return found


def expected(cut: Cut) -> dict[str, set[bytes | None]]:
    """The possible states of each job, which are its states between the last acknowledgement and
    the cut.

    A state is the commits of the job, or None if the job wasn't there.
    """
    moments = [journals(view) for view in cut.views]
    ids = {job_id for moment in moments for job_id in moment}
    return {
        job_id: {whole_commits(moment[job_id]) if job_id in moment else None for moment in moments}
        for job_id in ids
    }


def check_service(base: Path, tree: Tree, cut: Cut) -> None:
    """Everything acknowledged is there, nothing partial is visible, and work goes on as usual."""
    root = base / STORE
    found = {job_id: whole_commits(content) for job_id, content in journals(tree).items()}
    allowed = expected(cut)
    assert not found.keys() - allowed.keys(), "a job is there that was deleted"
    for job_id, contents in allowed.items():
        assert found.get(job_id) in contents, (
            f"{job_id}: {_in_words(found.get(job_id))}, and not one of "
            f"{[_in_words(content) for content in contents]}"
        )
    with JobService(root, sync="none") as service:
        assert set(ids_in(service)) == found.keys()
        for job_id, content in found.items():
            assert ask(service, job_id) == known_of(job_id, content)
        for job_id in [*(allowed.keys() - found.keys()), "next"]:
            assert service.get_job(job_id) is None
            if "/" in job_id:
                make_shard(root, job_id)
            else:
                service.create_job("Next", job_id=job_id)
        for job_id in found:
            add_row(service, job_id)
    assert list((root / ".staging").iterdir()) == []
    for job_id, content in found.items():
        _check_went_on(root, job_id, content)
    for job_id in {*allowed, "next"}:
        assert verify_job(root / job_id).findings == []
    _check_tails_are_kept(root, cut.first, tree)


def check_repair(base: Path, tree: Tree, cut: Cut) -> None:
    """The journal is the damaged journal to the last byte, or the repaired journal with the damaged
    journal beside it.
    """
    directory = base / STORE / JOB
    damaged = cut.first[REPAIRED]
    if tree[REPAIRED] == damaged:
        assert not cut.acknowledged, "the repaired journal is gone"
        assert verify_job(directory).damaged
        repair_job(directory)
        assert verify_job(directory).findings == []
    else:
        assert tree[f"{STORE}/{JOB}/journal.damaged-1"] == damaged
        check_service(base, tree, cut._replace(first=tree))
    assert {one.name for one in directory.iterdir() if one.name.startswith(".")} <= {".repair"}


def is_over(job: Job | None) -> bool:
    return job is not None and job.status.is_ended


def _check_went_on(root: Path, job_id: str, content: bytes) -> None:
    """The new commit follows what was there, byte by byte, and another service sees it."""
    after = (root / job_id / JOURNAL_NAME).read_bytes()
    assert after.startswith(content)
    assert whole_commits(after) == after
    job, summary_before, rows_before, steps_before = known_of(job_id, content)
    assert len(after[len(content) :].splitlines()) == 1 + is_over(job)
    with JobService(root, sync="none") as service:
        _, summary, rows, steps = ask(service, job_id)
    assert rows[:-1] == rows_before
    assert steps == [*steps_before, ()]
    assert rows[-1].data == {"after": "the cut"}
    assert summary["total_rows"] == summary_before["total_rows"] + 1


def _check_tails_are_kept(root: Path, before: Tree, tree: Tree) -> None:
    """The bytes after the last whole commit, at first and after the cut, are in a file of their
    own.
    """
    for moment in (before, tree):
        for job_id, content in journals(moment).items():
            tail = content[len(whole_commits(content)) :]
            if tail and job_id in journals(tree):
                saved = (root / job_id).glob("journal.torn-*")
                assert tail in [path.read_bytes() for path in saved], f"{len(tail)} bytes are lost"


def _in_words(content: bytes | None) -> str:
    return "no journal" if content is None else f"{len(content)} bytes of whole commits"


def ask(service: JobService, job_id: str) -> Known:
    """All that a service says of a job."""
    rows = list(service.get_rows(job_id))
    steps = [service.get_steps(row.id) for row in rows]
    return service.get_job(job_id), service.get_job_summary(job_id), rows, steps


@lru_cache(maxsize=32)
def known_of(job_id: str, content: bytes) -> Known:
    """The answers of a service about a job that was never in danger."""
    base = fast_directory("crash-")
    try:
        path = base / job_id / JOURNAL_NAME
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        with JobService(base, sync="none") as service:
            return ask(service, job_id)
    finally:
        shutil.rmtree(base)


# --- the command -----------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="See what the tests of crash states see, longer.")
    parser.add_argument("words", nargs="*", help="only cases whose name contains one")
    parser.add_argument(
        "--states",
        type=int,
        help="how many distinct states, in whole rounds (200,000; of chosen cases, one round)",
    )
    parser.add_argument(
        "--recoveries", type=int, default=20, help="of each case and seed: cut again, and once more"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    arguments = parser.parse_args()
    began_s = monotonic()
    seed, count = arguments.seed, 0
    base = fast_directory("crash-")
    try:
        words = arguments.words or [""]
        cases = [
            (case, set[int]())
            for case in record_all(base, draws=1000)
            if any(word in case.name for word in words)
        ]
        if not cases:
            parser.error(f"no case has a name with one of {words}")
        wanted = arguments.states or (1 if arguments.words else 200_000)
        while count < wanted:
            for case, states in cases:
                try:
                    explore(case, base / "state", seed, states)
                    explore_recoveries(case, base / "state", seed, arguments.recoveries, states)
                except Exception as error:
                    again = f"--seed {seed} --recoveries {arguments.recoveries} '{case.name}'"
                    error.add_note(f"the same again: python tests/crash/explore.py {again}")
                    raise
                spent_s = monotonic() - began_s
                sys.stdout.write(f"  {case.name}: {len(states)} states, {spent_s:.0f} s\n")
                sys.stdout.flush()
            count = sum(len(states) for _, states in cases)
            spent_s = monotonic() - began_s
            sys.stdout.write(f"seed {seed}: {count} distinct states, {spent_s:.0f} s\n")
            seed += 1
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()

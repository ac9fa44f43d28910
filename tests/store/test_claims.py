"""Claims on network file systems: one node at a time has a job, whatever its locks are worth."""

from __future__ import annotations

import errno
import inspect
import itertools
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from support.commands import journal as command
from support.effort import IS_LONG
from support.nodes import OsOfNode, separate_locks, two_mounts
from support.platforms import needs_fifos, needs_flock, needs_links

import journal
from journal import (
    CommitOutcomeUnknownError,
    InvalidValueError,
    JobBusyError,
    JobLockedError,
    JobService,
    JournalDamagedError,
    JournalError,
    StorageError,
)
from journal.fs import network_claims, system
from journal.fs.handles import Descriptor
from journal.fs.locks import DirectoryLock
from journal.repair import repair_job
from journal.store import run_lock
from journal.store.run_lock import Held
from journal.verify import verify_job

pytestmark = needs_flock  # on Windows, no job is claimed unless a variable forces it

Nodes = tuple[JobService, JobService]
NO_CALLS = [
    "close",
    "fspath",
    "getcwd",
    "geteuid",
    "getpid",
    "getuid",
    "major",
    "minor",
    "strerror",
    "uname",
    "urandom",
]


@pytest.fixture(name="paths")
def fixture_paths(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    with two_mounts(tmp_path) as paths:
        yield paths


@pytest.fixture(name="directories_apart")
def fixture_directories_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The locks of directories reach nobody on the other node, as on NFS; those of files do."""
    monkeypatch.setenv("JOURNAL_NETWORK", "1")
    separate_locks(monkeypatch.setattr, tmp_path / "locks", _node_of, DirectoryLock)


@pytest.fixture(name="apart")
def fixture_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lock reaches the other node."""
    monkeypatch.setenv("JOURNAL_NETWORK", "1")
    separate_locks(monkeypatch.setattr, tmp_path / "locks", _node_of)


def _node_of(path: Path) -> str:
    return next((part for part in path.parts if part.startswith("node-")), "")


@pytest.fixture(name="nodes")
def fixture_nodes(paths: tuple[Path, Path]) -> Iterator[Nodes]:
    with JobService(paths[0] / "jobs", sync="none") as a, JobService(paths[1] / "jobs") as b:
        a.create_job("j", job_id="j", row_data=[{"data": {"k": k}} for k in range(3)])
        yield a, b


def claims_of(service: JobService) -> list[str]:
    return sorted(os.listdir(service.root / "j" / "claims"))


def at_call(
    monkeypatch: pytest.MonkeyPatch, name: str, which: Callable[..., bool], call: Callable[[], Any]
) -> None:
    """Before the first call of ``system.os.NAME`` with such arguments, ``call()`` happens."""
    real, left = getattr(os, name), [call]

    def instead(*arguments: Any, **options: Any) -> Any:
        if left and which(*arguments):
            left.pop()()
        return real(*arguments, **options)

    class Os:
        def __getattr__(self, attribute: str) -> Any:
            return instead if attribute == name else getattr(os, attribute)

    monkeypatch.setattr(system, "os", Os())


@pytest.mark.usefixtures("directories_apart")
def test_while_the_lock_of_a_claim_reaches_the_other_node_no_run_starts_there(nodes: Nodes) -> None:
    a, b = nodes
    a.start_job("j")
    for refused in (b.start_job, b.delete_job):
        with pytest.raises(JobBusyError) as busy:
            refused("j")
        assert busy.value.pid == os.getpid()
    assert b.run_holder("j") == a.run_holder("j")
    a.update_status("j", "paused")
    assert b.run_holder("j") is None
    inode = os.stat(b.root / "j/journal.jsonl").st_ino
    b.start_job("j")
    assert claims_of(b) == ["000002"]
    same = os.stat(b.root / "j/journal.jsonl").st_ino == inode
    assert same, "a run that has ended writes no more"


@pytest.mark.usefixtures("directories_apart")
def test_a_job_is_not_deleted_though_a_cached_list_lacks_the_claim_of_its_run(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = nodes
    b.start_job("j")
    b.update_status("j", "paused")
    os_of_b = OsOfNode(b.root / "j/claims")
    assert [name.name for name in os_of_b.scandir(b.root / "j/claims")] == ["000001"]
    a.start_job("j")
    monkeypatch.setattr(system, "os", os_of_b)
    with pytest.raises(JobBusyError):
        b.delete_job("j")


@pytest.mark.usefixtures("apart")
def test_a_run_whose_job_another_has_claimed_starts_and_records_nothing_more(nodes: Nodes) -> None:
    a, b = nodes
    a.start_job("j")
    a.start_row("j:1")
    assert b.start_job("j", "review").needs_review_count == 1
    b.start_row("j:2")
    calls: list[Callable[[], object]] = [
        lambda: a.start_row("j:2"),
        lambda: a.complete_row("j:1", "T-1"),
        lambda: a.begin_step("j:1", 1, "charge"),
        lambda: a.get_job("j"),
        lambda: a.update_status("j", "paused"),
    ]
    for call in calls:
        with pytest.raises(StorageError, match="another run has claimed the job"):
            call()
    a.close()
    assert b.complete_row("j:2", "T-2").status == "completed"
    assert [row.status for row in b.get_rows("j")] == ["needs_review", "completed", "pending"]
    assert not verify_job(b.root / "j").findings
    assert claims_of(b) == ["000002"]


@pytest.mark.parametrize(("name", "there"), [("write", "pending"), ("fdatasync", "needs_review")])
@pytest.mark.usefixtures("apart")
def test_a_start_is_not_acknowledged_if_another_run_claims_the_job_during_its_commit(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, name: str, there: str
) -> None:
    a, b = nodes
    a.start_job("j")
    a.start_row("j:1")
    at_call(monkeypatch, name, lambda *_: True, lambda: b.start_job("j"))
    with pytest.raises(CommitOutcomeUnknownError, match="another run has claimed the job"):
        a.start_row("j:2")
    assert [row.status for row in b.get_rows("j")] == ["needs_review", there, "pending"]
    assert not verify_job(b.root / "j").findings


@pytest.mark.usefixtures("apart")
def test_a_run_whose_claim_is_gone_has_lost_the_job(nodes: Nodes) -> None:
    a, _ = nodes
    a.start_job("j")
    os.unlink(a.root / "j/claims/000001")
    with pytest.raises(CommitOutcomeUnknownError, match="its claim is gone"):
        a.start_row("j:1")


@pytest.mark.parametrize("name", ["open", "rename"])
@pytest.mark.usefixtures("apart")
def test_a_run_that_was_frozen_while_it_took_the_job_over_replaces_no_later_journal(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    a, b = nodes
    with JobService(a.root) as dead:
        dead.start_job("j")
        dead.start_row("j:1")
        dead.store.reset_after_fork()  # its locks are free, and nothing was said
    at_call(
        monkeypatch,
        name,
        lambda path, *_: str(path).endswith("node-a/jobs/j/claims/000002.new"),
        lambda: (b.start_job("j"), b.start_row("j:2"), b.complete_row("j:2", "T-2")),
    )
    with pytest.raises(StorageError):
        a.start_job("j")
    assert b.get_row("j:2") == b.get_rows("j")[1]
    assert b.get_rows("j")[1].tracking_number == "T-2"
    assert b.start_row("j:3").status == "processing"
    assert not verify_job(b.root / "j").findings


@pytest.mark.usefixtures("apart")
def test_of_runs_that_claim_a_job_at_the_same_time_one_has_it(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = nodes
    at_call(monkeypatch, "fsync", lambda _fd: bool(claims_of(a)), lambda: b.start_job("j"))
    with pytest.raises(JobBusyError):
        a.start_job("j")
    assert b.start_row("j:1").status == "processing"
    assert claims_of(b) == ["000002"]


@pytest.mark.usefixtures("apart")
def test_a_run_that_signs_its_claim_while_another_makes_one_writes_to_another_file(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, b = nodes
    first = b.root / "j/claims/000001"
    first.parent.mkdir()
    first.touch()
    at_call(
        monkeypatch,
        "open",
        lambda path, *_: str(path).endswith("claims/000002"),
        lambda: first.write_text("the run of node-a"),
    )
    before = os.stat(b.root / "j/journal.jsonl").st_ino
    b.start_job("j")
    assert os.stat(b.root / "j/journal.jsonl").st_ino != before


@pytest.mark.usefixtures("apart")
def test_a_claim_is_locked_though_another_process_looks_at_its_lock(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = nodes
    refused = [True]
    try_lock = Descriptor.try_lock

    def at_second_try(file: Descriptor) -> bool:
        is_claim = file.path.parent.name == "claims"
        return not (is_claim and refused and refused.pop()) and try_lock(file)

    monkeypatch.setattr(Descriptor, "try_lock", at_second_try)
    a.start_job("j")
    assert not refused
    with closing(Descriptor(a.root, os.open(a.root / "j/claims/000001", os.O_RDWR))) as claim:
        assert claim.is_held()


@pytest.mark.usefixtures("apart")
def test_the_number_of_a_run_that_has_replaced_the_journal_is_never_used_again(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = nodes
    a.start_job("j")
    with monkeypatch.context() as patch:
        patch.setattr(run_lock, "_write", fail)
        with pytest.raises(KeyboardInterrupt):
            b.start_job("j")
    b.start_job("j")
    with pytest.raises(StorageError, match="another run has claimed the job"):
        a.start_row("j:1")
    assert claims_of(b) == ["000003"]


def fail(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("apart")
def test_what_rows_return_to_a_run_that_has_lost_its_job_is_left_for_people(
    paths: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    calls = list[str]()
    with JobService(paths[1] / "jobs") as b:

        def handle(row: journal.AttemptedRow) -> str:
            calls.append(f"a {row.data['k']}")
            if row.data["k"] == 2:
                b.start_job("j")
                b.start_row("j:4")
            return f"sent {row.data['k']}"

        with journal.open_job(paths[0] / "jobs/j", [{"k": k} for k in range(1, 6)], key="k") as job:
            report = job.run(handle, workers=1)
            assert job.service.store.runs.claim("j") is None
        assert "another run has claimed the job" in str(report.reason)
        assert [row.status for row in b.get_rows("j")][:2] == ["completed", "needs_review"]
        assert b.get_rows("j")[3].status == "processing"
        late = b.root / "j/claims/000001.late"
        lines = [json.loads(line) for line in late.read_text().splitlines()]
        assert [(line["row"], line["kind"], line["result"]) for line in lines] == [
            (2, "completed", "sent 2")
        ]
        assert calls == ["a 1", "a 2"]
        assert not (b.root / "j/index.hint").exists()  # who has lost the job leaves none
        b.update_status("j", "paused")
    shown = command("--root", str(paths[1] / "jobs"), "show", "j").stdout
    assert str(late) in shown
    pack = ("--root", str(paths[1] / "jobs"), "pack", "j", "-o", str(paths[0] / "j.tar.gz"))
    assert command(*pack).stderr.count(".late") == 1
    said = capsys.readouterr().err
    assert f"only if no other run works on it: journal --root {paths[0]}/jobs show j\n" in said
    assert f"{paths[0]}/jobs/j/claims/000001.late has results of rows from" in said
    assert "to continue" not in said
    with journal.open_job(paths[1] / "jobs/j", key="k") as job:
        job.run(str, workers=1)
    assert capsys.readouterr().err.count(f"{late} has results of rows from") == 1


def test_a_command_that_has_lost_its_job_says_so_last_and_gives_no_line_to_start_again(
    tmp_path: Path,
) -> None:
    root, claim = tmp_path / "jobs", "jobs/j/claims/000002"
    lost = command(
        *("--root", str(root), "run", "-", "--lines", "--job", "j", "--"),
        *("touch", str(tmp_path / claim), "{line}"),
        text=f"{tmp_path}/a\n",
        JOURNAL_NETWORK="1",
    )
    assert lost.returncode == 4
    said = lost.stderr.splitlines()
    assert "another run has claimed the job (claims/000002)" in lost.stderr
    assert "start the job again only if no other run works on it" in said[-2]
    assert "claims/000001.late" in said[-1]


def _send(row: journal.AttemptedRow) -> Any:
    take_over, root = row.data["take_over"], row.data["root"]
    if take_over:
        with JobService(root) as b:
            b.store.runs.take("j", Held())
    return row.step("send", str, "sent")


@pytest.mark.usefixtures("apart")
def test_a_worker_process_begins_no_step_once_another_run_has_claimed_the_job(
    paths: tuple[Path, Path],
) -> None:
    rows = [{"k": k, "take_over": k == 2, "root": str(paths[1] / "jobs")} for k in (1, 2)]
    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool,
        journal.open_job(paths[0] / "jobs/j", rows, key="k") as job,
    ):
        report = job.run(_send, executor=pool)
    assert "another run has claimed the job" in str(report.reason)
    with JobService(paths[1] / "jobs") as b:
        assert [step.state for step in b.get_steps("j:1")] == ["done"]
        assert b.get_steps("j:2") == ()


def _hang(row: journal.AttemptedRow) -> Any:
    Path(row.data["fifo"]).read_bytes()
    return row.step("send", str, "sent")


@needs_fifos
@pytest.mark.usefixtures("directories_apart")
def test_while_a_call_that_was_given_up_may_write_the_next_run_works_in_a_copy(
    paths: tuple[Path, Path], tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool,
        journal.open_job(paths[0] / "jobs/j", [{"fifo": str(fifo)}]) as job,
        JobService(paths[1] / "jobs") as b,
    ):
        job.run(_hang, executor=pool, timeout_s=0.05, progress=False)
        try:
            assert job.counts["needs_review"] == 1
            inode = os.stat(b.root / "j/journal.jsonl").st_ino
            b.retry_row("j:1")
            b.start_job("j")
            assert os.stat(b.root / "j/journal.jsonl").st_ino != inode
            b.start_row("j:1")
        finally:
            fifo.write_bytes(b"")
        pool.submit(int).result()
        assert b.get_steps("j:1") == ()
        assert b.complete_row("j:1").status == "completed"


@pytest.mark.usefixtures("apart")
def test_a_step_of_a_command_is_not_begun_once_another_run_has_claimed_the_job(
    paths: tuple[Path, Path],
) -> None:
    root_a, root_b = (str(path / "jobs") for path in paths)
    with JobService(root_a) as a, JobService(root_b) as b:
        a.create_job("j", job_id="j", row_data=[{"data": {}}])
        a.start_job("j")
        a.start_row("j:1")
        row = {"JOURNAL_JOB": f"{root_b}/j", "JOURNAL_ROW_ID": "j:1"}
        variables = row | {"JOURNAL_ATTEMPT": "1", "JOURNAL_CLAIM": "1"}
        assert command("step", "one", "--", "true", **variables).returncode == 0
        b.store.runs.take("j", Held())
        refused = command("step", "two", "--", "echo", "done", **variables)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "another run has claimed the job" in refused.stderr
        assert [step.name for step in b.get_steps("j:1")] == ["one"]


@pytest.mark.usefixtures("apart")
def test_a_journal_that_was_cut_is_not_replaced_so_its_hint_still_proves_it(nodes: Nodes) -> None:
    a, b = nodes
    a.start_job("j")
    path = a.root / "j/journal.jsonl"
    cut = path.stat().st_size
    for row in a.get_rows("j"):
        a.start_row(row.id)
        a.complete_row(row.id)
    a.store.journal("j").leave_witness()
    a.store.reset_after_fork()
    os.truncate(path, cut)
    for _ in range(2):
        with pytest.raises(JournalDamagedError):
            b.start_job("j")
    repair_job(b.root / "j")
    assert b.start_job("j").needs_review_count == 3


@pytest.mark.usefixtures("apart")
def test_a_journal_that_was_cut_is_replaced_later_since_the_earlier_run_may_still_write_to_it(
    nodes: Nodes,
) -> None:
    a, b = nodes
    a.start_job("j")
    path = a.root / "j/journal.jsonl"
    cut = path.stat().st_size
    a.start_row("j:1")
    a.store.journal("j").leave_witness()
    os.truncate(path, cut)
    with pytest.raises(JournalDamagedError):
        b.start_job("j")
    os.unlink(path.with_name("index.hint"))  # as the error says: the loss is accepted
    inode = path.stat().st_ino
    b.start_job("j")
    assert path.stat().st_ino != inode
    with pytest.raises(StorageError):
        a.start_row("j:2")


@pytest.mark.usefixtures("apart")
def test_on_a_network_each_commit_is_synced_though_the_store_was_not_asked_to(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = nodes
    synced = list[str]()
    for call in (lambda: a.skip_row("j:2"), lambda: a.start_job("j"), lambda: a.start_row("j:1")):
        at_call(monkeypatch, "fdatasync", lambda _fd: True, lambda: synced.append("sync"))
        call()
    assert synced == ["sync"] * 3


@pytest.mark.parametrize(
    ("mount", "network"),
    [
        ("36 35 {} / /home rw,relatime shared:1 master:2 - nfs4 server:/home rw", "nfs4"),
        ("36 35 {} / /home rw - fuse.sshfs a@b:/ rw", "fuse.sshfs"),
        ("36 35 {} / /home rw - wekafs backend/home rw", "wekafs"),
        ("36 35 {} / /home rw - fuse.fuse-overlayfs over rw", ""),
        ("36 35 {} / / rw - ext4 /dev/vda rw", ""),
        ("36 35 0:1 / /proc rw - nfs4 server:/ rw", ""),
    ],
)
def test_a_network_file_system_is_known_by_its_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mount: str, network: str
) -> None:
    device = os.stat(tmp_path).st_dev
    line = mount.format(f"{os.major(device)}:{os.minor(device)}")
    monkeypatch.setattr(system, "mounts", lambda: [line])
    monkeypatch.setattr(network_claims, "_known", {})
    assert network_claims.network_of(device) == network


def test_a_run_looks_anew_which_file_system_has_the_number_of_a_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network_claims, "_known", {})
    kinds = ["nfs4", "tmpfs"]
    monkeypatch.setattr(system, "mounts", lambda: [f"36 35 0:99 / /home rw - {kinds.pop()} x rw"])
    found = [
        network_claims.network_of(os.makedev(0, 99), anew=anew) for anew in (False, True, False)
    ]
    assert found == ["", "nfs4", "nfs4"]


def test_a_job_on_a_local_file_system_has_no_claims_and_no_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_NETWORK", "0")
    with journal.open_job(tmp_path / "jobs/j", [{"k": 1}], key="k") as job:
        job.run(str)
    assert not (tmp_path / "jobs/j/claims").exists()
    assert "network" not in capsys.readouterr().err


@pytest.mark.usefixtures("apart")
def test_a_run_begins_outside_of_a_batch_since_the_journal_may_be_replaced(nodes: Nodes) -> None:
    a, _ = nodes
    with a.batch("j"), pytest.raises(InvalidValueError, match="batch"):
        a.update_status("j", "running")
    assert a.run_holder("j") is None
    assert a.update_status("j", "running").status == "running"


@pytest.mark.usefixtures("apart")
def test_a_repair_of_a_job_that_a_run_has_claimed_meanwhile_replaces_nothing(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = nodes
    path = a.root / "j/journal.jsonl"
    before = path.read_bytes()
    path.write_bytes(before.replace(b'"k":1', b'"k":7'))

    made = list[str]()

    def is_second(path: Path | str, *_: object) -> bool:
        made.append(Path(path).name)
        return made.count(".repair") == 2

    def restore_and_start() -> None:
        path.write_bytes(before)
        b.start_job("j")

    at_call(monkeypatch, "mkdir", is_second, restore_and_start)
    with pytest.raises(StorageError, match="another run has claimed the job"):
        repair_job(a.root / "j")
    assert b.start_row("j:2").data == {"k": 1}


def test_claims_are_listed_after_a_change_of_their_directory_so_no_cache_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "look").mkdir()  # left by a process that died
    (tmp_path / "000001").touch()
    calls = list[str]()

    class Os:
        def __getattr__(self, name: str) -> Any:
            if name in ("mkdir", "rmdir", "scandir"):
                calls.append(name)
            return getattr(os, name)

    monkeypatch.setattr(system, "os", Os())
    assert network_claims.look(tmp_path) == ["000001"]
    assert calls == ["mkdir", "rmdir", "mkdir", "rmdir", "scandir"]


def test_a_node_leaves_alone_what_another_node_is_making(
    nodes: Nodes, directories_apart: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = nodes
    with a.store.scratch("new") as directory:
        monkeypatch.setattr(system, "host_name", lambda: "node-b")
        with b.store.scratch("new") as other:
            assert (directory.is_dir(), other.is_dir()) == (True, True)
        leftover = other.parent / "left"
        leftover.mkdir()
        b.create_job("k", job_id="k")
        assert (directory.is_dir(), leftover.exists()) == (True, False)


@pytest.mark.usefixtures("directories_apart")
def test_after_a_commit_that_failed_the_next_run_works_in_a_copy_though_the_run_has_ended(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = nodes
    a.start_job("j")

    def refuse() -> None:
        raise OSError(errno.EIO, "refused")

    at_call(monkeypatch, "fdatasync", lambda _fd: True, refuse)
    with pytest.raises(StorageError, match="refused"):
        a.start_row("j:1")
    a.close()
    inode = os.stat(b.root / "j/journal.jsonl").st_ino
    assert b.start_job("j").pending_count == 3
    assert os.stat(b.root / "j/journal.jsonl").st_ino != inode


@pytest.mark.usefixtures("directories_apart")
def test_after_a_commit_whose_parts_are_written_the_next_run_works_in_a_copy(nodes: Nodes) -> None:
    a, _ = nodes
    a.start_job("j")
    with suppress(JournalError), a.batch("j"):
        a.create_rows("j", [{"data": {"k": "x" * 400_000}} for _ in range(4)])
        a.store.runs.release("j")
        assert os.stat(a.root / "j/claims/000001").st_size
        raise JobBusyError("j")


@pytest.mark.usefixtures("directories_apart")
def test_a_start_that_replaces_the_journal_waits_for_its_lock_as_long_as_its_store(
    nodes: Nodes,
) -> None:
    a, b = nodes
    a.start_job("j")
    a.store.runs.claim("j").is_writing = True  # type: ignore[union-attr]
    a.close()
    with (
        JobService(b.root, lock_timeout_s=0.01) as hasty,
        b.store.journal("j"),
        pytest.raises(JobLockedError, match=r"0\.01"),
    ):
        hasty.start_job("j")


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="no cache of files can be dropped")
@pytest.mark.usefixtures("apart")
def test_who_claims_a_job_reads_the_journal_anew_from_the_server(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = nodes
    assert a.get_job("j") is not None  # it has the file open, and may have cached it
    dropped = list[int]()
    at_call(monkeypatch, "posix_fadvise", lambda *_: True, lambda: dropped.append(1))
    a.start_job("j")
    assert dropped


def _full(path: Path) -> None:
    (path / "sub").mkdir(parents=True)


@needs_links
@pytest.mark.parametrize(
    ("name", "make", "refused"),
    [
        ("", Path.touch, "claims: it is a file or a link: move it away"),
        ("", lambda path: path.symlink_to(path.parent), "claims: it is a file or a link"),
        ("look", _full, "claims/look is no empty directory: move it away"),
        ("look", Path.touch, "claims/look is no empty directory"),
        ("look", lambda path: path.symlink_to("nowhere"), "claims/look is no empty directory"),
        ("000007", _full, "claims/000007: Is a directory"),
        ("000007", lambda path: path.symlink_to("nowhere"), "claims/000007: it is a symbolic link"),
        ("000007", lambda path: os.mkfifo(path), "claims/000007: it is not a regular file"),  # noqa: PLW0108
        ("0000009", Path.touch, "000001"),
        ("000007.new", _full, "000001"),
        ("999999", Path.touch, "1000000"),
        ("9999999999", Path.touch, "10000000000"),
    ],
)
@pytest.mark.usefixtures("apart")
def test_what_else_may_stand_among_the_claims_is_named_or_does_no_harm(
    nodes: Nodes, name: str, make: Callable[[Path], None], refused: str
) -> None:
    a, b = nodes
    path = a.root / "j/claims" / name
    if name:
        path.parent.mkdir()
    make(path)
    if not refused.isdigit():
        with pytest.raises(StorageError) as error:
            a.start_job("j")
        assert refused in str(error.value)
        assert os.path.lexists(path)
        return
    a.start_job("j")
    assert refused in claims_of(a)
    a.start_row("j:1")
    b.start_job("j")
    with pytest.raises(StorageError, match="another run has claimed the job"):
        a.start_row("j:2")


class Died(BaseException):
    """The process has died."""


def at_each_call(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[int], object], then: Callable[[], object]
) -> int:
    """Call ``act(n)``, with ``then()`` before its system call n, for every other n, or in a sample
    for every fifth. Returns the last.
    """
    step = 2 if IS_LONG else 5
    for last in itertools.count(1, step):
        left = [last]

        class Os:
            def __getattr__(self, name: str) -> Any:
                real = getattr(os, name)
                if not inspect.isroutine(real) or name in NO_CALLS:
                    return real

                def call(*arguments: Any, **options: Any) -> Any:
                    left[0] -= 1  # noqa: B023
                    if not left[0]:  # noqa: B023
                        monkeypatch.setattr(system, "os", os)
                        then()
                    return real(*arguments, **options)

                return call

        monkeypatch.setattr(system, "os", Os())
        act(last)
        monkeypatch.setattr(system, "os", os)
        if left[0] > 0:
            return last - step + 1
    raise AssertionError


@pytest.mark.parametrize("fate", ["is stopped", "dies", "has a full disk"])
@pytest.mark.usefixtures("apart")
def test_at_whichever_call_a_node_leaves_off_to_claim_a_job_another_one_loses_nothing(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    a, b = nodes
    job_id = ""

    def other_node() -> None:
        with JobService(b.root) as other:
            other.start_job(job_id, "review")
            other.start_row(f"{job_id}:2")
            other.complete_row(f"{job_id}:2", "T-2")
            other.store.reset_after_fork()

    def fail() -> None:
        raise Died if fate == "dies" else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def act(number: int) -> None:
        nonlocal job_id
        job_id = f"job-{number}"
        with monkeypatch.context() as real, JobService(a.root) as earlier:
            real.setattr(system, "os", os)
            earlier.create_job("j", job_id=job_id, row_data=[{"data": {}}] * 3)
            earlier.start_job(job_id)
            earlier.start_row(f"{job_id}:1")
            earlier.store.reset_after_fork()  # it is frozen, and its locks reach nobody
        began = list[str]()
        one = JobService(a.root)
        with suppress(JournalError, Died):
            one.start_job(job_id)
            one.start_row(f"{job_id}:3")
            began.append("3")
            if fate != "dies":
                one.close()
        one.store.reset_after_fork()
        with monkeypatch.context() as real:
            real.setattr(system, "os", os)
            if b.get_rows(job_id)[1].status == "pending":
                other_node()
            rows = b.get_rows(job_id)
            assert (rows[1].tracking_number, rows[0].status) == ("T-2", "needs_review"), number
            assert rows[2].status != "pending" or not began, number
            assert not verify_job(b.root / job_id).findings

    calls = at_each_call(monkeypatch, act, other_node if fate == "is stopped" else fail)
    assert calls > 50


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="no cache of files can be dropped")
@pytest.mark.usefixtures("apart")
def test_a_process_that_keeps_a_job_open_asks_the_server_unless_it_has_the_job(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node knows the journal's size, until it opens the path, and its pages until it drops them."""
    a, b = nodes
    path = a.root / "j/journal.jsonl"
    size, pages, asked = dict[str, os.stat_result](), dict[int, bytes](), list[str]()

    class Cached:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def stat(self, where: Any, **options: Any) -> os.stat_result:
            if os.fspath(where) != str(path):
                return os.stat(where, **options)
            return size.setdefault("known", os.stat(where))

        def open(self, where: Any, *arguments: Any, **options: Any) -> int:
            if os.fspath(where) == str(path):
                size.clear()
                asked.append("open")
            return os.open(where, *arguments, **options)

        def pread(self, fd: int, length: int, offset: int) -> bytes:
            page = pages.setdefault(fd, os.pread(fd, 1 << 20, 0))
            return page.ljust(os.fstat(fd).st_size, b"\0")[offset : offset + length]

        def write(self, fd: int, data: bytes) -> int:
            size.clear()
            pages.clear()
            return os.write(fd, data)

        def posix_fadvise(self, fd: int, *_: Any) -> None:
            pages.pop(fd, None)

    monkeypatch.setattr(system, "os", Cached())
    a.start_job("j")
    a.update_status("j", "paused")
    assert len(a.get_rows("j", "pending")) == 3
    for number in (1, 2):
        with monkeypatch.context() as other:
            other.setattr(system, "os", os)
            b.start_job("j")
            b.start_row(f"j:{number}")
            b.complete_row(f"j:{number}")
            b.update_status("j", "paused")
        if number == 2:
            a.log("j", "seen")
        assert len(a.get_rows("j", "completed")) == number
    a.start_job("j")
    pages.clear()
    asked.clear()
    a.start_row("j:3")
    assert asked == []

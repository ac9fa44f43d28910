"""A job opened from its hint is what replay says it is, whatever has become of the hint."""

from __future__ import annotations

import os
import shutil
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.attempts import give_back, try_again, wait
from support.children import Child, journal_path, split_commits
from support.hints import (
    DENSE,
    JOB,
    SPARSE,
    UNORDERED,
    CountingOs,
    answers,
    edit,
    fixture_disk,
    fixture_hint,
    is_believed,
    make_job,
    opened,
    quick_answers,
    replayed,
)
from support.platforms import (
    needs_boot_ids,
    needs_descriptor_paths,
    needs_fifos,
    needs_fork,
    needs_links,
)

import journal.format.records
import journal.fs.system
import journal.index.hint
import journal.store.journal
import journal.store.log
from journal import JobService, JournalDamagedError, RowStatus
from journal.format.records import UNSET_TIME, HoldRecord, now
from journal.fs.handles import JournalFile
from journal.index.columns import Columns
from journal.repair import repair_job
from journal.store.transitions import put_record
from journal.verify import verify_job

__all__ = ["fixture_disk", "fixture_hint"]

USUAL_BYTES = journal.index.hint.MIN_BYTES

pytestmark = needs_descriptor_paths


# --- what a hint says -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "numbers", [DENSE, SPARSE, UNORDERED], ids=["dense", "sparse", "unordered"]
)
def test_a_job_opened_from_its_hint_is_what_replay_says(
    tmp_path: Path, disk: CountingOs, numbers: range
) -> None:
    make_job(tmp_path, numbers)
    assert is_believed(tmp_path, disk)
    said = opened(tmp_path)
    assert said == replayed(tmp_path)
    assert all(rows for rows in said[5]), "each status has rows"
    with JobService(tmp_path) as service, JobService(tmp_path) as other:
        views = [service.get_rows(JOB, status) for status in (None, *RowStatus)]
        before = [list(view) for view in views[:3]]
        service.create_rows(JOB, [{"data": {"more": 1}}, {"row_number": 5000, "data": {}}])
        service.complete_row(f"{JOB}:{numbers[5]}", "T-6", cost_cents=1)
        other.skip_row(f"{JOB}:{numbers[6]}")
        other.create_rows(JOB, [{"row_number": 3000, "data": {}}])
        assert answers(service) == answers(other) == replayed(tmp_path)
        assert [list(view) for view in views[:3]] == before
        assert [row for view in views[1:] for row in view] == [r for rows in said[5] for r in rows]
    assert opened(tmp_path) == replayed(tmp_path)


def test_a_hint_knows_the_passes_the_pause_and_the_hold_of_a_job_and_the_attempts_before_each_retry(
    tmp_path: Path, disk: CountingOs
) -> None:
    make_job(tmp_path)
    with JobService(tmp_path) as service:
        service.start_job(JOB)
        service.start_row(f"{JOB}:5")
        service.fail_row(f"{JOB}:5", "E", "m")
        service.update_status(JOB, "failed")
        service.retry_row(f"{JOB}:5")
        service.pause_job(JOB)
        service.store.journal(JOB).change(put_record, HoldRecord(until=now(), at=UNSET_TIME))
        before = service.get_job(JOB), service.get_row(f"{JOB}:5")
    assert is_believed(tmp_path, disk)
    with JobService(tmp_path) as service:
        job, row = service.get_job(JOB), service.get_row(f"{JOB}:5")
    assert (job, row) == before
    assert job is not None
    assert row is not None
    assert (job.passes, row.attempts, row.earlier_attempts) == (2, 1, 1)
    assert job.pause is not None
    assert job.hold is not None


def test_columns_that_an_interrupted_reading_has_left_keep_their_changes(hint: Path) -> None:
    found = journal.index.hint.read_hint(hint.parent, JournalFile(hint.with_name("journal.jsonl")))
    assert found is not None
    columns = found[0].columns
    columns.attempts = changed = array("I", [7] * len(columns.statuses))
    assert len(columns.row_offsets) == len(columns.statuses)  # read with the rest of the part
    assert columns.attempts is changed


def test_a_row_in_flight_that_comes_from_a_hint_is_given_back_with_the_error_it_had(
    tmp_path: Path, disk: CountingOs
) -> None:
    make_job(tmp_path)
    with JobService(tmp_path) as service:
        service.start_job(JOB)
        service.start_row(f"{JOB}:5")
        give_back(service, f"{JOB}:5")
        service.start_row(f"{JOB}:5")
        try_again(service, f"{JOB}:5", "E", "m")
        service.start_row(f"{JOB}:5")
    assert is_believed(tmp_path, disk)
    with JobService(tmp_path) as service:
        row = give_back(service, f"{JOB}:5")
    assert (row.error_code, row.error_message) == ("E", "m")
    assert (row.attempts, row.earlier_attempts) == (3, 2)


ACTIONS = (
    "reopen", "add", "add far", "start", "complete", "skip", "error", "discard", "view", "fail",
    "retry", "redo", "data", "next pass", "give back", "wait", "pause", "resume", "hold",
)  # fmt: skip


@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.booleans(), st.integers(0, 9)), max_size=9))
def test_services_with_hints_agree_with_replay_after_any_changes(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, bool, int]]
) -> None:
    root = tmp_path_factory.mktemp("store")
    make_job(root, sync="none")
    services = [JobService(root, sync="none"), JobService(root, sync="none")]
    views: list[tuple[Any, Any]] = []
    for action, who, number in actions:
        service = services[who]
        if action == "reopen":
            service.close()
            services[who] = JobService(root, sync="none")
        elif action == "view":
            view = service.get_rows(JOB, "pending")
            views.append((view, replayed(root)[3]))
        else:
            _act(service, action, number)
    for service in services:
        assert answers(service) == replayed(root)
        service.close()
    assert opened(root) == replayed(root)
    assert all(list(view) == rows for view, rows in views)


def _act(service: JobService, action: str, number: int) -> None:
    pending = service.get_pending_rows(JOB)
    if action == "add":
        service.create_rows(JOB, [{"data": {"pad": "y" * number * 90}}] * 5)
    elif action == "add far":
        far = service.get_rows(JOB)[-1].row_number + 1 + number
        service.create_rows(JOB, [{"row_number": far, "data": {}}])
    elif action == "error":
        service.set_error(JOB, "E", "message")
    elif action == "retry":
        service.retry_failed_rows(JOB)
    elif action == "give back":
        if in_flight := service.get_rows(JOB, "processing"):
            try_again(service, in_flight[0].id, "again", "m")
            service.start_row(in_flight[0].id)
            give_back(service, in_flight[0].id)
    elif action == "wait":
        if in_flight := service.get_rows(JOB, "processing"):
            wait(service, in_flight[0].id, number)
    elif action == "redo":
        done = service.get_rows(JOB, "completed")
        service.redo_row(done[number % len(done)].id, new_key=number > 5)
    elif action in ("pause", "resume"):
        getattr(service, f"{action}_job")(JOB)
    elif action == "hold":
        until = now() if number % 2 else None
        record = HoldRecord(until=until, reason=f"{number}", at=UNSET_TIME)
        service.store.journal(JOB).change(put_record, record)
    elif action == "next pass":
        service.resume_job(JOB)
        service.start_job(JOB)
        service.update_status(JOB, "failed")
        service.reopen_job(JOB)
    elif action == "discard":
        with suppress(KeyError), service.batch(JOB):
            service.create_rows(JOB, [{"data": {}}])
            if pending:
                service.update_row_data(pending[0].id, {"n": number})
                service.start_row(pending[0].id)
                service.retry_row(pending[0].id)
            raise KeyError
    elif pending:
        row = pending[number % len(pending)]
        if action == "fail":
            service.fail_row(row.id, "E", "m")
        elif action == "data":
            service.update_row_data(row.id, {"pad": "z" * number * 90})
        else:
            change: Any = getattr(service, f"{action}_row")
            change(row.id)


def test_opening_a_large_job_from_its_hint_reads_little_of_it(
    tmp_path: Path, disk: CountingOs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.index.hint, "MIN_BYTES", USUAL_BYTES)
    with JobService(tmp_path) as service:
        rows = ({"data": {"n": n, "pad": "x" * 500}} for n in range(1500))
        service.create_job("Hinted", job_id=JOB, row_data=rows)
    size = journal_path(tmp_path, JOB).stat().st_size
    assert size > 700_000
    asking: list[Callable[[JobService], Any]] = [
        lambda service: service.get_job_summary(JOB),
        lambda service: service.list_jobs(),
        lambda service: service.get_pending_rows(JOB)[:3],
    ]
    for ask in asking:
        disk.read_bytes = 0
        with JobService(tmp_path) as service:
            ask(service)
        assert 0 < disk.read_bytes < size // 50


def test_a_job_that_is_only_looked_at_reads_no_column_but_the_statuses(
    tmp_path: Path, hint: Path, disk: CountingOs
) -> None:
    with JobService(tmp_path) as service:
        service.get_job(JOB)
        service.set_error(JOB, "E", "a commit")
        columns = service.store.journal(JOB).index.columns
        with pytest.raises(AttributeError):
            object.__getattribute__(columns, "row_offsets")
        assert service.get_row(f"{JOB}:5")
        assert object.__getattribute__(columns, "row_offsets")
        assert type(columns) is Columns  # each use of which takes less time


# --- what isn't as it was written -------------------------------------------------------------


def test_no_changed_cut_or_longer_hint_changes_an_answer(
    tmp_path: Path, hint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.index.hint, "MIN_BYTES", USUAL_BYTES)  # so that it stays as it is
    good = hint.read_bytes()
    expected = quick_answers(tmp_path)
    flips = (
        good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :] for at in range(len(good))
    )
    cuts = (good[:end] for end in range(0, len(good), 7))
    others = (good + b"\0", good + good, bytes(len(good)), bytes(5000), b"\n", b"\n" * 5000)
    for content in (*flips, *cuts, *others):
        hint.write_bytes(content)
        assert quick_answers(tmp_path) == expected


@needs_links
@needs_fifos
@pytest.mark.parametrize("kind", ["directory", "pipe", "link", "device"])
def test_what_is_no_file_in_the_place_of_the_hint_is_ignored(
    tmp_path: Path, hint: Path, disk: CountingOs, kind: str
) -> None:
    expected = replayed(tmp_path)
    real = hint.rename(tmp_path / "real")
    if kind == "directory":
        hint.mkdir()
    elif kind == "pipe":
        os.mkfifo(hint)
    elif kind == "link":
        hint.symlink_to(real)
    else:
        try:
            os.mknod(hint, 0o20666, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("may not make a device")
    with JobService(tmp_path, sync="none") as service:
        disk.read_bytes = 0
        assert service.get_job_summary(JOB) == expected[1]
        assert disk.read_bytes > journal_path(tmp_path, JOB).stat().st_size // 2
        assert answers(service) == expected


def test_what_follows_an_older_hint_is_replayed(
    tmp_path: Path, hint: Path, disk: CountingOs
) -> None:
    old = hint.read_bytes()
    with JobService(tmp_path) as service:
        service.fail_row(f"{JOB}:5", "E", "no such address")
    assert hint.read_bytes() != old
    hint.write_bytes(old)
    assert is_believed(tmp_path, disk)
    hint.write_bytes(old)
    assert opened(tmp_path) == replayed(tmp_path)


@needs_boot_ids
def test_a_hint_of_another_time_or_job_or_history_is_ignored(
    tmp_path: Path, hint: Path, disk: CountingOs
) -> None:
    path = journal_path(tmp_path, JOB)
    before = path.read_bytes()
    with JobService(tmp_path, sync="none") as service:  # a synced one would prove the next step
        service.fail_row(f"{JOB}:5", "E", "no such address")
    new, after = hint.read_bytes(), path.read_bytes()
    modified_ns = path.stat().st_mtime_ns
    path.write_bytes(before)  # an older copy, over the same file
    assert not is_believed(tmp_path, disk)
    with JobService(tmp_path) as service:  # which then went another way, as far as the first
        service.fail_row(f"{JOB}:6", "E", "no such address")
    assert len(path.read_bytes()) == len(after)
    os.utime(path, ns=(modified_ns, modified_ns))
    hint.write_bytes(new)
    assert not is_believed(tmp_path, disk)
    hint.write_bytes(new)
    assert opened(tmp_path) == replayed(tmp_path)
    with JobService(tmp_path) as service:  # and further
        service.skip_row(f"{JOB}:5")
    hint.write_bytes(new)
    assert opened(tmp_path) == replayed(tmp_path)


def test_a_hint_of_a_commit_that_another_has_replaced_is_ignored(
    tmp_path: Path, hint: Path
) -> None:
    path, kept = journal_path(tmp_path, JOB), hint.read_bytes()
    *older, last = split_commits(path.read_bytes())
    hint.unlink()
    with path.open("r+b") as file:
        file.truncate(len(b"".join(older)))
    with JobService(tmp_path, sync="none") as service:
        service.set_error(JOB, "E", "m" * 2 * len(last))
    hint.write_bytes(kept)
    assert opened(tmp_path) == replayed(tmp_path)


def test_a_journal_edited_after_its_hint_is_named_as_damaged(tmp_path: Path, hint: Path) -> None:
    edit(journal_path(tmp_path, JOB), b'"n":4', b'"n":7')
    with JobService(tmp_path) as service, pytest.raises(JournalDamagedError):
        service.get_job(JOB)
    assert hint.exists()


def go_on_behind(hint: Path) -> bytes:
    """A commit that the hint doesn't stand for, and the hint as it was before."""
    old = hint.read_bytes()
    with JobService(hint.parents[1]) as service:
        service.skip_row(f"{JOB}:5")
    hint.write_bytes(old)
    return old


def test_a_journal_that_was_touched_after_the_commits_behind_its_hint_is_read_through(
    tmp_path: Path, hint: Path, disk: CountingOs, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = go_on_behind(hint)
    assert is_believed(tmp_path, disk)
    hint.write_bytes(old)
    monkeypatch.setattr(journal.index.hint, "_WRITING_NS", -(10**9))  # as if the commits were older
    assert not is_believed(tmp_path, disk)


def test_a_journal_that_was_touched_half_a_minute_after_the_last_commit_is_read_through(
    tmp_path: Path, disk: CountingOs, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Behind(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:  # what commits state, and not when files change
            return datetime.now(tz) - timedelta(seconds=30)

    monkeypatch.setattr(journal.format.records, "datetime", Behind)
    hint = make_job(tmp_path)
    hint.write_bytes(go_on_behind(hint))
    assert not is_believed(tmp_path, disk)


def test_a_service_leaves_no_hint_of_a_journal_that_was_edited_under_it(
    tmp_path: Path, hint: Path
) -> None:
    path = journal_path(tmp_path, JOB)
    with JobService(tmp_path) as service:
        service.fail_row(f"{JOB}:5", "E", "no such address" * 20)
        edit(path, b'"n":4', b'"n":7')
        known_ns = service.store.journal(JOB).log.known_ns
        while path.stat().st_ctime_ns <= known_ns:  # the system's clock may be a coarse one
            os.utime(path)
    with JobService(tmp_path) as service, pytest.raises(JournalDamagedError):
        service.get_job(JOB)


def commit_a_year_ahead(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One commit by a clock that is set right again afterwards."""
    ahead = timedelta(days=365)
    with monkeypatch.context() as patch, JobService(root) as service:
        patch.setattr(journal.store.journal, "now", lambda: datetime.now(UTC) + ahead)
        patch.setattr(
            journal.store.log,
            "time_ns",
            lambda: time.time_ns() + int(ahead.total_seconds()) * 10**9,
        )
        service.fail_row(f"{JOB}:5", "E", "no such address" * 20)


def test_a_journal_edited_after_a_commit_of_a_time_to_come_is_named_as_damaged(
    tmp_path: Path, hint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = hint.read_bytes()
    commit_a_year_ahead(tmp_path, monkeypatch)
    with JobService(tmp_path) as service:  # whose time is held
        service.skip_row(f"{JOB}:5")
    hint.write_bytes(old)
    edit(journal_path(tmp_path, JOB), b'"n":4', b'"n":7')
    with JobService(tmp_path) as service, pytest.raises(JournalDamagedError):
        service.get_job(JOB)


def test_who_has_read_a_commit_of_a_time_to_come_leaves_no_hint_over_an_edit(
    tmp_path: Path, hint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JobService(tmp_path) as service:
        service.get_job(JOB)
        commit_a_year_ahead(tmp_path, monkeypatch)
        hint.unlink(missing_ok=True)
        edit(journal_path(tmp_path, JOB), b'"n":4', b'"n":7')
        service.get_job(JOB)
    with JobService(tmp_path) as service, pytest.raises(JournalDamagedError):
        service.get_job(JOB)


def test_a_job_record_edited_before_an_older_hint_is_named_as_damaged(
    tmp_path: Path, hint: Path
) -> None:
    go_on_behind(hint)
    edit(journal_path(tmp_path, JOB), b'"name":"Hinted"', b'"name":"hinted"')
    with JobService(tmp_path) as service, pytest.raises(JournalDamagedError, match="line 1"):
        service.get_job(JOB)


def test_the_hint_is_not_asked_about_a_file_that_has_changed_under_a_service(
    tmp_path: Path, hint: Path
) -> None:
    go_on_behind(hint)
    path = journal_path(tmp_path, JOB)
    edit(path, b'"n":4', b'"n":7')
    with JobService(tmp_path) as service:
        service.get_job(JOB)
        os.truncate(path, path.stat().st_size - 1)
        with pytest.raises(JournalDamagedError):
            service.get_job(JOB)


@needs_boot_ids
@pytest.mark.parametrize("goes_on", [False, True])
def test_a_copy_is_read_through_once(
    tmp_path: Path, hint: Path, disk: CountingOs, goes_on: bool
) -> None:
    if goes_on:
        go_on_behind(hint)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / JOB, copy / JOB)  # with the times
    assert not is_believed(copy, disk)
    assert is_believed(copy, disk)


def test_damage_in_a_copy_is_named_though_the_hint_came_with_it(tmp_path: Path, hint: Path) -> None:
    go_on_behind(hint)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / JOB, copy / JOB)
    edit(journal_path(copy, JOB), b'"n":4', b'"n":7')
    with JobService(copy) as service, pytest.raises(JournalDamagedError):
        service.get_job(JOB)


def another_boot(_real: Any, *_arguments: Any) -> bytes:
    return b"another-boot\n"


@needs_boot_ids
@pytest.mark.parametrize("sync", ["none", "commit"])
def test_a_hint_over_commits_that_nobody_has_synced_ends_with_the_system(
    tmp_path: Path, disk: CountingOs, sync: str
) -> None:
    make_job(tmp_path, sync=sync)
    assert is_believed(tmp_path, disk)
    disk.always("read", another_boot)
    assert is_believed(tmp_path, disk) == (sync == "commit")
    assert opened(tmp_path) == replayed(tmp_path)


# --- what breaks after it was believed --------------------------------------------------------


def overwritten(hint: Path) -> None:
    with hint.open("r+b") as file:
        begin = len(file.readline())
        file.write(bytes(hint.stat().st_size - begin))


def cut_short(hint: Path) -> None:
    os.truncate(hint, 100)


def cut_within_a_number(hint: Path) -> None:
    os.truncate(hint, hint.stat().st_size * 2 // 3 // 8 * 8 + 3)


@pytest.mark.parametrize("breaks", [overwritten, cut_short, cut_within_a_number])
@pytest.mark.parametrize("numbers", [DENSE, UNORDERED], ids=["dense", "unordered"])
def test_what_breaks_in_a_hint_after_opening_is_read_from_the_journal(
    tmp_path: Path, breaks: Callable[[Path], None], numbers: range
) -> None:
    hint = make_job(tmp_path, numbers)
    expected = replayed(tmp_path)
    with JobService(tmp_path) as service, JobService(tmp_path) as other:
        views = [service.get_rows(JOB, status) for status in RowStatus]
        breaks(hint)
        other.skip_row(f"{JOB}:{numbers[6]}")
        service.get_job(JOB)
        assert [list(view) for view in views] == expected[5]
        assert answers(service) == replayed(tmp_path)


def test_a_hint_that_breaks_after_a_retry_that_was_taken_back_is_rebuilt(tmp_path: Path) -> None:
    with JobService(tmp_path) as service:
        service.create_job("Plain", job_id=JOB, row_data=[{}])
        with suppress(KeyError), service.batch(JOB):
            service.start_row(f"{JOB}:1")
            service.retry_row(f"{JOB}:1")
            raise KeyError
        service.start_row(f"{JOB}:1")
    hint = tmp_path / JOB / "index.hint"
    assert b"earlier" in hint.read_bytes()  # a column of zeros
    with JobService(tmp_path, sync="none") as service:
        service.get_job(JOB)
        os.truncate(hint, hint.stat().st_size - 1)
        assert answers(service) == replayed(tmp_path)


@needs_fork
def test_a_forked_child_reads_on_in_a_view_out_of_a_hint(tmp_path: Path, hint: Path) -> None:
    script = """
        import journal.index.hint
        service = JobService(root)
        view = service.get_rows(job_id)
        assert view[0].row_number == 1
        pid = os.fork()
        if not pid:
            tell(*[row.row_number for row in view])
            os._exit(0)
        os.waitpid(pid, 0)
        tell(*[row.row_number for row in view])
    """
    with Child(script, tmp_path, JOB) as child:
        assert child.hear() == " ".join(map(str, DENSE))
        assert child.hear() == " ".join(map(str, DENSE))
        child.end()


def test_damage_in_both_the_journal_and_the_hint_is_named(tmp_path: Path, hint: Path) -> None:
    with JobService(tmp_path) as service:
        view = service.get_rows(JOB)
        edit(journal_path(tmp_path, JOB), b'"n":4', b'"n":7')
        overwritten(hint)
        with pytest.raises(JournalDamagedError, match="continues"):
            list(view)


# --- verify and repair ------------------------------------------------------------------------


def test_verify_and_repair_do_not_ask_the_hint(
    tmp_path: Path, hint: Path, disk: CountingOs
) -> None:
    old = go_on_behind(hint)
    edit(journal_path(tmp_path, JOB), b'"n":4', b'"n":7')
    assert is_believed(tmp_path, disk)
    assert verify_job(tmp_path / JOB).damaged
    assert not repair_job(tmp_path / JOB).lossless
    hint.write_bytes(old)
    assert not is_believed(tmp_path, disk)
    hint.write_bytes(old)
    assert opened(tmp_path) == replayed(tmp_path)

"""When a hint is written, what keeps it from being written, and hints by a hostile hand."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from support.activation import Injected
from support.children import Child, counted, fails, journal_path, works
from support.hints import (
    JOB,
    CountingOs,
    fixture_disk,
    fixture_hint,
    is_believed,
    opened,
    quick_answers,
    replayed,
)
from support.platforms import needs_boot_ids, needs_links

import journal.fs.system
import journal.index.hint
import journal.store.journal
import journal.store.store
from journal import CommitOutcomeUnknownError, JobService
from journal.fs.handles import load_filelock
from journal.fs.system import fcntl
from journal.verify import verify_job

__all__ = ["fixture_disk", "fixture_hint"]

USUAL_BYTES = 1 << 18
HOSTILE: list[dict[str, Any]] = [
    {"rows": 10**12},
    {"rows": 10**30},
    {"rows": -1},
    {"rows": 0, "status_counts": [0] * 6},
    {"rows": 12},
    {"status_counts": "none"},
    {"offset": 1},
    {"offset": -1},
    {"offset": 10**12},
    {"offset": 10**40},
    {"crc": -1},
    {"crc": 10**40},
    {"first_line_bytes": 10**40},
    {"hint": 2},
    {"extra": 1},
    {"status": "happy"},
    {"counts": []},
    {"last_at": "soon"},
    {"optional": ["earlier"]},
    {"optional": [5]},
    {"optional": ["step_heads"]},
    {"crcs": [1]},
    {"crcs": [1, 2]},
    {"byteorder": "middle"},
    {"steps": -1},
    {"steps": 10**12},
    {"error": "x" * 2_000_000},
    {"error": [[[]]]},
    {"boot_id": None},
]


def test_a_hostile_header_breaks_nothing(
    tmp_path: Path, hint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.index.hint, "MIN_BYTES", USUAL_BYTES)
    expected = quick_answers(tmp_path)
    header, columns = parts_of(hint)
    for change in HOSTILE:
        hint.write_bytes(sealed({**header, **change}) + columns)
        assert quick_answers(tmp_path) == expected, change
    for text in (b'{"hint":' + b"[" * 200_000, b'{"hint":1' * 99, b"{" * 3_000_000, b'{"a":1'):
        hint.write_bytes(text + b',"crc":"%08x"}\n' % crc32(text) + columns)
        assert quick_answers(tmp_path) == expected


def test_a_time_that_no_journal_may_hold_is_not_taken_from_a_hint(
    tmp_path: Path, hint: Path
) -> None:
    header, columns = parts_of(hint)
    hint.write_bytes(sealed({**header, "last_at": "2999-01-01T00:00:00.000001+02:00"}) + columns)
    with JobService(tmp_path) as service:
        service.set_error(JOB, "E", "written on")
    assert verify_job(tmp_path / JOB).findings == []


def test_rows_that_a_hint_has_and_a_journal_cannot_hold_take_no_memory(
    tmp_path: Path, hint: Path, disk: CountingOs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.index.hint, "MIN_BYTES", USUAL_BYTES)
    header, _ = parts_of(hint)
    rows = 1 << 28
    first = sealed(
        {**header, "rows": rows, "highest_number": rows, "optional": []}
        | {"status_counts": [rows, 0, 0, 0, 0, 0]}
    )
    hint.write_bytes(first)
    os.truncate(hint, len(first) + 21 * rows)  # most of it takes no room on the disk
    assert quick_answers(tmp_path)[0] == replayed(tmp_path)[1]
    assert disk.longest_read_bytes <= 1 << 20


def parts_of(hint: Path) -> tuple[dict[str, Any], bytes]:
    """The header, and the columns behind it."""
    line, _, columns = hint.read_bytes().partition(b"\n")
    header: dict[str, Any] = json.loads(line[:-18] + b"}")
    return header, columns


def sealed(header: dict[str, Any]) -> bytes:
    body = json.dumps(header, separators=(",", ":")).encode()[:-1]
    return body + b',"crc":"%08x"}\n' % crc32(body)


# --- what keeps a hint from being written -----------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("call", ["open", "write", "rename", "close", "flock", "write unlink"])
def test_where_no_hint_can_be_written_nothing_else_fails(
    tmp_path: Path,
    hint: Path,
    disk: CountingOs,
    call: str,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = hint.read_bytes()
    disk.refused = {name: counted(fails(number), Injected(name)) for name in call.split()}
    with monkeypatch.context() as patch:
        patch.setattr(journal.index.hint, "GROWTH_BYTES", 1)
        if call == "flock":
            patch.setattr(load_filelock(), "lock_descriptor", disk.locking)
        with JobService(tmp_path) as service:
            assert service.fail_row(f"{JOB}:5", "E", "x" * 9000).error_code == "E"
            assert service.skip_row(f"{JOB}:6").row_number == 6
    assert call == "close" or hint.read_bytes() == old
    assert hint.with_name("index.hint.new").exists() == (call == "write unlink")
    assert opened(tmp_path) == replayed(tmp_path)
    disk.refused = {}
    for message in ("first", "second"):  # one to remove what is left over, one to write
        with JobService(tmp_path) as service:
            service.set_error(JOB, "E", message)
    assert sorted(path.name for path in hint.parent.glob("index*")) == ["index.hint"]
    assert hint.read_bytes() != old
    assert is_believed(tmp_path, disk)


def test_a_new_hint_of_a_living_writer_is_left_alone(tmp_path: Path, hint: Path) -> None:
    old, new = hint.read_bytes(), hint.with_name("index.hint.new")
    new.write_bytes(b"half")
    with new.open("rb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        with JobService(tmp_path) as service:
            service.fail_row(f"{JOB}:5", "E", "x" * 9000)
        assert new.read_bytes() == b"half"
    assert hint.read_bytes() == old
    assert opened(tmp_path) == replayed(tmp_path)


@needs_links
def test_a_link_in_the_place_of_a_new_hint_is_not_followed(tmp_path: Path, hint: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    hint.with_name("index.hint.new").symlink_to(victim)
    with JobService(tmp_path) as service:
        service.fail_row(f"{JOB}:5", "E", "x" * 9000)
    assert victim.read_bytes() == b"precious"
    assert opened(tmp_path) == replayed(tmp_path)


# --- when it is written -----------------------------------------------------------------------


def large_rows(count: int = 600) -> list[dict[str, Any]]:
    return [{"data": {"pad": "x" * 500}}] * count


@pytest.fixture(name="usual")
def fixture_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal.index.hint, "MIN_BYTES", USUAL_BYTES)


@pytest.mark.usefixtures("usual")
def test_a_job_made_with_many_rows_has_a_hint_and_a_small_one_none(
    tmp_path: Path, disk: CountingOs
) -> None:
    with JobService(tmp_path) as service:
        service.create_job("Hinted", job_id=JOB, row_data=large_rows())
        service.create_job("Small", job_id="small", row_data=large_rows(30))
    assert not (tmp_path / "small" / "index.hint").exists()
    assert is_believed(tmp_path, disk)


@pytest.mark.usefixtures("usual")
def test_a_hint_is_written_at_the_end_after_growth_and_not_again_for_nothing_new(
    tmp_path: Path,
) -> None:
    hint = tmp_path / JOB / "index.hint"
    with JobService(tmp_path) as service:
        service.create_job("Hinted", job_id=JOB)
        service.create_rows(JOB, large_rows())
        assert not hint.exists()
    first = hint.stat().st_ino, hint.read_bytes()
    with JobService(tmp_path) as service:
        service.skip_row(f"{JOB}:1")
    with JobService(tmp_path) as service:
        service.get_job(JOB)
    assert (hint.stat().st_ino, hint.read_bytes()) == first


@needs_boot_ids
@pytest.mark.usefixtures("usual")
def test_a_long_replay_by_a_mere_reader_leaves_a_hint(tmp_path: Path, disk: CountingOs) -> None:
    with JobService(tmp_path) as service:
        service.create_job("Hinted", job_id=JOB, row_data=large_rows())
    (tmp_path / JOB / "index.hint").unlink()
    with JobService(tmp_path) as service:
        service.get_job(JOB)
        assert (tmp_path / JOB / "index.hint").exists()
    assert is_believed(tmp_path, disk)


@needs_boot_ids
@pytest.mark.usefixtures("usual")
def test_after_much_growth_a_hint_is_there_though_nobody_closes(
    tmp_path: Path, disk: CountingOs
) -> None:
    script = """
        import journal.store.journal
        journal.index.hint.GROWTH_BYTES = 1 << 18
        service = JobService(root)
        service.create_job("Hinted", job_id=job_id)
        for _ in range(6):
            service.create_rows(job_id, [{"data": {"pad": "x" * 500}}] * 200)
        tell("done")
        hear()
    """
    with Child(script, tmp_path, JOB) as child:
        assert child.hear() == "done"
        child.kill()
    size = journal_path(tmp_path, JOB).stat().st_size
    header, _ = parts_of(tmp_path / JOB / "index.hint")
    assert size // 2 <= header["offset"] <= size
    assert opened(tmp_path) == replayed(tmp_path)
    assert is_believed(tmp_path, disk)


def test_no_hint_is_written_over_commits_in_doubt_or_a_discarded_batch(
    tmp_path: Path, hint: Path, disk: CountingOs
) -> None:
    old = hint.read_bytes()
    with JobService(tmp_path) as service, suppress(KeyError), service.batch(JOB):
        service.create_rows(JOB, large_rows(40))
        raise KeyError
    assert hint.read_bytes() == old
    with JobService(tmp_path) as service:
        service.get_job(JOB)
        disk.plan("fdatasync", works, fails(errno.EIO))
        disk.plan("ftruncate", fails(errno.EIO))
        with pytest.raises(CommitOutcomeUnknownError):
            service.fail_row(f"{JOB}:5", "E", "x" * 9000)
        service.get_job(JOB)
    assert hint.read_bytes() == old


# --- copies of a live job ---------------------------------------------------------------------

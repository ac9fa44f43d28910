"""What is not as it was written is seen, named with its place, and never read as data."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.children import (
    journal_path,
    place_journal,
    read_all,
    seal_commits,
)
from support.effort import IS_LONG

from journal import (
    FormatVersionError,
    JobMismatchError,
    JobService,
    JournalDamagedError,
)

JOB = "damaged"


@pytest.fixture(name="content")
def fixture_content(tmp_path: Path) -> bytes:
    """A good journal of 26 commits."""
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Damaged", job_id=JOB)
        service.create_rows(JOB, [{"data": {"n": number}} for number in range(1, 25)])
        for number in range(1, 25):
            service.complete_row(f"{JOB}:{number}")
    return journal_path(tmp_path, JOB).read_bytes()


def read_damage(root: Path) -> JournalDamagedError | None:
    """The error with which a fresh open of the job fails; None if it reads as a good one."""
    with JobService(root, sync="none") as service:
        try:
            service.get_job(JOB)
        except JournalDamagedError as error:
            return error
    return None


def assert_damage(root: Path, content: bytes) -> JournalDamagedError:
    """A journal of this content is refused by readers and writers, and left as it is."""
    path = journal_path(root, JOB)
    path.write_bytes(content)
    error = read_damage(root)
    assert error is not None, "it was read as a good journal"
    assert error.path == str(path)
    assert error.line == content[: error.offset].count(b"\n") + 1
    with JobService(root) as service:
        with pytest.raises(JournalDamagedError):
            service.get_rows(JOB)
        with pytest.raises(JournalDamagedError):
            service.skip_row(f"{JOB}:24")
        with pytest.raises(JournalDamagedError):
            service.create_rows(JOB, [{"data": {}}])
        with pytest.raises(JournalDamagedError):
            service.update_status(JOB, "paused")
        with pytest.raises(JournalDamagedError), service.batch(JOB):
            pytest.fail("the batch began")
    assert path.read_bytes() == content
    assert not list(path.parent.glob("journal.torn-*"))
    return error


def test_a_flipped_bit_that_an_open_service_has_read_past_is_not_read_as_another_row(
    tmp_path: Path, content: bytes
) -> None:
    path = journal_path(tmp_path, JOB)
    changed = content.replace(b'"row":7,', b'"row":6,')
    with JobService(tmp_path) as service:
        rows = service.get_rows(JOB)
        path.write_bytes(changed)
        with pytest.raises(JournalDamagedError):
            list(rows)


# --- what is no journal ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0" * 4096, id="NULs"),
        pytest.param(b"\0" * 200_000, id="many NULs"),
        pytest.param(b"\n", id="an empty line"),
        pytest.param(b"\n" * 70_000 if IS_LONG else b"\n" * 10_000, id="many empty lines"),
        pytest.param(b'{"type":"job","format":1', id="half of a job record"),
        pytest.param(b"PK\x03\x04" * 100, id="another file"),
        pytest.param(b',"crc":"00000000"}\n', id="a bare seal"),
    ],
)
def test_a_file_without_a_whole_job_record_is_damage(tmp_path: Path, content: bytes) -> None:
    place_journal(tmp_path, JOB, b"")
    assert_damage(tmp_path, content)


def test_a_directory_renamed_to_another_id_is_a_mismatch(tmp_path: Path, content: bytes) -> None:
    (tmp_path / JOB).rename(tmp_path / "renamed")
    with JobService(tmp_path) as service:
        for use in (service.get_job, service.get_rows, service.get_job_summary, service.start_job):
            with pytest.raises(JobMismatchError) as refused:
                use("renamed")
            assert refused.value.job_id == JOB
            assert refused.value.path == str(tmp_path / "renamed")
        with pytest.raises(JobMismatchError):
            service.skip_row("renamed:24")
    assert journal_path(tmp_path, "renamed").read_bytes() == content


# --- a newer version, and a first line that makes no sense -----------------------------------

AT = b'"at":"2026-11-24T13:35:00.000001Z"}'
JOB_RECORD = b'{"type":"job","format":1,"id":"damaged","name":"Damaged",' + AT
ROW_1 = b'{"type":"row","row":1,"checksum":"c1","data":{"n":1},' + AT
ROW_2 = b'{"type":"row","row":2,"checksum":"c2","data":{"n":2},' + AT
LOG = b'{"type":"log","message":"behind it",' + AT


def test_the_hand_made_journal_that_the_next_tests_change_is_a_good_one(tmp_path: Path) -> None:
    content = seal_commits([[JOB_RECORD], [ROW_1, ROW_2], [LOG]])
    path = place_journal(tmp_path, JOB, content)
    _, rows = read_all(tmp_path, JOB)
    assert [row.data for row in rows] == [{"n": 1}, {"n": 2}]
    with JobService(tmp_path) as service:
        service.complete_row(f"{JOB}:1")
    assert path.read_bytes().startswith(content)


@pytest.mark.parametrize(
    ("commits", "tail"),  # the corpus has others, for readers
    [
        ([[JOB_RECORD.replace(b":1,", b":2,", 1)], [ROW_1]], b""),
        ([[JOB_RECORD], [ROW_1, b'{"type":"row_note","row":1,' + AT, ROW_2]], b""),
        ([[JOB_RECORD], [ROW_1], [b'{"type":"row_note","row":1,' + AT]], b'{"type":"log","mess'),
    ],
    ids=["format 2", "within a commit", "before a torn tail"],
)
def test_a_newer_format_or_record_type_is_a_version_error_and_never_touched(
    tmp_path: Path, commits: list[list[bytes]], tail: bytes
) -> None:
    content = seal_commits(commits) + tail
    path = place_journal(tmp_path, JOB, content)
    with JobService(tmp_path) as service:
        with pytest.raises(FormatVersionError) as refused:
            service.get_job(JOB)
        assert refused.value.path == str(path)
        with pytest.raises(FormatVersionError):
            service.get_rows(JOB)
        with pytest.raises(FormatVersionError):
            service.complete_row(f"{JOB}:1")
        with pytest.raises(FormatVersionError):
            service.create_rows(JOB, [{"data": {}}])
        with pytest.raises(FormatVersionError):
            service.start_job(JOB)
        with pytest.raises(FormatVersionError):
            service.list_jobs()
    assert path.read_bytes() == content
    assert not list(path.parent.glob("journal.torn-*"))


def record(kind: bytes, members: bytes) -> bytes:
    return b'{"type":"%b",%b,' % (kind, members) + AT


# --- memory ----------------------------------------------------------------------------------

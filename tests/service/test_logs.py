"""`JobService.log` and `get_logs`: what is written for people, and what they are shown."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import journal.format.commits
from journal import LOG_LEVELS, InvalidValueError, JobService, LogEntry
from journal.format.commits import START, Position


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    """A service with a job ``j`` of three rows."""
    with JobService(tmp_path / "jobs", sync="none") as service:
        service.create_job("J", job_id="j", row_data=[{"data": {"n": n}} for n in range(3)])
        yield service


def journal_of(service: JobService) -> Path:
    return service.root / "j" / "journal.jsonl"


def messages(service: JobService, *options: Any, **more: Any) -> list[str]:
    return [entry.message for entry in service.get_logs("j", *options, **more)]


# --- writing


def test_what_is_logged_is_read_back_with_all_that_was_said(service: JobService) -> None:
    begin = datetime.now(UTC)
    service.log("j", "plain")
    details = {"url": "https://example.org", "tries": [1, None, {"ok": False}]}
    service.log("j", "with all", "ERROR", row_number=2, details=details)
    plain, full = service.get_logs("j")
    assert plain == LogEntry(at=plain.at, level="INFO", message="plain")
    assert full == LogEntry(
        at=full.at, level="ERROR", message="with all", row_number=2, details=details
    )
    assert begin <= plain.at <= full.at <= datetime.now(UTC)
    assert plain.at.tzinfo is UTC


REFUSED: dict[str, tuple[Callable[[JobService], object], str]] = {
    "a level of another name": (lambda s: s.log("j", "m", "WARN"), "level: must be one of DEBUG"),
    "a level of logging's": (lambda s: s.log("j", "m", 20), "level: "),  # type: ignore[arg-type]
    "a message that is no text": (lambda s: s.log("j", b"m"), "message: "),  # type: ignore[arg-type]
    "row 0": (lambda s: s.log("j", "m", row_number=0), "row_number: must be an int from 1"),
    "a row that is true": (lambda s: s.log("j", "m", row_number=True), "row_number: "),
    "details that are a list": (lambda s: s.log("j", "m", details=[1]), "details: "),  # type: ignore[arg-type]
    "details with a NaN": (
        lambda s: s.log("j", "m", details={"a": [float("nan")]}),
        "details.a[0]: ",
    ),
    "reading an unknown level": (lambda s: s.get_logs("j", "ALL"), "level: "),
    "reading since a naive time": (
        lambda s: s.get_logs("j", since=datetime(2026, 1, 1)),  # noqa: DTZ001
        "since: ",
    ),
}


@pytest.mark.parametrize(("call", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_logged_is_refused_by_name_and_changes_nothing(
    service: JobService, call: Callable[[JobService], object], words: str
) -> None:
    before = journal_of(service).read_bytes()
    with pytest.raises(InvalidValueError) as caught:
        call(service)
    assert str(caught.value).startswith(words)
    assert journal_of(service).read_bytes() == before


# --- reading


def test_logs_are_chosen_by_lowest_level_row_and_time(service: JobService) -> None:
    for number, level in enumerate(LOG_LEVELS):
        service.log("j", level, level, row_number=1 + number % 2)
    assert messages(service) == list(LOG_LEVELS)
    assert messages(service, "DEBUG") == list(LOG_LEVELS)
    assert messages(service, "WARNING") == ["WARNING", "ERROR", "CRITICAL"]
    assert messages(service, None, 2) == ["INFO", "ERROR"]
    assert messages(service, "WARNING", 2) == ["ERROR"]
    third = list(service.get_logs("j"))[2].at
    assert messages(service, since=third) == ["WARNING", "ERROR", "CRITICAL"]
    assert messages(service, since=third + timedelta(days=1)) == []


@pytest.mark.parametrize(
    "details",
    [
        {
            "run": {
                "host": "h",
                "pid": 7,
                "nonce": "0123456789abcdef",
                "resume": "rm x",
                "user": "u",
            }
        },
        {"spent_elsewhere": {"id": "0123456789abcdef", "cost_cents": 5, "usage": {"calls": 1}}},
        {"merge": {"hosts": ["h"], "offset": 1, "crc": "01234567"}},
        {"retry": {"job": "other", "host": "h"}},
        {"elsewhere": {"id": "0123456789abcdef", "status": "completed"}},
    ],
)
def test_nothing_that_is_logged_changes_the_job(
    service: JobService, details: dict[str, Any]
) -> None:
    service.start_job("j", argv=["python", "ship.py"])
    before = service.get_job("j")
    assert before is not None
    service.log("j", "m", "ERROR", row_number=1, details=details)
    for reader in (service, JobService(service.root)):
        job = reader.get_job("j")
        assert job is not None
        assert msgspec.structs.replace(job, updated_at=before.updated_at) == before
        (entry,) = reader.get_logs("j")
        assert entry.details == details


# --- where to begin in a long history


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobService]:
    """A job whose first commit of rows and whose middle one are longer than a chunk."""
    with JobService(tmp_path_factory.mktemp("long"), sync="none") as service:
        service.create_job("J", job_id="j")
        for text in ("first", "second"):
            service.create_rows("j", ({"data": {"pad": "x" * 900}} for _ in range(200)))
            for number in range(400):
                service.log("j", f"{text} {number}")
        yield service


@pytest.mark.parametrize("chunk_bytes", [50, 300, 1 << 16])
def test_a_position_before_any_byte_is_the_end_of_a_commit(
    long: JobService, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(journal.format.commits, "CHUNK_BYTES", chunk_bytes)
    history = long._history("j")
    content = journal_of(long).read_bytes()
    ends = [0]
    for line in content.splitlines(keepends=True):
        ends.append(ends[-1] + len(line))
    seals = [
        (end, content[end - 11 : end - 3])
        for end in ends[1:]
        if content[end - 19 :].startswith(b',"crc":"')
    ]
    for offset in (*range(0, len(content), 7993), len(content), len(content) + 5):
        expected = max((seal for seal in seals if seal[0] <= offset), default=(0, b"0"))
        found = history.position_before(offset)
        assert found == Position(expected[0], int(expected[1], 16))
    begin = history.position_before(len(content) // 2)
    assert sum(block.lines.count(b"") for block in history.blocks(begin)) == 0  # they verify


def test_a_history_knows_positions_of_its_own_from_others(long: JobService) -> None:
    history = long._history("j")
    middle = history.position_before(history.end.offset // 2)
    assert history.continues(START)
    assert history.continues(middle)
    assert history.continues(history.end)
    assert not history.continues(Position(middle.offset, middle.crc ^ 1))
    assert not history.continues(Position(history.end.offset + 100, history.end.crc))

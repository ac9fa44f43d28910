"""Verification reads a sound journal as quickly as opening does, and all others closely."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.children import FaultyOs, place_journal, seal_commits, works
from support.platforms import needs_boot_ids
from support.work import lines_of

from journal import JobService, JournalDamagedError
from journal.verify import Report, verify_job

JOB = "checked"
AT = b'"at":"2026-11-24T13:35:00.000001Z"}'
HEADER = b'{"type":"job","format":1,"id":"checked","name":"C",' + AT
ROWS = 2_000


def row(number: int) -> bytes:
    return b'{"type":"row","row":%d,"checksum":"c","data":{},' % number + AT


def status(number: int, text: bytes = b"completed") -> bytes:
    return b'{"type":"row_status","row":%d,"status":"%b",' % (number, text) + AT


def commits() -> list[list[bytes]]:
    """One large commit of rows, then one commit for each row."""
    numbers = range(1, ROWS + 1)
    return [[HEADER], [row(number) for number in numbers], *([status(n)] for n in numbers)]


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    return place_journal(tmp_path, JOB, seal_commits(commits()))


def steps_of_reading(path: Path) -> int:
    """The lines of Python that are run by an opening without a hint."""

    def read() -> None:
        with JobService(path.parent.parent, sync="none") as service:
            service.get_job(JOB)

    read()  # imports what it needs
    (path.parent / "index.hint").unlink()
    return lines_of(read)


def steps_of_verify(path: Path) -> tuple[int, Report]:
    reports: list[Report] = []
    steps = lines_of(lambda: reports.append(verify_job(path.parent)))
    return steps, reports[0]


@needs_boot_ids
def test_verifying_a_sound_journal_takes_few_steps_more_than_reading_it(path: Path) -> None:
    steps, report = steps_of_verify(path)
    assert (report.findings, report.commits, report.rows) == ([], ROWS + 2, ROWS)
    assert steps < 2 * steps_of_reading(path)


@needs_boot_ids
def test_what_stands_before_and_after_damage_takes_few_steps(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    steps, report = steps_of_verify(path)
    assert [finding.kind for finding in report.findings] == ["damage"]
    assert report.commits == ROWS + 1
    path.write_bytes(seal_commits(commits()))
    assert steps < 3 * steps_of_reading(path)


@pytest.mark.parametrize("kind", ["row", "row_status", "row_step", "row_data"])
def test_a_number_that_is_out_of_range_is_damage_though_another_one_follows_it(
    tmp_path: Path, kind: str
) -> None:
    others = {
        "row": b'"checksum":"c","data":{},',
        "row_status": b'"status":"completed",',
        "row_step": b'"attempt":1,"step":"s","state":"started",',
        "row_data": b'"checksum":"c","data":{},"key":"k","created_at":"2026-11-24T13:35:00.000001Z",',
    }
    number = 2 if kind == "row" else 1
    twice = b'{"type":"%b","row":%d,"row":%d,' % (kind.encode(), 2**64, number)
    path = place_journal(
        tmp_path, JOB, seal_commits([[HEADER], [row(1)], [twice + others[kind] + AT]])
    )
    report = verify_job(path.parent)
    assert [finding.kind for finding in report.findings] == ["damage"]
    with JobService(tmp_path) as service, pytest.raises(JournalDamagedError):
        service.get_job(JOB)


def test_a_first_line_that_stands_there_twice_is_inserted(tmp_path: Path) -> None:
    header, good = seal_commits([[HEADER]]), seal_commits([[HEADER], [row(1)], [status(1)]])
    path = place_journal(tmp_path, JOB, header + good)
    (finding,) = verify_job(path.parent).findings
    assert finding.message.startswith("inserted lines")
    assert (finding.offset, finding.end) == (len(header), 2 * len(header))


def test_commits_that_a_writer_takes_back_meanwhile_are_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit whose sync fails is cut off, and the next one takes its place."""
    taken_back = seal_commits([[HEADER], [row(1)], [status(1)]]) + b'{"type":"row_st'
    path = place_journal(tmp_path, JOB, taken_back)

    def replace_end(real: Callable[..., Any], *arguments: Any) -> Any:
        os.truncate(path, 0)
        path.write_bytes(seal_commits([[HEADER], [row(1), row(2)], [status(1, b"processing")]]))
        return real(*arguments)

    system = FaultyOs()
    system.plan("fstat", works, works, replace_end)  # the first with the commit lock held
    monkeypatch.setattr("journal.fs.system.os", system)
    report = verify_job(path.parent)
    assert (report.findings, report.records, report.rows) == ([], 4, 2)

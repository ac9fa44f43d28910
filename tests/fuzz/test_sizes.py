"""Journals of hostile sizes: lines without an end, lines without number; memory stays bounded."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.children import place_journal, seal_commits
from support.platforms import only_long

from journal import JobService, JournalDamagedError
from journal.format import commits, decode, torn_tail_or_damage
from journal.format.commits import CHUNK_BYTES, START, Position
from journal.format.seal import SEAL_BYTES
from journal.format.torn_tail_or_damage import judge_tail
from journal.fs import handles
from journal.verify import Finding, verify_job

JOB = "sized"
MAX_LINE_BYTES = 4 << 20  # the bound of these tests: much less than a journal's, and as sharp
AT = b'"at":"2026-11-24T13:35:00.000001Z"}'
JOB_RECORD = b'{"type":"job","format":1,"id":"sized","name":"Sized",' + AT
ROW = b'{"type":"row","row":1,"checksum":"c1","data":{},' + AT
STATUS = b'{"type":"row_status","row":1,"status":"failed",' + AT
LOG = b'{"type":"log","message":"",' + AT
GOOD = seal_commits([[JOB_RECORD], [ROW]])
LINES_BYTES = 5 * MAX_LINE_BYTES  # a line, the pieces that it was read in, and their copies


@pytest.fixture(autouse=True)
def _small_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (commits, decode, torn_tail_or_damage):
        monkeypatch.setattr(module, "MAX_LINE_BYTES", MAX_LINE_BYTES)
    monkeypatch.setattr(handles, "_MAX_LINE_BYTES", 2 * MAX_LINE_BYTES)


def row_of(line_bytes: int) -> bytes:
    """A row whose sealed line is so long, its LF included."""
    head = b'{"type":"row","row":2,"checksum":"c2","data":{"pad":"'
    tail = b'"},' + AT
    return head + b"x" * (line_bytes - SEAL_BYTES - len(head) - len(tail)) + tail


def peak_bytes(act: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def look(root: Path) -> int:
    """How many rows there are, all of them read; and a listing."""
    with JobService(root) as service:
        assert len(service.list_jobs()) == 1
        return len(list(service.get_rows(JOB)))


def test_a_line_of_just_the_longest_length_is_read(tmp_path: Path) -> None:
    content = seal_commits([[JOB_RECORD], [ROW], [row_of(MAX_LINE_BYTES)], [STATUS]])
    path = place_journal(tmp_path, JOB, content)
    assert max(map(len, content.splitlines(keepends=True))) == MAX_LINE_BYTES
    rows: list[int] = []
    assert peak_bytes(lambda: rows.append(look(tmp_path))) < LINES_BYTES
    assert rows == [2]
    assert verify_job(path.parent).findings == []


@pytest.mark.parametrize("too_many", [1, 1 << 20])
def test_a_longer_line_is_damage_at_its_place(tmp_path: Path, too_many: int) -> None:
    line = row_of(MAX_LINE_BYTES + too_many)
    path = place_journal(tmp_path, JOB, seal_commits([[JOB_RECORD], [ROW], [line], [STATUS]]))

    def refused() -> None:
        with pytest.raises(JournalDamagedError) as error:
            look(tmp_path)
        assert (error.value.line, error.value.offset) == (3, len(GOOD))

    assert peak_bytes(refused) < LINES_BYTES
    if too_many > CHUNK_BYTES:  # seen before it is read as one line
        with JobService(tmp_path) as service, pytest.raises(JournalDamagedError):
            service.get_job_summary(JOB)
    finding = verify_job(path.parent).findings[0]
    assert (finding.kind, finding.line, finding.offset) == ("damage", 3, len(GOOD))


TORN = b"\0" * 2000 + b',"crc":"00000000"}\n'


@pytest.mark.parametrize(
    ("content", "line", "offset"),
    [(GOOD, 3, len(GOOD)), (b"", 1, 0), (GOOD + TORN, 3, len(GOOD))],
    ids=["tail", "whole file", "after a torn commit"],
)
def test_100_megabytes_without_a_line_end_are_damage(
    tmp_path: Path, content: bytes, line: int, offset: int
) -> None:
    path = place_journal(tmp_path, JOB, content)
    os.truncate(path, 100_000_000)
    found: list[Finding] = []

    def refused() -> None:
        with JobService(tmp_path) as service:
            for ask in (lambda: service.get_job(JOB), service.list_jobs):
                with pytest.raises(JournalDamagedError) as error:
                    ask()
                assert (error.value.line, error.value.offset) == (line, offset)
        found.extend(verify_job(path.parent).findings)

    assert peak_bytes(refused) < LINES_BYTES
    (finding,) = found
    place = (finding.kind, finding.offset, finding.end)
    assert place == ("damage", offset, 100_000_000)


ENDLESS_BYTES = 6 << 40


class Endless:
    """NULs, of which only the first are read."""

    def read_at(self, offset: int, length: int) -> bytes:
        is_end = offset + length == ENDLESS_BYTES  # where padding would be
        assert offset < 2 * MAX_LINE_BYTES or is_end
        return bytes(length)


@pytest.mark.parametrize("last", [START, Position(len(GOOD), 7)])
def test_nothing_is_read_after_a_line_that_is_too_long(last: Position) -> None:
    tail = judge_tail(Endless(), ENDLESS_BYTES, last)
    assert (tail.kind, tail.reason) == ("bad", f"a line over {64 << 20} bytes")


@only_long
def test_what_looks_like_a_seal_again_and_again_within_a_line_takes_no_memory(
    tmp_path: Path,
) -> None:
    text = b',"crc":"00000000"}x{'
    for repeats in (1_000, 10_000):  # the first look imports modules
        root = tmp_path / str(repeats)
        path = place_journal(root, JOB, GOOD + text * repeats + b',"crc":"00000000"}\n')
        peak = peak_bytes(partial(look, root))
    assert peak < 5 * repeats * len(text)
    (finding,) = verify_job(path.parent).findings
    assert (finding.line, finding.offset) == (3, len(GOOD))


@pytest.mark.parametrize(
    "commits",
    [
        pytest.param([[STATUS] * 8_000], id="in one commit"),
        pytest.param([[LOG]] * 8_000, id="a commit each"),
    ],
)
def test_the_memory_to_read_tiny_records_does_not_grow_with_their_number(
    tmp_path: Path, commits: list[list[bytes]]
) -> None:
    path = place_journal(tmp_path, JOB, seal_commits([[JOB_RECORD], [ROW], *commits]))
    assert peak_bytes(lambda: look(tmp_path)) < 1_000_000
    report = verify_job(path.parent)
    assert (report.records, report.findings) == (8_002, [])

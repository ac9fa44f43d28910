"""Replay applies blocks of lines at once, which must be what applying one after the other is."""

from __future__ import annotations

import re
from copy import copy
from itertools import chain
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.children import place_journal, seal_commits

from journal.errors import JournalDamagedError
from journal.format import commits as replay
from journal.format.commits import START, Position, verified_blocks, verified_lines
from journal.format.decode import UndecodableError, UnknownRecordError, decode_record
from journal.index.columns import CODES, OPTIONAL, Columns
from journal.index.index import Index
from journal.index.replay import BadRecordError, apply
from journal.store.journal import Journal
from journal.verify import verify_job

JOB = "replayed"
AT = b'"at":"2026-11-24T13:35:00.000001Z"}'
JOB_RECORD = b'{"type":"job","format":1,"id":"replayed","name":"R",' + AT


def row(number: int, more: bytes = b"") -> bytes:
    return b'{"type":"row","row":%d,"checksum":"c","data":{},%b' % (number, more) + AT


def data(number: int) -> bytes:
    return (
        b'{"type":"row_data","row":%d,"checksum":"d","data":{},"key":"k","created_%b,'
        % (
            number,
            AT[1:-1],
        )
        + AT
    )


def status(number: int, name: bytes, more: bytes = b"") -> bytes:
    return b'{"type":"row_status","row":%d,"status":"%b",%b' % (number, name, more) + AT


def step(number: int, state: bytes) -> bytes:
    return (
        b'{"type":"row_step","row":%d,"attempt":1,"step":"s","state":"%b",' % (number, state) + AT
    )


def call(id_: int, state: bytes, rows: bytes = b"") -> bytes:
    more = b'"rows":%b,' % rows if rows else b""
    more += b'"due":"2026-01-02T10:00:00.000001Z",' if state == b"waiting" else b""
    return b'{"type":"call","id":"%016x",%b"state":"%b",' % (id_, more, state) + AT


def step_of_rows(rows: bytes, state: bytes) -> bytes:
    return b'{"type":"row_step","rows":%b,"attempt":1,"step":"s","state":"%b",' % (rows, state) + AT


# --- from lines into the index ---------------------------------------------------------------

DEEPEST = b'"x":' + b"[" * 99 + b"]" * 99 + b","
TOO_DEEP = b'"x":' + b"[" * 100 + b"]" * 100 + b","
TRICKY = st.sampled_from([
    b"",
    b'"x":[{"y":{},"crc":"0badc0de"},",\\"crc\\":\\"00000000\\"}"],',
    b'"type2":"row","x":1e400,',
    DEEPEST,
    b'"pad":"' + b"[{" * 200 + b'",',
    b'"pad":[' + b"[]," * 150 + b"0],",
    TOO_DEEP,
])  # fmt: skip
NUMBERS = st.one_of(
    st.integers(1, 12), st.sampled_from([0, -1, 40, 17, 2**31, 2**63 - 1, 2**63, 2**64, 10**30])
)
COSTS = st.sampled_from(
    [b"5", b"0", b"-7", b"null", b"1.0", b"1.5", b"1e3", b"0.000001", b'"5"', b"1" * 40]
)
USAGES = st.sampled_from([b"{}", b'{"in":5}', b'{"in":0.5,"out":2}', b'{"in":"5"}', b"[]"])
NAMES = st.sampled_from([*(name.encode() for name in CODES), b"running", b"", b"Completed"])
RESETS = st.sampled_from([
    b'"reset":"retry",', b'"reset":"redo",', b'"reset":"anew",', b'"reset":"given_back",',
    b'"reset":"wait","due":"2026-12-01T12:00:00.000001Z",', b'"reset":"wait",', b'"reset":1,', b"",
])  # fmt: skip
RANGES = st.sampled_from([
    b"[[1,1]]", b"[[1,3]]", b"[[2,4]]", b"[[3,3],[1,2]]", b"[[1,2],[4,6]]", b"[[5,4]]", b"[[1,40]]",
    b"[[1,4503599627370496]]", b"[[1,3],[2,3]]", b"[1,2]", b"[[0,1]]",
])  # fmt: skip
CALL_STATES = st.sampled_from([b"started", b"waiting", b"waiting", b"ended"])
COMMON_NAMES = st.sampled_from([b"processing", b"completed"])

ROWS = st.builds(row, NUMBERS, st.one_of(TRICKY, st.just(b'"status":5,"cost_cents":"x",')))
STATUSES = st.one_of(
    st.builds(
        status, st.integers(1, 6), COMMON_NAMES, COSTS.map(lambda c: b'"cost_cents":%b,' % c)
    ),
    st.builds(status, st.integers(1, 6), NAMES, COSTS.map(lambda c: b'"cost_cents":%b,' % c)),
    st.builds(status, st.integers(1, 6), NAMES, USAGES.map(lambda u: b'"usage":%b,' % u)),
    st.builds(status, NUMBERS, NAMES, TRICKY),
    st.builds(status, st.integers(1, 3), st.just(b"processing")),
    st.builds(status, st.integers(1, 3), st.sampled_from([b"pending", b"failed"]), RESETS),
    st.builds(data, NUMBERS),
    st.builds(step, NUMBERS, st.sampled_from([b"started", b"done", b"failed", b"dropped"])),
    st.builds(step_of_rows, RANGES, st.sampled_from([b"started", b"done", b"dropped"])),
    st.builds(call, st.integers(1, 2), CALL_STATES, RANGES),
    st.builds(call, st.integers(1, 2), CALL_STATES),
)
OTHERS = st.sampled_from([
    JOB_RECORD,
    b'{"type":"job","format":2,"id":"replayed","name":"R",' + AT,
    b'{"type":"job_status","status":"running",' + AT,
    b'{"type":"job_status","status":"pausing",' + AT,
    b'{"type":"job_reopened",' + AT,
    b'{"type":"job_reopened","reason":5,' + AT,
    b'{"type":"job_reopened","reason":"r",' + AT,
    b'{"type":"job_pause","person":"p",' + AT,
    b'{"type":"hold","until":"2026-07-25T17:00:00.000001Z","reason":"r",' + AT,
    b'{"type":"hold","reason":"r",' + AT,
    b'{"type":"hold","until":5,' + AT,
    b'{"type":"job_pause","ended":true,' + AT,
    b'{"type":"job_pause","ended":1,' + AT,
    b'{"type":"run","id":"00000000000000aa","host":"h","user":"u","pid":1,"package":"1",' + AT,
    b'{"type":"tune","id":"00000000000000bb","run":"00000000000000aa","values":{"a":1},' + AT,
    b'{"type":"tune","id":"00000000000000bb","run":"00000000000000aa","values":[],' + AT,
    b'{"type":"tuned","id":"00000000000000bb","changes":{"a":[null,1]},' + AT,
    b'{"type":"row_data","row":1,"checksum":"d","data":{},"key":"k",' + AT,
    b'{"type":"row_step","row":1,"attempt":1,"step":"s","state":"begun",' + AT,
    b'{"type":"row_step","row":1,"attempt":-1,"step":"s","state":"done",' + AT,
    b'{"type":"row_step","row":1,"attempt":1,"state":"done",' + AT,
    b'{"type":"job_counts","total":7,"successful":1,' + AT,
    b'{"type":"job_counts","total":7.5,' + AT,
    b'{"type":"job_error","code":"C","message":"M",' + AT,
    b'{"type":"log","message":"","row":"x","status":[],"cost_cents":{},' + AT,
    b'{"type":"log","message":5,' + AT,
    b'{"type":"row_move","row":1,' + AT,
    b'{"row":1,"type":"row","data":{},"checksum":"",' + AT,
    b'{"row":1,"data":{},"checksum":"",' + AT,
    row(1) + row(2),
    row(1)[:30],
    row(1)[30:],
    b'{"type":"log","message":"}',
    b'{"type":"log",',
    b" ",
    b"\r",
    b"",
    b"null",
    b"[]",
    b'{"type":"row_status","row":1.0,"status":"failed",' + AT,
    b'{"type":"row_status","row":true,"status":"failed",' + AT,
    b'{"type":"row_status","status":"failed",' + AT,
    b'{"type":"row_status","row":1,' + AT,
    b'{"type":"log","message":"\xff",' + AT,
])  # fmt: skip


@st.composite
def blocks(draw: st.DrawFn) -> list[bytes]:
    """Lines behind a job record: runs of rows in their order, and whatever else there is."""
    lines: list[bytes] = []
    count = 0
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            more = draw(st.integers(1, 6))
            lines += map(row, range(count + 1, count + more + 1))
            count += more
        else:
            lines += draw(st.lists(STATUSES, max_size=8))
            lines += draw(st.lists(st.one_of(STATUSES, ROWS, OTHERS), max_size=2))
    return lines or [row(1)]


def apply_alone(index: Index, offset: int, line: bytes) -> bool:
    """Apply a record as a commit does, whole and alone. Return whether it can be applied."""
    try:
        record = decode_record(line)
    except (UndecodableError, UnknownRecordError):
        return False
    index.mark()
    if not index.apply_one(record, offset):
        return False
    index.last_at = record.at
    return True


def contents(index: Index) -> tuple[Any, ...]:
    columns = index.columns
    return (
        index.state,
        index.last_at,
        columns.statuses,
        columns.row_offsets,
        columns.status_offsets,
        columns.attempts,
        columns.earlier,
        columns.given_back,
        columns.due,
        columns.numbers,
        columns.step_heads,
        columns.step_offsets,
        columns.step_previous,
        columns.calls,
        columns.due,
        index.calls,
        [sorted(chain(*index.calls.rows(call, index.columns))) for call in index.calls],
        index.status_counts,
        index.cost_millionths,
        index.usage,
        index.before_attempt,
        index.highest_number,
        index.ascending,
        [index.position_of(number) for number in (0, 1, 2, 3, 12, 17, 40, 2**63 - 1)],
    )


@settings(max_examples=200, deadline=None)
@given(blocks(), st.lists(st.integers(0, 30), max_size=3))
@example([row(1), row(2), row(2), row(3)], [])
@example([row(1), row(2), row(4), row(3), status(4, b"failed"), row(5)], [])
@example([row(1), status(1, b"failed", b'"cost_cents":5,')], [])
@example([row(1), b'{"type":"row_data","row":1,"checksum":"d","data":{},"key":"k",' + AT], [])
@example([row(1), row(2, DEEPEST), row(3, TOO_DEEP), row(4)], [])
@example([row(1), status(1, b"failed"), status(1, b"lost"), row(1)], [])
@example([row(1), row(3), status(9, b"failed")], [])
@example(
    [
        *(row(1), row(2), row(3), status(1, b"processing"), status(3, b"processing")),
        *(call(1, b"started", b"[[1,3]]"), call(1, b"waiting"), step_of_rows(b"[[1,3]]", b"done")),
        *(status(3, b"pending", b'"reset":"redo",'), call(1, b"started"), call(1, b"waiting")),
        *(step(1, b"dropped"), call(2, b"waiting", b"[[1,2]]"), call(1, b"ended"), data(1)),
        *(call(2, b"ended"), call(2, b"waiting")),
    ],
    [7],
)
def test_a_block_is_applied_as_its_lines_are_one_after_the_other(
    lines: list[bytes], cuts: list[int]
) -> None:
    lines = [JOB_RECORD, *lines]
    expected, at, refused = Index(), 0, None
    for line in lines:
        if not apply_alone(expected, at, line):
            refused = at
            break
        at += len(line) + 1
    index, offset, found = Index(), 0, None
    ends = sorted({cut for cut in cuts if 0 < cut < len(lines)} | {len(lines)})
    try:
        for begin, end in zip([0, *ends], ends, strict=False):
            apply(index, offset, lines[begin:end])
            offset += sum(map(len, lines[begin:end])) + end - begin
    except BadRecordError as error:
        found = error.offset
    assert found == refused
    if refused is None:
        assert contents(index) == contents(expected)


@pytest.mark.parametrize("rows", [b"[[1,5]]", b"[[5,5],[1,3]]", b"[[6,5]]", b"[[5,6],[6,6]]"])
def test_a_range_with_a_gap_is_refused_by_a_reader(rows: bytes) -> None:
    lines = [JOB_RECORD, row(1), *map(row, range(5, 9))]
    with pytest.raises(BadRecordError):
        apply(Index(), 0, [*lines, step_of_rows(rows, b"done")])
    apply(Index(), 0, [*lines, step_of_rows(b"[[5,7],[1,1]]", b"done")])


def columns_of(columns: Columns) -> list[object]:
    return [copy(getattr(columns, name)) for name in Columns.__slots__[2:]]


@settings(max_examples=200, deadline=None)
@given(blocks(), st.integers(0, 30), st.booleans())
@example([row(1), status(1, b"failed"), row(5), status(1, b"pending", b'"reset":"redo",')], 3, True)
@example(
    [
        *(row(1), data(1), step(1, b"done"), status(1, b"processing")),
        *(status(1, b"pending", b'"reset":"retry",'), status(1, b"processing")),
        *(status(1, b"pending", b'"reset":"given_back",'), status(1, b"processing")),
        status(1, b"pending", b'"reset":"wait","due":"2026-12-01T12:00:00.000001Z",'),
        *(status(1, b"pending", b'"reset":"redo",'), data(1)),
    ],
    7,
    False,
)
@example(
    [
        *(row(1), row(2), row(3), status(1, b"processing"), status(3, b"processing")),
        *(call(1, b"started", b"[[1,3]]"), step_of_rows(b"[[1,3]]", b"done")),
        *(call(1, b"waiting"), status(3, b"pending", b'"reset":"redo",'), call(1, b"started")),
        *(call(1, b"waiting"), data(1), call(2, b"waiting", b"[[1,2]]"), call(1, b"ended")),
    ],
    7,
    False,
)
def test_a_rollback_restores_what_the_index_was_at_the_mark(
    lines: list[bytes], kept: int, viewed: bool
) -> None:
    offsets = [*range(0, 100 * len(lines) + 100, 100)]
    index, expected = Index(), Index()
    for number, line in enumerate([JOB_RECORD, *lines][: kept + 1]):
        apply_alone(index, offsets[number], line)
        apply_alone(expected, offsets[number], line)
    mark, view = index.mark(), index.view(None) if viewed else None
    for number, line in enumerate(lines[kept:], kept + 1):
        apply_alone(index, offsets[number], line)
    later = index.view(None) if viewed else None
    seen = None if later is None else columns_of(later.columns)
    index.rollback(mark)
    assert later is None or columns_of(later.columns) == seen
    for name in OPTIONAL - {"numbers"}:
        if getattr(expected.columns, name) is None:  # then 0 in all rows, or no step
            assert not any(getattr(index.columns, name) or ())
            setattr(index.columns, name, None)
    assert contents(index) == contents(expected)
    assert view is None or view.columns.statuses == expected.columns.statuses


def test_a_line_whose_time_makes_no_sense_is_named_by_reading_as_by_verify(tmp_path: Path) -> None:
    bad = b'{"type":"row_status","row":1,"status":"failed","at":"yesterday"}'
    path = place_journal(tmp_path, JOB, seal_commits([[JOB_RECORD], [row(1)], [bad]]))
    (finding,) = verify_job(path.parent).findings
    with pytest.raises(JournalDamagedError) as error:
        Journal(path.parent, sync=False, lock_timeout_s=1).refresh()
    assert (error.value.line, error.value.offset) == (finding.line, finding.offset)
    assert finding.line == 3


# --- from bytes to lines ---------------------------------------------------------------------

BODIES = st.sampled_from([
    row(1)[:-1],
    b"",
    b"{",
    b'{"a":{"x":1,"crc":"00000000"}',
    b',"crc":"',
    b',"crc":"00000000"',
    b',"crc":"zzzzzzzz"',
    b',"crc":"0000\r',
    b"x" * 40,
    b"x" * 700,
])  # fmt: skip
UNSEALED = st.one_of(
    BODIES,
    st.sampled_from([b',"crc":"zzzzzzzz"}', b',"crc":"0000000A"}', b'x,"crc":"       0"}', b"}}"]),
)
COMMITS = st.tuples(st.lists(UNSEALED, max_size=3), BODIES)


def expected_lines(content: bytes) -> tuple[list[bytes], Position]:
    """The lines of the good commits that a journal begins with, and where they end."""
    lines: list[bytes] = []
    good, end, commit, crc = 0, START, b"", 0
    for line in content.split(b"\n")[:-1]:
        lines.append(line)
        seal = re.fullmatch(rb',"crc":"([0-9a-f]{8})"}', line[-18:])
        if seal is None:
            commit += line + b"\n"
            continue
        commit += line[:-18]
        crc = crc32(commit, end.crc)
        if b"%08x" % crc != seal[1]:
            break
        good, end, commit = len(lines), Position(end.offset + len(commit) + 19, crc), b""
    return lines[:good], end


@settings(max_examples=200, deadline=None)
@given(
    st.lists(COMMITS, max_size=12),
    st.booleans(),
    st.one_of(st.none(), st.tuples(st.integers(0, 2000), st.sampled_from([1, 32, 128]))),
    st.integers(0, 40),
    st.integers(40, 2000),
)
def test_the_commits_that_are_read_are_those_that_match_their_seals(
    commits: list[tuple[list[bytes], bytes]],
    single: bool,
    flip: tuple[int, int] | None,
    cut: int,
    chunk_bytes: int,
) -> None:
    content, crc = bytearray(), 0
    for lines, last in commits:
        body = last if single else b"\n".join([*lines, last])
        crc = crc32(body, crc)
        content += body + b',"crc":"%08x"}\n' % crc
    if flip is not None and flip[0] < len(content):
        content[flip[0]] ^= flip[1]
    del content[len(content) - min(cut, len(content)) :]
    expected, end = expected_lines(bytes(content))
    assert verified_lines(bytes(content), START)[:2] == (expected, end)

    class File:
        def read_at(self, offset: int, length: int) -> bytes:
            return bytes(content[offset : offset + length])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "CHUNK_BYTES", chunk_bytes)
        found = list(verified_blocks(File(), START, len(content)))
    assert [line for block in found for line in block.lines] == expected
    assert (found[-1].after if found else START) == end
    assert all(block.ends for block in found[-1:])

"""Hostile records behind seals that match: read as written, or named with their line and offset.

Never both: a fresh service, one that sees the record come, and ``verify`` give the same verdict.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.children import place_journal, seal_commits

from journal import (
    FormatVersionError,
    JobRow,
    JobService,
    JournalDamagedError,
    RowStatus,
)
from journal.verify import verify_job

JOB = "hostile"
AT = b'"at":"2026-11-24T13:35:00.000001Z"}'
JOB_RECORD = b'{"type":"job","format":1,"id":"hostile","name":"Hostile",' + AT
ROW_1 = b'{"type":"row","row":1,"checksum":"c1","data":{"n":1},' + AT
ROW_2 = b'{"type":"row","row":2,"checksum":"c2","data":{"n":2},' + AT
LOG = b'{"type":"log","message":"behind it",' + AT
GOOD = [[JOB_RECORD], [ROW_1, ROW_2]]
BAD_LINE = 5  # where the tests put the record that this is about


def record(kind: bytes, members: bytes) -> bytes:
    return b'{"type":"%b",%b,' % (kind, members) + AT


def row_3(data: bytes) -> bytes:
    return b'{"type":"row","row":3,"checksum":"c3","data":%b,' % data + AT


def completed(members: bytes) -> bytes:
    return record(b"row_status", b'"row":1,"status":"completed",' + members)


def with_at(at: bytes) -> bytes:
    return b'{"type":"row_status","row":1,"status":"failed","at":%b}' % at


def nested(opening: bytes, closing: bytes, depth: int) -> bytes:
    return opening * depth + b"1" + closing * depth


class Verdict(NamedTuple):
    """What became of reading everything: the rows and their summary, or an error and its place."""

    error: type[Exception] | None = None
    line: int = 0
    offset: int = 0
    rows: tuple[JobRow, ...] = ()
    summary: Any = None


def verdict_of(service: JobService) -> Verdict:
    try:
        summary = service.get_job_summary(JOB)
        rows = tuple(service.get_rows(JOB))
    except JournalDamagedError as error:
        return Verdict(JournalDamagedError, error.line, error.offset)
    except FormatVersionError as error:
        (line,) = [n for n in range(9) if str(error).find(f"at line {n}") >= 0]
        return Verdict(FormatVersionError, line)
    assert [row for row in rows if row.status is RowStatus.PENDING] == list(
        service.get_pending_rows(JOB)
    )
    assert [service.get_row(row.id) for row in rows] == list(rows)
    assert summary["total_rows"] == len(rows)
    assert summary["pending_count"] == sum(row.status is RowStatus.PENDING for row in rows)
    assert summary["total_cost_cents"] == sum(row.cost_cents or 0 for row in rows)
    return Verdict(rows=rows, summary=summary)


def judge(root: Path, bad: bytes) -> Verdict:
    """What is said of a journal with this record in the middle of a commit; all must say it."""
    known = seal_commits(GOOD)
    content = seal_commits([*GOOD, [LOG, bad, LOG], [LOG]])
    path = place_journal(root, JOB, known)
    offset = len(known) + len(LOG) + 1
    assert content[offset:].startswith(bad)
    with JobService(root) as service:
        assert len(verdict_of(service).rows) == 2
        with path.open("ab") as file:  # as another process would
            file.write(content[len(known) :])
        seen = verdict_of(service)
        assert verdict_of(service) == seen
    with JobService(root) as service:
        assert verdict_of(service) == seen
    findings = verify_job(path.parent).findings
    if seen.error is None:
        assert findings == []
    else:
        kind = "newer" if seen.error is FormatVersionError else "damage"
        place = (kind, BAD_LINE, offset, offset + len(bad) + 1)
        assert [(f.kind, f.line, f.offset, f.end) for f in findings] == [place]
        assert seen.line == BAD_LINE
        assert seen.offset in {offset, 0} if kind == "newer" else seen.offset == offset
    assert path.read_bytes() == content
    return seen


# --- what reads as written -------------------------------------------------------------------

READS: dict[str, tuple[bytes, int, str, Any]] = {  # record, row, attribute of the row, its value
    "brackets in a string": (row_3(b'{"d":"%b"}' % (b"[" * 500)), 3, "data", {"d": "[" * 500}),
    "brackets behind an escaped quote": (
        row_3(b'{"d":"\\"%b\\\\"}' % (b"[{" * 300)),
        3,
        "data",
        {"d": '"' + "[{" * 300 + "\\"},
    ),
    "many brackets side by side": (
        row_3(b'{"d":[%b[]]}' % (b"[]," * 5000)),
        3,
        "data",
        {"d": [[]] * 5001},
    ),
    "the highest cost": (completed(b'"cost_cents":%d' % (2**63 - 1)), 1, "cost_cents", 2**63 - 1),
    "the lowest cost": (completed(b'"cost_cents":%d' % -(2**63)), 1, "cost_cents", -(2**63)),
    "cost -1": (completed(b'"cost_cents":-1'), 1, "cost_cents", -1),
    "a result of -0.0": (completed(b'"result":-0.0'), 1, "result", 0),
    "the type twice, the same": (
        record(b"row_status", b'"row":1,"status":"failed","type":"row_status"'),
        1,
        "status",
        RowStatus.FAILED,
    ),
    "crc first": (
        b'{"crc":"00000000","type":"row_status","row":1,"status":"failed",' + AT,
        1,
        "status",
        RowStatus.FAILED,
    ),
    "crc twice": (completed(b'"crc":"00000000","crc":7,"cost_cents":3'), 1, "cost_cents", 3),
    "a seal that is none, of no digits": (
        completed(b'"cost_cents":3')[:-1] + b',"crc":"zzzzzzzz"}',
        1,
        "cost_cents",
        3,
    ),
    "a time in the year 9999": (
        with_at(b'"9999-12-31T23:59:59.999999Z"'),
        1,
        "status",
        RowStatus.FAILED,
    ),
    "the highest row number": (
        row_3(b"{}").replace(b'"row":3', b'"row":%d' % (2**63 - 1)),
        2**63 - 1,
        "data",
        {},
    ),
}


def test_a_strange_record_that_is_a_record_reads_as_written(tmp_path: Path) -> None:
    for case, (bad, number, name, value) in READS.items():
        seen = judge(root := tmp_path / case, bad)
        assert seen.error is None, case
        (row,) = [row for row in seen.rows if row.row_number == number]
        assert getattr(row, name) == value, case
        untouched = {1, 2} - {number}
        assert [row.data for row in seen.rows if row.row_number in untouched] == [
            {"n": n} for n in sorted(untouched)
        ]
        with JobService(root) as service:  # and the job can go on
            service.set_error(JOB, "E", "written on")
        assert verify_job(root / JOB).findings == []


# --- what is refused -------------------------------------------------------------------------

DEEP = {
    f"{depth} {name} in {where}": template.replace(
        b"?", nested(opening, closing, depth // (2 if name == "of both" else 1))
    )
    for depth, name, opening, closing in (
        (102, "arrays", b"[", b"]"),
        (102, "objects", b'{"a":', b"}"),
        (100_000, "of both", b'[{"a":', b"}]"),
    )
    for where, template in (
        ("data", row_3(b'{"d":?}')),
        ("a result", completed(b'"result":?')),
        ("an unknown member", record(b"log", b'"message":"m","new":?')),
        ("a member of another type", record(b"log", b'"message":?')),
        ("the type", b'{"type":?,' + AT),
        ("metadata", JOB_RECORD.replace(b'"name"', b'"metadata":{"d":?},"name"')),
    )
}
REFUSED = {  # beside those in the corpus
    "the status of row 0": record(b"row_status", b'"row":0,"status":"failed"'),
    "the status of row -1": record(b"row_status", b'"row":-1,"status":"failed"'),
    "the status of no row": record(b"row_status", b'"status":"failed"'),
    "a row status that is no text": record(b"row_status", b'"row":1,"status":7'),
    "no row status": record(b"row_status", b'"row":1'),
    "row -1": row_3(b"{}").replace(b'"row":3', b'"row":-1'),
    "row 1.5": row_3(b"{}").replace(b'"row":3', b'"row":1.5'),
    "row 2**64": row_3(b"{}").replace(b'"row":3', b'"row":%d' % 2**64),
    "a row number of 5000 digits": row_3(b"{}").replace(b'"row":3', b'"row":1' + b"0" * 5000),
    "a row number in text": row_3(b"{}").replace(b'"row":3', b'"row":"3"'),
    "a row without a number": row_3(b"{}").replace(b'"row":3,', b""),
    "a checksum that is no text": row_3(b"{}").replace(b'"c3"', b"3"),
    "data that is null": row_3(b"null"),
    "a count in text": record(b"job_counts", b'"total":"7"'),
    "no message": b'{"type":"log",' + AT,
    "a type that is no text": b'{"type":3,"message":"m",' + AT,
    "a cost in text": completed(b'"cost_cents":"7"'),
    "half a cent in text": completed(b'"cost_cents":"7.5"'),
    "a tracking number that is no text": completed(b'"tracking_number":7'),
    "an empty object": b"{}",
    "invalid UTF-8 in a message": record(b"log", b'"message":"\xff"'),
    "invalid UTF-8 in data": row_3(b'{"n":"\xff"}'),
    "invalid UTF-8 in an error message": completed(b'"error_message":"\xc3\x28"'),
    "invalid UTF-8 in a result": completed(b'"result":{"\xff":1}'),
    "month 13": with_at(b'"2026-13-24T13:35:00.000001Z"'),
    "day 99 of a row": row_3(b"{}").replace(b"2026-11-24", b"2026-11-99"),
    "the status of row 10**400": record(b"row_status", b'"row":%d,"status":"failed"' % 10**400),
    "row true": row_3(b"{}").replace(b'"row":3', b'"row":true'),
    "row 3.0": row_3(b"{}").replace(b'"row":3', b'"row":3.0'),
    "row null": row_3(b"{}").replace(b'"row":3', b'"row":null'),
    "cost -2**63-1": completed(b'"cost_cents":%d' % (-(2**63) - 1)),
    "cost 10**30": completed(b'"cost_cents":%d' % 10**30),
    "a count of 2**63": record(b"job_counts", b'"total":%d' % 2**63),
    "invalid UTF-8 in the name of a member": record(b"log", b'"message":"m","\xff":1'),
    "invalid UTF-8 in an unknown member of a row": row_3(b'{},"new":"\xc3"'),
    "invalid UTF-8 in an unknown member of a status": completed(b'"new":{"a":["\x80"]}'),
    "invalid UTF-8 in an unknown member of an origin": completed(
        b'"origin":{"id":"0123456789abcdef","new":"\xff",%b' % AT
    ),
    "cost 1e400": completed(b'"cost_cents":1e400'),
    "a usage that is no object": completed(b'"usage":[5]'),
    "a usage of 2**63": completed(b'"usage":{"a":%d}' % 2**63),
    "a usage of 1e400": completed(b'"usage":{"a":1e400}'),
    "cost true": completed(b'"cost_cents":true'),
    "a cost of 5000 digits": completed(b'"cost_cents":1' + b"0" * 5000),
    "a result of 1e400": completed(b'"result":1e400'),
    "a row number twice, once as text": record(
        b"row_status", b'"row":"1","row":1,"status":"failed"'
    ),
    "a type twice, of rows": b'{"type":"row_status","status":"failed",' + row_3(b"{}")[1:],
    "type null": b'{"type":null,"message":"m",' + AT,
    "type as a list": b'{"type":["log"],"message":"m",' + AT,
    "an array": b'["log"]',
    "a CR alone": b"\r",
    "invalid UTF-8 in a status": record(b"row_status", b'"row":1,"status":"f\xffiled"'),
    "invalid UTF-8 in a type": b'{"type":"l\xffg","message":"m",' + AT,
    "invalid UTF-8 in a checksum": row_3(b"{}").replace(b"c3", b"\xff"),
    "invalid UTF-8 in a time": with_at(b'"2026-11-24T13:35:00.00000\xffZ"'),
    "30 February": with_at(b'"2026-02-30T13:35:00.000001Z"'),
    "a time beyond the last year in UTC": with_at(b'"9999-12-31T23:59:59.000001-05:00"'),
    "a time before the first year in UTC": with_at(b'"0001-01-01T00:00:00.000001+01:00"'),
    "a time twice, once none": b'{"type":"row_status","row":1,"status":"failed","at":"x",' + AT,
    **DEEP,
}


def test_a_hostile_record_is_damage_at_its_line_for_all_who_read_it(tmp_path: Path) -> None:
    for number, (case, bad) in enumerate(REFUSED.items()):
        assert judge(tmp_path / str(number), bad).error is JournalDamagedError, case


NEWER = {
    "another type": record(b"row_note", b'"row":1'),
    "another type and invalid UTF-8": record(b"row_note", b'"row":"\xff"'),
    "another type without a time": b'{"type":"row_note"}',
}


def test_a_record_of_a_newer_version_is_newer_for_all_who_read_it(tmp_path: Path) -> None:
    for case, bad in NEWER.items():
        assert judge(tmp_path / case, bad).error is FormatVersionError, case


@pytest.mark.parametrize("line", [b"\xe2\x82", b"\xac"])
def test_each_line_is_utf8_by_itself(tmp_path: Path, line: bytes) -> None:
    """A character that is cut in two isn't put together over the end of a line."""
    assert judge(tmp_path, record(b"log", b'"message":"m","new":"%b"' % line)).error


def test_a_superseded_outcome_that_no_reader_decodes_is_found_by_verify(tmp_path: Path) -> None:
    bad = record(b"row_status", b'"row":1,"status":"failed","error_message":7')
    content = seal_commits([*GOOD, [LOG, bad], [completed(b'"cost_cents":1')]])
    path = place_journal(tmp_path, JOB, content)
    with JobService(tmp_path) as service:
        assert verdict_of(service).rows[0].cost_cents == 1
    (finding,) = verify_job(path.parent).findings
    assert (finding.kind, finding.line) == ("damage", BAD_LINE)


def test_a_last_record_with_a_time_that_opening_does_not_decode_is_damage(tmp_path: Path) -> None:
    bad = completed(b'"since":1' + b"0" * 5000)
    path = place_journal(tmp_path, JOB, seal_commits([*GOOD, [LOG, bad]]))
    with JobService(tmp_path) as service:
        assert verdict_of(service).line == BAD_LINE
    (finding,) = verify_job(path.parent).findings
    assert (finding.kind, finding.line) == ("damage", BAD_LINE)


@pytest.mark.parametrize("depth", [102, 100_000])
def test_a_superseded_outcome_nested_too_deep_is_damage_for_all_who_read_it(
    tmp_path: Path, depth: int
) -> None:
    """Opening asks how deep a line nests before it passes over what the line holds."""
    bad = completed(b'"result":' + nested(b"[", b"]", depth))
    content = seal_commits([*GOOD, [LOG, bad], [completed(b'"cost_cents":1')]])
    path = place_journal(tmp_path, JOB, content)
    with JobService(tmp_path) as service, pytest.raises(JournalDamagedError) as refused:
        service.get_job(JOB)
    assert refused.value.line == BAD_LINE
    (finding,) = verify_job(path.parent).findings
    assert (finding.kind, finding.line) == ("damage", BAD_LINE)


def test_a_job_with_the_highest_row_number_takes_no_next_one(tmp_path: Path) -> None:
    last = row_3(b"{}").replace(b'"row":3', b'"row":%d' % (2**63 - 1))
    path = place_journal(tmp_path, JOB, seal_commits([*GOOD, [last]]))
    before = path.read_bytes()
    with JobService(tmp_path) as service:
        with pytest.raises(ValueError, match="row_number"):
            service.create_rows(JOB, [{"data": {}}])
        assert path.read_bytes() == before
        service.create_rows(JOB, [{"row_number": 3}])
    assert verify_job(path.parent).findings == []


def test_writing_behind_the_last_moment_there_is_keeps_to_it(tmp_path: Path) -> None:
    late = record(b"log", b'"message":"m"').replace(AT, b'"at":"9999-12-31T23:59:59.999999Z"}')
    path = place_journal(tmp_path, JOB, seal_commits([*GOOD, [late]]))
    with JobService(tmp_path) as service:
        service.start_row(f"{JOB}:1")
        service.create_rows(JOB, [{"data": {}}])
    lines = path.read_bytes().splitlines()[-2:]
    assert [json.loads(line)["at"] for line in lines] == ["9999-12-31T23:59:59.999999Z"] * 2
    assert verify_job(path.parent).findings == []

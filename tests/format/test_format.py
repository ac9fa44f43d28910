"""The format's specification is what the code does."""

import re
from pathlib import Path
from zlib import crc32

import journal
from journal import JobService
from journal.format.decode import decode_record
from journal.format.records import now
from journal.format.seal import stated_crc
from journal.fs.file_names import SYNC_MARK_NAME
from journal.fs.handles import JournalFile
from journal.fs.sync_mark import SyncMark
from journal.fs.system import boot_id
from journal.model import JobRow
from journal.text import time_text

PAGES = Path(journal.__file__).with_name("docs")


def worked_example() -> list[bytes]:
    text = (PAGES / "format.md").read_text(encoding="utf-8")
    return [line.strip().encode() for line in text.splitlines() if line.startswith('    {"type"')]


def test_the_worked_example_of_the_specification_has_the_seals_it_states() -> None:
    lines = worked_example()
    assert len(lines) == 3
    first = crc32(lines[0][:-18], 0)
    assert lines[0].endswith(b',"crc":"%08x"}' % first)
    second = crc32(lines[1] + b"\n" + lines[2][:-18], first)
    assert lines[2].endswith(b',"crc":"%08x"}' % second)


def test_a_file_made_of_the_worked_example_is_a_job(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    directory.mkdir()
    (directory / "journal.jsonl").write_bytes(b"".join(line + b"\n" for line in worked_example()))
    with JobService(tmp_path) as service:
        assert [row.row_number for row in service.get_rows("demo")] == [1, 2]


def test_a_mark_that_is_set_or_struck_out_is_as_the_specification_says(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_bytes(b"")
    mark = SyncMark(tmp_path, JournalFile(tmp_path / "journal.jsonl"))
    mark.set(4711)
    text = (PAGES / "writers.md").read_text(encoding="utf-8")
    example = re.search(r'^    (\{"synced_bytes":.*:")[0-9a-f-]{36}("\})$', text, re.MULTILINE)
    assert example is not None
    said = example[1] + (boot_id() or "unknown") + example[2]
    assert (tmp_path / SYNC_MARK_NAME).read_text() == f"{said:159}\n"
    mark.clear()
    assert (tmp_path / SYNC_MARK_NAME).read_text() == " " * 159 + "\n"


def test_every_line_of_a_journal_is_as_the_specification_says(tmp_path: Path) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Name", job_id="j", metadata={"deep": [1, {"x": None}]})
        service.create_rows("j", [{"data": {"a": "\u2028\x00\x9b"}}, {"data": {"a": ',"crc":"'}}])
        service.start_job("j")
        service.complete_row("j:1", result=',"crc":"00000000"}\n')
        service.set_error("j", "E", "text")
        service.update_counts("j", total=5)
        service.log("j", ',"crc":"00000000"}', "ERROR", row_number=2, details={"a": [1]})
        service.log("j", "m")
    content = (tmp_path / "j" / "journal.jsonl").read_bytes()
    assert content.endswith(b"\n")
    crc, commit = 0, b""
    moments = []
    for line in content[:-1].split(b"\n"):
        moments.append(decode_record(line).at)
        assert re.search(
            rb'"at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"(,"crc":"[0-9a-f]{8}")?}$', line
        )
        if stated_crc(line) is None:
            commit += line + b"\n"
        else:
            crc = crc32(commit + line[:-18], crc)
            assert stated_crc(line) == crc
            commit = b""
    assert b'00000000\\"}","level":"ERROR","row":2,"details":{"a":[1]},"at":"' in content
    assert b'{"type":"log","message":"m","at":"' in content
    assert commit == b""
    assert moments == sorted(moments)


def test_data_that_looks_like_a_seal_is_data(tmp_path: Path) -> None:
    tricky = {"x": ',"crc":"00000000"}', "crc": "00000000"}
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Name", job_id="j")
        service.create_rows("j", [{"data": tricky}, {"data": {"y": [tricky, tricky]}}])
    with JobService(tmp_path, sync="none") as service:
        rows: list[JobRow] = list(service.get_rows("j"))
    assert [row.data for row in rows] == [tricky, {"y": [tricky, tricky]}]


def test_times_have_six_digits_of_a_second_always() -> None:
    for _ in range(100):
        assert len(time_text(now())) == len("2026-11-24T13:35:00.123456Z")


def test_members_that_are_not_known_may_have_any_name_and_type(tmp_path: Path) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Name", job_id="j", row_data=[{}, {}])
    path = tmp_path / "j" / "journal.jsonl"
    content = path.read_bytes()
    crc = int(content[-11:-3], 16)
    log = b'{"type":"log","message":"m","step":5,"status":[],"at":"2099-01-01T00:00:00.000001Z"'
    path.write_bytes(content + log + b',"crc":"%08x"}\n' % crc32(log, crc))
    with JobService(tmp_path, sync="none") as service:
        service.complete_row("j:2")
        assert [row.status for row in service.get_rows("j")] == ["pending", "completed"]
        assert service.get_rows("j")[1].updated_at.year == 2099  # the clock is held

"""What is read and written fast is what the careful way reads and writes, to the last refusal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.platforms import needs_fork

from journal import (
    FormatVersionError,
    InvalidValueError,
    JobRow,
    JobService,
    JournalDamagedError,
    JournalError,
    ServiceClosedError,
)
from journal.format.arguments import new_row
from journal.format.decode import UndecodableError, UnknownRecordError, decode_header, decode_record
from journal.format.records import JobRecord, encode_row, now, row_end
from journal.format.size_limits import SANE_BYTES
from journal.format.values import encode_value, plain_json
from journal.store.row_reader import READ_AHEAD_BYTES

AT = b"2026-11-24T13:35:00.000001Z"
END = row_end(datetime.fromisoformat(AT.decode()))


def service_at(root: Path) -> JobService:
    return JobService(root, sync="none")


def journal_of(service: JobService, job_id: str = "j") -> Path:
    return service.root / job_id / "journal.jsonl"


def one_by_one(service: JobService, numbers: Sequence[int]) -> list[JobRow | None]:
    return [service.get_row(f"j:{number}") for number in numbers]


# --- rows read in a run are the rows read one by one

TEXT = st.text(max_size=20) | st.text("x", min_size=180, max_size=300)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["rows", "start", "complete", "fail", "skip", "error", "batch"]),
        st.integers(1, 12),
        st.dictionaries(TEXT, JSON, max_size=4),
    ),
    min_size=2,
    max_size=12,
)


def take_step(service: JobService, kind: str, number: int, data: dict[str, Any]) -> None:
    calls: dict[str, Callable[[], object]] = {
        "rows": lambda: service.create_rows("j", [{"data": data}, {}, {"data": {"again": data}}]),
        "start": lambda: service.start_row(f"j:{number}"),
        "complete": lambda: service.complete_row(f"j:{number}", "1Z", None, number, result=data),
        "fail": lambda: service.fail_row(f"j:{number}", "E", "text" * number),
        "skip": lambda: service.skip_row(f"j:{number}", "x" * 20 * number),
        "error": lambda: service.set_error("j", "E", "a foreign line between"),
    }
    try:
        if kind == "batch":
            with service.batch("j"):
                for each in ("start", "error", "complete", "rows"):
                    calls[each]()
        else:
            calls[kind]()
    except JournalError:
        pass  # there is no such row, or it may not go there


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, cut=st.slices(12))
def test_rows_read_in_a_run_are_those_read_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any], cut: slice
) -> None:
    with service_at(tmp_path_factory.mktemp("root")) as service:
        service.create_job("Name", job_id="j", row_data=[{}])
        for step in steps:
            take_step(service, *step)
        rows = service.get_rows("j")
        expected = one_by_one(service, range(1, len(rows) + 1))
        assert list(rows) == expected
        assert list(reversed(rows)) == expected[::-1]
        assert rows[cut] == expected[cut]
        for status in ("pending", "completed", "failed"):
            of_status = [row for row in expected if row is not None and row.status == status]
            assert list(service.get_rows("j", status)) == of_status


@pytest.mark.parametrize("edge", [SANE_BYTES, 1024, 4096, READ_AHEAD_BYTES])
def test_a_line_may_end_at_any_edge_of_what_is_read_ahead(tmp_path: Path, edge: int) -> None:
    lengths = [*range(edge - 3, edge + 4), 1, 1, 2 * edge, 1]
    overhead = len(encode_row(1, "c", b'{"x":""}', END))
    texts = ["x" * max(length - overhead, 0) for length in lengths]
    with service_at(tmp_path) as service:
        rows = ({"data": {"x": text}, "row_checksum": "c"} for text in texts)
        service.create_job("Name", job_id="j", row_data=rows)
        with service.batch("j"):
            for number, text in enumerate(texts, 1):
                service.complete_row(f"j:{number}", result=text)
        read = list(service.get_rows("j"))
        assert [row.data["x"] for row in read] == texts
        assert [row.result for row in read] == texts
        assert read == one_by_one(service, range(1, len(texts) + 1))


LINE_OF_ROW_2 = encode_row(2, "c", b'{"x":"second"}', END)
LINE_OF_STATUS_2 = (
    b'{"type":"row_status","row":2,"status":"failed","reason":"second","at":"%b"}\n' % AT
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b'"row":2', b'"row":3', id="another row"),
        pytest.param(b'"row":2', b'"row"::', id="no JSON"),
        pytest.param(b'{"type":"row', b'{"type":"now', id="another type"),
        pytest.param(b"000001Z", b"0+01:00", id="not in UTC"),
        pytest.param(b"000001Z", b"0000010", id="no zone"),
        pytest.param(b'"second"', b'"sec\xffnd"', id="no UTF-8"),
        pytest.param(b'"second"', b'"sec\nnd"', id="a line end"),
    ],
)
@pytest.mark.parametrize("line", [LINE_OF_ROW_2, LINE_OF_STATUS_2], ids=["row", "status"])
def test_a_file_changed_in_place_is_read_in_a_run_as_one_by_one(
    tmp_path: Path, line: bytes, old: bytes, new: bytes
) -> None:
    head = b'{"type":"job","format":1,"id":"j","name":"Name","at":"%b"}\n' % AT
    first = encode_row(1, "c", b"{}", END)
    body = head + first + LINE_OF_ROW_2 + encode_row(3, "c", b"{}", END) + LINE_OF_STATUS_2
    path = tmp_path / "j" / "journal.jsonl"
    path.parent.mkdir()
    path.write_bytes(body[:-2] + b',"crc":"%08x"}\n' % crc32(body[:-2]))
    with service_at(tmp_path) as service:
        rows = service.get_rows("j")
        changed = path.read_bytes().replace(line[:-2], line[:-2].replace(old, new))
        assert len(changed) == path.stat().st_size
        with path.open("r+b") as file:  # in place: the same file
            file.write(changed)
        in_a_run = iter(rows)
        assert next(in_a_run) == rows[0]
        with pytest.raises(JournalError) as alone:
            rows[1]
        with pytest.raises(JournalError) as running:
            next(in_a_run)
    assert (running.type, str(running.value)) == (alone.type, str(alone.value))
    if new.startswith(b'{"type"'):
        assert running.type is FormatVersionError
    else:
        assert running.type is JournalDamagedError
        number = 3 if line is LINE_OF_ROW_2 else 5
        assert f"line {number} (byte {body.index(line)})" in str(running.value)


@pytest.mark.parametrize("member", [b'"x":', b'"result":'])
def test_a_value_made_to_nest_too_deep_in_place_is_not_decoded_in_a_run(
    tmp_path: Path, member: bytes
) -> None:
    text = "x" * 398
    with service_at(tmp_path) as service:
        service.create_job("Name", job_id="j", row_data=[{"data": {"x": text}}])
        service.complete_row("j:1", result=text)
        rows = iter(service.get_rows("j"))
        content = journal_of(service).read_bytes()
        deep = content.replace(member + b'"%b"' % text.encode(), member + b"[" * 200 + b"]" * 200)
        assert len(deep) == len(content)
        with journal_of(service).open("r+b") as file:
            file.write(deep)
        with pytest.raises(JournalDamagedError, match="nesting deeper than 100"):
            next(rows)


def test_rows_of_a_batch_that_was_discarded_while_they_were_read_are_not_to_be_had(
    tmp_path: Path,
) -> None:
    with service_at(tmp_path) as service:
        service.create_job("Name", job_id="j", row_data=[{}])
        with suppress(KeyError), service.batch("j"):
            rows = iter(service.create_rows("j", [{}, {}, {}]))
            assert next(rows).row_number == 2
            raise KeyError
        service.create_rows("j", [{"data": {"other": n}} for n in range(3)])
        with pytest.raises(ServiceClosedError):
            next(rows)


def test_rows_of_a_batch_are_read_on_when_it_has_ended(tmp_path: Path) -> None:
    with service_at(tmp_path) as service:
        service.create_job("Name", job_id="j")
        with service.batch("j"):
            rows = service.create_rows("j", [{}, {}, {}])
            begun = iter(rows)
            numbers = [next(begun).row_number]
        numbers += [row.row_number for row in begun]
        assert numbers == [row.row_number for row in rows] == [1, 2, 3]


# --- the decoders for one type of record are decode_record

RECORDS = [
    LINE_OF_ROW_2[:-1],
    LINE_OF_STATUS_2[:-1],
    encode_row(7, "c" * 64, b'{"deep":' + b"[" * 30 + b"]" * 30 + b',"x":"' + b"y" * 200 + b'"}', END)[:-1],
    b'{"type":"row_status","row":7,"status":"completed","result":' + b"[" * 99 + b"]" * 99 + b',"at":"%b"}' % AT,
    b'{"type":"row_status","row":7,"status":"completed","result":' + b"[" * 100 + b"]" * 100 + b',"at":"%b"}' % AT,
    b'{"type":"row_later","row":7,"at":"%b"}' % AT,
    b'{"type":"job","format":1,"id":"j","name":"Name","metadata":{"a":[1]},"at":"%b"}' % AT,
    b'{"type":"job","format":2,"id":"j","name":"Name","at":"%b"}' % AT,
    b"",
]  # fmt: skip
EDITS = st.lists(
    st.tuples(st.integers(0, 500), st.integers(0, 5), st.sampled_from([b"", b"{", b"]", b'"', b"0", b"\xff", b"1,", b"Z"])),
    max_size=2,
)  # fmt: skip


def outcome(call: Callable[[bytes], object], line: bytes) -> object:
    try:
        return call(line)
    except (UndecodableError, UnknownRecordError) as error:
        return type(error), str(error)


@settings(max_examples=60, deadline=None)
@given(line=st.sampled_from(RECORDS), edits=EDITS)
def test_the_quick_look_at_a_header_says_what_the_decoder_of_all_says(
    line: bytes, edits: list[tuple[int, int, bytes]]
) -> None:
    for place, length, text in edits:
        line = line[:place] + text + line[place + length :]
    whole = outcome(decode_record, line)
    header = decode_header(line + b"\n")
    if header is not None:
        assert header == whole


# --- data that is written at once is data that was looked at closely


class Text(str):
    __slots__ = ()


ODD = st.sampled_from(
    [
        float("nan"), float("-inf"), 1.5, b"bytes", {1, 2}, "\ud800", (1, 2), 2**64, -(2**63) - 1,
        Text("text"), datetime(2026, 1, 1, tzinfo=UTC), object(), [[]] * 3,
    ]
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.integers(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def nested(depth: int, filling: str) -> Any:
    value: Any = filling
    for _ in range(depth):
        value = [value]
    return value


@settings(max_examples=60, deadline=None)
@given(value=st.dictionaries(TEXT, ANYTHING, max_size=3))
def test_what_is_written_at_once_is_what_the_close_look_gives(value: dict[str, Any]) -> None:
    text = plain_json(value)
    try:
        close = encode_value(value, "data")
    except InvalidValueError:
        assert text is None
    else:
        assert text in (None, close)


@pytest.mark.parametrize("filling", ["", "x", "xx", "x" * 300])
@pytest.mark.parametrize("depth", [97, 98, 99, 100])
def test_what_nests_too_deep_is_never_written_at_once(depth: int, filling: str) -> None:
    value = {"deep": nested(depth, filling)}
    if depth + 1 > 99:
        assert plain_json(value) is None
    else:
        assert plain_json(value) == encode_value(value, "data")


class Data(dict[str, Any]):
    """The data of a row, looked at closely, since it isn't a dict itself."""


ROWS = st.fixed_dictionaries(
    {"data": st.dictionaries(TEXT | st.sampled_from(["n", "k"]), ANYTHING, max_size=2)},
    optional={
        "row_number": st.none() | st.integers(-1, 3) | st.sampled_from([True, 2**63, 1.0, "1"]),
        "row_checksum": st.none() | TEXT | ODD,
        "idempotency_key": st.none() | TEXT | ODD,
        "other": st.none(),
    },
)


KEYED = JobRecord(format=1, id="j", name="J", key="n", idempotency_key="k", at=now())


@settings(max_examples=60, deadline=None)
@given(item=ROWS, next_number=st.sampled_from([1, 2, 2**63 - 1, 2**63]))
def test_a_row_whose_data_is_taken_at_once_is_what_the_close_look_gives(
    item: dict[str, Any], next_number: int
) -> None:
    def taken(row: dict[str, Any]) -> object:
        try:
            return new_row(1, row, next_number, KEYED, "0123abcd")
        except InvalidValueError:  # the close look names the part of the data, too
            return None

    assert taken(item) == taken({**item, "data": Data(item["data"])})


# --- headers read in a run


# --- what a command doesn't need it doesn't import


def test_listing_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    with service_at(tmp_path) as service:
        service.create_job("Name", job_id="j", row_data=[{}])
    script = (
        "import sys; from journal.cli.main import main; code = main(sys.argv[1:]); "
        "others = {'filelock', 'hashlib', 'secrets', 'subprocess', 'journal.tables'}; "
        "others |= {'journal.history.history', 'journal.fs.shell'}; "
        "print(code, sorted(others & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "--root", str(tmp_path), "list"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0 []"


def test_waiting_for_a_job_imports_nothing_of_what_runs_one(tmp_path: Path) -> None:
    with service_at(tmp_path) as service:
        service.create_job("Name", job_id="j")
        service.start_job("j")
        service.update_status("j", "completed")
    script = (
        "import sys; from journal.cli.main import main; code = main(sys.argv[1:]); "
        "print(code, sorted({'journal.run.driver', 'concurrent.futures'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "--root", str(tmp_path), "wait", "j"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0 []"


@needs_fork
def test_a_process_that_forks_before_its_first_lock_hears_nothing_of_it(tmp_path: Path) -> None:
    script = (
        "import os, sys; from journal import JobService; service = JobService(sys.argv[1]); "
        "pid = os.fork(); service.create_job('Name', job_id=f'j{pid > 0:d}'); pid or os._exit(0); "
        "sys.exit(os.waitpid(pid, 0)[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert not done.stderr
    with service_at(tmp_path) as service:
        assert {job.id for job in service.list_jobs()} == {"j0", "j1"}

"""Whatever records say behind seals that match: reading commands show it, and never fail over it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.children import Memory, place_journal, seal_commits
from support.work import limited, lines_of

from journal.cli.main import main
from journal.format.commits import START
from journal.format.size_limits import MAX_NUMBER_BYTES
from journal.format.values import has_long_number, nests_deeper_than
from journal.repair.rebuild import _to_unix
from journal.repair.salvage import Action, Salvage
from journal.transfer.copies import _last_commit

JOB = "hostile"
FIRST, NOW, LAST = (
    f'"at":"{moment}Z"}}'.encode()
    for moment in (
        "0001-01-01T00:00:00.000001",
        "2026-11-24T13:35:00.000001",
        "9999-12-31T23:59:59.999999",
    )
)
HEAD = b'{"type":"job","format":1,"id":"hostile","name":"Hostile",'
LONGEST = b"9" * 4300  # an integer that Python just reads and prints


def record(kind: str, members: str | bytes, at: bytes = NOW) -> bytes:
    text = members.encode() if isinstance(members, str) else members
    return b'{"type":"%b",%b,%b' % (kind.encode(), text, at)


def row(number: int, data: bytes = b"{}", at: bytes = NOW) -> bytes:
    return record("row", b'"row":%d,"checksum":"c","data":%b' % (number, data), at)


def status(number: int, name: str, members: bytes = b"", at: bytes = NOW) -> bytes:
    head = f'"row":{number},"status":"{name}"'.encode()
    return record("row_status", head + (b"," + members if members else b""), at)


def log(details: bytes) -> bytes:
    return record("log", b'"message":"m","row":1,"details":%b' % details)


def elsewhere(change: bytes, at: bytes = NOW) -> bytes:
    origin = b'"origin":{"id":"0123456789abcdef",%b' % at
    return record("row_elsewhere", b'"row":1,"change":%b,%b' % (change, origin))


def numbers() -> Iterator[bytes]:
    """The largest costs and counts that there are, and integers beyond 64 bits and beyond floats."""
    sizes = (
        b"9223372036854775808",
        b"1" + b"0" * 400,
        b"-1" + b"0" * 400,
        LONGEST,
        b"-" + LONGEST[1:],
    )
    for place, size in enumerate(sizes):
        most = b"-9223372036854775808" if size.startswith(b"-") else b"9223372036854775807"
        one, two, three = (3 * place + each for each in (1, 2, 3))
        yield row(one, b'{"n":%b}' % size)
        yield status(one, "completed", b'"cost_cents":%b,"result":%b' % (most, size))
        yield row(two)
        yield status(two, "failed", b'"error_code":"E","cost_cents":%b' % most)
        yield row(three)
        yield status(three, "completed", b'"cost_cents":%b' % most)
        yield elsewhere(b'{"status":"completed","cost_cents":%b,"by":%b}' % (size, size))
        for name in ("total", "processed", "successful", "failed"):
            yield record("job_counts", b'"%b":%b' % (name.encode(), most))


def times() -> Iterator[bytes]:
    """The first and the last moment that there are."""
    yield row(1, at=FIRST)
    yield record("job_status", '"status":"running"', FIRST)
    yield status(1, "processing", at=FIRST)
    yield status(1, "failed", b'"error_code":"E"', at=FIRST)
    yield row(2, at=LAST)
    yield status(2, "processing", at=LAST)
    yield status(2, "failed", b'"error_code":"E"', at=LAST)
    yield record("log", '"message":"m"', LAST)


def origins() -> Iterator[bytes]:
    """Statuses out of another copy, of the first and the last moment."""
    ends = ("completed", "failed", "skipped", "needs_review", "pending")
    for number, end in enumerate(ends, 1):
        yield row(number)
        for name, at in (("processing", LAST), (end, FIRST)):
            origin = b'"error_code":"E","origin":{"id":"0123456789abcdef",%b' % at
            yield status(number, name, origin)
    yield elsewhere(b'{"status":"completed"}', LAST)
    yield elsewhere(b'{"data":{"n":1},"key":"k"}', FIRST)


def details() -> Iterator[bytes]:
    """Members that say something to us, of every other type."""
    yield row(1)
    values = (b"null", b"true", b"-5", b"1e308", b'""', b'"x"', b"[]", b"[[]]", b"{}", b'{"a":1}')
    for value in values:
        yield log(b'{"run":%b,"merge":{"hosts":%b}}' % (value, value))
        for name in (b"status", b"at", b"cost_cents", b"origin"):
            yield elsewhere(b'{"%b":%b}' % (name, value))


def runs() -> Iterator[bytes]:
    """Runs whose words are no command, and whose texts could control a terminal."""
    pids = (b"0", b"-9223372036854775808", b"9223372036854775807")
    words = (b"[]", b'[""]', b'["--"]', b'["--where"]', b'["--root","x","run","\\u001b[2J","--"]')
    for pid, argv in itertools.product(pids, words):
        for more in (b'"is_command":true', b'"directory":"\\u0000\\n","on_interrupted":"\\u202e"'):
            texts = b'"host":"\\u001b]0;x\\u0007","user":"","package":"\\ud83d\\ude00"'
            yield record(
                "run",
                b'"id":"0123456789abcdef",%b,"pid":%b,"argv":%b,%b' % (texts, pid, argv, more),
            )


def columns() -> Iterator[bytes]:
    """Names of columns that clash, and values of all kinds in one."""
    yield row(1, b'{"status":1,"STATUS":2,"journal_status":3,"":4,"a":5,"A":6,"a\\u0000":7}')
    values = (b"true", b"1.5", b'{"b":1}', b"18446744073709551615", b"1e308", b"-0.0", LONGEST)
    for number, value in enumerate(values, 2):
        yield row(number, b'{"a":%b}' % value)
        yield status(number, "failed", b'"error_code":"E","result":%b' % value)
    yield row(2**63 - 1)


CONTROLS = r"e\u001b]0;x\u0007\u009b2J\u202e"
OF_JOB = ("description", "mode", "original_command", "key")


def texts() -> Iterator[bytes]:
    """Control characters in every text, and in every name."""
    text = f'"{CONTROLS}"'
    members = ("error_code", "error_message", "traceback", "reason", "version", "tracking_number")
    outcome = "".join(f'"{name}":{text},' for name in (*members, "label_path"))
    outcome += f'"cost_cents":1,"usage":{{{text}:3}},"result":{{{text}:{text}}}'
    for number, end in enumerate(("failed", "needs_review", "skipped", "completed"), 1):
        yield row(number, f'{{{text}:{text}}},"key":{text}'.encode())
        yield status(number, "processing", f'"version":{text}'.encode())
        step = f'"row":{number},"attempt":1,"step":{text},"state"'
        yield record("row_step", f'{step}:"started"')
        if number == 1:
            yield record("row_step", f'{step}:"failed","error_code":{text},"error_message":{text}')
        yield status(number, end, outcome.encode())
        yield record("log", f'"message":{text},"level":{text},"row":{number}')
    of_run = "".join(f'"{name}":{text},' for name in ("host", "user", "package", "version"))
    of_run += f'"id":"0123456789abcdef","pid":7,"argv":["run",{text}],"directory":{text}'
    yield record("run", of_run)
    yield log(f"{{{text}:{text}}}".encode())
    yield log(f'{{"merge":{{"hosts":[{text}]}},{text}:{text}}}'.encode())
    yield record("job_error", f'"code":{text},"message":{text}')
    yield record("job_reopened", f'"reason":{text}')
    yield record("job_pause", f'"person":{text}')
    for moment in (FIRST, LAST):
        until = moment[:-1].decode().replace("at", "until", 1)
        yield record("hold", f'{until},"reason":{text}')
    of_run = '"id":"00000000000000ff","run":"0123456789abcdef"'
    yield record("tune", f'{of_run},"values":{{{text}:{text}}},"person":{text}')
    changes = f'{{{text}:[{text},{{{text}:{text}}}],"end_hold":[{text},{text}]}}'
    yield record("tuned", f'"id":"00000000000000ff","changes":{changes},"reason":{text}')


def calls_of_rows() -> Iterator[bytes]:
    """Calls that wait for ever or for no time, and steps of their rows, which repeat themselves."""
    for number in range(1, 7):
        yield row(number)
        yield status(number, "processing")
    moments = (FIRST[:-1], LAST[:-1], b'"at":null')
    for number, (due, since) in enumerate(itertools.product(moments, moments)):
        more = b"%b,%b" % (due.replace(b'"at"', b'"due"'), since.replace(b'"at"', b'"since"'))
        after = (b"0", b"-9223372036854775808", b"9223372036854775807", b"1e-308")[number % 4]
        of_call = b'"id":"%016x","rows":[[5,6],[1,2]]' % (2**64 - 1 - number)
        text = f'"reason":"{CONTROLS}","by":"{CONTROLS}"'.encode()
        yield record(
            "call", b'%b,"state":"waiting","after_s":%b,%b,%b' % (of_call, after, more, text)
        )
        step = f'"attempt":4294967295,"step":"{CONTROLS}","state"'
        yield record("row_step", f'"rows":[[3,3],[1,2]],{step}:"started"')
        yield record("row_step", f'"rows":[[1,6]],{step}:"dropped"')
        yield record("row_step", f'"rows":[[4,6]],{step}:"done","result":{LONGEST.decode()}')


CONTENTS: dict[str, tuple[Callable[[], Iterator[bytes]], bytes]] = {
    "numbers": (numbers, NOW),
    "times": (times, FIRST),
    "origins": (origins, NOW),
    "details": (details, NOW),
    "runs": (runs, NOW),
    "columns": (columns, NOW),
    "calls": (calls_of_rows, NOW),
    "texts": (texts, "".join(f'"{name}":"{CONTROLS}",' for name in OF_JOB).encode() + NOW),
}
EXPORTS = ["csv", "jsonl", "json", "db"]
EXPORTS += ["parquet"] * (find_spec("pyarrow") is not None)
COMMANDS = [
    *(["list", *form] for form in ([], ["--json"], ["--csv"])),
    *(["show", JOB, *form] for form in ([], ["--json"])),
    *(["rows", JOB, *form] for form in ([], ["--json"], ["--csv"], ["--where", "n>5"])),
    *(["errors", JOB, *form] for form in ([], ["--json"])),
    *(["log", JOB, "-n", "all", *form] for form in ([], ["--nl"])),
    *(["wait", JOB], ["watch", JOB], ["verify", JOB], ["report", JOB, "-o", "-"]),
    *(["export", JOB, f"out.{end}"] for end in EXPORTS),
]


@pytest.mark.parametrize(("content", "begin"), CONTENTS.values(), ids=CONTENTS.keys())
def test_no_content_of_a_record_makes_a_reading_command_fail_or_controls_a_terminal(
    content: Callable[[], Iterator[bytes]],
    begin: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOURNAL_TRACEBACK", "1")  # main() raises what it didn't expect
    end = record("job_status", '"status":"completed"', LAST)
    commits = [[HEAD + begin], *([line] for line in content()), [end]]
    place_journal(Path("jobs"), JOB, seal_commits(commits))
    for command in COMMANDS:
        assert main(command) in {0, 3, 4}, command
        shown = capsysbinary.readouterr()
        assert b"unexpected" not in shown.err
        if "--csv" not in command:
            text = (shown.out + shown.err).decode()
            assert not re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text), command


@pytest.mark.parametrize("status_name", ["completed", "pending"])
def test_the_time_of_a_status_out_of_another_copy_that_is_not_in_utc_is_damage(
    status_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    origin = b'"origin":{"id":"0123456789abcdef","at":"0001-01-01T00:00:00+01:00"}'
    commits = [[HEAD + NOW], [row(1)], [status(1, status_name, origin)]]
    place_journal(tmp_path, JOB, seal_commits(commits))
    for command in ("rows", "log", "verify"):
        assert main(["--root", str(tmp_path), command, JOB]) == 6
        said = capsys.readouterr()
        assert "which isn't YYYY-MM-DDTHH:MM:SS.ffffffZ" in said.out + said.err


# --- columns


# --- megabytes of what is nothing


@pytest.mark.parametrize(
    ("text", "deeper"),
    [
        (b"[]," * 400_000, False),
        (b"[{" * 600_000, True),
        (b'["\\\\",{}],' * 100_000, False),
        (b'"' + b'\\"[' * 400_000 + b'"', False),
        (b'"' + b"\\\\" * 40_000 + b'"' + b"[" * 101, True),
        (b'"[\\"[\\\\","]",' * 100_000 + b"[" * 100 + b"]" * 100, False),
        (b"[" * 100 + b'"' + b'\\"[' * 400_000, False),
    ],
)
def test_how_deep_a_line_nests_is_known_without_a_step_for_each_byte(
    text: bytes, deeper: bool
) -> None:
    assert nests_deeper_than(text, 100) is deeper
    assert lines_of(lambda: nests_deeper_than(text, 100)) < len(text) / 1000


def test_a_string_without_an_end_is_gone_through_once_for_numbers_that_are_too_long() -> None:
    digits = b"1" * MAX_NUMBER_BYTES
    assert not has_long_number(digits + b'"' + b'\\"' * 4_000_000)
    assert has_long_number(digits + b'1"' + b'\\"' * 4_000_000)


def test_runs_of_crs_are_gone_through_once_by_a_repair(tmp_path: Path) -> None:
    good = seal_commits([[HEAD + NOW], [row(1)], [row(2)]])
    head, rows = good[: good.index(b"\n") + 1], good[good.index(b"\n") + 1 :]
    path = place_journal(tmp_path, JOB, head + b"\r" * 3_000_000 + b"x\r\n" + rows)
    assert limited("--root", str(tmp_path), "repair", JOB).returncode == 0
    assert path.read_bytes() == good


def test_crs_before_a_line_end_are_taken_out_wherever_the_file_is_cut_into_pieces() -> None:
    piece = 1 << 20
    for before in (piece - 1000, piece - 1, piece, piece + 1):
        for crs in (1, 2, 999, 1000, 1001, piece, 2 * piece + 3):
            text = b"x" * before + b"\r" * crs + b"\n\rx\r\r"
            whole = b"".join(_to_unix(Memory(text), len(text)))
            assert whole == b"x" * before + b"\n\rx\r\r"


def test_what_a_repair_says_of_neighbouring_lines_is_put_together_once() -> None:
    compared = 0

    class Row(int):
        def __lt__(self, other: int) -> bool:
            nonlocal compared
            compared += 1
            return int(self) < int(other)

    salvage = Salvage(Path(), None, None)  # type: ignore[arg-type]  # which it needs for lines alone
    count = 500
    for line in range(1, count + 1):
        salvage._add(Action("removed", line, 1, [Row(line), Row(line)], "put in"))
    salvage.finish()
    (action,) = salvage.actions
    assert action.rows == list(range(1, count + 1))
    assert compared < 20 * count


def test_seals_that_do_not_fit_are_looked_for_once_from_the_end() -> None:
    read = 0

    class Counted(Memory):
        def read_at(self, offset: int, length: int) -> bytes:
            nonlocal read
            data = super().read_at(offset, length)
            read += len(data)
            return data

    text = b'{"a":1,"crc":"12345678"}\n' * 10_000
    assert _last_commit(Counted(text), len(text)) == START
    assert read < 4 * len(text)

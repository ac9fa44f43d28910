"""A second reader's verdict on a journal, written from the pages `format` and `records` alone.

The reader holds the whole file in memory, and tries everything that the pages allow. It uses
nothing of the package.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import datetime
from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple
from zlib import crc32

SEAL = re.compile(rb',"crc":"([0-9a-f]{8})"}')
FRAME = re.compile(rb',"crc":".{8}"}', re.DOTALL)
SEAL_BYTES = 18
BLOCK_BYTES = 512
MAX_BYTES = 64 << 20
MAX_DEPTH = 100
MAX_NUMBER_BYTES = 4300


class Line(NamedTuple):
    """A line of the tail, ``text`` from ``begin``; the next one begins at ``end``."""

    begin: int
    text: bytes
    end: int
    seal: int | None


class Commit(NamedTuple):
    """A commit that may have begun at ``begin``; its crc starts from ``start``."""

    begin: int
    start: int


def verdict(content: bytes) -> tuple[str, int]:
    """``good``, ``unended``, ``torn``, ``damaged`` or ``newer``; and where what isn't good begins."""
    found, at = verdict_on_tail(content)
    good = content + b"\n" if found == "unended" else content[:at]
    return verdict_on_records(good) or (found, at)


def verdict_on_records(content: bytes) -> tuple[str, int] | None:
    """The verdict on the first record of good commits that isn't good, and where it begins."""
    at, known = 0, Known()
    for line in content.split(b"\n")[:-1]:
        text = line if seal_of(line) is None else line[:-SEAL_BYTES] + b"}"
        found = verdict_on_record(text, known, is_first=at == 0)
        if found:
            return found, at
        at += len(line) + 1
    return None


class Known:
    """The rows that earlier records have added, and the calls that have begun and not ended."""

    def __init__(self) -> None:
        self.rows = set[int]()
        self.calls = set[str]()
        self.distance = 1  # from the number of a row to the next

    def has(self, ranges: list[list[int]]) -> bool:
        """Whether all rows of these ranges are known, and none is there twice."""
        if any(last >= first for (_, last), (first, _) in pairwise(sorted(ranges))):
            return False
        return all(
            first <= last
            and (last - first) % self.distance == 0
            and (last - first) // self.distance < len(self.rows)
            and self.rows.issuperset(range(first, last + 1, self.distance))
            for first, last in ranges
        )


def verdict_on_record(text: bytes, known: Known, *, is_first: bool) -> str:
    """``damaged``, ``newer`` or "". ``known``: what earlier records have said."""
    if not is_legible(text):
        return "damaged"
    pairs: Object = json.loads(text, object_pairs_hook=Object)
    values = dict(pairs)
    kind = values["type"]
    if any(name == "type" and value != kind for name, value in pairs):
        return "damaged"
    if kind == "job" and type(values.get("format")) is int and values["format"] > 1:
        return "newer"
    if kind.startswith("x_"):
        required, others = dict[str, Check](), dict[str, Check]()
    elif kind in RECORDS:
        required, others = RECORDS[kind]
    else:
        return "newer"
    checks: dict[str, Check] = {"at": is_time, **required, **others}
    nulls = {name for name, check in others.items() if check not in NEVER_NULL}
    judged = [
        (name, checks[name], value)
        for name, value in pairs
        if name in checks and not (name in nulls and value is None)
    ]
    for _, check, value in judged:
        if check in WORDS and isinstance(value, str) and not check(value):
            return "newer"
        if not check(value):
            return "damaged"
    if not {"at", *required} <= values.keys() or (kind == "job") != is_first:
        return "damaged"
    row, ranges = values.get("row"), values.get("rows") if kind in {"row_step", "call"} else None
    if "row" in required and (row in known.rows) == (kind == "row"):
        return "damaged"
    if ranges and not known.has(ranges):
        return "damaged"
    if kind == "row_step" and not ranges and row not in known.rows:
        return "damaged"
    if kind == "call" and not ranges and values["id"] not in known.calls:
        return "damaged"
    if kind == "row":
        known.rows.add(values["row"])
    elif kind == "call":
        known.calls.add(values["id"])
        if values["state"] == "ended":
            known.calls.remove(values["id"])
    elif kind == "job" and values.get("shard"):
        known.distance = dict(values["shard"])["count"]
    return ""


def verdict_on_tail(content: bytes) -> tuple[str, int]:
    """The verdict on what follows the good commits, and where that begins."""
    padding = re.search(rb"(?<=\n) +\Z", content)
    content = content[: padding.start()] if padding else content
    at, crc = end_of_good_commits(content)
    if 0 < at == len(content):
        return "good", at
    tail = content[at:]
    lines, has_good = lines_of_tail(content, at, crc)
    if tail and end_of_good_commits(tail + b"\n", crc)[0] == len(tail) + 1:
        return "unended", at
    sealed = [line for line in lines if line.seal is not None]
    part = content[at : sealed[0].end] if sealed else tail
    flipped = unflipped(part, crc)
    if at == 0 and states_newer_format(flipped or tail):
        return "newer", at
    first_line = tail[: tail.find(b"\n") + 1]
    in_text_mode = any(text.endswith(b"}\r\n") for text in (first_line, tail))
    if has_good or at == 0 or len(sealed) > 1 or flipped is not None or in_text_mode:
        return "damaged", at
    return ("damaged" if sealed and was_changed(lines, sealed[0]) else "torn"), at


def end_of_good_commits(content: bytes, crc: int = 0) -> tuple[int, int]:
    """Where the good commits that the content begins with end, and the value of the last seal."""
    begin = end = 0
    for text in content.split(b"\n")[:-1]:
        end += len(text) + 1
        seal = seal_of(text)
        if seal is not None:
            if crc32(content[begin : end - SEAL_BYTES - 1], crc) != seal:
                break
            begin, crc = end, seal
    return begin, crc


def seal_of(text: bytes) -> int | None:
    found = SEAL.fullmatch(text[-SEAL_BYTES:])
    return None if found is None else int(found[1], 16)


def lines_of_tail(content: bytes, at: int, last: int) -> tuple[list[Line], bool]:
    """The lines of the tail; and whether a good commit is among them, then up to its last line."""
    lines: list[Line] = []
    commits = {Commit(at, last)}
    while at < len(content):
        if at > 0 and content.startswith(b'{"type":"job",', at):
            commits.add(Commit(at, 0))
        line = line_at(content, at, commits)
        lines.append(line)
        if fits(content, line, commits):
            return lines, True
        values = {value_at_end(content, line, commit) for commit in commits}
        digits = re.fullmatch(b"[0-9a-f]{8}", line.text[-10:-2])
        framed = FRAME.fullmatch(line.text[-SEAL_BYTES:])
        is_over = line.seal is not None or not is_legible(line.text)
        if is_over:
            commits = {Commit(line.end, last)}
        if is_over or digits or framed:
            commits |= {Commit(line.end, value) for value in values}
        if digits:
            commits.add(Commit(line.end, int(digits[0], 16)))
        at = line.end
    return lines, False


def line_at(content: bytes, at: int, commits: set[Commit]) -> Line:
    """The line that begins there. It may end with a seal whose LF was lost or changed."""
    lf = content.find(b"\n", at)
    end = lf if lf >= 0 else len(content)
    for found in SEAL.finditer(content, at, end):
        after, rest = found.end(), content[found.end() : end]
        if not rest or (rest == b"\r" and lf >= 0):
            break
        if (len(rest) == 1 or not rest.strip(b" ")) and lf < 0 and after % BLOCK_BYTES == 0:
            break
        is_changed = rest[0] != ord("{") and rest[1:2] in (b"", b"{")
        line = Line(at, content[at:after], after + is_changed, int(found[1], 16))
        if fits(content, line, commits) or (lf >= 0 and is_legible(rest[is_changed:])):
            return line
    line = Line(at, content[at:end], end + (lf >= 0), seal_of(content[at:end]))
    if lf >= 0 or fits(content, line, commits) or is_legible(line.text):
        return line
    return line._replace(seal=None)  # the file may end within the line


def fits(content: bytes, line: Line, commits: set[Commit]) -> bool:
    return any(value_at_end(content, line, commit) == line.seal for commit in commits)


def value_at_end(content: bytes, line: Line, commit: Commit) -> int:
    """The value that is right for a seal at the end of the line."""
    return crc32(content[commit.begin : line.begin] + line.text[:-SEAL_BYTES], commit.start)


def is_legible(text: bytes) -> bool:
    if len(text) >= MAX_BYTES or depth(text) > MAX_DEPTH or longest_number(text) > MAX_NUMBER_BYTES:
        return False
    try:
        found: Any = json.loads(text.decode(), parse_constant=int)
        json.dumps(found, ensure_ascii=False).encode()  # refuses half of a surrogate pair
    except ValueError:
        return False
    return isinstance(found, dict) and isinstance(found.get("type"), str)


def longest_number(text: bytes) -> int:
    numbers = re.findall(rb"[-+.0-9eE]+", re.sub(rb'"(?:[^"\\]|\\.)*"', b"", text, flags=re.DOTALL))
    return max(map(len, numbers), default=0)


def depth(text: bytes) -> int:
    """How deep the JSON is nested."""
    most = now = 0
    for bracket in re.findall(rb'"(?:[^"\\]|\\.)*"|[][{}]', text, re.DOTALL):
        now += (bracket in (b"[", b"{")) - (bracket in (b"]", b"}"))
        most = max(most, now)
    return most


def states_newer_format(tail: bytes) -> bool:
    first = tail.split(b"\n")[0].removeprefix(b"\xef\xbb\xbf")
    stated = json.loads(first).get("format") if is_legible(first) else None
    return type(stated) is int and stated > 1


def unflipped(part: bytes, crc: int) -> bytes | None:
    """The good commit of legible lines that the bytes would be with one bit flipped back."""
    body, end = part[: -SEAL_BYTES - 1], part[-SEAL_BYTES - 1 :]
    right = crc32(body, crc)
    seal = b',"crc":"%08x"}\n' % right
    wrong = [one ^ other for one, other in zip(end, seal, strict=False)]
    candidates = []
    if len(end) == len(seal) and sum(byte.bit_count() for byte in wrong) == 1:
        candidates.append(body + seal)
    stated = SEAL.fullmatch(end[:-1])
    if stated and end.endswith(b"\n"):
        back, bit = effects(1 << len(body).bit_length()).get(
            right ^ int(stated[1], 16), (len(body), 0)
        )
        if back < len(body):
            at = len(body) - 1 - back
            candidates.append(body[:at] + bytes([body[at] ^ bit]) + body[at + 1 :] + end)
    return next((one for one in candidates if is_good_and_legible(one, crc)), None)


def is_good_and_legible(commit: bytes, crc: int) -> bool:
    *lines, rest = commit.split(b"\n")
    seals = sum(seal_of(line) is not None for line in lines)
    return (
        seals == 1
        and not rest
        and end_of_good_commits(commit, crc)[0] == len(commit)
        and all(map(is_legible, lines))
    )


@cache
def effects(length: int) -> dict[int, tuple[int, int]]:
    """What each bit changes in the crc: how many bytes follow the bit's byte, and the bit."""
    found = {}
    for number in range(8):
        effect = crc32(bytes([1 << number])) ^ crc32(b"\0")
        for back in range(length):
            found[effect] = back, 1 << number
            effect = crc32(b"\0", effect) ^ crc32(b"\0", 0)
    return found


def was_changed(lines: list[Line], sealed: Line) -> bool:
    """Whether a line up to the seal is illegible although its blocks were written, or none is."""
    seal_end = sealed.begin + len(sealed.text)
    written = {(seal_end - SEAL_BYTES // 2) // BLOCK_BYTES}
    illegible = []
    for line in lines:
        blocks = set(range(line.begin // BLOCK_BYTES, (line.begin + len(line.text)) // 512 + 1))
        if is_legible(line.text):
            written |= blocks
        elif line.begin <= sealed.begin:
            illegible.append(blocks)
    return not illegible or any(blocks <= written for blocks in illegible)


# --- records, as the page `records` describes them -------------------------------------------------


class Object(list[tuple[str, Any]]):
    """A JSON object: all its members, also those of one name."""


Check = Callable[[Any], bool]


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_given_text(value: Any) -> bool:
    return isinstance(value, str)


def is_true_or_false(value: Any) -> bool:
    return isinstance(value, bool)


def is_any(value: Any) -> bool:
    """Whether each number is in the range of a double."""
    if isinstance(value, list):
        return all(is_any(item[1] if isinstance(value, Object) else item) for item in value)
    return value not in (math.inf, -math.inf)


def is_object(value: Any) -> bool:
    return isinstance(value, Object) and is_any(value)


def is_changes(value: Any) -> bool:
    return is_object(value) and all(type(pair) is list and len(pair) == 2 for _, pair in value)


def is_ranges(value: Any) -> bool:
    return type(value) is list and all(
        type(pair) is list and len(pair) == 2 and all(map(is_row, pair)) for pair in value
    )


def is_list_of_text(value: Any) -> bool:
    return type(value) is list and all(map(is_text, value))


def is_integer(value: Any, least: int = -(2**63), most: int = 2**63 - 1) -> bool:
    return type(value) is int and least <= value <= most


def is_number(value: Any) -> bool:
    return is_integer(value) or (type(value) is float and -(2.0**63) <= value < 2.0**63)


def is_usage(value: Any) -> bool:
    return is_object(value) and all(is_number(number) for _, number in value)


def is_hex(digits: int, value: Any) -> bool:
    return is_text(value) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value) is not None


def is_time(value: Any) -> bool:
    spelling = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"
    if not is_text(value) or not re.fullmatch(spelling, value):
        return False
    try:
        return datetime.fromisoformat(value) is not None
    except ValueError:
        return False


def is_origin(value: Any) -> bool:
    checks: dict[str, Check] = {"id": is_id, "at": is_time}
    if not is_object(value) or not checks.keys() <= dict(value).keys():
        return False
    return all(checks[name](given) for name, given in value if name in checks)


def is_shard(value: Any) -> bool:
    if not is_object(value):
        return False
    members = dict(value)
    index, count = members.get("index", -1), members.get("count", -1)
    keys = [given for name, given in value if name == "key" and given is not None]
    numbers = [given for name, given in value if name in {"index", "count"}]
    is_typed = all(map(is_list_of_text, keys)) and all(map(is_integer, numbers))
    return (
        is_typed and is_integer(count, most=999_999) and is_integer(index, least=0, most=count - 1)
    )


def is_one_of(words: str) -> Check:
    check = partial(lambda known, value: value in known, words.split())
    WORDS.append(check)
    return check


WORDS: list[Check] = []  # another text is of a newer version


def is_call_id(value: Any) -> bool:
    return is_hex(16, value) and value != "0" * 16


is_id, is_seal = partial(is_hex, 16), partial(is_hex, 8)
is_row = partial(is_integer, least=1)
is_positive = partial(is_integer, least=1)
is_count, is_given_object = partial(is_integer), partial(is_object)
is_attempt = partial(is_integer, least=0, most=2**32 - 1)
_TEXTS = ("tracking_number", "label_path", "error_code", "error_message", "traceback", "reason")
NEVER_NULL = [
    is_given_text, is_true_or_false, is_list_of_text, is_positive, is_ranges, is_changes, is_count,
    is_given_object,
]  # fmt: skip
RECORDS: dict[str, tuple[dict[str, Check], dict[str, Check]]] = {
    "job": (
        {"format": partial(is_integer, least=1, most=1), "id": is_text, "name": is_text},
        {
            "original_command": is_given_text, "description": is_text, "mode": is_given_text,
            "metadata": is_object, "key": is_text, "idempotency_key": is_text, "shard": is_shard,
        },
    ),
    "row": (
        {"row": is_row, "checksum": is_text, "data": is_object}, {"key": is_text, "place": is_row}
    ),
    "row_data": (
        {"row": is_row, "checksum": is_text, "data": is_object, "key": is_text, "created_at": is_time},
        {"key_count": is_positive, "place": is_row, "origin": is_origin},
    ),
    "row_status": (
        {"row": is_row, "status": is_one_of("pending processing completed failed skipped needs_review")},
        {
            **dict.fromkeys(_TEXTS, is_text), "result": is_any, "cost_cents": is_number,
            "usage": is_usage, "version": is_text, "reset": is_one_of("retry redo given_back wait"),
            "due": is_time, "since": is_time, "after_s": is_number, "unknown": is_true_or_false, "by": is_text,
            "person": is_text, "origin": is_origin,
        },
    ),
    "row_step": (
        {
            "attempt": is_attempt, "step": is_text,
            "state": is_one_of("started done failed dropped"),
        },
        {
            "row": is_positive, "rows": is_ranges, "result": is_any, "error_code": is_text,
            "error_message": is_text, "origin": is_origin,
        },
    ),
    "call": (
        {"id": is_call_id, "state": is_one_of("started waiting ended")},
        {
            "rows": is_ranges, "due": is_time, "since": is_time, "after_s": is_number, "reason": is_text,
            "by": is_text, "origin": is_origin,
        },
    ),
    "run": (
        {
            "id": is_id, "host": is_text, "user": is_text, "package": is_text, "pid": is_integer,
        },
        {
            "argv": is_list_of_text, "directory": is_given_text, "is_command": is_true_or_false,
            "version": is_text, "on_interrupted": is_given_text,
            **dict.fromkeys(("added", "changed", "retried", "gone"), is_count), "limits": is_given_object,
        },
    ),
    "input": ({"rows": partial(is_integer, least=0), "digest": partial(is_hex, 64)}, {}),
    "run_ended": ({"kind": is_text, "message": is_text}, {}),
    "job_status": ({"status": is_one_of("pending running completed failed cancelled paused")}, {}),
    "job_reopened": ({}, {"reason": is_text}),
    "job_pause": ({}, {"ended": is_true_or_false, "person": is_text}),
    "hold": ({}, {"until": is_time, "reason": is_given_text}),
    "tune": ({"id": is_id, "run": is_id, "values": is_object}, {"person": is_text}),
    "tuned": ({"id": is_id}, {"changes": is_changes, "reason": is_text}),
    "job_counts": ({}, dict.fromkeys(("total", "processed", "successful", "failed"), is_integer)),
    "job_error": ({"code": is_text, "message": is_text}, {"by": is_text}),
    "merge": (
        {
            "other": is_text, "offset": is_integer, "seal": is_seal, "fork": is_integer,
            "job_status": is_text, "message": is_text,
        },
        {"hosts": is_list_of_text},
    ),
    "log": (
        {"message": is_text},
        {
            "level": is_given_text, "row": is_row, "attempt": is_attempt, "logged_at": is_time,
            "details": is_object,
        },
    ),
    "row_spent": (
        {"row": is_row, "id": is_id},
        {"attempt": is_attempt, "cost_cents": is_number, "usage": is_usage},
    ),
    "row_elsewhere": ({"row": is_row, "change": is_object, "origin": is_origin}, {}),
}  # fmt: skip

"""A second reader's verdict on the end of a journal, written from the page `format` alone.

It holds the whole file in memory, and tries all that the page allows. Nothing of the package is used.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, NamedTuple
from zlib import crc32

SEAL = re.compile(rb',"crc":"([0-9a-f]{8})"}')
FRAME = re.compile(rb',"crc":".{8}"}', re.DOTALL)
SEAL_BYTES = 18
BLOCK_BYTES = 512
MAX_BYTES = 64 << 20
MAX_DEPTH = 100


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
    """``good``, ``unended``, ``torn``, ``damaged`` or ``newer``; and where the tail begins.

    Records aren't looked at, but for a format that the first line states.
    """
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
        if len(rest) == 1 and lf < 0 and after % BLOCK_BYTES == 0:
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
    if len(text) >= MAX_BYTES or depth(text) > MAX_DEPTH:
        return False
    try:
        found: Any = json.loads(text.decode(), parse_constant=int)
        json.dumps(found, ensure_ascii=False).encode()  # refuses half of a surrogate pair
    except ValueError:
        return False
    return isinstance(found, dict) and isinstance(found.get("type"), str)


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
    lines = lines[: lines.index(sealed) + 1]
    seal_end = sealed.begin + len(sealed.text)
    written = {(seal_end - SEAL_BYTES // 2) // BLOCK_BYTES}
    illegible = []
    for line in lines:
        blocks = set(range(line.begin // BLOCK_BYTES, (line.begin + len(line.text)) // 512 + 1))
        if is_legible(line.text):
            written |= blocks
        else:
            illegible.append(blocks)
    return not illegible or any(blocks <= written for blocks in illegible)

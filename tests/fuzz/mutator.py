"""A good journal of every kind of record, and random ways in which it may come to be a bad one.

What is mutated is the journal as a list of commits, each a list of records without a seal, so that
a mutant can be given seals that match: hostile content then gets past them. Or its seals stay as
they were, as they do when a disk or an editor does the damage.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

from support.children import seal_commits, split_commits

JOB = "fuzzed"
_LATER = "2031-01-01T00:00:00.000001Z"

Commits = list[list[bytes]]

_TEXTS = (
    "J*",
    "Zürich",
    "a\u2028b\u2029\x85",
    "\U0001f600",
    '\\"{[',
    "\x00\x1f\n\r",
    ',"crc":"00000000"}',
)
_START = datetime(2026, 11, 24, 13, 35, tzinfo=UTC)


class Mutant(NamedTuple):
    """The bytes, and whether seals were made to match them."""

    content: bytes
    sealed: bool


def record(at_us: int, kind: str, **members: Any) -> bytes:
    """One record without a seal, as the writer would put it."""
    at = (_START + timedelta(microseconds=at_us)).isoformat(timespec="microseconds")
    whole = {"type": kind, **members, "at": at.replace("+00:00", "Z")}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def good_commits(count: int, seed: int, job_id: str = JOB) -> Commits:
    """A job of ``count`` commits: every kind of record, one or many in a commit, one of 3 kB."""
    rng = random.Random(seed)
    commits = [
        [record(1, "job", format=1, id=job_id, name="J*", metadata={"J*": [_TEXTS]}, key="J*")]
    ]
    rows, calls = 0, set[str]()
    while len(commits) < count:
        at_us = len(commits) * 1000 + 1
        text = rng.choice(_TEXTS)
        done: list[bytes] = []
        kind = rng.randrange(15) if rows > 3 else 0
        for number in range(1, rng.choice((1, 1, 1, 2, 5)) + 1):
            at_us += number
            row = rng.randint(1, max(rows, 1))
            if kind < 3:
                rows += 1
                pad = "x" * 3000 if rows == 3 else text
                data = {"J*": {"n": [rows, 0.5, None, True, pad]}}
                key = rng.choice(({}, {"key": "j:1.0123abcd"}, {"key": text}))
                done.append(record(at_us, "row", row=rows, checksum=f"c{rows}", data=data, **key))
            elif kind < 10:
                done.append(record(at_us, "row_status", row=row, **_outcome(rng, text)))
            elif kind == 10:
                done.append(record(at_us, "log", message=text, **_beside_a_message(rng, row, text)))
            elif kind == 11:
                done.append(_other_data(rng, at_us, row, text))
            elif kind == 12:
                done.append(record(at_us, "row_step", **_of_rows(rng, rows), **_step(rng, text)))
            elif kind == 13:
                done.append(_of_a_call(rng, at_us, rows, calls))
            else:
                done.append(_about_the_job(rng, at_us, text))
        commits.append(done)
    return commits


def _outcome(rng: random.Random, text: str) -> dict[str, Any]:
    return rng.choice(
        (
            {"status": "processing"},
            {"status": "completed", "tracking_number": text, "cost_cents": rng.randrange(999)},
            {"status": "completed", "label_path": text, "result": {text: [text]}},
            {"status": "failed", "error_code": "E", "error_message": text},
            {"status": "skipped", "reason": text},
            {"status": "needs_review", "reason": text, "by": "person", "person": text},
            {"status": "failed", "error_code": "E", "unknown": True, "version": text},
            {"status": "pending"},
            {"status": "pending", "reset": "given_back", "error_code": "E", "reason": text},
            {"status": "pending", "reset": "wait", "due": _LATER, "since": _LATER, "after_s": 9},
            {"status": "pending", "reset": "retry"},
            {"status": "pending", "reset": "redo", "reason": text},
        )
    )


def _of_rows(rng: random.Random, rows: int) -> dict[str, Any]:
    first = rng.randint(1, rows)
    ranges = [[first, rng.randint(first, rows)], *([[1, 1]] if first > 1 else [])]
    return rng.choice(({"row": first}, {"rows": ranges}))


def _step(rng: random.Random, text: str) -> dict[str, Any]:
    state = rng.choice(("started", "done", "failed", "dropped"))
    return {"attempt": 1, "step": rng.choice((text, "s")), "state": state}


def _of_a_call(rng: random.Random, at_us: int, rows: int, calls: set[str]) -> bytes:
    call, state = (
        f"{rng.randrange(1, 4):016x}",
        rng.choice(("started", "waiting", "waiting", "ended")),
    )
    ranges = _of_rows(rng, rows).get("rows") if call in calls else [[1, rows]]
    (calls.discard if state == "ended" else calls.add)(call)
    more: dict[str, Any] = {} if ranges is None else {"rows": ranges}
    if state == "waiting":
        more |= {"due": _LATER, "since": _LATER, "after_s": 9, "reason": "J*"}
    return record(at_us, "call", id=call, state=state, **more)


def _other_data(rng: random.Random, at_us: int, row: int, text: str) -> bytes:
    made = json.loads(record(1, "row"))["at"]
    from_elsewhere = {"origin": {"id": "0123456789abcdef", "at": made}}
    more = rng.choice(({}, {"key_count": rng.randint(1, 3)}, from_elsewhere))
    data = {"J*": text}
    return record(
        at_us, "row_data", row=row, checksum="d", data=data, key=text, created_at=made, **more
    )


def _beside_a_message(rng: random.Random, row: int, text: str) -> dict[str, Any]:
    return rng.choice(
        (
            {"detail": {"row": row}},  # a member that isn't known
            {"level": "ERROR", "row": row, "details": {text: [text]}},
            {"level": text, "attempt": 3, "details": {}},
        )
    )


def _about_the_job(rng: random.Random, at_us: int, text: str) -> bytes:
    return rng.choice(
        (
            record(at_us, "job_status", status=rng.choice(("running", "paused"))),
            record(at_us, "job_reopened", reason=text),
            record(at_us, "job_pause", ended=rng.random() < 0.5, person=text),
            record(at_us, "hold", reason=text),
            record(at_us, "tune", id="0" * 16, run="0123456789abcdef", values={text: text}),
            record(at_us, "tuned", id="0" * 16, changes={text: [text, None]}, reason=text),
            record(at_us, "job_counts", total=rng.randrange(99)),
            record(at_us, "job_error", code="E", message=text),
            record(
                at_us,
                "run",
                id="0123456789abcdef",
                host=text,
                user=text,
                pid=7,
                package="0",
                argv=[text],
            ),
        )
    )


# --- values that a decoder may stumble over --------------------------------------------------

VALUES: tuple[Callable[[random.Random], bytes], ...] = (
    lambda rng: rng.choice(
        (b"null", b"true", b"{}", b"[]", b'""', b"NaN", b"Infinity", b"", b'"J')
    ),
    lambda rng: rng.choice(
        (b"0", b"-0", b"-1", b"1", b"2", b"1.0", b"1e3", b"1e400", b"01", b"1.")
    ),
    lambda rng: b"%d" % (2 ** rng.choice((31, 32, 63, 64)) - rng.randint(0, 1)),
    lambda rng: b"1" + b"0" * rng.choice((18, 19, 30, 400, 5000)),
    lambda rng: rng.choice((b'"\xff"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"\\u0000"', b'"\x01"')),
    lambda rng: '"{}"'.format(rng.choice(("\u2028", "\x85", "\ufeff", "\U0001f600"))).encode(),
    lambda rng: _nested(rng, rng.choice((1, 98, 99, 100, 101, 1000, 100_000))),
    lambda rng: rng.choice((b'"row"', b'"log"', b'"job"', b'"failed"', b'"running"', b'"lost"')),
)

_TIMES = (
    b"9999-12-31T23:59:59.999999Z",
    b"9999-12-31T23:59:59-05:00",
    b"0001-01-01T00:00:00Z",
    b"0001-01-01T00:00:00+01:00",
    b"2026-11-24T13:35:00+05:30",
    b"2036-11-24T13:35:00+05:30",
    b"2036-11-24T13:35:00.0000001Z",
    b"2026-11-24T13:35:00",
    b"2026-02-30T13:35:00Z",
    b"",
)


def _nested(rng: random.Random, depth: int) -> bytes:
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")))
    return opening * depth + b"1" + closing * depth


def _value(rng: random.Random) -> bytes:
    return rng.choice(VALUES)(rng)


# --- mutations of the commits ----------------------------------------------------------------


def _drop(rng: random.Random, commits: Commits) -> None:
    del commits[rng.randrange(len(commits))]


def _repeat(rng: random.Random, commits: Commits) -> None:
    at = rng.randrange(len(commits))
    commits.insert(rng.randint(at, len(commits)), list(commits[at]))


def _swap(rng: random.Random, commits: Commits) -> None:
    one, other = rng.randrange(len(commits)), rng.randrange(len(commits))
    commits[one], commits[other] = commits[other], commits[one]


def _splice(rng: random.Random, commits: Commits) -> None:
    """Commits of another job."""
    other = good_commits(12, rng.randint(0, 9), "other")
    start = rng.randrange(len(other))
    at = rng.randint(0, len(commits))
    commits[at : at + rng.randint(0, 2)] = other[start : start + rng.randint(1, 4)]


def _truncate(rng: random.Random, commits: Commits) -> None:
    del commits[rng.randint(1, len(commits)) :]


def _split(rng: random.Random, commits: Commits) -> None:
    """One commit becomes two."""
    at = rng.randrange(len(commits))
    cut = rng.randrange(max(len(commits[at]), 1))
    commits[at : at + 1] = [part for part in (commits[at][:cut], commits[at][cut:]) if part]


def _join(rng: random.Random, commits: Commits) -> None:
    """Two commits become one."""
    at = rng.randrange(len(commits))
    commits[at : at + 2] = [list(chain(*commits[at : at + 2]))]


COMMIT_MUTATIONS = (_drop, _repeat, _swap, _splice, _truncate, _split, _join)


# --- mutations of one commit's records -------------------------------------------------------


def _drop_record(rng: random.Random, records: list[bytes]) -> None:
    if len(records) > 1:
        del records[rng.randrange(len(records))]


def _repeat_record(rng: random.Random, records: list[bytes]) -> None:
    records.insert(rng.randint(0, len(records)), rng.choice(records))


def _add_line(rng: random.Random, records: list[bytes]) -> None:
    line = rng.choice((b"", b"{}", b"[]", b"1", b" ", b'{"type":"row_note"}', records[0][:-2]))
    records.insert(rng.randint(0, len(records)), line)


def _like_a_seal(rng: random.Random, records: list[bytes]) -> None:
    """A record that ends with what is, or nearly is, a seal."""
    digits = rng.choice((b"zzzzzzzz", b"ABCDEF01", b"00000000", b"0000000", b'\\"000000'))
    at = rng.randrange(len(records))
    records.insert(at, records[at][:-1] + b',"crc":"%b"}' % digits)


def _change_time(rng: random.Random, records: list[bytes]) -> None:
    def change(_: re.Match[bytes]) -> bytes:
        return b'"at":"' + rng.choice(_TIMES)

    _rewrite(rng, records, rb'"at":"[^"]*', change)


def _change_value(rng: random.Random, records: list[bytes]) -> None:
    """Put another value in the place of a member's, whatever it was."""

    def change(found: re.Match[bytes]) -> bytes:
        return found[1] + _value(rng)

    _rewrite(rng, records, rb'("[a-z_]{2,}":)("[^"]*"|[0-9]+|null)', change)


def _double_key(rng: random.Random, records: list[bytes]) -> None:
    """State a member twice, with another value."""

    def double(found: re.Match[bytes]) -> bytes:
        parts = [found[0], found[1] + rng.choice((found[2], _value(rng)))]
        rng.shuffle(parts)
        return b",".join(parts)

    _rewrite(rng, records, rb'("[a-z_]{2,}":)("[^"]*"|[0-9]+|null)', double)


def _add_member(rng: random.Random, records: list[bytes]) -> None:
    name = rng.choice(
        (b"new", b"crc", b"row", b"status", b"reset", b"key", b"\\u0072ow", b"\xff", b"type")
    )
    _rewrite(rng, records, rb'(?<=[{,])(?=")', lambda _: b'"%b":%b,' % (name, _value(rng)))


def _drop_member(rng: random.Random, records: list[bytes]) -> None:
    _rewrite(rng, records, rb'"[a-z_]{2,}":("[^"]*"|[0-9]+|null),?', lambda _: b"")


def _space(rng: random.Random, records: list[bytes]) -> None:
    space = rng.choice((b" ", b"\t", b"\r", b"\x0b", b"\xef\xbb\xbf", b"\0"))
    _rewrite(rng, records, rb"^|(?<=[,:])|$", lambda _: space)


def _edit_bytes(rng: random.Random, records: list[bytes]) -> None:
    at = rng.randrange(len(records))
    records[at] = _edited(rng, records[at])


def _rewrite(
    rng: random.Random,
    records: list[bytes],
    pattern: bytes,
    change: Callable[[re.Match[bytes]], bytes],
) -> None:
    """Change one place of one record that the pattern matches."""
    at = rng.randrange(len(records))
    places = list(re.finditer(pattern, records[at]))
    if places:
        place = rng.choice(places)
        text = records[at]
        records[at] = text[: place.start()] + change(place) + text[place.end() :]


RECORD_MUTATIONS = (
    _drop_record,
    _repeat_record,
    _add_line,
    _like_a_seal,
    _change_time,
    _change_value,
    _change_value,
    _double_key,
    _add_member,
    _drop_member,
    _space,
    _edit_bytes,
)


# --- mutations of the bytes ------------------------------------------------------------------


def _edited(rng: random.Random, content: bytes) -> bytes:
    """Bytes changed, inserted, removed, repeated, or one bit flipped."""
    at = rng.randint(0, max(len(content) - 1, 0))
    length = min(rng.choice((1, 1, 1, 2, 17, 300)), len(content) - at)
    piece = content[at : at + length]
    other = rng.choice(
        (
            b"",
            piece + piece,
            bytes(length),
            b"\xff" * length,
            b"\n",
            b"\r" + piece,
            piece[::-1],
            bytes([rng.randrange(256)]) + piece,
            bytes(byte ^ 1 << rng.randrange(8) for byte in piece[:1]) + piece[1:],
        )
    )
    return content[:at] + other + content[at + length :]


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randint(0, len(content))]


def _text_mode(rng: random.Random, content: bytes) -> bytes:
    return content.replace(b"\n", b"\r\n", rng.choice((1, -1)))


def _moved_line(rng: random.Random, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    line = lines.pop(rng.randrange(len(lines)))
    lines.insert(rng.randint(0, len(lines)), line)
    return b"".join(lines)


def _other_seal(rng: random.Random, content: bytes) -> bytes:
    """One seal states something else, or is no longer quite a seal."""
    seals = list(re.finditer(rb',"crc":"([0-9a-f]{8})"}\n', content))
    if not seals:
        return content
    place = rng.choice(seals)
    seal = rng.choice(
        (place[0].upper(), b',"crc":"zzzzzzzz"}\n', b',"crc": "', place[0][:-1], b"}\n")
    )
    return content[: place.start()] + seal + content[place.end() :]


BYTE_MUTATIONS = (_edited, _edited, _edited, _cut, _cut, _text_mode, _moved_line, _other_seal)


def mutate(rng: random.Random, commits: Sequence[Sequence[bytes]]) -> Mutant:
    """One mutant of a good journal: seals that match in about two of three."""
    sealed = rng.randrange(3) > 0
    if sealed:
        changed = [list(records) for records in commits]
        for _ in range(rng.choice((1, 1, 2, 3))):
            if rng.randrange(4) == 0:
                rng.choice(COMMIT_MUTATIONS)(rng, changed)
            else:
                rng.choice(RECORD_MUTATIONS)(rng, rng.choice(changed))
            if not changed:
                return Mutant(b"", sealed=False)
        content = seal_commits(changed)
    else:
        # Sealed commits are single lines to the mutations: what they end with moves along.
        whole = [[commit] for commit in split_commits(seal_commits(commits))]
        if rng.randrange(2) == 0:
            rng.choice(COMMIT_MUTATIONS)(rng, whole)
        content = b"".join(b"".join(commit) for commit in whole)
        for _ in range(rng.choice((0, 1, 1, 2))):
            content = rng.choice(BYTE_MUTATIONS)(rng, content)
    return Mutant(content, sealed)

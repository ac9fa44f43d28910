"""What a work can't cost less than: the system calls alone, or the library's work alone."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from benchmarks.ours import half_done, replayable
from benchmarks.setting import (
    COST_CENTS,
    JOB,
    TRACKING_NUMBER,
    Clock,
    Setting,
    row_dicts,
    start_python,
)

LINE = (
    b'{"type":"row_status","row":123456,"status":"completed","tracking_number":"'
    + TRACKING_NUMBER.encode()
    + b'","cost_cents":1250,"at":"2026-11-24T13:35:00.123456Z","crc":"01234567"}\n'
)

_sync = getattr(os, "fdatasync", os.fsync)  # macOS has no other


class Outcome(msgspec.Struct, tag="row_status", omit_defaults=True):
    row: int
    status: str
    tracking_number: str | None
    cost_cents: int | None
    at: str


class Slim(msgspec.Struct, gc=False):
    """What an index has to know of a record."""

    type: str
    row: int = 0
    status: str | None = None
    cost_cents: int | None = None


@contextmanager
def _appended(setting: Setting) -> Iterator[int]:
    with setting.fresh() as directory:
        path = directory / "file"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def append(setting: Setting, rows: int, *, sync: bool, lines: int = 1) -> float:
    """A row's line appended, with or without fdatasync; or ``lines`` at once. Seconds a line."""
    count = setting.count(rows)
    text = LINE * lines
    with _appended(setting) as descriptor:
        os.write(descriptor, text)
        os.fsync(descriptor)
        with Clock() as clock:
            for _ in range(count):
                os.write(descriptor, text)
                if sync:
                    _sync(descriptor)
    return clock.s / count / lines


def encode_and_write(setting: Setting, rows: int) -> float:
    """Outcomes encoded and checked, then one write. Seconds a row."""
    count = setting.count(rows)
    encode = msgspec.json.Encoder().encode
    with _appended(setting) as descriptor, Clock() as clock:
        crc, lines = 0, []
        for number in range(count):
            at = "2026-11-24T13:35:00.123456Z"
            line = encode(Outcome(number, "completed", TRACKING_NUMBER, COST_CENTS, at))
            crc = zlib.crc32(line, crc)
            lines.append(line)
        os.write(descriptor, b"\n".join(lines))
    return clock.s / count


def create_rows(setting: Setting, rows: int) -> float:
    """Data encoded, its SHA-256 made, and written in large pieces. Seconds a row."""
    count = setting.count(rows)
    encode = msgspec.json.Encoder(order="sorted").encode
    with _appended(setting) as descriptor, Clock() as clock:
        lines = []
        for data in row_dicts(count):
            text = encode(data)
            lines.append(text + hashlib.sha256(text).hexdigest().encode())
            if len(lines) == 10_000:
                os.write(descriptor, b"\n".join(lines))
                lines.clear()
        os.write(descriptor, b"\n".join(lines))
    return clock.s / count


def decode_slim(setting: Setting, records: int, *, batch: bool) -> float:
    """The journal's lines decoded to structs of four fields, a chunk at a time. Seconds a line."""
    path = replayable(setting, records, batch=batch) / JOB / "journal.jsonl"
    decode = msgspec.json.Decoder(Slim).decode_lines
    count = 0
    with path.open("rb", buffering=0) as file, Clock() as clock:
        rest = b""
        while chunk := file.read(1 << 16):
            chunk = rest + chunk
            end = chunk.rfind(b"\n") + 1
            rest = chunk[end:]
            count += len(decode(chunk[:end]))
    return clock.s / count


def read_lines(setting: Setting, rows: int) -> float:
    """Each line of the job's file decoded to dicts. Seconds a row."""
    path: Path = half_done(setting, rows) / JOB / "journal.jsonl"
    decode = msgspec.json.Decoder().decode
    with path.open("rb") as file, Clock() as clock:
        for line in file:
            decode(line)
    return clock.s / setting.count(rows)


def import_libraries(_setting: Setting) -> float:
    with Clock() as clock:
        start_python("-c", "import click, msgspec")
    return clock.s


def start_and_stop(_setting: Setting) -> float:
    with Clock() as clock:
        start_python("-c", "pass")
    return clock.s

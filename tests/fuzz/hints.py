"""Mutants of a hint beside a good journal: the answers stay the same, or a named error says why not.

A hint names the file that it is of, by its inode and time, and the system that was up; so that a
mutant is the same one wherever it is tried, all of these are made up here.
"""

from __future__ import annotations

import copy
import json
import os
import random
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest
from fuzz.mutator import JOB, Mutant, good_commits
from support.children import place_journal, seal_commits
from support.system_os import SYSTEM_OS

import journal.fs.system
import journal.index.hint
from journal import JobRow, JobService, JournalError

TYPES = {
    "statuses": "B",
    "attempts": "I",
    "row_offsets": "Q",
    "status_offsets": "Q",
    "numbers": "Q",
    "earlier": "I",
    "given_back": "I",
}
SEAL_BYTES = 18
ODD: list[Any] = [
    *(-1, 0, 1, 5, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 10**12, 10**30, 0.5, None, True),
    *("", "happy", "2026-11-24T13:35:00.000001Z", "9999-12-31T23:59:59.999999Z", "x" * 70_000),
    *([], {}, [[[]]], [0] * 6, [2**40] * 6, {"statuses": []}, ["E", "message"], {"total": -5}),
]


class _FixedOs:
    """Stands in for ``journal.fs.system.os``: one inode for all files, one name of the system."""

    def __getattr__(self, name: str) -> Any:
        return getattr(SYSTEM_OS, name)

    def stat(self, path: str | Path) -> Any:
        return _fixed(os.stat(path))

    def fstat(self, fd: int) -> Any:
        return _fixed(os.fstat(fd))

    def read(self, _fd: int, _length: int) -> bytes:
        return b"fuzzed\n"  # nothing else is read in this way when a job is looked at


def _fixed(stat: os.stat_result) -> Any:
    members = {name: getattr(stat, name) for name in dir(stat) if name.startswith("st_")}
    return SimpleNamespace(**members | {"st_ino": 1, "st_ctime_ns": 1})


@contextmanager
def _fixed_system(hint_bytes: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.fs.system, "os", _FixedOs())
        patch.setattr(journal.index.hint, "BLOCK_ROWS", 4)
        patch.setattr(journal.index.hint, "MIN_BYTES", hint_bytes)
        yield


def _read(root: Path) -> tuple[Any, list[JobRow]]:
    with JobService(root, sync="none") as service:
        return service.get_job_summary(JOB), list(service.get_rows(JOB))


@cache
def good_hint() -> bytes:
    """The hint of the journal that the other targets mutate."""
    with tempfile.TemporaryDirectory() as name, _fixed_system(1):
        place_journal(Path(name), JOB, seal_commits(good_commits(30, seed=1)))
        _read(Path(name))
        return (Path(name) / JOB / "index.hint").read_bytes()


class Hint:
    """What opening says, whatever stands in the hint; of a lie under a good seal, less is asked."""

    def __init__(self, root: Path) -> None:
        """``root`` is an empty directory."""
        self._root = root
        place_journal(root, JOB, seal_commits(good_commits(30, seed=1)))
        with _fixed_system(1 << 30):
            self._expected = _read(root)
        self._rows = {row.row_number: row for row in self._expected[1]}

    def __call__(self, mutant: Mutant) -> str:
        """Check one mutant; return what came of it, for the statistics."""
        (self._root / JOB / "index.hint").write_bytes(mutant.content)
        with _fixed_system(1 << 30):
            if not mutant.sealed:
                assert _read(self._root) == self._expected
                return "the same"
            try:
                said = _read(self._root)
            except JournalError as error:
                return type(error).__name__
        for row in said[1]:
            assert row.data == self._rows[row.row_number].data, "the data of another row"
        return "the same" if said == self._expected else "a lie"


def mutate_hint(rng: random.Random) -> Mutant:
    """Bytes changed as a disk does, or what the hint says, under seals that fit."""
    good = good_hint()
    if rng.random() < 0.6:
        return Mutant(_lie(rng, good), sealed=True)
    content = bytearray(good)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, other = rng.randrange(len(good)), rng.randrange(len(good))
        length = rng.choice((1, 4, 8, 40, 512))
        kind = rng.randrange(5)
        if kind == 0:
            content[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            content[at : at + length] = good[other : other + length]
        elif kind == 2:
            content[at:at] = good[other : other + length]
        elif kind == 3:
            content[at : at + length] = bytes(len(content[at : at + length]))
        else:
            del content[at:]
    return Mutant(bytes(content), sealed=False)


def _lie(rng: random.Random, good: bytes) -> bytes:
    line, _, data = good.partition(b"\n")
    header: dict[str, Any] = json.loads(line[:-SEAL_BYTES] + b"}")
    for _ in range(rng.choice((1, 1, 2, 3))):
        if rng.random() < 0.5:
            data = _lie_in_columns(rng, header, data)
        else:
            _lie_in_header(rng, header)
    body = json.dumps(header, separators=(",", ":")).encode()[:-1]
    return body + b',"crc":"%08x"}\n' % crc32(body) + data


def _lie_in_header(rng: random.Random, header: dict[str, Any]) -> None:
    target: Any = header
    key: Any = rng.choice(list(header))
    while isinstance(target[key], (dict, list)) and target[key] and rng.random() < 0.8:
        target = target[key]
        key = rng.choice(list(target)) if isinstance(target, dict) else rng.randrange(len(target))
    old = target[key]
    if isinstance(old, int) and rng.random() < 0.5:
        target[key] = old + rng.choice((-1, 1, 7, -old, old))
    elif isinstance(target, dict) and rng.random() < 0.1:
        del target[key]
    else:
        target[key] = copy.deepcopy(rng.choice(ODD))


def _lie_in_columns(rng: random.Random, header: dict[str, Any], data: bytes) -> bytes:
    """Another number in a column, and the crc of its block."""
    blocks, rows = header.get("blocks"), header.get("rows")
    if rows != len(_good_rows()) or not isinstance(blocks, dict):
        return data
    begin, name = 0, rng.choice(list(TYPES))
    for each, kind in TYPES.items():
        if each not in blocks:
            continue
        column = array(kind, bytes(0))
        size = rows * column.itemsize
        if each == name and isinstance(blocks.get(name), list) and begin + size <= len(data):
            column.frombytes(data[begin : begin + size])
            at = rng.randrange(rows)
            most = 256**column.itemsize - 1
            column[at] = rng.choice((column[rng.randrange(rows)], rng.randint(0, most), most, 0))
            column[at] = (column[at] + rng.choice((0, 0, 1, 19))) & most
            blocks[name] = [crc32(column[first : first + 4]) for first in range(0, rows, 4)]
            return data[:begin] + column.tobytes() + data[begin + size :]
        begin += size
    return data


@cache
def _good_rows() -> bytes:
    """The statuses in the good hint."""
    line, _, data = good_hint().partition(b"\n")
    rows = json.loads(line)["rows"]
    return data[:rows]

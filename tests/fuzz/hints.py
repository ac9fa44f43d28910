"""Mutants of a hint beside a good journal: the answers stay the same.

A hint names the file that it is of, by its inode and time, and the system that was up; so that a
mutant is the same one wherever it is tried, all of these are made up here.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fuzz.mutator import JOB, Mutant, good_commits
from support.children import place_journal, seal_commits
from support.system_os import SYSTEM_OS

import journal.fs.system
import journal.index.hint
from journal import JobRow, JobService


class _FixedOs:
    """Stands in for ``journal.fs.system.os``: one inode for all files."""

    def __getattr__(self, name: str) -> Any:
        return getattr(SYSTEM_OS, name)

    def stat(self, path: str | Path) -> Any:
        return _fixed(os.stat(path))

    def fstat(self, fd: int) -> Any:
        return _fixed(os.fstat(fd))


def _fixed(stat: os.stat_result) -> Any:
    members = {name: getattr(stat, name) for name in dir(stat) if name.startswith("st_")}
    return SimpleNamespace(**members | {"st_ino": 1, "st_ctime_ns": 1})


@contextmanager
def _fixed_system(hint_bytes: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.fs.system, "os", _FixedOs())
        patch.setattr(journal.fs.system, "boot_id", lambda: "fuzzed")
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
    """What opening says, whatever stands in the hint."""

    def __init__(self, root: Path) -> None:
        """``root`` is an empty directory."""
        self._root = root
        place_journal(root, JOB, seal_commits(good_commits(30, seed=1)))
        with _fixed_system(1 << 30):
            self._expected = _read(root)

    def __call__(self, mutant: Mutant) -> str:
        """Check one mutant; return what came of it, for the statistics."""
        (self._root / JOB / "index.hint").write_bytes(mutant.content)
        with _fixed_system(1 << 30):
            assert _read(self._root) == self._expected
        return "the same"


def mutate_hint(rng: random.Random) -> Mutant:
    """Bytes changed as a disk does."""
    good = good_hint()
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

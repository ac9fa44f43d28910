"""Two copies of a job, and a system whose calls fail when they are told to."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.children import FaultyOs
from support.copies import copied, make_job

import journal.fs.system


@pytest.fixture(name="here")
def fixture_here(tmp_path: Path) -> Path:
    make_job(tmp_path / "here", 12)
    return tmp_path / "here"


@pytest.fixture(name="there")
def fixture_there(here: Path) -> Path:
    return copied(here, "there")


@pytest.fixture(name="faulty_os")
def fixture_faulty_os(monkeypatch: pytest.MonkeyPatch) -> FaultyOs:
    faulty = FaultyOs()
    monkeypatch.setattr(journal.fs.system, "os", faulty)
    return faulty

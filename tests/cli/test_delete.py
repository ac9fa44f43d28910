"""`journal delete`: asks, refuses where nobody can answer, and checks all before it takes the first."""

import os
from pathlib import Path

import pytest
from support.terminal import on_terminal

from journal import JobService
from journal.cli.main import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with JobService(path, sync="none") as service:
        for job_id in ("a", "b", "c"):
            service.create_job(f"Job {job_id}", job_id=job_id, row_data=[{}] * 3)
    return path


def jobs(root: Path) -> list[str]:
    return sorted(each.name for each in root.iterdir() if not each.name.startswith("."))


def test_delete_asks_and_obeys(root: Path) -> None:
    code, shown = on_terminal("--root", str(root), "delete", "a", "b", columns=80, answer="n\n")
    assert code == 4  # what was to come after the deletion must not
    assert "a: Job a: pending, 0 of 3 rows are done\n" in shown
    assert shown.endswith("nothing was deleted\n")
    assert jobs(root) == ["a", "b", "c"]
    code, shown = on_terminal("--root", str(root), "delete", "a", "b", columns=80, answer="y\n")
    assert code == 0
    assert shown.endswith("a: deleted\nb: deleted\n")
    assert jobs(root) == ["c"]


def test_delete_refuses_where_nobody_can_answer(
    root: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull, encoding="utf-8") as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        assert main(["--root", str(root), "delete", "a"]) == 2
    assert "--yes" in capsys.readouterr().err
    assert jobs(root) == ["a", "b", "c"]


def test_a_job_at_work_is_not_deleted_and_neither_are_the_others(
    root: Path, capsys: Capture
) -> None:
    with JobService(root, sync="none") as service:
        service.start_job("b")
        assert main(["--root", str(root), "delete", "--yes", "a", "b"]) == 5
    assert "job 'b' is being worked on by another run of this process" in capsys.readouterr().err
    assert jobs(root) == ["a", "b", "c"]


def test_a_damaged_job_can_be_deleted_by_its_path_too(root: Path) -> None:
    path = root / "a" / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b"Job", b"Jab"))
    code, shown = on_terminal("delete", str(root / "a"), columns=80, answer="y\n")
    assert code == 0
    assert "is damaged at line 1" in shown
    assert jobs(root) == ["b", "c"]

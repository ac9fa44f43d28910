"""`journal run --shard`, and a shard as JOB of the other commands."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from support.commands import journal

from journal.sets.shard_choice import RESTARTS, VARIABLES


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (*RESTARTS, *(name for names in VARIABLES for name in names)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    lines = "".join(f"a{n},{n}\n" for n in range(1, 21))
    (tmp_path / "in.csv").write_text(f"id,n\n{lines}", encoding="utf-8")
    return tmp_path


def run(*words: str) -> CompletedProcess[str]:
    return journal("run", "in.csv", "--job", "ship", "--key", "id", *words, "--", "echo", "{n}")


def test_a_shard_is_run_shown_and_settled_under_its_own_name(here: Path) -> None:
    assert [run("-q", "--shard", f"{index}/3").returncode for index in range(3)] == [0, 0, 0]
    outcomes = set()
    for index in range(3):
        shard = f"ship/{index:03}-of-003"
        for name in (shard, f"jobs/{shard}", str(here / "jobs" / shard)):
            rows = json.loads(journal("rows", name, "--json").stdout)
        assert all((row["row_number"] - 1) % 3 == index for row in rows)
        outcomes |= {row["result"] for row in rows}
        assert f"job         {shard}\n" in journal("show", shard).stdout
    assert outcomes == {str(n) for n in range(1, 21)}
    assert journal("redo", "ship/001-of-003", "--row", "2", "--yes").returncode == 0
    assert run("--shard", "1/3", "--dry-run").stdout.startswith("2\t")


def test_the_command_to_paste_names_the_index_and_not_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    assert run("-q", "--shard", "auto/3").returncode == 0
    shown = json.loads(journal("show", "ship/002-of-003", "--json").stdout)
    argv = shown["last_run"]["argv"]
    assert argv[argv.index("--shard") + 1] == "2/3"


def test_a_shard_of_another_store_is_started_by_its_set_and_index(here: Path) -> None:
    assert run("-q", "--shard", "2/3", "--limit", "1").returncode == 4
    (here / "jobs").rename(here / "moved")
    shown = journal("--root", "moved", "show", "ship/002-of-003").stdout
    assert " run ... --job ship --shard 2/3`" in " ".join(shown.split())


def test_a_task_names_the_command_for_all_shards_and_no_command_for_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("run", "in.csv", "--job", "ship", "--key", "id", "--shard")
    by_hand = journal(*words, "0/2", "--", "false").stderr
    assert " errors ship/000-of-002\n" in by_hand
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    task = journal(*words, "auto/2", "--", "false").stderr
    assert (task.count(" show ship\n"), " errors " in task) == (1, False)


def test_a_job_and_a_set_of_one_name_refuse_each_other() -> None:
    shard = journal("run", "in.csv", "--job", "ship/002-of-003", "--", "echo")
    assert "is a shard: give --job ship --shard 2/3" in shard.stderr
    outside = run("--shard", "3/3")
    assert (outside.returncode, "0 <= index < count" in outside.stderr) == (2, True)
    assert run("-q").returncode == 0
    refused = run("--shard", "0/3")
    assert (refused.returncode, "is a job, and not a set" in refused.stderr) == (2, True)


def test_an_existing_shard_is_continued_and_the_command_to_paste_makes_none(here: Path) -> None:
    for more in ([], ["--dry-run"]):
        refused = run("--shard", "1/3", "--existing", *more)
        assert refused.returncode == 4
        assert "ship/001-of-003" in refused.stderr
        assert f"there is none in {here / 'jobs'} on " in refused.stderr
        assert "if this is its first start, leave --existing out" in refused.stderr
        assert not (here / "jobs").exists()
    assert run("-q", "--shard", "1/3", "--limit", "1").returncode == 4
    continued = run("--shard", "1/3", "--existing", "--limit", "1")
    assert (continued.returncode, "--existing" in continued.stderr) == (4, True)

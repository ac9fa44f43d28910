"""The benchmarks run, with few rows and the standard library's peers; what they cost is not asked."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.platforms import needs_rlimits

TOP = Path(__file__).resolve().parent.parent
QUICK = ("--scale", "0.0001", "--rounds", "1", "--standard")


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", name="works")
def fixture_works() -> list[str]:
    return [line.split()[0] for line in run("benchmarks", "--list").splitlines()]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@needs_rlimits
def test_each_work_has_its_lines_in_the_table_and_its_figures_in_the_json(
    tmp_path: Path, works: list[str]
) -> None:
    assert len(works) > 10
    path = tmp_path / "figures.json"
    table = run("benchmarks", *QUICK, "--dir", str(tmp_path), "--json", str(path))
    told = json.loads(path.read_text())
    assert [work["name"] for work in told["works"]] == works
    assert (told["rounds"], told["scale"]) == (1, 0.0001)
    lines = table[table.index("|---") :].splitlines()[1:]
    for work in told["works"]:
        sides = [work["ours"], *work["others"]]
        for side in sides:
            shown = cells(lines.pop(0))
            assert shown[1] == ("floor: " if side["floor"] else "") + side["name"]
            assert shown[2] == side["promise"]
            if "skipped" in side:
                assert shown[3] == side["skipped"] == "left out: --standard"
            else:
                assert work["unit"] in shown[3]
                assert 0 < side["min"] <= side["median"] <= side["max"]
        if work["goal"] is not None:
            assert set(work["goal"]["against"]) <= {side["name"] for side in sides}
    assert not lines
    assert [other.name for other in tmp_path.iterdir()] == ["figures.json"]


@needs_rlimits
def test_a_work_can_be_chosen_and_its_figures_printed(tmp_path: Path) -> None:
    choice = ("--only", "complete", "open*", "--dir", str(tmp_path), "--json", "-")
    told = json.loads(run("benchmarks", *QUICK, *choice))
    assert [work["name"] for work in told["works"]] == ["complete", "open"]


@needs_rlimits
def test_the_growth_of_costs_is_told_by_size(tmp_path: Path) -> None:
    path = tmp_path / "growth.csv"
    figures = tmp_path / "growth.json"
    few = ("--max-rows", "1000", "--max-jobs", "100", "--rounds", "1", "--dir", str(tmp_path))
    table = run("benchmarks.plot", *few, "--csv", str(path), "--json", str(figures))
    with path.open(newline="") as file:
        names, of_jobs, of_rows = csv.reader(file)
    assert len(names) == len(of_jobs) == len(of_rows) == len(table.splitlines()) - 1
    assert (of_jobs[0], of_rows[0]) == ("100", "1000")
    # Each cost is one of jobs or of rows.
    pairs = list(zip(of_jobs, of_rows, strict=True))[1:]
    assert all(bool(one) != bool(other) for one, other in pairs)
    assert run("benchmarks.plot", "--from", str(figures)) == table


def test_the_heartbeat_beside_arun_is_measured_and_each_row_is_called_once(tmp_path: Path) -> None:
    pytest.importorskip("httpx", reason="httpx is not installed")
    small = ("--rows", "40", "--concurrent", "6", "--answer-s", "0.05", "0.1")
    told = run("benchmarks.asyncio_heartbeat", *small, "--dir", str(tmp_path)).splitlines()
    names = ["without a journal", "arun, then cancelled", "arun, continued"]
    assert [line.split("  ")[0] for line in told[:3]] == names
    assert told[3].startswith("each of 40 rows was called once: ")
    assert list(tmp_path.iterdir()) == []


def test_the_measurement_of_outages_says_what_a_hold_costs() -> None:
    runs = [json.loads(line) for line in run("benchmarks.outages", "--quick").splitlines()]
    assert len(runs) == 8
    assert {figures["failed"] for figures in runs[:6]} == {0}
    assert {figures["attempts_that_count"] for figures in runs[1:6]} == {1}
    assert {figures["most_in_a_minute"] <= 1.05 for figures in runs[6:]} == {True}


def test_data_frames_are_measured_against_both_floors() -> None:
    pytest.importorskip("pandas", reason="no wheel of pandas here")
    pytest.importorskip("pyarrow", reason="no wheel of pyarrow here")
    out = run("benchmarks.data_frames", "--rows", "300", "--rounds", "1")
    assert [line.split()[1:4] for line in out.splitlines() if "goal" in line] == [
        ["to_arrow", "/", "floor"],
        ["to_arrow", "/", "strict"],
        ["to_pandas", "/", "floor"],
        ["to_pandas", "/", "strict"],
    ]
    assert out.count("MB") == 2


@needs_rlimits
def test_a_set_is_measured_beside_one_job(tmp_path: Path) -> None:
    out = run("benchmarks.shards", "--rows", "300", "--shards", "3", "--dir", str(tmp_path))
    assert [line[:13].strip() for line in out.splitlines()[1:]] == [
        *("input, one jo", "input, shard", "input, shard"),
        *("show bench", "export bench", "show set", "export set"),
    ]
    assert list(tmp_path.iterdir()) == []

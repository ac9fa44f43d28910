"""The benchmarks run, with few rows and the standard library's peers; what they cost is not asked."""

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from support.effort import IS_LONG, sample
from support.platforms import needs_rlimits, needs_terminals

from journal.verbs import row_ranges

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
    works = works if IS_LONG else sample(works, 4)
    quick = (*QUICK, "--only", *works)
    table = run("benchmarks", *quick, "--dir", str(tmp_path), "--json", str(path))
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


@needs_terminals
def test_the_picture_of_a_killed_run_names_the_rows_in_flight_and_shows_colours() -> None:
    from benchmarks.picture import drawing, show_of_a_killed_run  # noqa: PLC0415  (not on Windows)

    told = show_of_a_killed_run(20)
    assert "status      \x1b[35minterrupted\x1b[0m\n" in told
    (in_flight,) = re.findall(r"in flight   rows? ([\d, -]+)", told)
    assert any(20 in numbers for numbers in row_ranges(in_flight))
    picture = ET.fromstring(drawing(told))
    lines = ["".join(line.itertext()) for line in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert lines == ["$ journal show labels", *re.sub("\x1b.*?m", "", told).split("\n")]

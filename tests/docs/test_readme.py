"""Every example in the README does what the README says of it."""

import os
import re
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest
from support.paths import README, TOP

from journal import JobService
from journal.cli.main import _COMMANDS

SHOP = """
import json, os, pathlib

def read_orders():
    return [{"order": f"A-{n}", "zip": str(90000 + n)} for n in range(1, 8)]

def ship(order, *, idempotency_key):
    with open("shipped", "a") as file:
        file.write(idempotency_key + "\\n")
    if order["order"] == os.environ.get("DIE_AT"):
        os.kill(os.getpid(), 9)
    if order["order"] == os.environ.get("FAIL_AT"):
        raise ConnectionError("carrier is down")
    return "1Z" + order["zip"], 1250
"""


def example(name: str) -> str:
    found = re.search(
        rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)```\n<!-- end -->", README, re.DOTALL
    )
    assert found is not None
    return found[1]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNAL_ROOT", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "shop.py").write_text(SHOP)
    for name in ("ship.py", "loop.py", "service.py", "again.py", "notebook.py"):
        (tmp_path / name).write_text(example(f"python: {name}"))
    return tmp_path


def python(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_python_example_ships_every_order(shop: Path) -> None:
    done = python("ship.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "7 shipped for 8750 cents\n"
    again = python("ship.py")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert len((shop / "shipped").read_text().split()) == 7


@pytest.mark.parametrize("script", ["ship.py", "loop.py"])
def test_the_python_examples_go_on_after_they_were_killed_and_ship_nothing_twice(
    shop: Path, script: str
) -> None:
    assert python(script, DIE_AT="A-4").returncode == -9
    done = python(script)
    assert done.returncode in (0, 3), done.stderr
    shipped = (shop / "shipped").read_text().split()
    assert len(shipped) == len(set(shipped))
    with JobService("jobs") as service:
        job = service.get_job("ship-ca")
        review = [row.idempotency_key for row in service.get_rows("ship-ca", "needs_review")]
    assert job is not None
    assert "ship-ca:order=A-4" in review
    assert job.successful_rows + len(review) == 7
    assert set(shipped) | set(review) == {f"ship-ca:order=A-{n}" for n in range(1, 8)}
    if script == "ship.py":
        assert done.returncode == 3
        assert done.stdout == f"{7 - len(review)} shipped for {(7 - len(review)) * 1250} cents\n"


@pytest.mark.parametrize("script", ["ship.py", "loop.py"])
def test_the_python_examples_record_why_an_order_failed(shop: Path, script: str) -> None:
    done = python(script, FAIL_AT="A-2")
    assert done.returncode == (3 if script == "ship.py" else 0), done.stderr
    with JobService("jobs") as service:
        (row,) = service.get_failed_rows("ship-ca")
    assert (row.error_code, row.error_message) == ("ConnectionError", "carrier is down")


def test_the_example_of_explicit_calls_does_what_it_says(shop: Path) -> None:
    done = python("service.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1250\n", "")


def test_the_example_of_failed_rows_ships_them_alone_when_it_is_started_again(shop: Path) -> None:
    assert python("ship.py", FAIL_AT="A-2").returncode == 3
    done = python("again.py")
    assert (done.returncode, done.stdout) == (0, "A-2 ConnectionError carrier is down\n"), (
        done.stderr
    )
    shipped = (shop / "shipped").read_text().split()
    assert sorted(shipped) == sorted([f"ship-ca:order=A-{n}" for n in (*range(1, 8), 2)])


def test_the_example_of_failed_rows_in_a_shell_ends_as_the_readme_says(shop: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", example("again")], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    with JobService("jobs") as service:
        rows = [(row.status, row.attempts) for row in service.get_rows("labels")]
    assert rows == [("completed", 1), ("completed", 2), ("completed", 1)]


def test_the_story_of_explicit_calls_ends_as_the_readme_says(shop: Path) -> None:
    done = python("notebook.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "by-hand:2 E-ZIP {'order': 'A-2'}",
        "1 row to do again",
        "2 passes",
        "3 completed",
    ]


def test_the_story_of_a_run_steered_from_another_terminal_ends_as_the_readme_says(
    shop: Path,
) -> None:
    done = subprocess.run(
        ["bash", "-c", example("steer")], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "steered: paused; process " in done.stderr
    assert "steered: paused by another process" in done.stderr
    assert "steered: resumed" in done.stderr
    with JobService("jobs") as service:
        summary = service.get_job_summary("steered")
    assert (summary["successful_rows"], summary["skipped_count"]) == (54, 6)
    assert summary["status"] == "completed"


def test_the_story_of_errors_settled_by_their_code_ends_as_the_readme_says(shop: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", example("by code")], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    groups = re.findall(r"^([78]) +failed .* ([0-9,]+)$", done.stdout, re.MULTILINE)
    assert groups == [("7", "2,4"), ("8", "3")]
    with JobService("jobs") as service:
        rows = [(row.status, row.attempts) for row in service.get_rows("zips")]
    completed = [("completed", 1), ("completed", 2), ("completed", 2), ("completed", 1)]
    assert rows == [*completed[:2], ("skipped", 1), *completed[2:]]


def test_the_crash_story_ends_as_the_readme_says(shop: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", example("crash") + "\necho end of story"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.endswith("end of story\n"), done.stderr
    assert "status      interrupted" in done.stdout
    with JobService("jobs") as service:
        summary = service.get_job_summary("demo")
        review = len(service.get_rows("demo", "needs_review"))
        assert {row.attempts for row in service.get_rows("demo")} == {1}
    assert summary["successful_rows"] + review == 300
    assert summary["status"] == ("failed" if review else "completed")
    assert done.stdout.count("  needs_review  ") == review


def test_the_repair_story_ends_as_the_readme_says(shop: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", example("repair")], capture_output=True, text=True, check=False, timeout=120
    )
    damaged, *_, ok = [line for line in done.stdout.splitlines() if not line.startswith("  ")]
    assert damaged.startswith("DAMAGED  hurt: "), done.stderr
    assert ok.startswith("ok       hurt: ")
    assert "converted: " in done.stdout
    assert re.search(r"damaged at line 1 \(byte 0\).*text mode.*journal repair", done.stderr)
    with JobService("jobs") as service:
        assert service.get_job_summary("hurt")["successful_rows"] == 20


def test_the_install_command_runs_its_job_on_a_few_files(shop: Path) -> None:
    """The second half of the README's first command; .ci/run types the whole of it."""
    command = (
        example("install")
        .replace(".venv/bin/", "")
        .replace("python3 -m venv .venv && pip", ": pip")
    )
    command = command.replace("-name '*.py'", "-name 'a*.py'")
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with JobService("jobs") as service:
        rows = service.get_rows("hash-stdlib", "completed")
        assert len(rows) == service.get_job_summary("hash-stdlib")["total_rows"] > 5
        assert re.fullmatch(r"\d+ \d+ .*\.py", rows[0].result)


def test_the_readme_names_every_command() -> None:
    for command in _COMMANDS.keys() - {"help"}:
        assert f"| `journal {command} " in README


def test_nothing_in_the_readme_is_left_to_be_filled_in() -> None:
    _, _, *lines = README[README.index("| work | beside | ours / theirs |") :].splitlines()
    lines = list(takewhile(bool, lines))
    assert len(lines) >= 15
    assert all(re.fullmatch(r"\|.*\| [0-9.]+(; [0-9.]+)* \|", line) for line in lines)
    assert not re.search(r"^[A-Z]+$|TODO|TBD", README, re.MULTILINE)


def test_ci_types_what_the_readme_says() -> None:
    text = (TOP / ".ci" / "run").read_text()
    for name in ("install", "test"):
        assert f"readme_command {name} " in text
        assert example(name)

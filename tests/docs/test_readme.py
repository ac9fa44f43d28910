"""What the README says beyond its examples, which test_pages runs."""

import re
import subprocess
from pathlib import Path

from support import examples
from support.paths import README, TOP
from support.platforms import needs_shell, needs_signals

from journal import JobService

(SHIP,) = [block for block in examples.blocks_of(examples.README) if block.name == "ship.py"]
CALL = "    time.sleep(0.02)  # your call; if it takes an idempotency key, pass it row.idempotency_key\n"
CALL_IN_TEST = """
    import os
    with open("shipped", "a") as file:
        file.write(row.idempotency_key + "\\n")
    if row.data["order"] == os.environ.get("DIE_AT"):
        os.kill(os.getpid(), 9)
    if row.data["order"] == os.environ.get("FAIL_AT"):
        raise ConnectionError("carrier is down")
"""


def ship(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The README's script, with a call that leaves a trace."""
    assert CALL in SHIP.text
    block = SHIP._replace(text=SHIP.text.replace(CALL, CALL_IN_TEST))
    return examples.run(block, directory, environment)


def keys(directory: Path) -> list[str]:
    return (directory / "shipped").read_text().split()


def test_the_example_ships_every_order_once(tmp_path: Path) -> None:
    first, again = ship(tmp_path), ship(tmp_path)
    for done in (first, again):
        assert (done.returncode, done.stdout) == (0, "100 shipped for 125000 cents\n"), done.stderr
    assert len(keys(tmp_path)) == 100


@needs_signals
def test_the_example_continues_after_it_was_killed_and_ships_nothing_twice(tmp_path: Path) -> None:
    assert ship(tmp_path, DIE_AT="A-40").returncode == -9
    done = ship(tmp_path)
    assert done.returncode == 3, done.stderr
    shipped = keys(tmp_path)
    assert len(shipped) == len(set(shipped))
    with JobService(tmp_path / "jobs") as service:
        summary = service.get_job_summary("ship-ca")
        review = [row.idempotency_key for row in service.get_rows("ship-ca", "needs_review")]
    assert "ship-ca:order=A-40" in review
    assert summary["successful_rows"] + len(review) == 100
    assert set(shipped) | set(review) == {f"ship-ca:order=A-{n}" for n in range(1, 101)}
    count = summary["successful_rows"]
    assert done.stdout == f"{count} shipped for {count * 1250} cents\n"


def test_the_example_records_why_an_order_failed(tmp_path: Path) -> None:
    assert ship(tmp_path, FAIL_AT="A-2").returncode == 3
    with JobService(tmp_path / "jobs") as service:
        (row,) = service.get_failed_rows("ship-ca")
    assert (row.error_code, row.error_message) == ("ConnectionError", "carrier is down")


@needs_shell
def test_the_install_command_runs_its_job_on_a_few_files(tmp_path: Path) -> None:
    """The second half of the README's first command; .ci/run types the whole of it."""
    for name in ("a", "b"):
        (tmp_path / ".venv" / name).mkdir(parents=True)
        (tmp_path / ".venv" / name / "c.py").write_text(name)
    command = (
        examples.example(examples.README, "install")
        .replace(".venv/bin/", "")
        .replace("python3 -m venv .venv && pip", ": pip")
    )
    done = examples.run(SHIP._replace(language="sh", text=command), tmp_path)
    assert done.returncode == 0, done.stderr
    with JobService(tmp_path / "jobs") as service:
        results = [row.result for row in service.get_rows("checksums", "completed")]
    assert sorted(re.findall(r"^\d+ 1 (\S+)$", "\n".join(results), re.MULTILINE)) == [
        ".venv/a/c.py",
        ".venv/b/c.py",
    ]


def test_no_figure_is_left_to_be_filled_in() -> None:
    page = (TOP / "benchmarks" / "README.md").read_text(encoding="utf-8")
    table = page[page.index("| ours / theirs |") :].partition("\n\n")[0]
    _, _, *lines = table.splitlines()
    assert len(lines) >= 5
    assert all(re.fullmatch(r"\|.*\| [0-9.]+(; [0-9.]+)* \|", line) for line in lines)
    assert not re.search(r"TODO|TBD|XXX", README + page)


def test_ci_types_what_the_readme_says() -> None:
    text = (TOP / "noxfile.py").read_text()
    for name in ("install", "test"):
        assert f'readme_command("{name}")' in text
        assert f"<!--{name}-->\n```sh\n{examples.example(examples.README, name)}```\n" in README

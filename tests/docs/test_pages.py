"""Every example in README.md and in journal/docs runs as it stands, and does what is said of it."""

import json
import re
from collections import Counter
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from support import examples
from support.paths import TOP

from journal import JobService

# Typed by .ci/run, and partly by test_readme.
INSTALLING = {"install", "test"}


@pytest.mark.parametrize("page", examples.PAGES)
def test_the_examples_of_a_page_run_as_they_stand(page: str, tmp_path: Path) -> None:
    missing = set()
    for block in examples.blocks_of(page):
        if block.language == "text" or block.name in INSTALLING:
            continue
        assert block.language in ("sh", "python"), f"{page}: a block is run, or it is text"
        if block.missing:
            missing |= set(block.missing)
            continue
        done = examples.run(block, tmp_path)
        assert done.returncode == 0, f"{page}\n{block.text}\n{done.stdout}{done.stderr}"
        missed = examples.misses(block.output, done.stdout + done.stderr)
        assert missed is None, f"{page}: {missed!r} isn't in\n{done.stdout}{done.stderr}"
        if block.name in CHECKS:
            CHECKS[block.name](tmp_path, done)
    if missing:
        pytest.skip(f"no wheel of {', '.join(sorted(missing))} here")


def test_no_page_is_longer_than_a_person_reads() -> None:
    for page in examples.PAGES:
        lines = (TOP / page).read_text(encoding="utf-8").splitlines()
        assert len(lines) <= (250 if page == examples.README else 300), page


@pytest.mark.parametrize("page", examples.PAGES)
def test_the_links_of_a_page_lead_somewhere(page: str) -> None:
    text = (TOP / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        if not link.startswith("https://"):
            assert ((TOP / page).parent / link).exists(), link


def test_each_check_is_of_an_example() -> None:
    names = Counter(block.name for page in examples.PAGES for block in examples.blocks_of(page))
    assert {name for name in CHECKS if names[name] != 1} == set()


# --- what is true once an example has run


def statuses(directory: Path, job_id: str) -> Counter[str]:
    with JobService(directory / "jobs") as service:
        return Counter(str(row.status) for row in service.get_rows(job_id))


def check_labels_again(directory: Path, _: CompletedProcess[str]) -> None:
    with JobService(directory / "jobs") as service:
        rows = [(row.status, row.attempts) for row in service.get_rows("labels")]
    assert rows == [("completed", 1), ("completed", 2), ("completed", 1)]


def check_move(directory: Path, done: CompletedProcess[str]) -> None:
    for root in ("one", "two"):
        with JobService(directory / root) as service:
            assert service.get_job_summary("demo")["successful_rows"] == 20
    assert "commits taken over" in done.stdout


CHECKS = {
    "labels again": check_labels_again,
    "move": check_move,
}

"""The scripts in the directory `examples` do what their pages say, also when the far side fails."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support import examples
from support.fake_provider import FakeProvider
from support.paths import TOP

import journal

pytest.importorskip("httpx")


def write_reviews(directory: Path, *texts: str) -> None:
    lines = [f"{number},{text}\n" for number, text in enumerate(texts, 1)]
    (directory / "reviews.csv").write_text("id,text\n" + "".join(lines))


def start(provider: FakeProvider, directory: Path, name: str, *arguments: str) -> str:
    """Run a script of `examples`, and return what it printed for people."""
    done = subprocess.run(
        [sys.executable, TOP / "examples" / name, *arguments],
        cwd=directory,
        env=examples.environment(provider.environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return f"{done.stdout}{done.stderr}exit code {done.returncode}"


def test_each_example_is_on_a_page() -> None:
    on_pages = {block.name for page in examples.PAGES for block in examples.blocks_of(page)}
    assert {f"examples/{path.name}" for path in (TOP / "examples").iterdir()} <= on_pages


def test_calls_cost_what_the_provider_says_however_often_they_fail(tmp_path: Path) -> None:
    write_reviews(tmp_path, *(f"Review {number}" for number in range(1, 300)), "forbidden")
    down = {100: (503, None), 101: (503, "0.2"), 150: (500, "soon")}
    with FakeProvider(
        refuse=lambda number: (429, "0.01") if number % 7 == 0 else down.get(number),
        is_malformed=lambda prompt, before: prompt.endswith("7") and (not before or "77" in prompt),
    ) as provider:
        said = start(provider, tmp_path, "llm_calls.py", "v1")
    with journal.open_job(tmp_path / "jobs" / "reviews-v1") as job:
        failed = {row.row_number: row.error_code for row in job.rows("failed")}
        assert job.job.total_cost_cents == float(provider.cents)
    malformed = dict.fromkeys((77, 177, 277), "Malformed")
    assert (failed, said[-11:]) == ({**malformed, 300: "HTTPStatusError"}, "exit code 3")
    prompts = Counter(call.prompt for call in provider.calls if call.status == 200)
    assert Counter(prompts.values()) == {1: 269, 2: 30}


def test_a_wrong_key_pauses_the_calls_after_the_first_rows(tmp_path: Path) -> None:
    write_reviews(tmp_path, *(f"Review {number}" for number in range(2000)))
    with FakeProvider(key="another") as provider:
        provider.environment["OPENAI_API_KEY"] = "wrong"
        said = start(provider, tmp_path, "llm_calls.py", "v1")
    assert re.search(r"the first \d+ rows .*401 Unauthorized.*exit code 3", said, re.DOTALL), said
    with journal.open_job(tmp_path / "jobs" / "reviews-v1") as job:
        assert job.counts["pending"] > 1000
    assert provider.calls == []

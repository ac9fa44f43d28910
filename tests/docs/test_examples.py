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


def start(
    provider: FakeProvider, directory: Path, name: str, *arguments: str, kill_at: str = ""
) -> str:
    """Run a script of `examples`, with calls of 100 rows instead of 1,000, and short waits.

    ``kill_at``: "before" or "after", and the request at which the script is killed. Returns what
    the script printed, and its exit code.
    """
    text = (TOP / "examples" / name).read_text(encoding="utf-8")
    sooner = text.replace("Wait(60", "Wait(0.05").replace("batch=1000", "batch=100")
    (directory / name).write_text(sooner, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, name, *arguments],
        cwd=directory,
        env=examples.environment(provider.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:

        def kill(when: str, request: str) -> None:
            if kill_at == f"{when} {request}":
                child.kill()

        provider.on_request = kill
        said, _ = child.communicate(timeout=120)
    return f"{said}exit code {child.returncode}"


def test_each_example_is_named_on_a_page() -> None:
    pages = "".join((TOP / page).read_text(encoding="utf-8") for page in examples.PAGES)
    named = re.findall(r"examples/[\w.]+", pages)
    assert {f"examples/{path.name}" for path in (TOP / "examples").iterdir()} <= set(named)


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


@pytest.mark.parametrize("when", ["before", "after"])
def test_each_row_is_answered_in_one_batch_although_the_script_is_killed(
    tmp_path: Path, when: str
) -> None:
    write_reviews(tmp_path, *(f"Review {number}" for number in range(1, 500)), "forbidden")
    with FakeProvider(batch_s=0.3, expiring={2}, missing={3: 3}) as provider:
        for path in ("files", "batches"):
            said = start(provider, tmp_path, "llm_batch.py", kill_at=f"{when} POST /v1/{path}")
            assert said.endswith("exit code -9")
        said = start(provider, tmp_path, "llm_batch.py")
    assert f"499 labelled for {float(provider.cents)} cents\n" in said
    keys = [batch.metadata["key"] for batch in provider.batches.values()]
    assert len(keys) == len(set(keys)) <= 5 + 2  # what was undone in two of them came together
    with journal.open_job(tmp_path / "jobs" / "reviews") as job:
        assert job.job.total_cost_cents == float(provider.cents)
        assert [row.row_number for row in job.rows("failed")] == [500]
        done = [row.id for row in job.rows("completed")]
    assert {provider.answers_of(custom_id) for custom_id in done} == {1}
    undone = sum(len(each.requests) - len(each.answered) for each in provider.batches.values())
    assert sum(len(provider.batches_of(custom_id)) - 1 for custom_id in done) == undone - 1 > 50


def test_a_refused_file_is_corrected_and_submitted_again(tmp_path: Path) -> None:
    write_reviews(tmp_path, *(f"Review {number}" for number in range(1, 200)))
    with FakeProvider() as provider:
        provider.max_requests = 99
        said = start(provider, tmp_path, "llm_batch.py")
        assert "exit code 3" in said
        provider.max_requests = 100
        with journal.open_job(tmp_path / "jobs" / "reviews") as job:
            assert {row.error_code for row in job.rows("failed")} == {"Refused"}
            job.retry(from_step="upload")
        assert "199 labelled" in start(provider, tmp_path, "llm_batch.py")
    statuses = Counter(bool(batch.errors) for batch in provider.batches.values())
    assert statuses == {True: 1, False: 2}

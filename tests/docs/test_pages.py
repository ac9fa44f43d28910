"""Every example in README.md and in journal/docs runs as it stands, and does what is said of it."""

import os
import re
import sys
from collections import Counter
from pathlib import Path
from subprocess import CompletedProcess

import click
import pytest
from support import examples, fakes
from support.paths import TOP
from support.platforms import needs_shell, skip_without
from support.rooms import FLOORS

from journal import JobRun, JobService
from journal.cli.help import TOPICS
from journal.cli.main import _COMMANDS, cli

# Typed by .ci/run, and partly by test_readme. The example of curl has a test of its own. Those of
# clusters are run in tests/clusters.
ELSEWHERE = {
    "install",
    "test",
    "curl",
    "submit",
    "retry",
    "settle",
    "table",
    "again",
    "gather",
    "aws",
}
# Answers to the order A-2 at the second attempt, and to others as their names say: EXIT:HTTP.
CURL = """\
#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
        -o) file=$2 ;;
        order=*) order=${1#order=} ;;
    esac
    shift
done
case $order.$JOURNAL_ATTEMPT in
    A-1.* | A-2.2) order=0:200 ;;
    A-2.*) order=0:503 ;;
    A-3.*) order=0:422 ;;
    A-4.*) order=28:000 ;;
esac
echo "{\\"number\\":${file#answer-}}" > "$file"
printf '%s' "${order#*:}"
exit "${order%:*}"
"""


@pytest.mark.parametrize("page", examples.PAGES)
def test_the_examples_of_a_page_run_as_they_stand(page: str, tmp_path: Path) -> None:
    with fakes.provider(batch_s=0.5, latency_s=(0, 0.01)) as provider:
        run_examples(page, tmp_path, provider.environment)


def run_examples(page: str, tmp_path: Path, environment: dict[str, str]) -> None:
    missing = set()
    for block in examples.blocks_of(page):
        if block.language == "text" or block.name in ELSEWHERE:
            continue
        if block.name.startswith("examples/"):
            assert block.text == (TOP / block.name).read_text(encoding="utf-8"), page
            sooner = block.text.replace("Wait(60", "Wait(0.1")
            examples.write(block._replace(text=sooner), tmp_path)
            continue
        assert block.language in ("sh", "python"), f"{page}: a block is run, or it is text"
        if block.missing:
            missing |= set(block.missing)
            continue
        if block.language == "sh":
            skip_without(needs_shell)
        done = examples.run(block, tmp_path, environment)
        assert done.returncode == 0, f"{page}\n{block.text}\n{done.stdout}{done.stderr}"
        missed = examples.misses(block.output, done.stdout + done.stderr)
        assert missed is None, f"{page}: {missed!r} isn't in\n{done.stdout}{done.stderr}"
        if block.name in CHECKS:
            CHECKS[block.name](tmp_path, done)
    if missing:
        pytest.skip(f"no wheel of {', '.join(sorted(missing))} here")


def test_the_script_for_curl_tells_what_was_not_sent_from_what_is_unknown(tmp_path: Path) -> None:
    skip_without(needs_shell)
    (tmp_path / "curl").write_text(CURL)
    (tmp_path / "curl").chmod(0o755)
    blocks = examples.blocks_of(f"{examples.DOCS}/outcomes.md")
    (block,) = [each for each in blocks if each.name == "curl"]
    programs = tmp_path, Path(sys.executable).parent, os.environ["PATH"]
    path = {"PATH": os.pathsep.join(map(str, programs))}
    done = examples.run(block, tmp_path, path)
    assert done.returncode == 0, done.stderr
    assert examples.misses(block.output, done.stdout) is None, done.stdout
    codes = {"0:201": 0, "0:429": 74, "0:500": 75, "0:404": 65, "6:000": 75, "7:000": 75}
    codes |= {"28:000": 70, "52:000": 70, "56:200": 70, "22:404": 70}
    for order, code in codes.items():
        call = block._replace(text=f"JOURNAL_ATTEMPT=1 sh post.sh {order} 1 URL")
        assert examples.run(call, tmp_path, path).returncode == code, order


def test_no_page_is_longer_than_a_person_reads() -> None:
    for page in examples.PAGES:
        lines = (TOP / page).read_text(encoding="utf-8").splitlines()
        assert len(lines) <= (120 if page == examples.README else 300), page


@pytest.mark.parametrize("page", examples.PAGES)
def test_commands_can_be_pasted_into_zsh(page: str) -> None:
    """An interactive zsh has no comments, and doesn't split the value of a variable at spaces."""
    for block in examples.blocks_of(page):
        if block.language == "sh":
            assert not re.search(r"(^|\s)#", block.text, re.MULTILINE), block.text
            assert not re.search(r"^\$\w", block.text, re.MULTILINE), block.text


@pytest.mark.parametrize("page", examples.PAGES)
def test_the_links_of_a_page_lead_somewhere(page: str) -> None:
    text = (TOP / page).read_text(encoding="utf-8")
    for link, heading in re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", text):
        if link.startswith("https://"):
            continue
        target = (TOP / page).parent / link if link else TOP / page
        assert target.exists(), link
        if heading:
            assert heading in anchors_of(target), f"{link}#{heading}"


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_pages_are_short_enough_to_be_read() -> None:
    words = sum(len((TOP / page).read_text(encoding="utf-8").split()) for page in examples.PAGES)
    assert words <= 20_000


def test_each_page_that_a_text_of_the_package_names_is_a_topic_or_a_command() -> None:
    texts = (path.read_text(encoding="utf-8") for path in (TOP / "journal").rglob("*.[pm][yd]"))
    named = {name for text in texts for name in re.findall(r"`journal help ([a-z][\w-]*)", text)}
    assert named - {*TOPICS, *_COMMANDS} == set()


@pytest.mark.parametrize("page", examples.PAGES)
def test_what_a_page_names_exists(page: str) -> None:
    """Options in inline code, and methods in all of a page."""
    text = (TOP / page).read_text(encoding="utf-8")
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"## For users of GNU parallel\n.*?(?=\n## )", "", prose, flags=re.DOTALL)
    code = re.findall(r"`((?:--|journal )[^`]+)`", prose)
    assert set(re.findall(r"(?<!\S)--[a-z-]+", " ".join(code))) - options() == set()
    for owner, kind in (("service", JobService), ("job", JobRun)):
        names = re.findall(rf"\b{owner}\.([a-z_]+)\(", text)
        assert [name for name in names if not hasattr(kind, name)] == []


def options() -> set[str]:
    context = click.Context(cli)
    commands = [cli, *filter(None, (cli.get_command(context, name) for name in _COMMANDS))]
    return {word for command in commands for each in command.params for word in each.opts} | {
        "--help"
    }


@pytest.mark.parametrize("page", [f"{examples.DOCS}/architecture.md", "CONTRIBUTING.md"])
def test_the_pages_for_contributors_name_files_that_there_are(page: str) -> None:
    for path in re.findall(r"`([\w/]+\.(?:py|md))`", (TOP / page).read_text(encoding="utf-8")):
        assert (TOP / "journal" / path).exists() or (TOP / path).exists(), path


def test_the_architecture_has_the_floors_that_the_structure_has() -> None:
    text = (TOP / examples.DOCS / "architecture.md").read_text(encoding="utf-8")
    (floors,) = re.findall(r"```text\n(text .*?)```", text, re.DOTALL)
    assert tuple(" ".join(line.replace("/", ".").split()) for line in floors.splitlines()) == FLOORS


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
    assert rows == [("completed", 1), ("completed", 2), ("completed", 1), ("completed", 1)]


def check_crash(directory: Path, done: CompletedProcess[str]) -> None:
    assert "status      interrupted" in done.stdout
    with JobService(directory / "jobs") as service:
        assert {row.attempts for row in service.get_rows("demo")} == {1}
        summary = service.get_job_summary("demo")
    review = summary["needs_review_count"]
    assert summary["successful_rows"] + review == 300
    assert summary["status"] == ("failed" if review else "completed")
    assert done.stdout.count("  needs_review  ") == review


def check_take_over(directory: Path, done: CompletedProcess[str]) -> None:
    assert "demo: behind: " in done.stdout
    assert "commits applied" in done.stdout
    shipped = Counter((directory / "shipped").read_text().split())
    assert set(shipped.values()) == {1}
    with JobService(directory / "two") as service:
        summary = service.get_job_summary("demo")
    # Each of the two workers may have had 8 more rows, whose start or end was being recorded.
    assert summary["needs_review_count"] <= 2 * 9
    assert summary["successful_rows"] == 300 - summary["needs_review_count"]
    assert len(shipped) >= summary["successful_rows"]


def check_both_went_on(directory: Path, done: CompletedProcess[str]) -> None:
    assert "demo: diverged at line" in done.stdout
    assert "the copies of job 'demo' have diverged" in done.stderr
    shipped = Counter((directory / "shipped").read_text().split())
    twice = {int(number) for number, times in shipped.items() if times > 1}
    named = re.search(r"rows? ([0-9, -]+): completed in one copy", done.stderr)
    assert named is not None
    assert twice
    parts = (part.partition("-")[::2] for part in named[1].split(","))
    assert twice <= {n for first, last in parts for n in range(int(first), int(last or first) + 1)}


def check_repair(directory: Path, done: CompletedProcess[str]) -> None:
    damaged, *_, ok = [line for line in done.stdout.splitlines() if not line.startswith("  ")]
    assert damaged.startswith("DAMAGED  hurt: ")
    assert ok.startswith("ok       hurt: ")
    assert "converted: " in done.stdout
    assert re.search(r"damaged at line 1 \(byte 0\).*text mode.*journal repair", done.stderr)
    assert statuses(directory, "hurt") == {"completed": 20}


def check_export(directory: Path, _: CompletedProcess[str]) -> None:
    assert statuses(directory, "orders") == {"completed": 2, "failed": 1}
    with JobService(directory / "jobs") as service:
        (row,) = service.get_rows("orders-fixed")
    assert (row.status, row.data) == ("completed", {"order": "A-2", "zip": "90210"})


def check_portal(directory: Path, _: CompletedProcess[str]) -> None:
    assert statuses(directory, "ship") == {"completed": 1, "pending": 1}


CHECKS = {
    "crash": check_crash,
    "take over": check_take_over,
    "both went on": check_both_went_on,
    "repair": check_repair,
    "export": check_export,
    "labels again": check_labels_again,
    "portal": check_portal,
}

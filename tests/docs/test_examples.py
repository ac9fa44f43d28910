"""The scripts in the directory `examples` keep their promises, even if the called service fails or
a kill ends a script in the middle.
"""

import csv
import gzip
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support import examples
from support.fake_provider import FakeProvider
from support.fake_server import FakeServer
from support.fake_shop import FakeShop
from support.paths import TOP
from support.platforms import needs_shell, skip_without

import journal

pytest.importorskip("httpx")

# Kills the run at the file 5.log, the first time: it is the parent of the shell of the command.
GZIP = """\
#!/bin/sh
echo "$2" >> calls
case $2 in
    */5.log) mkdir killed 2>/dev/null && kill -9 $(ps -o ppid= -p $PPID) ;;
    */20.log) journal tune convert -j 8 >&2 ;;
esac
exec {gzip} "$@"
"""


def write_reviews(directory: Path, *texts: str) -> None:
    lines = [f"{number},{text}\n" for number, text in enumerate(texts, 1)]
    (directory / "reviews.csv").write_text("id,text\n" + "".join(lines))


def start(
    service: FakeServer,
    directory: Path,
    name: str,
    *arguments: str,
    kill_at: str = "",
    **environment: str,
) -> str:
    """Run a script of `examples`, with calls of 100 rows instead of 1,000, and short waits.

    ``kill_at``: "before" or "after", the request at which the script is killed, and if it isn't the
    first of its kind, its number. Returns what the script printed, and its exit code.
    """
    text = (TOP / "examples" / name).read_text(encoding="utf-8")
    sooner = text.replace("Wait(60", "Wait(0.05").replace("batch=1000", "batch=100")
    sooner = sooner.replace("max_attempts=3", "max_attempts=3, backoff_s=0.05")
    (directory / name).write_text(sooner, encoding="utf-8")
    with subprocess.Popen(
        ["sh" if name.endswith(".sh") else sys.executable, name, *arguments],
        cwd=directory,
        env=examples.environment({**service.environment, **environment}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        seen: Counter[str] = Counter()

        def kill(when: str, request: str) -> None:
            what = f"{when} {request}"
            with service.lock:
                seen[what] += 1
                number = seen[what]
            if kill_at in (f"{what} {number}", what):
                child.kill()

        service.on_request = kill
        said, _ = child.communicate(timeout=120)
    return f"{said}exit code {child.returncode}"


def orders_of(directory: Path, *more: str, but: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """Write the orders of the examples, without some and with more ("A-25 90025"). Return them."""
    with (TOP / "examples" / "orders.csv").open(encoding="utf-8", newline="") as file:
        orders = [order for order in csv.DictReader(file) if order["order"] not in but]
    for number, text in enumerate(more):
        order, code = text.split()
        orders.append({"order": order, "email": f"{order}@x", "zip": code, "kg": f"{7 + number}.0"})
    with (directory / "orders.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, orders[0])
        writer.writeheader()
        writer.writerows(orders)
    return orders


def rows_of(directory: Path, job_id: str, status: str | None = None) -> list[journal.JobRow]:
    with journal.JobService(directory / "jobs") as service:
        return list(service.get_rows(job_id, status))


def test_the_table_of_the_examples_has_each_of_them() -> None:
    text = (TOP / "examples" / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in (TOP / "examples").iterdir() if path.suffix in (".py", ".sh")}
    assert sorted(re.findall(r"^\| \[`(.+?)`\]\(\1\) \|", text, re.MULTILINE)) == sorted(scripts)


def test_the_server_for_people_prints_where_it_serves() -> None:
    command = [sys.executable, str(TOP / "tests" / "support" / "fakes.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(3)]
        child.kill()
    names = [re.match(r"export (\w+)=\S+\n", line) for line in lines]
    expected = ["OPENAI_BASE_URL", "OPENAI_API_KEY", "SHOP_URL"]
    assert [name and name[1] for name in names] == expected


def test_no_label_is_bought_and_no_mail_is_sent_twice_by_a_script_that_is_killed(
    tmp_path: Path,
) -> None:
    orders = orders_of(tmp_path, "A-25 901")
    busy = {4: (429, "0.01"), 30: (503, "0.01")}
    with FakeShop(refuse=busy.get) as shop:
        for request in ("after POST /labels 5", "after POST /mails 6"):
            assert start(shop, tmp_path, "ship_orders.py", kill_at=request).endswith("code -9")
        said = start(shop, tmp_path, "ship_orders.py")
    in_doubt = {row.data["email"] for row in rows_of(tmp_path, "ship", "needs_review")}
    shipped = {row.data["email"] for row in rows_of(tmp_path, "ship", "completed")}
    (refused,) = rows_of(tmp_path, "ship", "failed")
    assert (refused.error_code, refused.data["order"]) == ("Refused", "A-25")
    assert len(shipped) + len(in_doubt) == len(shop.labels) == len(orders) - 1
    assert set(shop.mails.values()) == {1}
    assert shipped <= set(shop.mails) <= shipped | in_doubt
    assert in_doubt & set(shop.mails)
    assert said.endswith("exit code 3")


@pytest.mark.parametrize(
    ("name", "kill_at", "job_id", "path"),
    [
        ("call_api.py", "after GET /zips/90012", "cities", "/zips/{zip}"),
        ("frames.py", "after GET /quotes 12", "quotes", "/quotes?kg={kg}"),
        ("shards.sh", "after GET /quotes 6", "prices/001-of-004", "/quotes?kg={kg}"),
    ],
)
def test_what_was_done_when_a_script_was_killed_is_not_asked_for_again(
    name: str, kill_at: str, job_id: str, path: str, tmp_path: Path
) -> None:
    if name == "frames.py":
        pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
    if name == "shards.sh":
        skip_without(needs_shell)
    orders = orders_of(tmp_path)
    with FakeShop() as shop:
        task = {"SLURM_ARRAY_TASK_ID": "1"} if name == "shards.sh" else {}
        assert start(shop, tmp_path, name, kill_at=kill_at, **task).endswith("exit code -9")
        done = [path.format(**row.data) for row in rows_of(tmp_path, job_id, "completed")]
        said = start(shop, tmp_path, name)
    assert said.endswith("exit code 0"), said
    assert {row.status for row in rows_of(tmp_path, job_id)} == {"completed"}
    assert {shop.answered[each] for each in done} <= {1}
    assert set(shop.answered) == {path.format(**order) for order in orders}
    if name == "shards.sh":
        with (tmp_path / "prices.csv").open(newline="") as file:
            assert [row["status"] for row in csv.DictReader(file)] == ["completed"] * len(orders)


def test_calls_wait_while_the_api_throttles_them_or_is_down(tmp_path: Path) -> None:
    orders_of(tmp_path, "A-25 10001")
    refused = dict.fromkeys((10, 11), (503, "0.01")) | {12: (500, None)}
    throttled = dict.fromkeys((3, 9), (429, "0.01"))
    with FakeShop(refuse=(refused | throttled).get) as shop:
        said = start(shop, tmp_path, "call_api.py")
    assert "24 looked up, 1 unknown" in said
    assert said.endswith("exit code 0")
    attempts = sum(row.attempts - row.earlier_attempts for row in rows_of(tmp_path, "cities"))
    assert attempts == 25 + 1  # only the 500 has counted


def test_a_daily_start_does_what_is_new_and_stops_at_its_budget(tmp_path: Path) -> None:
    def day(*more: str, but: tuple[str, ...] = (), kill_at: str = "") -> tuple[str, int]:
        orders_of(tmp_path, *more, but=but)
        said = start(shop, tmp_path, "daily.py", kill_at=kill_at)
        return said.rpartition("exit code ")[2], len(shop.labels)

    with FakeShop() as shop:
        assert day("A-25 901", "A-26 902", kill_at="after POST /labels 9")[0] == "-9"
        assert day("A-25 901", "A-26 902") == ("3", 24)
        assert day("A-25 90025", "A-27 90027", but=("A-1",)) == ("0", 26)
        (gone,) = rows_of(tmp_path, "labels", "skipped")
        assert gone.data["order"] == "A-26"
        more = [f"B-{number} {92000 + number}" for number in range(40)]
        assert day("A-25 90025", "A-27 90027", *more) == ("4", 26 + 34)
        with journal.JobService(tmp_path / "jobs") as service:
            service.start_job("labels", "review")
            assert day(*more)[0] == "5"
            service.update_status("labels", "paused")
        assert day("A-25 90025", "A-27 90027", *more) == ("0", 26 + 40)


def test_files_that_are_converted_are_not_converted_again_after_a_kill(tmp_path: Path) -> None:
    skip_without(needs_shell)
    logs, programs = tmp_path / "logs", tmp_path / "bin"
    for path in (logs, programs):
        path.mkdir()
    for number in range(1, 21):
        (logs / f"{number}.log").write_text(f"log {number}\n")
    (programs / "gzip").write_text(GZIP.format(gzip=shutil.which("gzip")))
    (programs / "gzip").chmod(0o755)
    search = f"{programs}:{examples.environment()['PATH']}"
    with FakeServer() as nobody:
        assert "exit code 137" in start(nobody, tmp_path, "convert.sh", "logs", PATH=search)
        done = [row.data["line"] for row in rows_of(tmp_path, "convert", "completed")]
        assert "exit code 0" in start(nobody, tmp_path, "convert.sh", "logs", PATH=search)
    calls = Counter((tmp_path / "calls").read_text().split())
    assert {calls[line] for line in done} <= {1}
    assert len(calls) == 20
    texts = {path.name: gzip.decompress(path.read_bytes()) for path in logs.glob("*.gz")}
    assert '"type":"tuned"' in (tmp_path / "jobs" / "convert" / "journal.jsonl").read_text()
    assert texts == {f"{number}.gz": f"log {number}\n".encode() for number in range(1, 21)}


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

"""Batches of a provider: runs killed with SIGKILL, and the provider's own ledger.

    python tests/crash/provider_batches.py                      10,000 prompts, 30 kills, both modes
    python tests/crash/provider_batches.py --modes look --seed 7

A handler uploads a file, submits it as a batch, polls, and fetches the answers, in calls of 1,000
rows. The driver is killed at a random moment, or within an upload, a submission or a fetch, before
or after the provider has handled the request. One batch expires, and one batch comes back in part.

- "blind": the submission isn't repeatable. So a row is in a second batch only if the first batch
  has no answer for the row. Each row has its answer, or a review that names the step in doubt.
- "look": before the handler submits a batch, it looks for a batch with the step's key. So no row is
  in doubt, and each batch was submitted once.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from support.activation import check_share
from support.children import Child
from support.fake_provider import FakeProvider

from journal import JobService
from journal.verify import verify_job

MODES = ("blind", "look")
BATCH_S = 3600.0
UPLOAD, SUBMIT, POLL, FETCH = "POST /v1/files", "POST /v1/batches", "GET /v1/batches/", "/content"

RUNNER = """
import urllib.request
from decimal import Decimal
from journal import Fail, Retry, RowResult, Wait, open_job

base, rows_in_all, size, mode = sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6]
ENDED = ("completed", "expired", "cancelled")

def ask(path, body=None, kind="application/json"):
    headers = {"Authorization": "Bearer sk-test", "Content-Type": kind}
    request = urllib.request.Request(base + path, body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()

def upload(batch):
    lines = [
        {"custom_id": row.id, "method": "POST", "url": "/v1/chat/completions",
         "body": {"model": "small", "messages": [{"role": "user", "content": row.data["prompt"]}]}}
        for row in batch
    ]
    content = "".join(json.dumps(line) + "\\n" for line in lines)
    part = '--b\\r\\nContent-Disposition: form-data; name="'
    body = f'{part}purpose"\\r\\n\\r\\nbatch\\r\\n{part}file"; filename="p.jsonl"\\r\\n\\r\\n{content}\\r\\n--b--\\r\\n'
    return json.loads(ask("/files", body.encode(), "multipart/form-data; boundary=b"))["id"]

def submit(file_id, key):
    if mode == "look":
        after = ""
        while True:
            page = json.loads(ask("/batches?limit=100" + after))
            for known in page["data"]:
                if known["metadata"]["key"] == key:
                    return known["id"]
            if not page["has_more"]:
                break
            after = "&after=" + page["last_id"]
    order = {"input_file_id": file_id, "endpoint": "/v1/chat/completions",
             "completion_window": "24h", "metadata": {"key": key}}
    return json.loads(ask("/batches", json.dumps(order).encode()))["id"]

def outcomes(batch):
    for name in ("output_file_id", "error_file_id"):
        for line in ask(f"/files/{batch[name]}/content").splitlines() if batch[name] else ():
            found = json.loads(line)
            if found["error"] is None and found["response"]["status_code"] == 200:
                body = found["response"]["body"]
                usage = body["usage"]
                cents = (usage["prompt_tokens"] * Decimal("0.00025")
                         + usage["completion_tokens"] * Decimal("0.001")) / 2
                text = body["choices"][0]["message"]["content"]
                yield found["custom_id"], RowResult(result=text, cost_cents=float(cents))

def handle(rows):
    file_id = rows.step("upload", upload, rows, idempotent=True)
    key = rows.step_key("submit")
    batch_id = rows.step("submit", submit, file_id, key, idempotent=mode == "look")
    batch = json.loads(ask("/batches/" + batch_id))
    if batch["status"] not in ENDED:
        return Wait(0.05)
    answers = dict(outcomes(batch))
    again = Retry("NotDone", "the batch has no answer", from_step="upload")
    return {row.id: answers.get(row.id, again) for row in rows}

def prompt(number):
    return f"{number} " + "What do you think of it? " * 8

rows = ({"prompt": prompt(number)} for number in range(rows_in_all))
tell("begun")
with open_job(f"{root}/{job_id}", rows, on_interrupted="resume", argv=[]) as job:
    job.run(handle, batch=size, workers=2, max_attempts=5, halt="never", tell=lambda text: None)
tell("ended")
"""


class Loss(AssertionError):
    """A prompt was submitted twice, or its answer or cost is lost."""


def expect(condition: object, what: str) -> None:
    if not condition:
        raise Loss(what)


class Killer:
    """Kills a child at a request to the provider."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._when, self._what, self._after = "", "", 0
        self.count = 0  # of the requests at which a child was killed

    def aim(self, child: Child, when: str, what: str, after: int) -> None:
        """Kill the child ``when`` ("before" or "after") a request is handled, after so many others."""
        with self._lock:
            self._child, self._when, self._what, self._after = child, when, what, after

    def hear(self, when: str, request: str) -> None:
        with self._lock:
            if self._child is None or when != self._when or self._what not in request:
                return
            self._after -= 1
            if self._after < 0:
                self._child.kill()
                self._child = None
                self.count += 1


def plan(draw: random.Random, kills: int) -> list[tuple[str, str, int]]:
    """Where to kill: (when, what, after how many requests), or ("", "", milliseconds)."""
    kinds = [("before", UPLOAD), ("after", UPLOAD), ("before", SUBMIT), ("after", SUBMIT)]
    first = [(*draw.choice(kinds), draw.randrange(2)) for _ in range(kills // 3)]
    first += [("", "", draw.randrange(10, 600)) for _ in range(kills // 3)]
    kinds = [("before", FETCH), ("after", FETCH), ("after", POLL), ("after", SUBMIT)]
    last = [(*draw.choice(kinds), draw.randrange(2)) for _ in range(kills - 2 * (kills // 3))]
    return first + last


def killed(
    work: Path, mode: str, *, rows: int, size: int, kills: int, seed: int
) -> tuple[int, int]:
    """Kill a run again and again, and let it end. Returns how many kills hit, at requests and in all."""
    draw, killer, now = random.Random(f"{seed} {mode}"), Killer(), [1.7e9]
    provider = FakeProvider(
        clock=lambda: now[0],
        batch_s=BATCH_S,
        answer=lambda prompt: f"About {prompt}",
        expiring={3},
        missing={5: size * 3 // 100 + 1},
        on_request=killer.hear,
    )
    hits = 0
    with provider:
        arguments = (provider.url, rows, size, mode)
        for number, (when, what, after) in enumerate(plan(draw, kills)):
            if number >= 2 * (kills // 3):  # at first, no batch is done
                now[0] += BATCH_S if number == 2 * (kills // 3) else BATCH_S / 10
            with Child(RUNNER, work / "jobs", "j", *arguments) as child:
                expect(child.hear() == "begun", "the run didn't begin")
                if when:
                    killer.aim(child, when, what, after)
                    timer = threading.Timer(3.0, child.kill)  # no such request may come
                    timer.start()
                else:
                    timer = threading.Timer(after / 1000, child.kill)
                    timer.start()
                hits += "ended" not in child.rest()
                timer.cancel()
            verify_job(work / "jobs" / "j")
        while True:
            with Child(RUNNER, work / "jobs", "j", *arguments) as child:
                ended = threading.Event()

                def pass_time(ended: threading.Event = ended) -> None:
                    while not ended.wait(0.2):
                        now[0] += BATCH_S / 3

                thread = threading.Thread(target=pass_time)
                thread.start()
                said = child.rest()
                ended.set()
                thread.join()
            expect(said[-1:] == ["ended"], f"the last run said {said}")
            break
        check(work, provider, mode, rows=rows, size=size)
    return killer.count, hits


def check(work: Path, provider: FakeProvider, mode: str, *, rows: int, size: int) -> None:
    """Compare the job with the provider's ledger."""
    submitted, answered = Counter[str](), Counter[str]()
    for batch in provider.batches.values():
        submitted.update(list(batch.requests))
        answered.update(batch.answered)
    with JobService(work / "jobs") as service:
        job = service.get_job("j")
        expect(job is not None, "the job is gone")
        assert job is not None
        for row in service.get_rows("j"):
            if row.status == "completed":
                expect(answered[row.id] == 1, f"{row.id} was answered {answered[row.id]} times")
                prompt = row.data["prompt"]
                expect(row.result == f"About {prompt}", f"{row.id} has another row's answer")
                expect(submitted[row.id] <= 2, f"{row.id} is in {submitted[row.id]} batches")
            else:
                expect(mode == "blind", f"{row.id} is {row.status}: {row.error_message}")
                expect(row.error_code == "StepInDoubt", f"{row.id}: {row.error_code}")
                expect("step 'submit'" in (row.error_message or ""), str(row.error_message))
        again = {custom_id for custom_id, count in submitted.items() if count > 1}
        not_done = set[str]()
        for batch in provider.batches.values():
            not_done |= batch.requests.keys() - set(batch.answered)
        expect(
            again <= not_done, f"submitted twice, though answered: {sorted(again - not_done)[:5]}"
        )
        if mode == "look":
            keys = Counter(batch.metadata["key"] for batch in provider.batches.values())
            expect(max(keys.values()) == 1, f"submitted twice under one key: {keys.most_common(2)}")
            expect(Decimal(str(job.total_cost_cents)) == provider.cents, "the costs differ")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=1_000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    given = parser.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed
    for mode in given.modes:
        began_s = time.monotonic()
        with tempfile.TemporaryDirectory() as work:
            at_requests, hits = killed(
                Path(work), mode, rows=given.rows, size=given.size, kills=given.kills, seed=seed
            )
        print(
            f"{mode}, seed {seed}: {hits} of {given.kills} kills hit a run, {at_requests} of them at a "
            f"request, {time.monotonic() - began_s:.0f} s"
        )
        check_share("kills that hit a run", hits, given.kills, 0.5)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Label each review of reviews.csv, in batches of 1,000 at the provider: python llm_batch.py"""

import json
import os

import httpx

import journal

PROMPT = "Is this review positive or negative? Reply with one word.\n"
CENTS = {"prompt_tokens": 0.000125, "completion_tokens": 0.0005}  # your model's prices, in a batch
URL = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
KEY = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
CHAT = {"method": "POST", "url": "/v1/chat/completions"}


def upload(batch):
    lines = []
    for row in batch:
        messages = [{"role": "user", "content": PROMPT + row.data["text"]}]
        body = {"model": "small", "messages": messages}
        lines.append(json.dumps({"custom_id": row.id, **CHAT, "body": body}))
    form = {"purpose": (None, "batch"), "file": ("batch.jsonl", "\n".join(lines))}
    return client.post("files", files=form).raise_for_status().json()["id"]


def create(file_id, key):
    listed = client.get("batches", params={"limit": 100}).raise_for_status().json()["data"]
    for made in listed:  # by an earlier start, which was killed before it could record this
        if made["metadata"] == {"key": key}:
            return made["id"]
    body = {"input_file_id": file_id, "endpoint": CHAT["url"], "completion_window": "24h"}
    answer = client.post("batches", json=body | {"metadata": {"key": key}})
    return answer.raise_for_status().json()["id"]


def label(batch):
    file_id = batch.step("upload", upload, batch, idempotent=True)
    batch_id = batch.step("create", create, file_id, batch.step_key("create"), idempotent=True)
    try:
        return results(batch, client.get(f"batches/{batch_id}").raise_for_status().json())
    except httpx.HTTPError as error:  # nothing is lost: ask again later
        raise journal.Wait(60, str(error)) from None


def results(batch, state):
    if state["status"] == "failed":
        raise journal.Fail("Refused", str(state["errors"]))
    if state["status"] not in ("completed", "expired", "cancelled"):
        raise journal.Wait(60, state["status"])
    undone = journal.Retry("Undone", state["status"], from_step="upload")
    outcomes = {row.id: undone for row in batch}
    for file_id in filter(None, (state["output_file_id"], state["error_file_id"])):
        content = client.get(f"files/{file_id}/content").raise_for_status().content
        for line in map(json.loads, content.splitlines()):
            if line["response"] and line["custom_id"] in outcomes:
                outcomes[line["custom_id"]] = outcome(**line["response"])
    return outcomes


def outcome(status_code, body, **_):
    if status_code != 200:
        return journal.Fail(f"HTTP{status_code}", body["error"]["message"])
    cost_cents = sum(CENTS[name] * body["usage"][name] for name in CENTS)
    return journal.RowResult(result=body["choices"][0]["message"]["content"], cost_cents=cost_cents)


reviews = journal.read_rows("reviews.csv")
with (
    httpx.Client(base_url=URL, headers=KEY, timeout=120) as client,
    journal.open_job("jobs/reviews", reviews, key="id", on_interrupted="resume") as job,
):
    report = job.run(label, batch=1000, workers=2, max_attempts=5, retry_on=httpx.HTTPError)
    print(report.job.successful_rows, "labelled for", report.job.total_cost_cents, "cents")
raise SystemExit(report.exit_code)

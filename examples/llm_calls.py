"""Label each review of reviews.csv, 50 calls at a time: python llm_calls.py v1"""

import json
import os
import sys

import httpx

import journal

PROMPTS = {
    "v1": 'Is this review positive or negative? Reply in JSON: {"label": "..."}\n',
    "v2": 'You label reviews. Reply in JSON: {"label": "positive" or "negative"}\n',
}
CENTS = {"prompt_tokens": 0.00025, "completion_tokens": 0.001}  # your model's prices of a token
URL = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
KEY = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}


def label(row):
    messages = [{"role": "user", "content": PROMPTS[version] + row.data["text"]}]
    try:
        answer = client.post("chat/completions", json={"model": "small", "messages": messages})
    except httpx.ConnectError as error:
        raise journal.Hold("Down", str(error)) from None
    after_s = answer.headers.get("Retry-After")
    if answer.status_code == 429:  # too many calls: this row waits, the others go on
        raise journal.Retry("Throttled", after_s=after_s, counts=False)
    if answer.status_code >= 500:  # the service is down: the whole run waits
        raise journal.Hold("Down", f"HTTP {answer.status_code}", after_s=after_s)
    answer.raise_for_status()
    usage = {name: answer.json()["usage"][name] for name in CENTS}
    spent = {"usage": usage, "cost_cents": sum(CENTS[name] * n for name, n in usage.items())}
    text = answer.json()["choices"][0]["message"]["content"]
    try:
        return journal.RowResult(result=json.loads(text)["label"], **spent)
    except (ValueError, KeyError, TypeError):  # useless, but paid
        raise journal.Fail("Malformed", text[:200], **spent) from None


version = sys.argv[1]
reviews = journal.read_rows("reviews.csv")
with (
    httpx.Client(base_url=URL, headers=KEY, timeout=120) as client,
    journal.open_job(f"jobs/reviews-{version}", reviews, "id", on_interrupted="retry") as job,
):
    kinds = ("Malformed", httpx.TransportError)
    report = job.run(label, workers=50, max_attempts=2, retry_on=kinds, max_cost_cents=500)
    print(report.job.successful_rows, "labelled for", report.job.total_cost_cents, "cents")
raise SystemExit(report.exit_code)

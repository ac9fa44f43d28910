"""Buy labels for the orders of orders.csv, which a shop writes anew each day. In a crontab:

0 6 * * *  cd /srv/shop && python daily.py

New orders are done. A refused order that was corrected is tried again. An order that has vanished
is skipped. The job pauses when a day has cost 50 dollars. What is printed is what cron mails: orders
that were refused, and why the job has paused. If the script was killed, the next start repeats the
calls that were in flight, under their keys, so that no label is bought twice.
"""

import os
import sys

import httpx

import journal


def buy_label(row):
    headers = {"Idempotency-Key": row.idempotency_key}
    answer = client.post("labels", json=row.data, headers=headers)
    if answer.status_code == 422:
        raise journal.Fail("Refused", answer.json()["error"]["message"])
    label = answer.raise_for_status().json()
    return journal.RowResult(tracking_number=label["number"], cost_cents=label["cents"])


orders = journal.read_rows("orders.csv")
changes = {"on_changed": "retry", "on_gone": "skip", "on_interrupted": "retry"}
try:
    with (
        httpx.Client(base_url=os.environ["SHOP_URL"], timeout=30) as client,
        journal.open_job("jobs/labels", orders, key="order", **changes) as job,
    ):
        budget = job.job.total_cost_cents + 5000
        report = job.run(buy_label, max_cost_cents=budget, max_attempts=3, retry_on=httpx.HTTPError)
        for row in job.rows("failed"):
            print(row.data["order"], row.error_code, row.error_message)
except journal.JournalError as error:  # such as JobBusyError: the last start still works
    print(error, file=sys.stderr)
    raise SystemExit(error.exit_code) from None
raise SystemExit(report.exit_code)

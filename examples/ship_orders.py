"""Buy a label and send a mail for each order of orders.csv: python ship_orders.py

If the script is killed, start it again: each order goes on after its last step. The carrier
recognizes the key of a step, so that no label is bought twice. A mail that was being sent is in
doubt: its order needs a review, and `journal show ship` prints the commands that settle it.
"""

import os

import httpx

import journal


def post(path, body, headers=None):
    answer = client.post(path, json=body, headers=headers)
    if answer.status_code in (429, 503):  # nothing has happened
        raise journal.Retry("Busy", after_s=answer.headers.get("Retry-After"), counts=False)
    if answer.status_code == 422:
        raise journal.Fail("Refused", answer.json()["error"]["message"])
    return answer.raise_for_status().json()


def send_mail(address, number):
    try:
        post("mails", {"to": address, "text": f"Your parcel {number} is on its way."})
    except httpx.ConnectError:
        raise  # nothing was sent
    except httpx.HTTPError as error:  # a person must find out whether it was sent
        raise journal.NeedsReview("MailInDoubt", str(error)) from None


def ship(row):
    key = {"Idempotency-Key": row.step_key("label")}
    label = row.step("label", post, "labels", row.data, key, idempotent=True)
    row.step("mail", send_mail, row.data["email"], label["number"])
    return journal.RowResult(tracking_number=label["number"], cost_cents=label["cents"])


orders = journal.read_rows("orders.csv")
with (
    httpx.Client(base_url=os.environ["SHOP_URL"], timeout=30) as client,
    journal.open_job("jobs/ship", orders, key="order", on_interrupted="resume") as job,
):
    report = job.run(ship, workers=4, max_attempts=3, retry_on=httpx.HTTPError)
    print(report.job.successful_rows, "shipped for", report.job.total_cost_cents, "cents")
raise SystemExit(report.exit_code)

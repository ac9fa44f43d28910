"""Look up the city of each order of orders.csv, 20 calls at a time: python call_api.py

If the script is killed, start it again: it repeats the calls that were in flight, which change
nothing, and no others. The cities are in the rows: journal export cities cities.csv
"""

import asyncio
import functools
import os

import httpx

import journal


async def look_up(client, row):
    try:
        answer = await client.get(f"zips/{row.data['zip']}")
    except httpx.ConnectError as error:  # the whole run waits
        raise journal.Hold("NoConnection", str(error)) from None
    after_s = answer.headers.get("Retry-After")
    match answer.status_code:
        case 404:
            raise journal.Skip("no such ZIP code")
        case 429:  # too many calls: this row waits, the others go on
            raise journal.Retry("Throttled", after_s=after_s, counts=False)
        case 503:  # the service is down: the whole run waits
            raise journal.Hold("Down", answer.text, after_s=after_s)
    return answer.raise_for_status().json()


async def main():
    orders = journal.read_rows("orders.csv")
    async with httpx.AsyncClient(base_url=os.environ["SHOP_URL"], timeout=30) as client:
        with journal.open_job("jobs/cities", orders, key="order", on_interrupted="retry") as job:
            handler = functools.partial(look_up, client)
            return await job.arun(
                handler, workers=20, rate="100/s", max_attempts=3, retry_on=httpx.HTTPError
            )


report = asyncio.run(main())
print(report.job.successful_rows, "looked up,", report.job.counts["skipped"], "unknown")
raise SystemExit(report.exit_code)

"""Ask for the price of each order of a data frame: run the cells in a notebook, or the script.

If the kernel or the script is killed, run it again: it asks for the orders that have no price yet.
"""

# %% A data frame. Its rows may come from anywhere.
import json
import os
from urllib.request import urlopen

import pandas as pd

import journal

orders = pd.read_csv("orders.csv")


# %% The calls. Run this cell again to go on.
def quote(row):
    with urlopen(f"{os.environ['SHOP_URL']}/quotes?kg={row.data['kg']}", timeout=30) as answer:
        return json.load(answer)


with journal.open_job("jobs/quotes", orders, key="order", on_interrupted="retry") as job:
    report = job.run(quote, workers=8, max_attempts=3, retry_on=OSError, retry_failed=True)
    quotes = job.rows().to_pandas(["order", "status", "error_code", "result.price"])

# %% The prices, beside the orders.
orders = orders.merge(quotes, on="order")
print(orders.tail(3))
print(orders["result.price"].sum(), "in all")

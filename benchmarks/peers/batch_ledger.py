"""batchledger: a ledger of a function's results in SQLite, for one process and one thread.

It syncs each commit (write-ahead log, ``synchronous=FULL``), and makes two for an item: that it
runs, and its result. So it is compared with start_row and complete_row. It has no queue: an item
is known once it runs.
"""

from __future__ import annotations

from typing import Any

from batchledger import Ledger

from benchmarks.setting import COST_CENTS, TRACKING_NUMBER, Clock, Setting, row_dicts


def _ship(_item: dict[str, Any]) -> dict[str, Any]:
    return {"tracking_number": TRACKING_NUMBER, "cost_cents": COST_CENTS}


def process(setting: Setting, rows: int) -> float:
    count = setting.count(rows)
    items = list(row_dicts(count))
    with (
        setting.fresh() as directory,
        Ledger(directory / "peer.db", namespace="bench", version="1") as ledger,
        Clock() as clock,
    ):
        for outcome in ledger.run(_ship, items, key=lambda item: str(item["order"])):
            assert outcome.ok
    return clock.s / count

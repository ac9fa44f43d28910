"""DBOS on SQLite: durable workflows, here one whose steps are the rows.

Each step's result is a synced commit (SQLite's defaults: rollback journal, ``synchronous=FULL``;
DBOS sets neither). It works with threads of its own and is one a process, so it runs in a child:
``python -m benchmarks.peers.dbos_steps TASK PATH ROWS``.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from dbos import DBOS, DBOSClient

from benchmarks.setting import COST_CENTS, TRACKING_NUMBER, Clock, Setting, in_child, row_dicts


@DBOS.step()
def ship(_data: dict[str, Any]) -> dict[str, Any]:
    return {"tracking_number": TRACKING_NUMBER, "cost_cents": COST_CENTS}


@DBOS.workflow()
def ship_all(count: int) -> float:
    with Clock() as clock:
        for data in row_dicts(count):
            ship(data)
    return clock.s / count


def _enqueue(url: str, count: int) -> float:
    """Nobody listens to the queue: only the rows' arrival is measured."""
    client = DBOSClient(system_database_url=url)
    with Clock() as clock:
        for data in row_dicts(count):
            client.enqueue({"queue_name": "rows", "workflow_name": "ship_one"}, data)
    client.destroy()
    return clock.s / count


def complete(setting: Setting, rows: int) -> float:
    return _in_child(setting, "complete", rows)


def enqueue(setting: Setting, rows: int) -> float:
    return _in_child(setting, "enqueue", rows)


def _in_child(setting: Setting, task: str, rows: int) -> float:
    with setting.fresh() as directory:
        path = directory / "peer.db"
        return in_child(__name__, task, str(path), str(setting.count(rows)))


def main() -> None:
    task, path, count = sys.argv[1:]
    url = f"sqlite:///{path}"
    DBOS(config={"name": "bench", "system_database_url": url, "console_log_level": "ERROR"})
    DBOS.launch()
    figure = ship_all(int(count)) if task == "complete" else _enqueue(url, int(count))
    DBOS.destroy()
    print(json.dumps(figure))


if __name__ == "__main__":
    main()

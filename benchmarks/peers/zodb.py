"""ZODB with a FileStorage: persistent objects in an append-only file, synced in each commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import transaction
import ZODB
from BTrees.LOBTree import LOBTree
from persistent.mapping import PersistentMapping

from benchmarks.setting import COST_CENTS, TRACKING_NUMBER, Clock, Setting, row_dicts


@contextmanager
def _database(setting: Setting) -> Iterator[Any]:
    with setting.fresh() as directory:
        database = ZODB.DB(str(directory / "peer.fs"))  # a name opens a FileStorage
        connection = database.open()
        try:
            root = connection.root()
            root["rows"] = LOBTree()
            root["job"] = PersistentMapping(done=0, cost_cents=0)
            transaction.commit()
            yield root
        finally:
            connection.close()
            database.close()


def _add(rows: Any, number: int, data: dict[str, Any]) -> None:
    rows[number] = PersistentMapping(status="pending", data=data)


def complete(setting: Setting, rows: int) -> float:
    """The row's and the job's objects changed in one transaction."""
    count = setting.count(rows)
    with _database(setting) as root:
        for number, data in enumerate(row_dicts(count)):
            _add(root["rows"], number, data)
        transaction.commit()
        with Clock() as clock:
            for number in range(count):
                row, job = root["rows"][number], root["job"]
                if row["status"] != "pending":
                    raise LookupError(number)
                row.update(
                    status="completed", tracking_number=TRACKING_NUMBER, cost_cents=COST_CENTS
                )
                job.update(done=job["done"] + 1, cost_cents=job["cost_cents"] + COST_CENTS)
                transaction.commit()
    return clock.s / count


def enqueue(setting: Setting, rows: int) -> float:
    count = setting.count(rows)
    with _database(setting) as root, Clock() as clock:
        for number, data in enumerate(row_dicts(count)):
            _add(root["rows"], number, data)
            transaction.commit()
    return clock.s / count

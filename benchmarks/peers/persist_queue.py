"""persist-queue's SQLiteAckQueue: items on disk, acknowledged when done.

It syncs each commit (write-ahead log, SQLite's default ``synchronous=FULL``), and makes two for
an item: ``get`` marks it as taken, ``ack`` as done. So it is compared with start_row and
complete_row, and ``put`` with a row that is added by itself. It keeps no result.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from persistqueue import SQLiteAckQueue

from benchmarks.setting import Clock, Setting, row_dicts


def _open(directory: Path) -> Any:
    return SQLiteAckQueue(str(directory))


def enqueue(setting: Setting, rows: int) -> float:
    count = setting.count(rows)
    with setting.fresh() as directory, closing(_open(directory)) as queue, Clock() as clock:
        for data in row_dicts(count):
            queue.put(data)
    return clock.s / count


def process(setting: Setting, rows: int) -> float:
    count = setting.count(rows)
    with setting.fresh() as directory, closing(_open(directory)) as queue:
        for data in row_dicts(count):
            queue.put(data)
        with Clock() as clock:
            for _ in range(count):
                queue.ack(queue.get(block=False))
    return clock.s / count

"""Rows of a finished job as an Arrow table and a frame of pandas, against a floor.

``python -m benchmarks.data_frames [--rows N] [--rounds N]``

The floor reads the same rows from a Parquet file by pyarrow, and decodes the JSON of each row by
msgspec: the three records that a journal has of it (the row, the start, the outcome). It makes no
table of them. The strict floor has the records in memory, and reads the finished table from
Parquet instead. For pandas, both convert the finished table, too. All sides run one after the other
in each round. Peaks are those of processes of their own.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.child import growth, resident_bytes
from benchmarks.setting import JOB, in_child, row_ids
from journal import JobService, Rows

MANY = 1_000_000
_BATCH = 1000  # rows that are started, and then completed in any order
_GOAL = 3
_decode = msgspec.json.Decoder().decode


def build(root: Path, count: int) -> None:
    """A job of rows with four columns; a fiftieth has failed, the others have an object as result."""
    chance = random.Random(1)
    data = (
        {"order": f"A-{n}", "zip": f"{90000 + n % 9000}", "price": n % 977 / 4, "quantity": n % 7}
        for n in range(1, count + 1)
    )
    with JobService(root, sync="none") as service:
        service.create_job("Frames", job_id=JOB, row_data=({"data": each} for each in data))
        service.start_job(JOB)
        ids = row_ids(count)
        for begin in range(0, count, _BATCH):
            some = ids[begin : begin + _BATCH]
            with service.batch(JOB):
                for row_id in some:
                    service.start_row(row_id)
            chance.shuffle(some)
            with service.batch(JOB):
                for number, row_id in enumerate(some):
                    if number % 50:
                        result = {"price": number * 1.5, "carrier": "ups", "signed": True}
                        service.complete_row(row_id, f"1Z{number}", cost_cents=1250, result=result)
                    else:
                        service.fail_row(row_id, "E42", "no such zip")


def rows_of(root: Path) -> Rows:
    return JobService(root).get_rows(JOB)


def write_floor(root: Path) -> None:
    """The records of each row, and the finished table, as Parquet files."""
    records: dict[int, list[bytes]] = {}
    with (root / JOB / "journal.jsonl").open("rb") as file:
        for line in file:
            if line.startswith(b'{"type":"row'):
                records.setdefault(_decode(line)["row"], []).append(line)
    columns = map(list, zip(*records.values(), strict=True))
    names = ("row", "start", "outcome")
    pq.write_table(pa.table(dict(zip(names, columns, strict=True))), root / "records.parquet")
    pq.write_table(rows_of(root).to_arrow().combine_chunks(), root / "table.parquet")


def floor(root: Path) -> bool:
    for batch in pq.ParquetFile(root / "records.parquet").iter_batches(1 << 14):
        for column in batch.columns:
            for text in column.to_pylist():
                _decode(text)
    return True


def strict_floor(root: Path, lines: list[bytes]) -> Any:
    for text in lines:
        _decode(text)
    return pq.read_table(root / "table.parquet")


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    begin_s = time.perf_counter()
    work()
    return time.perf_counter() - begin_s


def peak(root: str, what: str) -> None:
    """Print the MB by which this process grew at its peak, and those of what it has made."""
    import pandas as pd  # noqa: F401, PLC0415  (for this child only)

    rows = rows_of(Path(root))
    before = resident_bytes("VmRSS")
    made = getattr(rows, what)()
    grown = growth("VmHWM", before)
    size = made.nbytes if what == "to_arrow" else made.memory_usage(deep=True).sum()
    print(f"{what}: peak {grown / 1e6:.0f} MB above the start, the result {size / 1e6:.0f} MB")
    print(grown / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=MANY)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        build(root, given.rows)
        write_floor(root)
        with (root / JOB / "journal.jsonl").open("rb") as file:
            lines = [line for line in file if line.startswith(b'{"type":"row')]
        rows = rows_of(root)
        table = root / "table.parquet"
        sides: dict[str, Callable[[], object]] = {
            "floor": lambda: floor(root),
            "strict floor": lambda: strict_floor(root, lines),
            "to_arrow": rows.to_arrow,
            "floor, pandas": lambda: (floor(root), pq.read_table(table).to_pandas()),
            "strict floor, pandas": lambda: strict_floor(root, lines).to_pandas(),
            "to_pandas": rows.to_pandas,
            "to_arrow, two columns": lambda: rows.to_arrow(["order", "result.price"]),
        }
        took: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(given.rounds):
            for name, side in sides.items():
                took[name].append(seconds(side))
        for name, each in took.items():
            print(f"{statistics.median(each):7.2f} s  {name}  ({min(each):.2f} to {max(each):.2f})")
        for ours, floors in (("to_arrow", ""), ("to_pandas", ", pandas")):
            for kind in ("floor", "strict floor"):
                pairs = zip(took[ours], took[kind + floors], strict=True)
                ratio = statistics.median(a / b for a, b in pairs)
                print(f"{ratio:7.2f}    {ours} / {kind}  (goal {_GOAL})")
        for what in ("to_arrow", "to_pandas"):
            grown = in_child("benchmarks.data_frames", "--peak", str(root), what)
            print(f"{grown:7.0f} MB {what}, peak above the start")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        peak(*sys.argv[2:])
    else:
        main()

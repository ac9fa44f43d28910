"""A set of shards beside one job of as many rows: ``python -m benchmarks.shards --rows 1000000``.

Measures how long a start takes to read the input and to make its shard, and `journal show` and
`journal export` of the set and of the job. Each is done in a process of its own: its CPU time, and
its largest memory. The shards that are shown and exported are written directly, with the rows that
a start would take if each of the shards got every N-th row.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.setting import JOB, row_dicts
from journal import JobService, Shard, open_job
from journal.cli.main import main as command
from journal.service import make_job, new_header

SET = "set"
_BATCH = 10_000  # rows that are completed in one commit


class Cost(NamedTuple):
    """CPU seconds, and the largest memory of the process in MB."""

    s: float
    mb: float

    def __str__(self) -> str:
        return f"{self.s:8.2f} s {self.mb:7.0f} MB"


def cost_of(work: Callable[[], object]) -> Cost:
    """Do it in a child, whose standard output is discarded."""
    child = os.fork()
    if not child:
        failed = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            work()
            failed = 0
        except Exception:  # noqa: BLE001  (nothing of the child may go on in the parent's code)
            traceback.print_exc()
        finally:
            os._exit(failed)
    _, status, used = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"{work} failed")
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / unit)


def journal(*words: str) -> None:
    gc.freeze()  # as the command does
    if code := command([*words]):
        raise RuntimeError(f"journal {words} has ended with {code}")


def write(root: Path, rows: int, shard: Shard, *, pending: bool = False) -> None:
    """Write a job with every ``shard.count``-th row of the input, all completed or pending."""
    places = range(shard.index + 1, rows + 1, shard.count)
    is_all = shard.count == 1
    header = new_header(
        JOB if is_all else SET,
        "Benchmark",
        "",
        None,
        "auto",
        metadata=None,
        key="order",
        idempotency_key=None,
        shard=None if is_all else shard,
    )
    data = islice(row_dicts(rows), shard.index, None, shard.count)

    def new_rows() -> Iterator[dict[str, Any]]:
        for place, each in zip(places, data, strict=True):
            yield {"data": each, "row_number": place} | ({} if is_all else {"place": place})

    with JobService(root, sync="none") as service:
        job = make_job(service, header, new_rows(), anew=False)
        if pending:
            return
        for begin in range(0, len(places), _BATCH):
            with service.batch(job.id):
                for place in places[begin : begin + _BATCH]:
                    service.complete_row(f"{header.id}:{place}", result={"label": f"1Z{place}"})
        service.update_status(job.id, "running")
        service.update_status(job.id, "completed")


def read(root: Path, rows: int, shard: tuple[int, int] | None) -> None:
    """Start a job or shard: read the whole input."""
    path = root / (JOB if shard is None else SET)
    with open_job(path, row_dicts(rows), key="order", shard=shard, sync="none"):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shards", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--read", type=int, default=2, help="of so many shards, read the input")
    parser.add_argument("--pending", action="store_true", help="write rows that aren't done")
    parser.add_argument("--dir", help="where to work")
    given = parser.parse_args()
    rows, count = given.rows, given.shards
    with tempfile.TemporaryDirectory(prefix="shards-", dir=given.dir) as directory:
        root, read_root = Path(directory), Path(directory, "read")
        print(f"{rows:,} rows, {count} shards")
        print(f"input, one job    {cost_of(partial(read, read_root, rows, None))}", flush=True)
        for index in range(min(given.read, count)):
            cost = cost_of(partial(read, read_root, rows, (index, count)))
            print(f"input, shard {index:<4} {cost}", flush=True)
        for name, shards in ((JOB, 1), (SET, count)):
            for index in range(shards):
                shard = Shard(index, shards, ("order",))
                cost_of(partial(write, root, rows, shard, pending=given.pending))
            for words in (["show", name], ["export", name, f"{root / name}.csv"]):
                cost = cost_of(partial(journal, "--root", directory, *words))
                print(f"{' '.join(words[:2]):17} {cost}", flush=True)
        one, other = (Path(f"{root / name}.csv").read_bytes().count(b"\n") for name in (JOB, SET))
        if one != other:
            raise RuntimeError(f"the tables have {one} and {other} lines")


if __name__ == "__main__":
    main()

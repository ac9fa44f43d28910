"""How late a task of the caller's loop gets its turn beside ``arun``.

    python -m benchmarks.asyncio_heartbeat                # 1,000 calls at a time, httpx
    python -m benchmarks.asyncio_heartbeat --rows 400 --concurrent 50 --answer-s 0.1 0.3

A task sleeps for 10 ms, again and again, and notes how late it is woken. Beside it, in the same
loop, an httpx client makes calls to a server in another process: first without a journal, then
through ``arun``. That run is cancelled at half of its rows, and continued. The command fails if a
row was lost or called twice, or if the journal says anything else than the server.

A connection pool of httpx looks at all of its connections for each call, which takes 10 ms of the
loop if it has 1,000. So the client here spreads its calls over ``--pools`` pools.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import journal

if TYPE_CHECKING:
    import httpx

BEAT_S = 0.01


# --- the server, in another process


async def serve(answer_s: tuple[float, float]) -> None:
    """Answer each ``GET /row/N`` after a random time, and ``GET /calls`` with all numbers."""
    calls: list[int] = []
    chance = random.Random(17)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := (await reader.readuntil(b"\r\n\r\n")).split():
                name = request[1].decode().rpartition("/")[2]
                if name != "calls":
                    calls.append(int(name))
                    await asyncio.sleep(chance.uniform(*answer_s))
                body = json.dumps(calls if name == "calls" else {"answer": int(name)}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# --- the heart


class Heart:
    """A task that wants to be woken every 10 ms."""

    def __init__(self) -> None:
        self.late_s: list[float] = []
        self._task: asyncio.Task[None] | None = None

    async def _beat(self) -> None:
        while True:
            due_s = time.perf_counter() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self.late_s.append(time.perf_counter() - due_s)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()

    def told(self, name: str, rows: int, took_s: float) -> str:
        late_ms = sorted(late_s * 1000 for late_s in self.late_s)

        def at(share: float) -> float:
            return late_ms[min(int(len(late_ms) * share), len(late_ms) - 1)]

        return (
            f"{name:<22} {rows / took_s:7.0f} rows/s  {len(late_ms):5} beats, late by "
            f"{at(0.5):5.1f} ms (median) {at(0.99):6.1f} ms (99 %) {late_ms[-1]:6.1f} ms (most)"
        )


# --- the work


def new_client(url: str, pools: int) -> httpx.AsyncClient:
    import httpx  # noqa: PLC0415  (an optional library)

    class Pools(httpx.AsyncBaseTransport):
        def __init__(self) -> None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
            made = [httpx.AsyncHTTPTransport(limits=limits) for _ in range(pools)]
            self._made, self._turns = made, itertools.cycle(made)

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return await next(self._turns).handle_async_request(request)

        async def aclose(self) -> None:
            for pool in self._made:
                await pool.aclose()

    return httpx.AsyncClient(base_url=url, transport=Pools(), timeout=None)


async def ask(client: httpx.AsyncClient, number: int) -> Any:
    return (await client.get(f"/row/{number}")).raise_for_status().json()["answer"]


async def without_journal(make: Callable[[], httpx.AsyncClient], rows: int, concurrent: int) -> str:
    turns = asyncio.Semaphore(concurrent)

    async def one(number: int) -> None:
        async with turns:
            await ask(client, -number)

    async with make() as client, Heart() as heart:
        begin_s = time.perf_counter()
        await asyncio.gather(*(one(number) for number in range(1, rows + 1)))
        return heart.told("without a journal", rows, time.perf_counter() - begin_s)


async def with_arun(
    make: Callable[[], httpx.AsyncClient], path: Path, rows: int, concurrent: int
) -> list[str]:
    async def handle(row: journal.AttemptedRow) -> Any:
        return await ask(client, row.row_number)

    def stop_at_half(now: journal.Job) -> None:
        if now.processed_rows >= rows / 2 and not task.cancelling():
            task.cancel()

    told = []
    data = ({"n": number} for number in range(1, rows + 1))
    with journal.open_job(path, data, key="n") as job:
        options: dict[str, Any] = {"workers": concurrent, "halt": "never", "tell": lambda _: None}
        async with make() as client, Heart() as heart:
            begin_s = time.perf_counter()
            task = asyncio.create_task(job.arun(handle, on_progress=stop_at_half, **options))
            cancelled = (await asyncio.gather(task, return_exceptions=True))[0]
            took_s = time.perf_counter() - begin_s
            half = job.job
            told.append(heart.told("arun, then cancelled", half.processed_rows, took_s))
            if not isinstance(cancelled, asyncio.CancelledError):
                raise SystemExit(f"it was not cancelled: {cancelled}")
            if half.status != "paused" or half.processed_rows != half.successful_rows:
                raise SystemExit(f"it was not drained: {half}")
        async with make() as client, Heart() as heart:
            begin_s = time.perf_counter()
            report = await job.arun(handle, **options)
            took_s = time.perf_counter() - begin_s
            told.append(heart.told("arun, continued", report.completed, took_s))
        async with make() as client:
            calls = Counter((await client.get("/calls")).json())
        if report.job.status != "completed" or [row.result for row in job.rows()] != list(
            range(1, rows + 1)
        ):
            raise SystemExit(f"rows are lost: {report.job}")
        if any(calls[number] != 1 for number in range(1, rows + 1)):
            raise SystemExit("a row was called twice, or never")
    told.append(f"each of {rows} rows was called once: {half.processed_rows} before the cancel")
    return told


async def measure(arguments: argparse.Namespace, url: str) -> None:
    make = functools.partial(new_client, url, arguments.pools)
    print(await without_journal(make, arguments.rows, arguments.concurrent), flush=True)
    with tempfile.TemporaryDirectory(dir=arguments.dir) as name:
        path = Path(name) / "jobs" / "heartbeat"
        for line in await with_arun(make, path, arguments.rows, arguments.concurrent):
            print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--concurrent", type=int, default=1000, help="calls at a time")
    parser.add_argument(
        "--answer-s", type=float, nargs=2, default=[2.0, 6.0], help="how long the server takes"
    )
    parser.add_argument("--pools", type=int, default=40, help="connection pools of the client")
    parser.add_argument("--dir", type=Path, help="where the job is made (default: as tempfile)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    run: Callable[[Any], None] = asyncio.run
    if arguments.serve:
        run(serve(tuple(arguments.answer_s)))
        return
    answer_s = map(str, arguments.answer_s)
    command = [sys.executable, "-m", "benchmarks.asyncio_heartbeat", "--serve", "--answer-s"]
    with subprocess.Popen([*command, *answer_s], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            run(measure(arguments, f"http://127.0.0.1:{port}"))
        finally:
            server.kill()


if __name__ == "__main__":
    main()

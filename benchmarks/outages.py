"""Measure runs against a server that throttles: ``python -m benchmarks.outages``.

A local HTTP server in a process of its own plays the far side. Three things are measured:

- **outage**: the server answers 429 with ``Retry-After`` for a while. How many calls does a run
  make meanwhile, and does any row fail or use up an attempt?
- **limit**: the server answers 429 above so many calls at a time. Which number of workers does
  ``workers="auto"`` settle at, and which fixed number is the best?
- **saturated**: the server works on so many calls at a time, and the others wait. The same.

``--quick`` takes some seconds instead of minutes.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import journal

ANSWER_S = 0.05  # how long the server works on a call


class _Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


class _FarSide:
    """The state of the server. ``shape`` is "limit" or "saturated", ``size`` its number of calls."""

    def __init__(self, shape: str, size: int, outage_s: float, retry_after_s: float) -> None:
        self.shape, self.size = shape, size
        self.outage_s, self.retry_after_s = outage_s, retry_after_s
        self.lock = threading.Lock()
        self.places = threading.Semaphore(size)
        self.in_flight = 0
        self.refused: list[float] = []
        self.answered = 0
        self.down_from_s = self.down_until_s = 0.0

    def enter(self) -> float | None:
        """None if the call is let in; else the seconds of Retry-After."""
        now_s = time.monotonic()
        with self.lock:
            if self.outage_s and self.answered >= 100 and not self.down_from_s:
                self.down_from_s, self.down_until_s = now_s, now_s + self.outage_s
            if now_s < self.down_until_s:
                self.refused.append(now_s)
                return min(self.retry_after_s, self.down_until_s - now_s + 0.1)
            if self.shape == "limit" and self.in_flight >= self.size:
                self.refused.append(now_s)
                return self.retry_after_s
            self.in_flight += 1
            return None

    def work(self) -> None:
        if self.shape == "saturated":
            with self.places:
                time.sleep(ANSWER_S)
        else:
            time.sleep(ANSWER_S)
        with self.lock:
            self.in_flight -= 1
            self.answered += 1


def _serve(port: Connection, shape: str, size: int, outage_s: float, retry_after_s: float) -> None:
    far = _FarSide(shape, size, outage_s, retry_after_s)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            if self.path == "/counts":
                self._answer(200, {"answered": far.answered, "refused": len(far.refused)})
                return
            wait_s = far.enter()
            if wait_s is not None:
                self._answer(429, {"retry_after_s": wait_s})
                return
            far.work()
            self._answer(200, {})

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            if "retry_after_s" in body:
                self.send_header("Retry-After", str(body["retry_after_s"]))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        port.send(server.server_address[1])
        server.serve_forever()


class FarSide:
    """A context manager: the server in another process, and a handler that calls it."""

    def __init__(
        self, shape: str, size: int, *, outage_s: float = 0.0, retry_after_s: float = 0.5
    ) -> None:
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        self._process = spawn.Process(
            target=_serve, args=(theirs, shape, size, outage_s, retry_after_s), daemon=True
        )
        self._process.start()
        self._port: int = ours.recv()
        self._local = threading.local()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def get(self, path: str = "/") -> tuple[int, dict[str, Any]]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port)
            self._local.connection = connection
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def handle(self, _row: journal.AttemptedRow) -> None:
        status, body = self.get()
        if status == 429:
            raise journal.Hold("Throttled", "HTTP 429", after_s=body["retry_after_s"])


def _run(
    far: FarSide, rows: int, workers: int | str, seconds: float | None = None
) -> tuple[journal.RunReport, list[tuple[float, str]], list[journal.JobRow], float]:
    """Run; returns the report, the paces by time, the rows, and the rows done a second."""
    paces: list[tuple[float, str]] = []
    begin_s = time.monotonic()
    done: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "jobs" / "far"
        with journal.open_job(path, ({"n": n} for n in range(rows)), sync="none") as job:

            def look(state: journal.Job) -> None:
                now_s = time.monotonic() - begin_s
                paces.append((now_s, job.pace))
                done.append((now_s, state.successful_rows))
                if seconds is not None and now_s >= seconds:
                    job.stop()

            report = job.run(
                far.handle, workers=workers, halt="never", on_progress=look, tell=_quiet
            )
            rows_after = list(job.rows()) if seconds is None else []
    half = [one for one in done if one[0] >= done[-1][0] / 2]
    span_s = half[-1][0] - half[0][0]
    rate = (half[-1][1] - half[0][1]) / span_s if span_s else 0.0
    return report, paces, rows_after, rate


def _quiet(_text: str) -> None:
    pass


def outage(workers: int, outage_s: float) -> dict[str, Any]:
    """A run across an outage."""
    with FarSide("saturated", workers, outage_s=outage_s, retry_after_s=outage_s) as far:
        report, _, rows, _ = _run(far, 400, workers)
        refused = far.get("/counts")[1]["refused"]
    return {
        "shape": "outage",
        "workers": workers,
        "outage_s": outage_s,
        "calls_while_down": refused,
        "bound": workers + 1,
        "failed": report.failed,
        "completed": report.completed,
        "most_attempts": max(row.attempts - row.earlier_attempts for row in rows),
        "elapsed_s": round(report.elapsed_s, 1),
    }


def settled(shape: str, size: int, seconds: float, fixed: list[int]) -> dict[str, Any]:
    """Where ``auto`` settles, and what fixed numbers of workers bring."""
    rows = int(seconds * 1000)
    rates = {}
    for count in fixed:
        with FarSide(shape, size) as far:
            rates[count] = round(_run(far, rows, count, max(2.0, seconds / 8))[3], 1)
    most = max(rates.values())
    best = min(count for count, rate in rates.items() if rate >= 0.97 * most)
    with FarSide(shape, size) as far:
        report, paces, _, rate = _run(far, rows, "auto", seconds)
    late = [pace for at_s, pace in paces if at_s >= seconds / 2]
    counts = sorted(int(pace.split()[0]) for pace in late if pace.endswith(("worker", "workers")))
    if not counts:
        raise SystemExit(f"the run has ended before it settled: {report.reason}; {paces[-3:]}")
    return {
        "shape": shape,
        "size": size,
        "best": best,
        "auto": counts[len(counts) // 2],
        "auto_from_to": [counts[0], counts[-1]],
        "rate_of_best": rates[best],
        "rate_of_auto": round(rate, 1),
        "rates": rates,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.outages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="some seconds instead of minutes")
    parser.add_argument("--only", choices=list(_WORKS), help="one of the measurements")
    arguments = parser.parse_args()
    works = _QUICK if arguments.quick else _WORKS
    for name, work in works.items():
        if arguments.only in (None, name):
            print(json.dumps(work()), flush=True)


_WORKS: dict[str, Callable[[], dict[str, Any]]] = {
    "outage": lambda: outage(16, 30.0),
    "limit": lambda: settled("limit", 12, 60.0, [8, 10, 11, 12, 13, 16]),
    "saturated": lambda: settled("saturated", 12, 60.0, [6, 8, 10, 12, 14, 16, 24]),
}
_QUICK: dict[str, Callable[[], dict[str, Any]]] = {
    "outage": lambda: outage(4, 0.3),
    "limit": lambda: settled("limit", 6, 6.0, [6, 12]),
    "saturated": lambda: settled("saturated", 6, 6.0, [6, 12]),
}


if __name__ == "__main__":
    main()

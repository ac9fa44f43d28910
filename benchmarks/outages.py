"""Measure runs against a server that throttles: ``python -m benchmarks.outages``.

A local HTTP server in a process of its own plays the far side. It answers 429 with ``Retry-After``
for a while. How many calls does a run make meanwhile, and does any row fail or use up an attempt?

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
    """The state of the server. It works on ``size`` calls at a time, and the others wait."""

    def __init__(self, size: int, outage_s: float, retry_after_s: float) -> None:
        self.outage_s, self.retry_after_s = outage_s, retry_after_s
        self.lock = threading.Lock()
        self.places = threading.Semaphore(size)
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
            return None

    def work(self) -> None:
        with self.places:
            time.sleep(ANSWER_S)
        with self.lock:
            self.answered += 1


def _serve(port: Connection, size: int, outage_s: float, retry_after_s: float) -> None:
    far = _FarSide(size, outage_s, retry_after_s)

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

    def __init__(self, size: int, *, outage_s: float, retry_after_s: float) -> None:
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        self._process = spawn.Process(
            target=_serve, args=(theirs, size, outage_s, retry_after_s), daemon=True
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


def _quiet(_text: str) -> None:
    pass


def outage(workers: int, outage_s: float) -> dict[str, Any]:
    """A run across an outage."""
    with (
        FarSide(workers, outage_s=outage_s, retry_after_s=outage_s) as far,
        tempfile.TemporaryDirectory() as directory,
    ):
        path = Path(directory) / "jobs" / "far"
        with journal.open_job(path, ({"n": n} for n in range(400)), sync="none") as job:
            report = job.run(far.handle, workers=workers, halt="never", tell=_quiet)
            rows = list(job.rows())
        refused = far.get("/counts")[1]["refused"]
    return {
        "workers": workers,
        "outage_s": outage_s,
        "calls_while_down": refused,
        "bound": workers + 1,
        "failed": report.failed,
        "completed": report.completed,
        "most_attempts": max(row.attempts - row.earlier_attempts for row in rows),
        "elapsed_s": round(report.elapsed_s, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.outages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="some seconds instead of minutes")
    quick = parser.parse_args().quick
    print(json.dumps(outage(4, 0.3) if quick else outage(16, 30.0)), flush=True)


if __name__ == "__main__":
    main()

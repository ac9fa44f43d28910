"""Measure runs whose calls are throttled or refused: ``python -m benchmarks.outages``.

A simulated service in this process works 0.5 to 1 s on a call, 50 calls at a time.

- ``mixed``: 5 % of the calls are answered by 429 and a time to wait. ``Retry(counts=False)`` beside
  ``Retry`` and ``Hold``.
- ``account``: for a minute, all calls are answered by 429. How many calls does a run make meanwhile?
- ``outage``: for a minute, the service is down. How long does a run hold?
- ``rate``: a call uses 50 to 150 tokens, and a minute has 4,000 or 40,000. How many does the service
  count in a sliding minute, at most and on average?

``--quick`` takes some seconds instead of minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import journal

WORKERS = 50
REFUSAL_S = 0.05  # how long the service takes to refuse a call


class Service:
    """Refuses a share of the calls, and all calls of a time in the middle.

    ``scale``: what a second is multiplied by. ``refuse`` makes what the handler raises.
    """

    def __init__(
        self,
        refuse: Callable[[], Exception],
        *,
        share: float = 0.0,
        down_from_s: float = 0.0,
        down_s: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        self._refuse, self._share, self._scale = refuse, share, scale
        self._random = random.Random(1)
        self._begin_s = monotonic()
        self._down = down_from_s * scale, (down_from_s + down_s) * scale
        self.is_ever_down = down_s > 0
        self.calls = self.refused = 0
        self.first_refused_s = self.answered_again_s = 0.0

    async def call(self, _row: journal.AttemptedRow) -> None:
        self.calls += 1
        now_s = monotonic() - self._begin_s
        is_down = self._down[0] <= now_s < self._down[1]
        if is_down or self._random.random() < self._share:
            self.refused += 1
            self.first_refused_s = self.first_refused_s or now_s
            await asyncio.sleep(REFUSAL_S * self._scale)
            raise self._refuse()
        if now_s >= self._down[1] and not self.answered_again_s:
            self.answered_again_s = now_s
        await asyncio.sleep(self._random.uniform(0.5, 1) * self._scale)


def measure(name: str, rows: int, service: Service, **options: Any) -> None:
    """Print a line of JSON about a run."""

    async def run(job: journal.JobRun) -> journal.RunReport:
        return await job.arun(
            service.call, workers=WORKERS, halt="never", tell=lambda _text: None, **options
        )

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "jobs" / "j"
        with journal.open_job(path, ({"n": n} for n in range(rows))) as job:
            report = asyncio.run(run(job))
            most = max(row.attempts - row.earlier_attempts for row in job.rows())
    figures = {
        "run": name,
        "elapsed_s": round(report.elapsed_s, 2),
        "completed": report.completed,
        "failed": report.failed,
        "calls": service.calls,
        "refused": service.refused,
        "attempts_that_count": most,
    }
    if service.is_ever_down:
        figures["held_s"] = round(service.answered_again_s - service.first_refused_s, 2)
    print(json.dumps(figures), flush=True)


def measure_rate(calls: int, unit_s: float, units: int, scale: float) -> None:
    """Print a line of JSON about a run that may make ``calls`` calls in a unit of time."""
    limit, spread = calls * 100, random.Random(2)
    minute: deque[tuple[float, float]] = deque()
    samples: list[float] = []
    used = most = 0.0

    def count(tokens: float) -> None:
        nonlocal used, most
        minute.append((monotonic(), tokens))
        while minute[0][0] <= minute[-1][0] - unit_s:
            used -= minute.popleft()[1]
        used += tokens
        most = max(most, used)

    async def handler(_row: journal.AttemptedRow) -> journal.RowResult:
        tokens = spread.uniform(50, 150)
        count(tokens)
        await asyncio.sleep(spread.uniform(0.5, 4) * scale)
        return journal.RowResult(usage={"tokens": tokens})

    async def run(job: journal.JobRun) -> None:
        rate = {"tokens": f"{limit}/{'m' if unit_s == 60 else 's'}"}
        work = asyncio.create_task(
            job.arun(handler, workers=WORKERS, rate=rate, tell=lambda _text: None)
        )
        await asyncio.sleep(unit_s)
        for _ in range(units * 20):
            await asyncio.sleep(unit_s / 20)
            count(0)
            samples.append(used)
        job.stop()
        await work

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "jobs" / "j"
        with journal.open_job(path, ({"n": n} for n in range(calls * (units + 3)))) as job:
            asyncio.run(run(job))
    figures = {
        "run": f"rate, {calls} calls",
        "most_in_a_minute": round(most / limit, 3),
        "mean_of_a_minute": round(sum(samples) / len(samples) / limit, 3),
    }
    print(json.dumps(figures), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.outages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="some seconds instead of minutes")
    parser.add_argument("only", nargs="*", help="mixed, account, outage or rate")
    given = parser.parse_args()
    scale, rows = (0.02, 500) if given.quick else (1.0, 6000)
    only = given.only or ["mixed", "account", "outage", "rate"]
    wait_s = 0.5 * scale
    one = ("Throttled", "HTTP 429")

    def throttled() -> Exception:
        return journal.Retry(*one, after_s=wait_s, counts=False)

    if "mixed" in only:
        kinds: dict[str, Callable[[], Exception]] = {
            "Retry": lambda: journal.Retry(*one, after_s=wait_s),
            "Retry(counts=False)": throttled,
            "Hold": lambda: journal.Hold(*one, after_s=wait_s),
        }
        for name, refuse in kinds.items():
            service = Service(refuse, share=0.05, scale=scale)
            measure(f"mixed, {name}", rows, service, max_attempts=20)
    minute_s = {"down_from_s": 5.0, "down_s": 60.0}
    if "account" in only:
        for header, refuse in {
            "Retry-After: 0.5": throttled,
            "no header": lambda: journal.Retry(*one, counts=False),
        }.items():
            service = Service(refuse, scale=scale, **minute_s)
            measure(f"account, {header}", 1000, service)
    if "outage" in only:
        service = Service(lambda: journal.Hold("Down", "refused"), scale=scale, **minute_s)
        longest = {"backoff_s": scale, "max_backoff_s": 10 * scale}
        measure("outage, max_backoff_s=10", 1000, service, **longest)
    if "rate" in only:
        unit_s, minutes = (1.0, 1) if given.quick else (60.0, 4)
        for calls in (40, 400):
            measure_rate(calls, unit_s, minutes, scale)


if __name__ == "__main__":
    main()

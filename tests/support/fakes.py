"""Serves the services that the scripts in `examples` call, until Ctrl-C, so that a person can try
the scripts:

python tests/support/fakes.py
"""

from __future__ import annotations

import argparse
import sys
import threading
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has this path already

from support.fake_provider import FakeProvider, digest
from support.fake_shop import FakeShop


def provider(batch_s: float = 20, latency_s: tuple[float, float] = (0.1, 0.5)) -> FakeProvider:
    """It throttles a call in five, and cuts off a first answer in ten.

    Its second batch expires when it is half done.
    """
    return FakeProvider(
        batch_s=batch_s,
        expiring={2},
        latency_s=latency_s,
        refuse=lambda number: (429, "0.5") if number % 5 == 0 else None,
        is_malformed=lambda prompt, before: digest(prompt) % (30 if before else 10) == 0,
    )


def shop() -> FakeShop:
    """The shop throttles a request in five, and is down for two requests in fifty."""
    down = {49: (503, "1"), 0: (503, None)}
    return FakeShop(
        refuse=lambda number: down.get(number % 50) or ((429, "0.5") if number % 5 == 0 else None)
    )


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    with provider() as models, shop() as sales:
        for name, value in {**models.environment, **sales.environment}.items():
            print(f"export {name}={value}", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
        print(models.cents, "cents,", len(models.calls), "calls,", len(models.batches), "batches")
        print(len(sales.labels), "labels,", sales.mails.total(), "mails")

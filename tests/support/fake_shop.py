"""A server with the services that a shop calls: a carrier that sells labels, mails, cities and
quotes.

As in reality, the carrier recognizes an idempotency key, and mails have no such key.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from support.fake_server import FakeServer, Refusal

LABEL_CENTS = 150


@dataclass
class FakeShop(FakeServer):
    """``labels``: a label for each idempotency key. ``mails``, ``answered``: dicts with counts."""

    # From the number of a request, from 1, to None, or to the status and Retry-After of its
    # refusal.
    refuse: Callable[[int], tuple[int, str | None] | None] = lambda _number: None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.labels: dict[str, dict[str, Any]] = {}
        self.mails: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self._requests = 0

    def __enter__(self) -> Self:
        super().__enter__()
        self.environment = {"SHOP_URL": self.url}
        return self

    def respond(self, method: str, path: str, headers: Any, body: bytes) -> tuple[Any, bool]:
        url = urlsplit(path)
        with self.lock:
            self._requests += 1
            if refused := self.refuse(self._requests):
                after = {} if refused[1] is None else {"Retry_After": refused[1]}
                raise Refusal(refused[0], "Please try again later", **after)
            match [method, *url.path.split("/")[1:]]:
                case ["POST", "labels"]:
                    answer = self._label(headers["Idempotency-Key"], json.loads(body))
                case ["POST", "mails"]:
                    self.mails[json.loads(body)["to"]] += 1
                    answer = {}
                case ["GET", "zips", code]:
                    if not code.startswith("9"):
                        raise Refusal(404, f"No such ZIP code: {code}")
                    answer = {"city": f"City {code[1:]}"}
                case ["GET", "quotes"]:
                    answer = {"price": 4 + 2 * float(parse_qs(url.query)["kg"][0])}
                case _:
                    raise Refusal(404, f"Invalid URL ({method} {path})")
            self.answered[path] += 1
        return answer, True

    def _label(self, key: str, order: dict[str, str]) -> dict[str, Any]:
        if len(order["zip"]) != 5:
            raise Refusal(422, f"No such ZIP code: {order['zip']}")
        number = f"1Z{order['zip']}{len(self.labels)}"
        return self.labels.setdefault(key, {**order, "number": number, "cents": LABEL_CENTS})

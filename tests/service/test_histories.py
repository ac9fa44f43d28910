"""Threads and processes that change the same rows get the answers of some order of their calls."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from service.histories import FOREVER_NS, Answer, Call, check_histories, is_linearizable
from support.effort import IS_LONG, SEED
from support.memory import fast_directory
from support.platforms import needs_signals

HISTORIES = 200 if IS_LONG else 3


@pytest.fixture(name="base")
def fixture_base() -> Iterator[Path]:
    base = fast_directory("histories-")
    yield base
    shutil.rmtree(base)


@needs_signals
@pytest.mark.parametrize("kills", [False, True])
def test_calls_of_threads_and_processes_are_linearizable(
    base: Path, count: Callable[[str, int], None], *, kills: bool
) -> None:
    first = Random(SEED).randrange(1 << 20)
    found = check_histories(base, range(first, first + HISTORIES), kills=kills)
    assert found["made"] > 50 * HISTORIES
    assert kills or not found["killed"]
    count("calls of histories", found["made"])
    count("calls of histories that met one of another process", found["met"])
    count("calls of histories that were killed", found["killed"])


# --- the check finds what it is there for ----------------------------------------------------

PENDING: Answer = ("pending", 0, None)
STARTED: Answer = ("processing", 1, None)
FAILED: Answer = ("failed", 0, "E")


def one(begin_ns: int, end_ns: int, name: str, answer: Answer) -> Call:
    return Call(begin_ns, end_ns, ((name, "E"),), (answer,))


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        pytest.param([one(1, 2, "start", STARTED), one(3, 4, "read", STARTED)], True, id="in turn"),
        pytest.param(
            [one(1, 4, "start", STARTED), one(2, 3, "read", PENDING)], True, id="read before"
        ),
        pytest.param(
            [one(1, 4, "start", STARTED), one(2, 3, "read", STARTED)], True, id="read after"
        ),
        pytest.param(
            [one(1, 2, "start", STARTED), one(3, 4, "read", PENDING)], False, id="lost or stale"
        ),
        pytest.param(
            [one(1, 4, "start", STARTED), one(2, 3, "start", STARTED)], False, id="started twice"
        ),
        pytest.param(
            [one(1, 4, "start", STARTED), one(2, 3, "start", None)], True, id="one was refused"
        ),
        pytest.param(
            [one(1, 9, "start", STARTED), one(2, 3, "read", STARTED), one(4, 5, "read", PENDING)],
            False,
            id="seen and gone again",
        ),
        pytest.param(
            [
                Call(1, 2, (("fail", "E"), ("retry", "")), (FAILED, PENDING)),
                one(1, 3, "read", FAILED),
            ],
            False,
            id="the middle of a batch",
        ),
        pytest.param(
            [Call(1, 2, (("start", ""),), (STARTED,), discarded=True), one(3, 4, "read", STARTED)],
            False,
            id="discarded and seen",
        ),
        pytest.param(
            [Call(1, FOREVER_NS, (("start", ""),), None), one(2, 3, "read", PENDING)],
            True,
            id="killed before",
        ),
        pytest.param(
            [Call(1, FOREVER_NS, (("start", ""),), None), one(2, 3, "read", STARTED)],
            True,
            id="killed after",
        ),
        pytest.param(
            [
                Call(1, FOREVER_NS, (("start", ""),), None),
                one(2, 3, "read", STARTED),
                one(4, 5, "read", PENDING),
            ],
            False,
            id="killed and undone",
        ),
    ],
)
def test_a_history_is_linearizable_only_if_some_order_explains_it(
    calls: list[Call], *, expected: bool
) -> None:
    assert is_linearizable(calls) == expected

"""Nothing that a handler or a step returns is lost, whatever it is and wherever it runs."""

from __future__ import annotations

import datetime as dt
import random
import re
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

import journal
from journal import AttemptedRow, RowStatus
from journal.run.outcome import outcome_of_value
from journal.text import encode_json


@dataclass
class Parcel:
    number: int
    content: Any


class Broken:
    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def _raise(self, *_: object) -> Any:
        raise self.error("on purpose")

    __repr__ = __str__ = __eq__ = __reduce__ = model_dump = _raise
    __hash__ = None  # type: ignore[assignment]


ERRORS = [RuntimeError, KeyboardInterrupt, SystemExit, MemoryError, RecursionError]


def cyclic() -> list[Any]:
    value: list[Any] = ["paid"]
    value.append(value)
    return value


def leaf(chance: random.Random) -> Any:
    np = pytest.importorskip("numpy")
    number = chance.randrange(10**9)
    makes: list[Callable[[], Any]] = [  # whose text is the same in each process
        lambda: number, lambda: number / 7, lambda: f"text {number}", lambda: None,
        lambda: Decimal(number) / 8, lambda: dt.date.fromordinal(1 + number % 700_000),
        lambda: b"%d" % number, lambda: {number, 7}, lambda: 10**5000, lambda: float("nan"),
        lambda: "\ud800", cyclic, lambda: 1j,
        lambda: Decimal("1e400"), lambda: 2**64, lambda: {2**64: "\ud800"}, lambda: Broken(chance.choice(ERRORS)),
        lambda: np.float64(number), lambda: np.array([number, np.nan]), lambda: np.int8(7),
    ]  # fmt: skip
    return chance.choice(makes)()


def value_of(seed: int, depth: int = 3) -> Any:
    chance = random.Random(seed)
    kind = chance.randrange(6)
    if not depth or kind == 5:
        return leaf(chance)
    inner = [value_of(seed * 7 + place, depth - 1) for place in range(kind and chance.randrange(4))]
    if kind == 0:
        return Parcel(seed, value_of(seed + 1, depth - 1))
    if kind == 1:
        return inner
    if kind == 2:
        return tuple(inner)
    if kind == 3:
        return {f"key {place}": item for place, item in enumerate(inner)}
    return dict(enumerate(inner))


def complete_with(row: AttemptedRow) -> journal.RowResult:
    return journal.RowResult(tracking_number="T-1", result=value_of(row.data["seed"]))


def step(row: AttemptedRow) -> Any:
    row.step("pay", value_of, row.data["seed"])


def expected(seed: int) -> tuple[str, Any]:
    outcome = outcome_of_value(value_of(seed))
    status = {"completed": "completed", "review": "needs_review"}[outcome.kind]
    return status, msgspec.json.decode(encode_json(outcome.result))


def run(path: Path, handler: Any, seeds: range, executor: Executor | None) -> list[journal.JobRow]:
    with journal.open_job(path / "j", ({"seed": seed} for seed in seeds), sync="none") as job:
        job.run(handler, executor, workers=2, halt="never", max_attempts=3, backoff_s=0)
        return list(job.rows())


EXECUTORS = [
    pytest.param(lambda: None, 600, id="threads"),
    pytest.param(lambda: ProcessPoolExecutor(2), 200, id="processes"),
]


def test_a_value_given_to_complete_is_kept_with_what_was_given_beside_it(tmp_path: Path) -> None:
    for row in run(tmp_path, complete_with, range(200), None):
        status, result = expected(row.data["seed"])
        if status == "completed":
            assert (row.status, row.tracking_number, row.result) == (status, "T-1", result)
        else:
            assert (row.error_code, row.tracking_number) == ("InvalidResult", "T-1")
            assert row.result == result


@pytest.mark.parametrize(("make", "count"), EXECUTORS)
def test_each_value_of_a_step_is_its_result_or_its_repr_is_the_rows(
    tmp_path: Path, make: Callable[[], Executor | None], count: int
) -> None:
    rows = run(tmp_path, step, range(count // 4), make())
    with journal.JobService(tmp_path) as service:
        for row in rows:
            status, result = expected(row.data["seed"])
            (known,) = service.get_steps(row.id)
            if status == "completed":
                assert (row.status, known.state, known.result) == (status, "done", result)
            else:
                assert (row.status, known.state) == (RowStatus.NEEDS_REVIEW, "started")
                assert (row.error_code, row.result) == ("StepNotRecorded", result)


def test_of_a_result_too_long_for_a_line_the_beginning_of_its_repr_is_kept(tmp_path: Path) -> None:
    with journal.open_job(tmp_path / "j", [{}], sync="none") as job:
        page = {"id": 7, "page": "x" * (65 << 20)}
        many = dict.fromkeys(map(str, range(101)), 1)
        job.run(lambda _row: journal.RowResult(result=page, cost_cents=2, usage=many))
        (row,) = job.rows()
    assert (row.status, row.error_code) == (RowStatus.NEEDS_REVIEW, "InvalidResult")
    assert re.match(r"\{'id': 7, 'page': 'xxx", row.result)
    assert row.result.endswith(" more bytes of the repr were not kept]")
    assert (row.cost_cents, row.usage) == (2, None)


def test_no_label_is_lost_of_results_that_share_a_commit(tmp_path: Path) -> None:
    rows = [{"n": n} for n in range(60)]
    with journal.open_job(tmp_path / "jobs" / "labels", rows) as job:
        job.run(lambda row: journal.RowResult(label_path=f"{row.row_number}.pdf"), workers=4)
        assert [row.label_path for row in job.rows()] == [f"{n}.pdf" for n in range(1, 61)]

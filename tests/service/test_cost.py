"""Costs and usages of rows: what is accepted, how it is summed, and what is read back."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.attempts import try_again

from journal import InvalidValueError, JobService
from journal.fs.file_names import HINT_NAME, JOURNAL_NAME

JOB = "calls"
ROW = f"{JOB}:1"
MILLIONTH = Decimal("0.000001")


@pytest.fixture(name="service")
def fixture_service(tmp_path: Path) -> Iterator[JobService]:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Calls", job_id=JOB, row_data=[{"data": {"n": n}} for n in range(9)])
        yield service


def last_line(service: JobService) -> str:
    return (service.root / JOB / JOURNAL_NAME).read_text().splitlines()[-1]


def total(service: JobService) -> int | float:
    job = service.get_job(JOB)
    assert job is not None
    assert job.total_cost_cents == service.get_job_summary(JOB)["total_cost_cents"]
    assert json.dumps(service.get_job_summary(JOB))
    return job.total_cost_cents


def usage(service: JobService) -> dict[str, int | float]:
    job = service.get_job(JOB)
    assert job is not None
    assert job.usage == service.get_job_summary(JOB)["usage"]
    return job.usage


@pytest.mark.parametrize(
    ("given_cost", "written", "shown"),
    [
        (5, "5", 5),
        (0, "0", 0),
        (0.06, "0.06", 0.06),
        (Decimal("0.060000000"), "0.06", 0.06),
        (Decimal("1E+2"), "100", 100),
        (5.0, "5", 5),
        (-0.0, "0", 0),
        (0.1 + 0.2, "0.3", 0.3),
        (812 * 0.000015, "0.01218", 0.01218),
        (7 * 0.0000015, "0.000011", 0.000011),
        (Decimal("0.1234567"), "0.123457", 0.123457),
        (1e-300, "0", 0),
        (Decimal("1e-99999999"), "0", 0),
        (123456789.123456, "123456789.123456", 123456789.123456),
        (9223372036854, "9223372036854", 9223372036854),
    ],
)
def test_a_cost_is_written_exactly_and_shown_as_an_int_where_it_is_whole(
    service: JobService, given_cost: Any, written: str, shown: Any
) -> None:
    row = service.complete_row(ROW, cost_cents=given_cost)
    assert f'"cost_cents":{written},' in last_line(service)
    for cost in (row.cost_cents, service.get_rows(JOB)[0].cost_cents, total(service)):
        assert (cost, type(cost)) == (shown, type(shown))


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(-1, id="negative"),
        pytest.param(-0.01, id="negative float"),
        pytest.param(float("nan"), id="nan"),
        pytest.param(float("inf"), id="inf"),
        pytest.param(Decimal("sNaN"), id="signalling nan"),
        pytest.param(Decimal("Infinity"), id="decimal infinity"),
        pytest.param(Decimal("9000000000000.000001"), id="more digits than a double has"),
        pytest.param(True, id="bool"),
        pytest.param("5", id="text"),
        pytest.param([5], id="list"),
        pytest.param(9223372036855, id="over 2**63 millionths"),
        pytest.param(10**5000, id="10**5000"),
    ],
)
def test_another_cost_is_refused_and_changes_nothing(service: JobService, bad: Any) -> None:
    before = last_line(service)
    with pytest.raises(InvalidValueError, match="cost_cents: must "):
        service.complete_row(ROW, cost_cents=bad)
    assert (last_line(service), total(service)) == (before, 0)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param([1], id="list"),
        pytest.param({"a": -1}, id="negative"),
        pytest.param({"a": True}, id="bool"),
        pytest.param({"a": "1"}, id="text"),
        pytest.param({"a": float("nan")}, id="nan"),
        pytest.param({"a": float("inf")}, id="inf"),
        pytest.param({"a": Decimal(1)}, id="decimal"),
        pytest.param({"a": 2**63}, id="2**63"),
        pytest.param({1: 1}, id="a name that is no text"),
        pytest.param({"\ud800": 1}, id="a name that UTF-8 can't hold"),
    ],
)
def test_another_usage_is_refused_and_changes_nothing(service: JobService, bad: Any) -> None:
    before = last_line(service)
    with pytest.raises(InvalidValueError, match="usage"):
        service.complete_row(ROW, usage=bad)
    assert (last_line(service), usage(service)) == (before, {})


def test_a_job_has_at_most_100_names_of_usage(service: JobService) -> None:
    service.complete_row(ROW, usage=dict.fromkeys(map(str, range(100)), 1))
    with pytest.raises(InvalidValueError, match="more than 100 names"):
        service.complete_row(f"{JOB}:2", usage={"100": 1})
    service.complete_row(f"{JOB}:2", usage={"99": 1})
    assert usage(service)["99"] == 2


def test_a_change_that_is_undone_has_cost_nothing(service: JobService) -> None:
    service.complete_row(ROW, cost_cents=0.5, usage={"tokens": 7})
    with suppress(ZeroDivisionError), service.batch(JOB):
        service.complete_row(f"{JOB}:2", cost_cents=0.25, usage={"tokens": 5, "calls": 1})
        assert total(service) == 0.75
        raise ZeroDivisionError
    assert (total(service), usage(service)) == (0.5, {"tokens": 7})


def test_a_job_handed_out_keeps_its_usage_while_the_sums_grow(service: JobService) -> None:
    service.complete_row(ROW, usage={"tokens": 7})
    before = usage(service)
    before["calls"] = 1
    service.complete_row(f"{JOB}:2", usage={"tokens": 5})
    assert (before, usage(service)) == ({"tokens": 7, "calls": 1}, {"tokens": 12})


def test_20_000_costs_of_6_hundredths_of_a_cent_sum_exactly(tmp_path: Path) -> None:
    rows = 20_000
    with JobService(tmp_path) as service:
        service.create_job("Calls", job_id=JOB, row_data=[{"data": {}}] * rows)
        with service.batch(JOB):
            for number in range(1, rows + 1):
                service.complete_row(f"{JOB}:{number}", cost_cents=0.06, usage={"tokens": 3})
        assert total(service) == 1200
    for with_hint in (True, False):
        if not with_hint:
            (tmp_path / JOB / HINT_NAME).unlink()
        with JobService(tmp_path) as service:
            cost = total(service)
            assert (cost, type(cost), usage(service)) == (1200, int, {"tokens": 60_000})


def attempts_of(service: JobService, seed: int, costs: list[Decimal]) -> Counter[str]:
    """One attempt for each cost, each with a random outcome. Returns the usage of all."""
    chance, used = random.Random(seed), Counter[str]()
    for cost in costs:
        row = f"{JOB}:{chance.randint(1, 9)}"
        found = service.get_row(row)
        assert found is not None
        if found.status in ("completed", "skipped"):
            service.redo_row(row)
        elif found.status == "needs_review":
            service.retry_row(row)
        service.start_row(row)
        number = chance.randint(0, 3)
        used["calls"] += number
        spent: dict[str, Any] = {
            "cost_cents": chance.choice([cost, float(cost)]),
            "usage": {"calls": number} if number else None,
        }
        match chance.choice(["completed", "failed", "again", "review", "skipped"]):
            case "completed":
                service.complete_row(row, **spent)
            case "failed":
                service.fail_row(row, "E", "no", **spent)
            case "again":
                try_again(service, row, "E", "busy", **spent)
            case "review":
                service.review_row(row, "E", "unsure", **spent)
            case "skipped":
                service.skip_row(row, **spent)
    return used


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    costs=st.lists(
        st.decimals(0, 10**6, places=6) | st.integers(0, 10**9).map(lambda n: n * MILLIONTH),
        max_size=30,
    ),
)
@example(seed=0, costs=[Decimal("1.005")] * 20)  # as a float, a bit less
def test_the_total_is_the_decimal_sum_live_and_after_reopening_with_and_without_hint(
    tmp_path_factory: pytest.TempPathFactory, seed: int, costs: list[Decimal]
) -> None:
    root = tmp_path_factory.mktemp("jobs")
    expected = float(sum(costs, Decimal(0)))
    with JobService(root) as service:
        # Padding, so that a hint is written when the service is closed.
        rows = [{"data": {"n": n, "pad": "x" * 40_000}} for n in range(9)]
        service.create_job("Calls", job_id=JOB, row_data=rows)
        used = {name: count for name, count in attempts_of(service, seed, costs).items() if count}
        assert (total(service), usage(service)) == (expected, used)
    assert (root / JOB / HINT_NAME).exists()
    for with_hint in (True, False):
        if not with_hint:
            (root / JOB / HINT_NAME).unlink()
        with JobService(root) as service:
            assert (total(service), usage(service)) == (expected, used)

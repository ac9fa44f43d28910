"""What bounds a run, by itself: rates, halts, backoff, and what is refused."""

import inspect
from typing import Any, get_type_hints

import msgspec
import pytest

from journal import InvalidValueError, JobRun
from journal.run.pacing.early_end import Halt
from journal.run.pacing.limits import Limits
from journal.run.pacing.rates import Rate
from journal.run.pacing.retries import backoff_s


def counts(succeeded: int, failed: int) -> dict[str, int]:
    skipped = succeeded // 2  # no failure either
    return {"started": 99, "completed": succeeded - skipped, "failed": failed, "skipped": skipped}


@pytest.mark.parametrize(
    ("given", "succeeded", "failed", "reason"),
    [
        ("50%", 0, 49, None),  # of few rows a percentage says nothing
        ("20%", 40, 10, "10 of 50 rows have failed, 20 % or more"),
        ("now,20%", 41, 10, None),
    ],
)
def test_a_run_gives_up_when_its_halt_says_so(
    given: Any, succeeded: int, failed: int, reason: str | None
) -> None:
    halt = Halt.parse(given)
    assert halt is not None
    assert halt.now == str(given).startswith("now")
    assert halt.reason(counts(succeeded, failed)) == reason


@pytest.mark.parametrize(
    ("given", "ended", "reason"),
    [
        (3, "ffsff", None),
        ("now,3", "ffsfff", "the last 3 rows have failed"),
        ("soon,1", "sf", "the last 1 row has failed"),
    ],
)
def test_a_run_halts_when_the_last_rows_say_so(given: Any, ended: str, reason: str | None) -> None:
    halt = Halt.parse(given)
    assert halt is not None
    for ticket, row in enumerate(ended, 1):
        halt.hear(ticket, failed=row == "f")
    assert halt.reason({}) == reason


def test_a_success_that_began_before_the_failures_in_a_row_does_not_end_them() -> None:
    halt = Halt.parse(2)
    assert halt is not None
    halt.hear(5, failed=True)
    halt.hear(4, failed=False)
    assert halt.reason({}) is None
    halt.hear(7, failed=True)
    assert halt.reason({}) == "the last 2 rows have failed"
    halt.hear(6, failed=False)
    assert halt.reason({}) is None
    halt.hear(3, failed=True)  # it began before a success
    assert halt.reason({}) is None
    halt.hear(9, failed=False)
    halt.hear(2, failed=False)
    halt.hear(8, failed=True)  # it began before the success of a later attempt
    halt.hear(10, failed=True)
    assert halt.reason({}) is None


def test_a_run_that_never_halts_has_no_halt() -> None:
    assert Halt.parse("never") is None


def test_a_rate_spreads_its_starts_and_saves_up_no_more_than_a_moment() -> None:
    rate = Rate.parse("10/s")
    assert rate.allowed(100.0) == 1
    rate.use(1)
    assert rate.wait_s == pytest.approx(0.1)
    assert rate.allowed(100.05) == 0
    assert rate.allowed(100.11) == 1
    rate.use(1)
    assert rate.allowed(200.0) == 1


def test_a_high_rate_lets_rows_of_one_moment_start_together() -> None:
    rate = Rate.parse("60000/m")
    assert rate.allowed(5.0) == 1
    assert 20 <= rate.allowed(5.02) <= 21
    assert rate.allowed(99.0) == 50


def test_a_rate_that_follows_one_that_has_just_burst_or_none_allows_no_more_than_a_first_one() -> (
    None
):
    former, rate = Rate.parse("1000/s"), Rate.parse("1/m")
    assert former.allowed(5.0) == 1
    assert former.allowed(9.0) == 50
    rate.follow(former)
    assert rate.allowed(9.0) == 1
    rate.follow(None)
    assert rate.allowed(9.0) == 1


def test_a_wait_doubles_up_to_its_bound_and_is_the_same_only_for_calls_of_many_rows() -> None:
    limits = Limits(backoff_s=1.0, max_backoff_s=5.0)
    of_batches = Limits(backoff_s=1.0, max_backoff_s=5.0, batch=50)
    for attempts, longest in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (10_000, 5.0)):
        waits = {backoff_s(attempts, limits) for _ in range(50)}
        assert len(waits) > 1
        assert longest / 2 <= min(waits) <= max(waits) <= longest
        assert backoff_s(attempts, of_batches) == longest


@pytest.mark.parametrize(
    "given",
    [
        *(
            {"halt": value}
            for value in ("", "fail=1", "soon", "0", "101%", "later,1", 0, True, 1.5)
        ),
        *({"rate": text} for text in ("", "0/s", "5", "5/d", "-1/s", "x/s", 5, "9" * 400 + "/s")),
        *({"rate": given} for given in ({1: "5/s"}, {"": "5/s"}, {"rows": "5"})),
        *({"estimate": given} for given in (len, {"tokens": 5})),
        *({"max_attempts": value} for value in (0, -1, 1.5, True, None)),
        *({"timeout_s": value} for value in (0, -1, float("nan"), float("inf"), "1")),
        *({"backoff_s": value} for value in (-1, float("nan"), True)),
        {"max_backoff_s": -1},
        *({"max_cost_cents": value} for value in (-1, float("nan"), True, "5")),
        {"max_rows": 0},
        *({"limit_per": it} for it in (2, "a=2", ["a"], {1: 2}, {}, {"a": 1, "b": 1})),
        *({"limit_per": {"zip": number}} for number in (0, -1, 1.5, True, None, "2")),
    ],
    ids=str,
)
def test_a_limit_that_can_not_be_is_refused_by_its_name(given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(InvalidValueError) as caught:
        Limits(**given)
    assert caught.value.where.partition("[")[0] == name


def test_each_limit_is_an_argument_of_run_with_the_same_type_and_default() -> None:
    arguments, types = (
        inspect.signature(JobRun.run, eval_str=True).parameters,
        get_type_hints(Limits),
    )
    for field in msgspec.structs.fields(Limits):
        assert arguments[field.name].default == field.default, field.name
        if types[field.name] is not Any:  # which a field has that is normalized
            assert arguments[field.name].annotation == types[field.name], field.name

"""Wrong arguments from Python: each is refused before anything is written, and says what to write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from inspect import isawaitable
from pathlib import Path
from typing import Any

import pytest

import journal
from journal import InvalidValueError

ROWS = [{"order": f"A-{number}", "zip": str(90000 + number)} for number in range(1, 4)]


def plain(_row: Any) -> None: ...


def generator(_row: Any) -> Iterator[int]:
    yield 1


async def coroutine(_row: Any) -> int:
    return 1


async def async_generator(_row: Any) -> AsyncIterator[int]:
    yield 1


class Callable_:  # noqa: N801
    def __call__(self, _row: Any) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    ("handler", "options", "words"),
    [
        (None, {}, "give the function itself, and not what it returns"),
        ("ship", {}, "handler: must be a function that takes a row (got 'ship')"),
        (lambda: 1, {}, "must be a function that takes a row as its only argument"),
        (lambda a, b: a + b, {}, "missing a required argument: 'b'"),
        (generator, {}, "is a generator: use return instead of yield"),
        (async_generator, {}, "is a generator: use return instead of yield"),
        (Callable_(), {}, "is a generator: use return instead of yield"),
        (plain, {"workers": "8"}, "workers: must be an int from 1"),
        *((plain, {"workers": n}, "workers: must be an int from 1") for n in (0, -1, 1.5, True)),
        *(
            (plain, {"executor": given}, "executor: must be an Executor, or a function")
            for given in ("8", 3.5, lambda: 3)
        ),
        *((plain, {"batch": size}, "batch: must be") for size in (0, -1, True, "50")),
        (plain, {"retry_on": 500}, 'write "500", if that is the error code'),
        (plain, {"limit_per": {"zip": 0}}, "limit_per['zip']: must be an int from 1 (got 0)"),
        (plain, {"limit_per": "zip"}, "such as {'carrier': 2} (got 'zip')"),
        (plain, {"rate": 5}, "must be a number above 0 and /s, /m or /h: 5/s"),
        (plain, {"timeout_s": "5"}, "timeout_s: must be seconds, above 0"),
        (plain, {"where": "zip=1"}, "where: must be a function of a row"),
        (plain, {"tell": "x"}, "tell: must be a function, or be left out (got 'x')"),
        (plain, {"on_progress": True}, "on_progress: must be a function, or be left out"),
    ],
)
def test_a_run_refuses_wrong_arguments_before_any_row_is_started(
    handler: Any, options: dict[str, Any], words: str, path: Path
) -> None:
    with journal.open_job(path, ROWS) as job:
        with pytest.raises(InvalidValueError) as refused:
            job.run(handler, **options)
        assert words in str(refused.value)
        assert {row.attempts for row in job.rows()} == {0}
        assert (job.status, job.service.run_holder("j")) == ("pending", None)


def test_a_number_in_the_place_of_the_executor_says_what_to_write(path: Path) -> None:
    with journal.open_job(path, ROWS) as job, pytest.raises(TypeError, match="write workers=8"):
        job.run(plain, 8)  # type: ignore[arg-type]


def test_a_coroutine_function_that_is_run_in_an_event_loop_is_told_of_arun(path: Path) -> None:
    async def main() -> None:
        await job.run(coroutine)  # type: ignore[misc]

    with journal.open_job(path, ROWS) as job:
        with pytest.raises(InvalidValueError, match=r"write `await job\.arun\(handler\)`"):
            asyncio.run(main())
        assert {row.attempts for row in job.rows()} == {0}


def test_a_framework_that_awaits_what_is_awaitable_takes_a_report_as_it_is(path: Path) -> None:
    with journal.open_job(path, ROWS) as job:
        assert not isawaitable(job.run(plain))


def test_errors_that_are_named_with_one_attempt_are_warned_of(path: Path) -> None:
    said: list[str] = []
    with journal.open_job(path, ROWS) as job:
        job.run(plain, retry_on=("503", TimeoutError), tell=said.append, max_rows=1)
        warning = "retry_on has no effect with one attempt: add max_attempts=3"
        assert said[0] == warning
        for options in ({"max_attempts": 2}, {"retry_on": TimeoutError}):
            given: dict[str, Any] = {"retry_on": ("503",), **options}
            job.run(plain, tell=said.append, max_rows=1, **given)
        assert said.count(warning) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rows": "in.csv"}, "read the file by journal.read_rows(path) (got 'in.csv')"),
        ({"rows": Path("in.csv")}, "read the file by journal.read_rows(path)"),
        ({"rows": {"order": 1}}, "is one dict: give a list with a dict for each row"),
        ({"rows": lambda: ROWS}, "must be an iterable of dicts"),
        ({"rows": async_generator(None)}, "must be an iterable of dicts"),
        ({"rows": 5}, "must be an iterable of dicts"),
        ({"rows": ["a"]}, "input row 1: must be a dict, a row's data"),
        ({"key": "ordr"}, "it has no 'ordr', which is the key; did you mean 'order'?"),
        ({"key": ("order", "zpi")}, "it has no 'zpi', which is the key; did you mean 'zip'?"),
        ({"key": ["order"]}, "write a tuple"),
        ({"key": ()}, "must be the name of a column, a tuple of columns, or a function"),
        ({"idempotency_key": ("order", "zip")}, "write lambda data: "),
        ({"argv": "python ship.py"}, "argv: must be a list of words"),
        ({"argv": ["python", 5]}, "argv: must be text"),
        ({"on_changed": True}, "must be one of error, retry, redo, ignore"),
        ({"on_gone": "delete"}, "must be one of keep, skip, error"),
        ({"path": 5}, "path: must be the path of a job, such as 'jobs/ship-ca' (got 5)"),
        ({"path": ""}, "path: must be the path of a job"),
    ],
)
def test_open_job_refuses_wrong_arguments_and_makes_nothing(
    arguments: dict[str, Any], words: str, path: Path
) -> None:
    given: dict[str, Any] = {"path": path, "rows": ROWS} | arguments
    with pytest.raises(InvalidValueError) as refused:
        journal.open_job(**given)
    assert words in str(refused.value)
    assert not path.exists()


def test_a_job_inside_of_a_job_is_refused(path: Path) -> None:
    journal.open_job(path, ROWS).close()
    with pytest.raises(InvalidValueError, match="jobs lie side by side"):
        journal.open_job(path / "inner", ROWS)


def test_a_result_that_is_a_coroutine_says_what_was_forgotten(path: Path) -> None:
    made: list[Any] = []

    def forgotten(row: Any) -> Any:
        made.append(coroutine(row))
        return made[-1]

    with journal.open_job(path, ROWS) as job:
        job.run(forgotten)
        (message, *_) = [row.error_message for row in job.rows()]
    for each in made:
        each.close()
    assert message is not None
    assert "is a coroutine that nobody has awaited" in message


def test_a_tuple_of_columns_is_a_key(path: Path) -> None:
    rows = [{"order": "A", "item": 1}, {"order": "A", "item": 2}, {"order": "", "item": 3}]
    with journal.open_job(path, rows, key=("order", "item")) as job:
        assert job.run(lambda row: row.data["item"], tell=str).exit_code == 0
    changed = [{"order": "B", "item": 1}, *reversed(rows)]
    with journal.open_job(path, changed, key=("order", "item")) as job:
        assert (job.matched.added, job.matched.changed, job.matched.gone) == (1, 0, 0)
    zeros: list[dict[str, Any]] = [{"order": 0, "item": 0}, {"order": False, "item": 0.0}]
    with journal.open_job(path.with_name("zeros"), zeros, key=("order", "item")) as job:
        assert job.matched.added == len(zeros)
    for wrong, words in ((rows[:1] * 2, "same key"), ([{"order": "", "item": None}], "is empty")):
        with pytest.raises(InvalidValueError, match=words):
            journal.open_job(path, wrong, key=("order", "item"))


JOB: Any = journal.JobRun  # for mypy, which refuses unknown keywords, too
OPEN_JOB: Any = journal.open_job
SERVICE: Any = journal.JobService
READ_ROWS: Any = journal.read_rows
HOLD: Any = journal.Hold
WAIT: Any = journal.Wait


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda job: JOB.run(job, plain, retries=3),
            "run() has no argument 'retries': write 'max_attempts', which counts the first attempt, too",
        ),
        (lambda job: JOB.run(job, plain, max_cost=9), "write 'max_cost_cents'"),
        (lambda job: JOB.run(job, plain, max_concurrency=9), "write 'workers'"),
        (lambda job: JOB.run(job, plain, on_error="stop"), "write 'halt'"),
        (lambda job: JOB.run(job, plain, rows=ROWS), "'rows' is an argument of open_job()"),
        (lambda job: JOB.run(job, plain, rate_limit=5), "write 'rate'"),
        (lambda job: JOB.run(job, plain, chunksize=5), "write 'batch'"),
        (lambda job: JOB.run(job, plain, delay=5), "write 'backoff_s'"),
        (lambda job: JOB.retry(job, key="A-1"), "write 'where'"),
        (lambda job: JOB.retry(job, code="E-ZIP"), "write 'error_code'"),
        (lambda _: OPEN_JOB("jobs/x", ROWS, on_vanished="skip"), "write 'on_gone'"),
        (lambda job: JOB.run(job, plain, worker=4), "did you mean 'workers'?"),
        (lambda job: JOB.run(job, plain, version="2"), "'version' is an argument of open_job()"),
        (lambda job: asyncio.run(JOB.arun(job, plain, timeout=4)), "did you mean 'timeout_s'?"),
        (lambda job: JOB.plan(job, x=1), "its arguments are retry_failed, where"),
        (lambda _: OPEN_JOB("jobs/x", ROWS, keys="x"), "did you mean 'key'?"),
        (lambda _: OPEN_JOB("jobs/x", ROWS, concurrency=4), "'workers' is an argument of run()"),
        (lambda _: SERVICE("jobs", synch="none"), "JobService() has no argument 'synch'"),
        (lambda _: READ_ROWS("a.csv", sep=";"), "write 'delimiter'"),
        (lambda job: JOB.rows(job, state="failed"), "did you mean 'status'?"),
        (lambda _: HOLD(after=5), "Hold() has no argument 'after': did you mean 'after_s'?"),
        (lambda _: WAIT(minutes=5), "Wait() has no argument 'minutes': its arguments are after_s,"),
    ],
)
def test_an_unknown_keyword_is_refused_with_the_right_one(
    call: Callable[[Any], object], words: str, path: Path
) -> None:
    with journal.open_job(path, ROWS) as job, pytest.raises(TypeError) as refused:
        call(job)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (
            lambda job: job.to_pandas(),
            "'JobRun' object has no attribute 'to_pandas': write job.rows()",
        ),
        (lambda job: job.total_cost_cents, ": write job.job.total_cost_cents"),
        (lambda job: job.get_steps("j:1"), ": write job.service.get_steps"),
        (lambda job: job.failures, ": write job.rows('failed')"),
        (lambda job: job.results, ": write job.rows('completed')"),
        (lambda job: job.nonsense, "'JobRun' object has no attribute 'nonsense'"),
        (
            lambda job: job.rows().to_df(),
            "'Rows' object has no attribute 'to_df': write rows.to_pandas()",
        ),
        (lambda job: job.retry("ValueError"), ": write error_code='ValueError'"),
        (lambda job: job.retry("failed"), ": write status='failed'"),
        (
            lambda job: [job.close(), job.rows()],
            "closed, as after a `with`: call journal.open_job again",
        ),
    ],
)
def test_what_is_no_member_of_an_open_job_is_refused_with_where_it_is(
    use: Callable[[Any], object], words: str, path: Path
) -> None:
    with (
        journal.open_job(path, ROWS) as job,
        pytest.raises((AttributeError, InvalidValueError, journal.ServiceClosedError)) as refused,
    ):
        use(job)
    assert words in str(refused.value)


def test_an_unknown_field_of_a_result_is_refused_with_the_known_ones(path: Path) -> None:
    result: Any = journal.RowResult
    with journal.open_job(path, ROWS) as job:
        job.run(lambda _row: result(cost=3))
        said = job.rows()[0].error_message
    assert said is not None
    assert said.startswith("Unexpected keyword argument 'cost' (RowResult has result, ")
    assert said.endswith(", cost_cents, usage)")

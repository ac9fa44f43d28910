"""``retry_on``: exception classes and error codes that allow another attempt."""

from pathlib import Path
from typing import Any

import pytest

import journal
from journal import Fail, InvalidValueError, JobRun


class Refused(ConnectionError):
    """An exception whose class a caller may not be able to import."""


@pytest.fixture
def job(tmp_path: Path) -> JobRun:
    return journal.open_job(tmp_path / "jobs" / "j", [{"n": 1}], argv=["again"])


def failing(error: Exception, row: Any) -> str:
    if row.attempts == 1:
        raise error
    return "second"


REPEATED = [
    pytest.param(Refused(), "Refused", id="the code is the name of the class"),
    pytest.param(Refused(), ("ValueError", "Refused"), id="one code of a tuple"),
    pytest.param(Refused(), (KeyError, "Refused"), id="a code beside a class"),
    pytest.param(Refused(), (ConnectionError, "Other"), id="a class stands for its subclasses"),
    pytest.param(Fail("RateLimited"), ("RateLimited",), id="a code of Fail"),
]


@pytest.mark.parametrize(("error", "retry_on"), REPEATED)
def test_a_failure_is_repeated_if_its_class_or_code_is_named(
    job: JobRun, error: Exception, retry_on: Any
) -> None:
    report = job.run(
        lambda row: failing(error, row), max_attempts=2, retry_on=retry_on, backoff_s=0
    )
    assert (report.completed, job.rows()[0].attempts, job.rows()[0].result) == (1, 2, "second")


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (Refused(), 3),
        (KeyError(), 3),
        (Fail("Malformed"), 3),
        (journal.Retry(after_s=0), 3),
        (ValueError(), 1),
    ],
    ids=["a subclass", "of a base class", "a code", "Retry", "no kind that is named"],
)
def test_only_failures_of_a_kind_that_is_named_are_repeated(
    job: JobRun, error: Exception, attempts: int
) -> None:
    def handler(_row: Any) -> None:
        raise error

    kinds: Any = {ConnectionError, LookupError, "Malformed"}
    report = job.run(handler, max_attempts=3, retry_on=kinds, backoff_s=0)
    assert (report.failed, job.rows()[0].attempts) == (1, attempts)


@pytest.mark.parametrize(
    ("retry_on", "instead"),
    [
        (429, 'write "429"'),
        ((TimeoutError, 429), 'write "429"'),
        (ValueError("x"), "write ValueError, the class"),
        ([TimeoutError, len], "raise journal.Fail"),
        (int, "an exception class"),
        ("", "an error code as text"),
        (None, "an exception class"),
    ],
)
def test_what_is_no_kind_of_failure_is_refused_with_what_to_write(
    job: JobRun, retry_on: Any, instead: str
) -> None:
    with pytest.raises(InvalidValueError, match=instead):
        job.run(lambda _row: 1, max_attempts=2, retry_on=retry_on)
    assert job.job.status == "pending"

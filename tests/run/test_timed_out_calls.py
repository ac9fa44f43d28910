"""A call that timed out, or whose connection broke, is not silently repeated."""

from __future__ import annotations

import http.client
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from support import commands
from support.runs import open_job

from journal import AttemptedRow, Batch, JobRow, JobRun
from journal.run.outcome import may_have_taken_effect

TAKEN = "; the call may have taken effect"


class APITimeoutError(Exception):
    """As clients name theirs, which derive from no error of Python's."""


class ConnectTimeout(APITimeoutError):
    """Nothing was sent."""


class Ring(Exception):
    """Raised from itself."""

    def __init__(self) -> None:
        super().__init__()
        self.__cause__ = self


def raised(error: Exception, cause: Exception | None = None, *, is_from: bool = False) -> Exception:
    """The error, as it is when it was raised while ``cause`` was handled, or from it."""
    try:
        try:
            raise cause or error
        except Exception as known:  # noqa: BLE001
            if is_from:
                raise error from (known if cause else None)
            raise error  # noqa: B904  (without "from", as requests does)
    except Exception as found:  # noqa: BLE001
        return found


def run(job: JobRun, handler: Callable[..., Any], **options: Any) -> list[tuple[Any, ...]]:
    job.run(handler, backoff_s=0, **options)
    return [(str(row.status), row.error_code, row.attempts) for row in job.rows()]


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        APITimeoutError(),
        subprocess.TimeoutExpired("curl", 5),
        http.client.RemoteDisconnected("no answer"),
        http.client.IncompleteRead(b"half an answer"),
        BrokenPipeError(),
        raised(ValueError(), TimeoutError(), is_from=True),
        raised(OSError(), ConnectionResetError()),
        raised(URLError(TimeoutError()), TimeoutError()),
        ExceptionGroup("of tasks", [ValueError(), TimeoutError()]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_says_by_class_name_cause_or_group_that_a_call_may_have_taken_effect(
    error: Exception,
) -> None:
    assert may_have_taken_effect(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        ConnectionRefusedError(),
        ConnectTimeout(),
        raised(OSError(), ConnectionRefusedError()),
        raised(ConnectTimeout(), TimeoutError(), is_from=True),
        raised(ValueError(), is_from=True),
        HTTPError("http://x", 503, "down", None, None),  # type: ignore[arg-type]
        Ring(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_before_the_call_or_of_an_answer_leaves_nothing_unknown(error: Exception) -> None:
    assert not may_have_taken_effect(error)


def plain(_row: JobRow) -> None:
    raise TimeoutError("slow")


async def asynchronous(_row: JobRow) -> None:
    raise TimeoutError("slow")


def returning(_rows: Batch) -> list[Any]:
    return [TimeoutError("slow")]


NEEDS_REVIEW = ("needs_review", "TimeoutError", 1)
TIMES_OUT = [(plain, {}), (asynchronous, {}), (plain, {"batch": 5}), (returning, {"batch": 5})]


@pytest.mark.parametrize(("handler", "options"), TIMES_OUT)
@pytest.mark.parametrize(
    ("policy", "retry_on", "expected"),
    [
        ("review", Exception, NEEDS_REVIEW),
        ("review", ValueError, NEEDS_REVIEW),
        ("review", TimeoutError, ("failed", "TimeoutError", 2)),
        ("review", (ValueError, OSError), ("failed", "TimeoutError", 2)),
        ("review", "TimeoutError", ("failed", "TimeoutError", 2)),
        ("retry", Exception, ("failed", "TimeoutError", 2)),
        ("retry", ValueError, ("failed", "TimeoutError", 1)),
        ("resume", Exception, ("failed", "TimeoutError", 2)),
        ("fail", Exception, ("failed", "TimeoutError", 1)),
    ],
)
def test_a_call_that_timed_out_is_repeated_only_if_the_author_says_that_this_does_no_harm(
    path: Path,
    handler: Callable[..., Any],
    options: Any,
    policy: Any,
    retry_on: Any,
    expected: tuple[Any, ...],
) -> None:
    with open_job(path, 1, on_interrupted=policy) as job:
        assert run(job, handler, max_attempts=2, retry_on=retry_on, **options) == [expected]
        (row,) = job.rows()
        is_unknown = expected[0] == "needs_review" or policy == "fail"
        assert row.error_message == "slow" + TAKEN * is_unknown
        assert row.unknown == (policy == "fail")


# --- steps


@pytest.mark.parametrize("policy", ["review", "resume"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_step_whose_call_timed_out_is_in_doubt(
    path: Path, policy: Any, *, is_async: bool
) -> None:
    asked: list[int] = []

    def send(row: AttemptedRow) -> None:
        asked.append(row.attempts)
        raise TimeoutError("slow")

    async def send_async(row: AttemptedRow) -> None:
        send(row)

    def handler(row: AttemptedRow) -> None:
        with suppress(TimeoutError):
            row.step("mail", send, row)
        row.step("mail", send, row)

    async def handler_async(row: AttemptedRow) -> None:
        await row.step("mail", send_async, row)

    with open_job(path, 1, on_interrupted=policy) as job:
        named = {"max_attempts": 3, "retry_on": OSError}
        rows = run(job, handler_async if is_async else handler, **named)
        assert rows == [("needs_review", "StepInDoubt", 1)]
        assert [step.state for step in job.service.get_steps("j:1")] == ["started"]
    assert asked == [1]


def test_an_idempotent_step_whose_call_timed_out_is_repeated_if_the_row_is(path: Path) -> None:
    def send(row: AttemptedRow) -> str:
        if row.attempts == 1:
            raise TimeoutError("slow")
        return "sent"

    with open_job(path, 1, on_interrupted="resume") as job:
        rows = run(job, lambda row: row.step("mail", send, row, idempotent=True), max_attempts=2)
    assert rows == [("completed", None, 2)]


# --- what a person does then


def test_a_retry_leaves_rows_whose_calls_timed_out_to_the_commands_of_show(path: Path) -> None:
    def type_(*words: str) -> str:
        return commands.journal("--root", str(path.parent), *words).stdout

    with open_job(path, 1) as job:
        run(job, plain)
    type_("retry", "j")
    shown = type_("show", "j")
    assert "TimeoutError (review)" in shown
    assert "resolve j --row 1 --completed" in shown
    assert "resolve j --row 1 --retry" in shown
    assert "journal retry" not in shown
    type_("resolve", "j", "--row", "1", "--retry")
    with open_job(path, 1) as job:
        assert run(job, lambda _row: None) == [("completed", None, 2)]


# --- real clients


@pytest.fixture(name="url")
def fixture_url() -> Iterator[Callable[[str], str]]:
    """``url(how)``: of a server that takes a request and then "hangs" or "breaks", or "refuses"."""
    servers: list[socket.socket] = []
    held: list[socket.socket] = []

    def take(server: socket.socket, how: str) -> None:
        with suppress(OSError):
            while True:
                taken, _ = server.accept()
                taken.recv(65536)
                if how == "breaks":
                    taken.close()
                held.append(taken)

    def url(how: str) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        port = server.getsockname()[1]
        if how == "refuses":
            server.close()
        else:
            servers.append(server)
            Thread(target=take, args=(server, how), daemon=True).start()
        return f"http://127.0.0.1:{port}/"

    yield url
    for each in (*servers, *held):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


@pytest.mark.parametrize("how", ["hangs", "breaks", "refuses"])
@pytest.mark.parametrize("client", ["urllib", "requests", "httpx"])
def test_calls_of_common_clients_are_repeated_only_if_the_service_was_never_reached(
    path: Path, url: Callable[[str], str], client: str, how: str
) -> None:
    module = pytest.importorskip(client)
    where, timeout_s = url(how), 0.1 if how == "hangs" else 60

    def handler(_row: JobRow) -> None:
        if client == "urllib":
            urlopen(where, b"{}", timeout=timeout_s)
        else:
            module.post(where, timeout=timeout_s)

    with open_job(path, 1) as job:
        ((status, _, attempts),) = run(job, handler, max_attempts=2)
    expected = ("failed", 2) if how == "refuses" else ("needs_review", 1)
    assert (status, attempts) == expected

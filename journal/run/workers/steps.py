"""Steps: side effects of a row, or of all rows of a call, that no later attempt repeats.

The call itself is recorded when its first step begins, or when the key of a step is requested.
"""

from __future__ import annotations

import errno
import functools
import inspect
import os
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import msgspec

from journal.errors import (
    InvalidValueError,
    JobLockedError,
    JournalError,
    ServiceClosedError,
    StepInDoubtError,
    StepRepeatedError,
    StorageError,
)
from journal.format.arguments import check_step_name
from journal.format.keys import step_key
from journal.format.values import as_json_value, read_back, repr_text
from journal.fs import system
from journal.model import LogEntry, RowStep
from journal.run.outcome import NeedsReview, code_and_message, may_have_taken_effect, text_of
from journal.run.signals import OwnProcess
from journal.service import JobService
from journal.store import calls
from journal.store.interrupted_rows import STEP_IN_DOUBT, STEP_NOT_RECORDED
from journal.store.journal import Journal
from journal.store.row_reader import position_of
from journal.store.steps import IS_REUSED, NAME_REUSED

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor


# --- records of steps, of a row or of a call with many rows


class Turn(NamedTuple):
    """A turn of a recorded call: see ``store/calls.py``."""

    id: Annotated[int, msgspec.Meta(ge=0)]
    number: int


# A call as text. The text has the turn, and ranges of rows with the number of their attempt.
_Ranges = Annotated[list[tuple[int, int, int]], msgspec.Meta(min_length=1)]
_Text = tuple[Turn | None, _Ranges]


class RowSteps(NamedTuple):
    """Records the steps of an attempt at a row. ``key_of_row``: the row's idempotency key."""

    row_id: str
    attempt: int
    key_of_row: str

    def key(self, _service: JobService, name: str) -> str:
        return step_key(self.key_of_row, name)

    def begin_step(self, service: JobService, name: str, **options: Any) -> RowStep | None:
        return service.begin_step(self.row_id, self.attempt, name, **options)

    def end_step(self, service: JobService, name: str, result: Any = None, **options: Any) -> Any:
        return service.end_step(self.row_id, self.attempt, name, result, **options)


class CallSteps:
    """Records the steps of a call with many rows. Threads may share this object.

    - ``job_id``: the job of the rows. ``attempts``: for each row, its number and the number of its
      attempt, in the order of the call.
    - ``turn``: None until the call is recorded.
    """

    def __init__(
        self, job_id: str, attempts: Sequence[tuple[int, int]], turn: Turn | None = None
    ) -> None:
        self.job_id, self.attempts, self.turn = job_id, attempts, turn
        self._first = threading.Lock()  # held while the call is recorded

    def __reduce__(self) -> tuple[Any, ...]:
        return CallSteps, (self.job_id, self.attempts, self.turn)

    def key(self, service: JobService, name: str) -> str:
        """The idempotency key of a step. Records the call."""
        turn, id_of_rows = self._change(service, lambda journal, _turn: journal.id_of_rows)
        return step_key(f"{id_of_rows}:call-{turn.id:016x}", name)

    def begin_step(self, service: JobService, name: str, **options: Any) -> RowStep | None:
        """Record that a step begins, like :meth:`JobService.begin_step`. Also records the call."""
        check_step_name(name)
        begin = calls.begin_step
        step: RowStep | None
        _, step = self._change(service, lambda log, turn: begin(log, *turn, name, **options))
        return step

    def end_step(self, service: JobService, name: str, result: Any = None, **options: Any) -> Any:
        """Record the end of a step, like :meth:`JobService.end_step`. ``result``: a JSON value."""
        rows = [row for row, _ in self.attempts]
        end, given = calls.end_step, (rows, name)
        _, other = self._change(
            service,
            lambda log, turn: end(log, *turn, *given, result=result, **options),
            is_end=True,
        )
        if other is not None:
            raise StepRepeatedError(
                f"{self.job_id}:{rows[0]}", name, other.attempt, self.attempts[0][1]
            )
        return None if result is None else read_back(result)

    def _change(
        self, service: JobService, change: Callable[[Journal, Turn], Any], *, is_end: bool = False
    ) -> tuple[Turn, Any]:
        """Record the call if it isn't recorded, and make a change, in one commit."""

        def change_of_call(journal: Journal) -> tuple[Turn, Any]:
            turn = self.turn or self._turn(journal)
            return turn, change(journal, turn)

        journal = service.store.journal(self.job_id)
        if journal.in_own_commit and not is_end:
            raise InvalidValueError("batch", self.job_id, "is open: end it before a step begins")
        if self.turn is not None:
            return journal.change(change_of_call)
        with self._first:
            turn, value = journal.change(change_of_call)
            self.turn = turn
        return turn, value

    def _turn(self, journal: Journal) -> Turn:
        """The first turn of the call.

        A command may have several processes. The first process that asks records the call. The
        other processes find the recorded call: it has these attempts in progress, and was never
        resumed.
        """
        known = calls.call_of_row(journal, self.attempts[0][0])
        if known is not None:
            columns, found = journal.index.columns, journal.index.calls[known.id]
            present = ((row, columns.attempts[position_of(journal, row)]) for row in known.open)
            if found.turn == found.first and set(present) <= set(self.attempts):
                return Turn(known.id, known.turn)
        call = calls.begin_call(journal, self.attempts)
        return Turn(call.id, call.turn)

    # --- as text, for the environment of a command

    def __str__(self) -> str:
        parts = list[list[int]]()
        for row, attempt in self.attempts:
            if parts and parts[-1][1:] == [row - 1, attempt]:
                parts[-1][1] = row
            else:
                parts.append([row, row, attempt])
        return msgspec.json.encode((self.turn, parts)).decode()

    @classmethod
    def from_text(cls, job_id: str, text: str) -> CallSteps:
        """Make the call from ``text``, which is the call's ``str``. Raises msgspec.DecodeError."""
        turn, parts = msgspec.json.decode(text, type=_Text)
        attempts = [(row, attempt) for a, b, attempt in parts for row in range(a, b + 1)]
        return cls(job_id, attempts, turn)


Value = TypeVar("Value")

_LOCKED_S = 0.01  # between two attempts to get the commit lock, after the lock's own timeout
_STEP_THREADS = 32  # steps that end at the same time share a commit


# --- threads that wait for the disk during a coroutine's step, instead of the loop


@cache
def _threads(_process_id: int) -> ThreadPoolExecutor:
    """The threads of this process. A forked process doesn't have the threads of its parent."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    return ThreadPoolExecutor(_STEP_THREADS, thread_name_prefix="journal-step")


async def in_thread(
    function: Callable[..., Value],
    *arguments: Any,
    if_cancelled: Callable[[Value], object] | None = None,
    **keywords: Any,
) -> Value:
    """In a thread, call a function that waits for the disk.

    Even a cancelled caller waits until the function has ended. Otherwise the records of a step
    could be written in the wrong order. If the caller is cancelled, ``if_cancelled`` is called with
    the function's value.
    """
    import asyncio  # noqa: PLC0415  (most runs need no event loop)

    def submit(call: Callable[[], Any]) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(_threads(os.getpid()), call)

    call = submit(functools.partial(function, *arguments, **keywords))
    try:
        value: Value = await asyncio.shield(call)
        return value
    except asyncio.CancelledError:
        await asyncio.wait([call])
        if if_cancelled is not None and call.exception() is None:
            await asyncio.wait([submit(functools.partial(if_cancelled, call.result()))])
        raise


def wait_for_lock(change: Callable[[], Value]) -> Value:
    """Record the end of a step, even if another process keeps the commit lock for a long time.

    The step has already happened or failed, so its end must be recorded.
    """
    while True:
        try:
            return change()
        except JobLockedError as error:
            if error.by_task:  # waiting would not help
                raise
            time.sleep(_LOCKED_S)


# --- steps of handlers


class StepStore:
    """The place where the steps of a run's rows are recorded. This object can be sent to other
    processes.

    In the process of the run, this object uses the run's own service. In another process, the
    worker opens the job, and keeps the job open. Such a worker must run on the machine that has the
    job's directory. On a network file system, the worker uses the run's claim.

    ``process``: the process in which an attempt that uses this object has begun. If that
    process forks later, the new process records no steps.
    """

    __slots__ = (
        "_boot_id",
        "_claim",
        "_host",
        "_job_id",
        "_options",
        "_root",
        "_service",
        "process",
    )

    def __init__(self, service: JobService, job_id: str) -> None:
        self._service: JobService | None = service
        self._job_id, self._claim = job_id, 0
        self._root = str(service.root)
        self._options: Any = {
            "sync": service.sync,
            "lock_timeout_s": service.lock_timeout_s,
        }
        self._host = system.host_name()
        self._boot_id = system.boot_id()
        self.process = system.process_id()

    def __getstate__(self) -> tuple[Any, ...]:
        return self._root, self._options, self._host, self._boot_id, self._job_id, self.claim()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._root, self._options, self._host, self._boot_id, self._job_id, self._claim = state
        self._service = None
        self.process = system.process_id()

    def claim(self) -> int:
        """The number of the run's claim, or 0 if the job is on a local file system."""
        if self._service is None:
            return self._claim
        claim = self._service.store.runs.claim(self._job_id)
        return 0 if claim is None else claim.number

    def service(self) -> JobService:
        """The service for this process.

        Raises ServiceClosedError in a process that was forked during an attempt. Raises
        StorageError if this process runs on a different machine than the run, or if the directory
        with the jobs is missing here.
        """
        if system.process_id() != self.process:
            raise ServiceClosedError("this row belongs to the process that forked this one")
        if self._service is None:
            self._check_machine()
            claim = (self._job_id, self._claim) if self._claim else None
            key = (os.getpid(), self._root, *self._options.values(), claim)
            opened = _opened.get(key)
            if opened is None:
                opened = JobService(self._root, **self._options)
                if claim is not None:
                    opened.store.runs.work_for(*claim)
            self._service = _opened.setdefault(key, opened)
        return self._service

    def _check_machine(self) -> None:
        here, there = system.boot_id(), self._boot_id
        if not (here and there):  # on Windows
            here, there = system.host_name(), self._host
        if here != there or not Path(self._root).is_dir():
            reason = (
                f"the job is on {self._host}, and this worker, on {system.host_name()}, can't "
                "write there: run handlers with steps on the machine that has the job"
            )
            raise StorageError(Path(self._root), "record a step in", errno.ENOTSUP, reason)


# The services that workers have opened, by process id, root, options and claim. A forked process
# has another process id, so it opens its own service.
_opened: dict[tuple[Any, ...], JobService] = {}


class HasSteps:
    """Base of the classes with steps: the row of an attempt, and the rows of a call.

    ``_begun``: steps of this attempt, without failed steps.
    """

    __slots__ = ()

    _begun: set[str]
    _store: StepStore

    def step(
        self,
        name: str,
        function: Callable[..., Any],
        /,
        *arguments: Any,
        idempotent: bool = False,
        **keywords: Any,
    ) -> Any:
        """Call ``function`` once, even over several attempts, and return its result.

        A step of a row belongs to this row. A step of a :class:`Batch` belongs to all of its rows.
        The start is on the disk before the function is called. The result is on the disk before
        this method returns. If the step ``name`` was done in an earlier attempt, the function isn't
        called, and the recorded result is returned. The result is stored as JSON, so a tuple is
        returned as a list.

        - If the process dies, or the function raises NeedsReview, the step is in doubt: nobody
          knows whether the step took effect. Two kinds of exceptions also leave the step in doubt.
          Exceptions of the first kind say that a call timed out or that its connection broke
          (:meth:`JobRun.run`). The second kind is a ``BaseException`` that is no ``Exception``,
          such as KeyboardInterrupt or asyncio.CancelledError. In a later attempt, the step in doubt
          raises :class:`NeedsReview`. `journal resolve --step` records what happened to the step.
        - If the function raises any other exception, the step has failed, and the exception is
          raised again. A later attempt may call the function again. So raise such an exception only
          if nothing has happened.
        - ``idempotent=True``: the function may be called again when the step is in doubt. The start
          of the step isn't recorded, which saves one of the step's two commits.
        - If ``function`` is a coroutine function, ``step`` returns an awaitable:
          ``await row.step("mail", send, order)``.

        Raises InvalidStateTransition if the attempt has ended. Raises ServiceClosedError in a
        process that was forked during the attempt. Raises StorageError in a worker on a machine
        without the job's directory. Within an attempt, only the name of a failed step may be used
        again. If the attempt uses another name again, InvalidValueError is raised, and the row
        needs a review.
        """
        if is_coroutine_function(function):
            return self._step_async(name, function, arguments, keywords, idempotent=idempotent)
        service = self._store.service()
        done, result = self._begin(service, name, idempotent=idempotent)
        if done:
            return result
        try:
            with OwnProcess():
                value = function(*arguments, **keywords)
        except BaseException as error:
            self._fail(service, name, error, idempotent)
            raise
        if inspect.isawaitable(value):  # such as a lambda that calls a coroutine function
            return self._finish(service, name, lambda: value, idempotent)
        return self._end(service, name, value)

    async def _step_async(
        self,
        name: str,
        function: Callable[..., Awaitable[Any]],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        *,
        idempotent: bool,
    ) -> Any:
        service = self._store.service()
        never_called = None if idempotent else functools.partial(self._never_called, service, name)
        done, result = await in_thread(
            self._begin, service, name, idempotent=idempotent, if_cancelled=never_called
        )
        if done:
            return result
        call = functools.partial(function, *arguments, **keywords)
        return await self._finish(service, name, call, idempotent)

    async def _finish(
        self, service: JobService, name: str, call: Callable[[], Awaitable[Any]], idempotent: bool
    ) -> Any:
        """Await the function of a step that has begun, and record the end of the step."""
        try:
            with OwnProcess():
                value = await call()
        except Exception as error:
            await in_thread(self._fail, service, name, error, idempotent)
            raise
        except BaseException as error:  # for example a cancellation, which isn't recorded
            self._fail(service, name, error, idempotent)
            raise
        return await in_thread(self._end, service, name, value)

    def _begin(self, service: JobService, name: str, *, idempotent: bool) -> tuple[bool, Any]:
        """Begin a step. Returns whether the step is already done, and the result of a done step."""
        if name in self._begun:
            self._will_need_review(NeedsReview(NAME_REUSED, f"{name!r} {IS_REUSED}"))
            raise InvalidValueError("name", name, IS_REUSED)
        logs = () if idempotent else self.take_logs()
        is_recorded = False
        try:
            done = self._steps.begin_step(service, name, idempotent=idempotent, logs=logs)
            is_recorded = done is None
        except StepInDoubtError as error:
            raise NeedsReview(STEP_IN_DOUBT, str(error)) from None
        finally:
            if not is_recorded:
                self._put_back(logs)
        self._begun.add(name)
        return (False, None) if done is None else (True, done.result)

    def _never_called(self, service: JobService, name: str, begun: tuple[bool, Any]) -> None:
        """Record a step as failed, because the attempt was cancelled before the function was
        called.
        """
        self._begun.discard(name)
        if not begun[0]:
            error = ("Cancelled", "the attempt was cancelled before the call")
            self._record_end(service, name, error=error)

    def _fail(self, service: JobService, name: str, error: BaseException, idempotent: bool) -> None:
        """Record that a step has failed, unless the error leaves it in doubt."""
        self._begun.discard(name)
        if not isinstance(error, Exception) or isinstance(error, NeedsReview):
            return
        if idempotent or not may_have_taken_effect(error):
            with OwnProcess():
                failure = code_and_message(error)
            self._record_end(service, name, error=failure)

    def _end(self, service: JobService, name: str, value: Any) -> Any:
        try:
            with OwnProcess():
                result = None if value is None else as_json_value(value, "result")
        except BaseException as error:  # a value's own code may raise anything
            raise self._not_recorded(name, value, error) from error
        try:
            return self._record_end(service, name, result)
        except JournalError as error:
            raise self._not_recorded(name, value, error) from error

    def _record_end(
        self,
        service: JobService,
        name: str,
        result: Any = None,
        error: tuple[str, str] | None = None,
    ) -> Any:
        logs = self.take_logs()
        end = functools.partial(self._steps.end_step, service, name, result, error=error, logs=logs)
        try:
            return wait_for_lock(end)
        except StepRepeatedError as repeated:  # the messages and the result are recorded
            raise NeedsReview("StepRepeated", str(repeated)) from None
        except BaseException:
            self._put_back(logs)
            raise

    def _not_recorded(self, name: str, value: object, error: BaseException) -> NeedsReview:
        """The exception for a step that is done, but has a result that can't be recorded."""
        review = NeedsReview(
            STEP_NOT_RECORDED,
            f"step {name!r} is done, but its result could not be recorded; the result of this "
            f"review is its repr: {text_of(error)}",
        )
        review.result = repr_text(value)
        self._will_need_review(review)
        return review

    # --- the differences between a row and a call

    @property
    def _steps(self) -> RowSteps | CallSteps:
        """Records the steps."""
        raise NotImplementedError

    def _will_need_review(self, review: NeedsReview) -> None:
        """Make the attempt end with a review, even if the handler catches this exception."""
        raise NotImplementedError

    def take_logs(self) -> tuple[LogEntry, ...]:
        """The messages for the next commit of this attempt.

        Several steps may run at the same time. Each message is returned to only one of the steps.
        """
        raise NotImplementedError

    def _put_back(self, logs: tuple[LogEntry, ...]) -> None:
        """Keep messages that could not be recorded."""
        raise NotImplementedError


def is_coroutine_function(function: Any) -> bool:
    return any(map(inspect.iscoroutinefunction, _forms(function)))


def is_generator_function(function: Any) -> bool:
    """Whether a call of the function only returns a generator, synchronous or asynchronous."""
    kinds = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(is_kind(form) for form in _forms(function) for is_kind in kinds)


def _forms(function: Any) -> tuple[Any, Any]:
    """Return the function that partials wrap, and the ``__call__`` method of that function."""
    while isinstance(function, functools.partial):
        function = function.func
    return function, getattr(function, "__call__", None)  # noqa: B004  (asks which kind it is)

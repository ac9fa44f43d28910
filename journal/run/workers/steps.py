"""Steps: side effects of a row, or of all rows of a call, that no later attempt repeats."""

from __future__ import annotations

import errno
import functools
import inspect
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from journal.errors import (
    InvalidValueError,
    JournalError,
    ServiceClosedError,
    StepInDoubtError,
    StepRepeatedError,
    StorageError,
)
from journal.format.conversion import repr_text
from journal.format.values import as_json_value
from journal.fs import system
from journal.model import LogEntry
from journal.run.outcome import NeedsReview, code_and_message, may_have_taken_effect, text_of
from journal.run.signals import OwnProcess
from journal.run.workers.step_records import CallSteps, RowSteps
from journal.run.workers.step_threads import in_thread, wait_for_lock
from journal.service import JobService
from journal.store.interrupted_rows import STEP_IN_DOUBT, STEP_NOT_RECORDED
from journal.store.steps import IS_REUSED, NAME_REUSED


class StepStore:
    """The place where the steps of a run's rows are recorded. It can be sent to other processes.

    In the process of the run, it uses the run's own service. A worker in another process opens the
    job itself, and keeps it open. Such a worker must run on the machine that has the job's
    directory. On a network file system, it uses the run's claim.

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
    """Base of what has steps: the row of an attempt, and the rows of a call.

    ``_begun``: steps of this attempt, except those that have failed.
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

        A step of a row stands for this row, a step of a :class:`Batch` for all of its rows.
        The start is on the disk before the function is called. The result is on the disk before
        this method returns. If the step ``name`` was done in an earlier attempt, the function isn't
        called, and the recorded result is returned. The result is stored as JSON, so a tuple is
        returned as a list.

        - If the process dies, or the function raises NeedsReview, the step is in doubt: nobody
          knows whether it took effect. The same is true for an exception that says that a call
          timed out or that its connection broke (:meth:`JobRun.run`), and for a ``BaseException``
          that is no ``Exception``, such as KeyboardInterrupt or asyncio.CancelledError. In a later
          attempt, this step raises :class:`NeedsReview`. `journal resolve --step` records what
          happened to the step.
        - If the function raises another exception, the step has failed, and the exception is raised
          again. A later attempt may call the function again. So raise such an exception only if
          nothing has happened.
        - ``idempotent=True``: the function may be called again when nobody knows whether it took
          effect. The start of the step isn't recorded, which saves one of the step's two commits.
        - If ``function`` is a coroutine function, ``step`` returns an awaitable:
          ``await row.step("mail", send, order)``.

        Raises InvalidStateTransition if the attempt has ended, ServiceClosedError in a process that
        was forked during the attempt, and StorageError in a worker on a machine that doesn't have
        the job's directory. Within an attempt, only the name of a failed step may be used again. If the
        attempt uses any other name again, InvalidValueError is raised, and the row needs a review.
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
        """Begin a step. Returns whether the step is already done, and if so, its result."""
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
        """Record a step as failed: the attempt was cancelled before the function was called."""
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

    # --- what a row and a call do each in its own way

    @property
    def _steps(self) -> RowSteps | CallSteps:
        """Records the steps."""
        raise NotImplementedError

    def _will_need_review(self, review: NeedsReview) -> None:
        """Make the attempt end with a review, even if the handler catches this exception."""
        raise NotImplementedError

    def take_logs(self) -> tuple[LogEntry, ...]:
        """The messages for the next commit of this attempt.

        Several steps may run at the same time. Each message is returned to only one of them.
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

"""All public exceptions of the package.

They form a tree. Each exit code is that of a command that ends with such an error::

    JournalError
        InvalidInputError   2   an argument, an input or a root can't be used
        RefusedError        4   what is there doesn't allow the change
        BusyError           5   another run or writer has the job: try again
        UnreadableError     6   damage, or a file of a newer version
        SystemFailureError  1   the system or the environment failed

Each exception has its values as attributes, and can be pickled. The message says what was wrong
with which value, and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath, getpid
from os.path import abspath, dirname

from journal.text import escaped

__all__ = [
    "AttemptEndedError",
    "BusyError",
    "CommitOutcomeUnknownError",
    "CopiesDivergedError",
    "FormatVersionError",
    "InvalidInputError",
    "InvalidStateTransition",
    "InvalidValueError",
    "JobBusyError",
    "JobExistsError",
    "JobLockedError",
    "JobMismatchError",
    "JobNotFoundError",
    "JobPrunedError",
    "JournalDamagedError",
    "JournalError",
    "MissingExtraError",
    "NothingToSalvageError",
    "PackError",
    "RefusedError",
    "RowChangedError",
    "RowNotFoundError",
    "ServiceClosedError",
    "StepInDoubtError",
    "StepRepeatedError",
    "StorageError",
    "StoreError",
    "SystemFailureError",
    "UnreadableError",
]


class JournalError(Exception):
    """Base class of all errors that this package raises on purpose.

    ``exit_code``: of a command that ends with this error.
    """

    exit_code = 1

    # The parameters of __init__, which are also attributes. Unpickling passes them to __init__.
    __match_args__: tuple[str, ...] = ()

    def __str__(self) -> str:
        return escaped(super().__str__(), keep="\n")  # a journal may hold any text

    def __reduce__(self) -> tuple[type[JournalError], tuple[object, ...]]:
        if not self.__match_args__:
            return type(self), self.args
        return type(self), tuple(getattr(self, name) for name in self.__match_args__)


class InvalidInputError(JournalError):
    """An argument, an input or a root can't be used as it is. Nothing was written."""

    exit_code = 2


class RefusedError(JournalError):
    """The jobs, rows or steps that are there don't allow the change. Nothing was changed."""

    exit_code = 4


class BusyError(JournalError):
    """Another run or writer has the job. Nothing was changed. The same call may succeed later."""

    exit_code = 5


class UnreadableError(JournalError):
    """A file is damaged, incomplete, or of a newer version of this package."""

    exit_code = 6


class SystemFailureError(JournalError):
    """The system refused a call, or the environment lacks something."""


class InvalidValueError(InvalidInputError, ValueError):
    """An argument is invalid. Nothing was written.

    Attributes: ``where`` (the argument, or a path in it such as ``row 3: data.price``), ``value``
    (the repr of the value, shortened), ``reason`` (what is wrong, and what would be right).
    """

    __match_args__ = ("where", "value", "reason")

    def __init__(self, where: str, value: object, reason: str) -> None:
        text = value if isinstance(value, _Repr) else _Repr(_short_repr(value))
        got = "" if text == "''" else f" (got {text})"
        super().__init__(f"{where}: {reason}{got}")
        self.where = where
        self.value = text
        self.reason = reason


class _Repr(str):
    """The repr of a value, as text.

    This class marks such text, so that unpickling an InvalidValueError doesn't apply ``repr``
    again.
    """

    __slots__ = ()


def _short_repr(value: object, limit: int = 80) -> str:
    if isinstance(value, (str, bytes)) and len(value) > limit:
        value = value[:limit]  # the repr of a 64 MiB string would take longer than the check
        return f"{value!r}..."
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  (a broken __repr__, or one that recurses too deep)
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[:limit] + "..."


class JobNotFoundError(RefusedError, LookupError):
    """The store has no job with this id. Attribute: ``job_id``."""

    __match_args__ = ("job_id",)

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id!r} here: `journal list` lists the jobs")
        self.job_id = job_id


class JobPrunedError(RefusedError):
    """The job was pruned, so its rows would be processed again. Nothing was changed.

    Attributes: ``job_id``, ``pruned_at`` (ISO 8601 text), ``pack`` (its path, or None if no pack
    was made), ``pack_is_there`` (bool), ``older_copy`` (a copy that was to be unpacked or pulled,
    and lacks commits of the pruned job; "" if the job was to be made).
    """

    __match_args__ = ("job_id", "pruned_at", "pack", "pack_is_there", "older_copy")

    def __init__(
        self,
        job_id: str,
        pruned_at: str,
        pack: str | None,
        pack_is_there: bool,
        older_copy: str = "",
    ) -> None:
        was = f"job {job_id!r} was pruned at {pruned_at}"
        back = "unpack the pack, or "
        if pack is None:
            was, back = f"{was} without a pack", ""
        elif pack_is_there:
            was = f"{was}; its pack is {pack}"
        else:
            was = f"{was}; its pack was {pack}, which is not there any more"
        if older_copy:
            why = f"{older_copy} lacks its last commits, so rows would be processed again"
            super().__init__(f"{was}: {why}; {back}first delete job {job_id!r} to use this copy")
        else:
            why = "a new job would process all of its rows again"
            super().__init__(f"{was}: {why}; {back}make it anew by --anew (in Python anew=True)")
        self.job_id = job_id
        self.pruned_at = pruned_at
        self.pack = pack
        self.pack_is_there = pack_is_there
        self.older_copy = older_copy


class RowNotFoundError(RefusedError, LookupError):
    """The job has no row with this number. Attribute: ``row_id`` (``JOB_ID:ROW_NUMBER``)."""

    __match_args__ = ("row_id",)

    def __init__(self, row_id: str) -> None:
        super().__init__(
            f"there is no row {row_id!r}: a row id is JOB_ID:ROW_NUMBER, and the job must have "
            "a row of that number"
        )
        self.row_id = row_id


class JobExistsError(RefusedError):
    """There is already a job with this id. That job was not changed. Attribute: ``job_id``."""

    __match_args__ = ("job_id",)

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id!r} exists already: use it, or choose another id")
        self.job_id = job_id


class InvalidStateTransition(RefusedError):
    """The status of a job or row doesn't allow the change. Nothing was changed.

    Attributes: ``current_state``, ``attempted_state`` (str), ``allowed_transitions`` (list of str),
    ``subject`` (the job or row), ``hint`` (what to do instead), ``refused`` (the refused change, if
    it isn't a change of the status). ``subject``, ``hint`` and ``refused`` may be "".
    """

    __match_args__ = (
        "current_state",
        "attempted_state",
        "allowed_transitions",
        "subject",
        "hint",
        "refused",
    )

    def __init__(
        self,
        current_state: str,
        attempted_state: str,
        allowed_transitions: Sequence[str],
        subject: str = "",
        hint: str = "",
        refused: str = "",
    ) -> None:
        self.current_state = str(current_state)
        self.attempted_state = str(attempted_state)
        self.allowed_transitions = [str(state) for state in allowed_transitions]
        self.subject = subject
        self.hint, self.refused = hint, refused
        allowed = ", ".join(self.allowed_transitions) or "none, it is final"
        said = (
            f"{subject} is {self.current_state!r}, so {refused}"
            if refused
            else f"{subject + ': ' if subject else ''}cannot go from {self.current_state!r} to "
            f"{self.attempted_state!r} (allowed: {allowed})"
        )
        super().__init__(f"{said}{'; ' + hint if hint else ''}")


class JobBusyError(BusyError):
    """Another run works on the job. Attributes: ``job_id``, ``host``, ``pid``, ``started_at``.

    ``started_at`` is ISO 8601 text, ``pid`` an int. If the other run has just taken the lock and
    hasn't recorded these values yet, ``pid`` is 0, and ``host`` and ``started_at`` are "".
    """

    __match_args__ = ("job_id", "host", "pid", "started_at")

    def __init__(self, job_id: str, host: str = "", pid: int = 0, started_at: str = "") -> None:
        holder = f"process {pid} on {host}, since {started_at}" if pid else "another process"
        what_to_do = "wait for it, or pause or end that run"
        if pid == getpid():
            from platform import node  # noqa: PLC0415  (importing it takes milliseconds)

            if host == node():  # on another machine, the number belongs to a different process
                holder = f"another run of this process, since {started_at}"
                what_to_do = "await or join it, or stop it by job.stop()"
        super().__init__(f"job {job_id!r} is being worked on by {holder}: {what_to_do}")
        self.job_id = job_id
        self.host = host
        self.pid = pid
        self.started_at = started_at


class JobLockedError(BusyError):
    """The commit lock could not be taken in time. Nothing was changed.

    Attributes: ``job_id``, ``timeout_s`` (how many seconds the call waited), ``by_task`` (bool).
    ``by_task`` means that another asyncio task of this thread has a batch open. The call doesn't
    wait for the other task, since waiting would block the thread, and so the other task, too.
    """

    __match_args__ = ("job_id", "timeout_s", "by_task")

    def __init__(self, job_id: str, timeout_s: float, by_task: bool = False) -> None:  # noqa: FBT002  (unpickling passes it by position)
        if by_task:
            message = (
                f"another asyncio task of this thread has a batch of {job_id!r} open, and this "
                "change would become a part of it: nothing was changed; end the batch before the "
                "next await, or make the change in the task that opened it"
            )
        else:
            message = (
                f"{job_id!r} stayed locked for {timeout_s:g} s: another process or thread holds a "
                "batch open or writes many rows; try again, or open the service with a larger "
                "lock_timeout_s"
            )
        super().__init__(message)
        self.job_id = job_id
        self.timeout_s = timeout_s
        self.by_task = by_task


class JobMismatchError(RefusedError):
    """The name of a directory isn't the id of the job whose journal the directory contains.

    Attributes: ``path`` (the directory), ``job_id`` (the id in the journal).
    """

    __match_args__ = ("path", "job_id")

    def __init__(self, path: str | PathLike[str], job_id: str) -> None:
        super().__init__(
            f"{fspath(path)} holds the journal of job {job_id!r}: row ids contain the job's id, so "
            f"the directory must be called {job_id!r}; rename it, or move the copy to another "
            "store"
        )
        self.path = fspath(path)
        self.job_id = job_id


class JournalDamagedError(UnreadableError):
    """The journal is damaged: its bytes have changed. The job can't be read or changed.

    Attributes: ``path`` (str); ``line`` (1-based) and ``offset`` (bytes), where the damage begins;
    ``expected`` and ``found`` (str); ``hint`` (what else can be done, or "").
    """

    __match_args__ = ("path", "line", "offset", "expected", "found", "hint")

    def __init__(
        self,
        path: str | PathLike[str],
        line: int,
        offset: int,
        expected: str,
        found: str,
        hint: str = "",
    ) -> None:
        from journal.fs import shell  # noqa: PLC0415  (`journal list` starts without it)

        name = fspath(path)
        job = shell.quote(abspath(dirname(name)))
        super().__init__(
            f"{name} is damaged at line {line} (byte {offset}): expected {expected}, found "
            f"{found}; nothing was changed: `journal verify {job}` lists all damage, `journal repair "
            f"{job}` salvages what is undamaged{'; ' + hint if hint else ''}"
        )
        self.path = name
        self.line = line
        self.offset = offset
        self.expected = expected
        self.found = found
        self.hint = hint


class NothingToSalvageError(JournalDamagedError):
    """A repair has found nothing to salvage in the journal. The journal was left unchanged.

    The attributes are those of :class:`JournalDamagedError`.
    """

    __match_args__ = ("path",)

    def __init__(self, path: str | PathLike[str]) -> None:
        super().__init__(path, 1, 0, "a commit", "nothing that could be salvaged")
        message = (
            f"there is nothing in {self.path} that could be salvaged; it was left unchanged: "
            "replace it with a copy from before the damage"
        )
        self.args = (message,)


class CopiesDivergedError(RefusedError):
    """Two copies of a job have diverged: each has commits that the other lacks.

    Nothing was changed.

    Attributes: ``job_id``; ``line`` (1-based) and ``offset`` (bytes), where the copies begin to
    differ.
    """

    exit_code = 3  # as for rows that need a person
    __match_args__ = ("job_id", "line", "offset")

    def __init__(self, job_id: str, line: int, offset: int) -> None:
        super().__init__(
            f"the copies of job {job_id!r} have diverged at line {line} (byte {offset}): both were "
            "changed since then; nothing was changed now: `journal compare` shows what each did, "
            "`journal pull --merge-outcomes` imports the changes that only the other copy made and "
            "lists the rows that both worked on"
        )
        self.job_id = job_id
        self.line = line
        self.offset = offset


class PackError(UnreadableError):
    """A file isn't a complete pack (an archive of a job). Nothing was unpacked.

    Attributes: ``path``, ``reason``.
    """

    __match_args__ = ("path", "reason")

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        super().__init__(
            f"{fspath(path)} is not a complete pack of a job: {reason}; nothing was unpacked"
        )
        self.path = fspath(path)
        self.reason = reason


class FormatVersionError(UnreadableError):
    """The journal was written by a newer version of this package. The journal was not changed.

    Attributes: ``path`` (str), ``what`` (the unknown format number or record type).
    """

    __match_args__ = ("path", "what")

    def __init__(self, path: str | PathLike[str], what: str) -> None:
        super().__init__(
            f"{fspath(path)} was written by a newer version of rowjournal ({what}): upgrade "
            "with `pip install -U rowjournal`"
        )
        self.path = fspath(path)
        self.what = what


class StorageError(SystemFailureError):
    """The system refused to read or write a file: the disk is full, a permission is missing, etc.

    If a commit raises this error, nothing was changed. Attributes: ``path`` (str), ``operation``
    (str), ``errno`` (int), ``reason`` (the system's message).
    """

    __match_args__ = ("path", "operation", "errno", "reason")

    def __init__(self, path: str | PathLike[str], operation: str, errno: int, reason: str) -> None:
        super().__init__(f"could not {operation} {fspath(path)}: {reason}")
        self.path = fspath(path)
        self.operation = operation
        self.errno = errno
        self.reason = reason


class CommitOutcomeUnknownError(SystemFailureError):
    """A commit was written, but the system could not confirm that it is on the disk.

    The commit may or may not survive a power cut. The commit is not retried. Before you repeat the
    change, read the job again. This read takes longer than usual, since it reads the whole file.

    The attributes are those of :class:`StorageError`. But this class isn't a subclass of
    StorageError, since StorageError means that nothing was changed.
    """

    __match_args__ = ("path", "operation", "errno", "reason")

    def __init__(self, path: str | PathLike[str], operation: str, errno: int, reason: str) -> None:
        super().__init__(
            f"could not {operation} {fspath(path)}: {reason}; whether the last change is on the "
            "disk is unknown: check the disk, then read the job again before repeating anything"
        )
        self.path = fspath(path)
        self.operation = operation
        self.errno = errno
        self.reason = reason


class StoreError(InvalidInputError):
    """The root directory can't be used as a store. Attributes: ``path`` (str), ``reason``."""

    __match_args__ = ("path", "reason")

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        super().__init__(f"{fspath(path)} cannot be used as a store of jobs: {reason}")
        self.path = fspath(path)
        self.reason = reason


class ServiceClosedError(RefusedError):
    """The service is closed, or a batch was used in a forked process. Attribute: ``reason``."""

    __match_args__ = ("reason",)

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RowChangedError(InvalidInputError):
    """A row in the input of a run differs from the row in the job. Nothing was changed.

    Attributes: ``row_id``, ``expected`` and ``found`` (the data, as JSON text), ``hint`` (what to
    do).
    """

    __match_args__ = ("row_id", "expected", "found", "hint")

    def __init__(self, row_id: str, expected: str, found: str, hint: str = "") -> None:
        hint = hint or (
            "restore the row, or choose what happens to it by on_changed (--on-changed): 'retry' or "
            "'ignore'"
        )
        super().__init__(
            f"row {row_id} has changed since the job was made: it was {expected} and is now "
            f"{found}; {hint}"
        )
        self.row_id = row_id
        self.expected = expected
        self.found = found
        self.hint = hint


class AttemptEndedError(RefusedError):
    """A step can't begin, because the attempt that asks for it has ended. Nothing was changed.

    The run of the attempt has ended or has given up the attempt. So the row already has an outcome,
    or another attempt works on it. Attributes: ``row_id``, ``attempt`` (the number of the attempt
    that asks), ``attempts`` (the number of the row's attempts now), ``status`` (the row's status
    now).
    """

    __match_args__ = ("row_id", "attempt", "attempts", "status")

    def __init__(self, row_id: str, attempt: int, attempts: int, status: str) -> None:
        self.row_id, self.attempt = row_id, attempt
        self.attempts, self.status = attempts, status
        now = f"attempt {attempts} is in progress" if attempts != attempt else f"it is {status}"
        super().__init__(
            f"attempt {attempt} at row {row_id} has ended, so it can't begin another step ({now}): "
            "stop this worker"
        )


RESULT_PLACEHOLDER = "RESULT_AS_JSON"  # not JSON, so a command that still contains it is refused


class StepInDoubtError(RefusedError):
    """A step began earlier, and nobody knows whether it took effect. Nothing was changed.

    Attributes: ``row_id``, ``step`` (the step's name), ``attempt`` (the attempt that began the
    step).
    """

    __match_args__ = ("row_id", "step", "attempt")

    def __init__(self, row_id: str, step: str, attempt: int) -> None:
        from journal.fs.shell import quote  # noqa: PLC0415  (reading a job doesn't need it)

        self.row_id, self.step, self.attempt = row_id, step, attempt
        job_id, _, number = row_id.rpartition(":")
        resolve = f"journal resolve {job_id} --row {number} --step {quote(step)}"
        super().__init__(
            f"step {step!r} of row {row_id} began in attempt {attempt}, and nobody knows whether "
            f"it took effect: find out, then type `{resolve} --result {RESULT_PLACEHOLDER}` if it "
            f"did, or `{resolve} --not-done`"
        )


class StepRepeatedError(RefusedError):
    """Two attempts have done the same step. One result counts, and the log has the other one.

    For example, the first attempt was given up, and its result came after the result of the second
    attempt. Or another copy of the job has also done the step. Attributes: ``row_id``, ``step``
    (the step's name), ``attempt`` (the attempt whose result counts), ``repeated_by`` (the attempt
    whose result is in the log).
    """

    __match_args__ = ("row_id", "step", "attempt", "repeated_by")

    def __init__(self, row_id: str, step: str, attempt: int, repeated_by: int) -> None:
        self.row_id, self.step = row_id, step
        self.attempt, self.repeated_by = attempt, repeated_by
        job_id, _, number = row_id.rpartition(":")
        super().__init__(
            f"step {step!r} of row {row_id} was done by attempt {attempt} and again by attempt "
            f"{repeated_by}: undo one of the two; `journal show {job_id} --row {number}` shows both"
        )


class MissingExtraError(SystemFailureError, ImportError):
    """A function needs a library that isn't installed.

    Attributes: ``purpose`` (what needs it), ``library``, ``extra`` (the extra that installs it).
    """

    __match_args__ = ("purpose", "library", "extra")

    def __init__(self, purpose: str, library: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs {library}, which isn't installed: pip install 'rowjournal[{extra}]'"
        )
        self.purpose = purpose
        self.library = library
        self.extra = extra

"""All public exceptions of the package.

The exceptions form a tree. The number beside an exception is the exit code of a command that ends
with it::

    JournalError
        InvalidInputError   2   an argument, an input or a root can't be used
        RefusedError        4   the jobs, rows or steps don't allow the change
        BusyError           5   another run or writer has the job: try again
        UnreadableError     6   damage, or a file of a newer version
        SystemFailureError  1   the system or the environment failed

Each exception has its values as attributes, and can be pickled. The message says what was wrong
with which value, and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from os import PathLike, fspath, getpid
from os.path import abspath, dirname
from typing import Any, ClassVar, dataclass_transform

from journal.text import escaped


class _Path:
    """The type of a path. The caller gives text or a Path. The attribute is text."""

    def __get__(self, error: object, owner: type) -> str:
        raise NotImplementedError  # never called: the value is in the error itself

    def __set__(self, error: object, value: str | PathLike[str]) -> None:
        raise NotImplementedError


@dataclass_transform()
class JournalError(Exception):
    """Base class of all errors that this package raises on purpose.

    ``exit_code``: the exit code of a command that ends with this error.

    A subclass declares its values as annotations, in the order of the arguments. The method
    ``_message`` of the subclass makes the message from these values. A ``path`` may be given as a
    Path, and is stored as text.
    """

    exit_code: ClassVar[int] = 1
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        setattr(cls, "__match_args__", (*cls.__match_args__, *cls.__annotations__))  # noqa: B010  (type checkers derive it themselves)

    def __init__(self, *args: Any, **values: Any) -> None:
        names = self.__match_args__
        values |= zip(names, args, strict=False)
        for name in names:
            value = values[name] if name in values else getattr(type(self), name)
            setattr(self, name, fspath(value) if name == "path" else value)
        super().__init__(*((self._message(),) if names else args))

    def _message(self) -> str:
        raise NotImplementedError

    def __str__(self) -> str:
        return escaped(super().__str__(), keep="\n")  # a journal may hold any text

    def __reduce__(self) -> tuple[type[JournalError], tuple[object, ...]]:
        names = self.__match_args__
        return type(self), tuple(getattr(self, name) for name in names) if names else self.args


class InvalidInputError(JournalError):
    """An argument, an input or a root can't be used as it is. Nothing was written."""

    exit_code = 2


class RefusedError(JournalError):
    """The existing jobs, rows or steps don't allow the change. Nothing was changed."""

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

    where: str
    value: object
    reason: str

    def _message(self) -> str:
        if not isinstance(self.value, _Repr):
            self.value = _Repr(_short_repr(self.value))
        got = "" if self.value == "''" else f" (got {self.value})"
        return f"{self.where}: {self.reason}{got}"


class _Repr(str):
    """The repr of a value, as text.

    This class marks such text, so that unpickling an InvalidValueError doesn't apply ``repr``
    again.
    """

    __slots__ = ()


_MAX_REPR = 80  # characters of a value in a message


def _short_repr(value: object) -> str:
    if isinstance(value, (str, bytes)) and len(value) > _MAX_REPR:
        value = value[:_MAX_REPR]  # the repr of a 64 MiB string would take longer than the check
        return f"{value!r}..."
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  (a broken __repr__, or one that recurses too deep)
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _MAX_REPR else text[:_MAX_REPR] + "..."


class JobNotFoundError(RefusedError, LookupError):
    """The store has no job with this id.

    Attributes: ``job_id``, ``shard`` (one of the set's shards if ``job_id`` is the id of a set,
    else "").
    """

    job_id: str
    shard: str = ""

    def _message(self) -> str:
        if self.shard:
            count = int(self.shard.rpartition("-")[2])
            return (
                f"{self.job_id!r} is a set of {count} shards: give the id of one shard, such as "
                f"{self.shard!r}; `journal shards {self.job_id}` lists the shards (in Python: "
                f"journal.sets.look_at_set(service, {self.job_id!r}))"
            )
        return f"there is no job {self.job_id!r} here: `journal list` lists the jobs"


class JobPrunedError(RefusedError):
    """The job was pruned, so this call would process its rows again. Nothing was changed.

    Attributes: ``job_id``, ``pruned_at`` (ISO 8601 text), ``pack`` (the pack's path, or None if no
    pack was made), ``older_copy`` (the copy that was to be unpacked or pulled, and lacks commits of
    the pruned job; "" if the call was to make a new job).
    """

    job_id: str
    pruned_at: str
    pack: str | None
    older_copy: str = ""

    def _message(self) -> str:
        was = f"job {self.job_id!r} was pruned at {self.pruned_at}"
        back = "unpack the pack, or "
        if self.pack is None:
            was, back = f"{was} without a pack", ""
        else:
            was = f"{was} into {self.pack}"
        if self.older_copy:
            why = f"{self.older_copy} lacks its last commits, so rows would be processed again"
            return f"{was}: {why}; {back}to use this copy, first type `journal delete {self.job_id}`, so that the job no longer counts as pruned"
        why = "a new job would process all of its rows again"
        return f"{was}: {why}; {back}make the job anew by --anew (in Python: anew=True)"


class JobPausedError(RefusedError):
    """A person has paused the job. No run starts until the job is resumed. Nothing was changed.

    Attributes: ``job_id``, ``paused_at`` (ISO 8601 text), ``person`` ("" if it isn't known).
    """

    job_id: str
    paused_at: str
    person: str = ""

    def _message(self) -> str:
        by = f" by {self.person}" if self.person else ""
        return (
            f"job {self.job_id!r} was paused{by} at {self.paused_at}, so no run starts: to end the "
            f"pause, `journal resume {self.job_id}` (in Python: service.resume_job({self.job_id!r}))"
        )


class RowNotFoundError(RefusedError, LookupError):
    """The job has no row with this number. Attribute: ``row_id`` (``JOB_ID:ROW_NUMBER``)."""

    row_id: str

    def _message(self) -> str:
        return (
            f"there is no row {self.row_id!r}: a row id is JOB_ID:ROW_NUMBER, and the job must "
            "have a row of that number"
        )


class JobExistsError(RefusedError):
    """There is already a job with this id. That job was not changed. Attribute: ``job_id``."""

    job_id: str

    def _message(self) -> str:
        return f"job {self.job_id!r} exists already: use it, or choose another id"


class InvalidStateTransition(RefusedError):
    """The status of a job or row doesn't allow the change. Nothing was changed.

    Attributes: ``current_state``, ``attempted_state`` (str), ``allowed_transitions`` (list of str),
    ``subject`` (the job or row), ``hint`` (what to do instead), ``refused`` (the refused change, or
    "" for a change of the status). ``subject`` and ``hint`` may be "".
    """

    current_state: str
    attempted_state: str
    allowed_transitions: Sequence[str]
    subject: str = ""
    hint: str = ""
    refused: str = ""

    def _message(self) -> str:
        self.current_state, self.attempted_state = (
            str(self.current_state),
            str(self.attempted_state),
        )
        self.allowed_transitions = [str(state) for state in self.allowed_transitions]
        allowed = ", ".join(self.allowed_transitions) or "none, it is final"
        said = (
            f"{self.subject} is {self.current_state!r}, so {self.refused}"
            if self.refused
            else f"{self.subject + ': ' if self.subject else ''}cannot go from "
            f"{self.current_state!r} to {self.attempted_state!r} (allowed: {allowed})"
        )
        return f"{said}{'; ' + self.hint if self.hint else ''}"


class JobBusyError(BusyError):
    """Another run works on the job. Attributes: ``job_id``, ``host``, ``pid``, ``started_at``.

    ``started_at`` is ISO 8601 text, ``pid`` an int. If the other run has just taken the lock and
    hasn't recorded these values yet, ``pid`` is 0, and ``host`` and ``started_at`` are "".
    """

    job_id: str
    host: str = ""
    pid: int = 0
    started_at: str = ""

    def _message(self) -> str:
        since = f", since {self.started_at}"
        holder = f"process {self.pid} on {self.host}{since}" if self.pid else "another process"
        what_to_do = "wait for it, or pause or end that run"
        if self.pid == getpid():
            from platform import node  # noqa: PLC0415  (importing it takes milliseconds)

            if self.host == node():  # on another host, this pid is another process
                holder = f"another run of this process{since}"
                what_to_do = "await or join it, or stop it by job.stop()"
        return f"job {self.job_id!r} is being worked on by {holder}: {what_to_do}"


class JobLockedError(BusyError):
    """The commit lock could not be taken in time. Nothing was changed.

    Attributes: ``job_id``, ``timeout_s`` (how many seconds the call waited), ``by_task`` (bool).
    ``by_task`` means that another asyncio task of this thread has a batch open. The call doesn't
    wait for the other task, because waiting would block the thread of both tasks.
    """

    job_id: str
    timeout_s: float
    by_task: bool = False

    def _message(self) -> str:
        if self.by_task:
            return (
                f"another asyncio task of this thread has a batch of {self.job_id!r} open, and "
                "this change would become a part of that batch: nothing was changed; end the batch before "
                "the next await, or make the change in the task that opened the batch"
            )
        return (
            f"{self.job_id!r} stayed locked for {self.timeout_s:g} s: another process or thread "
            "holds a batch open or writes many rows; try again, or open the service with a larger "
            "lock_timeout_s"
        )


class JobMismatchError(RefusedError):
    """The name of a directory isn't the id of the job whose journal the directory contains.

    Attributes: ``path`` (the directory), ``job_id`` (the id in the journal).
    """

    path: _Path
    job_id: str

    def _message(self) -> str:
        return (
            f"{self.path} holds the journal of job {self.job_id!r}: row ids contain the job's id, "
            f"so the directory must be called {self.job_id!r}; rename the directory, or move it to "
            "another store"
        )


# After a repair, a merge with the intact copy would count work twice.
INTACT_COPY = (
    "if an intact copy has all commits, use that copy (journal help damage) and don't repair; else"
)


class JournalDamagedError(UnreadableError):
    """The journal is damaged: its bytes have changed. The job can't be read or changed.

    Attributes: ``path`` (str); ``line`` (1-based) and ``offset`` (bytes), where the damage begins;
    ``expected`` and ``found`` (str); ``hint`` (what else can be done, or "").
    """

    path: _Path
    line: int
    offset: int
    expected: str
    found: str
    hint: str = ""

    def _message(self) -> str:
        from journal.fs import shell  # noqa: PLC0415  (`journal list` starts without it)

        job = shell.quote(abspath(dirname(self.path)))
        return (
            f"{self.path} is damaged at line {self.line} (byte {self.offset}): expected "
            f"{self.expected}, found {self.found}; nothing was changed: `journal verify {job}` "
            f"lists all damage; {INTACT_COPY}: `journal repair {job}` salvages what is undamaged"
            f"{'; ' + self.hint if self.hint else ''}"
        )


class CopiesDivergedError(RefusedError):
    """Two copies of a job have diverged: each has commits that the other lacks.

    Nothing was changed.

    Attributes: ``job_id``; ``line`` (1-based) and ``offset`` (bytes), where the copies begin to
    differ.
    """

    exit_code = 3  # as for rows that need a person

    job_id: str
    line: int
    offset: int

    def _message(self) -> str:
        return (
            f"the copies of job {self.job_id!r} have diverged at line {self.line} (byte "
            f"{self.offset}): both were changed after that point; this call changed nothing: `journal "
            "pull --dry-run` shows the rows; `journal pull --merge-outcomes` imports the changes "
            "that only the other copy has, and lists the rows that both copies worked on"
        )


class PackError(UnreadableError):
    """A file isn't a complete pack (an archive of a job). Nothing was unpacked.

    Attributes: ``path``, ``reason``.
    """

    path: _Path
    reason: str

    def _message(self) -> str:
        return f"{self.path} can't be unpacked: {self.reason}; nothing was unpacked"


class FormatVersionError(UnreadableError):
    """The journal was written by a newer version of this package. The journal was not changed.

    Attributes: ``path`` (str), ``what`` (the unknown format number or record type).
    """

    path: _Path
    what: str

    def _message(self) -> str:
        return (
            f"{self.path} was written by a newer version of rowjournal ({self.what}): upgrade "
            "with `pip install -U rowjournal`"
        )


class StorageError(SystemFailureError):
    """The system refused to read or write a file: the disk is full, a permission is missing, etc.

    If a commit raises this error, nothing was changed. Attributes: ``path`` (str), ``operation``
    (str), ``errno`` (int), ``reason`` (the system's message).
    """

    path: _Path
    operation: str
    errno: int
    reason: str

    def _message(self) -> str:
        return f"could not {self.operation} {self.path}: {self.reason}"


class CommitOutcomeUnknownError(SystemFailureError):
    """A commit was written, but the system could not confirm that it is on the disk.

    The commit may or may not survive a power cut. The commit is not retried. Before you repeat the
    change, read the job again. This read takes longer than usual, because it reads the whole file.

    The attributes are those of :class:`StorageError`. But this class isn't a subclass of
    StorageError, because StorageError means that nothing was changed.
    """

    path: _Path
    operation: str
    errno: int
    reason: str

    def _message(self) -> str:
        return (
            f"could not {self.operation} {self.path}: {self.reason}; nobody knows whether the last "
            "change is on the disk: check the disk, then read the job before you repeat the change"
        )


class ServiceClosedError(RefusedError):
    """The service is closed, or a batch was used in a forked process. Attribute: ``reason``."""

    reason: str

    def _message(self) -> str:
        return self.reason


class RowChangedError(InvalidInputError):
    """A row of the job differs in the input of a run, or is missing there. Nothing was changed.

    Attributes: ``row_id``, ``expected`` and ``found`` (the data in the job and in the input, as
    JSON text; ``found`` is "" if the row is missing), ``hint`` (what to do).
    """

    row_id: str
    expected: str
    found: str
    hint: str = ""

    def _message(self) -> str:
        self.hint = self.hint or (
            "later rows weren't compared; restore the row, or choose what happens to changed rows by "
            "on_changed (--on-changed): 'retry', 'redo' (runs completed rows again) or 'ignore'"
        )
        if not self.found:
            return (
                f"row {self.row_id} is no longer in the input: it was {self.expected}; {self.hint}"
            )
        return (
            f"row {self.row_id} has changed since the job was made: it was {self.expected} and is "
            f"now {self.found}; {self.hint}"
        )


RESULT_PLACEHOLDER = "RESULT_AS_JSON"  # not JSON, so a command that still contains it is refused


class StepInDoubtError(RefusedError):
    """A step began earlier, and nobody knows whether it took effect. Nothing was changed.

    Attributes: ``row_id``, ``step`` (the step's name), ``attempt`` (the attempt that began the
    step).
    """

    row_id: str
    step: str
    attempt: int

    def _message(self) -> str:
        from journal.fs.shell import quote  # noqa: PLC0415  (reading a job doesn't need it)

        job_id, _, number = self.row_id.rpartition(":")
        resolve = f"journal resolve {job_id} --row {number} --step {quote(self.step)}"
        return (
            f"step {self.step!r} of row {self.row_id} began in attempt {self.attempt}, and nobody "
            f"knows whether it took effect: find out, then type `{resolve} --result "
            f"{RESULT_PLACEHOLDER}` if it did, or `{resolve} --not-done`"
        )


class StepRepeatedError(RefusedError):
    """Two attempts have done the same step. The step keeps one result; the other is in the log.

    For example, the first attempt was given up, and its result came after the result of the second
    attempt. Or another copy of the job has also done the step. Attributes: ``row_id``, ``step``
    (the step's name), ``attempt`` (the attempt whose result the step keeps), ``repeated_by`` (the
    attempt whose result is in the log).
    """

    row_id: str
    step: str
    attempt: int
    repeated_by: int

    def _message(self) -> str:
        job_id, _, number = self.row_id.rpartition(":")
        return (
            f"step {self.step!r} of row {self.row_id} was done by attempt {self.attempt} and again "
            f"by attempt {self.repeated_by}: undo one of the two; `journal show {job_id} --row "
            f"{number}` shows both"
        )


class MissingExtraError(SystemFailureError, ImportError):
    """A function needs a library that isn't installed.

    Attributes: ``purpose`` (the function), ``library``, ``extra`` (the extra that installs the
    library).
    """

    purpose: str
    library: str
    extra: str

    def _message(self) -> str:
        return (
            f"{self.purpose} needs {self.library}, which isn't installed: "
            f"pip install 'rowjournal[{self.extra}]'"
        )


def load_extra(library: str, purpose: str, extra: str) -> Any:
    """Import a library that an extra of this package installs. Raises MissingExtraError."""
    try:
        return import_module(library)
    except ImportError:
        raise MissingExtraError(purpose, library, extra) from None

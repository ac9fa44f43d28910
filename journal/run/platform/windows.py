"""Processes on Windows.

A command leads a process group, and shares a job object with its children.
"""

from __future__ import annotations

import _winapi
import ctypes
import errno
import functools
import msvcrt
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from ctypes import wintypes
from typing import IO, Any

from journal.run.platform.batch_files import EXTENSIONS, batch_line

assert sys.platform == "win32"

MAX_STATUS = 0xFFFF_FFFF

Environment = dict[str, str]

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_CREATE_SUSPENDED = 0x4
_EXTENDED_LIMITS = 9  # JobObjectExtendedLimitInformation
_BREAKAWAY_OK = 0x800  # as on POSIX, a process may leave the job object on request
_KILL_ON_JOB_CLOSE = 0x2000
_CONTROL_C_EXIT = 0xC000013A  # STATUS_CONTROL_C_EXIT: a console event ended the process
_POLL_S = 0.1  # the maximum delay before the main thread handles a signal
_APPEND = 0x120194  # FILE_GENERIC_WRITE without FILE_WRITE_DATA, and FILE_READ_ATTRIBUTES
_STARTED = (".exe", ".com", *EXTENSIONS)
_MAX_LINE = 32_766  # characters ("CreateProcessW function")
_MAX_LINE_OF_CMD = 8_190
_LACKS = (8, 14, 1450, 1455)  # errors: no memory, or no system resources


class _BasicLimits(ctypes.Structure):
    _fields_ = (
        ("PerProcessUserTimeLimit", wintypes.LARGE_INTEGER),
        ("PerJobUserTimeLimit", wintypes.LARGE_INTEGER),
        ("LimitFlags", wintypes.DWORD),
        ("MinimumWorkingSetSize", ctypes.c_size_t),
        ("MaximumWorkingSetSize", ctypes.c_size_t),
        ("ActiveProcessLimit", wintypes.DWORD),
        ("Affinity", ctypes.c_size_t),
        ("PriorityClass", wintypes.DWORD),
        ("SchedulingClass", wintypes.DWORD),
    )


class _ExtendedLimits(ctypes.Structure):
    _fields_ = (
        ("BasicLimitInformation", _BasicLimits),
        ("IoInfo", ctypes.c_ulonglong * 6),
        ("ProcessMemoryLimit", ctypes.c_size_t),
        ("JobMemoryLimit", ctypes.c_size_t),
        ("PeakProcessMemoryUsed", ctypes.c_size_t),
        ("PeakJobMemoryUsed", ctypes.c_size_t),
    )


def _function(name: str, result: type, *arguments: type) -> Callable[..., int]:
    function: Any = getattr(_kernel32, name)
    function.restype, function.argtypes = result, arguments
    call: Callable[..., int] = function
    return call


_create_job = _function("CreateJobObjectW", wintypes.HANDLE, wintypes.LPVOID, wintypes.LPCWSTR)
_limit_job = _function(
    *("SetInformationJobObject", wintypes.BOOL, wintypes.HANDLE),
    *(ctypes.c_int, wintypes.LPVOID, wintypes.DWORD),
)
_assign = _function("AssignProcessToJobObject", wintypes.BOOL, wintypes.HANDLE, wintypes.HANDLE)
_end_job = _function("TerminateJobObject", wintypes.BOOL, wintypes.HANDLE, wintypes.UINT)
_resume = _function("ResumeThread", wintypes.DWORD, wintypes.HANDLE)
_send_event = _function("GenerateConsoleCtrlEvent", wintypes.BOOL, wintypes.DWORD, wintypes.DWORD)


def _checked(result: int) -> int:
    if not result:
        raise ctypes.WinError(ctypes.get_last_error())
    return result


class _Job:
    """A job object.

    When this process ends, the processes in the job object end, unless ``free`` was called.
    """

    def __init__(self, stack: ExitStack) -> None:
        """``stack`` closes the handle of the job object, unless ``keep`` was called before."""
        self.handle = _checked(_create_job(None, None))
        self._is_kept = False
        stack.callback(self._close_unless_kept)
        self._limit(_BREAKAWAY_OK | _KILL_ON_JOB_CLOSE)

    def keep(self) -> None:
        self._is_kept = True

    def _close_unless_kept(self) -> None:
        if not self._is_kept:
            _winapi.CloseHandle(self.handle)

    def _limit(self, flags: int) -> None:
        limits = _ExtendedLimits()
        limits.BasicLimitInformation.LimitFlags = flags
        size = ctypes.sizeof(limits)
        _checked(_limit_job(self.handle, _EXTENDED_LIMITS, ctypes.byref(limits), size))

    def end(self) -> None:
        _end_job(self.handle, _CONTROL_C_EXIT)

    def free(self) -> None:
        """From now on, the processes in the job object continue to run when this process ends."""
        self._limit(_BREAKAWAY_OK)
        _winapi.CloseHandle(self.handle)


class Process:
    """See :class:`journal.run.platform.posix.Process`."""

    def __init__(self, handle: int, process_id: int, job: _Job) -> None:
        self._handle, self._id, self._job = handle, process_id, job
        self._was_ended = False

    def wait(self) -> None:
        _winapi.WaitForSingleObject(self._handle, _winapi.INFINITE)

    def end(self, *, force: bool) -> None:
        self._was_ended = self._was_ended or not self._has_ended()
        # Without a console, the processes can't be asked to end.
        if force or not _send_event(signal.CTRL_BREAK_EVENT, self._id):
            self._job.end()

    def _has_ended(self) -> bool:
        return _winapi.WaitForSingleObject(self._handle, 0) == _winapi.WAIT_OBJECT_0

    def close(self) -> int:
        status = _winapi.GetExitCodeProcess(self._handle)
        if status == 0 and self._was_ended:
            # After Ctrl-Break, cmd may continue with the next line of a batch file. So the exit
            # status 0 doesn't prove that the work is done.
            status = _CONTROL_C_EXIT
        _winapi.CloseHandle(self._handle)
        self._job.free()
        return _signed(status)


def start(
    argv: Sequence[str],
    environment: Environment,
    *,
    stdin: IO[bytes] | int,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int,
) -> Process:
    program, line = command_line(argv)
    with ExitStack() as stack:
        outputs = [_inheritable(stream, stack, _APPEND) for stream in (stdout, stderr)]
        handles = [_inheritable(stdin, stack), *outputs]
        job = _Job(stack)
        process, thread, process_id, _ = _winapi.CreateProcess(
            program,
            line,
            None,
            None,
            True,  # the new process inherits only the handles in the list
            _CREATE_SUSPENDED | subprocess.CREATE_NEW_PROCESS_GROUP,
            environment,
            None,
            subprocess.STARTUPINFO(
                dwFlags=subprocess.STARTF_USESTDHANDLES,
                hStdInput=handles[0],
                hStdOutput=handles[1],
                hStdError=handles[2],
                lpAttributeList={"handle_list": handles},
            ),
        )
        stack.callback(_winapi.CloseHandle, thread)
        try:
            _checked(_assign(job.handle, process))
        except OSError:
            _winapi.TerminateProcess(process, 1)
            _winapi.CloseHandle(process)
            raise
        _resume(thread)
        job.keep()
        return Process(process, process_id, job)


def _inheritable(stream: IO[bytes] | int, stack: ExitStack, access: int = 0) -> int:
    """A handle of the stream, for a new process to inherit. The end of ``stack`` closes the handle.

    ``access``: the access rights of the handle, if ``stream`` is a file object. If ``access`` is 0,
    the handle has the rights of the stream.

    Outputs get the right to append, but not the right to write elsewhere in the file. The new
    process and this process share the position in the file, and this process moves the position
    when it reads the file. With only the right to append, even a background process of the command
    always writes at the end of the file.
    """
    if isinstance(stream, int):  # a stream that this process has inherited, or the null device
        access = 0
        if stream == subprocess.DEVNULL:
            stream = os.open(os.devnull, os.O_RDWR)
            stack.callback(os.close, stream)
    else:
        stream = stream.fileno()
    same = 0 if access else _winapi.DUPLICATE_SAME_ACCESS
    here = _winapi.GetCurrentProcess()
    ours = msvcrt.get_osfhandle(stream)
    handle = _winapi.DuplicateHandle(here, ours, here, access, True, same)
    stack.callback(_winapi.CloseHandle, handle)
    return handle


def wait(popen: subprocess.Popen[bytes]) -> int:
    while True:
        with suppress(subprocess.TimeoutExpired):
            return _signed(popen.wait(_POLL_S))


def _signed(status: int) -> int:
    """The status. The status of a crash becomes a number below 0."""
    return -status if _is_crash(status) else status


# --- programs


def command_line(argv: Sequence[str]) -> tuple[str, str]:
    """The path of the program to start, and its command line.

    Raises FileNotFoundError if there is no such program, and OSError if the line is too long.
    Raises ValueError for arguments that can't be passed to a batch file.
    """
    program = _found(argv[0])
    line, most = subprocess.list2cmdline(argv), _MAX_LINE
    if program.lower().endswith(EXTENSIONS):
        line, most = batch_line(program, argv[1:]), _MAX_LINE_OF_CMD
        program = os.path.join(os.environ["SYSTEMROOT"], "System32", "cmd.exe")
    if len(line) > most:
        raise OSError(errno.E2BIG, f"its command line is longer than {most} characters")
    return program, line


@functools.lru_cache(64)  # exceptions aren't cached
def _found(program: str) -> str:
    if "\0" in program:  # shutil.which raises only in some versions of Python
        raise ValueError("embedded null character")
    path = find_program(program)
    if path is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
    return path


def find_program(name: str) -> str | None:
    """The path of the program, if Windows can start it: ``ship`` may be ``ship.cmd``."""
    names = [name, *(name + extension for extension in _STARTED)]
    found = filter(None, map(shutil.which, names))
    return next((path for path in found if path.lower().endswith(_STARTED)), None)


def why_not_started(name: str) -> str:
    """Why a file isn't a program."""
    kinds = ", ".join(_STARTED)
    return f"Windows starts only {kinds}: write what runs it before it, such as python {name}"


# --- environments and exit statuses


def environment() -> Environment:
    # The output of commands is read as UTF-8. By default, Python writes to a pipe in the encoding
    # of the code page.
    return {"PYTHONIOENCODING": "utf-8", **os.environ}


def variables(texts: Mapping[str, str]) -> Environment:
    return dict(texts)


def keep_exit_statuses() -> None:
    """Do nothing, since Windows keeps exit statuses."""


def is_lack_of_resources(error: Exception) -> bool:
    return isinstance(error, OSError) and (error.winerror in _LACKS or error.errno == errno.EMFILE)


def _is_crash(status: int) -> bool:
    """Whether a status is an error of the system (NTSTATUS), for example an access violation."""
    return status >> 28 == 0xC


def status_code(status: int) -> str:
    if status in (-_CONTROL_C_EXIT, -signal.SIGBREAK):
        return signal.SIGBREAK.name
    if status == -signal.SIGINT:
        return signal.SIGINT.name
    return str(status) if status >= 0 else f"0x{-status:X}"


def is_of_signal(status: int) -> bool:
    return status < 0


def is_of_console(status: int) -> bool:
    return status == -_CONTROL_C_EXIT


def exit_code(status: int) -> int:
    code = abs(status)
    return code if code < 1 << 31 else code - (1 << 32)

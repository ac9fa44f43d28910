"""The functions of the Windows API that ``journal.fs`` uses, with their structures and errors.

The comments name the pages of Microsoft's documentation that describe the behaviour.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import wintypes
from typing import Any

assert sys.platform == "win32"  # mypy skips the rest on other systems

GENERIC_READ = 0x80000000
GENERIC_WRITE = 0x40000000
DELETE = 0x00010000
FILE_READ_ATTRIBUTES = 0x80

SHARE_READ, SHARE_WRITE, SHARE_DELETE = 1, 2, 4
SHARE_ALL = SHARE_READ | SHARE_WRITE | SHARE_DELETE

CREATE_NEW, OPEN_EXISTING, OPEN_ALWAYS = 1, 3, 4

BACKUP_SEMANTICS = 0x02000000  # needed to open a directory
OPEN_REPARSE_POINT = 0x00200000  # open a link itself
WRITE_THROUGH = 0x80000000
DELETE_ON_CLOSE = 0x04000000

ATTRIBUTE_DIRECTORY = 0x10
ATTRIBUTE_NORMAL = 0x80
ATTRIBUTE_REPARSE_POINT = 0x400
NAME_SURROGATE = 0x20000000  # the bit in the reparse tags of symbolic links and junctions

LOCK_FAIL_IMMEDIATELY, LOCK_EXCLUSIVE = 1, 2

# Classes of information: see the pages "FILE_INFO_BY_HANDLE_CLASS" and "NtSetInformationFile".
BASIC_INFO, ATTRIBUTE_TAG_INFO = 0, 9
RENAME, DISPOSITION, END_OF_FILE, DISPOSITION_EX, RENAME_EX = 10, 13, 20, 64, 65

# Error codes: see the pages "System Error Codes".
INVALID_FUNCTION, ACCESS_DENIED, SHARING_VIOLATION, LOCK_VIOLATION = 1, 5, 32, 33
NOT_SUPPORTED, INVALID_PARAMETER, NOT_LOCKED, ALREADY_EXISTS, DIRECTORY = 50, 87, 158, 183, 267

INVALID_HANDLE = ctypes.c_void_p(-1).value


class Overlapped(ctypes.Structure):
    """The offset in a file at which an operation begins: an ``OVERLAPPED`` without an event."""

    _fields_ = (
        ("internal", ctypes.c_void_p),
        ("internal_high", ctypes.c_void_p),
        ("offset", wintypes.DWORD),
        ("offset_high", wintypes.DWORD),
        ("event", wintypes.HANDLE),
    )


class BasicInfo(ctypes.Structure):
    """``FILE_BASIC_INFO``: times in 100 ns since 1601."""

    _fields_ = (
        ("created", ctypes.c_int64),
        ("read", ctypes.c_int64),
        ("written", ctypes.c_int64),
        ("changed", ctypes.c_int64),
        ("attributes", wintypes.DWORD),
    )


class AttributeTag(ctypes.Structure):
    """``FILE_ATTRIBUTE_TAG_INFO``."""

    _fields_ = (("attributes", wintypes.DWORD), ("tag", wintypes.DWORD))


class IoStatus(ctypes.Structure):
    """``IO_STATUS_BLOCK``."""

    _fields_ = (("status", ctypes.c_void_p), ("information", ctypes.c_void_p))


_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_ntdll = ctypes.WinDLL("ntdll")


def _function(name: str, result: Any, *arguments: Any, library: Any = _kernel32) -> Any:
    function = getattr(library, name)
    function.argtypes, function.restype = arguments, result
    return function


_HANDLE, _DWORD, _BOOL, _TEXT = wintypes.HANDLE, wintypes.DWORD, wintypes.BOOL, wintypes.LPCWSTR
_POINTER = ctypes.c_void_p
_AT = ctypes.POINTER(Overlapped)
_COUNT = ctypes.POINTER(_DWORD)

create_file = _function(
    "CreateFileW", _HANDLE, _TEXT, _DWORD, _DWORD, _POINTER, _DWORD, _DWORD, _HANDLE
)
reopen_file = _function("ReOpenFile", _HANDLE, _HANDLE, _DWORD, _DWORD, _DWORD)
close_handle = _function("CloseHandle", _BOOL, _HANDLE)
read_file = _function("ReadFile", _BOOL, _HANDLE, _POINTER, _DWORD, _COUNT, _AT)
write_file = _function("WriteFile", _BOOL, _HANDLE, _POINTER, _DWORD, _COUNT, _AT)
flush_file_buffers = _function("FlushFileBuffers", _BOOL, _HANDLE)
lock_file = _function("LockFileEx", _BOOL, _HANDLE, _DWORD, _DWORD, _DWORD, _DWORD, _AT)
unlock_file = _function("UnlockFileEx", _BOOL, _HANDLE, _DWORD, _DWORD, _DWORD, _AT)
get_information = _function(
    "GetFileInformationByHandleEx", _BOOL, _HANDLE, ctypes.c_int, _POINTER, _DWORD
)
_set_information = _function(
    "NtSetInformationFile",
    wintypes.LONG,
    *(_HANDLE, ctypes.POINTER(IoStatus), _POINTER, wintypes.ULONG, ctypes.c_int),
    library=_ntdll,
)
_dos_error = _function("RtlNtStatusToDosError", wintypes.ULONG, wintypes.LONG, library=_ntdll)
final_path = _function(
    "GetFinalPathNameByHandleW", _DWORD, _HANDLE, wintypes.LPWSTR, _DWORD, _DWORD
)
computer_name = _function("GetComputerNameExW", _BOOL, ctypes.c_int, wintypes.LPWSTR, _COUNT)


def error(number: int | None = None) -> OSError:
    """Make the exception for an error code, by default the code of this thread's last call."""
    number = ctypes.get_last_error() if number is None else number
    return ctypes.WinError(number)


def at(offset: int) -> Overlapped:
    """Make the structure for an operation at ``offset``."""
    return Overlapped(None, None, offset & 0xFFFFFFFF, offset >> 32, None)


def is_link(handle: int) -> bool | None:
    """Return whether the open file is a symbolic link or a junction.

    Returns None if the file has no reparse point.
    """
    found = AttributeTag()
    if not get_information(handle, ATTRIBUTE_TAG_INFO, ctypes.byref(found), ctypes.sizeof(found)):
        raise error()
    if not found.attributes & ATTRIBUTE_REPARSE_POINT:
        return None
    return bool(found.tag & NAME_SURROGATE)


def basic_info(handle: int) -> BasicInfo:
    found = BasicInfo()
    if not get_information(handle, BASIC_INFO, ctypes.byref(found), ctypes.sizeof(found)):
        raise error()
    return found


def set_information(handle: int, kind: int, info: Any) -> None:
    status = _set_information(
        handle, ctypes.byref(IoStatus()), ctypes.byref(info), ctypes.sizeof(info), kind
    )
    if status < 0:
        raise error(_dos_error(status))


def path_of(handle: int) -> str:
    r"""Return the path of an open file, without links, as ``\\?\C:\…``."""
    length = 1 << 15  # no path is longer: page "Maximum Path Length Limitation"
    buffer = ctypes.create_unicode_buffer(length)
    if not 0 < final_path(handle, buffer, length, 0) < length:
        raise error()
    return buffer.value

"""Windows: replaces the modules ``os`` and ``fcntl``.

- Files are opened with FILE_SHARE_DELETE, so that they can be renamed, replaced and deleted while
  other programs that use this package have them open.
- A lock covers one byte, far after the end of the file. Windows enforces locks. So if a lock
  covered bytes with data, as a lock of filelock does, other processes couldn't read these bytes.
- The descriptor of a directory is really a descriptor of the null device, and only stands for the
  path of the directory. So another program may replace a directory while the directory is open
  here.
- There are no modes and no owners. Directories aren't synced. Instead, each rename is written to
  the disk at once.
"""

from __future__ import annotations

import _winapi
import ctypes
import errno
import msvcrt
import os
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from ctypes import wintypes
from stat import FILE_ATTRIBUTE_REPARSE_POINT, S_IFLNK, S_ISDIR
from typing import Any

assert sys.platform == "win32"  # mypy skips the rest on other systems

fdopen, fspath, fstat, getcwd, getpid = os.fdopen, os.fspath, os.fstat, os.getcwd, os.getpid
read, stat, strerror, urandom = os.read, os.stat, os.strerror, os.urandom
listdir, path, rmdir = os.listdir, os.path, os.rmdir
stat_result = os.stat_result

O_APPEND, O_CREAT, O_EXCL, O_TEMPORARY = os.O_APPEND, os.O_CREAT, os.O_EXCL, os.O_TEMPORARY
O_RDONLY, O_RDWR, O_WRONLY = os.O_RDONLY, os.O_RDWR, os.O_WRONLY
O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK = 1 << 20, 1 << 21, 0
LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8

_READ, _WRITE, _DELETE, _READ_ATTRIBUTES = 0x8000_0000, 0x4000_0000, 0x1_0000, 0x80
_SHARE_ALL, _NORMAL, _OPEN_EXISTING = 7, 0x80, 3
_BACKUP_SEMANTICS = 0x0200_0000  # needed to open a directory
_OPEN_REPARSE_POINT = 0x0020_0000  # open a link itself
_DELETE_ON_CLOSE = 0x0400_0000
# With this flag, NTFS writes to the disk "any metadata changes, such as a time stamp update or a
# rename operation" (page "CreateFileW function", "Caching Behavior").
_WRITE_THROUGH = 0x8000_0000
_RENAME, _END_OF_FILE, _RENAME_EX = 10, 20, 65  # page "NtSetInformationFile function"
_REPLACE, _POSIX_SEMANTICS, _READ_ONLY_TOO = 0x1, 0x2, 0x40  # an open file is replaced, too
_AT_END = (1 << 64) - 1  # the offset that appends: page "WriteFile function"
_LOCKED_OFFSET = 1 << 62
_HANDLE_EOF, _LOCK_VIOLATION, _NOT_LOCKED = 38, 33, 158

_Path = str | os.PathLike[str]

_appending: set[int] = set()  # descriptors with O_APPEND
_directories: dict[int, str] = {}  # the path of each open directory, by descriptor

_kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
_ntdll = ctypes.WinDLL("ntdll")


def _function(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, name)
    function.argtypes, function.restype = arguments, result
    return function


_HANDLE, _DWORD, _POINTER = wintypes.HANDLE, wintypes.DWORD, ctypes.c_void_p
_ACCESS = (_HANDLE, _POINTER, _DWORD, ctypes.POINTER(_DWORD), _POINTER)
_read_file = _function(_kernel32, "ReadFile", wintypes.BOOL, *_ACCESS)
_write_file = _function(_kernel32, "WriteFile", wintypes.BOOL, *_ACCESS)
_lock_file = _function(_kernel32, "LockFileEx", wintypes.BOOL, _HANDLE, *[_DWORD] * 4, _POINTER)
_unlock_file = _function(_kernel32, "UnlockFileEx", wintypes.BOOL, _HANDLE, *[_DWORD] * 3, _POINTER)
_set_information = _function(
    *(_ntdll, "NtSetInformationFile", wintypes.LONG),
    *(_HANDLE, _POINTER, _POINTER, wintypes.ULONG, ctypes.c_int),
)
_dos_error = _function(_ntdll, "RtlNtStatusToDosError", wintypes.ULONG, wintypes.LONG)


def _overlapped(offset: int) -> Any:
    """Make an ``OVERLAPPED`` structure, for an operation at ``offset``."""
    return ctypes.create_string_buffer(struct.pack("<4Q", 0, 0, offset, 0), 32)


def _set(handle: int, kind: int, information: bytes) -> None:
    state = ctypes.create_string_buffer(16)
    status = _set_information(handle, state, information, len(information), kind)
    if status < 0:
        raise ctypes.WinError(_dos_error(status))


def _place(name: _Path, directory: int | None) -> str:
    text = os.fspath(name)
    return text if directory is None else path.join(_directories[directory], text)


# --- open files


def open(  # noqa: A001  (named as in ``os``)
    name: _Path,
    flags: int,
    mode: int = 0o777,  # noqa: ARG001
    *,
    dir_fd: int | None = None,
) -> int:
    """Open a file or directory, in binary mode. Child processes don't inherit the descriptor."""
    place = _place(name, dir_fd)
    if flags & O_DIRECTORY:
        found = lstat(place) if flags & O_NOFOLLOW else os.stat(place)
        if not S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, strerror(errno.ENOTDIR))
        fd = os.open(os.devnull, O_RDONLY)
        _directories[fd] = path.abspath(place)
        return fd
    access = _READ_ATTRIBUTES if flags & O_WRONLY else _READ
    if flags & (O_WRONLY | O_RDWR):
        access |= _WRITE
    more = _NORMAL | (_OPEN_REPARSE_POINT if flags & O_NOFOLLOW else 0)
    if flags & O_TEMPORARY:
        access, more = access | _DELETE, more | _DELETE_ON_CLOSE
    create_new, open_always = 1, 4
    how = (create_new if flags & O_EXCL else open_always) if flags & O_CREAT else _OPEN_EXISTING
    handle = _winapi.CreateFile(place, access, _SHARE_ALL, 0, how, more, 0)
    fd = msvcrt.open_osfhandle(handle, flags & (O_APPEND | O_RDONLY) | os.O_NOINHERIT)
    if flags & O_NOFOLLOW and os.fstat(fd).st_file_attributes & FILE_ATTRIBUTE_REPARSE_POINT:
        os.close(fd)
        raise OSError(errno.ELOOP, strerror(errno.ELOOP))
    if flags & O_APPEND:
        _appending.add(fd)
    return fd


def close(fd: int) -> None:
    _appending.discard(fd)
    _directories.pop(fd, None)
    os.close(fd)


# The calls below don't use the file pointer, which all threads share.


def pread(fd: int, length: int, offset: int) -> bytes:
    buffer, count = ctypes.create_string_buffer(length), _DWORD()
    handle, where = msvcrt.get_osfhandle(fd), _overlapped(offset)
    if not _read_file(handle, buffer, length, ctypes.byref(count), where):
        number = ctypes.get_last_error()
        if number != _HANDLE_EOF:
            raise ctypes.WinError(number)
    return bytes(memoryview(buffer)[: count.value])


def pwrite(fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
    data, count = bytes(data), _DWORD()
    handle, where = msvcrt.get_osfhandle(fd), _overlapped(offset)
    if not _write_file(handle, data, len(data), ctypes.byref(count), where):
        raise ctypes.WinError(ctypes.get_last_error())
    return count.value


def write(fd: int, data: bytes | bytearray | memoryview) -> int:
    return pwrite(fd, data, _AT_END) if fd in _appending else os.write(fd, data)


def ftruncate(fd: int, size: int) -> None:
    _set(msvcrt.get_osfhandle(fd), _END_OF_FILE, struct.pack("<q", size))


def fsync(fd: int) -> None:
    """Flush a file, which must be open for writing, to the disk. For a directory, do nothing."""
    if fd not in _directories:
        os.fsync(fd)


fdatasync = fsync


def fchmod(fd: int, mode: int) -> None:
    """Do nothing: files get the permissions of their directory."""


def fchown(fd: int, user: int, group: int) -> None:
    """Do nothing: files have no owner that could be set."""


def flock(fd: int, operation: int) -> None:
    """Take or release a lock, as ``fcntl.flock`` does. This function never waits.

    Raises BlockingIOError if another handle has the lock.
    """
    handle, where = msvcrt.get_osfhandle(fd), _overlapped(_LOCKED_OFFSET)
    if operation & LOCK_UN:
        done = _unlock_file(handle, 0, 1, 0, where)
    else:
        exclusively, at_once = 2 if operation & LOCK_EX else 0, 1
        done = _lock_file(handle, exclusively | at_once, 0, 1, 0, where)
    number = 0 if done else ctypes.get_last_error()
    if number == _LOCK_VIOLATION:
        raise BlockingIOError(errno.EAGAIN, strerror(errno.EAGAIN))
    if number not in (0, _NOT_LOCKED):
        raise ctypes.WinError(number)


def lock_descriptor(fd: int, *, blocking: bool) -> bool:
    """Take the exclusive lock, as ``filelock.lock_descriptor`` does with ``blocking=False``."""
    try:
        flock(fd, LOCK_EX | (0 if blocking else LOCK_NB))
    except BlockingIOError:
        return False
    return True


def unlock_descriptor(fd: int) -> None:
    flock(fd, LOCK_UN)


# --- names


def lstat(name: _Path, *, dir_fd: int | None = None) -> stat_result:
    """Do the same as ``os.lstat``, except that a junction counts as a link."""
    found = os.lstat(_place(name, dir_fd))
    if S_ISDIR(found.st_mode) and found.st_file_attributes & FILE_ATTRIBUTE_REPARSE_POINT:
        return stat_result([S_IFLNK | 0o777, *found[1:10]])
    return found


def mkdir(name: _Path, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    os.mkdir(_place(name, dir_fd), mode)


def link(
    source: _Path,
    target: _Path,
    *,
    src_dir_fd: int,
    dst_dir_fd: int,
    follow_symlinks: bool,  # noqa: ARG001  (Windows follows none)
) -> None:
    os.link(_place(source, src_dir_fd), _place(target, dst_dir_fd))


def unlink(name: _Path, *, dir_fd: int | None = None) -> None:
    os.unlink(_place(name, dir_fd))


def scandir(name: _Path | int) -> os._ScandirIterator[str]:
    return os.scandir(_directories[name] if isinstance(name, int) else name)


def rename(
    source: _Path,
    target: _Path,
    *,
    src_dir_fd: int | None = None,
    dst_dir_fd: int | None = None,
) -> None:
    """Rename a file or directory. As on POSIX, a file or empty directory at ``target`` is replaced.

    Windows refuses to rename a directory as long as a file below it is open. On a file system that
    can't replace an open file, such as FAT, no file has the name ``target`` for a moment.
    """
    place, target = _place(source, src_dir_fd), path.abspath(_place(target, dst_dir_fd))
    is_directory = S_ISDIR(lstat(place).st_mode)
    if is_directory:
        with suppress(OSError):
            os.rmdir(target)
    how = _WRITE_THROUGH | _BACKUP_SEMANTICS | _OPEN_REPARSE_POINT
    access = _DELETE | _READ_ATTRIBUTES
    handle = _winapi.CreateFile(place, access, _SHARE_ALL, 0, _OPEN_EXISTING, how, 0)
    try:
        flags = 0 if is_directory else _REPLACE | _POSIX_SEMANTICS | _READ_ONLY_TOO
        name = f"\\??\\{target}".encode("utf-16-le", "surrogatepass")
        information = struct.pack("<QQI", flags, 0, len(name)) + name
        _set(handle, _RENAME if is_directory else _RENAME_EX, information)
        return
    except OSError:  # the file system isn't NTFS, or another program has the file open
        pass
    finally:
        _winapi.CloseHandle(handle)
    if is_directory:
        os.rename(place, target)
        return
    try:
        os.replace(place, target)
    except PermissionError:
        if not path.isfile(target):
            raise
        aside = path.join(path.dirname(target), f".journal-{urandom(6).hex()}.part")
        os.rename(target, aside)
        try:
            os.replace(place, target)
        except OSError:
            os.rename(aside, target)
            raise
        with suppress(OSError):
            os.unlink(aside)


# --- processes


def geteuid() -> int:
    """Return 0, which is also the ``st_uid`` of all files."""
    return 0


def register_at_fork(**_calls: Callable[[], object]) -> None:
    """Do nothing: Windows has no fork."""

"""The POSIX calls that ``fs`` needs, implemented with the Windows API.

Differences from the module ``os``:

- Every file is opened with FILE_SHARE_DELETE, so that it can be renamed and deleted while other
  programs read it. Directories are opened without FILE_SHARE_DELETE, so that an open directory and
  the directories above it can't be replaced.
- ``pread``, ``pwrite``, appends and truncations don't use the file pointer, which is shared by all
  threads.
- A rename replaces a file even if other programs have the file open.
- The name of a deleted file is free at once.
- ``st_ctime_ns`` of :func:`fstat` is the time of the last change, and not the time of creation.
- Names with a special meaning on Windows, such as ``aux.txt`` and ``a:b``, can't be made.
- There are no modes and no owners.
- Directories aren't synced. Instead, each rename is written to the disk at once.

Paths may be longer than 260 characters.
"""

from __future__ import annotations

import ctypes
import errno
import msvcrt
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from ctypes import wintypes
from functools import partial
from stat import S_IFLNK, S_ISDIR
from types import SimpleNamespace
from typing import Any, TypeVar

from journal.fs.windows import api

assert sys.platform == "win32"  # mypy skips the rest on other systems

O_APPEND, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_WRONLY = (
    os.O_APPEND,
    os.O_CREAT,
    os.O_EXCL,
    os.O_RDONLY,
    os.O_RDWR,
    os.O_WRONLY,
)
O_TEMPORARY = os.O_TEMPORARY  # the file is deleted when it is closed
O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK = 1 << 20, 1 << 21, 0

fdopen = os.fdopen
fspath = os.fspath
getcwd = os.getcwd
getpid = os.getpid
path = os.path
read = os.read
stat_result = os.stat_result
strerror = os.strerror
urandom = os.urandom

_Path = str | os.PathLike[str]
_Result = TypeVar("_Result")

_TO_END = (1 << 64) - 1  # the offset that appends: see the page "WriteFile function"
_END_OF_FILE = 38
_EPOCH_TICKS = 116_444_736_000_000_000  # the time from 1601 to 1970, in units of 100 ns

# Flags of FILE_RENAME_INFO and FILE_DISPOSITION_INFO_EX: see the pages of their NT counterparts,
# "FILE_RENAME_INFORMATION structure" and "FILE_DISPOSITION_INFORMATION_EX structure".
_REPLACE, _POSIX_RENAME, _RENAME_READ_ONLY = 0x1, 0x2, 0x40
_DELETE, _POSIX_DELETE, _DELETE_READ_ONLY = 0x1, 0x2, 0x10
# The errors if the file system (such as FAT) or the system doesn't know POSIX semantics.
_UNKNOWN = {api.INVALID_FUNCTION, api.NOT_SUPPORTED, api.INVALID_PARAMETER}

# A virus scanner or an indexer may have a file open for a moment, without FILE_SHARE_DELETE.
_SHARING = {api.SHARING_VIOLATION}
_BUSY = _SHARING | {api.ACCESS_DENIED}
_PAUSES_S = (0.001, 0.004, 0.016, 0.064, 0.25, 0.65)

# Page "Naming Files, Paths, and Namespaces".
_NOT_A_NAME = re.compile(
    r'.*[<>:"/\\|?*\x00-\x1f].*|.*[. ]|(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?',
    re.IGNORECASE | re.DOTALL,
)

_appending: set[int] = set()  # descriptors with O_APPEND
_directories: dict[int, str] = {}  # the path of each open directory, by descriptor


# --- paths


def _place(name: _Path, directory: int | None = None, *, makes: bool = False) -> str:
    """Return the path of ``name`` in the form that the Windows API needs.

    If ``makes`` is True, a file of this name will be made, so the name must be allowed.
    """
    text = os.fspath(name)
    last = path.basename(text)
    if directory is not None:
        last = text
    if _NOT_A_NAME.fullmatch(last) and (makes or directory is not None):
        if not makes:
            raise FileNotFoundError(errno.ENOENT, strerror(errno.ENOENT))
        raise OSError(errno.EINVAL, f"Windows allows no file of the name {last!r}")
    if directory is not None:
        return f"{_directories[directory]}\\{text}"
    # With this prefix, a path may have over 260 characters: page "Maximum Path Length Limitation".
    text = path.abspath(text)
    if text.startswith(("\\\\?\\", "\\\\.\\")):
        return text
    return f"\\\\?\\UNC\\{text[2:]}" if text.startswith("\\\\") else f"\\\\?\\{text}"


@contextmanager
def _handle(place: str, access: int, flags: int = 0) -> Iterator[int]:
    """Yield a handle of the file, directory or link at the path ``place``, for a ``with`` block."""
    flags |= api.BACKUP_SEMANTICS | api.OPEN_REPARSE_POINT
    handle = api.create_file(place, access, api.SHARE_ALL, None, api.OPEN_EXISTING, flags, None)
    if handle == api.INVALID_HANDLE:
        raise api.error()
    try:
        yield handle
    finally:
        api.close_handle(handle)


# --- open files


def open(  # noqa: A001  (named as in `os`)
    name: _Path,
    flags: int,
    mode: int = 0o777,  # noqa: ARG001
    *,
    dir_fd: int | None = None,
) -> int:
    """Open a file or directory, in binary mode. Child processes don't inherit the descriptor."""
    place = _place(name, dir_fd, makes=bool(flags & O_CREAT))
    handle = _patiently(_opened, place, flags, busy=_SHARING)
    try:
        is_directory = bool(api.basic_info(handle).attributes & api.ATTRIBUTE_DIRECTORY)
        if flags & O_DIRECTORY and not is_directory:
            raise NotADirectoryError(errno.ENOTDIR, strerror(errno.ENOTDIR))
        where = ""
        if flags & O_DIRECTORY:  # while it is open, no part of its path can be renamed
            where = place if dir_fd is not None and flags & O_NOFOLLOW else api.path_of(handle)
        fd = msvcrt.open_osfhandle(handle, flags & (O_APPEND | O_RDONLY) | os.O_NOINHERIT)
    except BaseException:
        api.close_handle(handle)
        raise
    _appending.discard(fd)
    _directories.pop(fd, None)
    if flags & O_APPEND:
        _appending.add(fd)
    if where:
        _directories[fd] = where
    return fd


def _opened(place: str, flags: int) -> int:
    handle = _handle_for(place, flags, follow=not flags & O_NOFOLLOW)
    if not flags & O_NOFOLLOW:
        return handle
    try:
        link = api.is_link(handle)
        if link:
            raise OSError(errno.ELOOP, strerror(errno.ELOOP))
    except BaseException:
        api.close_handle(handle)
        raise
    if link is None:
        return handle
    # The file is a placeholder for a remote file, as in OneDrive. Its content is read only if the
    # reparse point is followed.
    api.close_handle(handle)
    return _handle_for(place, flags, follow=True)


def _handle_for(place: str, flags: int, *, follow: bool) -> int:
    access = api.GENERIC_READ if not flags & O_WRONLY else api.FILE_READ_ATTRIBUTES
    if flags & (O_WRONLY | O_RDWR):
        access |= api.GENERIC_WRITE
    share = api.SHARE_ALL
    if flags & O_DIRECTORY:
        share &= ~api.SHARE_DELETE
    more = api.BACKUP_SEMANTICS
    if not follow:
        more |= api.OPEN_REPARSE_POINT
    if flags & O_TEMPORARY:
        access |= api.DELETE
        more |= api.DELETE_ON_CLOSE
    how = api.OPEN_EXISTING
    if flags & O_CREAT:
        how = api.CREATE_NEW if flags & O_EXCL else api.OPEN_ALWAYS
    handle: int = api.create_file(
        place, access, share, None, how, more | api.ATTRIBUTE_NORMAL, None
    )
    if handle == api.INVALID_HANDLE:
        raise api.error()
    return handle


def close(fd: int) -> None:
    _appending.discard(fd)
    _directories.pop(fd, None)
    os.close(fd)


def pread(fd: int, length: int, offset: int) -> bytes:
    buffer = ctypes.create_string_buffer(length)
    count = wintypes.DWORD()
    where = ctypes.byref(api.at(offset))
    handle = msvcrt.get_osfhandle(fd)
    if not api.read_file(handle, buffer, length, ctypes.byref(count), where):
        number = ctypes.get_last_error()
        if number != _END_OF_FILE:
            raise api.error(number)
    return bytes(memoryview(buffer)[: count.value])


def pwrite(fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
    count = wintypes.DWORD()
    where = ctypes.byref(api.at(offset))
    handle, data = msvcrt.get_osfhandle(fd), bytes(data)
    if not api.write_file(handle, data, len(data), ctypes.byref(count), where):
        raise api.error()
    return count.value


def write(fd: int, data: bytes | bytearray | memoryview) -> int:
    return pwrite(fd, data, _TO_END) if fd in _appending else os.write(fd, data)


def ftruncate(fd: int, size: int) -> None:
    api.set_information(msvcrt.get_osfhandle(fd), api.END_OF_FILE, ctypes.c_int64(size))


def fsync(fd: int) -> None:
    """Flush a file to the disk. For a directory, do nothing."""
    if fd in _directories:
        return
    handle = msvcrt.get_osfhandle(fd)
    if api.flush_file_buffers(handle):
        return
    number = ctypes.get_last_error()
    if number != api.ACCESS_DENIED:
        raise api.error(number)
    # The page "FlushFileBuffers function": the handle must have the GENERIC_WRITE access right.
    other = api.reopen_file(handle, api.GENERIC_WRITE, api.SHARE_ALL, 0)
    if other == api.INVALID_HANDLE:
        raise api.error()
    try:
        if not api.flush_file_buffers(other):
            raise api.error()
    finally:
        api.close_handle(other)


fdatasync = fsync


def fstat(fd: int) -> stat_result:
    """Return the state of an open file. Its ctime is the time of the last change."""
    found = os.fstat(fd)
    changed_ns = (api.basic_info(msvcrt.get_osfhandle(fd)).changed - _EPOCH_TICKS) * 100
    more = {
        "st_mtime_ns": found.st_mtime_ns,
        "st_ctime_ns": changed_ns,
        "st_mtime": found.st_mtime,
        "st_ctime": changed_ns / 1e9,
    }
    return stat_result([*found[:9], changed_ns // 10**9], more)


def fchmod(fd: int, mode: int) -> None:
    """Do nothing: files get the permissions of their directory."""


def fchown(fd: int, user: int, group: int) -> None:
    """Do nothing: files have no owner that could be set."""


# --- names


def stat(name: _Path) -> stat_result:
    return os.stat(_place(name))


def lstat(name: _Path, *, dir_fd: int | None = None) -> stat_result:
    """Do the same as ``os.lstat``, except that a junction counts as a link."""
    found = os.lstat(_place(name, dir_fd))
    if S_ISDIR(found.st_mode) and found.st_reparse_tag & api.NAME_SURROGATE:
        return stat_result([S_IFLNK | 0o777, *found[1:10]])
    return found


def mkdir(name: _Path, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    os.mkdir(_place(name, dir_fd, makes=True), mode)


def link(
    source: _Path,
    target: _Path,
    *,
    src_dir_fd: int | None = None,
    dst_dir_fd: int | None = None,
    follow_symlinks: bool = True,  # noqa: ARG001
) -> None:
    os.link(_place(source, src_dir_fd), _place(target, dst_dir_fd, makes=True))


def rename(
    source: _Path,
    target: _Path,
    *,
    src_dir_fd: int | None = None,
    dst_dir_fd: int | None = None,
) -> None:
    """Rename a file or directory.

    A file may replace an existing file. A directory replaces nothing.

    Windows refuses to rename a directory as long as a file below it is open.
    """
    _patiently(_rename, _place(source, src_dir_fd), _place(target, dst_dir_fd, makes=True))


def _rename(source: str, target: str) -> None:
    # Page "CreateFileW function", "Caching Behavior": with FILE_FLAG_WRITE_THROUGH, NTFS writes
    # to the disk "any metadata changes, such as a time stamp update or a rename operation".
    access = api.DELETE | api.FILE_READ_ATTRIBUTES
    with _handle(source, access, api.WRITE_THROUGH) as handle:
        if api.basic_info(handle).attributes & api.ATTRIBUTE_DIRECTORY:
            api.set_information(handle, api.RENAME, _rename_info(0, target))
            return
        try:
            flags = _REPLACE | _POSIX_RENAME | _RENAME_READ_ONLY
            api.set_information(handle, api.RENAME_EX, _rename_info(flags, target))
        except OSError as error:
            if error.winerror not in _UNKNOWN | _BUSY:
                raise
            _exchange(handle, target)


def _exchange(handle: int, target: str) -> None:
    """Rename a file to ``target`` on file systems without POSIX semantics, such as FAT.

    An old file at ``target`` is replaced. If other programs have the old file open, it is first
    renamed to a temporary name. In this case, no file has the name ``target`` for a moment. A
    directory is not replaced.
    """
    replace = _rename_info(_REPLACE, target)
    try:
        api.set_information(handle, api.RENAME, replace)
    except PermissionError as refusal:
        if not path.lexists(target):
            raise
        aside = f"{path.dirname(target)}\\.journal-{urandom(6).hex()}.part"
        with _handle(target, api.DELETE | api.FILE_READ_ATTRIBUTES) as other:
            if api.basic_info(other).attributes & api.ATTRIBUTE_DIRECTORY:
                raise IsADirectoryError(errno.EISDIR, strerror(errno.EISDIR)) from refusal
            api.set_information(other, api.RENAME, _rename_info(0, aside))
            try:
                api.set_information(handle, api.RENAME, replace)
            except OSError:
                api.set_information(other, api.RENAME, _rename_info(0, target))
                raise
            with suppress(OSError):  # the new file is in place: only the temporary name is left
                api.set_information(other, api.DISPOSITION, ctypes.c_ubyte(1))


def _rename_info(flags: int, target: str) -> ctypes.Structure:
    target = f"\\??{target[3:]}"  # the path as the kernel names it
    name_bytes = len(target.encode("utf-16-le", "surrogatepass"))

    class Info(ctypes.Structure):
        _fields_ = (
            ("flags", wintypes.DWORD),
            ("root", wintypes.HANDLE),
            ("name_bytes", wintypes.DWORD),
            ("name", ctypes.c_wchar * (name_bytes // 2 + 1)),
        )

    return Info(flags, None, name_bytes, target)


def unlink(name: _Path, *, dir_fd: int | None = None) -> None:
    """Remove a file or a link. Its name is free at once, even if a program has the file open."""
    _patiently(_remove, _place(name, dir_fd))


def rmdir(name: _Path, *, dir_fd: int | None = None) -> None:
    _patiently(partial(_remove, is_directory=True), _place(name, dir_fd))


def _remove(place: str, *, is_directory: bool = False) -> None:
    with _handle(place, api.DELETE | api.FILE_READ_ATTRIBUTES) as handle:
        found = bool(api.basic_info(handle).attributes & api.ATTRIBUTE_DIRECTORY)
        if found != is_directory and not api.is_link(handle):
            raise api.error(api.DIRECTORY if is_directory else api.ACCESS_DENIED)
        try:
            flags = _DELETE | _POSIX_DELETE | _DELETE_READ_ONLY
            api.set_information(handle, api.DISPOSITION_EX, wintypes.DWORD(flags))
        except OSError as error:
            if error.winerror not in _UNKNOWN:
                raise
            api.set_information(handle, api.DISPOSITION, ctypes.c_ubyte(1))


def _patiently(
    call: Callable[..., _Result], place: str, *more: Any, busy: Container[int] = _BUSY
) -> _Result:
    """Repeat a call for up to a second as long as another program has the file open.

    ``busy``: the errors that say that another program has the file open.
    """
    for pause_s in _PAUSES_S:
        try:
            return call(place, *more)
        except OSError as error:
            if error.winerror not in busy:
                raise
        time.sleep(pause_s)
    try:
        return call(place, *more)
    except OSError as error:
        if error.winerror == api.SHARING_VIOLATION:
            name = path.basename(place)
            error.strerror = f"another program has {name!r} open: close it there, and try again"
        raise


def scandir(name: _Path | int) -> os._ScandirIterator[str]:
    return os.scandir(_directories[name] if isinstance(name, int) else _place(name))


def statvfs(name: _Path) -> SimpleNamespace:
    return SimpleNamespace(f_bavail=shutil.disk_usage(name).free, f_frsize=1)


# --- processes


def geteuid() -> int:
    """Return 0, which is also the ``st_uid`` of all files."""
    return 0


def register_at_fork(**_calls: Callable[[], object]) -> None:
    """Do nothing: Windows has no fork."""


def host_name() -> str:
    length = wintypes.DWORD(256)
    buffer = ctypes.create_unicode_buffer(length.value)
    physical_host_name = 5
    if not api.computer_name(physical_host_name, buffer, ctypes.byref(length)):
        raise api.error()
    return buffer.value

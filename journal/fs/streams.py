"""The standard streams: sets their encoding, and finds out whether they have a reader."""

from __future__ import annotations

import io
import sys
from typing import TextIO

if sys.platform == "win32":
    import errno
    import os
    import stat

    def set_encoding(stream: TextIO | None) -> None:
        """Make the stream write UTF-8 with LF at line ends, whatever the code page is.

        Characters that UTF-8 can't encode are written as backslash escapes.
        """
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")

    def let_control_cursor() -> None:
        """Let the console interpret the sequences that move the cursor and set colours."""
        from colorama import just_fix_windows_console  # noqa: PLC0415  (click needs it there)

        just_fix_windows_console()

    def can_answer() -> bool:
        """Return whether somebody can answer at standard input.

        Call this only if standard input reports to be a terminal.

        On Windows, the device NUL reports to be a terminal, too, but nobody can answer there.
        """
        import ctypes  # noqa: PLC0415  (`journal list` starts without it)
        import msvcrt  # noqa: PLC0415

        mode = ctypes.c_ulong()
        handle = ctypes.c_void_p(msvcrt.get_osfhandle(0))
        return bool(ctypes.windll.kernel32.GetConsoleMode(handle, ctypes.byref(mode)))

    def has_lost_reader(_descriptor: int) -> bool:
        """Return False. Windows reports a lost reader only when something is written."""
        return False

    def is_closed_pipe(error: OSError) -> bool:
        """Return whether a write failed because nobody reads standard output any more.

        On Windows, the error is EINVAL, which can have other causes, too.
        """
        if error.errno != errno.EINVAL or error.filename is not None:
            return isinstance(error, BrokenPipeError)
        return stat.S_ISFIFO(os.fstat(1).st_mode)
else:

    def set_encoding(stream: TextIO | None) -> None:
        """Make the stream write characters that its encoding lacks as backslash escapes."""
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def let_control_cursor() -> None:
        """Do nothing: terminals interpret the sequences that move the cursor and set colours."""

    def can_answer() -> bool:
        """Return True: if standard input reports to be a terminal, it is one."""
        return True

    def has_lost_reader(descriptor: int) -> bool:
        """Return whether nobody reads the pipe any more. The check writes nothing to the pipe."""
        import select  # noqa: PLC0415  (`journal list` starts without it)

        poll = select.poll()
        poll.register(descriptor, 0)  # poll for no events: errors are always reported
        return any(event & select.POLLERR for _, event in poll.poll(0))

    def is_closed_pipe(error: OSError) -> bool:
        """Return whether a write failed because nobody reads standard output any more."""
        return isinstance(error, BrokenPipeError)

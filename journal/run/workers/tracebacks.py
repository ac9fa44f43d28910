"""Tracebacks of exceptions as text, without the frames of this package."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

TRACEBACK_BYTES = 16 << 10
_MAX_FRAMES = 64  # of each exception in a chain; more would not fit into TRACEBACK_BYTES
# The maximum length of a frame or a message. A long message must leave room for frames.
_MAX_PART_CHARACTERS = 2048

_PACKAGE = str(Path(__file__).parents[2]) + os.sep


def traceback_of(error: BaseException) -> str | None:
    """The traceback of an exception and its causes as text, cut to the last 16 KiB.

    The text begins at the first frame outside this package. If there is no such frame, the result
    is None.
    """
    begin = error.__traceback__
    while begin is not None and begin.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        begin = begin.tb_next
    if begin is None:
        return None
    try:
        return _end_of("".join(map(_cut, _parts(error, begin))))
    except BaseException:  # noqa: BLE001  (an exception's own code may raise anything)
        return None


def _parts(error: BaseException, begin: TracebackType) -> list[str]:
    import traceback  # noqa: PLC0415  (only rows that fail need it)

    try:
        whole = traceback.TracebackException(
            type(error), error, begin, limit=-_MAX_FRAMES, compact=True
        )
        return list(whole.format())
    except Exception:  # noqa: BLE001  (then at least the frames)
        return [*traceback.format_tb(begin, -_MAX_FRAMES), type(error).__name__]


def _cut(part: str) -> str:
    if len(part) <= _MAX_PART_CHARACTERS:
        return part
    return part[:_MAX_PART_CHARACTERS] + "...\n"


def _end_of(text: str) -> str:
    data = text.encode(errors="backslashreplace").rstrip()
    if len(data) > TRACEBACK_BYTES:
        _, _, data = data[-TRACEBACK_BYTES:].partition(b"\n")  # from the beginning of a line
    return data.decode()

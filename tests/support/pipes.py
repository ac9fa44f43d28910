"""Finds the pipes that can be read. On Windows, ``select`` doesn't work for pipes."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Iterable

if sys.platform == "win32":
    import _winapi
    import msvcrt

    def ready(descriptors: Iterable[int], timeout_s: float) -> list[int]:
        """Return the descriptors that can be read or have ended. Empty after the timeout."""
        waiting = list(descriptors)
        deadline_s = time.monotonic() + timeout_s
        while not (found := [each for each in waiting if _has_some(each)]):
            if time.monotonic() > deadline_s:
                break
            time.sleep(0.002)
        return found

    def _has_some(descriptor: int) -> bool:
        try:
            return _winapi.PeekNamedPipe(msvcrt.get_osfhandle(descriptor))[0] > 0
        except OSError:  # the other end is closed
            return True
else:

    def ready(descriptors: Iterable[int], timeout_s: float) -> list[int]:
        """Return the descriptors that can be read or have ended. Empty after the timeout."""
        return select.select(list(descriptors), [], [], timeout_s)[0]

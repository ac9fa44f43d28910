"""Lets handlers of ``logging`` that have kept a stream of the terminal write above the bar."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any


def redirect_handlers(streams: Mapping[Any, Any]) -> None:
    """Let each handler of a logger that writes to a key of ``streams`` write to its value.

    Don't call this with the lock of the bar: a handler that writes has its own lock, and waits for
    that of the bar.
    """
    logging = sys.modules.get("logging")  # if nobody has imported it, there are no handlers
    if logging is None:
        return
    for logger in (logging.root, *list(logging.root.manager.loggerDict.values())):
        for handler in list(getattr(logger, "handlers", ())):
            if not isinstance(handler, logging.StreamHandler):
                continue
            for old, new in streams.items():
                if handler.stream is old:
                    with suppress(Exception):  # a handler's own code may raise anything
                        handler.setStream(new)
                    break

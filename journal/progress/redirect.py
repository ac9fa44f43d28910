"""Makes handlers of ``logging`` write above the bar, if their stream is the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any


def redirect_handlers(streams: Mapping[Any, Any]) -> None:
    """Replace streams in the handlers of all loggers: each key of ``streams`` by its value.

    The caller must not hold the lock of the bar, since this function waits for the locks of
    handlers. A handler that is writing holds its own lock, and waits for the lock of the bar. If
    the caller held the lock of the bar, this function and the handler would wait for each other
    forever.
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

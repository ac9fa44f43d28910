"""Reports the messages of a run to ``logging``, and to ``tell`` or standard error.

Each message is a record of the logger ``journal``. If the caller has no ``tell``, and no handler of
the logger shows the record to a person, the message is also printed to standard error.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from journal.progress.terminal import print_err, unwrapped
from journal.text import escaped

Tell = Callable[[str], object]  # called with each message for a person

INFO, WARNING = logging.INFO, logging.WARNING

_LOGGER = logging.getLogger("journal")
_LOGGER.addHandler(logging.NullHandler())  # without it, logging prints records that no handler gets


def say(text: str, level: int, job_id: str, tell: Tell | None) -> None:
    """Log the message. Then pass it to ``tell``. Exceptions of ``tell`` are raised.

    If ``tell`` is None, and no handler of the logger shows the message to a person, print it.
    """
    text = escaped(text, keep="\n")  # an error code or a message may hold any text
    is_printed = tell is None and _is_shown(level)
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, text, extra={"job_id": job_id})
    if tell is not None:
        tell(text)
    elif not is_printed:
        print_err(text)


def say_if_elsewhere(job_id: str, path: str | os.PathLike[str]) -> None:
    """Report the place of a new job if ``path`` is relative and the script is in another directory.

    For example, cron starts scripts in the home directory. A new job there would do each row again.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)  # absent in a notebook
    home = os.path.dirname(os.path.realpath(script or ""))
    if script and not os.path.isabs(path) and home != os.path.realpath(os.curdir):
        text = f"{job_id}: a new job, {os.path.realpath(path)}; the script is in {home}"
        say(text, INFO, job_id, None)


def _is_shown(level: int) -> bool:
    """Whether a handler of the logger shows records of this level to a person.

    Handlers that store records, or write them to a file, don't show them. Handlers of unknown
    classes count as handlers that show records.
    """
    if not _LOGGER.isEnabledFor(level):
        return False
    logger: logging.Logger | None = _LOGGER
    while logger is not None:
        if any(handler.level <= level and _shows(handler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def _shows(handler: logging.Handler) -> bool:
    if isinstance(handler, logging.StreamHandler):
        streams = (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)
        return any(unwrapped(handler.stream) is unwrapped(stream) for stream in streams)
    return not isinstance(handler, logging.NullHandler) and not getattr(handler, "of_rows", False)

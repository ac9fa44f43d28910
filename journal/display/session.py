"""Finds out whether this program is a notebook, a prompt or a script. IPython is never imported."""

from __future__ import annotations

import sys
from typing import Any


def ipython() -> Any:
    """The shell of IPython, if this program runs in one; else None."""
    get = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return None if get is None else get()


def in_notebook() -> bool:
    """Whether the program is the kernel of a notebook, or of another frontend of Jupyter."""
    return getattr(ipython(), "kernel", None) is not None


def is_cell(coroutine: object) -> bool:
    """Whether IPython runs the statements of a cell in ``coroutine``."""
    code = getattr(getattr(type(ipython()), "run_cell_async", None), "__code__", None)
    return code is not None and getattr(coroutine, "cr_code", None) is code


def is_prompt() -> bool:
    """Whether a person types the statements of this program.

    No command line can repeat typed statements.
    """
    return hasattr(sys, "ps1") or ipython() is not None


def program() -> list[str]:
    """The words of this program's command line; none at a Python prompt or in a notebook."""
    arguments = getattr(sys, "orig_argv", sys.argv)
    if is_prompt() or not arguments:
        return []
    return [sys.executable or "python", *arguments[1:]]


def start_again() -> str:
    """Advice for a person on how to continue a run that has ended early."""
    if in_notebook():
        return "run this cell again"
    return "call run() again" if is_prompt() else "run this program again"


def interrupt_again() -> str:
    """Advice for a person on how to end a run that already waits for its rows in flight."""
    return "a further interrupt of the kernel" if in_notebook() else "a further Ctrl-C"

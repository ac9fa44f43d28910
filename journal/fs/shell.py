"""Quotes command lines for the shell of the person who will type them.

On Windows, a quoted line works both in cmd and in PowerShell 7, except if a word contains ``%``,
``$`` or a backtick. No quoting of these characters is right for both shells. cmd expands
``%NAME%``, and PowerShell expands ``$`` and backticks.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from journal.text import as_utf8

IS_FOR_WINDOWS = sys.platform == "win32"

# The words of a message that says how to run a line of the shell as a command.
A_SCRIPT = "it into a file, FILE.cmd" if IS_FOR_WINDOWS else "sh -c '...'"

# A word that neither cmd nor PowerShell changes. PowerShell would split -a.b into two words.
_BARE = re.compile(r"(?!-\w[^.:]*[.:])[\w\\/.:+=-]+")
_BEFORE_QUOTE = re.compile(r'(\\*)("|\Z)')


def quote(word: str) -> str:
    """Quote a word, so that the shell reads it as one word."""
    if IS_FOR_WINDOWS:
        return quote_for_windows(word)
    return quote_for_posix(word)


def quote_for_posix(word: str) -> str:
    """Quote a word for a POSIX shell. The words of such a shell are bytes."""
    import shlex  # noqa: PLC0415  (`journal list` starts without it)

    shown = as_utf8(word)
    if shown == word:
        return shlex.quote(word)
    # bash, ksh, zsh and POSIX of 2024 know this form of quotes.
    escaped = word.replace("\\", r"\\").replace("'", r"\'")
    return f"$'{as_utf8(escaped)}'"


def join(words: Iterable[str]) -> str:
    """Join words to a command line, each word quoted."""
    return " ".join(map(quote, words))


def in_directory(directory: str, words: Iterable[str]) -> str:
    """Make a line that changes to ``directory``, unless it is "", and then runs ``words``."""
    # In cmd, cd wouldn't change the drive. PowerShell knows pushd, too.
    go_to = "pushd " if IS_FOR_WINDOWS else "cd "
    return (f"{go_to}{quote(directory)} && " if directory else "") + join(words)


def quote_for_windows(word: str) -> str:
    r"""Quote a word for Microsoft's C runtime.

    Microsoft's page "Parsing C command-line arguments" states the rules.

    A quotation mark within the word is doubled, since in cmd, ``\"`` would end the quotation.
    """
    if _BARE.fullmatch(word):
        return word
    inside = _BEFORE_QUOTE.sub(r"\1\1\2\2", word)
    return f'"{inside}"'

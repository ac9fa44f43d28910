"""Splits command lines that the package has printed, as the shell of a person would."""

from __future__ import annotations

import re
import shlex

from journal.fs.shell import IS_FOR_WINDOWS

_NEXT = re.compile(r"(\\*)([^\\]|\Z)", re.DOTALL)


def split(line: str) -> list[str]:
    """The words of a line."""
    return split_for_windows(line) if IS_FOR_WINDOWS else shlex.split(line)


def split_for_windows(line: str) -> list[str]:
    """Split a line into its words like Microsoft's C runtime."""
    words: list[str] = []
    word: str | None = None
    place, is_quoted = 0, False
    while place < len(line):
        match = _NEXT.match(line, place)
        assert match is not None
        slashes, sign, place = len(match[1]), match[2], match.end()
        if sign == '"':
            word = (word or "") + "\\" * (slashes // 2)
            if slashes % 2:
                word += '"'
            elif is_quoted and line[place : place + 1] == '"':
                word += '"'
                place += 1
            else:
                is_quoted = not is_quoted
            continue
        if slashes:
            word = (word or "") + "\\" * slashes
        if sign in (" ", "\t") and not is_quoted:
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + sign
    if is_quoted:
        raise ValueError("No closing quotation")
    return words if word is None else [*words, word]

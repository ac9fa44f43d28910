"""The classes that tell a shell which words can complete the word before the cursor."""

from __future__ import annotations

import os
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)

_WITH_COMMAND = frozenset(("run", "step"))  # after their --, there is a command of the user's own


class _Words(ShellComplete):
    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the cursor, with ~ and $HOME replaced as by the shell."""
        words, incomplete = super().get_completion_args()
        return [os.path.expandvars(os.path.expanduser(word)) for word in words], incomplete

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[Any]]:
        """The completions of the word ``incomplete`` after ``args``.

        Returns no completions if a word in ``args`` is wrong.
        """
        if "--" in args and not _WITH_COMMAND.isdisjoint(args[: args.index("--")]):
            if args[-1] == "--":
                return _programs(incomplete)
            return [CompletionItem(incomplete, type="file")]
        try:
            return super().get_completions(args, incomplete)
        except click.ClickException:
            return []


def _programs(incomplete: str) -> list[CompletionItem[Any]]:
    """The programs on PATH whose names begin with the word.

    Returns files instead if the word is a path, or if there are no such programs.
    """
    found = set[str]()
    for directory in [] if os.path.dirname(incomplete) else os.get_exec_path():
        try:
            names = [name for name in os.listdir(directory) if name.startswith(incomplete)]
        except OSError:
            continue
        found.update(name for name in names if os.access(os.path.join(directory, name), os.X_OK))
    if not found:
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(name) for name in sorted(found)]


class _Bash(_Words, BashComplete):
    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[Any]]:
        # for bash, --option=VALUE is three words, and only the last one is completed
        return super().get_completions(args[:-1] if args[-1:] == ["="] else args, incomplete)


class _WithWholeWords(_Words):
    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[Any]]:
        """The completions. A completion of a value in ``--option=VALUE`` includes the option."""
        found = super().get_completions(args, incomplete)
        option, sign, _ = incomplete.partition("=")
        if sign and option.startswith("-"):
            for item in found:
                item.value = f"{option}={item.value}" if item.type == "plain" else item.value
        return found


class _Zsh(_WithWholeWords, ZshComplete):
    pass


class _Fish(_WithWholeWords, FishComplete):
    pass


def register() -> None:
    """Let click use these classes instead of its own."""
    for each in (_Bash, _Zsh, _Fish):
        add_completion_class(each)

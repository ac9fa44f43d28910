"""Guesses what people meant by a wrong word, or by an option of another program."""

from __future__ import annotations

from collections.abc import Iterable

import click

from journal.text import similar

# Our commands, statuses and topics, and words that users try in their place.
_OTHER_NAMES = {
    "run": "start restart",
    "pause": "stop",
    "resume": "continue",
    "cancel": "kill abort",
    "list": "ls ps",
    "show": "status stat summary info",
    "log": "tail history",
    "watch": "progress",
    "delete": "rm remove",
    "tune": "slow throttle",
    "completed": "done ok",
    "processing": "running",
    "daily": "cron crontab mail",
    "inputs": "excel xlsx csv",
    "--version": "version",
}
# Options of other programs, the commands with which users try these options, and the right words.
_OTHER_OPTIONS = (
    ("--failed", "list rows errors export retry redo skip prune", "Write --status failed"),
    ("--failed", "run", "Write --retry-failed"),
    ("--all", "retry", "Without options, the command retries all failed rows"),
    ("--after --from", "list log", "Write --since WHEN"),
    ("--before --age --days", "prune", "Write --older-than WHEN, such as 90d"),
    ("--force -f", "delete prune redo", "Write --yes"),
    ("--jsonl --ndjson", "list rows errors log", "Write --nl"),
    ("-P --workers --parallel", "run tune", "Write -j N: the number of commands at a time"),
    (
        "--row --where",
        "cancel pause",
        "It takes the whole job. For rows: `journal skip JOB --row N`",
    ),
    ("--delay", "run tune", "Write --rate N/s: start at most N commands per second"),
    ("--joblog --resume", "run", "The job is the log: the same command, run again, continues it"),
    ("--max-rows", "run", "Write --limit N: start at most N rows"),
    (
        "--retries --max-retries",
        "run",
        "Write --max-attempts N: the number of attempts at a row, with the first",
    ),
    (
        "--shell",
        "run",
        (
            "A shell would execute data in its command line as code, in spite of quotes. Pass the "
            "values to a script as arguments, after one word that becomes its $0. Don't use them in "
            "shell arithmetic, which may execute its operands: "
            "-- sh -c 'echo \"$1\" | tr a-z A-Z' sh {column}"
        ),
    ),
)


def did_you_mean(word: str, known: Iterable[str]) -> list[str]:
    """Return a list with a question such as ``did you mean 'list'?``.

    The list is empty if no known word is similar to ``word``.
    """
    known = list(known)
    longer = sorted(each for each in known if word and each.startswith(word))
    meant = next(iter([*other_names(word, known), *longer]), None) or similar(word, known)
    return [] if meant is None else [f"did you mean '{meant}'?"]


def other_names(word: str, known: Iterable[str]) -> list[str]:
    """The known names in whose place users try ``word``."""
    return [each for each in known if word in _OTHER_NAMES.get(each, "").split()]


def meant_by(error: click.NoSuchOption) -> str | None:
    """The words to write instead of an option of another program, or None."""
    command = error.ctx.command.name if error.ctx is not None else None
    for options, commands, text in _OTHER_OPTIONS:
        if error.option_name in options.split() and command in commands.split():
            return text
    return None

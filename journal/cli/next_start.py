"""Advice to start the next run of a job, with a line to paste."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from journal.cli.find import DEFAULT_ROOT
from journal.fs import shell, system
from journal.model import Job, Run
from journal.run.advice import before_command, words_for_rest
from journal.run.platform import processes

_SHOWN = "`journal show` prints the recorded command"


class NextStart(NamedTuple):
    """Advice to start the next run of a job.

    ``what``: text for people. ``argv``: the words of a command to run in ``directory``, or ().
    ``warning``: a warning about the command, or "". ``recorded``: a command that was recorded for
    another store, and who recorded it, or "". A message of one line leaves ``recorded`` out, and
    `journal show` shows it.
    """

    what: str
    argv: Sequence[str] = ()
    directory: str = ""
    warning: str = ""
    is_script: bool = False
    recorded: str = ""

    @property
    def command(self) -> str:
        """The line to paste, or ""."""
        return shell.in_directory(self.directory, self.argv) if self.argv else ""

    @property
    def words(self) -> str:
        """The text for people."""
        what = f"{self.what}; {self.recorded}" if self.recorded else self.what
        return f"{what} ({self.warning})" if self.warning else what

    @property
    def text(self) -> str:
        if self.recorded:
            return f"{self.what}; {_SHOWN}"
        return f"{self.words}: {self.command}" if self.command else self.words

    def option(self, name: str, *values: str) -> str:
        """An option of the run with its possible values, as text.

        If ``is_script`` is true, the text is a Python argument. Otherwise, the text is an option of
        the command line.
        """
        if self.is_script:
            return f"{name}={' or '.join(map(repr, values)) or True}"
        return f"--{name.replace('_', '-')} {' or '.join(values)}".rstrip()

    def with_option(self, why: str, name: str, *values: str) -> tuple[str, str]:
        """Advice to start the run with one more option: a command to paste (or ""), and text."""
        if not self.argv or self.is_script:
            return "", f"{why} with {self.option(name, *values)}"
        option = [f"--{name.replace('_', '-')}", *values]
        end = before_command(self.argv)
        words = list(self.argv[:end])
        if option not in (words[at : at + len(option)] for at in range(len(words))):
            words += option
        line = shell.in_directory(self.directory, [*words, *self.argv[end:]])
        return line, f"{why} ({self.warning})" if self.warning else why


def maybe_alive(*jobs: Job) -> str:
    """A warning if the last runs of ``jobs`` may be alive on other hosts, or ""."""
    runs = (job.last_run for job in jobs)
    hosts = sorted({run.host for run in runs if run is not None} - {system.host_name()})
    if not hosts:
        return ""
    where = f"last run on {', '.join(hosts)}"
    return f"{where}; this host can't know whether the run has ended: look there first"


def next_start(job: Job, root: Path, *, is_short: bool = False) -> NextStart:
    """Advice to run a job again, if possible with the command or script of the last run.

    ``root``: the job's store. ``is_short``: the line to paste need not work in other directories.
    """
    root = Path(os.path.abspath(root))  # without "..", as in the recorded command of a run
    name, shard = job.id.partition("/")[0], job.shard
    option = "" if shard is None else f" --shard {shard.index}/{shard.count}"
    argument = "" if shard is None else f", shard=({shard.index}, {shard.count})"
    run = f"journal --root {shell.quote(str(root))} run ... --job {name}{option}"
    last = job.last_run
    if last is not None and last.is_command:
        words = words_for_rest(last)
        options = words[: before_command(words)]
        if ["--root", str(root), "run"] in (options[n : n + 3] for n in range(len(options))):
            is_piped = ("run", "-") in itertools.pairwise(options)
            warnings = _warning_of(last), "pipe the input in again" * is_piped
            warning = "; ".join(filter(None, warnings))
            if is_short and last.directory == system.current_directory():
                return NextStart("run it again", short_command(words), "", warning)
            return NextStart("run it again", words, last.directory, warning)
        # The recorded command would continue the job in another store.
        by = f"recorded on {last.host} by {last.user}, in {last.directory}"
        recorded = _SHOWN if is_short else f"{by}: `{shell.join(words)}`"
        return NextStart(f"use `{run}`", recorded=recorded)
    if last is not None and last.argv:
        again = "run the script again"
        return NextStart(again, last.argv, last.directory, _warning_of(last), is_script=True)
    if job.started_at is None:
        program = f'journal.open_job("{root / name}"{argument}).run(...)'
        how = f"use `{run}` with the same input, or in Python {program}"
        return NextStart(f"{job.id} was never run: {how}")
    command = job.original_command
    made_by = f": {command}" if command else ""
    warning = "" if last is None else _warning_of(last)
    what = f"start again the program that made the job{made_by}, as job {job.id}"
    return NextStart(what, warning=warning)


def _warning_of(run: Run) -> str:
    """A warning if another user or host recorded the command of a run, or ""."""
    if (run.host, run.user) == (system.host_name(), system.user_name()):
        return ""
    return f"recorded on {run.host} by {run.user}: look before you paste"


def short_command(words: Sequence[str]) -> list[str]:
    """The shortest words of a call of this program that work in this directory."""
    at = words.index("--root")
    program = ["journal"] if [*words[:at]] == [processes.find_program("journal")] else words[:at]
    is_default = words[at + 1] == os.path.abspath(DEFAULT_ROOT) and "JOURNAL_ROOT" not in os.environ
    return [*program, *words[at + 2 if is_default else at :]]

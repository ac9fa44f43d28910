"""What a command line means: its placeholders, and what its commands say of their rows."""

from __future__ import annotations

from mutation.patch import Patch

PLACEHOLDERS = "tests/cli/test_placeholders.py"
OUTCOMES = "tests/cli/test_outcomes_of_commands.py"
ARGUMENTS = "tests/run/test_wrong_arguments.py"
MISTAKES = "tests/cli/test_mistakes.py"

PATCHES = [
    Patch(
        "Ctrl-C while Python evaluates text ends the command with its own exit code",
        "__main__",
        '    exec("")  # noqa: S102\n',
        "",
        "tests/cli/test_cli.py",
    ),
    Patch(
        "a placeholder that may be misspelt is refused",
        "cli/run/template",
        "                name in self._needed or _resembles_one(name, columns)\n",
        "                _resembles_one(name, columns)\n",
        PLACEHOLDERS,
    ),
    Patch(
        "text that resembles a column is refused",
        "cli/run/template",
        "                name in self._needed or _resembles_one(name, columns)\n",
        "                name in self._needed\n",
        PLACEHOLDERS,
    ),
    Patch(
        "a value is kept out of a script, also if its name has no form of a placeholder",
        "cli/run/template",
        "        self._filled = names\n        self._check_scripts()\n",
        "        self._filled = names\n",
        PLACEHOLDERS,
    ),
    Patch(
        "a row is filled as the input says, whatever its own columns are",
        "cli/run/template",
        "        for name in self._filled:\n",
        "        for name in self._known(row.data):\n",
        PLACEHOLDERS,
    ),
    Patch(
        "rows that lack a name in braces are not filled with its text",
        "cli/run/template",
        "                if columns is not None and known != self._filled:\n",
        "                if False:\n",
        PLACEHOLDERS,
    ),
    Patch(
        "a status of a command that was asked to end has no meaning for its row",
        "cli/run/outcomes",
        "        word = None if was_ended else self.others.get(code)\n",
        "        word = self.others.get(code)\n",
        OUTCOMES,
    ),
    Patch(
        "with --retry-on, no other status is tried again",
        "cli/run/outcomes",
        "            return failed(code, message, retryable=not self.retry_on)\n",
        "            return failed(code, message, retryable=True)\n",
        OUTCOMES,
    ),
    Patch(
        "a completion whose status contradicts needs a review",
        "cli/run/outcomes",
        '        if ended.kind == "completed":\n            return done\n',
        "        return done\n",
        OUTCOMES,
    ),
    Patch(
        "an outcome that can't be read needs a review, whatever the status is",
        "cli/run/outcomes",
        "    if word is None or problem:\n",
        '    if (word is None or problem) and ended.kind != "completed":\n'
        "        return ended\n"
        "    if word is None or problem:\n",
        OUTCOMES,
    ),
    Patch(
        "the cost of an outcome that can't be read is kept",
        "cli/run/outcomes",
        '    return with_cost(review, members.get("cost_cents"), members.get("usage"))\n',
        "    return review\n",
        OUTCOMES,
    ),
    Patch(
        "a review by status keeps the output",
        "cli/run/subprocesses",
        "            return msgspec.structs.replace(outcome, result=self._kept(row, output) or None)\n",
        "            return outcome\n",
        OUTCOMES,
    ),
    Patch(
        "a printed time of a hold counts",
        "cli/run/outcomes",
        "            return held(code, message, after_s=after_s)\n",
        "            return held(code, message)\n",
        OUTCOMES,
    ),
    Patch(
        "a generator is no handler",
        "run/workers/choose",
        "    if is_generator_function(handler):\n",
        "    if False:\n",
        ARGUMENTS,
    ),
    Patch(
        "there is no job inside of a job",
        "run/open_job",
        "    if os.path.lexists(directory.parent / JOURNAL_NAME):\n",
        "    if False:\n",
        ARGUMENTS,
    ),
    Patch(
        "a job is no store",
        "cli/main",
        "    if os.path.lexists(os.path.join(root, JOURNAL_NAME)):\n",
        "    if False:\n",
        MISTAKES,
    ),
    Patch(
        "only ROWS are before the dashes",
        "cli/run/arguments",
        "    if len(before) > 1:\n",
        "    if False:\n",
        MISTAKES,
    ),
    Patch(
        "no value is a part of what cmd runs as code",
        "cli/run/template",
        "            if self._is_filled(place) and not is_one_value:\n",
        "            if False:\n",
        PLACEHOLDERS,
    ),
    Patch(
        "a batch file gets no argument that cmd would interpret",
        "run/platform/batch_files",
        "        if found is not None:\n",
        "        if False:\n",
        "tests/run/test_processes_of_commands.py",
    ),
]

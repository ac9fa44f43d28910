"""What a command line means: its placeholders, and what its commands say of their rows."""

from __future__ import annotations

from mutation.patch import Patch

PLACEHOLDERS = "tests/cli/test_placeholders.py"

PATCHES = [
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
]

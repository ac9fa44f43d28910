"""The rooms (subpackages) of the package, and which of them may import which."""

from __future__ import annotations

# The floors from the ground up. A room imports only from lower floors, and from itself.
FLOORS = (
    "text version",
    "fs.shell",
    "errors",
    "display ids",
    "model fs",
    "format progress",
    "index",
    "store verify",
    "history inputs repair",
    "tables",
    "service transfer",
    "verbs sets",
    "run",
    "report",
    "cli",
    "cli.run cli.watch",
    "cli.commands",
    "__main__",
)

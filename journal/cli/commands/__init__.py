"""The commands of `journal`: one module for each command, or for a few that belong together.

These modules have several commands:

- ``control``: pause, resume, cancel, reopen.
- ``damage``: verify, repair.
- ``delete``: delete, prune.
- ``log``: log, watch, wait.
- ``rows``: rows, errors.
- ``settle``: retry, redo, skip, resolve.
- ``transfer``: pack, unpack, compare, pull.

Each other module has the command of its own name. A module is imported when its command is
used. Only ``cli/main`` imports these modules, and it does so by name.

May import: all packages of ``journal``.
"""

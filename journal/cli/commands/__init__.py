"""The commands of `journal`: one module for each command, or for a few that belong together.

These modules have several commands:

- ``control``: pause, resume, cancel, tune.
- ``damage``: verify, repair.
- ``delete``: delete, prune.
- ``list``: list, shards.
- ``rows``: rows, errors.
- ``settle``: retry, redo, skip, resolve.
- ``transfer``: pack, unpack, pull.
- ``watch``: watch, wait.

Each other module has one command, which has the name of the module. `journal help` is in
``cli/help``. A module is imported when its command is used. Outside of this room, only ``cli/main``
imports these modules, and it does so with ``importlib``.

Imports allowed: all packages of ``journal``.
"""

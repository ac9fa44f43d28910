"""The commands of `journal`: one module for each command, or for a few that belong together.

- ``run``; ``control``: pause, resume, cancel, reopen.
- ``list``, ``show``, ``log``, ``report``, ``export``; ``rows``: rows, errors; ``watch``: watch, wait.
- ``settle``: retry, redo, skip, resolve.
- ``transfer``: pack, unpack, compare, pull.
- ``verify``, ``repair``, ``delete``, ``help``.

A module is imported when its command is used. Only ``cli/main`` imports these modules, and it does
so by name. May import: all rooms.
"""

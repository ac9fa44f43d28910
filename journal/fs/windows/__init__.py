"""Windows: replacements for the modules ``os`` and ``fcntl``.

- ``api``: the functions of the Windows API that are used, their structures and errors.
- ``calls``: the calls of POSIX that ``fs`` makes, as ``journal.fs.system.os``.
- ``locks``: locks of files, as ``journal.fs.system.fcntl``.

On other systems, no module of this room is imported. May import: nothing of the package.
"""

"""The file system: every system call that a journal needs.

- ``system``: the system calls, the clock and the host. Tests replace ``system.os`` to inject
  faults.
- ``handles``: open files, and how a refused call becomes a StorageError. ``locks``: file locks.
- ``names``: the names of all files in a job and in a store.
- ``files``, ``directories``: make, replace, copy, list and remove files and directories.
- ``beneath``: files below a directory, opened without following a link.
- ``output``: files that a user asked for. ``sync_mark``: the note that a sync is under way.

May import: the root's ``errors``, ``text``, ``model``.
"""

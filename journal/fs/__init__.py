"""The file system: every system call that a journal needs.

- ``system``: the calls themselves, the clock and the host. Tests replace its ``os`` with a faulty
  one.
- ``handles``: open files, and how a refused call becomes a StorageError. ``locks``: file locks.
- ``names``: the names of all files in a job and in a store.
- ``files``, ``directories``: make, replace, copy, list and remove them.
- ``beneath``: files below a directory, reached without following a link.
- ``output``: files that a user asked for. ``sync_mark``: the note that a sync is under way.

May import: the root's ``errors``, ``text``, ``model``.
"""

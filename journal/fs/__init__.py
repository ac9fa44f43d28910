"""Makes every system call that a journal needs.

- ``system``: makes the system calls, reads the clock, sets up the standard streams. Tests replace
  ``system.os``, to make calls fail. ``macos``: contains the calls that differ on macOS.
- ``handles``: opens files, and turns a refused call into a StorageError.
- ``locks``: locks files. ``network_claims``: recognizes network file systems, and the run that has
  a job there.
- ``file_names``: defines the names of all files in a job and in a store.
- ``files``: makes, replaces, copies, lists and removes files and directories.
- ``safe_paths``: opens files below a directory, without following links.
- ``output_files``: writes files that a user asked for. ``sync_mark``: records in a file that a sync
  is under way. ``staging``: opens the directory of a store in which jobs are made and deleted.

Imports allowed: the modules ``errors`` and ``text`` at the top of the package.
"""

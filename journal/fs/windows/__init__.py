"""Windows: replacements for the modules ``os`` and ``fcntl``.

- ``api``: contains the functions of the Windows API, their structures and errors.
- ``calls``: implements the POSIX calls that ``fs`` makes. On Windows, this module is
  ``journal.fs.system.os``.
- ``locks``: locks files. On Windows, this module is ``journal.fs.system.fcntl``.

On other systems, no module of this room (subpackage) is imported. May import: nothing of the
package.
"""

"""The command line `journal`: the parts that its commands share.

- ``main``: the group of all commands, and how errors become messages and exit codes.
- ``find``, ``follow``: find the job that a command names, and follow it until it ends.
- ``shared_options``, ``conditions``, ``row_ranges``, ``times``, ``redaction``: options that commands
  share.
- ``listing``, ``output``: tables, JSON, CSV and text on a terminal.
- ``advice``, ``progress``, ``throughput``: commands to type next, a progress bar, rows per second.
- ``exit_codes``: every exit code.

The commands are in ``cli/commands``; modules for `journal run` only are in ``cli/run``. May import
all other rooms, except these two. Only ``__main__`` imports this room.
"""

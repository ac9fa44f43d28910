"""The command line `journal`: what its commands share.

- ``main``: the group of all commands, and how errors become messages and exit codes.
- ``find``, ``follow``: the job that a command names, and following it until it ends.
- ``options``, ``conditions``, ``row_ranges``, ``times``, ``redaction``: options that commands share.
- ``listing``, ``output``: tables, JSON, CSV and text on a terminal.
- ``advice``, ``progress``, ``throughput``: what to do next, a bar, and how fast rows end.
- ``exit_codes``: every exit code.

The commands are in ``cli/commands``, and what only `journal run` needs is in ``cli/run``. May import
all other rooms, and neither of these two. Only ``__main__`` imports it.
"""

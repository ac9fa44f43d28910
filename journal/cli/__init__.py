"""The parts that the commands of `journal` share.

- ``main``: defines the group of all commands, and turns errors into messages and exit codes.
- ``find``: finds the job that a command names. ``follow``: watches a job until it ends.
- ``selection``: the rows that a command shows or changes.
  ``conditions``: those of ``--where``. ``shared_options``, ``times``: other options.
- ``listing_formats``: tables, JSON and CSV. ``output``: text on a terminal.
- ``advice``: suggests the commands to type next. ``next_start``: how to start the next run.
- ``own_exit_codes``: those that commands choose themselves, and where the others are.

The commands are in ``cli/commands``. Modules that only `journal run` needs are in ``cli/run``, and
those of the live view in ``cli/watch``.

May import: all packages of ``journal``, except ``cli/commands``, ``cli/run`` and ``cli/watch``.
"""

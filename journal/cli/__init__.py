"""The parts that the commands of `journal` share.

- ``main``: defines the group of all commands, and turns errors into messages and exit codes.
- ``find``: finds the job that a command names. ``job_status``: its status and counts in words.
- ``selection``: the rows that a command shows or changes, also by ``--where``.
  ``shared_options``: other options, also durations and times.
- ``resolution``: what a person says of rows in review. ``outcome_file``: a file that says it.
- ``listing_formats``: tables, JSON and CSV. ``output``: text on a terminal.
- ``advice``: suggests the commands to type next. ``next_start``: how to start the next run.
- ``mistakes``: "did you mean", and what to write instead of options of other programs.

The exit codes are in ``run/exit_codes``.

The commands are in ``cli/commands``. Modules that only `journal run` needs are in ``cli/run``,
and those that follow a job until it ends in ``cli/watch``.

May import: all packages of ``journal``, except ``cli/commands``, ``cli/run`` and ``cli/watch``.
"""

"""The parts that the commands of `journal` share.

- ``main``: defines the group of all commands, and turns errors into messages and exit codes.
  ``help``: `journal help`, which shows all commands and the pages of ``docs``.
- ``find``: finds the job that a command names. ``job_status``: a job's status and counts in words.
- ``selection``: the options that choose the rows that a command shows or changes.
  ``shared_options``: other options, such as durations and times.
- ``resolution``: a person's decision about rows in review. ``outcome_file``: a file with values
  for these rows.
- ``listing_formats``: tables, JSON and CSV. ``output``: text on a terminal.
- ``advice``: suggests the commands to type next. ``next_start``: how to start the next run.
- ``mistakes``: "did you mean", and what to write instead of options of other programs.

The exit codes are in ``run/exit_codes``.

The commands are in ``cli/commands``. Modules that only `journal run` needs are in ``cli/run``.
Modules that follow a job until it ends are in ``cli/watch``.

Imports allowed: all packages of ``journal``, except ``cli/commands``, ``cli/run``, ``cli/watch``.
"""

"""The modules that only `journal run` needs.

- ``options``: defines the options of `journal run`, and checks the words around ``--``.
- ``messages``: messages before and after a run. ``dry_run``: prints which commands would run.
- ``template``: fills the placeholders of a command with the values of a row.
- ``subprocesses``: runs the command of a row, and makes an outcome of its result. ``batches``: does
  the same with a command for many rows. ``outcomes``: converts an exit status or printed JSON to an
  outcome.

Imports allowed: all packages of ``journal``, except ``cli/commands``.
"""

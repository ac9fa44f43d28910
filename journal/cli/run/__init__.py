"""The modules that only `journal run` needs.

- ``options``: defines the options of `journal run`.
- ``arguments``: checks what is before and after the ``--`` of a command line.
- ``messages``: what is said before and after a run. ``dry_run``: what would run.
- ``template``: fills the placeholders of a command with the values of a row.
- ``subprocesses``: runs the command of a row, and makes an outcome of its result. ``batches`` does so
  with a command for many rows. ``outcomes``: what an exit status or printed JSON says about a row.
- ``on_end``: runs the command of ``--on-end`` when a run has ended.

May import: all rooms, except ``cli/commands``.
"""

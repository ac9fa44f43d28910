"""What people see of a run while it works.

- ``show``: :class:`Progress`, which chooses how progress is shown. ``terminal``: a bar, or plain
  lines. ``notebook``: HTML that is updated. ``rate``: rows per second, and the time that is left.
- ``messages``: where the messages of a run go: to ``tell``, to ``logging``, to standard error.

May import: ``model`` and the layers below it (see ``docs/architecture.md``).
"""

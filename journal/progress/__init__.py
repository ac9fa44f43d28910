"""Shows people how a run progresses.

- ``show``: :class:`Progress`, which chooses how progress is shown, and HTML in a notebook.
  ``terminal``: a bar, or plain lines. ``rate``: rows per second, and the remaining time.
  ``stalls``: whether a run has stalled.
- ``messages``: reports the messages of a run to ``tell``, to ``logging`` or to standard error.

Imports allowed: ``model`` and the layers below it (see ``docs/architecture.md``).
"""

"""Shows people how a run progresses.

- ``show``: HTML in a notebook, and :class:`Progress`, which chooses how progress is shown.
  ``terminal``: a bar, or plain lines. ``rate``: rows per second, and the remaining time.
  ``stalls``: whether a run has stalled.
- ``messages``: reports the messages of a run to ``tell``, to ``logging`` or to standard error.

Imports allowed: ``model`` and the layers below it (see ``docs/architecture.md``).
"""

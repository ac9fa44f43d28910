"""How objects look where people look at them.

- ``session``: whether this program is a notebook, a prompt or a script, and the words for each.
- ``plain``: the short ``repr`` of jobs and rows. ``html``: their HTML for notebooks.

May import: ``text`` (see ``docs/architecture.md``).
"""

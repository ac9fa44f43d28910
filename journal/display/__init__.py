"""How jobs, rows and runs are displayed for people.

- ``session``: whether this program is a notebook, a prompt or a script, and the advice for each.
- ``plain``: the short ``repr`` of jobs and rows. ``html``: their HTML for notebooks.

May import: ``text`` (see ``docs/architecture.md``).
"""

"""How jobs, rows and runs are displayed for people.

- ``session``: whether this program is a notebook, a prompt or a script, and the advice for each.
- ``repr``: how jobs, rows and runs represent themselves, as a line and as HTML for notebooks.

May import: ``text`` (see ``docs/architecture.md``).
"""

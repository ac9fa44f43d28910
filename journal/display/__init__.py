"""Displays jobs, rows and runs for people.

- ``session``: finds out whether this program is a notebook, a prompt or a script, and gives advice
  for each.
- ``colors``: the colors of statuses and events, in HTML and on a terminal.
- ``repr``: makes the lines, and the HTML for notebooks, that represent jobs, rows and runs.

Imports allowed: ``text`` (see ``docs/architecture.md``).
"""

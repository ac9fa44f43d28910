"""Makes a new journal from the undamaged parts of a damaged journal.

>>> from journal.repair import repair_job

- ``rebuild``: builds a new journal in a staging directory, keeps a backup of the damaged journal,
  and replaces the damaged journal with the new one.
- ``salvage``: decides which lines are kept, and what replaces the lost lines.
- ``damaged_lines``: reads the readable lines of a damaged journal.

Imports allowed: ``store``, ``verify``, and the layers below them (see ``docs/architecture.md``).
"""

from journal.repair.rebuild import Repair, repair_job

__all__ = ["Repair", "repair_job"]

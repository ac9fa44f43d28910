"""Repair: makes a new journal from the undamaged parts of a damaged journal.

>>> from journal.repair import repair_job

- ``rebuild``: the whole operation. It builds a new journal in a staging directory, keeps a backup
  of the damaged journal, and replaces it with the new one.
- ``salvage``: decides which lines are kept, and what is written in place of lost lines.
- ``damaged_lines``: reads the lines of a damaged journal, as far as they can be read.

May import: ``store``, the rooms below it, and ``verify``.
"""

from journal.repair.rebuild import Repair, repair_job

__all__ = ["Repair", "repair_job"]

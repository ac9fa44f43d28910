"""Repair: a new journal from what can be trusted of a damaged one.

>>> from journal.repair import repair_job

- ``rebuild``: the operation. It builds the new journal beside the damaged one, keeps a backup of
  that, and lets the new one take its place.
- ``salvage``: which lines are kept, and what is written in place of lost ones.
- ``damaged_lines``: the lines of a damaged journal, as far as they can be read.

May import ``store`` and what is below it, and ``verify``.
"""

from journal.repair.rebuild import Repair, repair_job

__all__ = ["Repair", "repair_job"]

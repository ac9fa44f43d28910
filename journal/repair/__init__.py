"""A damaged journal: what of it can be trusted, and a new one made of that.

>>> from journal.repair import repair_job

May import: ``store``, ``transfer`` and what is below.
"""

from journal.repair.rebuild import Repair, repair_job

__all__ = ["Repair", "repair_job"]

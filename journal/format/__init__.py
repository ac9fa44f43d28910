"""The format of a journal: from bytes to records and back. The specification is ``docs/format.md``.

- ``records``: record types, seals, encoding. ``decode``: a line as a record, or why it is none.
- ``values``, ``arguments``: checks of what callers pass in. ``idempotency``: the keys of rows.
- ``commits``: verifies seals, fast. ``extent``: reads between two positions, with public errors.
- ``torn_tail``: what follows the last commit. ``scan``, ``survey``: a damaged journal, region by
  region. ``bitflip``: finds one flipped bit.

May import: ``fs`` and the root's ``errors``, ``ids``, ``text``, ``model``.
"""

"""The format of a journal: from bytes to records and back. The specification is ``docs/format.md``.

- ``records``: record types and their encoding. ``seal``: the seal at the end of a commit.
- ``decode``: decodes a line, or says why the line is no record.
- ``values``, ``arguments``: checks of what callers pass in.
- ``idempotency``: the idempotency keys of rows.
- ``commits``: verifies seals, fast. ``extent``: reads records between two positions.
- ``torn_tail``: judges the bytes after the last commit.
- ``scan``, ``survey``: read a damaged journal region by region. ``bitflip``: finds a flipped bit.

May import: ``fs`` and the root's ``errors``, ``ids``, ``text``, ``model``.
"""

"""The format of a journal: from bytes to records and back. The specification is ``docs/format.md``.

- ``records``: defines and encodes records. ``seal``: makes and checks the seal (a chained CRC-32)
  at the end of a commit.
- ``decode``: decodes a line, or reports why the line isn't a record.
- ``values``, ``arguments``, ``keys``: check what callers pass in.
- ``idempotency``: makes the idempotency keys of rows.
- ``commits``: verifies seals, fast. ``extent``: reads records between two positions.
- ``torn_tail``: decides whether the bytes after the last commit are an interrupted write or damage.
- ``scan``, ``survey``: divide a damaged journal into regions, and give a verdict on each region.
  ``bitflip``: finds a flipped bit.

May import: ``fs``, and the modules ``errors``, ``ids``, ``text`` and ``model`` at the top of the
package.
"""

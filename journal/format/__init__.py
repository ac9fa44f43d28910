"""The format of a journal: from bytes to records and back.

``docs/format.md`` and ``docs/records.md`` specify the format.

- ``records``: defines and encodes records. ``seal``: makes and checks the seal (a chained CRC-32)
  at the end of a commit.
- ``decode``: decodes a line, or reports why the line isn't a record.
- ``size_limits``: the limits of records. ``values``, ``arguments``: check and convert what callers
  pass in. ``keys``: makes keys.
- ``commits``: verifies seals, and reads records between two positions, fast.
- ``torn_tail_or_damage``: judges all other bytes: an interrupted write, damage, or a newer format.
  ``bitflip``: finds a flipped bit.
- ``pruned``: the file with the pruned jobs, so that no pruned job is made anew by accident.

Imports allowed: ``fs``, and the modules ``errors``, ``ids``, ``text`` and ``model`` at the top of
the package.
"""

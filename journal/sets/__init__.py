"""Shards: one input in N parts, each a job of its own, which different machines work on.

- ``choice``: which shard a start works on; the variables of schedulers.
- ``items``: the rows of an input, of one shard or of a job that has all.
- ``split``: takes the rows of one shard from an input, and compares the input with that of others.
- ``whole``: the states of all shards of a set, and sums.

A set is a directory of shards, such as ``SET/003-of-064``. May import: ``service``, and what it may import.
"""

from journal.sets.whole import Part, Whole, look_at_set

__all__ = ["Part", "Whole", "look_at_set"]

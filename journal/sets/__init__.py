"""Shards: one input in N parts, each a job of its own, which different machines work on.

- ``shard_choice``: which shard a start works on; the variables of schedulers.
- ``input_rows``: the rows of an input, of one shard or of a job that has all; compares the input
  with that of other shards.
- ``shard_states``: the states of all shards of a set, and sums.

A set is a directory of shards, such as ``SET/003-of-064``. May import: ``service``, and what it may import.
"""

from journal.sets.shard_states import Part, Whole, look_at_set

__all__ = ["Part", "Whole", "look_at_set"]

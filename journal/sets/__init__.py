"""Shards: the N parts of one input. Each part is a job, so different machines can work on them.

- ``shard_choice``: chooses the shard that a start works on, by the variables of schedulers.
- ``input_rows``: yields all rows of an input, or the rows of one shard. Compares the input with the
  inputs that other shards have seen.
- ``shard_states``: the states of all shards of a set, and sums over them.

A set is a directory of shards, such as ``SET/003-of-064``.

Imports allowed: ``service``, and the rooms that ``service`` may import.
"""

from journal.sets.shard_states import Part, Whole, look_at_set

__all__ = ["Part", "Whole", "look_at_set"]

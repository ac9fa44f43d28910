"""Moves jobs between machines: packs, unpacks, compares, pulls and merges them.

- ``pack``, ``pull``, ``compare``, ``prune``: define the public functions. This ``__init__`` exports
  them.
- ``source``: opens a copy that is to be read. The copy is a directory, a pack or a stream.
- ``copies``: opens two copies of a job, and finds their last common commit.
- ``pack_contents``: decides which files a pack holds, and makes the pack's manifest.
- ``tarball``: writes and reads the bytes of a pack.
- ``artifacts``: installs the other copy's artifacts in a pull.
- ``divergence``: finds the changes that each copy made since the copies diverged.
- ``merge_plan``, ``merge_steps``: decide what becomes of each row and step in a merge, and which
  rows need a review.
- ``merge``: writes the records of a merge. ``merge_notes``: makes the texts of a merge.

May import: ``history`` and the layers below it (see ``docs/architecture.md``), but not the service.
"""

from journal.transfer.compare import compare_copies
from journal.transfer.pack import Packed, pack_job, pack_to_file, unpack_job
from journal.transfer.prune import Pruned, prune_jobs
from journal.transfer.pull import Pulled, pull_job

__all__ = [
    "Packed",
    "Pruned",
    "Pulled",
    "compare_copies",
    "pack_job",
    "pack_to_file",
    "prune_jobs",
    "pull_job",
    "unpack_job",
]

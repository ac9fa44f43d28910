"""Moves jobs between machines: packs, unpacks, pulls and merges them.

- ``pack``, ``pull``, ``prune``: define the public functions. This ``__init__`` exports these
  functions. ``pack`` also decides which files a pack holds, and opens a copy that is to be read.
- ``copies``: opens two copies of a job, and finds their last common commit.
- ``artifacts``: installs the other copy's artifacts in a pull.
- ``three_way``: matches and judges the rows of two diverged copies. ``merge``: writes the
  resulting changes.

Imports allowed: ``history`` and the layers below it (see ``docs/architecture.md``), except
the service.
"""

from journal.transfer.pack import Packed, pack_job, pack_to_file, unpack_job
from journal.transfer.prune import Pruned, prune_jobs
from journal.transfer.pull import Preview, Pulled, preview_pull, pull_job

__all__ = [
    "Packed",
    "Preview",
    "Pruned",
    "Pulled",
    "pack_job",
    "pack_to_file",
    "preview_pull",
    "prune_jobs",
    "pull_job",
    "unpack_job",
]

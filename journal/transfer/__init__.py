"""A job between machines: packed, unpacked, compared, pulled, merged.

- ``pack``, ``pull``, ``compare``: what this room offers; import it from here.
- ``source``: where a copy is read from: a directory, a pack, or a stream.
- ``copies``: two copies of a job, and their last common commit.
- ``pack_contents``: which files a pack holds, and its manifest.
- ``tarball``: a pack as bytes, written and read.
- ``artifacts``: the other copy's artifacts, installed by a pull.
- ``divergence``: what each copy did since they diverged.
- ``merge_plan``: what becomes of each row in a merge, and which rows need a review.
- ``merge``, ``merge_notes``: the records of a merge, and their texts.

May import ``store``, ``history`` and what is below them; nothing of the service.
"""

from journal.transfer.compare import compare_copies
from journal.transfer.pack import Packed, pack_job, pack_to_file, unpack_job
from journal.transfer.pull import Pulled, pull_job

__all__ = [
    "Packed",
    "Pulled",
    "compare_copies",
    "pack_job",
    "pack_to_file",
    "pull_job",
    "unpack_job",
]

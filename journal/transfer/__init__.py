"""A job between machines: packed, unpacked, compared, pulled, merged.

>>> from journal.transfer import pack_job, unpack_job, compare_copies, pull_job

May import: ``store``, ``history`` and what is below; of the service nothing.
"""

from journal.transfer.pack import (
    Packed,
    Pulled,
    compare_copies,
    pack_job,
    pack_to_file,
    pull_job,
    unpack_job,
)

__all__ = [
    "Packed",
    "Pulled",
    "compare_copies",
    "pack_job",
    "pack_to_file",
    "pull_job",
    "unpack_job",
]

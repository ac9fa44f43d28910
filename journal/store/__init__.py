"""Jobs on disk: opened, read, recovered, committed to, locked, listed.

The life of a commit is here, from the change that is asked for to the acknowledgement.

May import: ``index``, ``format``, ``fs``.
"""

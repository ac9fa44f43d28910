"""A job in memory: the columns of its rows, what replaying its records makes of them, its summary.

The hint is the index as a file, as Bitcask's hint files are: derived, and of no loss if deleted.

May import: ``format`` and what is below.
"""

"""The file system, and nothing above it.

Every call to the system goes through :mod:`journal.fs.system`, so that tests can stand in for it.
Here are descriptors and their errors, locks, directories, walks that follow no link, new files that
appear whole or not at all, and the mark that a sync is under way.

May import: the root's ``errors``, ``text``, ``model``.
"""

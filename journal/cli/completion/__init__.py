"""Completion of words in bash, zsh and fish.

- ``shells``: replaces click's classes for the shells, to complete what click doesn't understand: the
  command after ``--``, ``~`` in a path, and ``--option=VALUE``.

Which values an argument or option has is said where it is declared (``shell_complete``). The modules
are imported only when a shell asks. May import: click only.
"""

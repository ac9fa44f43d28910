"""Completion of words in bash, zsh and fish.

- ``shells``: replaces click's classes for the shells. It completes words that click doesn't
  understand: the command after ``--``, ``~`` in a path, and ``--option=VALUE``.

The declaration of an argument or option defines its possible values (``shell_complete``). The
modules are imported only when a shell asks for completions. May import: click only.
"""

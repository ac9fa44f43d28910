"""The live view of `journal watch`.

- ``seen``: what is seen of a job or a set at one moment, and how it is read.
- ``drawing``: the lines of a view, for a width and a height.
- ``screen``: the terminal: drawing in place, keys, signals, what stays at the end.
- ``live``: the views of a job and of a set, made of these.

May import: all packages of ``journal``, except ``cli/commands`` and ``cli/run``.
"""

"""Following a job until it ends, and the live view of `journal watch`.

- ``follow``: waits for changes of a job or a set, for `log -f`, `watch` and `wait`.
- ``reading``: reads what a view shows of a job or a set at one moment.
- ``drawing``: the lines of a view, for a width and a height.
- ``screen``: draws the view in place on the terminal, and reads keys.

Imports allowed: all packages of ``journal``, except ``cli/commands`` and ``cli/run``.
"""

"""What only `journal run` needs.

- ``options``: its options.
- ``inputs``: the rows of an input, from CSV, TSV, JSON Lines or lines.
- ``template``: a command with placeholders, filled in with the values of a row.
- ``subprocesses``: running the command of a row, and making an outcome of it.

May import all rooms but ``cli.commands``, which uses it.
"""

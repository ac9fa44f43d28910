"""The functions of the system that runs need, for POSIX and for Windows.

- ``processes``: starts commands, ends them with all processes that they have started, and reads how
  they ended.
- ``posix``, ``windows``: the two implementations. Only ``processes`` imports them.
- ``keyboard``: reads keys while they are pressed, and handles Ctrl-Z in a program that draws.
- ``batch_files``: the command line by which ``cmd`` runs a .bat or .cmd file.

This room (subpackage) imports nothing from the rest of ``run``.
"""

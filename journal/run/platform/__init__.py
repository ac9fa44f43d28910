"""What runs need from the system, implemented for POSIX and for Windows.

- ``processes``: starts commands, ends them with all processes that they have started, and reads how
  they ended.
- ``posix``, ``windows``: the two implementations. Only ``processes`` imports them.
- ``keyboard``: keys as they are pressed; Ctrl-Z in a program that draws.
- ``batch_files``: the command line by which ``cmd`` runs a .bat or .cmd file.

This room (subpackage) imports nothing from the rest of ``run``.
"""

"""What runs need from the system, in two ways: of POSIX and of Windows.

- ``processes``: commands with all processes that they start; ends them, and reads how they ended.
- ``posix``, ``windows``: the two ways. Only ``processes`` imports them.
- ``batch_files``: what ``cmd`` must be given to run a .bat or .cmd file.

This room imports nothing of ``run``.
"""

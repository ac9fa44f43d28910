"""The command ``journal``: what its commands share. The commands are in ``cli/commands``.

May import: everything but ``__main__``. Nothing imports it but ``__main__``.
"""

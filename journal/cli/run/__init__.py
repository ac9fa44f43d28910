"""What ``journal run`` has beyond the other commands: options, inputs, templates, subprocesses.

May import: everything but the commands.
"""

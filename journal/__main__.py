"""``python -m journal``, and the entry point of the ``journal`` command."""

from __future__ import annotations

import sys

_EXIT_INTERRUPTED = 130  # as journal.cli.exits has it, which isn't imported yet


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from journal.cli import main as run  # noqa: PLC0415  (a Ctrl-C meanwhile is no error)

        code = run()
    except KeyboardInterrupt:
        code = _EXIT_INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()

"""``python -m journal``, and the entry point of the ``journal`` command."""

from __future__ import annotations

import sys

from journal.cli import main as _main


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(_main())


if __name__ == "__main__":
    main()

"""``python -m journal``, and the entry point of the ``journal`` command."""

from __future__ import annotations

import gc
import sys

_EXIT_INTERRUPTED = 130  # as in journal.run.exit_codes, which isn't imported yet


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        # Imported objects live until the process ends. Hiding them from the garbage collector saves
        # a fifth of the time of a quick command.
        gc.disable()
        from journal.cli.main import main as run  # noqa: PLC0415  (inside try, for Ctrl-C)

        gc.freeze()
        gc.enable()
        code = run()
    except KeyboardInterrupt:
        code = _EXIT_INTERRUPTED
    # If Ctrl-C came while Python evaluated text (as for a named tuple), `python -m` would end by
    # SIGINT, and not with the exit code. Evaluating text again prevents this.
    exec("")  # noqa: S102
    sys.exit(code)


if __name__ == "__main__":
    main()

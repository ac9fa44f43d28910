"""Starts commands, ends them with all processes that they started, and says how they ended.

    process = start(argv, environment(), stdin=stdin, stdout=output, stderr=errors)
    process.wait()
    status = process.close()

``posix`` describes all of these functions. The functions of ``windows`` have the same effect.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from journal.run.platform.windows import *  # noqa: F403
else:
    from journal.run.platform.posix import *  # noqa: F403

# Seconds that a process has to save its work, after it was asked to end and before it is killed.
# The other calls of handlers have the same time (see workers/termination).
GRACE_S = 5.0

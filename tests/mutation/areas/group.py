"""Threads that share a commit: who leads, who waits, and what each is told."""

from __future__ import annotations

from mutation.patch import Patch

GROUP = "tests/store/test_group.py"

PATCHES = [
    Patch(
        "a fork waits for the imports of other threads",
        "service",
        "system.os.register_at_fork(before=_import_late_modules)\n",
        "",
        f"{GROUP} -k waits_for_the_imports",
    ),
    Patch(
        "who has waited too long looks for itself whether there is a leader",
        "store/group_commit",
        "                    self.leader = request\n\n    def _leave",
        "                    pass\n\n    def _leave",
        GROUP,
    ),
    Patch(
        "each thread has an error of its own",
        "store/group_commit",
        "            error = copy.copy(commit.error)\n",
        "            error = commit.error\n",
        GROUP,
    ),
    Patch(
        "an error names its cause to each thread",
        "store/group_commit",
        "            error.__cause__ = commit.error.__cause__\n",
        "",
        GROUP,
    ),
    Patch(
        "whose commit was interrupted while it ended has an unknown outcome",
        "store/group_commit",
        "            error = journal.interrupted()\n",
        "            error = None\n",
        GROUP,
    ),
    Patch(
        "a request that was interrupted asks again with nothing of its first try",
        "store/group_commit",
        "        request.commit = request.error = None  # the",
        "        request.commit = None  # the",
        GROUP,
    ),
]

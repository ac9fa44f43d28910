"""Threads that share a commit: who writes it, who waits, and what each is told."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "who waits in a group whose first gives up has its own time",
        "store/group_commit",
        "                if not isinstance(group.error, JobLockedError) or time.monotonic() >= deadline_s:\n                    break\n",
        "                break\n",
        "tests/store/test_group.py::test_who_waits_behind_a_thread_that_gives_up_has_its_own_time",
    ),
    Patch(
        "no request joins the group of a commit that has begun",
        "store/group_commit",
        "                self._close(group)\n                requests",
        "                requests",
        "tests/store/test_group.py::test_threads_that_shared_a_commit_share_the_next_one_from_its_first_request_on",
    ),
    Patch(
        "a group whose commit was interrupted while it ended has an unknown outcome",
        "store/group_commit",
        '            error = CommitOutcomeUnknownError(self._path, "write", errno.EINTR, reason)\n',
        "            error = None\n",
        "tests/store/test_group.py::test_who_leads_and_is_interrupted_during_the_sync_leaves_the_others_an_unknown_outcome",
    ),
    Patch(
        "a group that was interrupted tries again with nothing of its first try",
        "store/group_commit",
        "    request.error = None  # drop the error from a commit that was interrupted\n",
        "",
        "tests/store/test_group.py::test_who_was_refused_in_a_commit_that_was_interrupted_is_not_refused_in_the_next",
    ),
]

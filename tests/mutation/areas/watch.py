"""The live view of `journal watch`."""

from __future__ import annotations

from mutation.patch import Patch

VIEW = "tests/cli/test_live_view.py"
RECENT = "tests/history/test_recent.py"

PATCHES = [
    Patch(
        "a view writes no hint",
        "store/journal",
        "        if self.leaves_hints and is_due:\n",
        "        if is_due:\n",
        f"{VIEW}::test_a_view_writes_nothing_and_needs_no_right_to_write",
    ),
    Patch(
        "a view that ends leaves the alternate screen",
        "cli/watch/screen",
        "                self._write(_LEAVE)\n",
        "                pass\n",
        f"{VIEW}::test_a_key_ends_the_view_and_restores_the_terminal",
    ),
    Patch(
        "a view that ends restores the keys",
        "run/platform/keyboard",
        "            before, self._before = self._before, None\n",
        "            before, self._before = None, None\n",
        f"{VIEW}::test_a_key_ends_the_view_and_restores_the_terminal",
    ),
    Patch(
        "a signal ends a view by way of its end",
        "cli/watch/screen",
        "            stack.enter_context(ending_signals())\n",
        "",
        f"{VIEW}::test_a_signal_that_ends_the_view_restores_the_terminal",
    ),
    Patch(
        "of much that is new a view reads only the end",
        "history/reading",
        "        return seal_after(self._file, offset, end.offset) or end\n",
        "        return lowest or START\n",
        f"{RECENT}::test_of_much_that_is_new_only_the_end_is_read",
    ),
    Patch(
        "no stall is seen during a hold",
        "cli/watch/seen",
        "        is_running = state == JobStatus.RUNNING and job.hold is None\n",
        "        is_running = state == JobStatus.RUNNING\n",
        f"{VIEW}::test_a_stall_is_seen_and_shown_only_while_rows_are_expected_to_end",
    ),
    Patch(
        "no end is forecast under a rate by usage",
        "progress/rate",
        "not rate or usage_rates_text(job)",
        "not rate",
        "tests/cli/test_live_view.py::test_no_end_is_forecast_under_a_rate_by_usage",
    ),
]

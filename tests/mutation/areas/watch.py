"""The live view of `journal watch`."""

from __future__ import annotations

from mutation.patch import Patch

VIEW = "tests/cli/test_live_view.py"

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
        "a signal ends a view by way of its end",
        "cli/watch/screen",
        "            stack.enter_context(ending_signals())\n",
        "",
        f"{VIEW}::test_a_signal_that_ends_the_view_restores_the_terminal",
    ),
    Patch(
        "no end is forecast under a rate by usage",
        "progress/rate",
        "not rate or usage_rates_text(job)",
        "not rate",
        "tests/cli/test_live_view.py::test_no_end_is_forecast_under_a_rate_by_usage",
    ),
]

"""Runs of a part of the rows."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "a condition stays while rows that meet it are left",
        "run/advice",
        '    if run.is_command and run.ended_early is not None and run.ended_early.kind == "where":\n',
        "    if run.is_command:\n",
        "tests/cli/test_run_where.py::test_the_condition_stays_while_rows_that_meet_it_are_left",
    ),
    Patch(
        "a row that was passed over is not asked about again",
        "run/plan",
        "        self._passed_over[at] = 1\n",
        "",
        "tests/run/test_where.py::test_a_row_that_stays_open_is_asked_about_once",
    ),
    Patch(
        "rows that stay open don't keep a run waiting",
        "run/row_queue",
        "        if not self._at_end or self._per_key.count or others > self._chosen.left:\n            return False\n",
        "        if others:\n            return False\n",
        "tests/run/test_where.py::test_only_rows_that_meet_the_condition_are_run",
    ),
    Patch(
        "a run that has not searched all rows is not over",
        "run/row_queue",
        "        if not self._at_end or self._per_key.count or others > self._chosen.left:\n",
        "        if self._per_key.count or others > self._chosen.left:\n",
        "tests/run/test_where.py::test_a_search_that_is_not_at_its_end_keeps_the_run",
    ),
    Patch(
        "a run does not end before rows that wait for another attempt",
        "run/row_queue",
        "        return not any(map(self._is_pending, self._waiting))\n",
        "        return True\n",
        "tests/run/test_where.py::test_a_row_that_waits_for_another_attempt_keeps_the_run",
    ),
    Patch(
        "failed rows that don't meet the condition stay failed in a run",
        "run/plan",
        "service.retry_row, where=where)\n",
        'service.retry_row, status="failed")\n',
        "tests/run/test_where.py::test_failed_rows_are_retried_only_if_they_meet_the_condition",
    ),
]

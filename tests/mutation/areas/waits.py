"""Rows that wait for somebody else: what must not be forgotten, counted, or asked for at once."""

from __future__ import annotations

from mutation.patch import Patch

WAITS = "tests/run/test_waits.py::"

PATCHES = [
    Patch(
        "a row that waits is not started before it is due",
        "index/index",
        "        self.columns.statuses[position] = WAITING\n",
        "        pass\n",
        f"{WAITS}test_a_start_knows_what_waits_from_the_journal",
    ),
    Patch(
        "an attempt that has handed the row to somebody doesn't count",
        "index/index",
        'if record.reset in ("given_back", "wait"):\n                if old == PROCESSING:\n',
        'if record.reset in ("given_back", "wait"):\n                if old == PROCESSING and record.reset != "wait":\n',
        f"{WAITS}test_a_row_that_waits_is_attempted_again_and_no_attempt_counts",
    ),
    Patch(
        "a retry begins a wait anew",
        "index/columns",
        "            self.due[position] = 0\n",
        "            pass\n",
        f"{WAITS}test_only_a_retry_begins_a_wait_anew",
    ),
    Patch(
        "an attempt that fails doesn't begin a wait anew",
        "store/transitions",
        "    record.since = waits_since(journal, position)\n    if record.reset",
        '    record.since = waits_since(journal, position) if record.reset == "wait" else None\n'
        "    if record.reset",
        f"{WAITS}test_only_a_retry_begins_a_wait_anew",
    ),
    Patch(
        "an attempt whose run died doesn't begin a wait anew",
        "store/interrupted_rows",
        "if in_flight and target is RowStatus.PENDING else None,\n",
        "if False else None,\n",
        f"{WAITS}test_an_attempt_of_a_run_that_died_does_not_end_a_wait",
    ),
    Patch(
        "a row that waits and is gone from the input may have taken effect",
        "store/interrupted_rows",
        ', WAITING: "waits for somebody else"}',
        "}",
        f"{WAITS}test_a_row_whose_input_is_gone_while_it_waits_needs_a_review",
    ),
    Patch(
        "rows in flight may wait next, so they count for max_waiting",
        "run/row_queue",
        "most - job.waiting_count - job.processing_count",
        "most - job.waiting_count",
        f"{WAITS}test_no_more_rows_are_out_than_max_waiting_allows",
    ),
    Patch(
        "a row that has waited is none of those that max_rows counts",
        "run/row_queue",
        "            if rank > RETRIED:\n",
        "            if rank != RETRIED:\n",
        f"{WAITS}test_rows_that_have_waited_are_none_of_the_rows_that_were_asked_for",
    ),
    Patch(
        "a wait that others have ended is not asked for",
        "store/bulk",
        "        is_open = columns.statuses[position] in (PENDING, WAITING)\n",
        "        is_open = columns.statuses[position] != PROCESSING\n",
        f"{WAITS}test_a_row_that_others_have_settled_while_it_waited_is_not_asked_for",
    ),
    Patch(
        "a row waits no longer than max_wait_s",
        "run/pacing/waits",
        "after_s=min(after_s, left_s, MAX_AFTER_S)",
        "after_s=min(after_s, MAX_AFTER_S)",
        f"{WAITS}test_a_row_waits_no_longer_than_max_wait_s",
    ),
    Patch(
        "a wait is work for a merge",
        "transfer/three_way",
        ' and reset != "wait"',
        "",
        "tests/transfer/test_merge.py::test_an_attempt_that_has_waited_there_and_was_put_back_here_needs_a_review",
    ),
    Patch(
        "the clock of another copy doesn't make a row wait longer",
        "transfer/merge",
        "writable(min(record.due, record.at + wait))",
        "record.due",
        "tests/transfer/test_merge.py::test_a_row_that_waits_there_waits_here_no_longer_than_it_said",
    ),
    Patch(
        "a row that waits may have lost something in a repair",
        "repair/salvage",
        "open_codes = (PENDING, WAITING, PROCESSING, FAILED)",
        "open_codes = (PENDING, PROCESSING, FAILED)",
        "tests/repair/test_repair.py::test_a_row_that_waits_needs_a_review_after_a_lost_line",
    ),
    Patch(
        "a row that has waited and waits for a slot counts for a rate",
        "run/row_queue",
        "self._waits.due(monotonic()) + self._per_key.waited\n",
        "self._waits.due(monotonic())\n",
        "tests/run/test_waits.py::test_rows_may_start_that_are_due_or_wait_for_a_slot_or_never_waited",
    ),
    Patch(
        "rows that are due leave half of the workers to others",
        "run/row_queue",
        "self.workers // 2 or",
        "self.workers or",
        "tests/run/test_waits.py::test_rows_that_are_due_come_first_with_half_of_the_workers",
    ),
    Patch(
        "one worker alternates between rows that are due and rows that never waited",
        "run/row_queue",
        "int(not self._only_polls)",
        "1",
        "tests/run/test_waits.py::test_one_worker_alternates_between_what_is_due_and_what_never_waited",
    ),
    Patch(
        "a row that waits is not polled at full speed",
        "run/pacing/waits",
        "max(after_s, MIN_WAIT_S)",
        "after_s",
        "tests/run/test_waits.py::test_a_wait_is_never_shorter_than_its_minimum",
    ),
    Patch(
        "one worker alternates between calls that are due and rows that never waited",
        "run/row_queue",
        "        half = self._half - self.calls.in_flight\n",
        "        half = max(1, self.workers // 2) - self.calls.in_flight\n",
        "tests/run/test_waits.py::test_what_is_always_due_keeps_one_worker_from_no_row",
    ),
]

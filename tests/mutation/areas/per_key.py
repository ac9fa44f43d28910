"""Limits by key: what counts, what waits, and what may start."""

from __future__ import annotations

from mutation.patch import Patch

PER_KEY = "run/pacing/limit_per"

PATCHES = [
    Patch(
        "a row whose key is full waits",
        PER_KEY,
        "return self.in_flight.get(key, 0) >= self._limit\n",
        "return self.in_flight.get(key, 0) > self._limit\n",
        "tests/run/test_limits_by_key.py::test_rows_of_a_full_key_wait_in_their_order_while_others_go_on",
    ),
    Patch(
        "an attempt that was given up keeps its slot",
        "run/row_queue",
        "for result in results if result.is_late or not result.call.is_given_up\n",
        "for result in results\n",
        "tests/run/test_limits_by_key.py::test_an_attempt_that_is_given_up_keeps_its_slot_until_it_ends",
    ),
    Patch(
        "an attempt that was taken back frees its slot",
        "run/row_queue",
        "for result in results if result.is_late or not result.call.is_given_up\n",
        "for result in results if result.is_late\n",
        "tests/run/test_limits_by_key.py::test_no_slot_is_taken_once_no_attempt_is_in_flight",
    ),
    Patch(
        "a slot becomes free once for each attempt",
        PER_KEY,
        "self._attempts.pop((row.row_number, row.attempts), None)",
        "self._attempts.get((row.row_number, row.attempts), None)",
        "tests/run/test_limits_by_key.py::test_an_attempt_that_is_said_to_have_ended_twice_frees_one_slot",
    ),
    Patch(
        "rows that wait for a key are ready when it has room",
        PER_KEY,
        "        for rank in RANKS:\n",
        "        for rank in ():\n",
        "tests/run/test_limits_by_key.py::test_rows_of_a_full_key_wait_in_their_order_while_others_go_on",
    ),
    Patch(
        "text and other values of the same characters are different keys",
        PER_KEY,
        "return '\"' + value if type(value) is str else canonical_json(value).decode()",
        "return str(value) if type(value) is str else canonical_json(value).decode()",
        "tests/run/test_limits_by_key.py::test_values_are_compared_as_json_and_null_has_no_limit",
    ),
    Patch(
        "null is no key",
        PER_KEY,
        "        value = data.get(self._column)\n        if value is None:\n",
        "        value = data.get(self._column, self)\n        if value is self:\n",
        "tests/run/test_limits_by_key.py::test_values_are_compared_as_json_and_null_has_no_limit",
    ),
    Patch(
        "a parked row that another process has settled is not parked any more",
        "store/bulk",
        "            if admits is not None:\n                admits(position, None)\n",
        "",
        "tests/run/test_limits_by_key.py::test_a_row_that_was_settled_while_it_waited_is_found_again_when_it_is_retried",
    ),
    Patch(
        "rows that wait for a slot are not found a second time",
        "run/row_queue",
        "        if self._per_key.count and self._per_key.holds(found):\n",
        "        if False:\n",
        "tests/run/test_limits_by_key.py::test_a_run_ends_if_attempts_that_were_given_up_keep_all_that_is_left_waiting",
    ),
    Patch(
        "a run whose last rows wait for attempts that were given up ends",
        "run/driver",
        "        elif not self._in_flight and (end := self._queue.reason_to_stop(job)) is not None:\n",
        "        elif (end := None) is not None:\n",
        "tests/run/test_limits_by_key.py::test_a_run_ends_if_attempts_that_were_given_up_keep_all_that_is_left_waiting",
    ),
    Patch(
        "rows that wait for a slot don't keep rows that are due from starting",
        "run/row_queue",
        "            first = parked() or self._next_found(fresh_only=True) or due()\n",
        "            first = parked() or self._next_found(fresh_only=True)\n            first = first or (0 if self.has_fresh() else due())\n",
        "tests/run/test_limits_by_key.py::test_fresh_rows_that_wait_for_a_slot_do_not_stand_in_the_way_of_rows_that_are_due",
    ),
]

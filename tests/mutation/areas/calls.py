"""Calls with many rows: they stay together, and a step of one is done once for all of its rows."""

from __future__ import annotations

from mutation.patch import Patch

CALLS = "tests/store/test_calls.py::"
MERGED = "tests/transfer/test_merge_calls.py::"
PATCHES = [
    Patch(
        "a row in a call is not started alone by a run",
        "store/bulk",
        "if not is_open or (columns.calls and columns.calls[position] in index.calls):",
        "if not is_open:",
        f"{CALLS}test_a_row_that_is_retried_comes_back_with_its_call_and_only_a_run_resumes_it",
    ),
    Patch(
        "a row in a call is not started alone by a program",
        "store/transitions",
        "    elif code == PROCESSING and index.calls and",
        "    elif False and index.calls and",
        f"{CALLS}test_a_row_that_is_retried_comes_back_with_its_call_and_only_a_run_resumes_it",
    ),
    Patch(
        "a turn that is over begins no step of a call",
        "store/calls",
        "    if call.turn != turn or call.waits or not rows:\n",
        "    if not rows:\n",
        f"{CALLS}test_a_step_of_a_call_is_one_record_and_a_step_of_each_of_its_rows",
    ),
    Patch(
        "a turn does a step of a call once",
        "store/calls",
        "        if _is_of_turn(journal, rows[0], record, turn):\n            raise",
        "        if False:\n            raise",
        f"{CALLS}test_the_same_turn_cannot_do_a_step_twice",
    ),
    Patch(
        "a step of a call is not that of a single row",
        "store/calls",
        "    if any(other is not record and other != record for other in known):\n",
        "    if False:\n",
        f"{CALLS}test_a_row_with_a_step_of_its_own_may_not_share_its_name_with_a_step_of_its_call",
    ),
    Patch(
        "a step in doubt of a call does not begin again",
        "store/calls",
        '    if record is not None and record.state == "started":\n',
        "    if False:\n",
        f"{CALLS}test_a_step_in_doubt_is_not_begun_again_by_a_retry",
    ),
    Patch(
        "a call is not resumed while rows of it are in flight",
        "store/calls",
        '            _refuse(journal, number, "its call can\'t be resumed")\n',
        "            pass\n",
        f"{CALLS}test_a_call_in_flight_is_not_resumed_and_ends_only_when_all_its_rows_are_done",
    ),
    Patch(
        "a call whose rows may be retried does not end",
        "store/calls",
        "statuses[at] != COMPLETED for",
        "statuses[at] in (PENDING, PROCESSING, WAITING) for",
        f"{CALLS}test_a_call_in_flight_is_not_resumed_and_ends_only_when_all_its_rows_are_done",
    ),
    Patch(
        "what a redo has forgotten is not done by the turn that did it",
        "store/calls",
        "        elif known is not None or journal.index.columns.call(position) == int(id_, 16):\n",
        "        else:\n",
        f"{CALLS}test_what_a_turn_has_done_is_recorded_after_its_call_was_given_up",
    ),
    Patch(
        "after a crash a call comes back as one",
        "store/interrupted_rows",
        '    if fate == "retry" and calls is not None and call in journal.index.calls:\n',
        "    if False:\n",
        f"{CALLS}test_after_a_crash_a_call_waits_with_its_rows_in_their_order_and_is_due_at_once",
    ),
    Patch(
        "a step is settled for those rows of a call in which it is in doubt",
        "store/steps",
        "and latest.of(position).get(known.step) == known",
        "",
        f"{CALLS}test_a_step_is_settled_only_for_the_rows_in_which_it_is_still_in_doubt",
    ),
    Patch(
        "a dropped step takes a row out of its call",
        "index/index",
        'for position in positions if record.state == "dropped" else ():',
        "for position in ():",
        f"{CALLS}test_a_redo_new_data_and_dropped_steps_take_a_row_out_of_its_call",
    ),
    Patch(
        "a redo takes a row out of its call",
        "index/index",
        "                    columns.forget_steps(position)\n                    self.leave_call(position)\n",
        "                    columns.forget_steps(position)\n",
        f"{CALLS}test_a_redo_new_data_and_dropped_steps_take_a_row_out_of_its_call",
    ),
    Patch(
        "the rows of a call are in it again after a rollback",
        "index/index",
        "        self.calls.forget_rows()\n",
        "",
        "tests/index/test_replay.py::test_a_rollback_restores_what_the_index_was_at_the_mark",
    ),
    Patch(
        "a waiting call is undone with the due times of its rows",
        "index/calls",
        "due or array(",
        "array(",
        "tests/index/test_replay.py::test_a_rollback_restores_what_the_index_was_at_the_mark",
    ),
    Patch(
        "a range has no row that does not exist",
        "index/index",
        "                if positions[-1] - positions[0] != more:\n                    return None\n",
        "",
        "tests/index/test_replay.py::test_a_range_with_a_gap_is_refused_by_a_reader",
    ),
    Patch(
        "a merge brings a call with its rows in their order",
        "transfer/calls",
        "numbers = [rows[number] for number in order if number in rows]",
        "numbers = sorted(rows.values())",
        f"{MERGED}test_a_call_that_waits_there_waits_here_with_its_rows_and_steps",
    ),
    Patch(
        "a turn of a call on both copies is work of both",
        "transfer/three_way",
        "Change(id_, offset, CALL, weight, is_of_rows=True)",
        'Change(id_, offset, CALL, "", is_of_rows=True)',
        f"{MERGED}test_a_call_that_both_copies_continue_needs_a_review_once",
    ),
    Patch(
        "a merge knows the record of a call that it has imported or logged",
        "transfer/merge",
        '                fields["call"] = fields.pop("id")\n',
        "                return\n",
        f"{MERGED}test_a_call_that_both_copies_continue_needs_a_review_once",
    ),
    Patch(
        "a record of a call that is lost is about the rows of the call",
        "repair/salvage",
        "columns.call(position) in calls or any(",
        "any(",
        "tests/repair/test_repair_calls.py::test_a_lost_record_of_a_call_names_all_of_its_rows",
    ),
    Patch(
        "a step of rows that is lost is about each of them",
        "repair/damaged_lines",
        "            return list(rows) or [(row, row)] * (row > 0)\n",
        "            return [(row, row)] * (row > 0)\n",
        "tests/repair/test_repair_calls.py::test_a_lost_record_of_a_call_names_all_of_its_rows",
    ),
    Patch(
        "the log of a row has the steps of its call",
        "history/reading",
        '"run"|"rows"\\s*:\\s*\\[\'',
        '"run"\'',
        "tests/cli/test_steps_of_calls.py::test_a_row_shows_the_step_of_its_call_and_so_do_its_log_and_an_export",
    ),
]

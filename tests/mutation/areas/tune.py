"""Changing the limits of a run while it works."""

from __future__ import annotations

from mutation.patch import Patch

TUNE = "tests/run/test_tune.py::test_"
UP_AND_DOWN = (
    f"{TUNE}the_number_of_workers_goes_up_and_down_under_load_and_nothing_in_flight_is_lost"
)

PATCHES = [
    Patch(
        "a run says why it ends while rows are in flight",
        "run/driver",
        "                self._held.put_end(self._early)",
        "                pass",
        f"{TUNE}a_run_that_begins_to_end_says_so_to_every_reader_and_takes_no_change",
    ),
    Patch(
        "a run that gets a signal during its last rows ends as usual",
        "run/held_job",
        'early.kind != "signal" or job.pending_count > 0',
        "True",
        f"{TUNE}a_signal_during_the_last_rows_of_a_run_ends_nothing_early",
    ),
    Patch(
        "a thread that is one too many ends",
        "run/workers/threads",
        "            self._threads -= is_surplus\n        return is_surplus\n",
        "        return False\n",
        UP_AND_DOWN,
    ),
    Patch(
        "threads that are wanted again stay",
        "run/workers/threads",
        "            is_surplus = self._threads > self.count\n",
        "            is_surplus = True\n",
        UP_AND_DOWN,
    ),
    Patch(
        "rows that wait for a worker start by the new limits",
        "run/pacing/tuning",
        "            self._in_flight.take_back()  #",
        "            pass  #",
        f"{TUNE}no_row_waits_for_a_worker_once_the_cost_is_limited",
    ),
    Patch(
        "no more rows wait for a worker than the limits allow since a change",
        "run/pacing/tuning",
        "            self._starts.change()\n",
        "",
        f"{TUNE}no_row_waits_for_a_worker_once_the_cost_is_limited",
    ),
    Patch(
        "a run isn't left with workers that hang",
        "run/pacing/tuning",
        "        if asked <= lost:\n",
        "        if False:\n",
        f"{TUNE}workers_that_hang_are_not_the_last_ones_that_a_run_is_left_with",
    ),
    Patch(
        "a pool gets no more rows than it has workers",
        "run/pacing/tuning",
        "        if most is None or asked <= most:\n",
        "        if True:\n",
        f"{TUNE}the_size_of_a_pool_is_its_bound_and_the_answer_says_so",
    ),
    Patch(
        "rows in flight count for a limit that begins",
        "run/pacing/per_key",
        "                self.in_flight[key] = self.in_flight.get(key, 0) + 1\n\n",
        "\n",
        f"{TUNE}a_limit_by_column_changes_moves_to_another_column_and_ends",
    ),
    Patch(
        "a row to be tried again that waited for a slot keeps its turn",
        "run/row_queue",
        "            self._waiting.put(number, now_s)\n        for",
        "            pass\n        for",
        f"{TUNE}rows_that_wait_for_a_slot_keep_their_turn_when_the_limit_changes",
    ),
    Patch(
        "a run takes only what it is asked itself",
        "index/state",
        "    if state.run is None or record.run != state.run.id:\n        return state\n",
        "    if state.run is None:\n        return state\n",
        f"{TUNE}what_another_program_has_asked_and_this_one_does_not_know_is_answered",
    ),
    Patch(
        "a run doesn't take what its predecessor was asked",
        "index/state",
        "        tunes=(),\n        answers",
        "        answers",
        f"{TUNE}a_run_that_was_killed_before_its_answer_has_changed_nothing_for_the_next_one",
    ),
    Patch(
        "a run answers only once",
        "index/state",
        "        tunes=tunes,\n",
        "",
        f"{TUNE}two_that_tune_at_once_are_answered_in_the_order_of_their_records",
    ),
    Patch(
        "what a batch undoes is not taken",
        "run/pacing/tuning",
        "                if tune not in self._job.tunes():\n                    continue  #",
        "                if False:\n                    continue  #",
        f"{TUNE}in_a_batch_nobody_waits_and_what_the_batch_undoes_is_not_taken",
    ),
    Patch(
        "a run that is tuned all the time goes on with its rows",
        "run/pacing/tuning",
        "        for tune in self._job.tunes():\n",
        "        while self._job.tunes():\n            tune = self._job.tunes()[0]\n",
        f"{TUNE}a_run_that_is_tuned_all_the_time_goes_on_with_its_rows",
    ),
    Patch(
        "a bounded number of changes waits for a run",
        "index/state",
        "(*state.tunes, record)[-_MAX_TUNES:]",
        "(*state.tunes, record)",
        f"{TUNE}of_many_changes_that_wait_for_a_run_the_last_ones_count",
    ),
    Patch(
        "who waits for a run that has ended doesn't wait",
        "service",
        "            if not is_held or",
        "            if",
        f"{TUNE}who_waits_for_a_run_that_ends_is_told_so",
    ),
    Patch(
        "the next start says what it has not taken over",
        "run/held_job",
        "        if other:\n",
        "        if False:\n",
        f"{TUNE}the_next_start_takes_no_change_over_and_says_what_it_has_not_taken",
    ),
    Patch(
        "a run isn't tuned to a rate that would end it, since no usage has its name",
        "run/pacing/tuning",
        "        if len(known) > 1 and (wrong",
        "        if not known and (wrong",
        "tests/run/test_tune.py::test_a_rate_by_usage_begins_and_ends_while_calls_are_in_flight",
    ),
]

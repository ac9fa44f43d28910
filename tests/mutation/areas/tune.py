"""Changing the limits of a run while it works."""

from __future__ import annotations

from mutation.patch import Patch

TUNE = "tests/run/test_tune.py::test_"

PATCHES = [
    Patch(
        "a run that gets a signal during its last rows ends as usual",
        "run/lifecycle",
        "early.kind not in _INTERRUPTS or job.pending_count > 0",
        "True",
        f"{TUNE}a_signal_during_the_last_rows_of_a_run_ends_nothing_early",
    ),
    Patch(
        "rows that wait for a worker start by the new limits",
        "run/pacing/tune",
        "            self._in_flight.take_back()  #",
        "            pass  #",
        f"{TUNE}no_row_waits_for_a_worker_once_the_cost_is_limited",
    ),
    Patch(
        "a run isn't left with workers that hang",
        "run/pacing/tune",
        "        if asked <= lost:\n",
        "        if False:\n",
        f"{TUNE}workers_that_hang_are_not_the_last_ones_that_a_run_is_left_with",
    ),
    Patch(
        "a pool gets no more rows than it has workers",
        "run/pacing/tune",
        "        if most is None or asked <= most:\n",
        "        if True:\n",
        f"{TUNE}the_size_of_a_pool_is_its_bound_and_the_answer_says_so",
    ),
    Patch(
        "a run takes only what it is asked itself",
        "index/job_state",
        "    if state.run is None or record.run != state.run.id:\n        return state\n",
        "    if state.run is None:\n        return state\n",
        f"{TUNE}what_another_program_has_asked_and_this_one_does_not_know_is_answered",
    ),
    Patch(
        "a run doesn't take what its predecessor was asked",
        "index/job_state",
        "        tunes=(),\n        answers",
        "        answers",
        f"{TUNE}a_run_that_was_killed_before_its_answer_has_changed_nothing_for_the_next_one",
    ),
    Patch(
        "what a batch undoes is not taken",
        "run/pacing/tune",
        "                if tune not in self._job.tunes():\n                    continue  #",
        "                if False:\n                    continue  #",
        f"{TUNE}in_a_batch_nobody_waits_and_what_the_batch_undoes_is_not_taken",
    ),
    Patch(
        "a run isn't tuned to a rate that would end it, since no usage has its name",
        "run/pacing/tune",
        "            if len(known) > 1 and wrong:",
        "            if not known and wrong:",
        "tests/run/test_tune.py::test_a_rate_by_usage_begins_and_ends_while_calls_are_in_flight",
    ),
]

"""What a run does while the far side is down or throttles."""

from __future__ import annotations

from mutation.patch import Patch

HOLDS = "tests/run/test_holds.py"


PATCHES = [
    Patch(
        "wrong answers of a handler count for the brake",
        "run/pacing/halt",
        'outcome.kind == "review" and outcome.error_code in WRONG_ANSWERS',
        "False",
        "tests/run/test_brake.py::test_wrong_answers_of_a_handler_pause_the_run_and_are_to_be_settled",
    ),
    Patch(
        "reviews that a handler asks for don't count for the brake",
        "run/pacing/halt",
        'outcome.kind == "review" and outcome.error_code in WRONG_ANSWERS',
        'outcome.kind == "review"',
        "tests/run/test_brake.py::test_reviews_that_a_handler_asks_for_do_not_pause_the_run",
    ),
    Patch(
        "a call whose rows are tried again counts once for the brake",
        "run/pacing/halt",
        "            self._count += call is not self._call\n",
        "            self._count += 1\n",
        "tests/run/test_brake.py::test_one_failed_call_of_many_rows_does_not_pause_a_run_that_tries_them_again",
    ),
    Patch(
        "each row of a call that isn't tried again counts for the brake",
        "run/pacing/halt",
        "            if again:\n                self._call = call\n            elif ",
        "            self._call = call\n            if not again and ",
        "tests/run/test_brake.py::test_wrong_answers_of_a_handler_pause_the_run_and_are_to_be_settled",
    ),
    Patch(
        "the advice after a halt names the retry of failed rows",
        "run/pacing/bounds",
        '                self.has_halted = self._halt.what == "fail"\n',
        "",
        "tests/run/test_brake.py::test_after_a_halt_by_failures_the_advice_names_the_retry_of_failed_rows",
    ),
    Patch(
        "rows in flight of a dead run are reported",
        "run/held_job",
        "        if count <= 0:\n",
        "        if True:\n",
        "tests/run/test_brake.py::test_a_run_reports_what_became_of_rows_in_flight_when_an_earlier_run_died",
    ),
    Patch(
        "text that is no time to wait is refused",
        "run/outcome",
        "    if not 0 <= seconds <= MAX_AFTER_S:  # this also refuses NaN\n",
        "    if seconds < 0:\n",
        "tests/run/test_runs.py::test_what_is_no_time_to_wait_is_refused_with_its_value",
    ),
    Patch(
        "workers begin no row after an outcome that holds the run",
        "run/workers/handover",
        "        if self.held and not self._owner:\n            return False\n",
        "",
        "tests/run/test_stages.py::test_while_an_outcome_holds_the_run_no_worker_begins_a_row",
    ),
    Patch(
        "rows that no worker has begun are taken back at a hold",
        "run/driver",
        "            self._in_flight.take_back()\n",
        "            pass\n",
        HOLDS,
    ),
    Patch(
        "no row starts before a hold has ended, and one at a time after that",
        "run/pacing/holds",
        "        return 0 if now_s < self.until_s or self._probe else min(count, 1)\n",
        "        return count\n",
        "tests/run/test_holds.py::test_only_what_was_started_after_a_hold_ends_it",
    ),
    Patch(
        "a success that began before a hold doesn't end it",
        "run/pacing/holds",
        "        if self.count and ticket <= self._before:\n",
        "        if False:\n",
        "tests/run/test_holds.py::test_only_what_was_started_after_a_hold_ends_it",
    ),
    Patch(
        "an hour of holds pauses the run",
        "run/pacing/holds",
        "        if not self.count or self._held_s < MAX_HELD_S:\n",
        "        if True:\n",
        "tests/run/test_holds.py::test_an_hour_of_holds_without_a_success_pauses_the_run_and_says_how_to_go_on",
    ),
    Patch(
        "time in which the job is paused is no time of holding",
        "run/pacing/holds",
        "            self._held_s += self.until_s - self._since_s + now_s - self._probe_s\n",
        "            self._held_s += now_s - self._since_s\n",
        "tests/run/test_holds.py::test_a_pause_by_a_person_is_no_time_without_an_answer",
    ),
    Patch(
        "an exception is no answer of the far side",
        "run/outcome",
        "            is_final = not self.retryable and self.traceback is None\n",
        "            is_final = not self.retryable\n",
        "tests/run/test_holds.py::test_an_attempt_that_ends_without_an_answer_holds_the_run_again_by_its_backoff",
    ),
    Patch(
        "a failure that the handler has decided on is an answer of the far side",
        "run/outcome",
        '        if self.kind in ("failed", "review"):\n',
        '        if self.kind in ("failed", "review"):\n            return False\n',
        "tests/run/test_holds.py::test_an_attempt_whose_handler_decides_on_its_row_ends_a_hold",
    ),
    Patch(
        "the time until a hold ends has a date",
        "run/pacing/holds",
        "        wait_s = min(max(0.0, self.until_s - now_s), MAX_AFTER_S)  # so that its end has a date\n",
        "        wait_s = max(0.0, self.until_s - now_s)\n",
        "tests/run/test_holds.py::test_no_backoff_is_too_long_for_the_message_of_a_hold",
    ),
    Patch(
        "no wait is longer than a year",
        "run/outcome",
        "    if not 0 <= seconds <= MAX_AFTER_S:  # this also refuses NaN\n",
        "    if not 0 <= seconds:\n",
        "tests/run/test_runs.py::test_what_is_no_time_to_wait_is_refused_with_its_value",
    ),
    Patch(
        "an attempt that was given back doesn't count",
        "index/index",
        "                    columns.give_back_attempt(position)\n",
        "                    pass\n",
        HOLDS,
    ),
    Patch(
        "a row that was given back has the error that it had before",
        "store/transitions",
        "        _keep_error(journal, position, record)\n",
        "        pass\n",
        HOLDS,
    ),
    Patch(
        "a late result of an attempt that was given back is one",
        "store/steps",
        "columns.attempts_before_reset(position)",
        "columns.earlier_attempts(position)",
        "tests/store/test_steps.py",
    ),
    Patch(
        "a hint has what rows in flight were before",
        "index/index",
        '"usage", "before_attempt"),',
        '"usage"),',
        "tests/index/test_hint.py",
    ),
    Patch(
        "an error that a row had before is none of the attempt that was given back",
        "history/durations",
        " or record.reset:",
        ":",
        "tests/service/test_passes.py::test_a_row_whose_attempt_is_given_back_has_the_error_again_that_it_had_before",
    ),
    Patch(
        "a held row of a job that has ended fails",
        "run/row_queue",
        "        if self._has_ended():  # rows of a job that has ended can't become pending\n",
        "        if False:\n",
        "tests/run/test_holds.py::test_a_hold_takes_back_the_rows_that_wait_for_a_worker",
    ),
    Patch(
        "a success ends the failures in a row before it",
        "run/pacing/halt",
        "            self.failed_since = [later for later in self.failed_since if later > ticket]\n",
        "",
        "tests/run/test_limits.py::test_a_run_gives_up_when_the_last_rows_say_so",
    ),
]

"""What a run in the caller's event loop rests on: cancelling, stopping, batches of tasks."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "a cancelled arun stops its run",
        "run/caller",
        "                    self.stops.add(reason=_CANCELLED)\n",
        "                    pass\n",
        "tests/run/test_arun.py::test_cancelling_drains_pauses_and_a_second_run_does_the_rest_once",
    ),
    Patch(
        "a cancelled arun waits for its rows in flight",
        "run/caller",
        "                    cancelled = error\n",
        "                    raise\n",
        "tests/run/test_arun.py::test_cancelling_drains_pauses_and_a_second_run_does_the_rest_once",
    ),
    Patch(
        "a cancelled arun raises CancelledError",
        "run/caller",
        "                raise cancelled\n",
        "                pass\n",
        "tests/run/test_arun.py::test_cancelling_drains_pauses_and_a_second_run_does_the_rest_once",
    ),
    Patch(
        "an error of the run comes before its cancellation",
        "run/caller",
        "            report = driver.result()\n",
        "            report: Any = driver.report\n",
        "tests/run/test_arun.py::test_a_failed_commit_is_raised_although_the_task_was_cancelled",
    ),
    Patch(
        "a run whose loop is closed gives up its rows",
        "run/caller",
        "            self.stops.at_least(3)\n",
        "            pass\n",
        "tests/run/test_arun.py::test_a_loop_that_is_closed_before_the_end_ends_the_run",
    ),
    Patch(
        "arun leaves signals to the loop's owner unless it is asked",
        "run/caller",
        "            driver.thread.start()\n            cancelled = await",
        "            signals.__exit__(None, None, None)\n            driver.thread.start()\n            cancelled = await",
        "tests/run/test_arun.py::test_with_handle_signals_a_signal_pauses_the_run_and_cancels_no_task",
    ),
    Patch(
        "what stops a loop is passed on to its owner",
        "run/workers/event_loop",
        "            raise raised\n",
        "            pass\n",
        "tests/run/test_arun.py::test_what_stops_a_loop_goes_to_its_owner_and_the_row_to_review",
    ),
    Patch(
        "a row whose task somebody else has cancelled is for a person",
        "run/workers/event_loop",
        "            if self._is_cut_short(call, error):\n",
        "            if False:\n",
        "tests/run/test_arun.py::test_a_row_whose_task_somebody_else_cancels_needs_a_review",
    ),
    Patch(
        "a task that is cancelled before its first step gives its row back",
        "run/workers/event_loop",
        "            self._put_unstarted(call)\n",
        "            pass\n",
        "tests/run/test_arun.py::test_a_task_that_is_cancelled_before_its_first_step_was_not_started",
    ),
    Patch(
        "a row that a closed loop can't start is given back",
        "run/workers/event_loop",
        '            self._put_unstarted(call, "RuntimeError", text)\n',
        "            pass\n",
        "tests/run/test_arun.py::test_workers_whose_loop_is_closed_start_no_row_and_cannot_end_one",
    ),
    Patch(
        "tasks that are left in a loop may end",
        "run/workers/event_loop",
        "                    self._loop.run_until_complete(asyncio.wait(tasks, timeout=_END_S / 2))\n",
        "                    pass\n",
        "tests/run/test_runs.py::test_tasks_that_coroutines_left_are_cancelled_at_the_end_and_may_clean_up",
    ),
    Patch(
        "closed workers make no more tasks",
        "run/workers/event_loop",
        "            self._loop.call_soon_threadsafe(self._new.clear)\n",
        "            pass\n",
        "tests/run/test_arun.py::test_closed_workers_make_no_tasks_for_rows_that_were_cancelled",
    ),
    Patch(
        "the loop looks again for rows when one has ended",
        "run/workers/event_loop",
        "            task.exception()  # otherwise asyncio warns that nobody has retrieved the exception\n"
        "        self._look_again()\n",
        "            task.exception()\n",
        "tests/run/test_runs.py::test_no_more_coroutines_are_begun_than_were_asked_for_however_many_wait",
    ),
    Patch(
        "the end of a run waits for the batch of another task",
        "run/driver",
        "                if isinstance(error, JobLockedError) and self._may_wait(error):\n",
        "                if False:\n",
        "tests/run/test_arun.py::test_the_end_of_a_run_waits_for_the_batch_of_another_thread",
    ),
    Patch(
        "job.stop() reaches a run",
        "run/open_job",
        "            stops.ask(reason, end_rows=end_rows)\n",
        "            pass\n",
        "tests/run/test_arun.py::test_stops_from_several_handlers_at_once_end_no_row_in_flight",
    ),
]

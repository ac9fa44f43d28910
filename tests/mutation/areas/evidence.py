"""The evidence that an attempt leaves, and how it is shown."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "an attempt doesn't last until a person settles its row",
        "cli/resolution",
        "        if in_flight:  # otherwise",
        "        if False:  # otherwise",
        "tests/cli/test_control.py::test_a_row_that_a_person_settles_has_no_attempt_that_lasted_until_then",
    ),
    Patch(
        "the log says what a person has settled",
        "cli/resolution",
        """        self._log(row, f"resolve --{how}")\n""",
        "",
        "tests/cli/test_control.py::test_the_log_says_which_rows_a_person_has_settled",
    ),
    Patch(
        "a row that a run has started meanwhile is not settled",
        "cli/commands/settle",
        "        yield selection, verb._replace(",
        "        yield selection, verb or verb._replace(",
        "tests/cli/test_control.py::test_resolve_settles_no_row_that_a_run_has_started_since_the_command_looked",
    ),
    Patch(
        "a step that a person settles is in the log",
        "cli/resolution",
        """        self._log(row, f"step {name!r}")\n""",
        "",
        "tests/cli/test_step.py::test_the_log_says_which_step_a_person_has_settled",
    ),
    Patch(
        "the log says who has settled a row",
        "cli/resolution",
        "        log(self._job.id, message, row_number=row.row_number, details=details)\n",
        "        log(self._job.id, message, row_number=row.row_number)\n",
        "tests/cli/test_control.py::test_the_log_says_who_has_settled_a_row_and_why",
    ),
    Patch(
        "commands that may outlive their run are named",
        "run/advice",
        "    if job.last_run is None or not job.last_run.is_command:\n        return",
        "    if True:\n        return",
        "tests/cli/test_run.py::test_what_show_names_to_go_on_with_a_dead_run_can_be_pasted_anywhere",
    ),
    Patch(
        "rows are settled before the job continues",
        "cli/advice",
        "            advised.about_rows_in_flight(found.interrupted)\n",
        "            pass\n",
        "tests/cli/test_inspect.py::test_show_says_what_became_of_an_interrupted_run",
    ),
    Patch(
        "a traceback begins outside the package",
        "run/workers/tracebacks",
        "        begin = begin.tb_next\n",
        "        break\n",
        "tests/run/test_evidence.py::test_a_traceback_begins_and_ends_in_the_code_of_the_user",
    ),
    Patch(
        "an exception that can't be shown leaves at least its frames",
        "run/workers/tracebacks",
        "        return [*traceback.format_tb(begin, -_MAX_FRAMES), type(error).__name__]\n",
        "        raise\n",
        "tests/run/test_evidence.py::test_no_exception_is_too_strange_for_a_traceback",
    ),
    Patch(
        "the number of an attempt's messages is bounded",
        "run/workers/row_log",
        "self._count >= MAX_LOG_ENTRIES or ",
        "",
        "tests/run/test_evidence.py::test_a_log_is_bounded_and_says_how_much_was_dropped",
    ),
    Patch(
        "messages that a step has recorded are not recorded again",
        "run/workers/row_log",
        "            taken, self._entries = tuple(self._entries), []\n",
        "            taken = tuple(self._entries)\n",
        "tests/run/test_evidence.py::test_a_log_is_on_the_disk_with_the_start_or_the_end_of_the_next_step",
    ),
    Patch(
        "messages that a step could not record come later",
        "run/workers/steps",
        "            if not is_recorded:\n",
        "            if False:\n",
        "tests/run/test_evidence.py::test_a_log_is_on_the_disk_with_the_start_or_the_end_of_the_next_step",
    ),
    Patch(
        "messages are recorded with the start of a step",
        "store/steps",
        "    put_logs(journal, first, logs)\n    put_record(",
        "    put_record(",
        "tests/run/test_evidence.py::test_a_log_is_on_the_disk_with_the_start_or_the_end_of_the_next_step",
    ),
    Patch(
        "messages are recorded with the end of a step",
        "store/steps",
        "    put_logs(journal, number, logs)\n    known =",
        "    known =",
        "tests/run/test_evidence.py::test_a_log_is_on_the_disk_with_the_start_or_the_end_of_the_next_step",
    ),
    Patch(
        "messages are in the commit of the outcome",
        "run/settling",
        "            with self._service.batch(self._job_id):\n",
        "            if True:\n",
        "tests/run/test_evidence.py::test_a_result_that_can_not_be_recorded_loses_no_log",
    ),
    Patch(
        "messages of an attempt that is given up are kept",
        "run/workers/termination",
        "logs=row.take_logs()",
        "logs=()",
        "tests/run/test_evidence.py::test_the_log_of_an_attempt_that_is_given_up_is_kept",
    ),
    Patch(
        "a row's history is read from lines of other writers, too",
        "history/history",
        """rb'"row"\\s*:\\s*%d""",
        """rb'"row":%d""",
        "tests/history/test_rows_found.py::test_lines_of_another_writer_are_found_however_it_puts_spaces",
    ),
]

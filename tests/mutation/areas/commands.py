"""What a command line means: its placeholders, and what its commands say of their rows."""

from __future__ import annotations

from mutation.patch import Patch

_OUTCOME_FILE = "tests/cli/test_outcome_file.py::test_"

PATCHES = [
    Patch(
        "Ctrl-C while Python evaluates text ends the command with its own exit code",
        "__main__",
        '    exec("")  # noqa: S102\n',
        "",
        "tests/cli/test_cli.py::test_ctrl_c_while_text_is_evaluated_is_130_too",
    ),
    Patch(
        "a placeholder that may be misspelt is refused",
        "cli/run/template",
        "                name in self._needed or _resembles_one(name, columns)\n",
        "                _resembles_one(name, columns)\n",
        "tests/cli/test_placeholders.py::test_the_parts_of_a_line_are_refused_where_rows_have_columns",
    ),
    Patch(
        "text that resembles a column is refused",
        "cli/run/template",
        "                name in self._needed or _resembles_one(name, columns)\n",
        "                name in self._needed\n",
        "tests/cli/test_placeholders.py::test_what_may_be_a_misspelt_placeholder_is_refused",
    ),
    Patch(
        "a value is kept out of a script, also if its name has no form of a placeholder",
        "cli/run/template",
        "        self._filled = names\n        self._check_scripts()\n",
        "        self._filled = names\n",
        "tests/cli/test_placeholders.py::test_a_script_that_names_a_column_is_refused",
    ),
    Patch(
        "a row is filled as the input says, whatever its own columns are",
        "cli/run/template",
        "        for name in self._filled:\n",
        "        for name in self._known(row.data):\n",
        "tests/cli/test_placeholders.py::test_a_row_of_an_earlier_input_is_filled_as_the_input_says",
    ),
    Patch(
        "a status of a command that was asked to end has no meaning for its row",
        "cli/run/outcomes",
        "        word = None if was_ended else self.others.get(code)\n",
        "        word = self.others.get(code)\n",
        "tests/cli/test_outcomes_of_commands.py::test_the_status_of_a_command_that_was_asked_to_end_says_nothing_about_its_row",
    ),
    Patch(
        "with =retry, no other status is tried again",
        "cli/run/outcomes",
        "            return failed(code, message, retryable=not self.retry_on)\n",
        "            return failed(code, message, retryable=True)\n",
        "tests/cli/test_outcomes_of_commands.py::test_statuses_repeat_skip_and_review_a_row_or_fail_it",
    ),
    Patch(
        "a status of two outcomes is refused",
        "cli/run/outcomes",
        "                    if words.setdefault(code, word) != word:\n",
        "                    if words.setdefault(code, word) not in _OUTCOMES:\n",
        "tests/cli/test_outcomes_of_commands.py::test_a_status_of_an_unknown_outcome_or_of_two_is_refused_and_makes_no_job",
    ),
    Patch(
        "an unknown outcome of a status is refused",
        "cli/run/outcomes",
        "                if not text or word not in _OUTCOMES:\n",
        "                if not text:\n",
        "tests/cli/test_outcomes_of_commands.py::test_a_status_of_an_unknown_outcome_or_of_two_is_refused_and_makes_no_job",
    ),
    Patch(
        "a completion whose status contradicts needs a review",
        "cli/run/outcomes",
        '        if ended.kind == "completed":\n            return done\n',
        "        return done\n",
        "tests/cli/test_outcomes_of_commands.py::test_a_completion_whose_status_contradicts_needs_a_review_that_keeps_all",
    ),
    Patch(
        "an outcome that can't be read needs a review, whatever the status is",
        "cli/run/outcomes",
        "    if word is None or problem:\n",
        '    if (word is None or problem) and ended.kind != "completed":\n'
        "        return ended\n"
        "    if word is None or problem:\n",
        "tests/cli/test_outcomes_of_commands.py::test_an_outcome_that_can_t_be_read_needs_a_review_that_keeps_the_output_and_the_cost",
    ),
    Patch(
        "the cost of an outcome that can't be read is kept",
        "cli/run/outcomes",
        '    return with_cost(review, members.get("cost_cents"), members.get("usage"))\n',
        "    return review\n",
        "tests/cli/test_outcomes_of_commands.py::test_an_outcome_that_can_t_be_read_needs_a_review_that_keeps_the_output_and_the_cost",
    ),
    Patch(
        "output that this package can't convert needs a review",
        "cli/run/outcomes",
        "        return unread(error, ended.result)\n",
        "        raise\n",
        "tests/cli/test_outcomes_of_commands.py"
        "::test_a_command_that_has_ended_is_not_repeated_because_of_an_error_of_this_package",
    ),
    Patch(
        "a command that has ended needs a review if its end can't be read",
        "cli/run/subprocesses",
        "                return unread(error)\n",
        "                raise\n",
        "tests/cli/test_outcomes_of_commands.py"
        "::test_a_command_that_has_ended_is_not_repeated_because_of_an_error_of_this_package",
    ),
    Patch(
        "a command is ended with all its processes",
        "run/platform/posix",
        "            os.killpg(self._id, ",
        "            os.kill(self._id, ",
        "tests/cli/test_commands.py"
        "::test_a_cancelled_command_leaves_no_children_that_ignore_the_signal",
    ),
    Patch(
        "there is no job inside of a job",
        "sets/shard_choice",
        "    if os.path.lexists(directory.parent / JOURNAL_NAME):\n",
        "    if False:\n",
        "tests/run/test_wrong_arguments.py::test_a_job_inside_of_a_job_is_refused",
    ),
    Patch(
        "no value is a part of what cmd runs as code",
        "cli/run/template",
        "            if self._is_filled(place) and not is_one_value:\n",
        "            if False:\n",
        "tests/cli/test_placeholders.py::test_a_value_in_a_line_that_cmd_or_powershell_runs_is_refused",
    ),
    Patch(
        "a batch file gets no argument that cmd would interpret",
        "run/platform/batch_files",
        "        if found is not None:\n",
        "        if False:\n",
        "tests/run/test_processes_of_commands.py::test_an_argument_that_cmd_would_interpret_is_refused",
    ),
    Patch(
        "a file settles only rows that need it",
        "cli/outcome_file",
        "            if selection.is_empty:  # otherwise",
        "            if False:  # otherwise",
        _OUTCOME_FILE + "a_file_that_was_applied_is_refused_the_second_time",
    ),
    Patch(
        "a file names no row twice",
        "cli/outcome_file",
        "        if text in wanted:\n",
        "        if False:\n",
        _OUTCOME_FILE + "a_file_that_is_not_right_in_all_rows_changes_nothing",
    ),
    Patch(
        "a key in several rows of a job names none of them",
        "cli/outcome_file",
        "            if number != row.row_number:\n",
        "            if False:\n",
        _OUTCOME_FILE + "a_file_that_is_not_right_in_all_rows_changes_nothing",
    ),
    Patch(
        "a key isn't taken for another text with the same number",
        "cli/outcome_file",
        "                if other is None or is_typed_as(text, other):\n",
        "                if other is None:\n",
        _OUTCOME_FILE + "a_key_is_not_taken_for_another_that_is_the_same_number",
    ),
    Patch(
        "a key isn't taken for a number while another row may have it as text",
        "cli/outcome_file",
        "                other = None if statuses else untyped_keys.get(untyped(text))\n",
        "                other = untyped_keys.get(untyped(text))\n",
        _OUTCOME_FILE + "a_key_is_not_taken_for_another_that_is_the_same_number",
    ),
    Patch(
        "a row of a file without a value completes nothing",
        "cli/outcome_file",
        "        if needed and not values:\n",
        "        if False:\n",
        _OUTCOME_FILE + "a_file_that_is_not_right_in_all_rows_changes_nothing",
    ),
    Patch(
        "a file with a wrong name of a column completes nothing",
        "cli/outcome_file",
        '            raise InvalidValueError(place, "", why)\n',
        "            pass\n",
        _OUTCOME_FILE + "a_file_that_is_not_right_in_all_rows_changes_nothing",
    ),
    Patch(
        "no row is redone that has changed since the question",
        "cli/commands/settle",
        "        if shown is not None and redone.digest != shown.digest:\n",
        "        if False:\n",
        "tests/cli/test_control.py::test_redo_does_nothing_if_a_row_has_changed_since_it_asked",
    ),
    Patch(
        "a row whose data was lost isn't tried again by advice",
        "cli/advice",
        "        if code != LOST_CHECKSUM:  # a row without data",
        "        if True:  # a row without data",
        "tests/cli/test_control.py::test_show_advises_nothing_that_is_refused_for_a_row_whose_data_was_lost",
    ),
    Patch(
        "a start that tries rows in flight again warns of commands that may still be running",
        "run/lifecycle",
        'on_interrupted != "review" and (warning',
        'on_interrupted == "review" and (warning',
        "tests/cli/test_run.py::test_what_show_names_to_go_on_with_a_dead_run_can_be_pasted_anywhere",
    ),
    Patch(
        "an input without rows is refused",
        "cli/commands/run",
        '    raise rows.source.refused("has no rows',
        '    str("has no rows',
        "tests/cli/test_run.py::test_an_order_that_left_the_input_is_not_shipped_if_that_is_asked_for",
    ),
    Patch(
        "advice after a run has three lines",
        "cli/advice",
        "    if len(found) > _MAX_LINES:\n",
        "    if False:\n",
        "tests/cli/test_run.py::test_what_is_said_of_failed_rows_can_be_pasted_and_runs_them_alone",
    ),
    Patch(
        "a line to paste has its directory if it was recorded elsewhere",
        "cli/next_start",
        "if is_short and last.directory == system.current_directory():",
        "if True:",
        "tests/cli/test_run.py::test_what_show_names_to_go_on_with_a_dead_run_can_be_pasted_anywhere",
    ),
    Patch(
        "a page that a full disk has no room for is tried again",
        "cli/commands/report",
        "                if not next_s:\n                    raise\n",
        "                raise\n",
        "tests/report/test_report.py::test_a_page_that_a_full_disk_has_no_room_for_is_tried_again",
    ),
]

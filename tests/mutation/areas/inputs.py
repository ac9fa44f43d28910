"""Inputs that aren't read again, and values that are right."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "a compressed stream after another one is read to its end",
        "inputs/formats",
        "                if self._is_begun:\n                    raise EOFError\n",
        "",
        "tests/inputs/test_broken.py::test_a_file_is_named_for_what_it_is",
    ),
    Patch(
        "a pipe isn't read again from its middle",
        "inputs/read",
        "            if not self.source.is_file and not self.source.is_query:\n",
        "            if self.source.path == STANDARD_INPUT:\n",
        "tests/inputs/test_broken.py::test_a_pipe_cannot_be_read_again",
    ),
    Patch(
        "a query can't make a file",
        "inputs/sqlite",
        "    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)  # ATTACH would make a file\n",
        "",
        "tests/inputs/test_broken.py::test_a_query_that_is_wrong_is_named_and_changes_nothing",
    ),
    Patch(
        "a command gets the bytes of a file's name",
        "cli/run/template",
        "exact_line(row.data) if is_line else as_text(values[column])",
        "as_text(values[column])",
        "tests/cli/test_run_inputs.py::test_a_command_gets_the_bytes_of_a_line_that_is_no_utf8",
    ),
    Patch(
        "words that are no UTF-8 can be recorded",
        "format/arguments",
        "check_text(as_utf8(word) if isinstance(word, str) else word, where)",
        "check_text(word, where)",
        "tests/cli/test_run_inputs.py::test_words_that_are_no_utf8_are_recorded_escaped_and_shown_for_pasting",
    ),
    Patch(
        "a completed row that is redone with new data has a new idempotency key",
        "store/transitions",
        "row = update_data(journal, number, data, checksum, new_key=is_redone)",
        "row = update_data(journal, number, data, checksum, new_key=False)",
        "tests/run/test_open_job.py::test_completed_rows_whose_data_has_changed_are_redone_with_it_in_one_start",
    ),
    Patch(
        "a row that is gone and may have taken effect isn't skipped",
        "store/interrupted_rows",
        "    if not how and any(step.state != ",
        "    if False and any(step.state != ",
        "tests/run/test_open_job.py::test_rows_that_are_gone_from_the_input_are_skipped_if_that_is_asked_for",
    ),
    Patch(
        "a failed row that is gone and may have taken effect stays failed",
        "run/input_match",
        "if row is None or row.unknown or row.status not in _UNDONE:",
        "if row is None or row.status not in _UNDONE:",
        "tests/run/test_open_job.py::test_rows_that_are_gone_from_the_input_are_skipped_if_that_is_asked_for",
    ),
    Patch(
        "an empty input skips no rows",
        "run/input_match",
        "        if undone and (is_empty or ",
        "        if undone and (",
        "tests/run/test_open_job.py::test_an_empty_input_skips_no_rows_since_it_is_more_likely_a_mistake",
    ),
    Patch(
        "a whole float is the key that the int is",
        "format/keys",
        "    return int(value) if is_whole else value\n",
        "    return value\n",
        "tests/run/test_open_job.py::test_a_whole_float_is_the_key_that_the_int_is_as_frames_have_floats",
    ),
    Patch(
        "a key of another type is refused",
        "run/input_match",
        "                if not is_typed_as(gone, text):\n",
        "                if False:\n",
        "tests/run/test_open_job.py::test_a_key_that_is_known_with_another_type_is_refused_and_nothing_is_added",
    ),
    Patch(
        "a report counts the completed rows that keep the result of old data",
        "run/driver",
        "            outdated=self._held.outdated,\n",
        "",
        "tests/run/test_open_job.py::test_changed_rows_that_are_not_done_get_new_data_under_their_old_numbers",
    ),
]

"""Rows as tables: no value is changed, and none is that of another row or of another moment."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "a column whose chunks have different types has one that holds all values",
        "tables/arrow",
        "if array is None or part != form:",
        "if array is None:",
        "tests/tables/test_frames.py::test_a_column_whose_type_changes_after_thousands_of_rows_loses_nothing",
    ),
    Patch(
        "a duration is that of the attempt that gave the row its status",
        "tables/attempts",
        "if start is not None and ended_at[position] == status_at[position]",
        "if start is not None",
        "tests/tables/test_frames.py::test_the_table_has_the_values_of_the_rows_whatever_has_happened_to_them",
    ),
    Patch(
        "an end that nobody has seen is no end of an attempt",
        "tables/attempts",
        '(status != "pending" or has_error) and record.by not in BY_OTHERS',
        '(status != "pending" or has_error)',
        "tests/tables/test_frames.py::test_a_row_whose_end_was_set_by_a_policy_or_a_person_has_no_duration",
    ),
]

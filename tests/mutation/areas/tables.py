"""Rows as tables: no value is changed, and none is that of another row or of another moment."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "an integer that no float can hold is not mixed with floats",
        "tables/columns",
        "kinds |= WIDE if low >= -_WIDEST and high < _WIDEST else JSON",
        "pass",
        "tests/tables/test_frames.py::test_a_common_type_that_would_change_a_value_is_not_taken",
    ),
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
        "a cost is counted once in what a row has cost in all",
        "tables/attempts",
        "if record.cost_cents and offset != status_at[position]:",
        "if record.cost_cents:",
        "tests/tables/test_export.py::test_attempts_are_a_record_each_in_every_format_and_add_up",
    ),
    Patch(
        "an end that nobody has seen is no end of an attempt",
        "tables/attempts",
        '(status != "pending" or has_error) and record.by not in BY_OTHERS',
        '(status != "pending" or has_error)',
        "tests/tables/test_frames.py::test_a_row_whose_end_was_set_by_a_policy_or_a_person_has_no_duration",
    ),
    Patch(
        "a column that a row uses is not left out of a table",
        "tables/table",
        "if name not in IF_USED or any(values):",
        "if name not in IF_USED:",
        "tests/tables/test_export.py::test_a_csv_has_the_datas_columns_then_the_journals",
    ),
]

"""Rows as tables: no value is changed, and none is that of another row or of another moment."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "an integer in a column of floats keeps its value",
        "frames/parts",
        'if kinds == {"int", "float"} and all(map(self._is_exact, parts)):',
        'if kinds == {"int", "float"}:',
        "tests/frames/test_frames.py::test_a_column_whose_type_changes_after_thousands_of_rows_loses_nothing",
    ),
    Patch(
        "an integer beside a float is exact as a float",
        "frames/parts",
        "or value is None or -_EXACT <= value <= _EXACT for value in values",
        "or True for value in values",
        "tests/frames/test_frames.py::test_a_common_type_that_would_change_a_value_is_not_taken",
    ),
    Patch(
        "a time of a table is in UTC",
        "frames/parts",
        'ends_with(texts, "Z")',
        'ends_with(texts, "")',
        "tests/frames/test_frames.py::test_a_time_that_is_none_is_named_as_damage",
    ),
    Patch(
        "rows of a table are in the order of the rows",
        "frames/arrow",
        "(scan.statuses, parts.order(scan.of_status, positions)),",
        "(scan.statuses, None),",
        "tests/frames/test_frames.py::test_a_column_that_one_row_uses_is_in_the_table",
    ),
    Patch(
        "an earlier outcome of a row is not in a table",
        "frames/scan",
        "if offset == status_at[position]:",
        "if True:",
        "tests/frames/test_frames.py::test_earlier_data_and_outcomes_of_rows_decide_no_column_and_no_type",
    ),
    Patch(
        "earlier data of a row is not in a table",
        "frames/scan",
        "chosen = list(map(eq, map(self._data_at.__getitem__, positions), offsets))",
        "chosen = [True] * len(positions)",
        "tests/frames/test_frames.py::test_earlier_data_and_outcomes_of_rows_decide_no_column_and_no_type",
    ),
    Patch(
        "a column that a row uses is not left out of an export",
        "export/table",
        "used.update([name for at, name in _CHECKED if name and own[at]])",
        "pass",
        "tests/export/test_export.py::test_a_csv_has_the_datas_columns_then_the_journals",
    ),
]

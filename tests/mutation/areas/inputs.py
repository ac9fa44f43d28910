"""Inputs that aren't read again, and values that are right."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "rows of a workbook that are out of order aren't dropped",
        "inputs/excel",
        "                        order.check(data)\n",
        "",
        "tests/inputs/test_broken.py::test_a_workbook_whose_rows_or_cells_are_out_of_order_is_refused",
    ),
    Patch(
        "a compressed stream after another one is read to its end",
        "inputs/compression",
        "                if not data and self._is_begun:\n                    raise EOFError\n",
        "",
        "tests/inputs/test_broken.py::test_a_file_is_named_for_what_it_is",
    ),
    Patch(
        "a database that is cut short is refused",
        "inputs/sqlite",
        "    return os.path.getsize(path) % int(page) > 0\n",
        "    return False\n",
        "tests/inputs/test_broken.py::test_a_database_that_is_cut_short_is_refused",
    ),
    Patch(
        "a pipe isn't read again from its middle",
        "inputs/read",
        "            if self.source.is_stream:\n",
        "            if self.source.path == STANDARD_INPUT:\n",
        "tests/inputs/test_broken.py::test_a_pipe_cannot_be_read_again",
    ),
    Patch(
        "a formula without a value isn't an empty cell",
        "inputs/excel",
        "        if _has_formulas_without_values(source):\n",
        "        if False:\n",
        "tests/inputs/test_broken.py::test_a_wrong_cell_of_a_workbook_is_named",
    ),
    Patch(
        "a query can't make a file",
        "inputs/sqlite",
        "    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)  # ATTACH would make a file\n",
        "",
        "tests/inputs/test_broken.py::test_a_query_that_is_wrong_is_named_and_changes_nothing",
    ),
]

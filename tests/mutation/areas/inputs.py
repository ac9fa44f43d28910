"""Inputs that aren't read again, and values that are right."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "a compressed stream after another one is read to its end",
        "inputs/compression",
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
        "a formula without a value isn't an empty cell",
        "inputs/excel",
        '            if cell.value is None and formula.data_type == "f" and cell.data_type != "str":\n',
        "            if False:\n",
        "tests/inputs/test_broken.py::test_a_wrong_cell_of_a_workbook_is_named",
    ),
    Patch(
        "a query can't make a file",
        "inputs/sqlite",
        "    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)  # ATTACH would make a file\n",
        "",
        "tests/inputs/test_broken.py::test_a_query_that_is_wrong_is_named_and_changes_nothing",
    ),
    Patch(
        "a given encoding wins over a byte order mark",
        "inputs/text",
        "source.encoding or encoding_of_mark(stream.peek(4)[:4])",
        "encoding_of_mark(stream.peek(4)[:4]) or source.encoding",
        "tests/inputs/test_broken.py::test_a_given_encoding_wins_over_a_byte_order_mark",
    ),
    Patch(
        "an error of decoding names the line",
        "inputs/text",
        '                number += error.object[: error.start].count(b"\\n")\n',
        "",
        "tests/inputs/test_broken.py::test_a_file_is_named_for_what_it_is",
    ),
]

"""Inputs that aren't read again, and values that are right."""

from __future__ import annotations

from mutation.patch import Patch

KNOWN = "tests/inputs/test_known.py"
BROKEN = "tests/inputs/test_broken.py"

PATCHES = [
    Patch(
        "rows of a workbook that are out of order aren't dropped",
        "inputs/excel",
        "                        order.check(data)\n",
        "",
        BROKEN,
    ),
    Patch(
        "a compressed stream after another one is read to its end",
        "inputs/compression",
        "                if not data and self._is_begun:\n                    raise EOFError\n",
        "",
        BROKEN,
    ),
    Patch(
        "a database that is cut short is refused",
        "inputs/sqlite",
        "    return os.path.getsize(path) % int(page) > 0\n",
        "    return False\n",
        BROKEN,
    ),
    Patch(
        "a pipe isn't read again from its middle",
        "inputs/read",
        "            if self.source.is_stream:\n",
        "            if self.source.path == STANDARD_INPUT:\n",
        BROKEN,
    ),
    Patch(
        "an input is known only while its file is the one that was read",
        "inputs/known",
        "            and mark.read == rows.state_after(mark.read)\n",
        "",
        KNOWN,
    ),
    Patch(
        "an input is known only as it was read and compared",
        "inputs/known",
        "            mark.rules == self._digest(rows)\n            and ",
        "            ",
        KNOWN,
    ),
    Patch(
        "an input is known only in its own job",
        "inputs/known",
        "mark.created_at == created_at.isoformat()\n            and ",
        "",
        KNOWN,
    ),
    Patch(
        "an input is known only while nobody has written data of rows",
        "inputs/known",
        "                is_same = _latest_data(journal) == mark.position\n",
        "                is_same = True\n",
        KNOWN,
    ),
    Patch(
        "a file that changes while it is read isn't known",
        "inputs/known",
        " or rows.state_after(before) != before:\n",
        ":\n",
        KNOWN,
    ),
    Patch(
        "data that others write while an input is read isn't taken for compared",
        "inputs/known",
        "    if len(offsets) < MIN_ROWS or len(new) != added:\n",
        "    if len(offsets) < MIN_ROWS:\n",
        KNOWN,
    ),
    Patch(
        "an input with changed rows isn't known",
        "run/input_match",
        "    if unwritten is None and not (matched.changed or matched.lost):\n",
        "    if unwritten is None:\n",
        KNOWN,
    ),
    Patch(
        "a recent file is known by all of its bytes",
        "inputs/state",
        '            return ReadState(state, _sha256(file) if is_needed else "")\n',
        "            return ReadState(state)\n",
        KNOWN,
    ),
    Patch(
        "functions and types aren't known",
        "inputs/known",
        "        is_comparable = all(rule is None or isinstance(rule, str) for rule in rules)\n",
        "        is_comparable = True\n",
        KNOWN,
    ),
    Patch(
        "a mark with a flipped bit isn't used",
        "inputs/known",
        " if stated_crc(line) == content_crc(line, 0) else None\n",
        "\n",
        KNOWN,
    ),
    Patch(
        "a formula without a value isn't an empty cell",
        "inputs/excel",
        "        if _has_formulas_without_values(source):\n",
        "        if False:\n",
        BROKEN,
    ),
    Patch(
        "a query can't make a file",
        "inputs/sqlite",
        "    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)  # ATTACH would make a file\n",
        "",
        BROKEN,
    ),
]

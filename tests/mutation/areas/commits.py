"""The quick beginning of a commit: what it looks at before it believes that nobody has written."""

from __future__ import annotations

from mutation.patch import FAULTS, PROCESSES, Patch

PATCHES = [
    Patch(
        "no row is added inside a batch of its iterable",
        "store/bulk",
        "        if journal.depth > depth:",
        "        if False:",
        "tests/store/test_new_rows.py",
    ),
    Patch(
        "a commit begins with a look at the file's name, its size and its seal",
        "store/journal",
        "            if self._stale or not log.is_as_left(size):\n",
        "            if self._stale:\n",
        PROCESSES,
    ),
    Patch(
        "a commit begins with a look at the mark of a failed sync",
        "store/log",
        "            and (self._mark is None or self._mark.is_clear())\n",
        "",
        FAULTS,
    ),
    Patch(
        "what nobody has synced is put in order before the next commit",
        "store/log",
        "            and self.is_synced\n",
        "",
        FAULTS,
    ),
    Patch(
        "a commit begins with a look at the seal: another file may be as long",
        "store/log",
        "            and (not size or file.read_some(size - SEALED_END_BYTES, SEALED_END_BYTES) == self.seal)\n",
        "",
        PROCESSES,
    ),
    Patch(
        "a commit begins with a look at the number of the file's links",
        "store/log",
        "            and not (self.is_new or self.torn_end or file.is_shared)\n",
        "            and not (self.is_new or self.torn_end)\n",
        "tests/store/test_strange_files.py",
    ),
    Patch(
        "a mark that another file has replaced is not believed",
        "fs/sync_mark",
        "                and stat.st_nlink == 1\n                and system",
        "                and system",
        "tests/store/test_strange_files.py::test_a_mark_with_a_second_hard_link_is_not_written_any_more",
    ),
    Patch(
        "rows are not kept from bytes that another writer has replaced",
        "store/log",
        '        self.is_new = self.is_synced = False\n        self._window = 0, b""\n',
        "        self.is_new = self.is_synced = False\n",
        "tests/store/test_row_window.py",
    ),
    Patch(
        "rows are not kept from bytes behind the last commit",
        "store/log",
        "min(_WINDOW_BYTES, self.end.offset - offset)",
        "_WINDOW_BYTES",
        "tests/store/test_row_window.py",
    ),
    Patch(
        "a thread of a group shares the next commit, too",
        "store/group_commit",
        "                self.was_shared = len(requests) > 1\n",
        "",
        "tests/store/test_group.py",
    ),
    Patch(
        "a change joins the commit of a group that waits",
        "store/journal",
        "        is_busy = self.log.syncs and (self.depth or group.open.requests or group.was_shared)\n",
        "        is_busy = False\n",
        "tests/store/test_group.py",
    ),
]

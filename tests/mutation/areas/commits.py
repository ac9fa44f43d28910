"""The quick beginning of a commit: what it looks at before it believes that nobody has written."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "no row is added inside a batch of its iterable",
        "store/bulk",
        "        if journal.depth > depth:",
        "        if False:",
        "tests/store/test_new_rows.py::test_a_row_yielded_inside_a_batch_of_the_iterable_is_refused",
    ),
    Patch(
        "a commit begins with a look at the file's name, its size and its seal",
        "store/journal",
        "            if self._stale or not log.is_as_left(size):\n",
        "            if self._stale:\n",
        "tests/store/test_guards.py::test_a_torn_tail_that_becomes_a_commit_of_the_same_length_is_seen",
    ),
    Patch(
        "a commit begins with a look at the mark of a failed sync",
        "store/log",
        "            and (self._mark is None or self._mark.is_clear())\n",
        "",
        "tests/store/test_faults.py::test_what_a_failed_sync_left_in_doubt_is_written_to_a_new_file_unless_it_is_cut_off",
    ),
    Patch(
        "what nobody has synced is put in order before the next commit",
        "store/log",
        "            and self.is_synced\n",
        "",
        "tests/store/test_guards.py::test_what_is_taken_back_is_gone_for_sure_before_more_is_written",
    ),
    Patch(
        "a commit begins with a look at the seal: another file may be as long",
        "store/log",
        "            and (not size or file.read_some(size - SEALED_END_BYTES, SEALED_END_BYTES) == self.seal)\n",
        "",
        "tests/store/test_processes.py::test_a_journal_replaced_by_a_copy_that_is_older_or_went_another_way_is_what_an_open_service_follows",
    ),
    Patch(
        "a commit begins with a look at the number of the file's links",
        "store/log",
        "            and not (self.is_new or self.torn_end or file.is_shared)\n",
        "            and not (self.is_new or self.torn_end)\n",
        "tests/store/test_strange_files.py::test_who_is_at_work_when_a_copy_gets_hard_links_goes_on_in_a_file_of_its_own",
    ),
    Patch(
        "a mark that another file has replaced is not believed",
        "fs/sync_mark",
        "(stat.st_ino, stat.st_dev, stat.st_nlink) == self._stat",
        "(stat.st_ino, stat.st_dev, 1) == self._stat",
        "tests/store/test_strange_files.py::test_a_mark_with_a_second_hard_link_is_not_written_any_more",
    ),
    Patch(
        "rows are not kept from bytes that another writer has replaced",
        "store/log",
        '        self.is_new = self.is_synced = False\n        self._window = 0, b""\n',
        "        self.is_new = self.is_synced = False\n",
        "tests/store/test_row_window.py::test_a_journal_that_another_copy_has_replaced_shows_the_rows_of_that_copy",
    ),
    Patch(
        "rows are not kept from bytes behind the last commit",
        "store/log",
        "min(_WINDOW_BYTES, self.end.offset - offset)",
        "_WINDOW_BYTES",
        "tests/store/test_row_window.py::test_rows_of_a_batch_that_was_discarded_are_not_kept",
    ),
    Patch(
        "a thread of a group shares the next commit, too",
        "store/group_commit",
        "                self.was_shared = len(requests) > 1\n",
        "",
        "tests/store/test_group.py::test_threads_that_shared_a_commit_share_the_next_one_from_its_first_request_on",
    ),
    Patch(
        "a change joins the commit of a group that waits",
        "store/journal",
        "        is_busy = self.log.syncs and (self.depth or group.open.requests or group.was_shared)\n",
        "        is_busy = False\n",
        "tests/store/test_group.py::test_what_threads_ask_for_during_a_sync_becomes_one_commit_with_one_sync",
    ),
]

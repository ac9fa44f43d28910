"""What a reader believes of a file that others write, replace, cut or break meanwhile."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "half of a block that was read when an interrupt came is read again",
        "store/journal",
        "        begin, self._stale = log.end, True  #",
        "        begin = log.end  #",
        "tests/store/test_interrupts_by_line.py::test_a_service_that_was_interrupted_at_any_line_goes_on_in_agreement_with_others",
    ),
    Patch(
        "the journal of a newer version is named as that",
        "format/torn_tail_or_damage",
        '    if tail.kind == "newer":\n',
        "    if False:\n",
        "tests/format/test_corpus.py::test_opening_says_what_the_corpus_says",
    ),
    Patch(
        "an empty journal is damage",
        "store/journal",
        "        if self.index.state is None:\n            raise JournalDamagedError(self.path, 1, 0,",
        "        if False:\n            raise JournalDamagedError(self.path, 1, 0,",
        "tests/store/test_guards_writers.py::test_what_begins_with_no_job_is_damage_to_whoever_reads_no_more_than_that",
    ),
    Patch(
        "who has looked again lets go of the lock",
        "store/log",
        "            yield self.lock()\n        finally:\n            self.unlock()\n",
        "            yield self.lock()\n        finally:\n            pass\n",
        "tests/store/test_guards_writers.py::test_who_has_found_damage_keeps_nobody_out",
    ),
    Patch(
        "a copy is of the job that its first line names",
        "transfer/copies",
        "    if not is_job_id(header.id):",
        "    if False:",
        "tests/transfer/test_guards_copies.py::test_a_copy_is_damaged_if_its_last_commit_does_not_fit_its_seal_or_it_begins_as_no_job",
    ),
    Patch(
        "a copy begins with a job record",
        "transfer/copies",
        "    if not isinstance(header, JobRecord):\n        raise Journal",
        "    if False:\n        raise Journal",
        "tests/transfer/test_guards_copies.py::test_a_copy_is_damaged_if_its_last_commit_does_not_fit_its_seal_or_it_begins_as_no_job",
    ),
    Patch(
        "damage behind the last commit of a copy is named",
        "store/log",
        "                raise tail_error(file, self.end, tail)\n",
        "                break\n",
        "tests/transfer/test_guards_copies.py::test_a_copy_is_damaged_if_its_last_commit_does_not_fit_its_seal_or_it_begins_as_no_job",
    ),
    Patch(
        "the last seal of a copy is checked",
        "transfer/copies",
        "        if last == end:\n            return end\n",
        "        if True:\n            return end\n",
        "tests/transfer/test_guards_copies.py::test_a_copy_is_damaged_if_its_last_commit_does_not_fit_its_seal_or_it_begins_as_no_job",
    ),
    Patch(
        "the commits that a copy has lead to its end",
        "format/commits",
        "    if position != end:\n",
        "    if False:\n",
        "tests/transfer/test_guards_copies.py::test_a_copy_holds_a_seal_only_where_it_has_it_and_its_commits_must_lead_to_its_end",
    ),
    Patch(
        "two copies are the same up to a place only if both reach it",
        "transfer/copies",
        "    return position.offset <= copy.end.offset and has_seal(",
        "    return has_seal(",
        "tests/transfer/test_guards_copies.py::test_a_copy_holds_a_seal_only_where_it_has_it_and_its_commits_must_lead_to_its_end",
    ),
    Patch(
        "two copies are the same up to a place only if they have one seal there",
        "transfer/copies",
        " and has_seal(copy.file, position)\n",
        "\n",
        "tests/transfer/test_guards_copies.py::test_a_copy_holds_a_seal_only_where_it_has_it_and_its_commits_must_lead_to_its_end",
    ),
    Patch(
        "a seal that lies across two chunks is found from the end",
        "format/commits",
        "        begin = max(low - SEALED_END_BYTES + 1, 0)  # a seal",
        "        begin = low  # a seal",
        "tests/transfer/test_guards_copies.py::test_a_seal_is_found_wherever_a_piece_of_the_file_ends",
    ),
    Patch(
        "a seal that lies across two chunks is found from the front",
        "format/commits",
        "        begin = max(offset - SEALED_END_BYTES + 1, 0)\n        high",
        "        begin = offset\n        high",
        "tests/transfer/test_guards_copies.py::test_a_seal_is_found_wherever_a_piece_of_the_file_ends",
    ),
    Patch(
        "a forked child reads on only in the same file",
        "fs/handles",
        "            if (stat.st_ino, stat.st_dev) != (self.inode, self.device):\n",
        "            if False:\n",
        "tests/store/test_guards_writers.py::test_rows_are_not_read_out_of_a_journal_that_replaced_theirs_before_a_fork",
    ),
    Patch(
        "what is written is written to the end",
        "fs/handles",
        "    while view:\n        view = view[system.os.write(fd, view) :]",
        "    system.os.write(fd, view)",
        "tests/transfer/test_guards_copies.py::test_a_history_is_kept_whole_and_on_the_disk_whatever_was_left_of_it",
    ),
]

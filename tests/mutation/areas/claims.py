"""Claims on network file systems."""

from __future__ import annotations

from mutation.patch import Patch

CLAIMS = "tests/store/test_claims.py"
FROZEN = (
    f"{CLAIMS}::test_a_run_that_was_frozen_while_it_took_the_job_over_replaces_no_later_journal"
)
LOST = f"{CLAIMS}::test_a_run_whose_job_another_has_claimed_starts_and_records_nothing_more"
LATE = f"{CLAIMS}::test_what_rows_return_to_a_run_that_has_lost_its_job_is_left_for_people"
BUSY = f"{CLAIMS}::test_while_the_lock_of_a_claim_reaches_the_other_node_no_run_starts_there"

PATCHES = [
    Patch(
        "a commit is acknowledged after the claims were listed",
        "store/log",
        "        self.known_ns = time_ns()\n        if self.claim is not None:\n",
        "        self.known_ns = time_ns()\n        if False:\n",
        f"{CLAIMS}::test_a_start_is_not_acknowledged_if_another_run_claims_the_job_during_its_commit",
    ),
    Patch(
        "a run that has lost its job doesn't use another run's journal",
        "store/log",
        "        self._file = file = open_journal(self.path, id_of_directory(self.directory))\n"
        "        if self.claim is not None:\n",
        "        self._file = file = open_journal(self.path, id_of_directory(self.directory))\n        if False:\n",
        LOST,
    ),
    Patch(
        "the claims are listed after a copy was written and before it replaces the journal",
        "store/log",
        "            if self.claim is not None:\n                self._check_claim()\n",
        "",
        FROZEN,
    ),
    Patch(
        "a run removes the copies with which earlier runs would replace the journal",
        "fs/claims",
        "            if name.endswith(_NEW):\n",
        "            if False:\n",
        FROZEN,
    ),
    Patch(
        "a copy has the name of its claim",
        "store/log",
        "            path = self.claim.new_journal\n",
        "            pass\n",
        FROZEN,
    ),
    Patch(
        "a run works in a copy if an earlier one may still write",
        "store/run_lock",
        "        if may_work:\n",
        "        if False:\n",
        LOST,
    ),
    Patch(
        "a run that has ended writes no more",
        "fs/claims",
        "                    system.os.ftruncate(self.file.fd, 0)\n",
        "                    pass\n",
        BUSY,
    ),
    Patch(
        "a run that a later one doesn't know of doesn't begin",
        "fs/claims",
        "        if max(_numbers(names), default=0) != self.number:\n",
        "        if False:\n",
        f"{CLAIMS}::test_of_runs_that_claim_a_job_at_the_same_time_one_has_it",
    ),
    Patch(
        "the lock of a claim keeps other runs out",
        "fs/claims",
        "                    if not wait_for_lock(file, locks.PATIENCE_S):\n",
        "                    if False:\n",
        BUSY,
    ),
    Patch(
        "the lock of a claim is looked at before a job is deleted",
        "store/run_lock",
        "        if claims.is_claimed(directory):\n",
        "        if False:\n",
        BUSY,
    ),
    Patch(
        "a cached list of claims doesn't let a job be deleted",
        "store/run_lock",
        "            claims.look(directory / CLAIMS_NAME)",
        "            pass",
        f"{CLAIMS}::test_a_job_is_not_deleted_though_a_cached_list_lacks_the_claim_of_its_run",
    ),
    Patch(
        "who has a job on another node can be seen",
        "store/run_lock",
        "lock.is_held() or claims.is_claimed(directory)",
        "lock.is_held()",
        BUSY,
    ),
    Patch(
        "a run whose claim is gone has lost the job",
        "fs/claims",
        "            elif self.number not in numbers:\n",
        "            elif False:\n",
        f"{CLAIMS}::test_a_run_whose_claim_is_gone_has_lost_the_job",
    ),
    Patch(
        "a directory is changed before its claims are listed",
        "fs/claims",
        "            is_made = False\n",
        "            pass\n",
        f"{CLAIMS}::test_claims_are_listed_after_a_change_of_their_directory_so_no_cache_answers",
    ),
    Patch(
        "a journal that was cut isn't replaced",
        "store/log",
        "            if self.file.writable and find_cut(self.directory, self.file) is None:\n",
        "            if self.file.writable:\n",
        f"{CLAIMS}::test_a_journal_that_was_cut_is_not_replaced_so_its_hint_still_proves_it",
    ),
    Patch(
        "the claim of a run that may still write to the journal stays",
        "store/run_lock",
        "        else:\n            claim.forget_earlier()\n",
        "        claim.forget_earlier()\n",
        f"{CLAIMS}::test_a_journal_that_was_cut_is_replaced_later_since_the_earlier_run_may_still_write_to_it",
    ),
    Patch(
        "each commit on a network file system is synced",
        "store/log",
        "            self.syncs = True\n",
        "",
        f"{CLAIMS}::test_on_a_network_each_commit_is_synced_though_the_store_was_not_asked_to",
    ),
    Patch(
        "what rows return to a run that has lost its job is kept",
        "run/driver",
        "            self._held.leave_late(result.row, result.outcome)\n",
        "",
        LATE,
    ),
    Patch(
        "after a commit in doubt, a run looks for a later claim",
        "run/driver",
        "        self._held.look()\n        with suppress(StorageError):\n            self._check_lock()\n",
        "",
        LATE,
    ),
    Patch(
        "a start names results that aren't in the job",
        "run/held_job",
        '            self.warn(f"{self.id}: {text}")\n',
        "            pass\n",
        LATE,
    ),
    Patch(
        "a worker process knows the claim of its run",
        "run/workers/steps",
        "                if claim is not None:\n                    opened.store",
        "                if False:\n                    opened.store",
        f"{CLAIMS}::test_a_worker_process_begins_no_step_once_another_run_has_claimed_the_job",
    ),
    Patch(
        "a step of a command knows the claim of its run",
        "cli/commands/step",
        "        if claim:\n",
        "        if False:\n",
        f"{CLAIMS}::test_a_step_of_a_command_is_not_begun_once_another_run_has_claimed_the_job",
    ),
    Patch(
        "a claim after a commit that failed says that its run may still write",
        "fs/claims",
        "            if not (self.lost or self.is_writing):\n",
        "            if not self.lost:\n",
        f"{CLAIMS}::test_after_a_commit_that_failed_the_next_run_works_in_a_copy_though_the_run_has_ended",
    ),
    Patch(
        "a claim says that parts of a commit are written",
        "store/log",
        "        if self.claim is not None:\n            self.claim.is_writing = True\n        self._check_end()\n",
        "        self._check_end()\n",
        f"{CLAIMS}::test_after_a_commit_whose_parts_are_written_the_next_run_works_in_a_copy",
    ),
    Patch(
        "a run looks anew which file system has the number of a device",
        "fs/claims",
        "(anew and not system.os.major(device))",
        "False",
        f"{CLAIMS}::test_a_run_looks_anew_which_file_system_has_the_number_of_a_device",
    ),
    Patch(
        "a claim after a call was given up says that its run may still write",
        "run/held_job",
        "            claim.is_writing = True\n",
        "            pass\n",
        f"{CLAIMS}::test_while_a_call_that_was_given_up_may_write_the_next_run_works_in_a_copy",
    ),
    Patch(
        "what a client of NFS has cached is dropped after a claim",
        "store/log",
        "            file.forget_cached()\n",
        "",
        f"{CLAIMS}::test_who_claims_a_job_reads_the_journal_anew_from_the_server",
    ),
    Patch(
        "who has no claim asks the server before it reads",
        "fs/handles",
        "        if self.guard is not None and self.guard.is_over:\n",
        "        if False:\n",
        f"{CLAIMS}::test_a_process_that_keeps_a_job_open_asks_the_server_unless_it_has_the_job",
    ),
    Patch(
        "who asks the server drops what it has cached",
        "fs/handles",
        "            close_fd(system.os.open(self._path_text, flags))\n        self.forget_cached()\n",
        "            close_fd(system.os.open(self._path_text, flags))\n",
        f"{CLAIMS}::test_a_process_that_keeps_a_job_open_asks_the_server_unless_it_has_the_job",
    ),
    Patch(
        "a name that only looks like a claim's is none",
        "fs/claims",
        '"[0-9]{6}|[1-9][0-9]{6,}"',
        '"[0-9]{6}|[1-9][0-9]{6,8}"',
        f"{CLAIMS}::test_what_else_may_stand_among_the_claims_is_named_or_does_no_harm",
    ),
    Patch(
        "what stands in the place of the directory that is made to look is named",
        "fs/claims",
        "            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):\n",
        "            if error.errno not in ():\n",
        f"{CLAIMS}::test_what_else_may_stand_among_the_claims_is_named_or_does_no_harm",
    ),
    Patch(
        "a job whose claims can't be used isn't called missing",
        "store/run_lock",
        "            if is_gone and not files.exists(directory / JOURNAL_NAME):\n",
        "            if is_gone:\n",
        f"{CLAIMS}::test_what_else_may_stand_among_the_claims_is_named_or_does_no_harm",
    ),
    Patch(
        "a repair looks at the claims before it replaces the journal",
        "repair/rebuild",
        "        run.check()\n",
        "",
        f"{CLAIMS}::test_a_repair_of_a_job_that_a_run_has_claimed_meanwhile_replaces_nothing",
    ),
    Patch(
        "on a network file system, each node has its own staging directory",
        "fs/staging",
        "            if network_of(system.os.fstat(directory.fd).st_dev):\n",
        "            if False:\n",
        "tests/store/test_claims.py::test_a_node_leaves_alone_what_another_node_is_making",
    ),
    Patch(
        "a command that has lost its job doesn't exit as one whose rows are done",
        "run/held_job",
        "        if self.is_lost:\n",
        "        if False:\n",
        f"{CLAIMS}::test_a_command_that_has_lost_its_job_says_so_last_and_gives_no_line_to_start_again",
    ),
    Patch(
        "a run that has lost its job says what to do instead of how to start again",
        "run/open_job",
        "        if how_to.command or report.is_lost:\n",
        "        if how_to.command:\n",
        f"{CLAIMS}::test_what_rows_return_to_a_run_that_has_lost_its_job_is_left_for_people",
    ),
]

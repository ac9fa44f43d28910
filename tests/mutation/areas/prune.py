"""Old jobs are deleted, and never without their pack."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "a link to a job isn't pruned",
        "transfer/prune",
        "    if directory.is_symlink():\n",
        "    if False:\n",
        "tests/transfer/test_prune.py::test_a_link_to_a_job_is_left_since_the_files_of_the_job_would_stay",
    ),
    Patch(
        "a dry run writes no pack",
        "transfer/prune",
        "    if dry_run:\n        return path\n",
        "",
        "tests/transfer/test_prune.py::test_a_dry_run_changes_nothing",
    ),
    Patch(
        "a pack is checked before its job is deleted",
        "transfer/prune",
        "        if _digests(contents) != _digests(snapshot.contents()) or snapshot.left_out:\n",
        "        if False:\n",
        "tests/transfer/test_prune.py::test_a_pack_that_reads_back_differently_is_no_reason_to_delete",
    ),
    Patch(
        "a pack doesn't overwrite a file that appeared meanwhile",
        "fs/output",
        "        if force or not self._link(target.name):\n",
        "        if True:\n",
        "tests/transfer/test_prune.py::test_nothing_is_committed_between_the_pack_and_the_deletion",
    ),
    Patch(
        "without hard links the name of an output is reserved",
        "fs/output",
        "            flags = system.os.O_WRONLY | system.os.O_CREAT | system.os.O_EXCL\n            handles",
        "            flags = system.os.O_WRONLY | system.os.O_CREAT\n            handles",
        "tests/transfer/test_prune.py::test_a_file_that_another_process_makes_meanwhile_is_not_overwritten",
    ),
    Patch(
        "a pack is made while the job is locked",
        "store/store",
        "            with log.locked():\n                first(directory)\n",
        "            first(directory)\n            with log.locked():\n",
        "tests/transfer/test_prune.py::test_a_job_that_is_locked_or_damaged_is_left_and_named",
    ),
    Patch(
        "a job is looked at again when it is locked",
        "transfer/prune",
        "        if now.status not in wanted:\n",
        "        if False:\n",
        "tests/transfer/test_prune.py::test_only_old_jobs_that_have_ended_are_deleted",
    ),
    Patch(
        "a job with files that no pack holds stays",
        "transfer/prune",
        "    if snapshot.left_out or others:\n",
        "    if False:\n",
        "tests/transfer/test_prune.py::test_a_job_with_a_file_that_no_pack_can_hold_is_left",
    ),
    Patch(
        "packs are not put into a job",
        "transfer/prune",
        "    if store.root.resolve() in target.resolve().parents:\n",
        "    if False:\n",
        "tests/transfer/test_prune.py::test_a_directory_for_packs_exists_and_is_no_part_of_a_job",
    ),
    Patch(
        "a pack has the backups of its job",
        "transfer/prune",
        "    snapshot = Snapshot(copy, backups=True)\n",
        "    snapshot = Snapshot(copy)\n",
        "tests/transfer/test_prune.py::test_a_pack_is_all_of_the_job",
    ),
    Patch(
        "a job is noted as pruned before it is deleted",
        "transfer/prune",
        "            note_pruned(store.root, job.id, pack, copy.end)\n",
        "            pass\n",
        "tests/transfer/test_pruned.py::test_a_job_that_was_pruned_without_a_pack_is_not_made_anew_either",
    ),
    Patch(
        "the line about a pruned job is synced",
        "fs/files",
        "            system.os.fsync(fd)\n            sync_directory(path.parent)\n",
        "            pass\n",
        "tests/crash/test_transfer_cuts.py::test_after_a_power_cut_at_any_moment_of_a_prune_the_job_is_there_or_known_to_be_pruned",
    ),
    Patch(
        "the line about a pruned job begins after one that has no end",
        "fs/files",
        'else b"\\n"\n        try:\n',
        'else b""\n        try:\n',
        "tests/transfer/test_pruned.py::test_a_line_after_one_that_a_dead_process_did_not_end_is_a_line_of_its_own",
    ),
    Patch(
        "a pruned job isn't made anew",
        "store/store",
        "        if not anew:\n            check_not_pruned(self.root, job_id)\n",
        "",
        "tests/transfer/test_pruned.py::test_a_pruned_job_is_not_made_and_the_error_says_where_its_pack_is",
    ),
    Patch(
        "an older copy doesn't take the place of a pruned job",
        "transfer/pack",
        "        if pruned is not None and not holds(made.copy, pruned.end):\n",
        "        if False:\n",
        "tests/transfer/test_pruned.py::test_a_copy_that_lacks_commits_of_the_pruned_job_does_not_take_its_place",
    ),
]

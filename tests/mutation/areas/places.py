"""What may stand in the place of a job's files, and of outputs."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "a link in the place of a job's file is not followed",
        "fs/handles",
        "    flags |= system.os.O_NOFOLLOW | system.os.O_NONBLOCK\n",
        "    flags |= system.os.O_NONBLOCK\n",
        "tests/store/test_strange_files.py::test_run_lock_is_not_written_through_a_link",
    ),
    Patch(
        "a pipe in the place of a job's file is not waited for",
        "fs/handles",
        "    flags |= system.os.O_NOFOLLOW | system.os.O_NONBLOCK\n",
        "    flags |= system.os.O_NOFOLLOW\n",
        "tests/store/test_strange_files.py::test_all_that_is_opened_below_a_store_is_opened_without_following_links_or_waiting",
    ),
    Patch(
        "what is opened in the place of a job's file is a regular one",
        "fs/handles",
        "        if not S_ISREG(stat.st_mode):\n            raise OSError(errno.EINVAL",
        "        if False:\n            raise OSError(errno.EINVAL",
        "tests/store/test_strange_files.py::test_a_pipe_in_the_place_of_a_journal_keeps_no_command_waiting",
    ),
    Patch(
        "the beginning of a journal is read through no link",
        "fs/files",
        "_TO_LOOK = system.os.O_RDONLY | system.os.O_NOFOLLOW | system.os.O_NONBLOCK\n",
        "_TO_LOOK = system.os.O_RDONLY | system.os.O_NONBLOCK\n",
        "tests/store/test_strange_files.py::test_all_that_is_opened_below_a_store_is_opened_without_following_links_or_waiting",
    ),
    Patch(
        "a journal that has another name is not written",
        "fs/handles",
        "        if stat.st_nlink > 1:\n            self._refuse_writing(why_not_written(path, stat.st_nlink))\n",
        "        if False:\n            pass\n",
        "tests/store/test_strange_files.py::test_files_that_another_copy_shares_are_read_but_not_written_until_they_are_the_jobs_own",
    ),
    Patch(
        "who is at work when a journal gets another name goes on in a file of its own",
        "fs/handles",
        "            self.is_shared = stat.st_nlink > 1\n",
        "            self.is_shared = False\n",
        "tests/store/test_strange_files.py::test_who_is_at_work_when_a_copy_gets_hard_links_goes_on_in_a_file_of_its_own",
    ),
    Patch(
        "a run.lock that has another name is not written",
        "fs/files",
        "    if stat.st_nlink > 1:\n",
        "    if False:\n",
        "tests/store/test_strange_files.py::test_run_lock_is_not_written_through_a_link",
    ),
    Patch(
        "the way to an artifact goes through no link",
        "fs/files",
        "system.os.O_DIRECTORY | system.os.O_NOFOLLOW",
        "system.os.O_DIRECTORY",
        "tests/store/test_strange_files.py::test_whenever_a_directory_becomes_a_link_a_pull_writes_nothing_outside",
    ),
    Patch(
        "no output replaces a file of a job",
        "fs/output_files",
        "    _check_not_of_a_job(target)\n    for",
        "    for",
        "tests/tables/test_export.py::test_a_file_of_a_job_is_replaced_by_no_export_and_no_report",
    ),
    Patch(
        "what is kept of a journal that is gone is replaced by no output",
        "fs/output_files",
        "    if files.exists(target) or files",
        "    if files",
        "tests/tables/test_export.py::test_what_is_kept_of_a_journal_that_is_gone_is_replaced_by_no_output",
    ),
    Patch(
        "another user's links are no way for an output",
        "fs/output_files",
        "    return stat.st_uid in (system.os.geteuid(), 0)",
        "    return True",
        "tests/store/test_strange_files.py::test_no_output_goes_through_a_link_of_another_user",
    ),
    Patch(
        "what takes the place of an output that is being written is not taken for it",
        "fs/output_files",
        "        if not system.os.path.samestat(mine, there):",
        "        if False:",
        "tests/store/test_strange_files.py::test_what_somebody_puts_in_the_place_of_an_output_that_is_being_written_is_not_taken_for_it",
    ),
]

"""What comes from elsewhere or goes there: commands, packs, copies, executors."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "a sparse journal isn't read",
        "fs/handles",
        "            and stat.st_size - 512 * stat.st_blocks > _MAX_HOLES_BYTES\n",
        "            and stat.st_size > 1 << 62\n",
        "tests/store/test_strange_files.py::test_a_sparse_journal_is_refused_and_not_read",
    ),
    Patch(
        "a cut job is not handed on",
        "transfer/copies",
        "    if cut is not None:\n        raise cut_error",
        "    if False:\n        raise cut_error",
        "tests/store/test_cut_journals.py::test_a_cut_job_is_not_handed_on_since_a_copy_could_not_show_the_cut",
    ),
    Patch(
        "a command from elsewhere is shown with who recorded it",
        "cli/next_start",
        "    if (run.host, run.user) == (system.host_name(), system.user_name()):\n",
        "    if True:\n",
        "tests/cli/test_pasted_lines.py::test_a_command_that_was_recorded_elsewhere_is_shown_with_who_recorded_it",
    ),
    Patch(
        "a copy of a live run does not say that the run died",
        "cli/next_start",
        "    if not hosts:\n",
        "    if hosts or not hosts:\n",
        "tests/sets/test_sets_in_commands.py::test_show_says_what_to_do_about_shards_that_died_or_are_not_here",
    ),
    Patch(
        "each name of a pack counts for its size",
        "transfer/pack",
        " + _ENTRY_BYTES * (1 + new)\n",
        "\n",
        "tests/transfer/test_pack.py::test_files_and_directories_count_for_the_free_space",
    ),
    Patch(
        "artifacts with a second hard link are not read",
        "fs/safe_paths",
        "            if self._is_to_copy and (names := file.count_names()) > 1:\n",
        "            if False:\n                names = 0\n",
        "tests/transfer/test_pack.py::test_an_artifact_with_a_second_hard_link_is_refused_and_named",
    ),
]

"""Jobs that are made, found, deleted and locked; names and directories."""

from __future__ import annotations

from mutation.patch import Patch

STORE = "tests/store/test_guards_writers.py tests/cli/test_delete.py tests/service/test_service.py"
PROCESSES = (
    "tests/store/test_guards_writers.py tests/store/test_guards.py tests/store/test_processes.py"
)

PATCHES = [
    Patch(
        "a root that is no directory is refused at once",
        "store/store",
        "        if in_the_way:\n",
        "        if False:\n",
        "tests/store/test_guards_writers.py",
    ),
    Patch(
        "an empty directory gives way to a new job",
        "store/store",
        " and not directories.is_empty(target):",
        ":",
        "tests/store/test_guards_writers.py::test_only_an_empty_directory_gives_way_to_a_new_job",
    ),
    Patch(
        "only so many journals are kept open",
        "store/store",
        "                if len(self._journals) > MAX_OPEN_JOURNALS:\n                    self._evict()\n",
        "",
        STORE,
    ),
    Patch(
        "the journal that was used the longest ago is closed first",
        "store/store",
        "            self._journals.move_to_end(job_id)\n",
        "",
        STORE,
    ),
    Patch(
        "a journal with an open batch is not closed for others",
        "store/store",
        "            if not journal.depth:  # a second",
        "            if True:  # a second",
        STORE,
    ),
    Patch(
        "a service that is closed closes its journals",
        "store/store",
        "        for journal in journals:\n            journal.close()\n",
        "",
        "tests/index/test_hint_files.py",
    ),
    Patch(
        "a run that is kept outlasts the job's status",
        "service",
        "                self.store.runs.mark(taken, keep=keep_lock)\n",
        "                self.store.runs.mark(taken)\n",
        "tests/store/test_guards_writers.py",
    ),
    Patch(
        "a run that is kept outlasts a job that another process has ended",
        "store/run_lock",
        "            self.release_unless_kept(journal.job_id)\n",
        "            self.release(journal.job_id)\n",
        "tests/store/test_guards_writers.py",
    ),
    Patch(
        "a directory that has lost its journal is no free name",
        "store/store",
        "        if lost and not self.holds_job(job_id):",
        "        if False:",
        "tests/cli/test_inspect.py -k lost_its_journal",
    ),
    Patch(
        "a first line that is no job record is damage",
        "format/decode",
        "    return job if sound and isinstance(job, JobRecord) else None\n",
        "    return job if sound else None\n",
        "tests/store/test_guards_writers.py",
    ),
    Patch(
        "a job that was made meanwhile is not replaced",
        "store/store",
        "            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):",
        "            if False:",
        STORE,
    ),
    Patch(
        "a job that can't be made leaves nothing behind",
        "store/store",
        "                with suppress(OSError):  # after the job got its place, there is nothing to remove\n                    staging.remove(lock.directory)\n",
        "",
        "tests/store/test_faults.py::test_a_job_whose_first_sync_fails_is_not_there",
    ),
    Patch(
        "a job that was deleted while it was being made is not there",
        "store/store",
        "            if not files.exists(target / JOURNAL_NAME):  # another",
        "            if False:  # another",
        STORE,
    ),
    Patch(
        "a job that can't be deleted can be run again",
        "store/store",
        "                if run is not None:\n                    run.release()\n                raise\n",
        "                raise\n",
        STORE,
    ),
    Patch(
        "a leftover that can't be removed keeps nobody from working",
        "fs/staging",
        "        with contextlib.suppress(OSError, StorageError):\n",
        "        if True:\n",
        "tests/store/test_guards_writers.py::test_cleaning_up_follows_no_link_and_what_it_cannot_remove_it_leaves",
    ),
    Patch(
        "directories are private",
        "fs/directories",
        "DIRECTORY_MODE = 0o700",
        "DIRECTORY_MODE = 0o755",
        "tests/service/test_service.py -k private",
    ),
    Patch(
        "files are private",
        "fs/handles",
        "FILE_MODE = 0o600",
        "FILE_MODE = 0o644",
        "tests/service/test_service.py -k private",
    ),
    Patch(
        "a staging directory that another user has made isn't used",
        "fs/staging",
        "                if self._is_private():\n",
        "                if True:\n",
        "tests/store/test_strange_files.py::test_a_staging_directory_that_others_may_write_to_is_left_alone",
    ),
    Patch(
        "a directory that was put in a job's place isn't deleted",
        "fs/staging",
        "                if not system.os.path.samestat(stat, system.os.fstat(journal.fd)):\n",
        "                if False:\n",
        "tests/store/test_strange_files.py::test_a_directory_that_takes_a_jobs_place_while_the_job_is_deleted_is_not_deleted",
    ),
    Patch(
        "a link that leads to itself is no directory",
        "fs/directories",
        "        if error.errno == errno.ELOOP:\n            return False\n",
        "",
        "tests/cli/test_inspect.py -k strange_things",
    ),
    Patch(
        "hidden directories are no jobs",
        "fs/directories",
        '        if not entry.name.startswith(".") and _is_directory(entry):\n',
        "        if _is_directory(entry):\n",
        "tests/cli/test_inspect.py tests/service/test_service.py",
    ),
    Patch(
        "directories too deep for a pack are not entered",
        "fs/beneath",
        '            if name.count("/") >= deepest:\n',
        "            if False:\n",
        "tests/transfer/test_pack.py -k too_deep",
    ),
    Patch(
        "what has too long a path is left out of a pack",
        "fs/beneath",
        "            if len(bytes(self.top / name)) >= _MAX_PATH_BYTES:\n",
        "            if False:\n",
        "tests/transfer/test_pack.py -k too_deep",
    ),
    Patch(
        "those who ask whether a lock is held share it",
        "fs/locks",
        "system.fcntl.LOCK_SH | system.fcntl.LOCK_NB)",
        "system.fcntl.LOCK_EX | system.fcntl.LOCK_NB)",
        "tests/store/test_guards_writers.py",
    ),
    Patch(
        "a directory that was moved away is not at its path",
        "fs/handles",
        "            return system.os.path.samestat(system.os.stat(self.path), system.os.fstat(self.fd))\n",
        "            return True\n",
        "tests/store/test_guards_writers.py",
    ),
    Patch(
        "a lock that is taken is waited for",
        "fs/locks",
        "    while (left_s := begin_s + timeout_s - now_s) > 0:\n",
        "    while left_s := 0:\n",
        PROCESSES,
    ),
    Patch(
        "what may not be looked at is there",
        "fs/files",
        "    except PermissionError:\n        pass\n",
        "    except PermissionError:\n        return False\n",
        "tests/store/test_guards_writers.py",
    ),
    Patch(
        "on macOS, a sync reaches beyond the cache of the drive",
        "fs/macos",
        "fdatasync = fsync = _sync\n",
        "from os import fsync\n\nfdatasync = fsync\n",
        "tests/store/test_macos.py",
    ),
]

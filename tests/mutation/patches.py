"""What the promise rests on, each thing taken away: some test has to fail for every one of them.

A patch is the text of one place in the package and what it becomes. A test sees to it that each
still applies; ``check.py`` runs the tests against them.
"""

from __future__ import annotations

from typing import NamedTuple


class Patch(NamedTuple):
    """``old`` stands exactly once in the module; ``tests`` are the likeliest to fail without it."""

    name: str
    module: str
    old: str
    new: str
    tests: str


EXPLORER = "tests/test_guards.py tests/crash/test_explorer.py"
FAULTS = "tests/test_guards.py tests/test_faults.py tests/crash/test_fault_matrix.py"
DAMAGE = "tests/test_guards.py tests/test_damage.py tests/test_hostile.py tests/test_format.py tests/fuzz"
REPAIR = "tests/test_repair.py tests/test_guards.py"
KILLS = "tests/test_crash.py tests/test_guards.py"
PROCESSES = (
    "tests/test_guards.py tests/test_processes.py tests/test_hostile_moves.py tests/test_writers.py"
)

HINT = "tests/test_hint.py tests/test_hint_files.py"
GROUP = "tests/test_group.py"
MERGE = "tests/test_merge.py tests/test_merge_histories.py"

SYNCS = [
    Patch(
        "a commit is synced",
        "log",
        "                self.sync_file()\n            except StorageError as error:\n                self._take_back(error)",
        "                pass\n            except StorageError as error:\n                self._take_back(error)",
        f"{EXPLORER} {FAULTS}",
    ),
    Patch(
        "a commit that another left unsynced is synced first",
        "recovery",
        "                self.sync_file()\n            except StorageError:\n                if not",
        "                pass\n            except StorageError:\n                if not",
        f"{FAULTS} {EXPLORER}",
    ),
    Patch(
        "a commit whose sync fails is cut off",
        "log",
        "            self.file.truncate(self._end)\n            self._undo()\n",
        "            self._undo()\n",
        FAULTS,
    ),
    Patch(
        "that a commit is cut off is synced",
        "log",
        "            self._stale, self._unsynced = False, True\n            self.sync_file()\n",
        "            self._stale, self._unsynced = False, True\n",
        FAULTS,
    ),
    Patch(
        "a commit that can't be cut off has an unknown outcome",
        "log",
        "        self._outcome_unknown = True\n        raise outcome_unknown(refused) from refused\n",
        "        self._failed = refused\n",
        FAULTS,
    ),
    Patch(
        "another task of the thread is kept out of a batch",
        "log",
        "            if self._task is not None and self._task is not _current_task():\n",
        "            if False:\n",
        "tests/test_service.py",
    ),
    Patch(
        "a sync is announced before it is asked for",
        "recovery",
        "        try:\n            mark.set()\n        except OSError as error:\n            raise handles.storage_error(self._mark_path",
        "        try:\n            pass\n        except OSError as error:\n            raise handles.storage_error(self._mark_path",
        FAULTS,
    ),
    Patch(
        "the mark goes when the sync has succeeded",
        "recovery",
        "        self.file.sync()\n        mark.clear()\n",
        "        self.file.sync()\n",
        FAULTS,
    ),
    Patch(
        "a marked journal is written anew",
        "recovery",
        "        if not self._is_marked():\n            try:",
        "        if True:\n            try:",
        FAULTS,
    ),
    Patch(
        "each commit looks at the mark",
        "log",
        "                    if not ready or self._is_marked():\n",
        "                    if not ready:\n",
        FAULTS,
    ),
    Patch(
        "what is written anew is what its seals vouch for",
        "recovery",
        "            if found != end:  # the cache",
        "            if False:  # the cache",
        FAULTS,
    ),
    Patch(
        "what is written anew is synced before it takes its place",
        "recovery",
        "            new.take_owner_of(self.file)\n            new.sync()\n",
        "            new.take_owner_of(self.file)\n",
        f"{FAULTS} {EXPLORER}",
    ),
    Patch(
        "the name of what is written anew is synced",
        "recovery",
        '            directories.sync_directory(self.directory)\n        except OSError as error:\n            raise handles.storage_error(self.directory, "sync", error) from error\n        mark.clear()',
        '            pass\n        except OSError as error:\n            raise handles.storage_error(self.directory, "sync", error) from error\n        mark.clear()',
        FAULTS,
    ),
    Patch(
        "the mark stays until the name of what was written anew is synced",
        "recovery",
        "        try:\n            mark.set()\n            new.rename(self.path)\n",
        "        try:\n            mark.clear()\n            new.rename(self.path)\n",
        FAULTS,
    ),
    Patch(
        "a mark of an earlier boot says nothing",
        "syncmark",
        "        return system.os.pread(self.fd, _BYTES, 0) == self._set\n",
        '        return system.os.pread(self.fd, _BYTES, 0).strip() != b""\n',
        FAULTS,
    ),
    Patch(
        "a new job's directory is synced before it gets its name",
        "store",
        "            if self.sync:\n                directories.sync_directory(directory)\n",
        "",
        EXPLORER,
    ),
    Patch(
        "the name of a new or deleted job is synced",
        "store",
        "                directories.sync_directory(self.root)",
        "                pass",
        EXPLORER,
    ),
    Patch(
        "the names of a new root's parents are synced",
        "directories",
        "    for path in to_sync if sync else ():\n        sync_directory(path)\n",
        "",
        EXPLORER,
    ),
    Patch(
        "a saved torn tail is synced before it is cut off",
        "files",
        "        if sync:\n            system.os.fsync(fd)\n",
        "",
        EXPLORER,
    ),
    Patch(
        "the name of a saved torn tail is synced before it is cut off",
        "recovery",
        "            if self._sync:  # else a power cut might take the copy and leave the cut\n"
        "                directories.sync_directory(self.directory)\n",
        "",
        EXPLORER,
    ),
    Patch(
        "a repaired journal is synced before it takes its place",
        "repair",
        "    new.sync()\n",
        "",
        f"{EXPLORER} {REPAIR}",
    ),
    Patch(
        "the name of the damaged copy is synced before the journal is replaced",
        "repair",
        "sync=True)\n        directories.sync_directory(directory)\n",
        "sync=True)\n",
        f"{EXPLORER} {REPAIR}",
    ),
    Patch(
        "the name of a repaired journal is synced",
        "repair",
        "    try:\n        directories.sync_directory(directory)\n",
        "    try:\n        pass\n",
        f"{EXPLORER} {REPAIR}",
    ),
]

SYNCS += [
    Patch(
        "the names that lead to a journal are synced before the first commit to it",
        "recovery",
        "            self._sync_names()\n",
        "",
        f"{FAULTS} {EXPLORER}",
    ),
    Patch(
        "the name of a journal that took the place of another is synced",
        "recovery",
        "        self._names_synced = False\n        self._mark = None\n",
        "        self._mark = None\n",
        f"{FAULTS} {EXPLORER}",
    ),
]

SEALS = [
    Patch(
        "replay compares each seal of single records",
        "replay",
        "        return None\n    return crc\n",
        "        pass\n    return crc\n",
        DAMAGE,
    ),
    Patch(
        "replay compares each seal",
        "replay",
        '        if b"%08x" % found != stated:\n            break\n',
        "",
        DAMAGE,
    ),
    Patch(
        "replay continues each crc from the one before",
        "replay",
        "    offset, crc = position\n    for body",
        "    offset, crc = position.offset, 0\n    for body",
        "tests/test_replay.py tests/test_format.py",
    ),
    Patch(
        "replay compares the seal of a large commit",
        "replay",
        '            if b"%08x" % crc != match[1]:\n                return None\n',
        "",
        f"{DAMAGE} {REPAIR}",
    ),
    Patch(
        "a seal is lower case",
        "format",
        """SEALED_LINE_END = re.compile(rb',"crc":"([0-9a-f]{8})"}\\n')""",
        """SEALED_LINE_END = re.compile(rb',"crc":"([0-9a-fA-F]{8})"}\\n')""",
        f"{DAMAGE} {REPAIR}",
    ),
    Patch(
        "the thorough reader compares each seal",
        "scan",
        "good = next((c for c in candidates if content_crc(text, c.crc) == stated), None)",
        "good = next(iter(candidates), None)",
        f"{DAMAGE} {REPAIR}",
    ),
    Patch(
        "a writer looks whether its own seal still stands before it",
        "reader",
        "        return size == self._end and not self._stale and self._has_our_seal(file)",
        "        return size == self._end and not self._stale",
        PROCESSES,
    ),
    Patch(
        "a reader that catches up looks whether its own seal still stands",
        "reader",
        "        if self._stale or size < self._end or not self._has_our_seal(file):",
        "        if self._stale or size < self._end:",
        f"{PROCESSES} {KILLS}",
    ),
    Patch(
        "a tail that was torn is looked at again when it ends with a seal",
        "reader",
        "        elif locked or size != self._torn_end or self._ends_with_seal(file, size):",
        "        elif locked or size != self._torn_end:",
        f"{KILLS} {PROCESSES} tests/test_model_based.py",
    ),
    Patch(
        "the header alone is checked against its seal",
        "store",
        "        if stated is not None and content_crc(line, 0) != stated:",
        "        if False:",
        DAMAGE,
    ),
    Patch(
        "a tail with a good commit behind it is damage",
        "scan",
        "            good_behind = True",
        "            good_behind = False",
        DAMAGE,
    ),
    Patch(
        "a tail of two seals is damage",
        "scan",
        "    if span.seals > 1 or span.offset == 0",
        "    if span.offset == 0",
        DAMAGE,
    ),
    Patch(
        "a journal without its first commit is damage",
        "scan",
        " or span.offset == 0 or span.reason",
        " or span.reason",
        DAMAGE,
    ),
    Patch(
        "damage is looked at again under the lock before it is named",
        "reader",
        "        if not locked:\n            self._look_again()\n            return\n",
        "",
        PROCESSES,
    ),
    Patch(
        "a journal in a directory of another name is refused",
        "reader",
        "        if self.index.state.header.id != self.directory.name:",
        "        if False:",
        DAMAGE,
    ),
    Patch(
        "a salvaged row has to match its checksum",
        "salvage",
        " and record.checksum == checksum_of(record.data)\n",
        "\n",
        REPAIR,
    ),
    Patch(
        "a salvaged row has to fit a neighbour",
        "salvage",
        "            if not fits or (above is None and below is None) or not",
        "            if not",
        REPAIR,
    ),
    Patch(
        "after a loss open rows need a review",
        "salvage",
        '            if open_rows == "review" and self._outcomes_lost:',
        "            if False:",
        REPAIR,
    ),
    Patch(
        "a row whose data is lost needs a review",
        "salvage",
        "            moved = review_open_rows(log, self.stand_ins, REPAIRED, message)",
        "            moved = 0",
        REPAIR,
    ),
]

SEALS += [
    Patch(
        "a salvaged row has to be as our writer writes it",
        "salvage",
        'return line == text + b"\\n" and record',
        "return record",
        REPAIR,
    ),
    Patch(
        "a repair looks at what it has made",
        "repair",
        "    if report.findings:  # never",
        "    if False:  # never",
        REPAIR,
    ),
]

SEALS += [
    Patch(
        "a legible commit that doesn't fit is damage",
        "scan",
        "    return whole or (ended and",
        "    return (ended and",
        f"{DAMAGE} {REPAIR}",
    ),
    Patch(
        "a line that is illegible within a block that was written is damage",
        "scan",
        " and not legible.isdisjoint(illegible))",
        " and False)",
        REPAIR,
    ),
    Patch(
        "a commit with one flipped bit is damage",
        "scan",
        "    return mend(file, span) is None",
        "    return True",
        REPAIR,
    ),
    Patch(
        "a copy of older commits is not taken over again",
        "salvage",
        "            if seal in self._kept:",
        "            if False:",
        REPAIR,
    ),
    Patch(
        "a destroyed commit is no copy because one stands in it",
        "salvage",
        "self._kept.get(stated) == fingerprint",
        "stated in self._kept",
        REPAIR,
    ),
    Patch(
        "another history is not taken over",
        "salvage",
        "        if self._forked or start in self._kept or (start == START.crc and self._kept):",
        "        if False:",
        REPAIR,
    ),
    Patch(
        "a commit lost before rows that vouch for themselves is a loss",
        "salvage",
        "        self._outcomes_lost |= not only_rows\n",
        "",
        REPAIR,
    ),
    Patch(
        "outcomes lost with rows of the first commit are a loss",
        "salvage",
        "first &= expected > 0 and losses[-1].lines == line.made - expected",
        "first &= True",
        REPAIR,
    ),
    Patch(
        "commits that were moved count as lost",
        "salvage",
        '(stretch.kind == "foreign" and not any(loss.ours for loss in losses))',
        'stretch.kind == "foreign"',
        REPAIR,
    ),
    Patch(
        "rows that a repair has lost are not added again",
        "match",
        "            if job.repaired:\n",
        "            if False:\n",
        REPAIR,
    ),
    Patch(
        "a repaired job remembers it",
        "index",
        "self.state.repaired or record.code == REPAIRED",
        "record.code == REPAIRED",
        REPAIR,
    ),
]

LOCKS = [
    Patch(
        "a commit takes the commit lock",
        "log",
        "            if not file.try_lock():\n                self._lock(file)\n",
        "",
        PROCESSES,
    ),
    Patch(
        "a commit lets go of the commit lock",
        "log",
        "        finally:\n            self._unlock(file)\n            if self._at_end:",
        "        finally:\n            if self._at_end:",
        PROCESSES,
    ),
    Patch(
        "a writer checks that the path still names the file it locked",
        "handles",
        "        if stat.st_ino == self.inode and stat.st_dev == self._device:",
        "        if True:",
        PROCESSES,
    ),
    Patch(
        "a run takes the run lock",
        "runlock",
        "            if not locks.wait_for_lock(lock, _PATIENCE_S):",
        "            if False:",
        PROCESSES,
    ),
    Patch(
        "a run checks that its directory wasn't deleted while it waited",
        "runlock",
        "            if not lock.is_at_path() or not files.exists(directory / JOURNAL_NAME):",
        "            if False:",
        PROCESSES,
    ),
    Patch(
        "a job is not deleted under a run",
        "store",
        "run = RunLock.take(directory, job_id, sign=False)",
        "run = RunLock(locks.DirectoryLock(directory))",
        f"tests/test_service.py {PROCESSES}",
    ),
    Patch(
        "a job is not deleted under a commit",
        "store",
        "            if not locks.wait_for_lock(file, self.lock_timeout_s):\n"
        "                raise JobLockedError(job_id",
        "            if False:\n                raise JobLockedError(job_id",
        PROCESSES,
    ),
    Patch(
        "a job that is being made is locked against the cleaning up of leftovers",
        "store",
        "                if lock.try_lock():\n                    return directory, lock",
        "                return directory, lock",
        f"tests/test_service.py {KILLS} {PROCESSES}",
    ),
    Patch(
        "only leftovers that nobody works on are removed",
        "store",
        "                if lock.try_lock():\n                    directories.remove_tree(directory)",
        "                if True:\n                    directories.remove_tree(directory)",
        f"tests/test_service.py {PROCESSES}",
    ),
    Patch(
        "the staging directory is locked",
        "store",
        "            if not lock.acquire(self.lock_timeout_s):",
        "            if False:",
        f"tests/test_service.py {PROCESSES}",
    ),
    Patch(
        "a lock file that was deleted while it was waited for is not taken for the one there",
        "locks",
        "        if current and (current.st_ino, current.st_dev) == (mine.st_ino, mine.st_dev):",
        "        if True:",
        PROCESSES,
    ),
    Patch(
        "a repair takes the run lock",
        "repair",
        "    run = RunLock.take(directory, directory.name)",
        "    run = RunLock(locks.DirectoryLock(directory))",
        REPAIR,
    ),
    Patch(
        "a repair takes the commit lock",
        "repair",
        "        if not locks.wait_for_lock(file, lock_timeout_s):",
        "        if False:",
        REPAIR,
    ),
    Patch(
        "threads take turns in a commit",
        "log",
        "        if not self.mutex.acquire(True, self._lock_timeout_s):",
        "        if False:",
        PROCESSES,
    ),
    Patch(
        "a forked child closes the parent's descriptors",
        "handles",
        "    for file in list(_open_files):\n        file.close()\n",
        "    pass\n",
        PROCESSES,
    ),
    Patch(
        "a forked child forgets the parent's open commit",
        "log",
        "    for log in list(_logs):\n        log.reset_after_fork()\n",
        "    pass\n",
        PROCESSES,
    ),
]

LOCKS += [
    Patch(
        "a long commit looks whether the file is still where and as it was",
        "log",
        "            if self._took_long:\n                self._check_end(file)\n",
        "",
        PROCESSES,
    ),
    Patch(
        "a spill looks whether the file is still where and as it was",
        "log",
        "            self._check_end(self.file)\n            self.file.append",
        "            self.file.append",
        PROCESSES,
    ),
    Patch(
        "a run whose directory was moved away holds no other",
        "store",
        "lock.held and lock.at_path",
        "lock.held",
        PROCESSES,
    ),
]

WRITES = [
    Patch(
        "a short write is continued",
        "handles",
        "            while written < len(data):",
        "            while False:",
        FAULTS,
    ),
    Patch(
        "a commit that could not be written is cut off again",
        "log",
        "        if spilled or self._failed is not None:",
        "        if False:",
        FAULTS,
    ),
    Patch(
        "what could not be written is taken out of the index",
        "log",
        "        self._buffer.clear()\n        self.index.rollback(0)\n",
        "        self._buffer.clear()\n",
        FAULTS,
    ),
    Patch(
        "a torn tail is cut off",
        "recovery",
        "        if self._torn_end:\n            self._cut_torn_tail(file)\n",
        "",
        KILLS,
    ),
    Patch(
        "a torn tail is saved before it is cut off",
        "recovery",
        "            files.save_copy(file, self._end, self._torn_end, target, sync=self._sync)\n",
        "",
        KILLS,
    ),
    Patch(
        "whatever ends a commit early has the file read again",
        "log",
        "            self._stale = True\n            self._finish(",
        "            self._finish(",
        f"{FAULTS} tests/test_interrupts.py",
    ),
    Patch(
        "a spilled write that failed fails the commit",
        "log",
        "            self._failed = error\n            raise\n        self._crc = crc32",
        "            raise\n        self._crc = crc32",
        FAULTS,
    ),
    Patch(
        "a clock that steps back is held",
        "log",
        "        if at < last_at:\n            return last_at\n",
        "",
        "tests/test_service.py tests/test_model_based.py tests/test_clock.py",
    ),
    Patch(
        "a completed row is final",
        "model",
        "        RowStatus.COMPLETED: (),",
        "        RowStatus.COMPLETED: (RowStatus.PENDING, RowStatus.PROCESSING),",
        "tests/test_service.py tests/test_guards.py",
    ),
    Patch(
        "a row in flight at a crash is not simply started again",
        "changes",
        '    "review": (\n        RowStatus.NEEDS_REVIEW,',
        '    "review": (\n        RowStatus.PENDING,',
        "tests/test_service.py tests/test_run.py",
    ),
]

WRITES += [
    Patch(
        "a spilled part that is taken back inside a batch is synced away",
        "log",
        "            if self._sync:  # else blocks of it",
        "            if False:  # else blocks of it",
        f"tests/test_guards.py {EXPLORER}",
    ),
    Patch(
        "a spilled commit that is taken back is synced away",
        "log",
        "                self._unsynced = True  # blocks",
        "                pass  # blocks",
        EXPLORER,
    ),
    Patch(
        "a deleted job's name is gone for sure before its files go",
        "store",
        "            self._sync_names()  # before its files go",
        "            pass  # before its files go",
        EXPLORER,
    ),
]

BOUNDS = [
    Patch(
        "a line of over 64 MiB is not decoded",
        "decode",
        "    if len(line) >= MAX_LINE_BYTES:\n",
        "    if False:\n",
        DAMAGE,
    ),
    Patch(
        "a line that nests too deep is not decoded",
        "decode",
        "    if nests_deeper_than(line, MAX_DEPTH):\n",
        "    if False:\n",
        "tests/test_hot_paths.py",
    ),
    Patch(
        "replay looks at the depth of a line first",
        "apply",
        "        if len(line) > SANE_BYTES and nests_deeper_than(line, MAX_DEPTH)",
        "        if False",
        DAMAGE,
    ),
    Patch(
        "a record of over 64 MiB is not written",
        "log",
        "        if len(buffer) - start > _LONGEST_BYTES:\n",
        "        if False:\n",
        "tests/test_bad_input.py",
    ),
    Patch(
        "a row record of over 64 MiB is not written",
        "log",
        "        if len(line) > _LONGEST_BYTES:\n",
        "        if False:\n",
        "tests/test_bad_input.py",
    ),
    Patch(
        "data that nests too deep is not written",
        "values",
        "    if nests_deeper_than(text, MAX_DEPTH - 1):",
        "    if False:",
        "tests/test_bad_input.py",
    ),
    Patch(
        "what JSON would change is not written",
        "values",
        "    if not same:\n        refuse_value(value, where)\n",
        "",
        "tests/test_bad_input.py",
    ),
    Patch(
        "a row number is made once",
        "apply",
        "        if number <= index.highest_number and index.position_of(number) is not None:\n",
        "        if False:\n",
        DAMAGE,
    ),
    Patch(
        "a row number is in range",
        "decode",
        "RowNumber = Annotated[int, msgspec.Meta(ge=1, le=MAX_ROW_NUMBER)]",
        "RowNumber = int",
        DAMAGE,
    ),
    Patch(
        "a status is of a row that a record has made",
        "apply",
        "        if position is None:\n            break\n",
        "        if position is None:\n            continue\n",
        DAMAGE,
    ),
    Patch(
        "a line whose time makes no sense is named, and not the one behind it",
        "apply",
        "        done -= 1  # the last line",
        "        done -= 0  # the last line",
        "tests/test_replay.py",
    ),
    Patch(
        "a read of a row checks that the record is the row's",
        "rows",
        "    if not isinstance(record, RowRecord) or record.row != number:\n",
        "    if not isinstance(record, RowRecord):\n",
        DAMAGE,
    ),
    Patch(
        "a read of a status checks that the record is the row's",
        "rows",
        "    if not isinstance(record, RowStatusRecord) or record.row != number:\n",
        "    if not isinstance(record, RowStatusRecord):\n",
        DAMAGE,
    ),
    Patch(
        "an unknown record type is a newer version",
        "decode",
        "    if kind.type not in RECORD_TYPES:\n",
        "    if False:\n",
        DAMAGE,
    ),
    Patch(
        "a newer format is a newer version",
        "decode",
        "        if record.format > FORMAT:\n",
        "        if False:\n",
        DAMAGE,
    ),
    Patch(
        "a line without end is held only up to its bound",
        "scan",
        "        if held_bytes > MAX_LINE_BYTES:\n",
        "        if False:\n",
        DAMAGE,
    ),
    Patch(
        "a large commit's line is held only up to its bound",
        "replay",
        "        if line_bytes > MAX_LINE_BYTES:\n",
        "        if False:\n",
        DAMAGE,
    ),
    Patch(
        "the thorough reader's guesses don't multiply",
        "scan",
        "    return following[:12]",
        "    return following",
        DAMAGE,
    ),
]

HINTS = [
    Patch(
        "a hint is of a commit that the journal has",
        "hint",
        "        or file.read_at(header.offset - len(seal), len(seal)) != seal\n",
        "",
        HINT,
    ),
    Patch(
        "a hint of a journal that was copied is not believed",
        "hint",
        "        or file.inode != header.inode\n",
        "",
        HINT,
    ),
    Patch(
        "a hint of a journal that was changed since is not believed",
        "hint",
        "        or (size == header.offset and changed_ns != header.changed_ns)\n",
        "",
        HINT,
    ),
    Patch(
        "a hint of a journal that was touched behind its commits is not believed",
        "hint",
        "        or (size > header.offset and changed_ns > _end_written_ns(file, size))\n",
        "",
        HINT,
    ),
    Patch(
        "no hint is left of a journal that somebody has touched",
        "hint",
        "        if changed_ns > known_ns:  # somebody",
        "        if False:  # somebody",
        HINT,
    ),
    Patch(
        "a hint over commits that nobody has synced ends with the system",
        "hint",
        "        or (header.boot_id and header.boot_id != system.boot_id())\n",
        "",
        f"{HINT} {EXPLORER}",
    ),
    Patch(
        "a hint vouches only for what its writer has synced",
        "log",
        "                    self._leave_hint(durable=self._sync and not self._unsynced)\n                self._file",
        "                    self._leave_hint(durable=self._sync)\n                self._file",
        EXPLORER,
    ),
    Patch(
        "a hint of a reader vouches for nothing unsynced",
        "reader",
        "                self._leave_hint()\n",
        "                self._leave_hint(durable=True)\n",
        f"{HINT} {EXPLORER}",
    ),
    Patch(
        "a hint is not written over commits in doubt",
        "recovery",
        "            if not self._is_marked():  # the system may",
        "            if True:  # the system may",
        HINT,
    ),
    Patch(
        "a hint is not asked about a file that is in doubt",
        "reader",
        "        if self._is_new:\n",
        "        if True:\n",
        HINT,
    ),
    Patch(
        "a hint begins with a seal of its own",
        "hint",
        "    if stated_crc(line) != content_crc(line, 0) or nests",
        "    if nests",
        HINT,
    ),
    Patch(
        "a hint is of a job that begins with the same line",
        "hint",
        "    if (len(line), crc32(line)) != (header.first_line_bytes, header.first_line_crc):\n",
        "    if False:\n",
        HINT,
    ),
    Patch(
        "each block of a hint is checked",
        "hint",
        "        if len(data) != length or crc32(data) != self._crcs[number]:\n",
        "        if len(data) != length:\n",
        HINT,
    ),
    Patch(
        "what breaks in a hint is read from the journal up to its commit",
        "reader",
        "    if end != position:\n",
        "    if False:\n",
        HINT,
    ),
    Patch(
        "columns out of a hint are copied before they change",
        "hint",
        "    columns.lease = Lease()\n",
        "",
        HINT,
    ),
    Patch(
        "a hint has no more rows than a journal can hold",
        "hint",
        "        not 0 <= rows < header.offset  # each",
        "        rows < 0  # each",
        HINT,
    ),
    Patch(
        "an offset in a hint is one",
        "hint",
        '        if self._name in _SMALL and data[block.itemsize - 1 :: block.itemsize].strip(b"\\0"):\n',
        "        if False:\n",
        f"{HINT} tests/fuzz",
    ),
    Patch(
        "the tallies of a hint are those of its rows",
        "hint",
        "    if tallies != header.tallies or sum(tallies) != rows:\n",
        "    if sum(tallies) != rows:\n",
        HINT,
    ),
    Patch(
        "a leftover of a hint is removed only if its writer is dead",
        "files",
        "        if leftover.try_lock():  # its writer died: next time",
        "        if True:  # its writer died: next time",
        HINT,
    ),
]

GROUPS = [
    Patch(
        "threads hear of nothing but a commit that is written",
        "group",
        "        if commit.written:\n",
        "        if commit.ending:\n",
        GROUP,
    ),
    Patch(
        "a thread waits until its commit is over",
        "group",
        "        if commit is None or not commit.over:\n",
        "        if commit is None:\n",
        GROUP,
    ),
    Patch(
        "a change that is refused is refused alone",
        "group",
        "    except JournalError as error:\n        # Without",
        "    except ZeroDivisionError as error:\n        # Without",
        GROUP,
    ),
    Patch(
        "what a refused change has done is undone",
        "log",
        "            self._rollback_to(save)\n            raise\n",
        "            raise\n",
        GROUP,
    ),
    Patch(
        "a commit that failed has failed for all who are in it",
        "group",
        "                commit.error = error.with_traceback(None)\n",
        "                commit.written = True\n",
        GROUP,
    ),
    Patch(
        "those whose leader was interrupted ask again",
        "group",
        "        if commit.ending:\n            return True\n",
        "        if True:\n            return True\n",
        GROUP,
    ),
    Patch(
        "who lost its patience is not refused what another one commits",
        "group",
        "            elif own.commit is None:",
        "            else:",
        GROUP,
    ),
    Patch(
        "the leader of a group names the next one",
        "group",
        "                self._leader = self._queue[0] if self._queue else None\n",
        "                self._leader = None\n",
        GROUP,
    ),
]

MERGES = [
    Patch(
        "what is completed here stays completed in a merge",
        "mergeplan",
        "        if is_last_word and not mine and code != COMPLETED:",
        "        if is_last_word and not mine:",
        MERGE,
    ),
    Patch(
        "a row that both copies worked on needs a review",
        "mergeplan",
        "            or any(change.is_work or change.is_doubt for change in mine)\n",
        "",
        MERGE,
    ),
    Patch(
        "two shipments of one row are one only by their tracking number",
        "mergeplan",
        "            and there.tracking_number == mine.tracking_number\n",
        "",
        MERGE,
    ),
    Patch(
        "a row that comes as completed, and was worked on here, is named",
        "mergeplan",
        '        if status == "completed" and self.there.alarms(number):\n',
        "        if False:\n",
        MERGE,
    ),
    Patch(
        "what was told of a row goes on with it",
        "merge",
        "                    put_log(self._log, record)\n",
        "                    pass\n",
        MERGE,
    ),
    Patch(
        "rows that a retry holds, and a copy has done, are named",
        "mergeplan",
        "        self.retried_rows = self._retried_rows()\n",
        "        self.retried_rows = []\n",
        MERGE,
    ),
    Patch(
        "a job whose rows go on in another is not gone on with",
        "changes",
        "    check_not_retried(log)\n",
        "",
        MERGE,
    ),
    Patch(
        "a history without outcomes is kept, too",
        "mergeplan",
        "self.conflicts or self.retries or has_news)",
        "self.conflicts or self.retries)",
        MERGE,
    ),
    Patch(
        "a history that was kept is not kept again for what a merge has added to it",
        "parted",
        '                | {"merge": {"offset": _, "crc": _}}\n',
        "",
        MERGE,
    ),
    Patch(
        "a row that was in flight on the other copy needs a review",
        "merge",
        '        if last == "processing":\n',
        "        if False:\n",
        MERGE,
    ),
    Patch(
        "that a third copy worked on a row is told",
        "merge",
        "        elif last == ELSEWHERE and code != NEEDS_REVIEW and is_worth_a_look:\n",
        "        elif False:\n",
        MERGE,
    ),
    Patch(
        "the retry of another copy is known here",
        "merge",
        '        self._take_retries("ERROR" if is_retried_twice else "WARNING")\n',
        "",
        MERGE,
    ),
    Patch(
        "a change is known by its id, wherever it was taken over from",
        "parted",
        "        id_ = record.origin.id\n",
        "        id_ = sha256(line).hexdigest()[:8]\n",
        MERGE,
    ),
    Patch(
        "a policy's word on a row in flight is no work",
        "parted",
        "    if code in _WORDS_OF_MERGES or is_word_of_policy(code, message):\n",
        "    if code in _WORDS_OF_MERGES:\n",
        MERGE,
    ),
    Patch(
        "what a merge asks to be reviewed is no doubt of its own",
        "parted",
        "    if code in _WORDS_OF_MERGES or is_word_of_policy(code, message):\n",
        "    if is_word_of_policy(code, message):\n",
        MERGE,
    ),
    Patch(
        "the artifact that makes way is on the disk under its other name first",
        "artifacts",
        "                self._ours.give_name(name, self.put_by[name])\n",
        "                pass\n",
        f"tests/test_pull.py {MERGE}",
    ),
    Patch(
        "an artifact is put back if the commits that name it don't come",
        "transfer",
        "        artifacts.put_back()\n",
        "        pass\n",
        "tests/test_pull.py",
    ),
]

STRANGE_FILES = "tests/test_strange_files.py"

PLACES = [
    Patch(
        "a link in the place of a job's file is not followed",
        "handles",
        "    flags |= system.os.O_NOFOLLOW | system.os.O_NONBLOCK\n",
        "    flags |= system.os.O_NONBLOCK\n",
        STRANGE_FILES,
    ),
    Patch(
        "a pipe in the place of a job's file is not waited for",
        "handles",
        "    flags |= system.os.O_NOFOLLOW | system.os.O_NONBLOCK\n",
        "    flags |= system.os.O_NOFOLLOW\n",
        STRANGE_FILES,
    ),
    Patch(
        "what is opened in the place of a job's file is a regular one",
        "handles",
        "        if not S_ISREG(stat.st_mode):\n            raise OSError(errno.EINVAL",
        "        if False:\n            raise OSError(errno.EINVAL",
        STRANGE_FILES,
    ),
    Patch(
        "the beginning of a journal is read through no link",
        "files",
        "    flags = system.os.O_RDONLY | system.os.O_NOFOLLOW | system.os.O_NONBLOCK\n",
        "    flags = system.os.O_RDONLY | system.os.O_NONBLOCK\n",
        STRANGE_FILES,
    ),
    Patch(
        "a journal that has another name is not written",
        "handles",
        "            if stat.st_nlink > 1:",
        "            if False:",
        STRANGE_FILES,
    ),
    Patch(
        "a run.lock that has another name is not written",
        "files",
        "        if refusal:\n",
        "        if False:\n",
        STRANGE_FILES,
    ),
    Patch(
        "a link to a directory is none of a store's own",
        "directories",
        "        if not S_ISDIR(system.os.lstat(path).st_mode):\n            raise FileExistsError",
        "        if False:\n            raise FileExistsError",
        STRANGE_FILES,
    ),
    Patch(
        "the way to an artifact goes through no link",
        "below",
        "system.os.O_DIRECTORY | system.os.O_NOFOLLOW",
        "system.os.O_DIRECTORY",
        STRANGE_FILES,
    ),
    Patch(
        "no output replaces a file of a job",
        "outfile",
        "    _check_not_of_a_job(target)\n    for",
        "    for",
        "tests/test_export.py",
    ),
    Patch(
        "what is kept of a journal that is gone is replaced by no output",
        "outfile",
        "    if files.exists(target) or files",
        "    if files",
        "tests/test_export.py",
    ),
    Patch(
        "another user's links and pipes are no way for an output",
        "outputs",
        "    return stat.st_uid in (system.os.geteuid(), 0)",
        "    return True",
        STRANGE_FILES,
    ),
    Patch(
        "what takes the place of an output that is being written is not taken for it",
        "outputs",
        "        if not system.os.path.samestat(mine, there):",
        "        if False:",
        STRANGE_FILES,
    ),
]

PATCHES = [*SYNCS, *SEALS, *LOCKS, *WRITES, *BOUNDS, *HINTS, *GROUPS, *MERGES, *PLACES]

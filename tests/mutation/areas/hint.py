"""What makes a hint unbelievable."""

from __future__ import annotations

from mutation.patch import Patch

HINT = "tests/index/test_hint_files.py tests/index/test_hint.py"
FOUND = "tests/history/test_rows_found.py"

CUTS = "tests/store/test_cut_journals.py"
LISTING = "tests/store/test_lists_of_jobs.py"

PATCHES = [
    Patch(
        "a line of a row's history is in a commit that matches its seal",
        "history/reading",
        "                if after is None:\n                    raise not_continued(self._file, start)\n                known = after\n",
        "                known = after or end\n",
        FOUND,
    ),
    Patch(
        "a file that shrank under the reader of a history is named",
        "history/reading",
        "        if not has_seal(self._file, end):\n",
        "        if False:\n",
        FOUND,
    ),
    Patch(
        "a history ends where it was made",
        "history/reading",
        "self._lines_about(number, begin.offset, end.offset)",
        "self._lines_about(number, begin.offset, self._file.size_bytes())",
        FOUND,
    ),
    Patch(
        "the status of a job is read from commits that match their seals",
        "store/listing",
        "    if after.offset != size:\n",
        "    if False:\n",
        LISTING,
    ),
    Patch(
        "a listing takes no job for another",
        "store/listing",
        "header is None or header.id != job_id",
        "header is None",
        LISTING,
    ),
    Patch(
        "a journal that was cut takes no commits",
        "store/journal",
        "                    self._check_uncut()\n",
        "                    pass\n",
        CUTS,
    ),
    Patch(
        "a cut is looked for again when the journal has become another",
        "store/journal",
        "        self._stale = self._may_be_cut = True\n",
        "        self._stale = True\n",
        CUTS,
    ),
    Patch(
        "a hint that proves a cut is not replaced",
        "index/hint",
        "        if not holds_end(file, before):\n            return\n",
        "",
        CUTS,
    ),
    Patch(
        "a hint of unsynced commits keeps what the one before it proved",
        "index/hint",
        "        synced = max(position if durable else START, before)\n",
        "        synced = position if durable else START\n",
        CUTS,
    ),
    Patch(
        "a hint of unsynced commits proves nothing about them",
        "index/hint",
        "        synced = max(position if durable else START, before)\n",
        "        synced = max(position, before)\n",
        CUTS,
    ),
    Patch(
        "a copied hint proves nothing",
        "index/hint",
        "(header.inode, header.own_inode) != (file.inode, hint.inode)",
        "header.inode != file.inode",
        CUTS,
    ),
    Patch(
        "a hint of another file proves nothing",
        "index/hint",
        "(header.inode, header.own_inode) != (file.inode, hint.inode)",
        "header.own_inode != hint.inode",
        CUTS,
    ),
    Patch(
        "where files have no inodes, a hint proves nothing",
        "index/hint",
        "    if not header.inode or (header",
        "    if (header",
        CUTS,
    ),
    Patch(
        "a lost last line end is no cut",
        "index/hint",
        "in (seal, seal[:-1])",
        "in (seal,)",
        CUTS,
    ),
    Patch(
        "the hint goes before the journal is replaced",
        "store/log",
        "            remove_hint(self.directory, old)\n",
        "",
        CUTS,
    ),
    Patch(
        "the hint of a cut journal goes after what was cut off is back",
        "store/log",
        "        files.remove_file(self.directory / HINT_NAME)  # of the old file, if it was cut\n",
        "",
        CUTS,
    ),
    Patch(
        "a pull into a cut journal brings back what is missing, or is refused",
        "store/journal",
        "not (self.brings_back and self.brings_back(missing))",
        "not self.brings_back",
        CUTS,
    ),
    Patch(
        "each end of a run leaves a hint",
        "service",
        "            self._leave_witness(job_id)\n\n    def _leave_witness",
        "            pass\n\n    def _leave_witness",
        CUTS,
    ),
    Patch(
        "the end of work by hand leaves a hint",
        "service",
        "            self._leave_witness(job_id)\n        return job\n",
        "            pass\n        return job\n",
        CUTS,
    ),
    Patch(
        "rows that the hint knows and a cut journal does not get placeholders",
        "repair/salvage",
        "            for row in filter(self._is_free, rows):\n",
        "            for row in ():\n",
        CUTS,
    ),
    Patch(
        "a row whose last record was cut off needs a review, though its status is the same",
        "repair/salvage",
        "                or max(*offsets, *columns.offsets_of_steps(place)) >= end\n",
        "",
        CUTS,
    ),
    Patch(
        "a hint that was written during a run doesn't know all that is missing",
        "repair/salvage",
        "                is_known = hinted.state.status is not JobStatus.RUNNING\n",
        "                is_known = True\n",
        CUTS,
    ),
    Patch(
        "a file that was changed more than moments after its last commit was touched",
        "index/hint",
        "_WRITING_NS = 2_000_000_000",
        "_WRITING_NS = 2_000_000_000_000",
        "tests/index/test_hint.py",
    ),
    Patch(
        "a time that no journal may hold is not taken from a hint",
        "index/hint",
        "        or header.last_at.tzinfo is not UTC  # later records may get this time\n",
        "",
        HINT,
    ),
    Patch(
        "a hint has a crc for each block of each column",
        "index/hint",
        "        or any(len(blocks.get(name, ())) != -(-lengths[name] // BLOCK_ROWS) "
        "for name in names)\n",
        "",
        HINT + " tests/fuzz",
    ),
    Patch(
        "no hint over unsynced commits is written where a system start can't be told",
        "index/hint",
        "        if position > synced and not boot_id:\n            return\n",
        "",
        "tests/store/test_guards_writers.py",
    ),
    Patch(
        "a hint of a journal that was touched is removed",
        "index/hint",
        "            directories.remove_tree(directory / HINT_NAME)\n            return\n",
        "            return\n",
        "tests/index/test_hint.py",
    ),
    Patch(
        "a hint of another version is none",
        "index/hint",
        "    hint: Literal[11]  #",
        "    hint: int  #",
        "tests/store/test_guards_writers.py",
    ),
    Patch(
        "a hint that can't be written is taken away half",
        "fs/files",
        "    except BaseException:\n        remove_file(new)\n        raise\n    finally:\n        file.close()\n",
        "    finally:\n        file.close()\n",
        HINT,
    ),
    Patch(
        "a hint that is being written is locked",
        "fs/files",
        "        if file.try_lock():\n            for",
        "        if True:\n            for",
        HINT,
    ),
    Patch(
        "what breaks in a hint is read from the journal",
        "index/hint",
        "        if block is None:\n            first = number * BLOCK_ROWS\n            block = self._source.rebuilt",
        "        if block is None:\n            raise _NotAHintError\n            first = number * BLOCK_ROWS\n            block = self._source.rebuilt",
        "tests/index/test_hint.py",
    ),
]

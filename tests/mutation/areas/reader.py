"""What a reader believes of a file that others write, replace, cut or break meanwhile."""

from __future__ import annotations

from mutation.patch import Patch

READERS = "tests/store/test_guards_writers.py tests/store/test_guards.py tests/format/test_damage.py tests/store/test_faults.py"
COPIES = "tests/transfer/test_guards_copies.py tests/transfer/test_compare.py tests/transfer/test_pull.py"

PATCHES = [
    Patch(
        "half of a block that was read when an interrupt came is read again",
        "store/journal",
        "        begin, self._stale = log.end, True  #",
        "        begin = log.end  #",
        "tests/store/test_interrupts_by_line.py",
    ),
    Patch(
        "the journal of a newer version is named as that",
        "format/torn_tail",
        '    if tail.kind == "newer":\n',
        "    if False:\n",
        "tests/format/test_hostile.py -k newer",
    ),
    Patch(
        "an empty journal is damage",
        "store/journal",
        "        if self.index.state is None:\n            raise JournalDamagedError(self.path, 1, 0,",
        "        if False:\n            raise JournalDamagedError(self.path, 1, 0,",
        "tests/store/test_guards_writers.py",
    ),
    Patch(
        "who has looked again lets go of the lock",
        "store/log",
        "            yield self.lock()\n        finally:\n            self.unlock()\n",
        "            yield self.lock()\n        finally:\n            pass\n",
        READERS,
    ),
    Patch(
        "a copy is of the job that its first line names",
        "transfer/copies",
        "    if not is_job_id(header.id):",
        "    if False:",
        COPIES,
    ),
    Patch(
        "a copy begins with a job record",
        "transfer/copies",
        "    if not isinstance(header, JobRecord):\n        raise Journal",
        "    if False:\n        raise Journal",
        COPIES,
    ),
    Patch(
        "damage behind the last commit of a copy is named",
        "store/log",
        "                raise tail_error(file, self.end, tail)\n",
        "                break\n",
        COPIES,
    ),
    Patch(
        "a copy of a newer version is named as that",
        "format/torn_tail",
        '    if tail.kind == "newer":\n',
        "    if False:\n",
        "tests/format/test_corpus.py",
    ),
    Patch(
        "the last seal of a copy is checked",
        "transfer/copies",
        "        if last == end:\n            return end\n",
        "        if True:\n            return end\n",
        COPIES,
    ),
    Patch(
        "the commits that a copy has lead to its end",
        "format/extent",
        "    if position != end:\n",
        "    if False:\n",
        COPIES,
    ),
    Patch(
        "two copies are the same up to a place only if both reach it",
        "transfer/copies",
        "    return position.offset <= copy.end.offset and has_seal(",
        "    return has_seal(",
        COPIES,
    ),
    Patch(
        "two copies are the same up to a place only if they have one seal there",
        "transfer/copies",
        " and has_seal(copy.file, position)\n",
        "\n",
        COPIES,
    ),
    Patch(
        "a seal that lies across two chunks is found from the end",
        "format/extent",
        "        begin = max(low - SEALED_END_BYTES + 1, 0)  # a seal",
        "        begin = low  # a seal",
        COPIES,
    ),
    Patch(
        "a seal that lies across two chunks is found from the front",
        "format/extent",
        "        begin = max(offset - SEALED_END_BYTES + 1, 0)\n        high",
        "        begin = offset\n        high",
        COPIES,
    ),
    Patch(
        "a forked child reads on only in the same file",
        "fs/handles",
        "            if (stat.st_ino, stat.st_dev) != (self.inode, self._device):\n",
        "            if False:\n",
        "tests/store/test_guards_writers.py tests/index/test_hint.py",
    ),
    Patch(
        "what is written is written to the end",
        "fs/handles",
        "    while view:\n        view = view[system.os.write(fd, view) :]",
        "    system.os.write(fd, view)",
        "tests/transfer/test_guards_copies.py",
    ),
]

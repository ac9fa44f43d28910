"""What makes a hint unbelievable."""

from __future__ import annotations

from mutation.patch import Patch

HEADS = "tests/index/test_heads.py"
HINT = "tests/index/test_hint_files.py tests/index/test_hint.py"

PATCHES = [
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
        "    if not durable and not boot_id:\n        return\n",
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
        "    hint: Literal[8]  #",
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
    Patch(
        "a stored head counts only for a directory that is listed",
        "index/heads",
        "            if not listed.issuperset(self._ids):",
        "            if False:",
        "tests/index/test_heads.py",
    ),
    Patch(
        "a head counts while its journal is as it was",
        "index/heads",
        "                known = map(eq, zip(*states, strict=True), zip(*self._states, strict=True))",
        "                known = iter([True] * len(self._ids))",
        HEADS,
    ),
    Patch(
        "a head of a journal that has just changed is not kept",
        "index/heads",
        "        if not 0 < changed_ns < self._settled_ns:",
        "        if not 0 < changed_ns:",
        HEADS,
    ),
    Patch(
        "heads are read whole or not at all",
        "index/heads",
        'data[:8] != b"%08x" % crc32(memoryview(data)[8:]) or ',
        "",
        HEADS,
    ),
    Patch(
        "heads that are larger than the memory are not read",
        "index/heads",
        "            if size > _MAX_HINT_BYTES:",
        "            if False:",
        HEADS,
    ),
    Patch(
        "heads count until the system is restarted",
        "index/heads",
        " or stored.boot_id != self._boot_id:",
        ":",
        HEADS,
    ),
    Patch(
        "the status of a job is read from commits that match their seals",
        "index/heads",
        "    if after.offset != len(data):\n",
        "    if False:\n",
        HEADS,
    ),
]

"""What makes a hint unbelievable."""

from __future__ import annotations

from patch import Patch

HINT = "tests/test_hint_files.py tests/test_hint.py"

PATCHES = [
    Patch(
        "a file that was changed more than moments after its last commit was touched",
        "hint",
        "_WRITING_NS = 2_000_000_000",
        "_WRITING_NS = 2_000_000_000_000",
        "tests/test_hint.py",
    ),
    Patch(
        "a time that no journal may hold is not taken from a hint",
        "hint",
        "        or header.last_at.tzinfo is not UTC  # what comes next may be written with it\n",
        "",
        HINT,
    ),
    Patch(
        "a hint has a crc for each block of each column",
        "hint",
        "        or any(len(blocks.get(name, ())) != count for name in names)\n",
        "",
        HINT + " tests/fuzz",
    ),
    Patch(
        "no hint over unsynced commits is written where a system start can't be told",
        "hint",
        "    if not durable and not boot_id:\n        return\n",
        "",
        "tests/test_guards_writers.py",
    ),
    Patch(
        "a hint of a journal that was touched is removed",
        "hint",
        "            directories.remove_tree(directory / HINT_NAME)\n            return\n",
        "            return\n",
        "tests/test_hint.py",
    ),
    Patch(
        "a hint of another version is none",
        "hint",
        "    hint: Literal[4]  #",
        "    hint: int  #",
        "tests/test_guards_writers.py",
    ),
    Patch(
        "a hint that can't be written is taken away half",
        "files",
        "    except BaseException:\n        with contextlib.suppress(OSError):\n            system.os.unlink(new)\n        raise\n    finally:\n        file.close()\n",
        "    finally:\n        file.close()\n",
        HINT,
    ),
    Patch(
        "a hint that is being written is locked",
        "files",
        "        if file.try_lock():\n            for",
        "        if True:\n            for",
        HINT,
    ),
    Patch(
        "what breaks in a hint is read from the journal",
        "hint",
        "        if block is None:\n            first = number * BLOCK_ROWS\n            block = self._source.rebuilt",
        "        if block is None:\n            raise _NotAHintError\n            first = number * BLOCK_ROWS\n            block = self._source.rebuilt",
        "tests/test_hint.py",
    ),
]

"""Commits, and what a batch, an interrupt, a fork or somebody else's hand leaves of them."""

from __future__ import annotations

from mutation.patch import Patch

SERVICE = "tests/store/test_guards_writers.py tests/service/test_service.py"
GUARDS = "tests/store/test_guards_writers.py tests/store/test_guards.py tests/store/test_faults.py"
FORKS = "tests/store/test_guards_writers.py tests/store/test_processes.py"
INTERRUPTS = "tests/store/test_interrupts_by_line.py"

PATCHES = [
    Patch(
        "a log that is closed within its batch stays open until that ends",
        "store/journal",
        "                if not self.depth:  # a batch that",
        "                if True:  # a batch that",
        SERVICE,
    ),
    Patch(
        "a block that could not begin lets go of the mutex and the lock",
        "store/journal",
        "        except BaseException:\n            self._leave(False)\n",
        "        except BaseException:\n            self.depth = 0\n",
        GUARDS + " tests/store/test_processes.py",
    ),
    Patch(
        "what was left open by an interrupt is undone before the next block begins",
        "store/journal",
        "            if self.depth:\n                self._unwind(self._living_depth())\n            if",
        "            if",
        INTERRUPTS,
    ),
    Patch(
        "what was left open by an interrupt is undone before the next read",
        "store/journal",
        "        if self.depth:\n            self._unwind(self._living_depth())\n        if not self.depth:\n",
        "        if not self.depth:\n",
        INTERRUPTS,
    ),
    Patch(
        "who is interrupted at the end of a commit is left with an open block",
        "store/journal",
        "        self.log.unlock()\n        if self._at_end",
        "        self.depth = 0\n        self.log.unlock()\n        if self._at_end",
        INTERRUPTS,
    ),
    Patch(
        "the end of a batch undoes what was left open inside of it",
        "store/journal",
        "                self._unwind(depth)\n                del",
        "                del",
        INTERRUPTS,
    ),
    Patch(
        "a commit that is unwound tells those who wait for its end that it was not written",
        "store/journal",
        "            self._stale = True\n            self._leave(False)\n",
        "            self._stale = True\n            self._leave(True)\n",
        INTERRUPTS,
    ),
    Patch(
        "a commit is told to be over",
        "store/journal",
        "            self._call_at_end(0, written)\n        self.depth",
        "            pass\n        self.depth",
        INTERRUPTS,
    ),
    Patch(
        "after a commit that was unwound the file is read again",
        "store/journal",
        "        if self.depth > depth:\n            self._stale = True\n",
        "        if self.depth > depth:\n",
        INTERRUPTS,
    ),
    Patch(
        "a batch that was carried through a fork is an error in the child",
        "store/journal",
        "            if error is None:\n                raise ServiceClosedError(",
        "            if False:\n                raise ServiceClosedError(",
        "tests/store/test_processes.py -k fork",
    ),
    Patch(
        "an exception undoes what its own block did",
        "store/journal",
        "            if error is not None:\n                self._rollback_to(save)\n",
        "",
        SERVICE,
    ),
    Patch(
        "a batch that caught a failed write is not committed",
        "store/journal",
        "            if error is not None or self._failed is not None:\n                self._abandon",
        "            if error is not None:\n                self._abandon",
        "tests/store/test_faults.py -k batch",
    ),
    Patch(
        "a writer asks whether a journal that may only be read may be written by now",
        "store/log",
        "            if file is None or not file.writable:  # the file",
        "            if file is None:  # the file",
        "tests/store/test_guards_writers.py",
    ),
    Patch(
        "a writer refuses a journal that may only be read",
        "store/recovery",
        "    if not file.writable:\n        raise StorageError",
        "    if False:\n        raise StorageError",
        "tests/store/test_readonly.py tests/store/test_faults.py",
    ),
    Patch(
        "what a discarded block held is told to be gone",
        "store/journal",
        "        self._call_at_end(at_end, written=False)\n",
        "",
        SERVICE,
    ),
    Patch(
        "rows of a discarded commit are not read as data",
        "store/journal",
        "            self._call_at_end(0, written)\n",
        "            self._call_at_end(0, True)\n",
        f"{SERVICE} {GUARDS}",
    ),
    Patch(
        "what is undone gives the time of its records back",
        "index/index",
        "length, self.state, self.last_at, self.cost_millionths, self.usage, count, steps = mark",
        "length, self.state, _, self.cost_millionths, self.usage, count, steps = mark",
        SERVICE,
    ),
    Patch(
        "what is taken back of a file is only what is one's own",
        "store/log",
        "        self._check_end()\n        data = self.file",
        "        data = self.file",
        GUARDS,
    ),
    Patch(
        "the seal goes on from before a spilled part that was taken back",
        "store/log",
        "        self.written = position\n",
        "        self.written = Position(position.offset, self.written.crc)\n",
        f"{GUARDS} {SERVICE}",
    ),
    Patch(
        "a writer accounts for its own writes, and leaves a hint",
        "store/log",
        "        self.known_ns = time_ns()\n",
        "",
        "tests/index/test_hint_files.py",
    ),
    Patch(
        "a long commit looks whether the seal before it still stands",
        "store/log",
        "        if size != self.written.offset or not self._has_seal():\n",
        "        if size != self.written.offset:\n",
        GUARDS,
    ),
    Patch(
        "a long commit looks whether others have written behind its beginning",
        "store/log",
        "        if size != self.written.offset or not self._has_seal():\n",
        "        if size is None or not self._has_seal():\n",
        GUARDS,
    ),
    Patch(
        "what somebody else has written is not cut off",
        "store/log",
        "        if self.is_foreign:  #",
        "        if False:  #",
        GUARDS,
    ),
    Patch(
        "a batch looks at the end of the file before it writes",
        "store/journal",
        "        self._joinable.append((block, self.depth))\n        self._took_long = True\n",
        "        self._joinable.append((block, self.depth))\n",
        GUARDS,
    ),
    Patch(
        "a forked child has a queue of its own",
        "store/journal",
        "        self.log.close()\n        self._begin()\n",
        "        self.log.close()\n        group = self._group\n        self._begin()\n        self._group = group\n",
        FORKS,
    ),
    Patch(
        "a forked child has a mutex of its own",
        "store/journal",
        "        self.log.close()\n        self._begin()\n",
        "        self.log.close()\n        mutex = self.mutex\n        self._begin()\n        self.mutex = mutex\n",
        "tests/store/test_guards_writers.py -k forked",
    ),
    Patch(
        "the name of the root is synced with that of the job",
        "store/recovery",
        "    for path in (log.directory, root, root.parent):\n",
        "    for path in (log.directory, root):\n",
        "tests/store/test_guards.py",
    ),
]

"""Commits, and what a batch, an interrupt, a fork or somebody else's hand leaves of them."""

from __future__ import annotations

from patch import Patch

SERVICE = "tests/test_guards_writers.py tests/test_service.py"
GUARDS = "tests/test_guards_writers.py tests/test_guards.py tests/test_faults.py"
FORKS = "tests/test_guards_writers.py tests/test_processes.py"
INTERRUPTS = "tests/test_interrupts_by_line.py"

PATCHES = [
    Patch(
        "a commit whose end was interrupted at once is told to be over",
        "log",
        "            if self._at_end:  # an interrupt came before they could be told\n"
        "                self._call_at_end(0, written=False)\n",
        "",
        INTERRUPTS,
    ),
    Patch(
        "a log that is closed within its batch stays open until that ends",
        "log",
        "            if not self._depth:  # a batch that",
        "            if True:  # a batch that",
        SERVICE,
    ),
    Patch(
        "a block that could not begin lets go of the mutex",
        "log",
        "        except BaseException:\n            self.mutex.release()\n            raise\n        self._depth = 1",
        "        except ZeroDivisionError:\n            self.mutex.release()\n            raise\n        self._depth = 1",
        GUARDS + " tests/test_processes.py",
    ),
    Patch(
        "a commit that could not begin lets go of the file's lock",
        "log",
        "            except BaseException:\n                self._unlock(self._file or file)\n                raise\n",
        "            except ZeroDivisionError:\n                self._unlock(self._file or file)\n                raise\n",
        GUARDS + " tests/test_processes.py",
    ),
    Patch(
        "a commit that could not begin lets go of the lock of the file that it wrote anew",
        "log",
        "                self._unlock(self._file or file)\n",
        "                self._unlock(file)\n",
        GUARDS + " tests/test_processes.py",
    ),
    Patch(
        "what was left open by an interrupt is undone before the next block begins",
        "log",
        "        if self._depth:\n            self._unwind(self._living_depth())\n",
        "",
        INTERRUPTS,
    ),
    Patch(
        "the end of a batch undoes what was left open inside of it",
        "log",
        "                self._unwind(depth)\n                del",
        "                del",
        INTERRUPTS,
    ),
    Patch(
        "a commit that is unwound tells those who wait for its end that it was not written",
        "log",
        "            self._call_at_end(0, written=False)\n            self._depth",
        "            self._call_at_end(0, written=True)\n            self._depth",
        INTERRUPTS,
    ),
    Patch(
        "a commit that is unwound is told to be over",
        "log",
        "            self._call_at_end(0, written=False)\n            self._depth",
        "            self._depth",
        INTERRUPTS,
    ),
    Patch(
        "after a commit that was unwound the file is read again",
        "log",
        "        if self._depth > depth:\n            self._stale = True\n",
        "        if self._depth > depth:\n",
        INTERRUPTS,
    ),
    Patch(
        "a batch that was carried through a fork is an error in the child",
        "log",
        "            if error is None:\n                raise ServiceClosedError(",
        "            if False:\n                raise ServiceClosedError(",
        "tests/test_processes.py -k fork",
    ),
    Patch(
        "an exception undoes what its own block did",
        "log",
        "            if error is not None:\n                self._rollback_to(save)\n",
        "",
        SERVICE,
    ),
    Patch(
        "a batch that caught a failed write is not committed",
        "log",
        "self._finish(error is not None or self._failed is not None)",
        "self._finish(error is not None)",
        "tests/test_faults.py -k batch",
    ),
    Patch(
        "a writer asks whether a journal that may only be read may be written by now",
        "log",
        "            if file is None or not file.writable:  # it",
        "            if file is None:  # it",
        "tests/test_guards_writers.py",
    ),
    Patch(
        "a writer refuses a journal that may only be read",
        "recovery",
        "        if not file.writable:\n            raise StorageError",
        "        if False:\n            raise StorageError",
        "tests/test_readonly.py tests/test_faults.py",
    ),
    Patch(
        "what a discarded block held is told to be gone",
        "log",
        "        self._call_at_end(at_end, written=False)\n",
        "",
        SERVICE,
    ),
    Patch(
        "rows of a discarded commit are not read as data",
        "log",
        "                self._call_at_end(0, written)\n",
        "                self._call_at_end(0, written=True)\n",
        f"{SERVICE} {GUARDS}",
    ),
    Patch(
        "a block that is undone gives the time of its records back",
        "log",
        "        self.index.rollback(mark)\n        self.index.last_at = last_at\n",
        "        self.index.rollback(mark)\n",
        SERVICE,
    ),
    Patch(
        "a commit that is undone gives the time of its records back",
        "log",
        "        self.index.rollback(0)\n        self.index.last_at = self._begin_at\n",
        "        self.index.rollback(0)\n",
        SERVICE,
    ),
    Patch(
        "what is taken back of a file is only what is one's own",
        "log",
        "            self._check_end(self.file)\n            self._buffer[:]",
        "            self._buffer[:]",
        GUARDS,
    ),
    Patch(
        "the seal goes on from before a spilled part that was taken back",
        "log",
        "        self._buffer_at, self._crc = buffer_at, crc\n",
        "        self._buffer_at = buffer_at\n",
        f"{GUARDS} {SERVICE}",
    ),
    Patch(
        "what was committed is not undone by the next commit that fails",
        "log",
        "        self._known_ns = time_ns()\n        self.index.forget_undo()\n",
        "        self._known_ns = time_ns()\n",
        f"{SERVICE} {GUARDS}",
    ),
    Patch(
        "a writer accounts for its own writes, and leaves a hint",
        "log",
        "        self._known_ns = time_ns()\n",
        "",
        "tests/test_hint_files.py",
    ),
    Patch(
        "a long commit looks whether the seal before it still stands",
        "log",
        "        if size != self._buffer_at or not self._has_our_seal(file):\n",
        "        if size != self._buffer_at:\n",
        GUARDS,
    ),
    Patch(
        "a long commit looks whether others have written behind its beginning",
        "log",
        "        if size != self._buffer_at or not self._has_our_seal(file):\n",
        "        if size is None or not self._has_our_seal(file):\n",
        GUARDS,
    ),
    Patch(
        "what somebody else has written is not cut off",
        "log",
        "        if self._foreign:\n            return",
        "        if False:\n            return",
        GUARDS,
    ),
    Patch(
        "a batch looks at the end of the file before it writes",
        "log",
        "        self._joinable.append((block, self._depth))\n        self._took_long = True\n",
        "        self._joinable.append((block, self._depth))\n",
        GUARDS,
    ),
    Patch(
        "a forked child has a queue of its own",
        "log",
        "        self._group = Group(self._lock_timeout_s)\n        self._joinable",
        "        self._joinable",
        FORKS,
    ),
    Patch(
        "a forked child has a mutex of its own",
        "log",
        "        self.mutex = threading.RLock()\n        self._file = self._mark = None\n",
        "        self._file = self._mark = None\n",
        "tests/test_guards_writers.py -k forked",
    ),
    Patch(
        "the name of the root is synced with that of the job",
        "recovery",
        "        for path in (self.directory, root, root.parent):\n",
        "        for path in (self.directory, root):\n",
        "tests/test_guards.py",
    ),
]

"""What a run does while the far side is down or throttles."""

from __future__ import annotations

from mutation.patch import Patch

HOLDS = "tests/run/test_holds.py"
AUTO = "tests/run/test_auto.py"
LIMITS = "tests/run/test_limits.py"

BRAKE = "tests/run/test_brake.py"

PATCHES = [
    Patch(
        "wrong answers of a handler count for the brake",
        "run/pacing/halt",
        'outcome.kind == "review" and outcome.error_code in WRONG_ANSWERS',
        "False",
        BRAKE,
    ),
    Patch(
        "reviews that a handler asks for don't count for the brake",
        "run/pacing/halt",
        'outcome.kind == "review" and outcome.error_code in WRONG_ANSWERS',
        'outcome.kind == "review"',
        BRAKE,
    ),
    Patch(
        "a call whose rows are tried again counts once for the brake",
        "run/pacing/halt",
        "            self._count += call is not self._call\n",
        "            self._count += 1\n",
        BRAKE,
    ),
    Patch(
        "each row of a call that isn't tried again counts for the brake",
        "run/pacing/halt",
        "            if again:\n                self._call = call\n            elif ",
        "            self._call = call\n            if not again and ",
        BRAKE,
    ),
    Patch(
        "the advice after a halt names the retry of failed rows",
        "run/pacing/bounds",
        '                self.has_halted = self._halt.what == "fail"\n',
        "",
        BRAKE,
    ),
    Patch(
        "rows in flight of a dead run are reported",
        "run/held_job",
        "        if count <= 0:\n",
        "        if True:\n",
        BRAKE,
    ),
    Patch(
        "text that is no time to wait is refused",
        "run/outcome",
        "    if not 0 <= seconds <= MAX_AFTER_S:  # NaN\n",
        "    if seconds < 0:\n",
        "tests/run/test_runs.py",
    ),
    Patch(
        "a handler that doesn't take the value of setup is refused",
        "run/workers/setup",
        '        signature.bind("row", "value")\n',
        "        pass\n",
        "tests/run/test_setup.py",
    ),
    Patch(
        "an on_end that can't be called is refused before the run",
        "run/open_job",
        "        check_on_end(on_end)\n",
        "",
        "tests/run/test_on_end.py",
    ),
    Patch(
        "workers begin no row after an outcome that holds the run",
        "run/workers/handover",
        "        if self.held and not self._owner:\n            return False\n",
        "",
        HOLDS,
    ),
    Patch(
        "rows that no worker has begun are taken back at a hold",
        "run/driver",
        "            self._in_flight.take_back()\n",
        "            pass\n",
        HOLDS,
    ),
    Patch(
        "no row starts before a hold has ended, and one at a time after that",
        "run/pacing/holds",
        "        return 0 if now_s < self.until_s or self._probe else min(count, 1)\n",
        "        return count\n",
        HOLDS,
    ),
    Patch(
        "a success that began before a hold doesn't end it",
        "run/pacing/holds",
        "        if self.count and ticket <= self._before:\n",
        "        if False:\n",
        HOLDS,
    ),
    Patch(
        "an hour of holds pauses the run",
        "run/pacing/holds",
        "        if not self.count or self._held_s < MAX_HELD_S:\n",
        "        if True:\n",
        HOLDS,
    ),
    Patch(
        "time in which the job is paused is no time of holding",
        "run/pacing/holds",
        "            self._held_s += self.until_s - self._since_s + now_s - self._probe_s\n",
        "            self._held_s += now_s - self._since_s\n",
        HOLDS,
    ),
    Patch(
        "an exception is no answer of the far side",
        "run/outcome",
        "            is_final = not self.retryable and self.traceback is None\n",
        "            is_final = not self.retryable\n",
        HOLDS,
    ),
    Patch(
        "a failure that the handler has decided on is an answer of the far side",
        "run/outcome",
        '        if self.kind in ("failed", "review"):\n',
        '        if self.kind in ("failed", "review"):\n            return False\n',
        HOLDS,
    ),
    Patch(
        "the time until a hold ends has a date",
        "run/pacing/holds",
        "        wait_s = min(max(0.0, self.until_s - now_s), MAX_AFTER_S)  # so that it has a date\n",
        "        wait_s = max(0.0, self.until_s - now_s)\n",
        HOLDS,
    ),
    Patch(
        "no wait is longer than a year",
        "run/outcome",
        "    if not 0 <= seconds <= MAX_AFTER_S:  # NaN\n",
        "    if not 0 <= seconds:\n",
        "tests/run/test_runs.py",
    ),
    Patch(
        "an attempt that was given back doesn't count",
        "index/index",
        "        is_given_back = old == PROCESSING and error_code is None\n",
        "        is_given_back = False\n",
        HOLDS,
    ),
    Patch(
        "replay doesn't count an attempt that was given back",
        "index/replay",
        "        elif old == PROCESSING and record.error_code is None:\n",
        "        elif False:\n",
        "tests/index/test_replay.py tests/format/test_corpus.py",
    ),
    Patch(
        "a held row of a job that has ended fails",
        "run/row_queue",
        "        if self._has_ended():  # its rows can't become pending\n",
        "        if False:\n",
        HOLDS,
    ),
    Patch(
        "a loop waits until a hold has ended",
        "run/attempts",
        "        if now_s < holds.until_s:\n",
        "        if False:\n",
        HOLDS,
    ),
    Patch(
        "a success ends the failures in a row before it",
        "run/pacing/halt",
        "            self.since = [later for later in self.since if later > ticket]\n",
        "",
        LIMITS,
    ),
    Patch(
        "auto counts one failure a level",
        "run/pacing/auto",
        "        self._failed_s = now_s\n        self._good = max(1, self.count // 2)\n        self._go_to(self._good, last_ticket)\n",
        "        self._failed_s = now_s\n        self._good = max(1, self.count // 2)\n        self._go_to(self._good, 0)\n",
        AUTO,
    ),
    Patch(
        "auto remembers the level that failed",
        "run/pacing/auto",
        "            self.limit = max(1, limit)\n",
        "            pass\n",
        AUTO,
    ),
    Patch(
        "auto doesn't grow while workers have nothing to do",
        "run/pacing/auto",
        "        if not self._is_used:\n            return good\n",
        "",
        AUTO,
    ),
]

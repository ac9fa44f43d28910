"""Limits by key: what counts, what waits, and what may start."""

from __future__ import annotations

from mutation.patch import Patch

BY_KEY = "tests/run/test_limits_by_key.py"
PER_KEY = "run/pacing/per_key"

PATCHES = [
    Patch(
        "a row whose key is full waits",
        PER_KEY,
        "if in_flight.get(key, 0) >= limits[key[0]]]",
        "if in_flight.get(key, 0) > limits[key[0]]]",
        BY_KEY,
    ),
    Patch(
        "an attempt that was given up keeps its slot",
        "run/driver",
        "self._queue.end(result.row for result in results if not result.is_given_up)",
        "self._queue.end(result.row for result in results)",
        BY_KEY,
    ),
    Patch(
        "an attempt that was taken back frees its slot",
        "run/in_flight",
        "                is_given_up = ticket in self._given_up  # otherwise no worker has begun it\n",
        "                is_given_up = True\n",
        BY_KEY,
    ),
    Patch(
        "a slot becomes free once for each attempt",
        PER_KEY,
        "self._free(self._attempts.pop((row.row_number, row.attempts), ()))",
        "self._free(self._attempts.get((row.row_number, row.attempts), ()))",
        BY_KEY,
    ),
    Patch(
        "rows that wait for a key are ready when it has room",
        PER_KEY,
        "            for rank, awaited in self._queues.get(key, ()):\n",
        "            for rank, awaited in ():\n",
        BY_KEY,
    ),
    Patch(
        "rows that wait for a key that is full again stay where they are",
        PER_KEY,
        "            if parked is None or self._full(keys):\n",
        "            if parked is None:\n",
        BY_KEY,
    ),
    Patch(
        "text and other values of the same characters are different keys",
        PER_KEY,
        "(column, '\"' + value if type(value) is str else canonical_json(value).decode())",
        "(column, str(value) if type(value) is str else canonical_json(value).decode())",
        BY_KEY,
    ),
    Patch(
        "null is no key",
        PER_KEY,
        "            if (value := data.get(column)) is not None\n",
        "            if (value := data.get(column, self)) is not self\n",
        BY_KEY,
    ),
    Patch(
        "a parked row that another process has settled is not parked any more",
        "store/bulk",
        "            if admits is not None:\n                admits(position, None)\n",
        "",
        BY_KEY,
    ),
    Patch(
        "rows that wait for a slot are not found a second time",
        "run/row_queue",
        "            if self._per_key.holds(found):\n",
        "            if False:\n",
        BY_KEY,
    ),
    Patch(
        "rows that wait for a slot count as rows that were never started",
        "run/row_queue",
        "        if self._per_key.has_fresh:\n            return True\n",
        "",
        BY_KEY,
    ),
    Patch(
        "rows that wait for a slot don't keep rows that are due from starting",
        "run/row_queue",
        "        number = self._per_key.next() or self._next_found(fresh_only=True)\n",
        "        number = self._per_key.next() or self._next_found(fresh_only=True)\n"
        "        if self.has_fresh():\n            return number\n",
        BY_KEY,
    ),
    Patch(
        "a run that has started as many rows as it may waits",
        "run/driver",
        "            self._wait(self._room(job))\n",
        "            self._wait(1)\n",
        BY_KEY,
    ),
    Patch(
        "a turn looks at a bounded number of rows that can't start",
        "run/row_queue",
        "            if len(self._per_key) > parked:\n                self._looks -= 1\n",
        "",
        BY_KEY,
    ),
    Patch(
        "a run whose last rows wait for attempts that were given up ends",
        "run/driver",
        "        elif not self._in_flight and (reason := self._queue.reason_to_stop()):\n",
        "        elif (reason := None):\n",
        BY_KEY,
    ),
    Patch(
        "rows that are due again come before others of their key",
        PER_KEY,
        "RETRIED, FRESH, STARTED = range(3)\n",
        "FRESH, RETRIED, STARTED = range(3)\n",
        BY_KEY,
    ),
    Patch(
        "large row numbers wait as others do",
        PER_KEY,
        "        except OverflowError:\n",
        "        except ZeroDivisionError:\n",
        BY_KEY,
    ),
]

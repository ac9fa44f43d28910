"""Runs of a part of the rows."""

from __future__ import annotations

from mutation.patch import Patch

WHERE = "tests/run/test_where.py tests/cli/test_run_where.py"

PATCHES = [
    Patch(
        "what continues a job leaves out a condition that no row left meets",
        "run/pacing/condition",
        "            del words[place : place + 2]\n",
        "            break\n",
        WHERE,
    ),
    Patch(
        "a condition stays while rows that meet it are left",
        "run/pacing/condition",
        """    if run.command and (reason or "").endswith(", because of `--where`"):\n""",
        "    if run.command:\n",
        WHERE,
    ),
    Patch(
        "a row that was passed over is not asked about again",
        "run/pacing/condition",
        "        self._passed_over[at] = 1\n",
        "",
        WHERE,
    ),
    Patch(
        "rows that stay open don't keep a run waiting",
        "run/row_queue",
        "        if not self._at_end or self._per_key or job.pending_count > self._chosen.left:\n            return False\n",
        "        if job.pending_count:\n            return False\n",
        WHERE,
    ),
    Patch(
        "a run that has not searched all rows is not over",
        "run/row_queue",
        "        if not self._at_end or self._per_key or job.pending_count > self._chosen.left:\n",
        "        if self._per_key or job.pending_count > self._chosen.left:\n",
        WHERE,
    ),
    Patch(
        "a run does not end before rows that wait for another attempt",
        "run/row_queue",
        "        return not any(map(self._is_pending, self._waiting))\n",
        "        return True\n",
        WHERE,
    ),
    Patch(
        "a search that finds nothing gives the journal to others between its turns",
        "run/row_queue",
        "        self._looks = max(0, self._looks - 1)\n",
        "",
        WHERE,
    ),
    Patch(
        "a row that waits for another attempt is not asked about again",
        "run/row_queue",
        "        if not self._chosen or found.row_number in self._waiting or self",
        "        if not self._chosen or self",
        WHERE,
    ),
    Patch(
        "failed rows that don't meet the condition stay failed",
        "run/plan",
        "        if is_free and (where is None or where(row)):\n",
        "        if is_free:\n",
        WHERE,
    ),
    Patch(
        "failed rows that don't meet the condition stay failed in a run",
        "run/plan",
        "        for row in retryable(service, job_id, where):\n",
        "        for row in retryable(service, job_id):\n",
        WHERE,
    ),
]

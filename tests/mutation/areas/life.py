"""Passes of a job, and what puts rows back: whom it is refused, what it leaves, what outlasts it."""

from __future__ import annotations

from patch import Patch

PASSES = "tests/test_passes.py tests/test_model_based.py"
KEYS = "tests/test_keys.py"
HINT = "tests/test_hint.py"
MENDED = "tests/test_repair_passes.py tests/test_corpus.py"

PATCHES = [
    Patch(
        "a retry reopens no cancelled job",
        "changes",
        "        if reset is None or status is JobStatus.CANCELLED:\n",
        "        if reset is None:\n",
        PASSES,
    ),
    Patch(
        "a retry of all rows reopens no cancelled job",
        "changes",
        "            if status is JobStatus.CANCELLED:\n                _refuse_start(log",
        "            if False:\n                _refuse_start(log",
        PASSES,
    ),
    Patch(
        "rows of unknown outcome are retried by name alone",
        "changes",
        "not failed.unknown if error_code is None",
        "True if error_code is None",
        PASSES,
    ),
    Patch(
        "nothing reopens a job under a run",
        "service",
        "            with self.hold_run(job_id) if is_over else nullcontext(), log:\n",
        "            with nullcontext(), log:\n",
        PASSES,
    ),
    Patch(
        "a reset that is taken back leaves the attempts counted as they were",
        "index",
        '            self._undo.append(("reset", position, None if earlier is None else earlier[position]))\n',
        "",
        PASSES,
    ),
    Patch(
        "a first reset that is taken back leaves no column",
        "index",
        "                    self.columns.earlier = None\n",
        "                    pass\n",
        HINT,
    ),
    Patch(
        "data that is taken back is the earlier data again",
        "index",
        '        self._undo.append(("data", position, self.columns.row_at[position]))\n',
        "",
        PASSES,
    ),
    Patch(
        "that two copies have worked on a job outlasts its reopening",
        "index",
        "error=error if error and error[0] == BOTH_COPIES else None",
        "error=None",
        PASSES,
    ),
    Patch(
        "replay counts attempts anew from a reset on",
        "apply",
        "        elif code == PENDING and record.reset:\n            columns.reset_attempts(position)\n",
        "",
        "tests/test_replay.py tests/test_corpus.py",
    ),
    Patch(
        "rows that are added later have a nonce",
        "changes",
        "system.nonce()[:8] if log.end else None",
        "None",
        KEYS,
    ),
    Patch(
        "text that ends as a new key does is no key as it is",
        "rows",
        "isinstance(value, str) and not _DONE_ANEW.search(value)",
        "isinstance(value, str)",
        KEYS,
    ),
    Patch(
        "text that is JSON is no key as it is",
        "rows",
        "            msgspec.json.decode(value)\n",
        "            return value\n",
        KEYS,
    ),
    Patch(
        "a new key counts the keys that the row has had",
        "changes",
        "key.removesuffix(f'#{keys}') if keys > 1 else key",
        "key.partition('#')[0]",
        KEYS,
    ),
    Patch(
        "the value that a row is known by stays",
        "changes",
        "        if data.get(column) != row.data.get(column):\n",
        "        if False:\n",
        KEYS,
    ),
    Patch(
        "a row whose data is lost is not put back to be done",
        "changes",
        "    if reset is not None and row.checksum == LOST_CHECKSUM:\n",
        "    if False:\n",
        KEYS,
    ),
    Patch(
        "data of a row in flight stays",
        "changes",
        "    if row.status in (RowStatus.PROCESSING, RowStatus.COMPLETED):\n",
        "    if row.status is RowStatus.COMPLETED:\n",
        PASSES,
    ),
    Patch(
        "data by hand leaves the checksum of the input",
        "changes",
        "checksum_of(data) if is_lost else row.row_checksum",
        "checksum_of(data)",
        PASSES,
    ),
    Patch(
        "a row in flight is not redone",
        "changes",
        "_REDONE = (COMPLETED,",
        "_REDONE = (PROCESSING, COMPLETED,",
        PASSES,
    ),
    Patch(
        "a failed job is completed by its last row alone",
        "changes",
        "for code in (PENDING, PROCESSING, FAILED, NEEDS_REVIEW)",
        "for code in (FAILED, NEEDS_REVIEW)",
        PASSES,
    ),
    Patch(
        "only a failed job is completed by its rows",
        "changes",
        "    if status is JobStatus.FAILED and code not in _STARTING_CODES:\n",
        "    if code not in _STARTING_CODES:\n",
        PASSES,
    ),
    Patch(
        "a job that went on elsewhere is not reopened",
        "changes",
        "    elif went_on_elsewhere(state):\n        hint = ELSEWHERE_HINT\n",
        "",
        PASSES,
    ),
    Patch(
        "a job that went on elsewhere takes no rows",
        "changes",
        "    if status in TERMINAL_STATUSES or is_elsewhere:\n",
        "    if status in TERMINAL_STATUSES:\n",
        PASSES,
    ),
    Patch(
        "what is settled by hand has no version",
        "changes",
        "    if old != PROCESSING and record.version is not None:\n",
        "    if False:\n",
        PASSES,
    ),
    Patch(
        "a start that was discarded leaves no version",
        "service",
        "None if written else self._set_version(job_id, before)",
        "None",
        PASSES,
    ),
    Patch(
        "a redo that may be lost is put back by a repair",
        "salvage",
        "                self._stand_in_for_redo(record)\n",
        "",
        MENDED,
    ),
    Patch(
        "what follows a redo that may be lost is kept",
        "salvage",
        "                if not self._outcomes_lost:\n",
        "                if True:\n",
        MENDED,
    ),
    Patch(
        "data that was given later makes a lost record whole",
        "salvage",
        "            self.stand_ins.discard(record.row)  # it",
        "            pass  # it",
        MENDED,
    ),
    Patch(
        "a row of which later data is left is named",
        "salvage",
        '                    self._add(Action("lost", line.number, 0, [record.row], message))\n',
        "",
        MENDED,
    ),
]

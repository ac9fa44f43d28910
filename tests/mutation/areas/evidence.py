"""The evidence that an attempt leaves, and how it is shown."""

from __future__ import annotations

from mutation.patch import Patch

EVIDENCE = "tests/run/test_evidence.py"
ROW_HISTORY = "tests/cli/test_row_history.py"

PATCHES = [
    Patch(
        "a text of several lines is shown line by line",
        "cli/commands/show",
        '.replace("\\n", "\\n  ").split("\\n")',
        '.split("\\0")',
        "tests/cli/test_row_history.py",
    ),
    Patch(
        "a traceback begins outside the package",
        "run/outcome",
        "        begin = begin.tb_next\n",
        "        break\n",
        EVIDENCE,
    ),
    Patch(
        "a long message leaves room for the frames of a traceback",
        "run/outcome",
        '"".join(map(_cut, _parts(error, begin)))',
        '"".join(_parts(error, begin))',
        EVIDENCE,
    ),
    Patch(
        "a traceback is bounded",
        "run/outcome",
        "    if len(data) > TRACEBACK_BYTES:\n",
        "    if False:\n",
        EVIDENCE,
    ),
    Patch(
        "an exception that can't be shown leaves at least its frames",
        "run/outcome",
        "        return [*traceback.format_tb(begin, -_MAX_FRAMES), type(error).__name__]\n",
        "        raise\n",
        EVIDENCE,
    ),
    Patch(
        "a result whose own code raises leaves a traceback",
        "run/outcome",
        '                fields["traceback"] = outcome.traceback or traceback_of(error)\n',
        "                pass\n",
        EVIDENCE,
    ),
    Patch(
        "the number of an attempt's messages is bounded",
        "run/evidence",
        "self._count >= MAX_LOG_ENTRIES or ",
        "",
        EVIDENCE,
    ),
    Patch(
        "the bytes of an attempt's messages are bounded",
        "run/evidence",
        " or self._bytes + size > MAX_LOG_BYTES",
        "",
        EVIDENCE,
    ),
    Patch(
        "messages that a step has recorded are not recorded again",
        "run/evidence",
        "            taken, self._entries = self._entries, []\n        return",
        "            taken = self._entries\n        return",
        EVIDENCE,
    ),
    Patch(
        "messages that a step could not record come later",
        "run/handler",
        "            if not is_recorded:\n",
        "            if False:\n",
        EVIDENCE,
    ),
    Patch(
        "details of a message are checked as a whole",
        "run/evidence",
        "        plain = _json_or_text(each)",
        "        plain = each",
        EVIDENCE,
    ),
    Patch(
        "messages are recorded with the start of a step",
        "store/steps",
        "    put_logs(journal, logs)\n    _append(",
        "    _append(",
        EVIDENCE,
    ),
    Patch(
        "messages are recorded with the end of a step",
        "store/steps",
        "    put_logs(journal, logs)\n    known =",
        "    known =",
        EVIDENCE,
    ),
    Patch(
        "messages are in the commit of the outcome",
        "run/row_queue",
        "            with self._service.batch(self._job_id):\n"
        "                self._service.log_attempt(row.id, outcome.logs)\n",
        "            if True:\n                self._service.log_attempt(row.id, outcome.logs)\n",
        EVIDENCE,
    ),
    Patch(
        "messages of an attempt that is given up are kept",
        "run/in_flight",
        "            logs=attempt.attempted.take_logs(),",
        "            logs=(),",
        EVIDENCE,
    ),
    Patch(
        "behind an attempt of a loop, logging has no row",
        "run/attempts",
        "        current_row.set(self._outer_row)\n",
        "",
        EVIDENCE,
    ),
    Patch(
        "a message has the time when it was made",
        "history/reading",
        "        at=_logged_at(record),\n",
        "        at=record.at,\n",
        EVIDENCE,
    ),
    Patch(
        "a row's history is read from lines of other writers, too",
        "history/row_history",
        """        return b'"row"' in line or b'"run"' in line""",
        "        return False",
        ROW_HISTORY,
    ),
    Patch(
        "a row's history has a bounded number of attempts",
        "history/row_history",
        "            len(self._items) > MAX_KEPT or ",
        "            ",
        ROW_HISTORY,
    ),
    Patch(
        "a row's history has a bounded number of bytes",
        "history/row_history",
        " or self._bytes > MAX_KEPT_BYTES",
        "",
        ROW_HISTORY,
    ),
    Patch(
        "a row's history hides its records",
        "history/row_history",
        "            record = redacted_members(history.record(block, place), names)\n",
        "            record = history.record(block, place)\n",
        ROW_HISTORY,
    ),
    Patch(
        "a row's history hides the row",
        "history/row_history",
        "        row=redacted_members(row, names),\n",
        "        row=row,\n",
        ROW_HISTORY,
    ),
    Patch(
        "a row's history hides the results of steps",
        "history/row_history",
        "        steps=tuple(redacted_members(step, names) for step in steps),\n",
        "        steps=steps,\n",
        ROW_HISTORY,
    ),
    Patch(
        "who hides messages of errors hides tracebacks",
        "history/redact",
        '        names |= {"traceback"}',
        "        names |= set()",
        ROW_HISTORY,
    ),
    Patch(
        "the output of each attempt is kept apart",
        "cli/run/subprocesses",
        '        attempt = f"{row.row_number}/{row.attempts}"\n',
        '        attempt = f"{row.row_number}/1"\n',
        "tests/cli/test_commands.py",
    ),
]

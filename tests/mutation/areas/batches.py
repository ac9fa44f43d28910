"""Calls and commands that take many rows."""

from __future__ import annotations

from mutation.patch import Patch

RUN = "tests/run/test_batches.py"
BULK = "tests/store/test_bulk.py"
COMMANDS = "tests/cli/test_run_batches.py"

PATCHES = [
    Patch(
        "of many rows only those that are pending are started",
        "store/bulk",
        "        if columns.statuses[position] != PENDING:  # another process has settled it\n",
        "        if False:\n",
        BULK,
    ),
    Patch(
        "the columns may be others after the caller's code",
        "store/bulk",
        "        columns = index.columns  # others, if the caller's code has read rows meanwhile\n",
        "        columns = index.columns if not started else columns\n",
        BULK,
    ),
    Patch(
        "a call gets a list of its own",
        "run/workers/batches",
        "            value = self._handle(list(batch.rows), *more)  # the caller may change its list\n",
        "            batch.rows = list(batch.rows)\n            value = self._handle(batch.rows, *more)\n",
        f"{RUN} -k its_list",
    ),
    Patch(
        "outcomes in another number than the rows raise nothing",
        "run/workers/batches",
        "        if len(outcomes) != len(tickets):  # which is whose?\n",
        "        if False:\n",
        RUN,
    ),
    Patch(
        "many rows start only in a job that has not ended",
        "store/bulk",
        '    let_start(journal, "its rows can\'t be started", reopens=False)\n',
        "",
        BULK,
    ),
    Patch(
        "of many rows only those in processing are completed",
        "store/bulk",
        "            and columns.statuses[position] == PROCESSING\n",
        "",
        BULK,
    ),
    Patch(
        "a row with steps is completed by itself",
        "store/bulk",
        "            and (columns.step_heads is None or not columns.step_heads[position])\n",
        "",
        f"{BULK} {RUN}",
    ),
    Patch(
        "new names of usage are counted one row at a time",
        "store/bulk",
        "            and (not record.usage or record.usage.keys() <= index.usage.keys())\n",
        "",
        BULK,
    ),
    Patch(
        "a late result is recorded before that of a later attempt",
        "run/driver",
        " or any(result.is_late for result in results):",
        ":",
        "tests/run/test_runs.py -k late",
    ),
    Patch(
        "a row that the answer leaves out needs a review",
        "run/workers/batches",
        "            outcomes.append(_review(answer, kept_by))\n",
        '            outcomes.append(Outcome(kind="completed"))\n',
        RUN,
    ),
    Patch(
        "what belongs to no row is kept though each row has an outcome",
        "run/workers/batches",
        "    if answer.problem and not kept_by:\n",
        "    if False:\n",
        RUN,
    ),
    Patch(
        "a list of another length belongs to no row",
        "run/workers/batches",
        "    if len(listed) != len(rows):\n",
        "    if len(listed) < 0:\n",
        RUN,
    ),
    Patch(
        "what a call has cost that raises counts once",
        "run/workers/batches",
        "            raised = other\n",
        "",
        RUN,
    ),
    Patch(
        "a row keeps the outcome that it had when its call raised",
        "run/workers/batches",
        "            outcomes.append(row.outcome)\n        else:\n            outcomes.append(raised)\n",
        "            outcomes.append(raised)\n        else:\n            outcomes.append(raised)\n",
        RUN,
    ),
    Patch(
        "a call is asked once to end",
        "run/workers/batches",
        "        if force not in batch.cancelled:\n",
        "        if True:\n",
        RUN,
    ),
    Patch(
        "rows of a call in flight wait for no turn",
        "run/driver",
        "        count = (slots + ahead - self._in_flight.calls(results)) * self._workers.rows_a_call\n",
        "        count = (slots + ahead) * self._workers.rows_a_call - len(self._in_flight)\n",
        RUN,
    ),
    Patch(
        "all rows of a call have one deadline",
        "run/in_flight",
        "        if claim is not self._claim:\n",
        "        if True:\n",
        RUN,
    ),
    Patch(
        "a batch has no more rows than the rate names",
        "run/pacing/rate",
        "        return cls(per_s, min(batch, max(1, int(float(match[1])))) if match else batch)\n",
        "        return cls(per_s, batch)\n",
        RUN,
    ),
    Patch(
        "a command for many rows inherits no variables of one row",
        "cli/run/batches",
        "            self._environment.pop(name, None)\n",
        "            pass\n",
        COMMANDS,
    ),
    Patch(
        "a second line of a row is not its outcome",
        "cli/run/batches",
        "    if len(lines) == 1:\n",
        "    if lines:\n",
        COMMANDS,
    ),
    Patch(
        "what both lines of a row have cost counts",
        "cli/run/batches",
        "    return with_cost(review, sum(costs) if costs else None, usage or None)\n",
        "    return review\n",
        COMMANDS,
    ),
    Patch(
        "a row whose line may have been cut off does not fail by the status",
        "cli/run/batches",
        '        if outcome.kind != "completed" and not printed.cut_off:\n',
        '        if outcome.kind != "completed":\n',
        COMMANDS,
    ),
    Patch(
        "of the lines of no row one MiB is kept",
        "cli/run/batches",
        "        if self._room > 0:\n",
        "        if True:\n",
        COMMANDS,
    ),
    Patch(
        "a line that is too long is not read as JSON",
        "cli/run/subprocesses",
        "        yield (_cut_off(text, more), True) if more else (text, False)\n",
        "        yield text, False\n",
        COMMANDS,
    ),
    Patch(
        "the program is the same for all rows",
        "cli/run/template",
        "            if self._is_filled(place):\n",
        "            if False:\n",
        COMMANDS,
    ),
]

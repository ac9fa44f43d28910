"""Steps of rows: in the log, in exports, in commands, and a doubt that no handler talks away."""

from __future__ import annotations

from mutation.patch import Patch

LOG = "tests/cli/test_log_command.py"
HANDLERS = "tests/run/test_steps_of_handlers.py"
STEP = "tests/cli/test_step.py"
CORE = "tests/store/test_steps.py tests/service/test_model_based.py"
EXPORT = "tests/export/test_export.py"

PATCHES = [
    Patch(
        "a step that failed is a warning",
        "history/events",
        '"failed": "WARNING"}\n',
        '"failed": "INFO"}\n',
        LOG,
    ),
    Patch(
        "an attempt that leaves a step in doubt is in review",
        "run/row_queue",
        "        outcome = self._with_doubt(row, outcome)\n",
        "",
        f"{HANDLERS} {STEP}",
    ),
    Patch(
        "a handler begins no step twice",
        "run/handler",
        "        if name in self._begun:\n",
        "        if False:\n",
        HANDLERS,
    ),
    Patch(
        "a step that has failed may be called again",
        "run/handler",
        "        self._begun.discard(name)\n        if isinstance(error",
        "        if isinstance(error",
        HANDLERS,
    ),
    Patch(
        "a command begins no step twice",
        "store/steps",
        "        if known.attempt != attempt or known.origin is not None:\n",
        "        if True:\n",
        STEP,
    ),
    Patch(
        "an attempt that has begun a step twice is in review",
        "store/steps",
        "(record.attempt, record.origin) == (attempts, None)",
        "False",
        STEP,
    ),
    Patch(
        "a review keeps its own code when a step is in doubt too",
        "run/outcome",
        '    if outcome.kind == "review":\n        code =',
        "    if False:\n        code =",
        HANDLERS,
    ),
    Patch(
        "a run sees the first step of its job",
        "service",
        "        if journal.in_own_commit and journal.index.columns.step_heads is None:\n",
        "        if journal.in_own_commit:\n",
        HANDLERS,
    ),
    Patch(
        "a step of a killed command is in doubt",
        "cli/commands/step",
        "        if not processes.is_of_signal(status) and not child.signals:\n",
        "        if not child.signals:\n",
        STEP,
    ),
    Patch(
        "a step whose command fails after a signal is in doubt",
        "cli/commands/step",
        "is_of_signal(status) and not child.signals:\n",
        "is_of_signal(status):\n",
        STEP,
    ),
    Patch(
        "a shell's status for a signal is a doubt too",
        "run/platform/posix",
        "    return status < 0 or status - 128 in signal.valid_signals()\n",
        "    return status < 0\n",
        STEP,
    ),
    Patch(
        "a step that is done is not run",
        "cli/commands/step",
        "        if done is not None:\n            _print_result(done.result)\n            return EXIT_OK\n",
        "        if done is not None:\n            _print_result(done.result)\n",
        STEP,
    ),
    Patch(
        "a command that can't be started fails its step",
        "cli/commands/step",
        "            step.fail(code, message)\n",
        "",
        STEP,
    ),
    Patch(
        "a terminated step waits for its command",
        "cli/commands/step",
        "        stack.enter_context(stopping_signals(child.forward))\n",
        "",
        STEP,
    ),
    Patch(
        "a step knows its job by an absolute path",
        "cli/commands/run",
        "        directory = Path(self._ctx.obj).absolute() / self._job_id\n",
        "        directory = Path(self._ctx.obj) / self._job_id\n",
        STEP,
    ),
    Patch(
        "only a row without another doubt is pending again",
        "cli/commands/settle",
        " or service.get_step_in_doubt(row.id):\n                continue\n",
        ":\n                continue\n",
        STEP,
    ),
    Patch(
        "a row that two copies worked on stays in review",
        "cli/commands/settle",
        "            if row.error_code not in REVIEWS_OF_STEPS or (\n",
        "            if (\n",
        STEP,
    ),
    Patch(
        "the result of a settled step is JSON",
        "cli/commands/settle",
        'None if given["not_done"] else json_result(given["result"])',
        'None if given["not_done"] else json_or_text(given["result"])',
        STEP,
    ),
    Patch(
        "rows whose steps are known get their own advice",
        "cli/advice",
        "known = left.intersection(number for number, _ in read)\n",
        "pass\n",
        STEP,
    ),
    Patch(
        "a row that two copies worked on is not simply continued",
        "cli/advice",
        "        if group.code not in REVIEWS_OF_STEPS:\n",
        "        if False:\n",
        STEP,
    ),
    Patch(
        "a step is settled only if it is in doubt",
        "cli/commands/settle",
        '    if state != "started":\n',
        "    if False:\n",
        STEP,
    ),
    Patch(
        "a step of a row in flight is not settled",
        "cli/commands/settle",
        "    if row.status is RowStatus.PROCESSING:\n        raise Refused(\n",
        "    if False:\n        raise Refused(\n",
        STEP,
    ),
    Patch(
        "exported steps are those of one moment",
        "store/steps",
        "    columns, read = rows.view.columns, rows.reader()\n",
        "    columns, read = rows._journal.index.columns, rows.reader()\n",
        EXPORT,
    ),
    Patch(
        "a step begins only in the attempt that is in progress",
        "store/steps",
        "    if status != PROCESSING or attempts != attempt:\n",
        "    if False:\n",
        CORE,
    ),
    Patch(
        "a step in doubt does not begin again",
        "store/steps",
        """    if known is not None and known.state == "started":\n""",
        "    if False:\n",
        CORE,
    ),
    Patch(
        "rows are resumed only if their run promised that each effect is a step",
        "store/policies",
        "resumes and step is None",
        "step is None",
        CORE,
    ),
    Patch(
        "rows with a step in doubt are not resumed",
        "store/policies",
        "resumes and step is None",
        "resumes",
        CORE,
    ),
    Patch(
        "a redo forgets the steps of its row",
        "index/index",
        "                columns.forget_steps(position)\n",
        "                pass\n",
        CORE,
    ),
    Patch(
        "a redo forgets the steps of its row for all who read it",
        "index/replay",
        "                columns.forget_steps(position)\n",
        "                pass\n",
        CORE,
    ),
    Patch(
        "steps of a batch that is discarded are undone",
        "index/index",
        "                self.columns.restore_steps(position, head, count)\n",
        "                pass\n",
        CORE,
    ),
]

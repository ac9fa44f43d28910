"""What attempts have cost: exact sums, each attempt once, and limits."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "costs are rounded to millionths, not cut",
        "model",
        "else round(cents * _MILLION)",
        "else int(cents * _MILLION)",
        "tests/service/test_cost.py::test_the_total_is_the_decimal_sum_live_and_after_reopening_with_and_without_hint",
    ),
    Patch(
        "a change that is undone has no cost",
        "index/index",
        "length, self.state, self.last_at, self.cost_millionths, self.usage, count, steps = mark",
        "length, self.state, self.last_at, _, self.usage, count, steps = mark",
        "tests/service/test_cost.py::test_a_change_that_is_undone_has_cost_nothing",
    ),
    Patch(
        "a change that is undone has no usage",
        "index/index",
        "length, self.state, self.last_at, self.cost_millionths, self.usage, count, steps = mark",
        "length, self.state, self.last_at, self.cost_millionths, _, count, steps = mark",
        "tests/service/test_cost.py::test_a_change_that_is_undone_has_cost_nothing",
    ),
    Patch(
        "a hint has the sums of usage",
        "index/index",
        '"cost_millionths", "usage", ',
        '"cost_millionths", ',
        "tests/service/test_cost.py::test_20_000_costs_of_6_hundredths_of_a_cent_sum_exactly",
    ),
    Patch(
        "a cost is rounded to the nearest millionth",
        "format/arguments",
        "exact.quantize(_MILLIONTH, context=_EXACT)",
        "exact.quantize(_MILLIONTH, rounding='ROUND_DOWN', context=_EXACT)",
        "tests/service/test_cost.py::test_a_cost_is_written_exactly_and_shown_as_an_int_where_it_is_whole",
    ),
    Patch(
        "names of usage have a bound",
        "store/transitions",
        "    if len(index.usage.keys()",
        "    if False and len(index.usage.keys()",
        "tests/service/test_cost.py::test_a_job_has_at_most_100_names_of_usage",
    ),
    Patch(
        "a review of a value that can't be recorded keeps its tracking number",
        "run/settling",
        '_OF_WORK = ("tracking_number", "label_path", "result")',
        '_OF_WORK = ("label_path", "result")',
        "tests/run/test_costs_of_runs.py::test_a_result_that_can_not_be_recorded_costs_all_the_same_and_reaches_the_limit",
    ),
    Patch(
        "usage that a job has no room for is left out alone",
        "run/outcome",
        "    is_one = error.where in CHECKS\n",
        "    is_one = False\n",
        "tests/run/test_costs_of_runs.py::test_a_result_with_one_usage_name_too_many_needs_a_review_and_keeps_its_cost",
    ),
    Patch(
        "the cost of an attempt whose step isn't recorded is kept",
        "run/outcome",
        "    return msgspec.structs.replace(outcome, **missing)\n",
        "    return outcome\n",
        "tests/run/test_steps_of_handlers.py::test_the_result_and_the_cost_of_a_step_are_kept_whatever_the_handler_makes_of_the_exception",
    ),
    Patch(
        "exceptions of a handler state its cost",
        "run/outcome",
        "    return with_cost(_outcome_of(error), error.cost_cents, error.usage)\n",
        "    return _outcome_of(error)\n",
        "tests/run/test_costs_of_runs.py::test_each_attempt_counts_whatever_becomes_of_it",
    ),
    Patch(
        "a failed command states its cost",
        "cli/run/outcomes",
        '    return with_cost(ended, fields.get("cost_cents"), fields.get("usage"))\n',
        "    return ended\n",
        "tests/cli/test_costs.py::test_a_command_reports_its_cost_and_usage_also_when_it_fails",
    ),
    Patch(
        "a merge counts the costs of statuses that it doesn't import",
        "transfer/merge",
        "            if id_ not in self._counted:\n",
        "            if False:\n",
        "tests/transfer/test_merge_costs.py::test_a_cost_is_counted_once_whether_its_status_is_imported_or_not",
    ),
    Patch(
        "an imported status has its own cost",
        "transfer/merge",
        "            self._counted.add(change.id)\n",
        "",
        "tests/transfer/test_merge_histories.py::test_whatever_three_copies_did_their_merges_come_to_what_the_rules_say",
    ),
    Patch(
        "a job handed out has a usage of its own",
        "index/summary",
        "usage=dict(index.usage)",
        "usage=index.usage",
        "tests/service/test_cost.py::test_a_job_handed_out_keeps_its_usage_while_the_sums_grow",
    ),
    Patch(
        "a limit of cost keeps rows from being queued",
        "run/pacing/early_end",
        "        return self._limits.max_cost_cents is not None or self._halt is not None\n",
        "        return self._halt is not None\n",
        "tests/run/test_costs_of_runs.py::test_a_run_ends_within_what_is_in_flight_when_the_limit_is_reached",
    ),
]

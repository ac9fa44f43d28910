"""Shards: which rows a shard takes, under which numbers, and which starts are refused."""

from __future__ import annotations

from mutation.patch import Patch

_RUN = "tests/run/test_shards.py::test_"
_SETS = "tests/sets/test_sets_in_commands.py::test_"
PATCHES = [
    Patch(
        "the key of a row chooses its shard, and not its position",
        "sets/split",
        "        return number % self.shard.count == self.shard.index\n",
        "        return place % self.shard.count == self.shard.index\n",
        _RUN + "each_row_is_handled_by_the_shard_of_its_key_under_a_number_that_names_the_shard",
    ),
    Patch(
        "without a key, another beginning of the input is refused",
        "sets/split",
        "if seen.rows == place and seen.digest != self._in_order.hexdigest():",
        "if False:",
        _RUN + "without_a_key_another_beginning_of_the_input_is_refused",
    ),
    Patch(
        "without a key, a shorter input is refused",
        "sets/split",
        "            if self.key is None and seen.rows > rows:\n",
        "            if False:\n",
        _RUN + "without_a_key_another_beginning_of_the_input_is_refused",
    ),
    Patch(
        "a key belongs to the same shard as number and as text",
        "sets/split",
        '            text = untyped(key_of(self.key, convert(data, place), f"input row {place}")).encode()\n',
        '            text = key_of(self.key, convert(data, place), f"input row {place}").encode()\n',
        _RUN + "a_key_belongs_to_the_same_shard_as_number_and_as_text",
    ),
    Patch(
        "an input is recorded even if it brings no rows",
        "run/input_match",
        "                    self._split.record(journal)\n",
        "                    pass\n",
        _RUN + "shards_that_have_seen_another_input_are_named_until_they_start_with_it",
    ),
    Patch(
        "a shard refuses another key",
        "sets/split",
        "        elif recorded_key(given) != known and not (known is None and job.repaired):\n",
        "        elif False:\n",
        _RUN + "what_does_not_fit_the_set_is_refused_by_name",
    ),
    Patch(
        "a set refuses another count",
        "store/store",
        "            if known and found and known[1] != found[1]:\n",
        "            if False:\n",
        _RUN + "what_does_not_fit_the_set_is_refused_by_name",
    ),
    Patch(
        "a set refuses the name of a job",
        "store/store",
        "        if self.holds_job(set_id):\n",
        "        if False:\n",
        _RUN + "a_job_and_a_set_of_one_name_refuse_each_other",
    ),
    Patch(
        "a restarted task whose job is gone starts nothing",
        "sets/choice",
        "        if text.isdecimal() and int(text) >= first:\n",
        "        if False:\n",
        _RUN + "a_restarted_task_whose_job_is_gone_starts_only_anew",
    ),
    Patch(
        "the variables of two schedulers are refused",
        "sets/choice",
        "    if len(every) == 1 and len(numbers) == 1:\n",
        "    if numbers:\n",
        _RUN + "two_schedulers_are_refused_until_a_variable_is_named",
    ),
    Patch(
        "a row keeps its place when its data changes",
        "store/transitions",
        "        place=made.place,\n",
        "",
        _RUN + "a_row_of_a_shard_keeps_its_place_when_its_data_changes",
    ),
    Patch(
        "a shard takes no number of another shard",
        "store/bulk",
        "            if (number - lowest) % distance:\n",
        "            if False:\n",
        "tests/store/test_sets.py::test_a_shard_takes_only_numbers_of_its_own",
    ),
    Patch(
        "an export of shards that have seen different inputs without a key is refused",
        "cli/commands/export",
        "    whole.check_input()\n",
        "",
        _SETS + "an_export_names_absent_shards_and_refuses_different_inputs_without_a_key",
    ),
    Patch(
        "an export of a set is sorted by the places in the input",
        "tables/collected",
        "        return _chunks_of(merge(*shards, key=itemgetter(0)), names)\n",
        "        return _chunks_of(chain.from_iterable(shards), names)\n",
        _SETS + "a_set_is_exported_in_the_order_of_its_input",
    ),
    Patch(
        "a shard that isn't here is started again",
        "sets/whole",
        "            return self.state == ABSENT\n",
        "            return False\n",
        _SETS + "what_is_missing_is_printed_as_the_array_of_a_scheduler",
    ),
    Patch(
        "all rows are checked before the first shard is changed",
        "cli/commands/settle",
        "            if sum(1 for _ in part.rows(job.service, shard.id, verb)):  # all are checked\n",
        "            if True:\n",
        _SETS + "rows_are_settled_in_the_shards_that_have_them",
    ),
    Patch(
        "shards of another key are not gathered in one set",
        "transfer/pack",
        "    if here.shard is not None and here.shard.key != header.shard.key:\n",
        "    if False:\n",
        _SETS + "a_pull_refuses_another_count_another_key_and_a_job_of_the_sets_name",
    ),
    Patch(
        "a set has not ended while a shard isn't here",
        "sets/whole",
        "        statuses.add(JobStatus.PENDING)\n",
        "        pass\n",
        _SETS + "wait_ends_when_each_shard_has_and_its_exit_code_is_that_of_the_set",
    ),
    Patch(
        "a merge gives a row that was added there the next number of the shard",
        "transfer/merge",
        "number = highest = highest + here.copy.header.numbers[1]\n",
        "number = highest = highest + 1\n",
        "tests/store/test_sets.py::test_a_merge_gives_a_row_of_the_other_copy_the_next_number_of_the_shard",
    ),
    Patch(
        "only a start makes a shard",
        "service",
        '        if "/" in record.id:\n',
        "        if False:\n",
        "tests/store/test_sets.py::test_only_a_start_makes_a_shard",
    ),
    Patch(
        "no shard is pruned while another one of its set has not ended",
        "transfer/prune",
        "                if why_left:\n",
        "                if False:\n",
        _SETS + "the_shards_of_a_set_are_pruned_when_all_have_ended_and_not_made_anew",
    ),
]

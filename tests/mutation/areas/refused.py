"""What is left of refused calls, of journals that are written anew, and of late outcomes."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "what is written anew is locked before it takes its place",
        "store/log",
        "            lock_journal(new, self.directory.name, self._lock_timeout_s)\n        except",
        "        except",
        "tests/store/test_guards_writers.py::test_a_journal_that_was_written_anew_is_locked_until_its_commit_has_ended",
    ),
    Patch(
        "the hint of a journal doesn't count for the file that is written anew",
        "store/log",
        "        self.hint_end = 0\n        self.known_ns = new",
        "        self.known_ns = new",
        "tests/store/test_cut_journals.py::test_who_has_written_a_long_journal_anew_leaves_a_hint_of_it",
    ),
    Patch(
        "who has written a journal anew knows when that was",
        "store/log",
        "        self.known_ns = new.size_and_change()[1]\n",
        "",
        "tests/store/test_cut_journals.py::test_a_run_whose_journal_is_written_anew_at_its_end_leaves_a_hint_of_it",
    ),
    Patch(
        "the first row of an open commit is read out of the commit",
        "store/journal",
        "if offset < log.end.offset else",
        "if offset <= log.end.offset else",
        "tests/store/test_row_window.py::test_a_row_that_begins_an_open_batch_is_read_out_of_the_batch",
    ),
    Patch(
        "a record that is too long leaves nothing in its commit",
        "store/journal",
        "            del buffer[start:]\n            raise self._too_long(length, g",
        "            raise self._too_long(length, g",
        "tests/store/test_bulk.py::test_of_a_completion_that_is_too_long_among_others_nothing_is_written",
    ),
    Patch(
        "nothing is read out of a commit that could not be taken back",
        "store/journal",
        "            if self._failed is not None:\n                raise self._failed\n            start = offset",
        "            start = offset",
        "tests/store/test_faults.py::test_rows_of_a_batch_that_has_failed_to_take_back_an_inner_one_are_not_read_out_of_its_rest",
    ),
    Patch(
        "a commit in doubt may have ended the run",
        "store/journal",
        "            self.in_doubt = True\n",
        "",
        "tests/store/test_run_locks.py::test_a_run_whose_end_may_be_recorded_holds_its_job_no_more",
    ),
    Patch(
        "the bytes of another are theirs in one commit only",
        "store/journal",
        "log.written, log.is_foreign = log.end, False",
        "log.written = log.end",
        "tests/store/test_guards_writers.py::test_who_has_met_the_bytes_of_another_still_cuts_off_half_of_its_own_commit",
    ),
    Patch(
        "no hint is left of what may not be in the journal",
        "store/journal",
        "if not (self._stale or self.log.is_new):",
        "if not self.log.is_new:",
        "tests/store/test_guards_writers.py::test_a_journal_is_closed_without_a_hint_of_what_may_not_be_in_it",
    ),
    Patch(
        "an attempt that ends after a failed commit has a cost though its row is settled",
        "run/driver",
        '                self._queue.add_cost(result.row, result.outcome)\n                self._problems.append(_unrecorded(result, "its row',
        '                self._problems.append(_unrecorded(result, "its row',
        "tests/run/test_costs_of_runs.py::test_an_attempt_whose_row_was_settled_before_a_commit_failed_has_a_cost",
    ),
    Patch(
        "a late success after a failed commit settles its row",
        "run/driver",
        "if self._why_lost or result.is_late:\n                self._settle(result, self._problems)",
        "if self._why_lost:\n                self._settle(result, self._problems)",
        "tests/run/test_costs_of_runs.py::test_a_late_success_whose_commit_fails_is_recorded_with_its_cost_once",
    ),
    Patch(
        "a late success that a failed commit has recorded costs once",
        "run/row_queue",
        "                known = self._service.get_row(row.id) if after_failure else None\n                if known is None or known.cost_cents != outcome.cost_cents:\n                    self.add_cost(row, outcome)",
        "                self.add_cost(row, outcome)",
        "tests/run/test_costs_of_runs.py::test_a_late_success_whose_commit_fails_is_recorded_with_its_cost_once",
    ),
]

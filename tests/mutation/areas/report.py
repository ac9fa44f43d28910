"""The page about a job that is written anew until the job ends."""

from __future__ import annotations

from mutation.patch import Patch

TESTS = "tests/report/test_report.py::"

PATCHES = [
    Patch(
        "the pause between two versions of a page is ten times as long as writing took",
        "cli/commands/report",
        "max(every_s, MIN_PAUSES * (end_s - begin_s))",
        "every_s",
        f"{TESTS}test_a_page_is_written_anew_no_sooner_than_ten_times_as_long_as_writing_took",
    ),
    Patch(
        "the last version of a page isn't reloaded",
        "cli/commands/report",
        "write_report(job.service, job.id, out, force=force)\n            echo_err",
        "write_report(job.service, job.id, out, force=force, every_s=every_s)\n            echo_err",
        f"{TESTS}test_a_page_of_a_job_that_has_ended_is_written_once",
    ),
    Patch(
        "a run that died didn't work until a person settled its rows",
        "history/spans",
        "if record.by not in BY_OTHERS:",
        "if True:",
        f"{TESTS}test_a_run_that_died_ends_with_the_last_status_that_it_has_set",
    ),
    Patch(
        "a run that was paused and resumed is one run",
        "history/spans",
        'if "runs" not in self._open and self.found["runs"]:',
        "if False:",
        f"{TESTS}test_a_run_that_was_paused_and_resumed_is_one_run",
    ),
]

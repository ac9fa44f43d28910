"""The page about a job that is written anew until the job ends."""

from __future__ import annotations

from mutation.patch import Patch

TESTS = "tests/report/test_report.py::"

PATCHES = [
    Patch(
        "the last version of a page isn't reloaded",
        "cli/commands/report",
        "write_report(job.service, job.id, out, force=force)\n            echo_err",
        "write_report(job.service, job.id, out, force=force, every_s=every_s)\n            echo_err",
        f"{TESTS}test_a_page_of_a_job_that_has_ended_is_written_once",
    ),
]

"""A person's pause of a job."""

from __future__ import annotations

from mutation.patch import Patch

PAUSES = "tests/service/test_pauses.py"
CONTROL = "tests/cli/test_control.py"

PATCHES = [
    Patch(
        "no run begins while a person's pause holds",
        "store/transitions",
        "    journal.check_uncut()\n    check_unpaused(journal.job_id, state_of(journal).pause)\n",
        "    journal.check_uncut()\n",
        f"{PAUSES}::test_a_pause_of_another_writer_that_left_the_job_running_holds_too",
    ),
    Patch(
        "a program doesn't end a person's pause by setting the job to running",
        "store/transitions",
        "    if target is JobStatus.RUNNING:\n        check_unpaused(",
        "    if False:\n        check_unpaused(",
        f"{PAUSES}::test_a_run_finishes_its_rows_in_flight_waits_and_continues_when_resumed",
    ),
    Patch(
        "a second pause writes nothing",
        "store/transitions",
        "    if state_of(journal).pause is None:\n        put_record(journal, JobPauseRecord(",
        "    if True:\n        put_record(journal, JobPauseRecord(",
        f"{PAUSES}::test_a_pause_holds_in_any_status_and_only_a_running_job_becomes_paused",
    ),
    Patch(
        "the run of a job that is paused waits",
        "store/transitions",
        "    if state_of(journal).status is JobStatus.RUNNING:\n        set_job_status(journal, JobStatus.PAUSED)",
        "    if False:\n        set_job_status(journal, JobStatus.PAUSED)",
        f"{PAUSES}::test_a_pause_holds_in_any_status_and_only_a_running_job_becomes_paused",
    ),
    Patch(
        "what was cancelled is resumed",
        "store/transitions",
        "    if status is JobStatus.CANCELLED or (status is JobStatus.FAILED and has_open):\n",
        "    if False:\n",
        f"{PAUSES}::test_resume_ends_the_pause_in_one_commit_and_what_has_failed_or_was_cancelled_is_pending",
    ),
    Patch(
        "a failed job without open rows stays failed when its pause ends",
        "store/transitions",
        "(status is JobStatus.FAILED and has_open):\n",
        "status is JobStatus.FAILED:\n",
        f"{CONTROL}::test_a_job_that_has_failed_becomes_pending_only_if_rows_are_pending",
    ),
    Patch(
        "a waiting run continues when the job is resumed",
        "store/transitions",
        "    elif status is JobStatus.PAUSED and has_run(journal):\n",
        "    elif False:\n",
        f"{CONTROL}::test_resume_reaches_the_run_that_waits",
    ),
    Patch(
        "a job without a run isn't running because it is resumed",
        "store/transitions",
        "    elif status is JobStatus.PAUSED and has_run(journal):\n",
        "    elif status is JobStatus.PAUSED:\n",
        f"{PAUSES}::test_resume_ends_the_pause_in_one_commit_and_what_has_failed_or_was_cancelled_is_pending",
    ),
    Patch(
        "a pause ends",
        "index/job_state",
        "    pause = None if record.ended else Pause(",
        "    pause = Pause(",
        f"{PAUSES}::test_resume_ends_the_pause_in_one_commit_and_what_has_failed_or_was_cancelled_is_pending",
    ),
    Patch(
        "a `journal run` of a paused job takes no input",
        "run/open_job",
        "        rules.check_start(job)\n",
        "",
        f"{CONTROL}::test_a_paused_job_is_not_run_and_the_start_takes_no_input",
    ),
    Patch(
        "a job that a person has paused is not pruned",
        "transfer/prune",
        "        if now.pause is not None:\n",
        "        if False:\n",
        f"{PAUSES}::test_prune_leaves_a_job_that_a_person_has_paused_and_delete_deletes_it",
    ),
    Patch(
        "a hint keeps a person's pause",
        "index/hint",
        "name: getattr(source, name) for name in Progress.__struct_fields__}",
        'name: getattr(source, name) for name in Progress.__struct_fields__ if name != "pause"}',
        "tests/index/test_hint.py::test_a_hint_knows_the_passes_the_pause_and_the_hold_of_a_job_and_the_attempts_before_each_retry",
    ),
    Patch(
        "the run of a job that has ended says that the job is paused",
        "run/plan",
        "    check_unpaused(job.id, job.pause)\n",
        "",
        "tests/service/test_pauses.py::test_a_run_of_a_job_that_has_ended_is_refused_while_a_person_has_paused_it",
    ),
]

"""What programs import: each public name, from where the documentation says."""

from __future__ import annotations

import pickle
from importlib import import_module

import pytest

import journal
from journal.errors import JobBusyError, JournalError, StepInDoubtError

PUBLIC = {
    "journal": """
        LOG_LEVELS VALID_ROW_TRANSITIONS VALID_TRANSITIONS AttemptedRow Batch
        BusyError InvalidInputError RefusedError SystemFailureError UnreadableError
        CommitOutcomeUnknownError CopiesDivergedError Entry Event Fail FormatVersionError Hold
        InvalidStateTransition InvalidValueError Job JobBusyError JobExistsError JobLockedError
        JobMismatchError JobNotFoundError JobPausedError JobPrunedError JobRow JobRun JobService JobStatus JobSummary
        InputSeen JournalDamagedError JournalError LogEntry MissingExtraError NeedsReview
        PackError Position Retry RowAttempt RowChangedError RowHistory
        RowLogHandler RowNotFoundError RowResult RowStatus RowStep Rows RunHolder RunReport
        ServiceClosedError Shard Skip StepInDoubtError StepRepeatedError
        StorageError Wait open_job read_rows
    """,
    "journal.transfer": "pack_job pack_to_file prune_jobs unpack_job preview_pull pull_job",
    "journal.repair": "repair_job",
    "journal.verify": "verify_job",
    "journal.tables": "export_rows",
    "journal.sets": "Part Whole list_sets look_at_set",
    "journal.report": "write_report report_page",
}
NAMES = [(module, name) for module, names in PUBLIC.items() for name in names.split()]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_a_public_name_is_where_the_documentation_says(module: str, name: str) -> None:
    names: dict[str, object] = {}
    exec(f"from {module} import {name}", names)
    assert names[name] is getattr(import_module(module), name)


def test_the_names_of_the_package_are_these_and_no_others() -> None:
    assert sorted(PUBLIC["journal"].split()) == sorted(journal.__all__)


def test_an_error_pickled_before_it_had_a_room_is_read() -> None:
    """An executor's worker may run another version: errors are pickled as ``journal.errors.…``."""
    for name in journal.__all__:
        kind = getattr(journal, name)
        if isinstance(kind, type) and issubclass(kind, JournalError):
            assert kind.__module__ == "journal.errors"
    error = pickle.loads(pickle.dumps(JobBusyError("j", "host", 7, "now")))
    assert (type(error), error.job_id, error.pid) == (JobBusyError, "j", 7)


def test_the_text_of_an_error_has_no_control_characters() -> None:
    """It may quote a journal from elsewhere, and Python prints it as it is."""
    error = StepInDoubtError("j:1", "\x1b[2J\u202e", 1)
    assert r"\x1b[2J\u202e" in str(error)
    assert str(error).isprintable()
    assert error.step == "\x1b[2J\u202e"

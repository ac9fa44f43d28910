"""What is read of the latest attempts, errors and messages of a job."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import journal.history.recent_activity
from journal import JobService
from journal.format.records import UNSET_TIME, HoldRecord, RowStatusRecord
from journal.history.history import History, read_history
from journal.history.recent_activity import Recent
from journal.store.transitions import put_record


def history(service: JobService) -> History:
    return read_history(service.store, "j")


@pytest.fixture
def service(tmp_path: Path) -> Any:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("J", job_id="j", row_data=[{}] * 2000)
        service.start_job("j")
        yield service


def attempt(service: JobService, *numbers: int) -> None:
    for number in numbers:
        service.start_row(f"j:{number}")
        service.complete_row(f"j:{number}")


def test_starts_whose_ends_were_not_read_are_forgotten(
    service: JobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.history.recent_activity, "_MAX_STARTS", 10)
    recent = Recent()
    for number in range(1, 12):
        service.start_row(f"j:{number}")
    recent.read(history(service))
    assert recent._outcomes.open_count == 0


def test_a_journal_that_was_replaced_is_read_anew(service: JobService) -> None:
    attempt(service, 1, 2, 3)
    recent = Recent()
    recent.read(history(service))
    service.update_status("j", "cancelled")
    service.delete_job("j")
    service.create_job("J", job_id="j", row_data=[{}] * 2000)
    service.start_job("j")
    attempt(service, 1)
    recent.read(history(service))
    assert (recent.ended, len(recent.took_s)) == (1, 1)


def test_rows_that_ended_before_the_last_run_do_not_count_for_its_rate(service: JobService) -> None:
    attempt(service, 1, 2)
    service.update_status("j", "paused")
    service.start_job("j")
    attempt(service, 3)
    recent = Recent()
    recent.read(history(service))
    assert recent.ended == 1
    job = service.get_job("j")
    assert job is not None
    assert job.last_run is not None
    assert recent.since == job.last_run.started_at
    assert len(recent.took_s) == 3


def test_what_a_person_settles_is_no_end_of_an_attempt_and_no_error_any_more(
    service: JobService,
) -> None:
    for number in (1, 2):
        service.start_row(f"j:{number}")
        service.fail_row(f"j:{number}", "E", "no")
    recent = Recent()
    recent.read(history(service))
    before = recent.quiet_since
    with JobService(service.root, person="ann@here") as by_hand:
        by_hand.retry_row("j:1")
    recent.read(history(service))
    assert recent.quiet_since == before
    assert [event.row_number for event in recent.errors] == [2]


def test_of_holds_without_anything_between_only_the_latest_change_is_an_event(
    service: JobService,
) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    for at in (until, None, until, datetime.now(UTC)):
        hold = HoldRecord(until=at, reason="503", at=UNSET_TIME)
        service.store.journal("j").change(put_record, hold)
    recent = Recent()
    recent.read(history(service))
    assert [event.text for event in recent.events if "hold" in event.kind] == [
        "one row is tried: 503"
    ]


def test_a_row_that_waits_has_ended_its_attempt(service: JobService) -> None:
    attempt(service, 1)
    service.start_row("j:2")
    recent = Recent()
    recent.read(history(service))
    before = recent.quiet_since
    waits = RowStatusRecord(row=2, status="pending", reset="wait", after_s=9.0, at=UNSET_TIME)
    service.store.journal("j").change(put_record, waits)
    recent.read(history(service))
    assert before is not None
    assert recent.quiet_since is not None
    assert recent.quiet_since > before


def test_only_attempts_of_the_last_run_say_whether_it_has_stalled(service: JobService) -> None:
    attempt(service, 1)
    service.update_status("j", "paused")
    service.start_job("j")
    service.start_row("j:2")
    recent = Recent()
    recent.read(history(service))
    begin = recent.quiet_since
    assert begin is not None
    late = begin + timedelta(hours=1)
    assert recent.stalled_s(begin, late) is None, "nobody knows how long its attempts take"
    service.complete_row("j:2")
    recent.read(history(service))
    assert recent.stalled_s(begin, late) is not None

"""Clocks that step back, that differ between processes, and that are far off."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from support.children import Child, journal_path, place_journal, read_all, seal_commits

from journal import JobService
from journal.repair import repair_job
from journal.transfer import pull_job
from journal.verify import verify_job

JOB = "timed"

# A process whose clock is set by orders: "SECONDS", off the real time, and then what to do.
OFF_CLOCK = """
import datetime, journal.format.records, journal.service

real = datetime.datetime
offset_s = 0

class Shifted(real):
    @classmethod
    def now(cls, tz=None):
        return real.now(tz) + datetime.timedelta(seconds=offset_s)

# The two places at which the package asks what time it is.
journal.format.records.datetime = journal.service.datetime = Shifted
service = JobService(root, sync="none")
tell("ready")
while True:
    words = hear().split()
    offset_s = float(words[0])
    row_id = f"{job_id}:{words[2]}"
    if words[1] == "row":
        at = service.complete_row(row_id).updated_at
    elif words[1] == "batch":
        with service.batch(job_id):
            service.start_row(row_id)
            offset_s -= 3600  # while the batch is open
            service.create_rows(job_id, [{"data": {}}])
            at = service.complete_row(row_id).updated_at
    elif words[1] == "job":
        job_id = words[2]
        at = service.create_job("Timed", job_id=job_id, row_data=[{"data": {}}] * 9).created_at
    else:
        at = service.update_status(job_id, words[2]).updated_at
    tell(at.isoformat())
"""


class Line(msgspec.Struct):
    at: datetime


def times_in(root: Path, job_id: str) -> list[datetime]:
    lines = journal_path(root, job_id).read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Line).at for line in lines]


def assert_never_back(root: Path, job_id: str) -> None:
    times = times_in(root, job_id)
    assert all(one <= next_one for one, next_one in pairwise(times)), times
    assert verify_job(root / job_id).findings == []


def order(child: Child, words: str) -> datetime:
    child.tell(words)
    return datetime.fromisoformat(child.hear())


def test_processes_whose_clocks_differ_by_days_never_write_a_time_before_the_last_one(
    tmp_path: Path,
) -> None:
    with Child(OFF_CLOCK, tmp_path, JOB) as ahead, Child(OFF_CLOCK, tmp_path, JOB) as behind:
        assert ahead.hear() == behind.hear() == "ready"
        begin = order(behind, f"-86400 job {JOB}")
        latest = order(ahead, "86400 row 1")
        assert latest - begin > timedelta(days=1.9)
        assert order(behind, "-86400 row 2") == latest
        assert order(behind, "-86400 batch 3") == latest
        assert order(behind, "-86400 status running") == latest
        later = order(ahead, "86400 batch 4")
        assert later >= latest
        assert order(behind, "-90000 row 5") == later
        assert order(behind, "172800 row 6") > later  # caught up: a clock that is right is followed
    assert_never_back(tmp_path, JOB)
    assert [row.status for row in read_all(tmp_path, JOB)[1][:6]] == ["completed"] * 6


FAR_OFF = {
    "1970, an empty clock battery": datetime(1970, 1, 1, 2, tzinfo=UTC),
    "2106, where 32 bits end": datetime(2106, 2, 8, tzinfo=UTC),
    "the last hours of 9999": datetime(9999, 12, 31, 22, tzinfo=UTC),
}


@pytest.mark.parametrize("then", FAR_OFF.values(), ids=FAR_OFF)
def test_a_job_of_a_clock_that_was_far_off_is_worked_on_listed_and_shown_as_any_other(
    tmp_path: Path, then: datetime
) -> None:
    offset_s = (then - datetime.now(UTC)).total_seconds()
    with Child(OFF_CLOCK, tmp_path, JOB) as child:
        assert child.hear() == "ready"
        made_at = order(child, f"{offset_s} job {JOB}")
        assert abs(made_at - then) < timedelta(hours=1)
        assert order(child, f"{offset_s} row 1") >= made_at
    with JobService(tmp_path) as service:
        service.start_job(JOB)
        service.start_row(f"{JOB}:2")
        service.fail_row(f"{JOB}:2", "E", "m")
        service.update_status(JOB, "failed")
        assert service.retry_failed_rows(JOB) == 1
        service.fail_row(f"{JOB}:2", "E", "m")
        assert service.redo_row(f"{JOB}:2").updated_at >= made_at
        service.fail_row(f"{JOB}:2", "E", "m")
        assert JOB in {job.id for job in service.list_jobs(since=made_at)}
        assert service.get_job_summary(JOB)["failed_rows"] == 1
        assert all(row.updated_at >= made_at for row in service.get_rows(JOB))
    assert_never_back(tmp_path, JOB)
    # Fourteen hours east of UTC, twelve hours west.
    for zone, arguments in (("XXX-14", ["list"]), ("XXX12", ["show", JOB])):
        done = subprocess.run(
            [sys.executable, "-m", "journal", "--root", str(tmp_path), *arguments],
            env={**os.environ, "TZ": zone},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), (zone, arguments)
        assert JOB in done.stdout


def test_times_of_whole_seconds_that_another_program_wrote_lead_to_no_time_without_a_fraction(
    tmp_path: Path,
) -> None:
    """The library that encodes times leaves out a fraction of 0, and such a time is damage."""
    at = b'"at":"2999-11-24T13:35:00.000000Z"}'
    first = b'{"type":"job","format":1,"id":"timed","name":"Timed",' + at
    row = b'{"type":"row","row":%d,"checksum":"c","data":{},'
    ours = [[first], [row % 1 + at, row % 2 + at]]
    theirs = [
        [b'{"type":"row_status","row":1,"status":"skipped",' + at],
        [b'{"type":"row_data","row":2,"checksum":"d","data":{},"key":"k","created_at":' + at[5:-1]
         + b"," + at],
    ]  # fmt: skip
    copy = place_journal(tmp_path / "copy", JOB, seal_commits([*ours, *theirs])).parent
    path = place_journal(tmp_path, JOB, seal_commits(ours))
    with JobService(tmp_path) as service:
        service.update_row_data(f"{JOB}:1", {"n": 1})
    assert pull_job(tmp_path, copy, merge=True).action == "merged"
    assert b"2999-11-24T13:35:00.000001Z" in path.read_bytes()
    assert verify_job(path.parent).findings == []
    path.write_bytes(path.read_bytes().replace(first[:40], b"#" * 40))
    repair_job(path.parent)
    assert verify_job(path.parent).findings == []

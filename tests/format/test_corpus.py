"""The corpus says what a reader in any language has to say of its journals; all of ours do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from corpus import judge, make
from corpus.cases import CASES
from msgspec.json import encode
from support.copies import relation_of
from support.paths import TESTS

from journal import (
    FormatVersionError,
    Job,
    JobMismatchError,
    JobRow,
    JobService,
    JournalDamagedError,
    JournalError,
    PackError,
)
from journal.format.commits import START
from journal.format.records import LogRecord
from journal.index.index import Index
from journal.index.replay import replay
from journal.model import HoldState, Pause
from journal.repair import repair_job
from journal.text import time_text
from journal.transfer import pack_to_file, unpack_job
from journal.transfer.copies import open_copy
from journal.verify import verify_job

CORPUS = TESTS / "corpus"
NAMES = sorted(path.stem for path in CORPUS.glob("*.jsonl"))
READ = {"good", "unended", "torn"}
KINDS = {"damaged": "damage"}
ERRORS: dict[str, type[JournalError]] = {
    "damaged": JournalDamagedError,
    "newer": FormatVersionError,
    "mismatch": JobMismatchError,
}


class Sample:
    """One journal of the corpus, in a store of its own, and what the corpus says of it."""

    def __init__(self, name: str, root: Path) -> None:
        self.said: dict[str, Any] = json.loads((CORPUS / f"{name}.json").read_bytes())
        self.verdict: str = self.said["verdict"]
        self.root = root
        self.job_id: str = self.said["directory"]
        self.directory = root / self.job_id
        self.directory.mkdir(parents=True)
        self.path = self.directory / "journal.jsonl"
        shutil.copy(CORPUS / f"{name}.jsonl", self.path)
        self.content = self.path.read_bytes()


def of_each_journal(check: Callable[[Sample], None]) -> Callable[[Path], None]:
    """Make one test of all journals. 1,500 tests would take three times as long."""

    def test(tmp_path: Path) -> None:
        for name in NAMES:
            try:
                check(Sample(name, tmp_path / name))
            except BaseException as error:
                error.add_note(f"of the journal {name}")
                raise

    return test


def members(job: Job) -> dict[str, Any]:
    """A job as the corpus states it."""
    names = (
        "id", "name", "original_command", "description", "mode", "metadata", "key",
        "passes", "error_code", "error_message", "repaired",
    )  # fmt: skip
    times = ("created_at", "started_at", "completed_at", "updated_at")
    by_status = ("pending", "processing", "completed", "failed", "skipped", "needs_review")
    return {
        **{name: getattr(job, name) for name in names},
        "id": job.id.partition("/")[0],
        **{name: at and time_text(at) for name in times for at in (getattr(job, name),)},
        "status": job.status.value,
        "cost_cents": job.total_cost_cents,
        **({"usage": job.usage} if job.usage else {}),
        **({"pause": _as_text(job.pause)} if job.pause else {}),
        **({"hold": _as_text(job.hold)} if job.hold else {}),
        **{
            name: limits
            for name in ("limits", "tuned")
            if (limits := getattr(job.last_run, name, None))
        },
        **{
            name: json.loads(encode(part))
            for name in ("shard", "input")
            if (part := getattr(job, name))
        },
        "counts": {
            "total": job.total_rows,
            "processed": job.processed_rows,
            "successful": job.successful_rows,
            "failed": job.failed_rows,
            "by_status": {name: getattr(job, f"{name}_count", None) for name in by_status},
        },
    }


def _as_text(state: Pause | HoldState) -> dict[str, str | None]:
    members = msgspec.structs.asdict(state).items()
    return {name: time_text(x) if isinstance(x, datetime) else x for name, x in members}


def row_members(row: JobRow) -> dict[str, Any]:
    names = (
        "data", "attempts", "tracking_number", "label_path", "cost_cents", "result", "error_code",
        "error_message", "reason", "earlier_attempts", "unknown", "version",
    )  # fmt: skip
    return {
        "key": row.idempotency_key,
        "row": row.row_number,
        "checksum": row.row_checksum,
        "status": row.status.value,
        "created_at": time_text(row.created_at),
        "updated_at": time_text(row.updated_at),
        **{name: getattr(row, name) for name in names},
        **({"usage": row.usage} if row.usage else {}),
        **({} if row.place is None else {"place": row.place}),
        **({} if row.traceback is None else {"traceback": row.traceback}),
        **({} if row.due is None else {"due": time_text(row.due)}),
        **({} if row.waiting_since is None else {"waiting_since": time_text(row.waiting_since)}),
    }


def step_members(service: JobService, row: JobRow) -> dict[str, Any]:
    """The steps of a row as the corpus states them, which are none where there are none."""
    steps = {
        step.name: {name: getattr(step, name) for name in make.OF_A_STEP}
        for step in service.get_steps(row.id)
    }
    return {"steps": steps} if steps else {}


def read_everything(sample: Sample) -> tuple[Job | None, list[JobRow], int]:
    """The job, its rows, and how many records there are. Raises what a reader says."""
    with JobService(sample.root) as service:
        service.list_jobs(on_error=lambda _: None)  # reads no more than line 1
        job = service.get_job(sample.job_id)
        rows = list(service.get_rows(sample.job_id))
        records = [entry.record for entry in service.get_history(sample.job_id)]
        logs = [record for record in records if isinstance(record, LogRecord)]
        assert len(list(service.get_logs(sample.job_id))) == len(logs)
        return job, rows, len(records)


def assert_as_said(sample: Sample, job: Job | None, rows: list[JobRow]) -> None:
    assert job is not None
    said = sample.said["job"]
    found = members(job)
    # A job counts completed and failed rows of its own, whatever counts were set to.
    statuses = [row.status.value for row in rows]
    for name in ("completed", "failed"):
        found["counts"]["by_status"][name] = statuses.count(name)
    assert found == said
    with JobService(sample.root) as service:
        stated = [row_members(row) | step_members(service, row) for row in rows]
    assert stated == sample.said["rows"]


@of_each_journal
def test_opening_says_what_the_corpus_says(sample: Sample) -> None:
    if sample.verdict in READ:
        job, rows, records = read_everything(sample)
        assert_as_said(sample, job, rows)
        assert records == sample.said["records"]
    else:
        with pytest.raises(ERRORS[sample.verdict]) as refused:
            read_everything(sample)
        if isinstance(refused.value, JournalDamagedError):
            place = refused.value.line, refused.value.offset
            assert place == (sample.said["line"], sample.said["offset"])
    assert sample.path.read_bytes() == sample.content
    assert [path.name for path in sample.directory.iterdir()] == ["journal.jsonl"]


@of_each_journal
def test_a_service_that_follows_a_journal_says_so_as_well(sample: Sample) -> None:
    """It has read the first commit, and then what follows appears."""
    first = sample.content[: sample.content.find(b'"}\n') + 3]
    sample.path.write_bytes(first)
    with JobService(sample.root) as service:
        try:
            service.get_job(sample.job_id)
        except JournalError:
            return  # there is no first commit that could be read
        sample.path.write_bytes(sample.content)
        if sample.verdict in READ:
            job = service.get_job(sample.job_id)
            assert_as_said(sample, job, list(service.get_rows(sample.job_id)))
        else:
            with pytest.raises(ERRORS[sample.verdict]):
                list(service.get_rows(sample.job_id))


@of_each_journal
def test_verify_says_what_the_corpus_says(sample: Sample) -> None:
    report = verify_job(sample.directory)
    if sample.verdict == "good":
        assert report.findings == []
    else:
        first = report.findings[0]
        kind = KINDS.get(sample.verdict, sample.verdict)
        assert (first.kind, first.line, first.offset) == (
            kind,
            sample.said["line"],
            sample.said["offset"],
        )
    if sample.verdict in READ:
        assert (report.commits, report.records, report.rows) == (
            sample.said["commits"],
            sample.said["records"],
            len(sample.said["rows"]),
        )


@of_each_journal
def test_repair_mends_what_is_damaged_and_leaves_what_is_newer(sample: Sample) -> None:
    if sample.verdict in {"newer", "mismatch"}:
        with pytest.raises(ERRORS[sample.verdict]):
            repair_job(sample.directory)
        assert sample.path.read_bytes() == sample.content
        return
    try:
        repair = repair_job(sample.directory)
    except JournalDamagedError:
        assert sample.verdict == "damaged"
        assert sample.said["offset"] == 0
        return
    assert verify_job(sample.directory).findings == []
    if sample.verdict in READ:
        assert repair.lossless
        job, rows, _ = read_everything(sample)
        assert_as_said(sample, job, rows)
    else:
        assert repair.actions or repair.lost_rows
        assert (sample.directory / "journal.damaged-1").read_bytes() == sample.content


@of_each_journal
def test_compare_and_unpack_say_what_the_corpus_says(sample: Sample) -> None:
    beside = sample.root.parent
    if sample.verdict in READ:
        assert relation_of(sample.directory, sample.directory) == "identical"
        pack = beside / f"{sample.root.name}.pack"
        pack_to_file(sample.directory, pack)
        sample.root = beside / f"{sample.root.name}.unpacked"
        found = unpack_job(sample.root, pack)
        assert found.rows == sum(sample.said["job"]["counts"]["by_status"].values())
        job, rows, _ = read_everything(sample)
        assert_as_said(sample, job, rows)
    elif sample.verdict == "mismatch":
        with suppress(JournalDamagedError):  # no directory may have the id
            assert open_copy(sample.directory).header.id != sample.job_id
    else:
        with pytest.raises((ERRORS[sample.verdict], PackError)):
            replay_and_read(sample)


def replay_and_read(sample: Sample) -> None:
    """Counts need no more of a record than its status: what else is wrong, reading all of it finds."""
    copy = open_copy(sample.directory)
    replay(Index(), copy.file, START, copy.end)
    read_everything(sample)


@of_each_journal
def test_a_writer_goes_on_behind_what_counts(sample: Sample) -> None:
    if sample.verdict not in READ:
        return
    whole = sample.content + b"\n" if sample.verdict == "unended" else sample.content
    if sample.verdict == "torn":
        whole = whole[: sample.said["offset"]]
    whole = whole.rstrip(b" ")
    with JobService(sample.root) as service:
        service.set_error(sample.job_id, "E", "written on")
    assert sample.path.read_bytes().startswith(whole + b'{"type":"job_error"')
    assert verify_job(sample.directory).findings == []
    tails = [path.read_bytes() for path in sample.directory.glob("journal.torn-*")]
    assert tails == ([sample.content[len(whole) :]] if sample.verdict == "torn" else [])


def test_a_second_reader_that_knows_the_pages_alone_gives_the_same_verdict() -> None:
    for case in CASES:
        verdict, at = judge.verdict(case.content)
        if verdict == "good":
            assert case.verdict in {"good", "mismatch"}, case  # it doesn't know the directory
        else:
            assert (verdict, at) == (case.verdict, case.offset), case


def test_the_corpus_is_what_its_generator_makes() -> None:
    made = dict(make.files())
    found = {path.name: path.read_bytes() for path in CORPUS.iterdir() if ".json" in path.name}
    assert found.keys() == made.keys()
    assert [name for name in made if made[name] != found[name]] == []


def test_each_kind_of_journal_is_in_the_corpus() -> None:
    verdicts = [json.loads((CORPUS / f"{name}.json").read_bytes())["verdict"] for name in NAMES]
    assert len(NAMES) >= 60
    assert set(verdicts) == READ | ERRORS.keys()
    assert len({json.loads((CORPUS / f"{name}.json").read_bytes())["why"] for name in NAMES}) > 60

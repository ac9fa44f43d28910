"""The history of one row is the same, whether the rest of the journal is read or not."""

from __future__ import annotations

import itertools
import random
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest
from support.children import journal_path
from support.effort import IS_LONG
from support.hints import CountingOs, fixture_disk
from support.platforms import needs_boot_ids, needs_descriptor_paths
from support.work import is_interrupted

import journal.format.commits
import journal.fs.system
import journal.index.hint
import journal.index.replay
import journal.index.spans
import journal.store.journal
from journal import JobService, JournalDamagedError, JournalError
from journal.format.commits import START, Position
from journal.fs.handles import JournalFile
from journal.history.events import Choice, last_events, read_events
from journal.history.reading import History
from journal.history.row_history import read_row_history
from journal.ids import MAX_ROW_NUMBER
from journal.index.columns import Columns
from journal.index.hint import read_hint
from journal.index.spans import SPAN_BYTES, Spans, are_valid
from journal.store.transitions import put_run

__all__ = ["fixture_disk"]

JOB = "j"
SMALL_BYTES = 300


@contextmanager
def small_spans() -> Iterator[None]:
    """Make spans of two or three records, spills of two commits, and a hint at each close."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.format.commits, "CHUNK_BYTES", SMALL_BYTES)
        patch.setattr(journal.format.commits, "PART_BYTES", SMALL_BYTES)
        patch.setattr(journal.index.replay, "SPAN_BYTES", SMALL_BYTES)
        patch.setattr(journal.store.journal, "SPAN_BYTES", SMALL_BYTES)
        patch.setattr(journal.store.journal, "SPILL_BYTES", 2 * SMALL_BYTES)
        patch.setattr(journal.index.hint, "MIN_BYTES", 1)
        yield


def read_in_parts_and_whole(service: JobService, number: int) -> tuple[Any, Any]:
    """Return the events and the history of a row twice: as they are read, and without spans."""
    row = service.get_row(f"{JOB}:{number}")
    assert row is not None
    found = []
    for spans in (None, Spans()):
        history = service._history(JOB)
        if spans is not None:
            history._spans = spans
        choice = Choice(rows=[range(number, number + 1)])
        found.append(
            (
                list(read_events(history, START, choice=choice)),
                last_events(history, 3, choice)[0],
                read_row_history(history, row, ()),
            )
        )
    return found[0], found[1]


class Undone(Exception):
    """Ends a batch, so that its changes are undone."""


class Writer:
    """Makes random changes of a job, by one of two services that have it open, in batches or not."""

    def __init__(self, root: Path, seed: int) -> None:
        self.luck = random.Random(seed)
        self.numbers = self.luck.choice([range(1, 30), range(10, 300, 10), range(60, 0, -2)])
        self.added = 10
        self.services = [JobService(root, sync="none") for _ in range(2)]
        self.services[0].create_job("J", job_id=JOB, row_data=self.rows(self.numbers[:10]))
        self.services[0].start_job(JOB)

    def rows(self, numbers: range) -> list[dict[str, Any]]:
        return [{"row_number": number, "data": {"n": number}} for number in numbers]

    def rows_that_end_early(self) -> Iterator[dict[str, Any]]:
        for number in self.numbers[self.added : self.added + 8]:
            yield {"row_number": number + 1, "data": {"pad": "x" * SMALL_BYTES}}
        raise Undone

    def change(self, service: JobService) -> None:
        """Make one change. Some are refused, such as to complete a row that isn't in processing."""
        luck, number = self.luck, self.luck.choice(self.numbers[: self.added])
        row_id = f"{JOB}:{number}"
        match luck.randrange(12):
            case 0 | 1:
                service.start_row(row_id)
            case 2 | 3:
                service.complete_row(row_id, "T" * luck.randrange(1, 200))
            case 4:
                service.fail_row(row_id, "E", "m" * luck.randrange(1, 400))
            case 5:
                service.retry_row(row_id)
            case 6:
                service.log(JOB, "about a row", row_number=number)
            case 7:
                with service._journal(JOB) as held:
                    put_run(held)
            case 8:
                more = self.numbers[self.added : self.added + luck.randrange(3)]
                service.create_rows(JOB, self.rows(more))
                self.added += len(more)
            case 9:
                with suppress(Undone):
                    service.create_rows(JOB, self.rows_that_end_early())
            case 10:
                service.update_row_data(row_id, {"n": luck.random()})
            case 11:
                service.record_step(row_id, f"step{luck.randrange(9)}")

    def work(self) -> None:
        service, added = self.luck.choice(self.services), self.added
        if self.luck.random() < 0.5:
            with suppress(JournalError):
                self.change(service)
            return
        try:
            with service.batch(JOB):
                for _ in range(self.luck.randrange(12)):
                    with suppress(JournalError):
                        self.change(service)
                if self.luck.random() < 0.4:
                    raise Undone
        except Undone:
            self.added = added


@pytest.mark.parametrize("seed", range(300 if IS_LONG else 30))
def test_a_row_has_the_same_history_as_without_spans(tmp_path: Path, seed: int) -> None:
    with small_spans():
        writer = Writer(tmp_path, seed)
        for _ in range(60):
            writer.work()
        for service in writer.services:
            for number in writer.numbers[: writer.added]:
                in_parts, whole = read_in_parts_and_whole(service, number)
                assert in_parts == whole
            service.close()
        with JobService(tmp_path) as service:  # from the hint
            for number in writer.numbers[: writer.added]:
                in_parts, whole = read_in_parts_and_whole(service, number)
                assert in_parts == whole


def make_large_job(root: Path) -> Path:
    """Make a job of 8 MiB: rows in one commit, and an attempt at each row. Return its journal."""
    with JobService(root, sync="none") as service:
        rows = ({"data": {"pad": "x" * 1000}} for _ in range(4000))
        service.create_job("J", job_id=JOB, row_data=rows)
        service.start_job(JOB)
        for number in range(1, 4001):
            with service.batch(JOB):
                service.start_row(f"{JOB}:{number}")
                service.complete_row(f"{JOB}:{number}", "T" * 800)
    return journal_path(root, JOB)


@needs_boot_ids
@needs_descriptor_paths
@pytest.mark.parametrize("has_hint", [True, False])
def test_the_history_of_a_row_takes_a_part_of_the_journal(
    tmp_path: Path, disk: CountingOs, has_hint: bool
) -> None:
    path = make_large_job(tmp_path)
    hint = path.with_name("index.hint")
    if not has_hint:
        hint.unlink()
    with JobService(tmp_path, sync="none") as service:
        service.get_job(JOB)
        before = disk.read_bytes
        history = service.get_row_history(f"{JOB}:2000")
        assert len(history.attempts) == 1
        assert 0 < disk.read_bytes - before < path.stat().st_size // 2


@needs_descriptor_paths
def test_a_bit_flip_in_the_number_of_a_row_is_named(tmp_path: Path) -> None:
    path = make_large_job(tmp_path)
    with JobService(tmp_path, sync="none") as service:
        service.get_job(JOB)
        place = path.read_bytes().index(b'"row_status","row":2000,') + len('"row_status","row":200')
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"1")
        with pytest.raises(JournalDamagedError) as raised:
            service.get_row_history(f"{JOB}:2000")
        assert raised.value.offset <= place


@needs_boot_ids
@pytest.mark.parametrize("field", [0, 1])
def test_a_hint_with_spans_of_another_journal_is_not_used(tmp_path: Path, field: int) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("J", job_id=JOB, row_data=[{"data": {}}])
    path = journal_path(tmp_path, JOB)
    hint = path.with_name("index.hint")
    file = JournalFile(path)
    assert read_hint(path.parent, file)
    line, _, columns = hint.read_bytes().partition(b"\n")
    spans = array("Q", columns[-32:])  # one span, at the end of the file
    for added, is_used in ((0, True), (1 << 32, False)):
        spans[field] += added
        crcs = b'"spans":[%d]' % crc32(columns[-32:]), b'"spans":[%d]' % crc32(spans.tobytes())
        body = line[:-18].replace(*crcs)
        new = body + b',"crc":"%08x"}\n' % crc32(body) + columns[:-32] + spans.tobytes()
        hint.write_bytes(new)
        assert (read_hint(path.parent, file) is not None) == is_used


# --- spans by themselves


def columns_of(count: int) -> Columns:
    columns = Columns()
    columns.statuses.extend(bytes(count))
    return columns


def test_a_span_mentions_the_rows_that_were_added_and_changed_in_it() -> None:
    spans = Spans()
    spans.end_at(Position(100, 1), columns_of(5))
    spans.add(3, 3)
    spans.end_at(Position(200, 2), columns_of(5))
    spans.add(2, 4)
    spans.end_at(Position(300, 3), columns_of(7))
    assert [(span.end.offset, span.low, span.high) for span in spans.until(250)] == [
        (100, 1, 5),
        (200, 3, 3),
    ]
    assert [(span.low, span.high) for span in spans.until(300)][-1] == (2, 7)


def test_a_span_whose_end_was_removed_goes_on_with_its_rows() -> None:
    spans = Spans()
    spans.add(9, 9)
    spans.end_at(Position(100, 1), columns_of(3))
    spans.add(5, 5)
    spans.end_at(Position(200, 2), columns_of(4))
    spans.cut(150, columns_of(3))
    assert spans.end == 100
    spans.end_at(Position(180, 3), columns_of(5))
    assert [(span.end.offset, span.low, span.high) for span in spans.until(999)] == [
        (100, 1, 9),
        (180, 4, 5),
    ]


@pytest.mark.parametrize(
    ("numbers", "is_valid"),
    [
        ([], False),
        ([10, 1, 1, 2, 20, 2, 0, 0], True),
        ([10, 1, 1, 2, 20, 2, 0], False),
        ([10, 1, 1, 2, 10, 2, 0, 0], False),
        ([10, 1, 1, 2], False),
        ([20, 1 << 32, 1, 2], False),
    ],
)
def test_numbers_that_can_not_be_spans_are_refused(numbers: list[int], is_valid: bool) -> None:
    assert are_valid(array("Q", numbers), 20) == is_valid


def test_a_history_reads_no_span_beyond_its_end(tmp_path: Path) -> None:
    with small_spans(), JobService(tmp_path, sync="none") as service:
        service.create_job("J", job_id=JOB, row_data=[{"data": {}}, {"data": {}}])
        service.start_job(JOB)
        history: History = service._history(JOB)
        lines = journal_path(tmp_path, JOB).read_bytes().splitlines()
        for _ in range(20):
            service.start_row(f"{JOB}:1")
            service.retry_row(f"{JOB}:1")
        assert [line for block in history.blocks_about(1) for line in block.lines] == lines


# --- undone spans, interrupts, other threads, other writers


def test_a_history_is_read_while_another_thread_undoes_a_spilled_batch(tmp_path: Path) -> None:
    with small_spans(), JobService(tmp_path, sync="none") as service:
        service.create_job("J", job_id=JOB, row_data=[{"data": {"pad": "x" * SMALL_BYTES}}] * 3)
        history: History = service._history(JOB)
        whole = [line for block in history.blocks() for line in block.lines]
        with suppress(Undone), service.batch(JOB):
            service.create_rows(JOB, [{"data": {"pad": "x" * SMALL_BYTES}}] * 9)
            blocks = history.blocks_about(1)
            first = next(blocks)
            raise Undone
        lines = [*first.lines, *(line for block in blocks for line in block.lines)]
        assert [line for line in lines if b'"row":1,' in line] == [
            line for line in whole if b'"row":1,' in line
        ]


@needs_boot_ids
def test_a_hint_that_is_written_where_a_span_has_ended_is_used(tmp_path: Path) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("J", job_id=JOB, row_data=[{"data": {"pad": "x" * SPAN_BYTES}}])
    path = journal_path(tmp_path, JOB)
    assert path.with_name("index.hint").exists()
    assert read_hint(path.parent, JournalFile(path)) is not None


@pytest.mark.parametrize("row", [MAX_ROW_NUMBER, MAX_ROW_NUMBER + 1, 1 << 64, -1, 0, True, 1.0])
def test_a_message_of_another_writer_may_be_about_any_number(tmp_path: Path, row: Any) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("J", job_id=JOB, row_data=[{"data": {}}, {"data": {}}])
    path = journal_path(tmp_path, JOB)
    commits = path.read_bytes()
    body = (
        b'{"type":"log","message":"%s","row":%s,"details":{"a":1},'
        b'"at":"2030-01-01T00:00:00.123456Z"'
    ) % (b"x" * SPAN_BYTES, msgspec.json.encode(row) if row != 1 << 64 else b"%d" % row)
    crc = crc32(body, int(commits[-11:-3], 16))
    path.write_bytes(commits + body + b',"crc":"%08x"}\n' % crc)
    with JobService(tmp_path, sync="none") as service:
        service.start_job(JOB)
        service.start_row(f"{JOB}:1")
        in_parts, whole = read_in_parts_and_whole(service, 1)
        assert in_parts == whole


@pytest.mark.parametrize("in_batch", [True, False])
def test_an_interrupt_at_any_step_of_a_spill_or_an_undo_changes_no_history(
    tmp_path: Path, in_batch: bool
) -> None:
    for wanted in itertools.count(1):
        root = tmp_path / str(wanted)
        root.mkdir()
        with small_spans(), JobService(root, sync="none") as service:
            service.create_job("J", job_id=JOB, row_data=[{"data": {}}] * 9)
            service.start_job(JOB)
            service.log(JOB, "m" * SMALL_BYTES, row_number=1)  # ends the span of the run
            act = partial(work_and_undo, service, in_batch=in_batch)
            was_interrupted = is_interrupted(wanted, act, journal.index.spans.__file__)
            for number in (9, 8, 1, 2, 3):
                service.start_row(f"{JOB}:{number}")
                service.log(JOB, "m" * SMALL_BYTES, row_number=number)
            for number in range(1, 10):
                in_parts, whole = read_in_parts_and_whole(service, number)
                assert in_parts == whole, wanted
        if not was_interrupted:
            return


def work_and_undo(service: JobService, *, in_batch: bool) -> None:
    """Undo changes of row 5 that were spilled, in a batch that is written, or with the batch."""
    with suppress(Undone, KeyboardInterrupt), service.batch(JOB):
        service.log(JOB, "m", row_number=4)
        with suppress(*(Undone, KeyboardInterrupt) if in_batch else ()):
            undo_spilled(service)
        service.log(JOB, "m" * SMALL_BYTES, row_number=6)


def undo_spilled(service: JobService) -> None:
    with service.batch(JOB):
        for _ in range(9):
            service.log(JOB, "m" * SMALL_BYTES, row_number=5)
        raise Undone

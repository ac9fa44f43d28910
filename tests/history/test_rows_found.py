"""The history of one row is found by a search of the file, and what is shown is verified."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest
from support.children import journal_path
from support.effort import IS_LONG

import journal.format.commits
import journal.history.history
import journal.index.hint
import journal.store.journal
from journal import JobService, JournalDamagedError, JournalError
from journal.format.commits import START, Block, Position
from journal.format.records import LogRecord
from journal.history.events import Choice, last_events, read_events
from journal.history.history import History
from journal.history.row_history import read_row_history
from journal.store.transitions import put_run

JOB = "j"
SMALL_BYTES = 300


@contextmanager
def small_pieces() -> Iterator[None]:
    """Search pieces of two or three records, and write batches in parts of two commits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.format.commits, "CHUNK_BYTES", SMALL_BYTES)
        patch.setattr(journal.history.history, "_PIECE_BYTES", SMALL_BYTES)
        patch.setattr(journal.store.journal, "SPILL_BYTES", 2 * SMALL_BYTES)
        patch.setattr(journal.index.hint, "MIN_BYTES", 1)
        yield


class WholeHistory(History):
    """Reads and verifies all lines of a journal."""

    def blocks_about(
        self, _number: int, begin: Position = START, end: Position | None = None
    ) -> Iterator[Block]:
        for block in self.blocks(begin, end):
            offset = block.offset
            for line in block.lines:
                yield block._replace(offset=offset, lines=[line])
                offset += len(line) + 1


def found_and_whole(service: JobService, number: int) -> tuple[Any, Any]:
    """Return the events and the history of a row twice: by a search, and by reading all lines."""
    row = service.get_row(f"{JOB}:{number}")
    assert row is not None
    found = []
    for kind in (History, WholeHistory):
        history = kind(service.store.journal(JOB))
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


@pytest.mark.parametrize("seed", range(300 if IS_LONG else 10))
def test_a_row_has_the_same_history_as_if_all_lines_were_read(tmp_path: Path, seed: int) -> None:
    with small_pieces():
        writer = Writer(tmp_path, seed)
        for _ in range(60):
            writer.work()
        for service in writer.services:
            for number in writer.numbers[: writer.added]:
                found, whole = found_and_whole(service, number)
                assert found == whole
            service.close()


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """The journal of a job with rows in one large commit, and with commits of their attempts."""
    with JobService(tmp_path, sync="none") as service:
        rows = ({"data": {"pad": "x" * 1000}} for _ in range(400))
        service.create_job("J", job_id=JOB, row_data=rows)
        service.start_job(JOB)
        for number in range(100, 300):
            service.start_row(f"{JOB}:{number}")
            service.complete_row(f"{JOB}:{number}", "T" * 800)
    return journal_path(tmp_path, JOB)


def change(path: Path, place: int, byte: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(byte)


@pytest.mark.parametrize(
    "line",
    [b'{"type":"row","row":200,', b'{"type":"row_status","row":200,', b'{"type":"run",'],
    ids=["added", "started", "the run"],
)
def test_a_byte_that_changed_in_a_line_that_is_shown_is_named(path: Path, line: bytes) -> None:
    with JobService(path.parents[1], sync="none") as service:
        assert len(service.get_row_history(f"{JOB}:200").attempts) == 1
        place = path.read_bytes().index(line)
        change(path, path.read_bytes().index(b'"at":"20', place) + 6, b"3")
        with pytest.raises(JournalDamagedError) as raised:
            service.get_row_history(f"{JOB}:200")
        assert raised.value.offset <= place


def test_a_seal_that_changed_before_a_line_that_is_shown_is_named(path: Path) -> None:
    with JobService(path.parents[1], sync="none") as service:
        service.get_job(JOB)
        place = path.read_bytes().index(b'{"type":"row_status","row":200,') - 4
        change(path, place, b"0" if path.read_bytes()[place : place + 1] != b"0" else b"1")
        with pytest.raises(JournalDamagedError):
            service.get_row_history(f"{JOB}:200")


def test_a_file_that_shrinks_under_a_reader_is_named(path: Path) -> None:
    with JobService(path.parents[1], sync="none") as service:
        history = service._history(JOB)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(JournalDamagedError):
            list(history.blocks_about(400))


def test_a_history_ends_where_it_was_made(tmp_path: Path) -> None:
    with small_pieces(), JobService(tmp_path, sync="none") as service:
        service.create_job("J", job_id=JOB, row_data=[{"data": {}}, {"data": {}}])
        service.start_job(JOB)
        service.start_row(f"{JOB}:1")
        history: History = service._history(JOB)
        lines = journal_path(tmp_path, JOB).read_bytes().splitlines()
        for _ in range(20):
            service.retry_row(f"{JOB}:1")
            service.start_row(f"{JOB}:1")
        found = [line for block in history.blocks_about(1) for line in block.lines]
        assert found == [line for line in lines if b'"row":1,' in line or b'"run"' in line]


def test_a_history_is_read_while_another_thread_undoes_a_spilled_batch(tmp_path: Path) -> None:
    with small_pieces(), JobService(tmp_path, sync="none") as service:
        service.create_job("J", job_id=JOB, row_data=[{"data": {"pad": "x" * SMALL_BYTES}}] * 3)
        service.start_row(f"{JOB}:1")
        history: History = service._history(JOB)
        with suppress(Undone), service.batch(JOB):
            service.create_rows(JOB, [{"data": {"pad": "x" * SMALL_BYTES}}] * 9)
            blocks = history.blocks_about(1)
            first = next(blocks)
            raise Undone
        lines = [*first.lines, *(line for block in blocks for line in block.lines)]
        assert [line[:30] for line in lines] == [
            b'{"type":"row","row":1,"checksu',
            b'{"type":"row_status","row":1,"',
        ]


def test_lines_of_another_writer_are_found_however_it_puts_spaces(tmp_path: Path) -> None:
    at = b'"at": "2030-01-01T00:00:00.123456Z"'
    add_lines(
        tmp_path,
        b'{"row" :\t1, "message": "hello", "type": "log", %b}' % at,
        b'{%b, "status": "skipped", "row": 1, "type": "row_status"}' % at,
    )
    with JobService(tmp_path, sync="none") as service:
        history = service.get_row_history(f"{JOB}:1")
        assert [entry.message for entry in history.logs] == ["hello"]
        assert [change.kind for change in history.changes] == ["skipped"]


def add_lines(root: Path, *lines: bytes) -> None:
    """Make a job of two rows, and add a commit of these lines."""
    with JobService(root, sync="none") as service:
        service.create_job("J", job_id=JOB, row_data=[{"data": {}}, {"data": {}}])
    path = journal_path(root, JOB)
    commits = path.read_bytes()
    body = b"\n".join(lines)[:-1]
    crc = crc32(body, int(commits[-11:-3], 16))
    path.write_bytes(commits + body + b',"crc":"%08x"}\n' % crc)


class Later(msgspec.Struct, tag_field="type", tag="row_later"):
    """A type of record that no table of the room ``history`` has."""

    row: int
    at: datetime
    note: str


class LaterHistory(History):
    """Returns a :class:`Later` in place of each message."""

    def record(self, block: Block, number: int) -> Any:
        record = super().record(block, number)
        return Later(1, record.at, record.message) if isinstance(record, LogRecord) else record


def test_a_type_that_no_table_has_is_an_event_and_a_change_of_its_row(tmp_path: Path) -> None:
    with JobService(tmp_path) as service:
        service.create_job("J", job_id=JOB, row_data=[{"data": {}}])
        service.log(JOB, "a note", row_number=1)
        row = service.get_row(f"{JOB}:1")
        assert row is not None
        with service.store.reading(JOB) as index:
            history = LaterHistory(index)
        *_, event = read_events(history, START)
        assert (event.kind, event.level, event.row_number) == ("row_later", "INFO", 1)
        assert event.details == {"note": "a note"}
        assert read_row_history(history, row, ()).changes == (event,)

"""All about one row is found without looking at each record of the journal."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.children import seal_commits, split_commits

import journal.format.extent
from journal import JobService, JournalDamagedError
from journal.format.commits import CHUNK_BYTES, START, Block, Position, verified_blocks
from journal.format.seal import SEAL_BYTES
from journal.fs.names import JOURNAL_NAME
from journal.history.events import Choice, read_events
from journal.history.reading import History
from journal.history.row_history import read_row_history

ROWS = 1200  # their commit takes more than one chunk
SAMPLE = [1, 2, 9, 10, 11, 99, 100, 101, 599, 600, ROWS - 1, ROWS]


def changed_often(service: JobService) -> None:
    random = Random(20)
    rows = [{"data": {"n": n, "like": {"row": n % 7}, "pad": "x" * 80}} for n in range(1, ROWS + 1)]
    service.create_job("Search", job_id="j", row_data=rows)
    assert (service.root / "j" / JOURNAL_NAME).stat().st_size > 2 * CHUNK_BYTES
    service.start_job("j", version="v1")
    for number in [*SAMPLE, *random.sample(range(1, ROWS + 1), 100)] * 2:
        if service.get_row(f"j:{number}").status == "pending":  # type: ignore[union-attr]
            service.start_row(f"j:{number}")
            service.log("j", "tried", row_number=number, details={"run": number})
            service.fail_row(f"j:{number}", "E", "no")
        else:
            service.retry_row(f"j:{number}")
    with service.batch("j"):
        for number in (*SAMPLE, *range(200, 300)):
            service.log("j", "in a batch, with much text: " + "y" * 1000, row_number=number)
    service.create_rows("j", [{"row_number": 5_000 + n, "data": {}} for n in range(3)])


@pytest.fixture(name="service", scope="module")
def fixture_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobService]:
    with JobService(tmp_path_factory.mktemp("search")) as service:
        changed_often(service)
        yield service


@pytest.fixture(name="search_bytes", params=[64, 1000, 1 << 20])
def fixture_search_bytes(request: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(journal.format.extent, "_SEARCH_BYTES", request.param)
    found: int = request.param
    return found


class EveryBlock(History):
    """A history that reads all blocks where it could search."""

    def blocks_of_row(
        self,
        number: int,  # noqa: ARG002
        begin: Position = START,
        end: Position | None = None,
        others: Collection[bytes] = (),  # noqa: ARG002
    ) -> Iterator[Block]:
        return self.blocks(begin, end)


def blocks_of_all(service: JobService) -> EveryBlock:
    with service._reading("j") as journal:
        return EveryBlock(journal)


@pytest.mark.usefixtures("search_bytes")
@pytest.mark.parametrize("number", [*SAMPLE, 5_001])
def test_the_events_of_a_row_are_those_of_a_look_at_all_records(
    service: JobService, number: int
) -> None:
    choice = Choice([range(number, number + 1)])
    found = list(read_events(service._history("j"), START, choice=choice))
    assert found == list(read_events(blocks_of_all(service), START, choice=choice))
    assert {event.row_number for event in found} == {number}


@pytest.mark.usefixtures("search_bytes")
@pytest.mark.parametrize("number", [*SAMPLE, 5_001])
def test_the_history_of_a_row_is_that_of_a_look_at_all_records(
    service: JobService, number: int
) -> None:
    row = service.get_row(f"j:{number}")
    assert row is not None
    found = read_row_history(service._history("j"), row, (), frozenset())
    assert found == read_row_history(blocks_of_all(service), row, (), frozenset())
    assert found.logs or number > ROWS


def test_few_commits_are_verified_for_one_row(
    service: JobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = []
    real = verified_blocks

    def counted(*arguments: Any, **options: Any) -> Iterator[Any]:
        for block in real(*arguments, **options):
            verified.append(block.commits)
            yield block

    monkeypatch.setattr(journal.format.extent, "verified_blocks", counted)
    list(read_events(service._history("j"), START, choice=Choice([range(5_001, 5_002)])))
    assert len(verified) == 1


def test_lines_of_other_writers_are_found(tmp_path: Path) -> None:
    with JobService(tmp_path) as service:
        service.create_job("Other", job_id="j", row_data=[{}, {}])
        service.start_row("j:2")
    path = tmp_path / "j" / JOURNAL_NAME
    lines = path.read_bytes()
    at = lines[lines.rindex(b'"at":') :][: len('"at":"2026-11-24T13:35:00.123456Z"')]
    other = b'{"type": "row_status", "row": 2, "status": "failed", ' + at + b"}"
    last = b'{"type":"log","message":"last","level":"INFO",' + at + b',"row":2}'
    commits = [commit.splitlines() for commit in split_commits(lines)]
    plain = [[*commit[:-1], commit[-1][:-SEAL_BYTES] + b"}"] for commit in commits]
    path.write_bytes(seal_commits([*plain, [other], [last]]))
    with JobService(tmp_path) as service:
        events = read_events(service._history("j"), START, choice=Choice([range(2, 3)]))
        assert [event.kind for event in events] == ["added", "started", "failed", "log"]


@pytest.mark.parametrize("number", [1, 600])
def test_damage_in_a_commit_of_the_row_is_named(tmp_path: Path, number: int) -> None:
    with JobService(tmp_path) as service:
        changed_often(service)
        service.log("j", "the text to damage", row_number=number)
        service.log("j", "another commit", row_number=number + 1)
        history = service._history("j")
    path = tmp_path / "j" / JOURNAL_NAME
    path.write_bytes(path.read_bytes().replace(b"to damage", b"of damage"))
    with pytest.raises(JournalDamagedError):
        list(read_events(history, START, choice=Choice([range(number, number + 1)])))


def test_a_journal_that_was_cut_meanwhile_is_named(tmp_path: Path) -> None:
    with JobService(tmp_path) as service:
        changed_often(service)
        history = service._history("j")
        choice = Choice([range(5_002, 5_003)])
        assert list(read_events(history, START, choice=choice))
        with (tmp_path / "j" / JOURNAL_NAME).open("r+b") as file:
            file.truncate(history.end.offset // 2)
        with pytest.raises(JournalDamagedError):
            list(read_events(history, START, choice=choice))


def test_reading_begins_and_ends_at_any_commit(service: JobService) -> None:
    history, every = service._history("j"), blocks_of_all(service)
    choice = Choice([range(100, 101)])
    ends: list[Position] = [block.after for block in every.blocks() if block.ends]
    for begin, end in zip(ends, ends[2:], strict=False):
        found = list(read_events(history, begin, end, choice))
        assert found == list(read_events(every, begin, end, choice))

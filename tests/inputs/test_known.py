"""An input that hasn't changed isn't read again; any doubt, and it is."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import journal
from journal.fs.names import INPUT_MARK_NAME
from journal.inputs import known, state
from journal.inputs.known import _read, _write
from journal.inputs.read import read_rows
from journal.run.input_match import Matched
from journal.transfer import pack_to_file

ROWS = 50
AN_HOUR_NS = 3600 * 10**9


@pytest.fixture(autouse=True)
def _small_inputs_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MIN_ROWS", 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "in.csv"
    file.write_text("".join(["order,zip\n", *(f"A-{n:03},{90000 + n}\n" for n in range(ROWS))]))
    return file


@pytest.fixture(params=["by its state", "by its checksum"])
def _how_a_file_is_known(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    is_young = request.param == "by its checksum"
    monkeypatch.setattr(state, "_TICK_NS", AN_HOUR_NS if is_young else 0)


def start(
    path: Path,
    *,
    reading: Callable[[int], object] = lambda _count: None,
    options: dict[str, Any] | None = None,
    **job: Any,
) -> tuple[int, Matched]:
    """Open the job beside the input. Returns how many rows were read, and what was found."""
    count = 0

    def check(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        nonlocal count
        for row in rows:
            count += 1
            reading(count)
            yield row

    rows = read_rows(path, **options or {})
    rows.check_by(check, "")
    with journal.open_job(path.parent / "jobs" / "ship", rows, **job) as opened:
        return count, opened.matched


def mark_of(path: Path) -> Path:
    return path.parent / "jobs" / "ship" / INPUT_MARK_NAME


NOTHING_NEW = 1, Matched()  # only the first row was read
READ_WHOLE = ROWS, Matched()


@pytest.mark.usefixtures("_how_a_file_is_known")
@pytest.mark.parametrize("key", [None, "order"])
def test_an_unchanged_input_is_not_read_again(path: Path, key: str | None) -> None:
    assert start(path, key=key) == (ROWS, Matched(added=ROWS))
    assert start(path, key=key) == NOTHING_NEW
    assert start(path, key=key, on_changed="ignore") == NOTHING_NEW


@pytest.mark.usefixtures("_how_a_file_is_known")
def test_an_input_is_known_after_it_has_grown(path: Path) -> None:
    start(path)
    with path.open("a") as file:
        file.write("A-999,1\n")
    assert start(path) == (ROWS + 1, Matched(added=1))
    assert start(path) == NOTHING_NEW


def test_rows_that_are_gone_are_counted_again(path: Path) -> None:
    start(path, key="order")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    assert start(path, key="order") == (ROWS - 2, Matched(gone=2))
    assert start(path, key="order") == (1, Matched(gone=2))


def test_a_mark_by_checksum_becomes_one_by_state_when_the_file_is_old(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "_TICK_NS", AN_HOUR_NS)
    start(path)
    mark = _read(mark_of(path).parent)
    assert mark is not None
    assert mark.read.sha256
    monkeypatch.setattr(state, "_TICK_NS", 0)
    assert start(path) == NOTHING_NEW
    assert _read(mark_of(path).parent) == msgspec.structs.replace(
        mark, read=msgspec.structs.replace(mark.read, sha256="")
    )
    assert start(path) == NOTHING_NEW


def test_statuses_of_rows_change_nothing(path: Path) -> None:
    start(path)
    with journal.JobService(path.parent / "jobs") as service:
        service.start_job("ship")
        service.fail_row("ship:1", "E", "no")
        service.retry_row("ship:1")
        service.complete_row("ship:2")
        service.redo_row("ship:2")
        service.update_status("ship", "paused")
    assert start(path) == NOTHING_NEW


# --- what changes the file -----------------------------------------------------------------------


def rewrite(path: Path) -> None:
    path.write_bytes(path.read_bytes())


def touch(path: Path) -> None:
    os.utime(path, ns=(0, 0))


def copy(path: Path) -> None:
    other = path.with_suffix(".other")
    shutil.copy2(path, other)
    other.replace(path)


@pytest.mark.usefixtures("_how_a_file_is_known")
@pytest.mark.parametrize("change", [rewrite, touch, copy])
def test_a_file_that_was_written_again_is_read_again(
    path: Path, change: Callable[[Path], object]
) -> None:
    start(path)
    change(path)
    assert start(path) == READ_WHOLE
    assert start(path) == NOTHING_NEW


def test_a_change_in_the_same_tick_and_of_the_same_size_is_found(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "_TICK_NS", AN_HOUR_NS)
    start(path, key="order")
    path.write_text(path.read_text().replace("A-025,90025", "A-925,90025"))
    directory = mark_of(path).parent
    mark = _read(directory)
    read = state.read_state(str(path))
    assert mark is not None
    assert read is not None
    # As if the clock had not ticked between the two.
    forged = msgspec.structs.replace(mark.read, state=read.state)
    _write(directory, msgspec.structs.replace(mark, read=forged))
    assert start(path, key="order") == (ROWS, Matched(added=1, gone=1))


@pytest.mark.usefixtures("_how_a_file_is_known")
def test_a_file_that_changes_while_it_is_read_is_read_again(path: Path) -> None:
    def change(count: int) -> None:
        if count == ROWS // 2:
            path.write_text(path.read_text())

    start(path, reading=change)
    assert not mark_of(path).exists()
    assert start(path) == READ_WHOLE


# --- what changes the job ------------------------------------------------------------------------


def edit_row(service: journal.JobService) -> None:
    service.update_row_data("ship:7", {"order": "A-006", "zip": "1"})


def add_row(service: journal.JobService) -> None:
    service.create_rows("ship", [{"data": {"order": "B-1", "zip": "1"}}])


@pytest.mark.parametrize(
    ("change", "gone"), [(edit_row, 0), (add_row, 1)], ids=["a row edited", "a row added"]
)
def test_the_input_is_read_again_after_data_of_the_job_has_changed(
    path: Path, change: Callable[[journal.JobService], object], gone: int
) -> None:
    start(path)
    with journal.JobService(path.parent / "jobs") as service:
        change(service)
    assert start(path) == (ROWS, Matched(gone=gone))
    assert start(path) == (1, Matched(gone=gone))


@pytest.mark.parametrize("change", [edit_row, add_row])
def test_nothing_is_kept_if_somebody_changes_the_job_while_the_input_is_read(
    path: Path, change: Callable[[journal.JobService], object]
) -> None:
    start(path)
    mark_of(path).unlink()

    def interfere(count: int) -> None:
        if count == ROWS // 2:
            with journal.JobService(path.parent / "jobs") as service:
                change(service)

    assert start(path, reading=interfere)[0] == ROWS
    assert not mark_of(path).exists()


def test_rows_that_a_restored_backup_lacks_are_added(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-5]))
    start(path)
    file = path.parent / "jobs" / "ship" / "journal.jsonl"
    backup = file.read_bytes()
    path.write_text("".join(lines))
    start(path)
    assert start(path) == NOTHING_NEW
    file.write_bytes(backup)
    assert start(path) == (ROWS, Matched(added=5))


def test_the_mark_of_another_job_is_not_used(path: Path) -> None:
    start(path)
    mark = mark_of(path).read_bytes()
    with journal.JobService(path.parent / "jobs") as service:
        service.delete_job("ship")
    lines = path.read_text().splitlines(keepends=True)
    other = path.with_name("other.csv")
    other.write_text("".join(lines[:10]))
    start(other)
    mark_of(path).write_bytes(mark)
    assert start(path) == (ROWS, Matched(added=ROWS - 9))


def test_changed_rows_are_found_at_each_start(path: Path) -> None:
    start(path)
    path.write_text(path.read_text().replace("90025", "90026"))
    for _ in range(2):
        assert start(path, on_changed="ignore") == (ROWS, Matched(changed=1))
        with pytest.raises(journal.RowChangedError):
            start(path)


# --- what is compared otherwise ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "job"),
    [
        pytest.param({"recheck": True}, {}, id="recheck"),
        pytest.param({"encoding": "cp1252"}, {}, id="encoding"),
        pytest.param({"delimiter": ","}, {}, id="delimiter"),
        pytest.param({}, {"key": "order"}, id="key"),
        pytest.param({}, {"key": lambda data: data["order"]}, id="function"),
        pytest.param({}, {"row_type": dict[str, str]}, id="type"),
    ],
)
def test_an_input_that_is_read_or_compared_otherwise_is_read_again(
    path: Path, options: dict[str, Any], job: dict[str, Any]
) -> None:
    start(path)
    assert start(path, options=options, **job) == READ_WHOLE


def test_functions_and_types_are_never_known(path: Path) -> None:
    for _ in range(2):
        assert start(path, key=lambda data: data["order"])[0] == ROWS
    for _ in range(2):
        assert start(path, row_type=dict[str, str])[0] == ROWS
    assert not mark_of(path).exists()


def test_keys_that_occur_twice_are_found_in_an_unchanged_input(path: Path) -> None:
    path.write_text(path.read_text().replace("A-007", "A-006"))
    start(path)
    assert start(path) == NOTHING_NEW
    with pytest.raises(journal.InvalidValueError, match="an earlier row has the same key"):
        start(path, key="order")


# --- the mark ------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff" * 500, None])
def test_a_mark_that_is_missing_or_damaged_is_not_used(path: Path, damage: bytes | None) -> None:
    start(path)
    if damage is None:
        mark_of(path).unlink()
    else:
        mark_of(path).write_bytes(damage)
    assert start(path) == READ_WHOLE
    assert start(path) == NOTHING_NEW


def test_no_flipped_bit_of_a_mark_is_taken_for_it(path: Path) -> None:
    start(path)
    sound = mark_of(path).read_bytes()
    for place in range(0, len(sound) * 8, 37):
        flipped = bytearray(sound)
        flipped[place // 8] ^= 1 << place % 8
        mark_of(path).write_bytes(flipped)
        assert _read(mark_of(path).parent) is None


def test_an_input_whose_file_was_replaced_has_the_columns_of_its_rows(path: Path) -> None:
    rows = read_rows(path)
    assert len(list(rows)) == ROWS
    path.write_text("id,city\n1,Bonn\n")
    assert list(rows) == [{"id": "1", "city": "Bonn"}]
    assert rows.columns == ["id", "city"]


def test_few_rows_leave_no_mark(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MIN_ROWS", ROWS + 1)
    start(path)
    start(path)
    assert not mark_of(path).exists()


def test_a_copy_of_the_job_continues_and_a_pack_leaves_the_mark_out(path: Path) -> None:
    start(path)
    root = path.parent / "copies"
    shutil.copytree(path.parent / "jobs", root)
    with journal.open_job(root / "ship", read_rows(path)) as job:
        assert job.matched == Matched()
    packed = pack_to_file(root / "ship", path.parent / "ship.tar.gz")
    assert list(packed.left_out) == []
    assert [file.name for file in packed.manifest.files] == ["journal.jsonl"]


def test_rows_that_were_taken_from_an_input_are_always_read(path: Path) -> None:
    with journal.open_job(path.parent / "jobs" / "ship", iter(read_rows(path))):
        pass
    assert not mark_of(path).exists()


def test_a_job_that_was_replaced_before_the_mark_was_kept_is_compared(path: Path) -> None:
    root, other = path.parent / "jobs", path.with_name("other.csv")
    other.write_text(path.read_text().replace("A-", "B-"))
    rows = read_rows(path)
    with journal.JobService(root) as service:
        comparison = known.Comparison(rows, service, "ship", None, None, None, None)
        comparison.begin(0)
        first = service.create_job("ship", job_id="ship", row_data=[{"data": row} for row in rows])
        service.delete_job("ship")
        service.create_job(
            "ship", job_id="ship", row_data=[{"data": row} for row in read_rows(other)]
        )
        comparison.keep(first.created_at, ROWS)
        assert mark_of(path).exists()
    with pytest.raises(journal.RowChangedError):
        start(path)

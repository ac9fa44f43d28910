"""open_job(..., shard=(3, 64)): one input, worked on by several jobs that share no file."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from support.nodes import OsOfNode

import journal
from journal import InvalidValueError, JobBusyError, JobService, RefusedError, RunReport
from journal.fs import system
from journal.sets.input_rows import Split
from journal.sets.shard_choice import RESTARTS, VARIABLES
from journal.sets.shard_states import look_at_set
from journal.transfer import prune_jobs

Data = dict[str, Any]
ORDERS: list[Data] = [{"id": f"a{n}", "n": n} for n in range(1, 41)]


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*RESTARTS, *(name for names in VARIABLES for name in names)):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs" / "ship"


def run(path: Path, shard: Any, rows: Any = ORDERS, **options: Any) -> tuple[list[Any], RunReport]:
    """Run one shard; the rows that were handled, and the report."""
    with journal.open_job(path, rows, shard=shard, **options) as job:
        handled: list[Any] = []

        def handle(row: journal.JobRow) -> int:
            handled.append(row)
            return int(row.data["n"])

        return handled, job.run(handle, progress=False)


def shard_in_theory(key: str, count: int) -> int:
    return int(sha256(key.encode()).hexdigest(), 16) % count


def test_each_row_is_handled_by_the_shard_of_its_key_which_its_number_names(path: Path) -> None:
    seen: dict[str, str] = {}
    for index in range(4):
        handled, report = run(path, (index, 4), key="id")
        assert report.job.id == f"ship/{index:03}-of-004"
        assert [row.row_number for row in handled] == [
            index + 1 + 4 * ordinal for ordinal in range(len(handled))
        ]
        for row in handled:
            key = row.data["id"]
            assert shard_in_theory(f'"{key}"', 4) == index
            assert (row.id, row.job_id) == (f"ship:{row.row_number}", "ship")
            assert row.idempotency_key == f"ship:id={key}"
            assert row.place == row.data["n"]
            seen[key] = row.id
    assert seen.keys() == {row["id"] for row in ORDERS}
    with JobService(path.parent) as service:
        for key, row_id in seen.items():
            row = service.get_row(row_id)
            assert row is not None
            assert row.data["id"] == key
        assert service.redo_row(seen["a1"]).status == "pending"


def test_without_a_key_the_position_chooses_the_shard_and_is_the_number(path: Path) -> None:
    for index in range(3):
        handled, _ = run(path, (index, 3), ORDERS[:10])
        assert [row.row_number for row in handled] == [row.data["n"] for row in handled]
        assert [row.data["n"] for row in handled] == list(range(index + 1, 11, 3))
    handled, _ = run(path, (1, 3), ORDERS[:12])
    assert [row.id for row in handled] == ["ship:11"]


@pytest.mark.parametrize(
    ("key", "made"),
    [
        (("id", "n"), 'ship:id,n=["a1",1]'),
        (lambda data: data["n"], "ship:=1"),
        (lambda data: float(data["n"]), "ship:=1"),
    ],
    ids=["columns", "function", "floats"],
)
def test_the_idempotency_key_comes_from_the_set_and_the_key_and_never_from_the_shard(
    path: Path, key: Any, made: str
) -> None:
    for count in (2, 5):
        rows = [row for index in range(count) for row in run(path, (index, count), key=key)[0]]
        assert next(row for row in rows if row.data["n"] == 1).idempotency_key == made
        with JobService(path.parent) as service:
            for index in range(count):
                service.delete_job(f"ship/{index:03}-of-{count:03}")
        assert not path.exists()


def test_a_shard_takes_new_rows_under_its_next_number_wherever_they_are(path: Path) -> None:
    for index in range(2):
        run(path, (index, 2), key="id")
    rows = [{"id": "b1", "n": 0}, *reversed(ORDERS)]
    new = [row for index in range(2) for row in run(path, (index, 2), rows, key="id")[0]]
    assert [(row.data["id"], row.place) for row in new] == [("b1", 1)]
    index = shard_in_theory('"b1"', 2)
    with JobService(path.parent) as service:
        shard = service.get_rows(f"ship/{index:03}-of-002")
        assert shard[-1].row_number == shard[-2].row_number + 2 == new[0].row_number
        assert shard[0].place == shard[0].data["n"]


def test_shards_that_have_seen_another_input_are_named_until_they_start_with_it(path: Path) -> None:
    for index in range(3):
        run(path, (index, 3), key="id")
    more = [*ORDERS, {"id": "b1", "n": 41}]
    others = []
    for index in range(3):
        with journal.open_job(path, more, key="id", shard=(index, 3)) as job:
            others.append([int(other[-10:-7]) for other in job.matched.other_inputs])
            assert job.job.input is not None
            assert job.job.input.rows == 41
    assert others == [[1, 2], [2], []]


@pytest.mark.parametrize(
    "rows", [[*ORDERS[1:], ORDERS[0]], ORDERS[:-1]], ids=["shifted", "shorter"]
)
def test_without_a_key_another_beginning_of_the_input_is_refused(path: Path, rows: Any) -> None:
    run(path, (0, 3))
    with pytest.raises(RefusedError, match=r"doesn't begin with the 40 rows that ship/000-of-003"):
        run(path, (1, 3), rows)
    assert not (path / "001-of-003").exists()
    assert run(path, (1, 3), [*ORDERS, {"n": 41}])[1].exit_code == 0


@pytest.mark.parametrize("damage", ["damaged", "cut"])
def test_without_a_key_no_shard_starts_while_the_input_of_another_is_not_known(
    path: Path, damage: str
) -> None:
    for index in range(2):
        run(path, (index, 3))
        run(path / "../keyed", (index, 3), key="id")
    for set_id in ("ship", "keyed"):
        file = path.with_name(set_id) / "001-of-003/journal.jsonl"
        data = file.read_bytes()
        lines = data.splitlines(keepends=True)
        file.write_bytes(b"x" + data[1:] if damage == "damaged" else b"".join(lines[:1]))
    for index in (0, 2):
        with pytest.raises(
            RefusedError, match=r"can't be compared with the input of ship/001-of-003"
        ):
            run(path, (index, 3), [*ORDERS, {"id": "b", "n": 41}])
        assert run(path / "../keyed", (index, 3), key="id")[1].exit_code == 0
    assert not (path / "002-of-003").exists()


def test_a_key_that_changes_its_type_is_refused_by_its_shard(path: Path) -> None:
    numbers, texts = ([{"id": kind(n), "n": n} for n in range(20)] for kind in (int, str))
    for index in range(4):
        run(path, (index, 4), numbers, key="id")
        with pytest.raises(InvalidValueError, match="a key must keep its type"):
            run(path, (index, 4), texts, key="id")


@pytest.mark.parametrize("key", ["id", ("id", "n"), lambda data: data["id"]])
def test_a_key_belongs_to_the_same_shard_as_number_and_as_text(path: Path, key: Any) -> None:
    seen = []
    for kind, values in {
        "numbers": [7, 0, -8, 1.5, 9.0, 1e22, 1 << 60, *range(20, 30)],
        "texts": ["7", "0", "-8", "1.50", " 9", "1e22", str(1 << 60), *map(str, range(20, 30))],
    }.items():
        rows = [{"id": value, "n": n} for n, value in enumerate(values)]
        for index in range(3):
            taken, report = run(path / kind, (index, 3), rows, key=key)
            assert report.job.input is not None
            seen.append(([row.data["n"] for row in taken], report.job.input.digest))
    assert seen[:3] == seen[3:]


def test_a_set_takes_no_job_into_its_directory(path: Path) -> None:
    run(path, (0, 3), key="id")
    for shard in (None, (0, 2)):
        with pytest.raises(InvalidValueError, match="is a set of shards, whose"):
            run(path / "other", shard, key="id")
    assert [child.name for child in path.iterdir()] == ["000-of-003"]


@pytest.mark.parametrize(
    ("shard", "options", "message"),
    [
        ((0, 5), {"key": "id"}, "ship is a set of 4 shards: give that count"),
        (None, {"key": "id"}, "is a set of shards: give the shard to start"),
        ((True, 4), {}, "an index and a count"),
        ((1, 4), {"key": "n"}, "the key of ship/000-of-004 is 'id'"),
        ((1, 4), {"key": ("id", "n")}, "the key of ship/000-of-004 is 'id'"),
        ((0, 4), {"key": lambda data: data["id"]}, "the key of ship/000-of-004 is 'id'"),
        ((4, 4), {}, r"^shard: must be .*0 <= index < count <= 999999, not 4/4"),
        ((-1, 4), {}, "0 <= index < count"),
        ("3/0", {}, "0 <= index < count"),
        ("3", {}, "'auto/64'"),
        ("auto/4", {}, "none of SLURM_ARRAY_TASK_ID"),
        ("auto/4", {}, "is set, or the array was empty: nothing is open; by hand, "),
        ("auto/4", {}, "set SLURM_ARRAY_TASK_ID=0, or give 0/4, to start shard 0"),
        ("MISSING/4", {}, "variable MISSING must be set to a number from 0$"),
    ],
)
def test_what_does_not_fit_the_set_is_refused_by_name(
    path: Path, shard: Any, options: Any, message: str
) -> None:
    run(path, (0, 4), key="id")
    with pytest.raises(InvalidValueError, match=message):
        run(path, shard, **options)


def test_the_task_that_slurm_starts_for_an_empty_array_is_told_that_nothing_is_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4294967294")
    with pytest.raises(InvalidValueError, match="the array was empty: nothing is open"):
        run(path, "auto/4", key="id")


def test_a_job_and_a_set_of_one_name_refuse_each_other(path: Path) -> None:
    with journal.open_job(path, ORDERS):
        pass
    with pytest.raises(InvalidValueError, match="is a job, and not a set of shards"):
        run(path, (0, 2))
    with pytest.raises(InvalidValueError, match=r"is a shard: give .* and shard=\(0, 2\)"):
        journal.open_job(path.with_name("set") / "000-of-002", ORDERS)


def test_a_job_that_appears_while_a_shard_is_moved_to_its_set_does_not_get_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(path, (1, 2))
    rename = os.rename

    class Os:
        def rename(self, *names: Any, **options: Any) -> None:
            if names[-1] == path / "000-of-002":
                monkeypatch.undo()
                shutil.rmtree(path)
                with journal.open_job(path, ORDERS):
                    pass
            rename(*names, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

    monkeypatch.setattr(system, "os", Os())
    with pytest.raises(JobBusyError):
        run(path, (0, 2))
    assert not any(each.is_dir() for each in path.iterdir())
    assert not list(path.with_name(".staging").iterdir())


def test_a_shard_in_another_place_or_set_belongs_to_another_job(path: Path) -> None:
    run(path, (0, 2))
    (path / "000-of-002").rename(path / "001-of-002")
    with pytest.raises(journal.JobMismatchError, match="ship/000-of-002"):
        run(path, (1, 2))
    path.rename(path.with_name("other"))
    with pytest.raises(journal.JobMismatchError), JobService(path.parent) as service:
        service.get_job("other/001-of-002")


@pytest.mark.parametrize("variable", [name for names in VARIABLES for name in names])
def test_auto_takes_the_number_of_the_task_modulo_the_count(
    path: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "7")
    assert run(path, "auto/4")[1].job.id == "ship/003-of-004"
    with pytest.raises(InvalidValueError, match="0 <= index < count"):
        run(path, f"{variable}/4")


def test_the_command_to_paste_sets_the_variable_that_the_index_came_from(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HQ_TASK_ID", "9")
    for shard in ("auto/4", "HQ_TASK_ID/16", (2, 3)):
        with journal.open_job(path.with_name(f"ship-{len(shard)}"), ORDERS, shard=shard) as job:
            job.run(lambda _: None, progress=False)
            assert (last := job.job.last_run) is not None
            assert (last.argv[:2] == ("env", "HQ_TASK_ID=9")) == isinstance(shard, str)
            assert not job.job.original_command.startswith("env")


def test_two_schedulers_are_refused_until_a_variable_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InvalidValueError, match="name one, such as SLURM_ARRAY_TASK_ID/4"):
        run(path, "auto/4")
    assert run(path, "SLURM_ARRAY_TASK_ID/4")[1].job.id == "ship/002-of-004"
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    assert run(path, "auto/4")[1].job.id == "ship/000-of-004"


@pytest.mark.parametrize(("variable", "first"), RESTARTS.items())
def test_a_restarted_task_whose_job_is_gone_starts_only_anew(
    path: Path, variable: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(first - 1))
    run(path, (0, 2), ORDERS[:2])
    monkeypatch.setenv(variable, str(first))
    assert run(path, (0, 2), ORDERS[:2])[1].started == 0
    with pytest.raises(RefusedError, match=f"{variable} is {first}.*anew=True"):
        run(path, (1, 2), ORDERS[:2])
    assert run(path, (1, 2), ORDERS[:2], anew=True)[1].started == 1


@pytest.mark.parametrize("shard", [(0, 2), None])
def test_an_existing_job_is_continued_and_none_is_made(path: Path, shard: Any) -> None:
    with pytest.raises(journal.JobNotFoundError) as refused:
        run(path, shard, ORDERS[:4], existing=True)
    assert "leave existing out" in refused.value.__notes__[0]
    assert not path.exists()
    run(path, shard, ORDERS[:2])
    assert run(path, shard, ORDERS[:4], existing=True)[1].added == (1 if shard else 2)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert [each.action for each in prune_jobs(path.parent, tomorrow)] == ["deleted"]
    with pytest.raises(journal.JobPrunedError):
        run(path, shard, ORDERS[:4], existing=True)


def test_a_row_of_a_shard_keeps_its_place_when_its_data_changes(path: Path) -> None:
    for rows in (ORDERS, [{**row, "n": row["n"] + 100} for row in reversed(ORDERS)]):
        run(path, (0, 2), rows, key="id", on_changed="redo")
    with JobService(path.parent) as service:
        for row in service.get_rows("ship/000-of-002"):
            assert row.data["n"] == 100 + (row.place or 0)
            assert row.idempotency_key == f"ship:id={row.data['id']}#2"


@pytest.mark.parametrize("limit", [{"rate": "9/s"}, {"max_rows": 50}, {"limit_per": {"id": 1}}, {}])
def test_a_start_says_that_its_limits_are_those_of_one_shard(path: Path, limit: Any) -> None:
    said: list[str] = []
    for shard in ((0, 2), None):
        where = path if shard else path.with_name("whole")
        with journal.open_job(where, ORDERS[:4], key="id", shard=shard) as job:
            job.run(lambda row: row.data["n"], tell=said.append, **limit)
    found = [text for text in said if "this shard alone, one of 2" in text]
    assert len(found) == bool(limit)


def test_a_key_that_a_person_has_changed_is_compared_as_it_was_in_the_input(path: Path) -> None:
    key = ("id", "n")
    handled, _ = run(path, (0, 2), key=key)
    with JobService(path.parent) as service:
        service.redo_row(handled[0].id)
        service.update_row_data(handled[0].id, {"other": 1})
    with journal.open_job(path, ORDERS, key=key, shard=(0, 2)) as job:
        assert (job.matched.added, job.matched.gone) == (0, 0)


def in_the_middle(rows: list[Data], act: Callable[[], object]) -> Iterator[Data]:
    """The rows. After the first one, ``act`` is called."""
    yield rows[0]
    act()
    yield from rows[1:]


@pytest.mark.parametrize(
    ("other", "others_key"), [(ORDERS[::-1], None), (ORDERS, "id"), (ORDERS[:-1], None)]
)
def test_of_two_starts_at_once_with_another_input_or_key_one_is_refused(
    path: Path, other: list[Data], others_key: str | None
) -> None:
    rows = in_the_middle(ORDERS, lambda: run(path, (1, 2), other, key=others_key))
    with pytest.raises((RefusedError, InvalidValueError), match="ship/001-of-002"):
        run(path, (0, 2), rows)
    assert not (path / "000-of-002").exists()
    assert run(path, (0, 2), other, key=others_key)[1].exit_code == 0


def test_of_two_starts_at_once_with_other_new_rows_the_later_one_adds_none(path: Path) -> None:
    for index in range(2):
        run(path, (index, 2))
    more = [*ORDERS, {"id": "b", "n": 41}]
    other = [*ORDERS, {"id": "c", "n": 42}]
    rows = in_the_middle(more, lambda: run(path, (1, 2), other))
    with pytest.raises(RefusedError, match="ship/001-of-002 has meanwhile"):
        run(path, (0, 2), rows)
    assert [row.data["id"] for row in run(path, (0, 2), other)[0]] == ["c"]


def test_on_a_network_a_start_sees_the_shards_that_another_node_has_made_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_another_node() -> None:
        with monkeypatch.context() as other:
            other.setattr(system, "os", os)
            run(path, (1, 2), [*ORDERS, {"id": "c", "n": 42}])

    monkeypatch.setenv("JOURNAL_NETWORK", "1")
    run(path, (0, 2))
    monkeypatch.setattr(system, "os", OsOfNode(path))
    with pytest.raises(RefusedError, match="ship/001-of-002 has meanwhile"):
        run(path, (0, 2), in_the_middle([*ORDERS, {"id": "b", "n": 41}], on_another_node))


@pytest.mark.parametrize("is_new", [False, True])
def test_of_two_starts_that_commit_at_once_one_starts_no_row(
    path: Path, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    for index in range(0 if is_new else 2):
        run(path, (index, 2))
    compare_with_others = Split._compare_with_others

    def and_then_start_another(split: Split) -> None:
        compare_with_others(split)
        monkeypatch.undo()
        run(path, (1, 2), [*ORDERS, {"id": "c", "n": 42}])

    monkeypatch.setattr(Split, "_compare_with_others", and_then_start_another)
    with pytest.raises(RefusedError, match="ship/001-of-002 has meanwhile"):
        run(path, (0, 2), [*ORDERS, {"id": "b", "n": 41}])
    if is_new:
        assert not (path / "000-of-002").exists()
        return
    with JobService(path.parent) as service:
        assert service.get_rows("ship/000-of-002")[-1].status == "pending"
    with pytest.raises(RefusedError, match="doesn't begin with the 41 rows that ship/001-of-002"):
        run(path, (0, 2), [*ORDERS, {"id": "b", "n": 41}])


def test_a_row_is_found_after_its_set_was_made_anew_with_another_count(path: Path) -> None:
    run(path, (1, 2))
    with JobService(path.parent) as service:
        assert service.store.locate("ship:4") == ("ship/001-of-002", 4)
        shutil.rmtree(path)
        run(path, (0, 3))
        assert service.redo_row("ship:4").status == "pending"


def test_the_input_of_a_set_is_the_last_that_a_start_has_seen_even_if_shorter(path: Path) -> None:
    def of_another_input() -> list[int]:
        with JobService(path.parent) as service:
            whole = look_at_set(service, "ship")
        return [part.index for part in whole.parts if part.has_other_input]

    for index in range(3):
        run(path, (index, 3), key="id")
    run(path, (1, 3), ORDERS[:-1], key="id")
    assert of_another_input() == [0, 2]
    run(path, (2, 3), key="id")  # the shorter one was a mistake
    assert of_another_input() == [1]
    run(path, (1, 3), key="id")
    assert of_another_input() == []


def test_a_shard_on_which_another_start_has_worked_is_not_removed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare_with_others(*_: Any) -> None:
        monkeypatch.undo()
        run(path, (0, 2), key="id")
        raise RefusedError("another input")

    monkeypatch.setattr(Split, "_compare_with_others", compare_with_others)
    with pytest.raises(RefusedError, match="another input"):
        run(path, (0, 2), key="id")
    with JobService(path.parent) as service:
        assert {row.status.value for row in service.get_rows("ship/000-of-002")} == {"completed"}


def test_shards_of_two_counts_in_one_directory_are_refused(path: Path, tmp_path: Path) -> None:
    run(path, (0, 2), key="id")
    run(tmp_path / "elsewhere" / "ship", (0, 3), key="id")
    (tmp_path / "elsewhere" / "ship" / "000-of-003").rename(path / "000-of-003")
    with pytest.raises(RefusedError, match="000-of-002 and ship/000-of-003"):
        run(path, (0, 2), key="id")
    with JobService(path.parent) as service:
        with pytest.raises(RefusedError, match="of several sets"):
            service.redo_row("ship:1")
        with pytest.raises(RefusedError, match="of several sets"):
            look_at_set(service, "ship")

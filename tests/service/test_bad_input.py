"""What can't be recorded is refused by name, and the journal stays as it is to the byte."""

import itertools
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, tzinfo
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from journal import (
    InvalidStateTransition,
    InvalidValueError,
    JobNotFoundError,
    JobService,
    JournalError,
    RowNotFoundError,
    StorageError,
)

JOB_ID = "ship"
TOO_LONG = "x" * (64 << 20)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    """A store with one job; its rows are 1, 2, 3 (completed) and 10."""
    with JobService(tmp_path / "jobs", sync="none") as service:
        service.create_job("Ship", job_id=JOB_ID)
        service.create_rows(JOB_ID, [{}, {}, {}, {"row_number": 10}])
        service.complete_row(f"{JOB_ID}:3", cost_cents=5)
        yield service


def state_of(service: JobService) -> tuple[object, ...]:
    """All bytes below the root, locks aside, and what the service says of the job."""
    files = {
        path.relative_to(service.root): path.read_bytes() if path.is_file() else None
        for path in service.root.rglob("*")
        if path.name not in {"run.lock", "lock"}
    }
    job, rows = service.get_job(JOB_ID), list(service.get_rows(JOB_ID))
    return files, job, service.get_job_summary(JOB_ID), rows


def refused(
    service: JobService,
    call: Callable[[], object],
    named: str,
    kind: type[JournalError] = InvalidValueError,
) -> None:
    """``call`` raises ``kind`` with ``named`` in its message, and changes nothing."""
    before = state_of(service)
    with pytest.raises(kind, match=re.escape(named)) as caught:
        call()
    assert type(caught.value) is kind
    assert len(str(caught.value)) < 2000
    assert state_of(service) == before
    with JobService(service.root, sync="none") as again:
        assert state_of(again) == before
        again.set_error(JOB_ID, "E", "and it all goes on")


def self_holding_list() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


def self_holding_dict() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["again"] = {"deeper": [value]}
    return value


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


class BrokenRepr:
    def __repr__(self) -> str:
        raise RuntimeError


class AllEqual:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


# --- ids

BAD_JOB_IDS: list[Any] = [
    *("", ".", "..", "../x", "a/../../x", "a/b", "a\\b", "/etc", "c:x", "x" * 129, "Ship", "größe"),
    *("a.", ".staging", "-a", "_a", "a b", "ship\n", "a\x00", "\ud800", "con", "nul.txt", "lpt9"),
    *("com1.tar.gz", b"ship", 5, ["ship"], Path("ship")),
]
# By the method of a service, what else it takes.
OF_A_JOB: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(["get_job", "delete_job", "get_logs", "get_history", "get_job_summary"], ()),
    **dict.fromkeys(["get_rows", "get_pending_rows", "get_failed_rows", "retry_failed_rows"], ()),
    **dict.fromkeys(["reopen_job", "start_job", "recover_job", "run_holder", "artifacts_dir"], ()),
    "update_status": ("running",),
    "update_counts": (1,),
    "set_error": ("E", "m"),
    "log": ("m",),
    "create_rows": ([{}],),
}
OF_A_ROW: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(["get_row", "start_row", "complete_row", "skip_row", "retry_row"], ()),
    "fail_row": ("E", "m"),
}


@pytest.mark.parametrize("name", [*OF_A_JOB, "batch", "create_job"])
def test_a_malformed_job_id_is_refused_everywhere(service: JobService, name: str) -> None:
    def call(service: JobService, job_id: Any) -> object:
        if name == "batch":
            return service.batch(job_id).__enter__()
        if name == "create_job":
            return service.create_job("x", job_id=job_id)
        return getattr(service, name)(job_id, *OF_A_JOB[name])

    for job_id in BAD_JOB_IDS if name == "create_job" else (None, *BAD_JOB_IDS):
        a_malformed_job_id_is_refused(service, job_id, call)


def a_malformed_job_id_is_refused(
    service: JobService, job_id: Any, call: Callable[[JobService, Any], object]
) -> None:
    named = repr(job_id)[:80].rstrip("'") if isinstance(job_id, str) else repr(job_id)
    with pytest.raises(InvalidValueError, match="job_id") as caught:
        call(service, job_id)
    assert named in str(caught.value)
    assert sorted(path.name for path in service.root.iterdir()) == [".staging", JOB_ID]
    assert sorted(path.name for path in service.root.parent.iterdir()) == ["jobs"]


BAD_ROW_IDS: list[Any] = [
    *("", "ship", "ship:", ":1", "1", "ship:0", "ship:-1", "ship:+1", "ship:01", "ship:1.0"),
    *("ship:1e1", "ship:1_0", "ship: 1", "ship:1\n", "ship:\u0661", "ship:" + "9" * 20, "ship:1:1"),
    *("SHIP:1", "../jobs/ship:1", "con:1", "ship/1", b"ship:1", 1, None, ("ship", 1)),
]


@pytest.mark.parametrize("name", OF_A_ROW)
def test_a_malformed_row_id_is_refused_everywhere(service: JobService, name: str) -> None:
    def call(row_id: Any) -> Any:
        return getattr(service, name)(row_id, *OF_A_ROW[name])

    for row_id in BAD_ROW_IDS:
        refused(service, partial(call, row_id), repr(row_id) if row_id != "" else "row_id")
    if name != "get_row":
        refused(service, partial(call, "ship:4"), "'ship:4'", RowNotFoundError)
        refused(service, partial(call, "shop:1"), "'shop'", JobNotFoundError)


# --- rows


def after_good_rows(*bad: Any) -> list[Any]:
    """Bad elements behind good ones, so that there is something to take back."""
    return [{"data": {"good": 1}}, {"row_number": 20}, *bad]


BAD_ROWS: list[tuple[list[Any], str]] = [
    ([{"row_number": 30}, {"row_number": 30}], "row 30"),
    ([{}, {"row_number": 21}], "row 21"),
    ([{"row_number": 2}], "row 2"),
    ([{"row_number": 10}], "row 10"),
    ([{"row_number": 3}], "row 3"),
    ([{"row_number": 0}], "element 3: row_number"),
    ([{"row_number": -1}], "element 3: row_number"),
    ([{"row_number": True}], "element 3: row_number"),
    ([{"row_number": False}], "element 3: row_number"),
    ([{"row_number": 30.0}], "element 3: row_number"),
    ([{"row_number": "30"}], "element 3: row_number"),
    ([{"row_number": Decimal(30)}], "element 3: row_number"),
    ([{"row_number": [30]}], "element 3: row_number"),
    ([{"row_number": 2**63}], "element 3: row_number"),
    ([{"row_number": 10**30}], "element 3: row_number"),
    ([{"row_number": 2**63 - 1}, {}], "element 4: row_number"),
    ([{"row_checksum": 5}], "row 21: row_checksum"),
    ([{"row_checksum": b"a"}], "row 21: row_checksum"),
    ([{"row_checksum": "\ud800"}], "row 21: row_checksum"),
    ([{"data": []}], "row 21: data"),
    ([{"data": "text"}], "row 21: data"),
    ([{"data": 0}], "row 21: data"),
    ([{"data": b""}], "row 21: data"),
    ([{"data": {}, "name": 1}], "name"),
    ([{"row_id": 1}], "row_id"),
    ([{1: 2}], "row 21"),
    ([{"row_number": 30, "data": {}, "row_checksum": "", "x": 1}], "x"),
    ([None], "element 3"),
    (["row"], "element 3"),
    ([5], "element 3"),
    ([["data", {}]], "element 3"),
    ([[("data", {})]], "element 3"),
    ([SimpleNamespace(data={})], "element 3"),
]


def test_one_bad_row_refuses_the_whole_call(service: JobService) -> None:
    for bad, named in BAD_ROWS:
        refused(service, partial(service.create_rows, JOB_ID, after_good_rows(*bad)), named)
    rows = iter(after_good_rows(None))
    refused(service, lambda: service.create_rows(JOB_ID, rows), "element 3")


def test_row_data_that_is_no_iterable_of_mappings_is_refused(service: JobService) -> None:
    kinds: list[Any] = ["rows", "", b"rows", {"data": {}}, {}, None, 5, object]
    for row_data in kinds:
        refused(service, partial(service.create_rows, JOB_ID, row_data), "row_data")


def test_a_bad_row_behind_many_good_ones_takes_them_all_back(service: JobService) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for n in range(15_000):
            yield {"data": {"n": n, "text": "x" * 60}}
        yield {"data": {"price": float("nan")}}

    refused(service, lambda: service.create_rows(JOB_ID, rows()), "row 15011: data.price")


# --- values that JSON would change

BAD_VALUES: list[tuple[Any, str, str]] = [
    (float("nan"), "", "nan"),
    (float("inf"), "", "inf"),
    (float("-inf"), "", "-inf"),
    ([1, {"b": float("nan")}], "[1].b", "nan"),
    ((1, (float("nan"),)), "[1][0]", "nan"),
    ("\ud800", "", "\\ud800"),
    ("text \udfff.", "", "\\udfff"),
    ({"b": ["\udc80"]}, ".b[0]", "\\udc80"),
    ({"\ud800": 1}, "", "\\ud800"),
    ([{"b": {"x\udfff": 1}}], "[0].b", "\\udfff"),
    ({None: "a"}, "", "None"),
    ({True: "a"}, "", "True"),
    ({("a",): "a"}, "", "('a',)"),
    ([{"b": {2: 1, "2": 3}}], "[0].b", "'2'"),
    (1j, "", "complex"),
    (object(), "", "object"),
    (SimpleNamespace(a=1), "", "namespace"),
    (BrokenRepr(), "", "BrokenRepr"),
    (AllEqual(), "", "AllEqual"),
    (int, "", "int"),
    (len, "", "len"),
    ((n for n in "ab"), "", "generator"),
    (nested(99), "", "deep"),
    (nested(1000), "", "deep"),
    (nested(200_000), "", "deep"),
    (self_holding_list(), "", "deep"),
    ({"b": [self_holding_list()]}, ".b[0]", "deep"),
    (self_holding_dict(), "", "deep"),
    ({1j}, "", "complex"),
    (Decimal("NaN"), "", "finite"),
    (Decimal("1e400"), "", "double"),
]


@pytest.mark.parametrize(("value", "path", "named"), BAD_VALUES, ids=itertools.count())
def test_data_that_json_would_change_is_refused_by_its_path(
    service: JobService, value: Any, path: str, named: str
) -> None:
    calls: dict[str, Callable[[], object]] = {
        "row 21: data": partial(
            service.create_rows, JOB_ID, after_good_rows({"data": {"a": value}})
        ),
        "result": partial(service.complete_row, "ship:2", result={"a": value}),
        "metadata": partial(service.create_job, "x", metadata={"a": value}),
    }
    for where, call in calls.items():
        refused(service, call, named)
        with pytest.raises(InvalidValueError, match=where) as caught:
            call()
        assert f"{where}.a{path}" in str(caught.value) or "deep" in str(caught.value)
    with pytest.raises(InvalidValueError, match="result"):
        service.complete_row("ship:2", result=[value])


# --- records that are too long


def test_a_row_over_64_mib_is_refused_by_its_number(service: JobService) -> None:
    rows = after_good_rows({"data": {"text": TOO_LONG}})
    refused(service, lambda: service.create_rows(JOB_ID, rows), "row ship:21")


def test_a_result_over_64_mib_is_refused_by_its_row(service: JobService) -> None:
    refused(service, lambda: service.complete_row("ship:2", result=TOO_LONG), "ship:2")


def test_a_record_that_is_too_long_leaves_the_rest_of_its_batch_alone(service: JobService) -> None:
    with service.batch(JOB_ID):
        service.complete_row("ship:1")
        with pytest.raises(InvalidValueError):
            service.complete_row("ship:2", result=TOO_LONG)
        with pytest.raises(InvalidValueError):
            service.create_rows(JOB_ID, after_good_rows({"data": {"text": TOO_LONG}}))
    with JobService(service.root, sync="none") as again:
        assert state_of(again) == state_of(service)
        assert [row.row_number for row in again.get_rows(JOB_ID, "completed")] == [1, 3]


# --- text, counts, costs, statuses, times

NOT_TEXT: list[Any] = [5, b"text", ["text"], "a\ud800b"]
TEXTS: dict[str, tuple[str, Callable[[JobService, Any], object]]] = {
    "name": ("name", lambda service, bad: service.create_job(bad)),
    "command": ("original_command", lambda service, bad: service.create_job("x", bad)),
    "mode": ("mode", lambda service, bad: service.create_job("x", mode=bad)),
    "job error code": ("error_code", lambda service, bad: service.set_error(JOB_ID, bad, "m")),
    "job error": ("error_message", lambda service, bad: service.set_error(JOB_ID, "E", bad)),
    "row error code": ("error_code", lambda service, bad: service.fail_row("ship:2", bad, "m")),
    "row error": ("error_message", lambda service, bad: service.fail_row("ship:2", "E", bad)),
    "log": ("message", lambda service, bad: service.log(JOB_ID, bad)),
}
OPTIONAL_TEXTS: dict[str, tuple[str, Callable[[JobService, Any], object]]] = {
    "description": ("description", lambda service, bad: service.create_job("x", "", bad)),
    "reason": ("reason", lambda service, bad: service.skip_row("ship:2", bad)),
    "tracking": ("tracking_number", lambda service, bad: service.complete_row("ship:2", bad)),
    "label": ("label_path", lambda service, bad: service.complete_row("ship:2", label_path=bad)),
}


@pytest.mark.parametrize("what", TEXTS | OPTIONAL_TEXTS)
def test_text_must_be_text_that_utf_8_holds(service: JobService, what: str) -> None:
    named, call = (TEXTS | OPTIONAL_TEXTS)[what]
    for bad in NOT_TEXT if what in OPTIONAL_TEXTS else (None, *NOT_TEXT):
        refused(service, partial(call, service, bad), f"{named}: ")


BAD_COUNTS: list[Any] = [
    *(-1, True, False, 1.0, float("nan"), "1", Decimal(1), 2**63, 10**5000, [1])
]


def test_a_count_must_be_an_int_from_zero(service: JobService) -> None:
    for bad in BAD_COUNTS:
        for name in ("total", "processed", "successful", "failed"):
            refused(service, partial(service.update_counts, JOB_ID, **{name: bad}), f"{name}: ")
        for name in ("limit", "offset"):
            refused(service, partial(service.list_jobs, **{name: bad}), f"{name}: ")


BAD_STATUSES: list[Any] = ["", "done", "PENDING", " pending", 0, ["pending"], b"pending"]


def test_an_unknown_status_or_policy_is_refused(service: JobService) -> None:
    for bad in BAD_STATUSES:
        calls: list[Callable[[], object]] = [
            partial(service.update_status, JOB_ID, bad),
            partial(service.list_jobs, bad),
            partial(service.get_rows, JOB_ID, [bad]),
            partial(service.can_transition, bad, "running"),
            partial(service.can_transition, "pending", bad),
        ]
        for call in calls:
            refused(service, call, repr(bad) if bad != "" else "must be one of")
    policies: list[Any] = ["", "Review", "ignore", None, 0, ["review"]]
    for bad in policies:
        refused(service, partial(service.recover_job, JOB_ID, bad), "policy: ")
        refused(service, partial(service.start_job, JOB_ID, bad), "on_interrupted: ")
    assert service.run_holder(JOB_ID) is None


class Nowhere(tzinfo):
    """A time zone that doesn't know its offset: its times are naive."""

    def utcoffset(self, _: datetime | None) -> None:
        return None

    dst = utcoffset

    def tzname(self, _: datetime | None) -> str:
        return "nowhere"


def test_a_moment_must_be_an_aware_datetime(service: JobService) -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001  (what is refused)
    nowhere = datetime(2026, 1, 1, tzinfo=Nowhere())
    moments: list[Any] = [naive, nowhere, date(2026, 1, 1), "2026-01-01T00:00:00Z", 1_767_225_600]
    for bad in moments:
        refused(service, partial(service.list_jobs, since=bad), "since: ")


# --- the store


def test_a_root_must_be_a_path() -> None:
    roots: list[Any] = ["", None, 5, b"jobs", "jobs\x00"]
    for root in roots:
        with pytest.raises(InvalidValueError, match="root: "):
            JobService(root)


@pytest.mark.parametrize("inside", ["jobs", "a/b/jobs"])
def test_a_root_below_a_file_is_refused_by_its_path(tmp_path: Path, inside: str) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    root = path / inside
    with JobService(root) as service:
        with pytest.raises(StorageError, match=re.escape(str(root))) as caught:
            service.create_job("x")
        assert caught.value.path == str(root)
        assert service.get_job("x") is None
    assert path.read_text() == "precious"


@pytest.mark.parametrize("bad", [-1, -0.5, float("nan"), "10", None, [1]], ids=repr)
def test_a_lock_timeout_must_be_a_number_from_zero(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(InvalidValueError, match="lock_timeout_s: "):
        JobService(tmp_path, lock_timeout_s=bad)


def test_a_refusal_inside_a_batch_changes_none_of_it(service: JobService) -> None:
    with service.batch(JOB_ID):
        service.complete_row("ship:1")
        for call in (
            lambda: service.complete_row("ship:2", result={"a": float("nan")}),
            lambda: service.complete_row("ship:2", cost_cents=-1),
            lambda: service.create_rows(JOB_ID, after_good_rows({"data": {"a": 1j}})),
            lambda: service.create_rows(JOB_ID, after_good_rows({"row_number": 1})),
            lambda: service.update_counts(JOB_ID, total=-1),
            lambda: service.get_rows(JOB_ID, "done"),
            lambda: service.complete_row("ship:1"),
        ):
            with pytest.raises((InvalidValueError, InvalidStateTransition)):
                call()
    with JobService(service.root, sync="none") as again:
        assert state_of(again) == state_of(service)
        assert [row.row_number for row in again.get_rows(JOB_ID)] == [1, 2, 3, 10]
        assert [row.row_number for row in again.get_rows(JOB_ID, "completed")] == [1, 3]

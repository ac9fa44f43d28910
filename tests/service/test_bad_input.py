"""What can't be recorded is refused by name, and the journal stays as it is to the byte."""

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

BAD_JOB_IDS = [
    pytest.param("", id="empty"),
    pytest.param(".", id="dot"),
    pytest.param("..", id="parent"),
    pytest.param("../x", id="traversing"),
    pytest.param("a/../../x", id="traversing inside"),
    pytest.param("a/b", id="slash"),
    pytest.param("a\\b", id="backslash"),
    pytest.param("/etc", id="absolute"),
    pytest.param("c:x", id="drive"),
    pytest.param("x" * 129, id="over-long"),
    pytest.param("Ship", id="upper case"),
    pytest.param("größe", id="not ascii"),
    pytest.param("a.", id="trailing dot"),
    pytest.param(".staging", id="leading dot"),
    pytest.param("-a", id="leading dash"),
    pytest.param("_a", id="leading underscore"),
    pytest.param("a b", id="space"),
    pytest.param("ship\n", id="trailing newline"),
    pytest.param("a\x00", id="nul character"),
    pytest.param("\ud800", id="lone surrogate"),
    pytest.param("con", id="device"),
    pytest.param("nul.txt", id="device with suffix"),
    pytest.param("com1.tar.gz", id="device with two suffixes"),
    pytest.param("lpt9", id="printer"),
    pytest.param(b"ship", id="bytes"),
    pytest.param(5, id="int"),
    pytest.param(["ship"], id="list"),
    pytest.param(Path("ship"), id="path"),
]
JOB_ID_CALLS: list[Any] = [
    pytest.param(lambda service, job_id: service.get_job(job_id), id="get_job"),
    pytest.param(lambda service, job_id: service.create_job("x", job_id=job_id), id="create_job"),
    pytest.param(lambda service, job_id: service.delete_job(job_id), id="delete_job"),
    pytest.param(
        lambda service, job_id: service.update_status(job_id, "running"), id="update_status"
    ),
    pytest.param(
        lambda service, job_id: service.update_status(job_id, "paused"), id="update_status pause"
    ),
    pytest.param(
        lambda service, job_id: service.update_counts(job_id, total=1), id="update_counts"
    ),
    pytest.param(lambda service, job_id: service.set_error(job_id, "E", "m"), id="set_error"),
    pytest.param(lambda service, job_id: service.log(job_id, "m"), id="log"),
    pytest.param(lambda service, job_id: service.get_logs(job_id), id="get_logs"),
    pytest.param(lambda service, job_id: service.get_history(job_id), id="get_history"),
    pytest.param(lambda service, job_id: service.get_job_summary(job_id), id="get_job_summary"),
    pytest.param(lambda service, job_id: service.create_rows(job_id, [{}]), id="create_rows"),
    pytest.param(lambda service, job_id: service.get_rows(job_id), id="get_rows"),
    pytest.param(lambda service, job_id: service.get_pending_rows(job_id), id="get_pending_rows"),
    pytest.param(lambda service, job_id: service.get_failed_rows(job_id), id="get_failed_rows"),
    pytest.param(lambda service, job_id: service.retry_failed_rows(job_id), id="retry_failed_rows"),
    pytest.param(lambda service, job_id: service.reopen_job(job_id), id="reopen_job"),
    pytest.param(lambda service, job_id: service.start_job(job_id), id="start_job"),
    pytest.param(lambda service, job_id: service.recover_job(job_id), id="recover_job"),
    pytest.param(lambda service, job_id: service.run_holder(job_id), id="run_holder"),
    pytest.param(lambda service, job_id: service.batch(job_id).__enter__(), id="batch"),
    pytest.param(lambda service, job_id: service.artifacts_dir(job_id), id="artifacts_dir"),
]


# None asks create_job for an id.
NONE_CALLS = [one for one in JOB_ID_CALLS if one.id != "create_job"]


@pytest.mark.parametrize("call", NONE_CALLS)
def test_none_is_no_job_id_where_a_job_must_be_there(
    service: JobService, call: Callable[[JobService, Any], object]
) -> None:
    a_malformed_job_id_is_refused(service, None, call)


@pytest.mark.parametrize("call", JOB_ID_CALLS)
def test_a_malformed_job_id_is_refused_everywhere(
    service: JobService, call: Callable[[JobService, Any], object]
) -> None:
    for (job_id,) in (one.values for one in BAD_JOB_IDS):
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


BAD_ROW_IDS = [
    pytest.param("", id="empty"),
    pytest.param("ship", id="no number"),
    pytest.param("ship:", id="empty number"),
    pytest.param(":1", id="no job"),
    pytest.param("1", id="number alone"),
    pytest.param("ship:0", id="zero"),
    pytest.param("ship:-1", id="negative"),
    pytest.param("ship:+1", id="plus"),
    pytest.param("ship:01", id="leading zero"),
    pytest.param("ship:1.0", id="fraction"),
    pytest.param("ship:1e1", id="exponent"),
    pytest.param("ship:1_0", id="underscore"),
    pytest.param("ship: 1", id="space"),
    pytest.param("ship:1\n", id="trailing newline"),
    pytest.param("ship:\u0661", id="arabic digit"),
    pytest.param("ship:" + "9" * 20, id="20 digits"),
    pytest.param("ship:1:1", id="two numbers"),
    pytest.param("SHIP:1", id="upper case"),
    pytest.param("../jobs/ship:1", id="traversing"),
    pytest.param("con:1", id="device"),
    pytest.param("ship/1", id="slash"),
    pytest.param(b"ship:1", id="bytes"),
    pytest.param(1, id="int"),
    pytest.param(None, id="None"),
    pytest.param(("ship", 1), id="tuple"),
]
ROW_ID_CALLS: list[Any] = [
    pytest.param(lambda service, row_id: service.get_row(row_id), id="get_row"),
    pytest.param(lambda service, row_id: service.start_row(row_id), id="start_row"),
    pytest.param(lambda service, row_id: service.complete_row(row_id), id="complete_row"),
    pytest.param(lambda service, row_id: service.fail_row(row_id, "E", "m"), id="fail_row"),
    pytest.param(lambda service, row_id: service.skip_row(row_id), id="skip_row"),
    pytest.param(lambda service, row_id: service.retry_row(row_id), id="retry_row"),
]


@pytest.mark.parametrize("call", ROW_ID_CALLS)
def test_a_malformed_row_id_is_refused_everywhere(
    service: JobService, call: Callable[[JobService, Any], object]
) -> None:
    for (row_id,) in (one.values for one in BAD_ROW_IDS):
        refused(service, partial(call, service, row_id), repr(row_id) if row_id != "" else "row_id")


@pytest.mark.parametrize("call", ROW_ID_CALLS[1:])
def test_a_row_that_is_not_there_is_refused_by_its_id(
    service: JobService, call: Callable[[JobService, Any], object]
) -> None:
    refused(service, lambda: call(service, "ship:4"), "'ship:4'", RowNotFoundError)
    refused(service, lambda: call(service, "shop:1"), "'shop'", JobNotFoundError)


# --- rows


def after_good_rows(*bad: Any) -> list[Any]:
    """Bad elements behind good ones, so that there is something to take back."""
    return [{"data": {"good": 1}}, {"row_number": 20}, *bad]


BAD_ROWS = [
    pytest.param([{"row_number": 30}, {"row_number": 30}], "row 30", id="number repeated"),
    pytest.param([{}, {"row_number": 21}], "row 21", id="number repeats a default"),
    pytest.param([{"row_number": 2}], "row 2", id="number of an existing row"),
    pytest.param([{"row_number": 10}], "row 10", id="number of an existing sparse row"),
    pytest.param([{"row_number": 3}], "row 3", id="number of a completed row"),
    pytest.param([{"row_number": 0}], "element 3: row_number", id="number zero"),
    pytest.param([{"row_number": -1}], "element 3: row_number", id="number negative"),
    pytest.param([{"row_number": True}], "element 3: row_number", id="number bool"),
    pytest.param([{"row_number": False}], "element 3: row_number", id="number false"),
    pytest.param([{"row_number": 30.0}], "element 3: row_number", id="number float"),
    pytest.param([{"row_number": "30"}], "element 3: row_number", id="number text"),
    pytest.param([{"row_number": Decimal(30)}], "element 3: row_number", id="number decimal"),
    pytest.param([{"row_number": [30]}], "element 3: row_number", id="number list"),
    pytest.param([{"row_number": 2**63}], "element 3: row_number", id="number 2**63"),
    pytest.param([{"row_number": 10**30}], "element 3: row_number", id="number 10**30"),
    pytest.param([{"row_number": 2**63 - 1}, {}], "element 4: row_number", id="number after last"),
    pytest.param([{"row_checksum": 5}], "row 21: row_checksum", id="checksum int"),
    pytest.param([{"row_checksum": b"a"}], "row 21: row_checksum", id="checksum bytes"),
    pytest.param([{"row_checksum": "\ud800"}], "row 21: row_checksum", id="checksum surrogate"),
    pytest.param([{"data": []}], "row 21: data", id="data list"),
    pytest.param([{"data": "text"}], "row 21: data", id="data text"),
    pytest.param([{"data": 0}], "row 21: data", id="data zero"),
    pytest.param([{"data": b""}], "row 21: data", id="data bytes"),
    pytest.param([{"data": {}, "name": 1}], "name", id="unknown key"),
    pytest.param([{"row_id": 1}], "row_id", id="only an unknown key"),
    pytest.param([{1: 2}], "row 21", id="key not text"),
    pytest.param([{"row_number": 30, "data": {}, "row_checksum": "", "x": 1}], "x", id="four keys"),
    pytest.param([None], "element 3", id="element None"),
    pytest.param(["row"], "element 3", id="element text"),
    pytest.param([5], "element 3", id="element int"),
    pytest.param([["data", {}]], "element 3", id="element list"),
    pytest.param([[("data", {})]], "element 3", id="element pairs"),
    pytest.param([SimpleNamespace(data={})], "element 3", id="element object"),
]


@pytest.mark.parametrize(("bad", "named"), BAD_ROWS)
def test_one_bad_row_refuses_the_whole_call(
    service: JobService, bad: list[Any], named: str
) -> None:
    refused(service, lambda: service.create_rows(JOB_ID, after_good_rows(*bad)), named)
    refused(service, lambda: service.create_rows(JOB_ID, iter(after_good_rows(*bad))), named)


@pytest.mark.parametrize(
    "row_data",
    [
        pytest.param("rows", id="text"),
        pytest.param("", id="empty text"),
        pytest.param(b"rows", id="bytes"),
        pytest.param({"data": {}}, id="one mapping"),
        pytest.param({}, id="empty mapping"),
        pytest.param(None, id="None"),
        pytest.param(5, id="int"),
        pytest.param(object, id="class"),
    ],
)
def test_row_data_that_is_no_iterable_of_mappings_is_refused(
    service: JobService, row_data: Any
) -> None:
    refused(service, lambda: service.create_rows(JOB_ID, row_data), "row_data")


def test_a_bad_row_behind_many_good_ones_takes_them_all_back(service: JobService) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for n in range(15_000):
            yield {"data": {"n": n, "text": "x" * 60}}
        yield {"data": {"price": float("nan")}}

    refused(service, lambda: service.create_rows(JOB_ID, rows()), "row 15011: data.price")


# --- values that JSON would change

BAD_VALUES = [
    pytest.param(float("nan"), "", "nan", id="nan"),
    pytest.param(float("inf"), "", "inf", id="inf"),
    pytest.param(float("-inf"), "", "-inf", id="minus inf"),
    pytest.param([1, {"b": float("nan")}], "[1].b", "nan", id="nan deep"),
    pytest.param((1, (float("nan"),)), "[1][0]", "nan", id="nan in tuples"),
    pytest.param("\ud800", "", "\\ud800", id="surrogate"),
    pytest.param("text \udfff.", "", "\\udfff", id="surrogate inside"),
    pytest.param({"b": ["\udc80"]}, ".b[0]", "\\udc80", id="surrogate deep"),
    pytest.param({"\ud800": 1}, "", "\\ud800", id="surrogate key"),
    pytest.param([{"b": {"x\udfff": 1}}], "[0].b", "\\udfff", id="surrogate key deep"),
    pytest.param({None: "a"}, "", "None", id="None key"),
    pytest.param({True: "a"}, "", "True", id="bool key"),
    pytest.param({("a",): "a"}, "", "('a',)", id="tuple key"),
    pytest.param([{"b": {2: 1, "2": 3}}], "[0].b", "'2'", id="two keys that become one"),
    pytest.param(1j, "", "complex", id="complex"),
    pytest.param(object(), "", "object", id="object"),
    pytest.param(SimpleNamespace(a=1), "", "namespace", id="namespace"),
    pytest.param(BrokenRepr(), "", "BrokenRepr", id="broken repr"),
    pytest.param(AllEqual(), "", "AllEqual", id="equal to everything"),
    pytest.param(int, "", "int", id="class"),
    pytest.param(len, "", "len", id="function"),
    pytest.param((n for n in "ab"), "", "generator", id="generator"),
    pytest.param(nested(99), "", "deep", id="nested too deep by one"),
    pytest.param(nested(1000), "", "deep", id="nested 1000 deep"),
    pytest.param(nested(200_000), "", "deep", id="nested 200000 deep"),
    pytest.param(self_holding_list(), "", "deep", id="list inside itself"),
    pytest.param({"b": [self_holding_list()]}, ".b[0]", "deep", id="list inside itself deep"),
    pytest.param(self_holding_dict(), "", "deep", id="dict inside itself"),
    pytest.param({1j}, "", "complex", id="set of what can't be sorted"),
    pytest.param(Decimal("NaN"), "", "finite", id="decimal nan"),
    pytest.param(Decimal("1e400"), "", "double", id="decimal beyond doubles"),
]


@pytest.mark.parametrize(("value", "path", "named"), BAD_VALUES)
def test_data_that_json_would_change_is_refused_by_its_path(
    service: JobService, value: Any, path: str, named: str
) -> None:
    rows = after_good_rows({"data": {"a": value}})
    refused(service, lambda: service.create_rows(JOB_ID, rows), "row 21: data")
    with pytest.raises(InvalidValueError, match=re.escape(named)) as caught:
        service.create_rows(JOB_ID, rows)
    assert f"row 21: data.a{path}" in str(caught.value) or "deep" in str(caught.value)


@pytest.mark.parametrize(("value", "path", "named"), BAD_VALUES)
def test_a_result_that_json_would_change_is_refused_by_its_path(
    service: JobService, value: Any, path: str, named: str
) -> None:
    result = {"a": value}
    refused(service, lambda: service.complete_row("ship:2", result=result), named)
    with pytest.raises(InvalidValueError) as caught:
        service.complete_row("ship:2", result=result)
    assert f"result.a{path}" in str(caught.value) or "deep" in str(caught.value)
    with pytest.raises(InvalidValueError, match="result"):
        service.complete_row("ship:2", result=[value])


@pytest.mark.parametrize(("value", "path", "named"), BAD_VALUES)
def test_metadata_that_json_would_change_is_refused_by_its_path(
    service: JobService, value: Any, path: str, named: str
) -> None:
    metadata = {"a": value}
    refused(service, lambda: service.create_job("x", metadata=metadata), named)
    with pytest.raises(InvalidValueError) as caught:
        service.create_job("x", metadata=metadata)
    assert f"metadata.a{path}" in str(caught.value) or "deep" in str(caught.value)


# --- records that are too long


def test_a_row_over_64_mib_is_refused_by_its_number(service: JobService) -> None:
    rows = after_good_rows({"data": {"text": TOO_LONG}})
    refused(service, lambda: service.create_rows(JOB_ID, rows), "row ship:21")


def test_a_result_over_64_mib_is_refused_by_its_row(service: JobService) -> None:
    refused(service, lambda: service.complete_row("ship:2", result=TOO_LONG), "ship:2")


def test_a_record_that_is_too_long_leaves_the_rest_of_its_batch_as_it_is(
    service: JobService,
) -> None:
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

NOT_TEXT = [
    pytest.param(5, id="int"),
    pytest.param(b"text", id="bytes"),
    pytest.param(["text"], id="list"),
    pytest.param("a\ud800b", id="surrogate"),
]
TEXT_CALLS: list[Any] = [
    pytest.param(lambda service, bad: service.create_job(bad), "name", id="name"),
    pytest.param(
        lambda service, bad: service.create_job("x", bad), "original_command", id="command"
    ),
    pytest.param(
        lambda service, bad: service.create_job("x", "", bad), "description", id="description"
    ),
    pytest.param(lambda service, bad: service.create_job("x", mode=bad), "mode", id="mode"),
    pytest.param(
        lambda service, bad: service.set_error(JOB_ID, bad, "m"), "error_code", id="job error code"
    ),
    pytest.param(
        lambda service, bad: service.set_error(JOB_ID, "E", bad), "error_message", id="job error"
    ),
    pytest.param(
        lambda service, bad: service.fail_row("ship:2", bad, "m"), "error_code", id="row error code"
    ),
    pytest.param(
        lambda service, bad: service.fail_row("ship:2", "E", bad), "error_message", id="row error"
    ),
    pytest.param(lambda service, bad: service.log(JOB_ID, bad), "message", id="log message"),
    pytest.param(lambda service, bad: service.skip_row("ship:2", bad), "reason", id="reason"),
    pytest.param(
        lambda service, bad: service.complete_row("ship:2", bad),
        "tracking_number",
        id="tracking number",
    ),
    pytest.param(
        lambda service, bad: service.complete_row("ship:2", label_path=bad),
        "label_path",
        id="label path",
    ),
]


@pytest.mark.parametrize("bad", NOT_TEXT)
@pytest.mark.parametrize(("call", "named"), TEXT_CALLS)
def test_text_must_be_text_that_utf_8_holds(
    service: JobService, bad: Any, call: Callable[[JobService, Any], object], named: str
) -> None:
    refused(service, lambda: call(service, bad), f"{named}: ")


@pytest.mark.parametrize(
    ("call", "named"),
    [
        TEXT_CALLS[0],
        TEXT_CALLS[1],
        *TEXT_CALLS[3:8],
    ],
)
def test_text_that_is_required_must_not_be_none(
    service: JobService, call: Callable[[JobService, Any], object], named: str
) -> None:
    refused(service, lambda: call(service, None), f"{named}: ")


BAD_COUNTS = [
    pytest.param(-1, id="negative"),
    pytest.param(True, id="bool"),
    pytest.param(False, id="false"),
    pytest.param(1.0, id="float"),
    pytest.param(float("nan"), id="nan"),
    pytest.param("1", id="text"),
    pytest.param(Decimal(1), id="decimal"),
    pytest.param(2**63, id="2**63"),
    pytest.param(10**5000, id="10**5000"),
    pytest.param([1], id="list"),
]


@pytest.mark.parametrize("bad", BAD_COUNTS)
@pytest.mark.parametrize("name", ["total", "processed", "successful", "failed"])
def test_a_count_must_be_an_int_from_zero(service: JobService, bad: Any, name: str) -> None:
    refused(service, lambda: service.update_counts(JOB_ID, **{name: bad}), f"{name}: ")


@pytest.mark.parametrize("bad", BAD_COUNTS)
@pytest.mark.parametrize("name", ["limit", "offset"])
def test_limit_and_offset_must_be_ints_from_zero(service: JobService, bad: Any, name: str) -> None:
    refused(service, lambda: service.list_jobs(**{name: bad}), f"{name}: ")


BAD_STATUSES = [
    pytest.param("", id="empty"),
    pytest.param("done", id="unknown"),
    pytest.param("PENDING", id="upper case"),
    pytest.param(" pending", id="space"),
    pytest.param(0, id="int"),
    pytest.param(["pending"], id="list"),
    pytest.param(b"pending", id="bytes"),
]
STATUS_CALLS: list[Any] = [
    pytest.param(lambda service, bad: service.update_status(JOB_ID, bad), id="update_status"),
    pytest.param(lambda service, bad: service.list_jobs(bad), id="list_jobs"),
    pytest.param(lambda service, bad: service.get_rows(JOB_ID, [bad]), id="get_rows"),
    pytest.param(lambda service, bad: service.can_transition(bad, "running"), id="current"),
    pytest.param(lambda service, bad: service.can_transition("pending", bad), id="target"),
]


@pytest.mark.parametrize("bad", BAD_STATUSES)
@pytest.mark.parametrize("call", STATUS_CALLS)
def test_an_unknown_status_is_refused(
    service: JobService, bad: Any, call: Callable[[JobService, Any], object]
) -> None:
    refused(service, lambda: call(service, bad), repr(bad) if bad != "" else "must be one of")


@pytest.mark.parametrize("bad", ["", "Review", "ignore", None, 0, ["review"]], ids=repr)
@pytest.mark.parametrize(
    ("call", "named"),
    [
        pytest.param(
            lambda service, bad: service.recover_job(JOB_ID, bad), "policy", id="recover_job"
        ),
        pytest.param(
            lambda service, bad: service.start_job(JOB_ID, bad), "on_interrupted", id="start_job"
        ),
    ],
)
def test_an_unknown_policy_is_refused(
    service: JobService, bad: Any, call: Callable[[JobService, Any], object], named: str
) -> None:
    refused(service, lambda: call(service, bad), f"{named}: ")
    assert service.run_holder(JOB_ID) is None


class Nowhere(tzinfo):
    """A time zone that doesn't know its offset: its times are naive."""

    def utcoffset(self, _: datetime | None) -> None:
        return None

    dst = utcoffset

    def tzname(self, _: datetime | None) -> str:
        return "nowhere"


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(datetime(2026, 1, 1), id="naive"),  # noqa: DTZ001  (what is refused)
        pytest.param(datetime(2026, 1, 1, tzinfo=Nowhere()), id="zone without offset"),
        pytest.param(date(2026, 1, 1), id="date"),
        pytest.param("2026-01-01T00:00:00Z", id="text"),
        pytest.param(1_767_225_600, id="timestamp"),
    ],
)
def test_a_moment_must_be_an_aware_datetime(service: JobService, bad: Any) -> None:
    refused(service, lambda: service.list_jobs(since=bad), "since: ")


# --- the store


@pytest.mark.parametrize(
    "root",
    [
        pytest.param("", id="empty"),
        pytest.param(None, id="None"),
        pytest.param(5, id="int"),
        pytest.param(b"jobs", id="bytes"),
        pytest.param("jobs\x00", id="nul character"),
    ],
)
def test_a_root_must_be_a_path(root: Any) -> None:
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

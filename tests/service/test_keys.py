"""Which idempotency key a row has: what decides is written when the job is made and the row added."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from journal import InvalidStateTransition, InvalidValueError, JobService, RowStatus
from journal.format.keys import row_key
from journal.format.records import A_REPAIR, REPAIRED, UNSET_TIME, JobErrorRecord, JobRecord, now
from journal.repair import repair_job
from journal.store.transitions import put_record


@pytest.fixture(name="service")
def fixture_service(tmp_path: Path) -> Iterator[JobService]:
    with JobService(tmp_path, sync="none") as service:
        yield service


def keys(service: JobService, job_id: str = "j") -> list[str]:
    """By every way in which a row is read."""
    read = [row.idempotency_key for row in service.get_rows(job_id)]
    assert read == [
        row.idempotency_key
        for number in range(1, len(read) + 1)
        for row in [service.get_row(f"{job_id}:{number}")]
        if row is not None
    ]
    return read


def test_rows_that_are_added_later_have_random_digits_in_their_keys(service: JobService) -> None:
    """For a copy of the job may add others under the same numbers."""
    service.create_job("J", job_id="j", row_data=[{}])
    for _ in range(2):
        service.create_rows("j", [{}, {}])
    nonces = [re.fullmatch(r"j:\d\.([0-9a-f]{8})", key) for key in keys(service)[1:]]
    assert all(nonces)
    assert len({found[1] for found in nonces if found}) == 2, "one for the rows of each commit"
    assert service.start_row("j:2").idempotency_key == keys(service)[1]


def test_in_a_job_with_a_key_column_a_rows_key_is_its_value_alone(service: JobService) -> None:
    """So two copies of the job that both add order A-7 use one key for it."""
    service.create_job("J", job_id="j", key="order", row_data=[{"data": {"order": "A-1"}}])
    service.create_rows("j", [{"data": {"order": "A-7"}}, {"data": {}}, {"data": {"order": ""}}])
    assert keys(service)[:2] == ["j:order=A-1", "j:order=A-7"]
    assert keys(service)[2].startswith("j:3.")
    assert keys(service)[3].startswith("j:4.")
    assert service.get_job("j").key == "order"  # type: ignore[union-attr]


def test_a_column_of_the_callers_own_keys_is_handed_on_as_it_is(service: JobService) -> None:
    rows = [{"data": {"order": n, "key": key}} for n, key in enumerate(("K-1", "1001", 7, None))]
    service.create_job("J", job_id="j", key="order", idempotency_key="key", row_data=rows)
    assert keys(service) == ["K-1", "1001", "7", "j:order=3"]


def test_a_key_given_with_a_row_goes_before_all_others(service: JobService) -> None:
    rows = [{"data": {"order": "A-1", "key": "K-1"}, "idempotency_key": "mine"}]
    service.create_job("J", job_id="j", key="order", idempotency_key="key", row_data=rows)
    service.create_rows("j", [{"idempotency_key": "mine, too"}])
    assert keys(service) == ["mine", "mine, too"]
    for wrong in ("", 7, "\ud800"):
        with pytest.raises(InvalidValueError, match="idempotency_key"):
            service.create_rows("j", [{"idempotency_key": wrong}])


KEYED = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False,
    allow_infinity=False) | st.text(max_size=6) | st.sampled_from(["1", "null", "true", '"a"', "[]",
    "A-7#2", "A-7", "1.0", "#2", "a\n"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)  # fmt: skip


def key_of(number: int, value: Any) -> str:
    job = JobRecord(format=1, id="j", name="J", key="order", at=now())
    return row_key(job, number, {"order": value}, None) or f"j:{number}"


def is_text_encodable(value: Any) -> bool:
    try:
        repr(value).encode()
    except UnicodeEncodeError:
        return False
    return True


@given(KEYED.filter(is_text_encodable), KEYED.filter(is_text_encodable))
@example("1", 1)
@example("A-7#2", "A-7")
@example(True, 1)
def test_no_two_values_make_one_key_nor_that_of_a_row_that_is_redone(one: Any, other: Any) -> None:
    first, second = key_of(1, one), key_of(2, other)
    if repr(one) == repr(other) and one not in (None, ""):
        assert first == second
        return
    for key, known in ((first, second), (second, first)):
        assert key not in {f"{known}#2", f"{known}#3"}
    if type(one) is not type(other) or one != other:
        assert first != second


def test_each_redo_with_a_new_key_counts_it_on(service: JobService) -> None:
    service.create_job("J", job_id="j", key="order", row_data=[{"data": {"order": "A-7"}}])
    service.start_job("j")
    for expected in ("A-7#2", "A-7#3"):
        service.complete_row("j:1")
        assert service.redo_row("j:1", new_key=True).idempotency_key == f"j:order={expected}"
    service.complete_row("j:1")
    assert service.redo_row("j:1").idempotency_key == "j:order=A-7#3"
    changed = service.update_row_data("j:1", {"order": "A-7", "n": 1}, new_key=True)
    assert changed.idempotency_key == "j:order=A-7#4"
    assert keys(service) == ["j:order=A-7#4"]


def test_a_new_key_is_never_that_of_the_next_order(service: JobService) -> None:
    rows = [{"idempotency_key": "order #1001"}, {"idempotency_key": "order #1002"}]
    service.create_job("J", job_id="j", row_data=rows)
    service.complete_row("j:1")
    for times in (2, 3):
        key = service.redo_row("j:1", new_key=True).idempotency_key
        assert re.fullmatch(rf"order #1001#{times}\.[0-9a-f]{{8}}", key)
        service.complete_row("j:1")


def test_after_a_repair_with_losses_no_new_key_is_one_that_may_have_been_given_out(
    service: JobService,
) -> None:
    service.create_job("J", job_id="j", row_data=[{}])
    record = JobErrorRecord(code=REPAIRED, message="m", by=A_REPAIR.by, at=UNSET_TIME)
    with service._journal("j") as written:
        put_record(written, record)
    key = service.redo_row(service.complete_row("j:1").id, new_key=True).idempotency_key
    assert re.fullmatch(r"j:1#2\.[0-9a-f]{8}", key)


def test_what_a_row_is_known_by_stays_of_its_type(service: JobService) -> None:
    service.create_job("J", job_id="j", key="k", row_data=[{"data": {"k": 1}}])
    for value in (1.0, True, "1"):
        with pytest.raises(InvalidValueError, match="must stay 1"):
            service.update_row_data("j:1", {"k": value})


def test_a_rows_key_outlasts_its_data(service: JobService) -> None:
    service.create_job("J", job_id="j", row_data=[{}])
    service.create_rows("j", [{"data": {"n": 1}}])
    before = keys(service)
    service.update_row_data("j:2", {"n": 2})
    assert keys(service) == before


def test_a_row_whose_data_was_lost_is_neither_retried_nor_redone_before_it_has_data_again(
    service: JobService,
) -> None:
    rows = [{"data": {"order": f"A-{n}", "street": f"Street {n}"}} for n in range(1, 4)]
    service.create_job("J", job_id="j", key="order", row_data=rows)
    service.skip_row("j:1")
    path = service.root / "j" / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b"Street 2", b"Strasse2"))
    repair_job(path.parent)
    with pytest.raises(InvalidStateTransition, match="update_row_data"):
        service.retry_row("j:2")
    service.fail_row("j:2", "E", "m")
    with pytest.raises(InvalidStateTransition, match="update_row_data") as refused:
        service.redo_row("j:2")
    assert refused.value.allowed_transitions == ["processing", "skipped"]
    assert service.retry_failed_rows("j") == 0
    changed = service.update_row_data("j:2", {"order": "A-2", "street": "Street 2"})
    assert changed.idempotency_key == "j:order=A-2"
    assert service.retry_failed_rows("j") == 1
    assert keys(service) == [f"j:order=A-{n}" for n in range(1, 4)]
    assert service.get_row("j:2").status is RowStatus.PENDING  # type: ignore[union-attr]

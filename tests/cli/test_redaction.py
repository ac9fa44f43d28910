"""``--redact`` on the command line: what it hides, wherever that is shown, and what it says of a typo."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from zlib import crc32

import pytest

from journal import JobService
from journal.cli.main import main
from journal.format.arguments import check_fields
from journal.format.records import (
    LogRecord,
    Origin,
    RowDataRecord,
    RowRecord,
    RowStatusRecord,
    RowStepRecord,
    now,
)
from journal.history.redact import REDACTED, redacted_members

SECRET = "94107-1234"
JOB = "ship"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job that has SECRET as whatever can be hidden, in a member that only its last row has."""
    monkeypatch.chdir(tmp_path)
    with JobService(tmp_path / "jobs", sync="none") as service:
        service.create_job(
            "Ship",
            job_id=JOB,
            original_command=SECRET,
            description=SECRET,
            metadata={"key": SECRET},
            row_data=[
                {"data": {"order": 1}},
                {"data": {"order": 2, "at": {"Zip Code": SECRET}}, "idempotency_key": SECRET},
            ],
        )
        for new_key in (False, True):
            data = {"order": 2, "at": {"Zip Code": f"{SECRET}{new_key}"}}
            service.update_row_data(f"{JOB}:2", data, new_key=new_key)
        service.start_job(JOB, resume_command=f"journal run {SECRET}")
        for number in (1, 2):
            service.start_row(f"{JOB}:{number}")
            if number == 2:
                service.begin_step(f"{JOB}:2", 1, "charge")
                service.end_step(f"{JOB}:2", 1, "charge", {"key": SECRET})
                service.begin_step(f"{JOB}:2", 1, "mail")
                service.end_step(f"{JOB}:2", 1, "mail", error=(SECRET, SECRET))
            service.fail_row(f"{JOB}:{number}", SECRET, SECRET)
        service.set_error(JOB, SECRET, SECRET)
        service.log(JOB, "m", details={"zip code": SECRET})
        service.update_status(JOB, "paused")
    return tmp_path / "jobs"


NAMES = ("zip code", "key", "original_command", "description", "error_code", "error_message")
SHOWING = [
    *(["show", JOB, *form] for form in ([], ["--json"])),
    *(["rows", JOB, *form] for form in ([], ["--json"], ["--csv"], ["--columns", "at,error_code"])),
    *(["errors", JOB, *form] for form in ([], ["--json"])),
    *(["log", JOB, "-n", "all", *form] for form in ([], ["--nl"])),
    ["report", JOB, "-o", "-"],
    *(["export", JOB, "-", "--format", form] for form in ("csv", "jsonl")),
]


@pytest.mark.parametrize("command", SHOWING, ids=" ".join)
def test_each_command_that_shows_what_rows_hold_hides_it_by_name(
    root: Path, command: list[str], capsys: Capture
) -> None:
    assert main(command) == 0
    assert SECRET in capsys.readouterr().out
    assert main([*command, *(word for name in NAMES for word in ("--redact", name))]) == 0
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err


def test_a_key_that_is_made_of_the_data_is_hidden_with_it_and_one_of_the_rows_id_is_not() -> None:
    def shown(key: str | None) -> str | None:
        row = RowRecord(row=1, checksum="c", data={"zip": "1", "order": "A-7"}, key=key, at=now())
        return redacted_members(row, frozenset(("zip",))).key

    assert shown(None) is None
    for key in ("ship:1", "ship:1.0123abcd", "ship:zip=1", "1", "A-7"):  # of a record, any key
        assert shown(key) == REDACTED
    data = RowDataRecord(
        row=1, checksum="c", data={"zip": "1"}, key="ship:zip=1", created_at=now(), at=now()
    )
    hidden = redacted_members(data, frozenset(("zip",)))
    assert (hidden.data, hidden.checksum, hidden.key) == ({"zip": REDACTED}, REDACTED, REDACTED)


def test_a_row_shows_a_key_made_of_its_own_id_and_hides_one_that_only_looks_like_an_id(
    tmp_path: Path,
) -> None:
    own = "jane.doe:19800101"
    with JobService(tmp_path, redact=["ssn"], sync="none") as service:
        rows = [{"data": {"ssn": number}} for number in (1, 2)]
        service.create_job("Ship", job_id=JOB, row_data=rows)
        service.update_row_data(f"{JOB}:2", {"ssn": 2}, new_key=True)
        service.create_rows(JOB, [{"data": {"ssn": 3}}])
        service.create_job(
            "Own", job_id="own", idempotency_key="ssn", row_data=[{"data": {"ssn": own}}]
        )
        with JobService(tmp_path, sync="none") as stored:
            keys = [row.idempotency_key for row in stored.get_rows(JOB)]
            assert [row.idempotency_key for row in stored.get_rows("own")] == [own]
        shown = [redacted_members(row, service.redact) for row in service.get_rows(JOB)]
        assert [row.idempotency_key for row in shown] == keys
        assert keys[:2] == [f"{JOB}:1", f"{JOB}:2#2"]
        shown = [redacted_members(row, service.redact) for row in service.get_rows("own")]
        assert [row.idempotency_key for row in shown] == [REDACTED]


@pytest.mark.parametrize("command", [["rows"], ["errors"], ["show"], ["log"], ["report"]])
def test_what_is_to_be_hidden_may_be_said_once_by_a_variable(
    root: Path, command: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"JOURNAL_{command[0].upper()}_REDACT", "\n".join(NAMES))
    out = ["-o", "-"] if command == ["report"] else []
    assert main([*command, JOB, *out]) == 0
    assert SECRET not in capsys.readouterr().out


def test_what_resumes_a_job_is_not_offered_when_it_is_hidden(root: Path, capsys: Capture) -> None:
    assert main(["show", JOB, "--redact", "original_command"]) == 0
    shown = capsys.readouterr().out
    assert f"start again the program that made the job, as job {JOB}" in shown
    assert not [line for line in shown.splitlines() if line.split() == [REDACTED]]


@pytest.mark.parametrize("command", SHOWING, ids=" ".join)
def test_a_name_that_hides_nothing_is_refused_with_those_that_there_are(
    root: Path, command: list[str], capsys: Capture
) -> None:
    assert main([*command, "--redact", "ZIP CODE", "--redact", "zipcode"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "--redact zipcode: no stored field has this name" in said.err
    assert "order, at" in said.err
    assert "tracking_number" in said.err


def test_a_variable_may_name_what_this_job_has_not_and_that_is_told(
    root: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_ROWS_REDACT", "zipcode")
    assert main(["rows", JOB]) == 0
    assert "--redact zipcode: no stored field" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["export", JOB, "out.csv"], ["report", JOB, "-o", "out.csv"]])
def test_what_is_handed_on_is_not_made_if_a_variable_names_what_this_job_has_not(
    root: Path, command: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"JOURNAL_{command[0].upper()}_REDACT"
    monkeypatch.setenv(variable, "zipcode")
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "--redact zipcode: no stored field has this name" in said
    assert f"{variable}: unset it" in said
    assert not (root.parent / "out.csv").exists()
    assert main([*command, "--redact", "zip code"]) == 0
    assert (root.parent / "out.csv").exists()


def test_no_name_is_refused_where_there_is_no_job(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    assert main(["export", "--all", "-", "--redact", "zipcode"]) == 0
    assert capsys.readouterr().err == "0 rows\n"


def test_a_name_that_hides_nothing_is_refused_also_where_the_data_has_no_columns(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with JobService(tmp_path / "jobs", sync="none") as service:
        service.create_job("Ship", job_id=JOB, row_data=[{"data": {}}])
        service.start_job(JOB)
        service.start_row(f"{JOB}:1")
        service.complete_row(f"{JOB}:1", result={"token": SECRET})
    assert main(["rows", JOB, "--redact", "tokn"]) == 2
    said = capsys.readouterr()
    assert "--redact tokn: no stored field has this name; the data of the rows has no" in said.err
    assert said.out == ""
    assert main(["rows", JOB, "--redact", "token"]) == 0
    assert SECRET not in capsys.readouterr().out


def test_a_name_that_is_not_found_before_damage_shows_nothing(root: Path, capsys: Capture) -> None:
    """Nobody knows what stands behind it; a name that stands before it is known."""
    path = root / JOB / "journal.jsonl"
    content = path.read_bytes()
    record = b'{"type":"row_status","row":2,"status":"failed","error_message":5,'
    record += b'"at":"2036-11-24T13:35:00.000001Z"'
    seal = crc32(record, int(content[-11:-3], 16))
    path.write_bytes(content + record + b',"crc":"%08x"}\n' % seal)
    assert main(["rows", JOB, "--limit", "1", "--redact", "order"]) == 0
    capsys.readouterr()
    for command in (["rows", JOB, "--limit", "1"], ["export", "--all", "-", "--status", "pending"]):
        assert main([*command, "--redact", "ordr"]) == 6
        said = capsys.readouterr()
        assert (said.out, "is damaged" in said.err) == ("", True)
    with JobService(root, sync="none") as service:
        service.create_job("Other", job_id="other", row_data=[{"data": {"ordr": SECRET}}])
    assert main(["export", "--all", "-", "--redact", "ordr"]) == 6  # the damage is told of
    assert SECRET not in capsys.readouterr().out


def test_names_of_what_the_journal_knows_are_taken_whether_or_not_it_knows_any(
    root: Path, capsys: Capture
) -> None:
    assert main(["rows", JOB, "--redact", "tracking_number", "--redact", "Result"]) == 0
    assert capsys.readouterr().err == ""


def test_rows_are_chosen_by_what_is_stored_and_shown_without_it(
    root: Path, capsys: Capture
) -> None:
    redact = ["--redact", "error_code", "--redact", "order"]
    chosen = ["--error-code", SECRET, "--where", "order=2"]
    assert main(["rows", JOB, *redact, *chosen, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["row_number"] == 2
    assert (row["error_code"], row["data"]["order"]) == (REDACTED, REDACTED)


def test_no_digest_of_what_is_hidden_is_handed_out(root: Path, capsys: Capture) -> None:
    data = {"order": 2, "at": {"Zip Code": SECRET}}
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert main(["rows", JOB, "--json"]) == 0
    assert digest in capsys.readouterr().out
    assert main(["rows", JOB, "--json", "--redact", "zip code"]) == 0
    assert digest not in capsys.readouterr().out
    with JobService(root, redact=["zip code"]) as service:
        history = [str(record) for record in service.get_history(JOB)]
    assert not [text for text in history if digest in text]
    assert len([text for text in history if "checksum" in text and REDACTED in text]) == 3


def test_the_id_of_an_origin_holds_a_digest_and_is_hidden_with_what_it_is_of() -> None:
    names, found = check_fields(["tracking_number"]), "0123456789abcdef"
    origin = Origin(id=found, at=now())
    status = RowStatusRecord(
        row=1, status="completed", tracking_number="1Z", origin=origin, at=now()
    )
    shown = redacted_members(status, names)
    assert (shown.tracking_number, shown.origin and shown.origin.id) == (REDACTED, "0" * 16)
    step = RowStepRecord(
        row=1, attempt=1, step="charge", state="done", result="1Z", origin=origin, at=now()
    )
    hidden = redacted_members(step, check_fields(["result"]))
    assert (hidden.result, hidden.origin and hidden.origin.id) == (REDACTED, "0" * 16)
    there = {"elsewhere": {"id": found, "status": "completed", "tracking_number": "1Z"}}
    log = redacted_members(LogRecord(message="m", details=there, at=now()), names)
    assert found not in str(log)
    assert redacted_members(status, check_fields(["reason"])) is status

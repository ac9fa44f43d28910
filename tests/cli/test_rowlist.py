"""`journal rows` and `errors`: which rows, which of their columns, and how much memory."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.attempts import try_again

from journal import JobService
from journal.cli.main import main
from journal.history.history import look
from journal.report import page

Capture = pytest.CaptureFixture[str]

ORDERS: list[dict[str, Any]] = [
    {"order": "A-1", "zip": "94107", "price": 5},
    {"order": "A-2", "zip": "01234", "price": 12.5},
    {"order": "A-3", "zip": "1234", "price": "9"},
    {"order": "B-4", "zip": "94110", "price": None},
    {"order": "B-5", "tags": ["x"], "status": "urgent"},
    {"order": "B-6", "price": 123456789012345678},
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with JobService(path, sync="none") as service:
        service.create_job("Ship", job_id="ship", row_data=({"data": data} for data in ORDERS))
        service.start_job("ship")
        service.complete_row("ship:1", "1Z1", cost_cents=100, result={"label": "a\tb\nc"})
        service.fail_row("ship:2", "E1", "no\tsuch \x1b[31mzip\nat all")
        service.fail_row("ship:3", "E2", "closed")
        service.skip_row("ship:4", "a duplicate")
        service.start_row("ship:5")
        try_again(service, "ship:5", "E1", "carrier is down")
    return path


def run(root: Path, *arguments: str) -> int:
    return main(["--root", str(root), *arguments])


def numbers(root: Path, capsys: Capture, *arguments: str, code: int = 0) -> list[int]:
    assert run(root, "rows", "ship", "--json", *arguments) == code
    return [row["row_number"] for row in json.loads(capsys.readouterr().out)]


@pytest.mark.parametrize(
    ("command", "count"),
    [
        (["rows", "--json", "--status", "failed", "--status", "needs_review"], '"row_number":'),
        (["errors", "--json"], '"count":1'),
        (["show", "--json"], '"count":1'),
        (["report", "-o", "-"], "<tr data-status="),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_row_that_moves_on_while_it_is_listed_is_there_once(
    root: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    count: str,
) -> None:
    def then_move(real: Callable[..., Any]) -> Callable[..., Any]:
        def looked(*arguments: Any) -> Any:
            found = real(*arguments)
            with JobService(root, sync="none") as other:
                row = other.get_row("ship:2")
                if row is not None and row.status == "failed":
                    other.start_row("ship:2")
                    other.review_row("ship:2", "E9", "who knows")
            return found

        return looked

    monkeypatch.setattr(JobService, "get_rows", then_move(JobService.get_rows))
    monkeypatch.setattr(page, "look", then_move(look))
    assert run(root, command[0], "ship", *command[1:]) == 0
    assert capsys.readouterr().out.count(count) == 2


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        pytest.param(["order=A-2"], [2], id="text"),
        pytest.param(["order!=A-2"], [1, 3, 4, 5, 6], id="another text"),
        pytest.param(["order~A-"], [1, 2, 3], id="contains"),
        pytest.param(["order>B-4"], [5, 6], id="text is in order"),
        pytest.param(["price=5.0"], [1], id="a number however it is written"),
        pytest.param(["price<10"], [1, 3], id="numbers, also as text"),
        pytest.param(["price>=9", "price<=12.5"], [2, 3], id="all conditions hold"),
        pytest.param(["zip=1234"], [3], id="a leading zero makes another text"),
        pytest.param(["zip=01234"], [2], id="a postal code"),
        pytest.param(["price=123456789012345678"], [6], id="to the last digit"),
        pytest.param(["price=123456789012345679"], [], id="not to the last digit"),
        pytest.param(["price=null"], [4], id="null"),
        pytest.param(["price>0"], [1, 2, 3, 6], id="null is above nothing"),
        pytest.param(["price!=5"], [2, 3, 4, 6], id="a row without the column meets nothing"),
        pytest.param(['tags=["x"]'], [5], id="JSON"),
        pytest.param(["tags~x"], [5], id="within JSON"),
        pytest.param([" order = A-1 "], [1], id="spaces around"),
        pytest.param(["order="], [], id="empty"),
    ],
)
def test_conditions_on_the_data(
    root: Path, capsys: Capture, conditions: list[str], expected: list[int]
) -> None:
    options = [word for condition in conditions for word in ("--where", condition)]
    assert numbers(root, capsys, *options) == expected


def test_an_export_has_the_rows_that_are_chosen(root: Path, capsys: Capture) -> None:
    def exported(*options: str) -> list[str]:
        columns = "row_number,order,started_at"
        assert run(root, "export", "ship", "-", "--columns", columns, *options) == 0
        return [line.rsplit(",", 1)[0] for line in capsys.readouterr().out.splitlines()[1:]]

    assert exported("--row", "1-3", "--where", "price>6") == ["2,A-2", "3,A-3"]
    assert exported("--status", "failed", "--error-code", "E2") == ["3,A-3"]
    assert exported("--where", "price>1e30") == []
    steps = ("export", "ship", "-", "--steps", "--row", "1")
    assert run(root, *steps) == 0
    assert capsys.readouterr().err == "0 steps\n"


def test_columns_of_the_history_are_those_of_exports(root: Path, capsys: Capture) -> None:
    for words in (("--where", "duration_s>0"), ("--columns", "duration_s")):
        assert run(root, "rows", "ship", *words) == 0
        assert "; `journal export` has 'duration_s'" in capsys.readouterr().err


def test_columns_are_fields_of_rows_and_columns_of_the_data(root: Path, capsys: Capture) -> None:
    wanted = "row_number,status,journal_status,order,price,nothing"
    assert run(root, "rows", "ship", "--columns", wanted, "--row", "4-5", "--nl") == 0
    assert list(map(json.loads, capsys.readouterr().out.splitlines())) == [
        dict(zip(wanted.split(","), [4, "skipped", "skipped", "B-4", None, None], strict=True)),
        dict(zip(wanted.split(","), [5, "urgent", "pending", "B-5", None, None], strict=True)),
    ]
    assert run(root, "rows", "ship", "--columns", "row_number,zip", "--limit", "2") == 0
    assert capsys.readouterr().out == "row_number  zip\n         1  94107\n         2  01234\n"
    assert run(root, "rows", "ship", "--columns", "order,,zip") == 2


def test_csv_quotes_every_kind_of_line_end_so_that_a_row_is_one_record(
    tmp_path: Path, capsys: Capture
) -> None:
    ends = ["a\rb", "a\nb", "a\r\nb", "\r", 'a "b", c']
    with JobService(tmp_path, sync="none") as service:
        rows = [{"data": {"text": text}} for text in ends]
        service.create_job("Ends", job_id="ends", row_data=rows)
    assert run(tmp_path, "rows", "ends", "--columns", "text", "--csv") == 0
    records = csv.reader(io.StringIO(capsys.readouterr().out, newline=""))
    assert list(records) == [["text"], *([text] for text in ends)]


def test_errors_are_grouped_and_their_rows_go_into_other_commands(
    root: Path, capsys: Capture
) -> None:
    assert run(root, "errors", "ship", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(group["code"], group["count"], group["rows"]) for group in found] == [
        ("E1", 1, "2"),
        ("E2", 1, "3"),
    ]
    assert numbers(root, capsys, "--row", found[0]["rows"]) == [2]


# --- members of nested values


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    path = tmp_path / "nested"
    data: list[dict[str, Any]] = [
        {"n": 1, "to": {"city": "York", "geo": {"lat": 53.9}}},
        {"n": 2, "to": {"city": "Bath"}, "result.price": 99},
        {"n": 3, "result": {"price": 70}},
    ]
    with JobService(path, sync="none") as service:
        service.create_job("N", job_id="ship", row_data=[{"data": each} for each in data])
        service.start_job("ship")
        for number, price in ((1, 4), (2, 8), (3, 6)):
            service.complete_row(f"ship:{number}", result={"price": price}, usage={"tokens": price})
    return path


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("result.price>5", [2, 3]),
        ("result.price=99", [2]),
        ("result.price=70", [3]),
        ("journal_result.price>5", [2, 3]),
        ("usage.tokens<5", [1]),
        ("to.city=York", [1]),
        ("to.geo.lat>50", [1]),
        ("to~Bath", [2]),
    ],
)
def test_a_condition_may_name_a_member_of_the_data_or_of_the_result(
    nested: Path, capsys: Capture, condition: str, expected: list[int]
) -> None:
    assert numbers(nested, capsys, "--where", condition) == expected

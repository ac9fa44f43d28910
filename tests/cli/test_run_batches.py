"""`journal run -n`: commands that get many rows, and the outcome of each row."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from journal import JobRow, JobService
from journal.cli.main import main

ORDERS = "order,zip\nA-1,90001\nA-2,9002\nA-3,90003\nA-4,90004\nA-5,90005\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("orders.csv").write_text(ORDERS)


def run(*words: str) -> int:
    return int(main(["run", "orders.csv", "--job", "j", "--key", "order", "--quiet", *words]))


def rows() -> list[JobRow]:
    with JobService("jobs") as service:
        return list(service.get_rows("j"))


def test_an_argument_with_a_placeholder_is_repeated_for_each_row_and_the_others_are_not() -> None:
    assert run("-n", "2", "--", "echo", "--zip={zip}", "{order}", "end") == 0
    assert [row.result for row in rows()] == [
        *("--zip=90001 --zip=9002 A-1 A-2 end", None),
        *("--zip=90003 --zip=90004 A-3 A-4 end", None),
        "--zip=90005 A-5 end",
    ]
    assert {row.status for row in rows()} == {"completed"}


def test_a_status_is_the_outcome_of_all_rows_of_its_command_and_of_no_others() -> None:
    script = 'echo "$#"; echo refused >&2; case "$*" in *A-3*) exit 7;; esac'
    assert run("-n", "2", "--", "sh", "-c", script, "sh", "{order}") == 3
    found = [(row.status, row.error_code, row.error_message) for row in rows()]
    refused = ("failed", "7", "refused")
    done = ("completed", None, None)
    assert found == [done, done, refused, refused, done]


def test_standard_input_has_a_line_of_each_row_and_the_environment_names_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOURNAL_ROW_ID", "outer:1")
    script = 'cat; echo "${JOURNAL_ROW_ID-none}${JOURNAL_ATTEMPT-none}"'
    assert run("-n", "3", "--stdin", "json", "--", "sh", "-c", script) == 0
    *lines, names = (rows()[0].result or "").splitlines()
    assert names == "nonenone"
    assert [json.loads(line) for line in lines] == [
        {
            "row": number,
            "id": f"j:{number}",
            "idempotency_key": f"j:order=A-{number}",
            "attempt": 1,
            "data": {"order": f"A-{number}", "zip": zip_code},
        }
        for number, zip_code in ((1, "90001"), (2, "9002"), (3, "90003"))
    ]


def printing(*lines: Any, status: int = 0) -> list[str]:
    """A command that prints these lines, and ends with the status."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return ["sh", "-c", f"printf '%s\\n' {shlex.join(texts)}; exit {status}"]


def test_a_line_of_json_is_the_outcome_of_its_row_and_rows_without_one_need_a_review() -> None:
    command = printing(
        {"row": 2, "result": {"label": 1.50}, "cost_cents": 2}, {"row": 1, "tracking_number": "1Z"}
    )
    assert run("-n", "3", "--limit", "3", "--stdout", "json", "--", *command) == 3
    first, second, third, *_ = rows()
    assert (first.status, first.tracking_number, first.result) == ("completed", "1Z", None)
    assert (second.status, second.result, second.cost_cents) == ("completed", {"label": 1.5}, 2)
    assert (third.status, third.error_code, third.result) == ("needs_review", "NoOutcome", None)
    assert "printed no line for this row" in (third.error_message or "")


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ({"row": 9, "result": "x"}, '{"row": 9, "result": "x"}'),
        ({"result": "x"}, '{"result": "x"}'),
        ("ready", "ready"),
        ("[1]", "[1]"),
        ({"row": "2"}, '{"row": "2"}'),
        ('{"row":2,"result":1e400}',) * 2,
    ],
    ids=["another row", "no row", "no JSON", "no object", "no number", "unreadable number"],
)
def test_a_line_of_no_row_is_kept_with_the_first_row_that_needs_a_review(
    line: Any, kept: str
) -> None:
    command = printing({"row": 1, "result": "sent"}, line, {"row": 3})
    assert run("-n", "3", "--limit", "3", "--stdout", "json", "--", *command) == 3
    first, second, third, *_ = rows()
    assert [first.status, third.status] == ["completed", "completed"]
    assert first.result == "sent"
    assert (second.status, second.result) == ("needs_review", {"line 2": kept})
    assert "1 line that names none of its rows" in (second.error_message or "")


@pytest.mark.parametrize(
    "part", ["subprocesses.output_head", "batches.output_lines", "batches._outcome"]
)
def test_a_command_whose_output_can_t_be_read_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("can't read it")

    monkeypatch.setattr(f"journal.cli.run.{part}", fail)
    options = ["--stdout", "json"] if "batches" in part else []
    command = ["sh", "-c", """echo >> calls; echo '{"row": 1}'; exit 1"""]
    assert run("-n", "5", "--max-attempts", "3", *options, "--", *command) == 3
    assert {(row.status, row.error_code) for row in rows()} == {("needs_review", "OSError")}
    assert Path("calls").read_text() == "\n"


def test_what_a_line_of_no_row_has_cost_counts() -> None:
    command = printing({"row": 1}, {"row": 9, "cost_cents": 4, "usage": {"n": 2}})
    assert run("-n", "2", "--limit", "2", "--stdout", "json", "--", *command) == 3
    assert [(row.cost_cents, row.usage) for row in rows()[:2]] == [(None, None), (4, {"n": 2})]


def test_a_second_line_of_a_row_makes_it_a_review_that_keeps_both_and_what_both_cost() -> None:
    again = {"row": 1, "outcome": "fail", "code": "Bounced", "cost_cents": 0.5, "usage": {"n": 2}}
    command = printing(
        {"row": 1, "result": "sent", "cost_cents": 2, "usage": {"n": 1, "m": 5}},
        {"row": 2, "result": "sent"},
        again,
        status=9,
    )
    assert run("-n", "2", "--limit", "2", "--stdout", "json", "--", *command) == 3
    first, second, *_ = rows()
    assert (first.status, first.error_code) == ("needs_review", "TwoOutcomes")
    assert (first.cost_cents, first.usage) == (2.5, {"n": 3, "m": 5})
    assert list(first.result) == ["line 1", "line 3"]
    assert json.loads(first.result["line 1"])["result"] == "sent"
    assert json.loads(first.result["line 3"])["code"] == "Bounced"
    assert "2 lines for this row" in (first.error_message or "")
    assert (second.status, second.result) == ("completed", "sent")


def writing(program: str, status: int = 0) -> list[str]:
    """A command that runs this Python program, with a function that writes a line."""
    start = "import json, sys\ndef line(text, end='\\n'): sys.stdout.buffer.write((text + end).encode())\n"
    return [sys.executable, "-c", f"{start}{program}\nsys.stdout.flush()\nsys.exit({status})"]


@pytest.mark.parametrize("status", [0, 9])
def test_a_line_that_was_cut_off_is_the_outcome_of_no_row_and_its_row_may_be_done(
    status: int,
) -> None:
    program = "line(json.dumps({'row': 1, 'result': 'x' * (3 << 20)}))\nline('{\"row\": 2, \"result\": 5}')"
    assert run("-n", "2", "--limit", "2", "--stdout", "json", "--", *writing(program, status)) == 3
    first, second, *_ = rows()
    assert (second.status, second.result) == ("completed", 5)
    assert first.status == "needs_review"
    assert "1 of them cut off after 1 MiB" in (first.error_message or "")
    assert "no line for this row, or one that was cut off" in (first.error_message or "")
    (kept,) = first.result.values()
    assert 1 << 20 < len(kept) < (1 << 20) + 100
    assert kept.endswith("more bytes of output were not kept]")


def test_of_the_lines_of_no_row_one_mib_is_kept_and_the_outcomes_of_the_rows_all_the_same() -> None:
    program = "for n in range(5): line('x' * 500_000)\nline('{\"row\": 2, \"result\": 5}')"
    assert run("-n", "2", "--limit", "2", "--stdout", "json", "--", *writing(program)) == 3
    first, second, *_ = rows()
    assert (second.status, second.result) == ("completed", 5)
    assert list(first.result) == ["line 1", "line 2", "line 3"]
    assert "5 lines that name none of its rows, and 2 of them were not kept" in (
        first.error_message or ""
    )


def test_the_program_itself_is_no_argument_to_repeat(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-n", "2", "--", "{order}", "x") == 2
    assert "the program must be the same for all rows" in capsys.readouterr().err
    assert not Path("jobs").exists()

"""`journal run --where`: the conditions of `journal rows --where` choose what is run."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path

import pytest

from journal import JobService
from journal.cli.main import main
from journal.fs.shell import quote

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def fixture_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNAL_ROOT", raising=False)
    Path("orders.csv").write_text("order,zip,price\nA,94107,5\nB,10001,50\nC,94110,500\n")


def run(*options: str, command: str = "echo {order}") -> int:
    return main(["run", "orders.csv", "--job", "j", *options, "--", *shlex.split(command)])


def statuses() -> dict[str, str]:
    with JobService("jobs") as service:
        return {row.data["order"]: row.status.value for row in service.get_rows("j")}


def test_conditions_choose_the_rows_of_a_run_and_all_must_hold(capsys: Capture) -> None:
    assert run("--where", "zip~941", "--where", "price<10") == 4
    assert statuses() == {"A": "completed", "B": "pending", "C": "pending"}
    said = capsys.readouterr().err
    assert "j: 2 rows stay open, since the run is for others: pausing\n" in said
    again = next(line for line in said.splitlines() if line.startswith("to continue"))
    assert again.endswith(f"run orders.csv --job j -- echo {quote('{order}')}")
    assert run() == 0


def test_rows_of_a_run_are_chosen_by_number_too(capsys: Capture) -> None:
    assert run("--row", "2-3,9", "--limit", "1") == 4
    assert statuses() == {"A": "pending", "B": "completed", "C": "pending"}
    said = capsys.readouterr().err
    assert "job j has no row 9: its rows are 1 to 3" in said
    assert "--row 2-3,9-9" in next(x for x in said.splitlines() if x.startswith("to continue"))
    assert run("--halt", "never", command="test {order} = X") == 3
    assert run("--retry-failed", "--row", "1") == 3
    assert statuses() == {"A": "completed", "B": "completed", "C": "failed"}
    assert run("--row", "1", "--dry-run") == 0


def test_a_column_that_no_row_has_is_named(capsys: Capture) -> None:
    for more in ((), ("--dry-run",)):
        run("--where", "zpi=94107", *more)
        said = capsys.readouterr().err
        assert "j: none of the rows checked has a column 'zpi'" in said
        assert "order, price, zip" in said


def test_what_is_no_condition_is_refused_before_the_job_is_made(capsys: Capture) -> None:
    assert run("--where", "zip") == 2
    assert "'zip' is not a condition: give COLUMN=VALUE" in capsys.readouterr().err
    assert not Path("jobs").exists()


def test_all_that_continues_a_job_leaves_out_the_condition_that_no_row_left_meets(
    capsys: Capture,
) -> None:
    assert run("--where", "order=A", command="echo {order} --where x") == 4
    rest = f"run orders.csv --job j -- echo {quote('{order}')} --where x\n"
    for words in (["show", "j"], ["resume", "j"]):
        main(words)
        captured = capsys.readouterr()
        assert rest in captured.out + captured.err


def test_the_condition_stays_while_rows_that_meet_it_are_left(capsys: Capture) -> None:
    assert run("--where", "zip~941", "--limit", "1") == 4
    main(["show", "j"])
    captured = capsys.readouterr()
    assert f"--where {quote('zip~941')}" in captured.err
    assert f"--where {quote('zip~941')}" in captured.out


def test_only_the_option_is_left_out_and_no_other_word(capsys: Capture) -> None:
    more = ("--where", "order=A", "--version", "--where y")
    assert run("--where", "zip~94", *more, command="echo --where {order}") == 4
    said = capsys.readouterr().err
    again = next(line for line in said.splitlines() if line.startswith("to continue"))
    assert again.endswith(f"--version {quote('--where y')} -- echo --where {quote('{order}')}")


def test_a_doubled_sign_is_refused_unless_the_value_is_in_quotes(capsys: Capture) -> None:
    assert run("--where", "order==A") == 2
    assert "compares with '=A': write order=A, or 'order=\"=A\"' if" in capsys.readouterr().err
    assert not Path("jobs").exists()
    assert run("--where", 'order="=A"') == 4


@pytest.mark.parametrize(
    ("given", "meant"), [("zip<>1", "zip!=1"), ("zip=>1", "zip>=1"), ("zip >> 1", "zip>1")]
)
def test_a_sign_of_another_language_is_refused_and_chooses_no_rows(
    given: str, meant: str, capsys: Capture
) -> None:
    assert run("--where", given) == 2
    assert f": write {meant}, or " in " ".join(capsys.readouterr().err.split())
    assert not Path("jobs").exists()


def test_rows_and_their_numbers_can_t_both_be_read_from_standard_input(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows would seem to be gone, and --on-gone would decide about them."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n"))
    assert main(["run", "-", "--lines", "--job", "j", "--row", "-", "--", "echo", "{}"]) == 2
    assert "ROWS and --row can't both be -" in capsys.readouterr().err
    assert not Path("jobs").exists()


def test_a_condition_that_no_row_meets_is_named(capsys: Capture) -> None:
    assert run("--where", "order=X", "--where", "zip~941") == 4
    said = capsys.readouterr().err
    assert "j: none of the rows checked meets 'order=X'\n" in said
    assert "zip" not in said.split("meets")[1]
    assert main(["rows", "j", "--where", "order=X"]) == 0
    assert "journal: none of the rows checked meets 'order=X'\n" in capsys.readouterr().err


def test_commands_that_change_rows_name_the_first_without_a_number(capsys: Capture) -> None:
    with Path("orders.csv").open("a") as orders:
        orders.write('D,94110,"4,50"\n')
    assert run("--halt", "never", command="false") == 3
    capsys.readouterr()
    message = "j: row 4 has '4,50' in 'price': < 10 doesn't hold for what isn't a number\n"
    assert main(["retry", "j", "--where", "price<10"]) == 0
    assert message in capsys.readouterr().err
    assert main(["redo", "j", "--where", "price<10", "--row", "2-4", "--yes"]) == 0
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["rows", "--where", "rate>4"], "'rate' is a member of the result: write result.rate"),
        (["rows", "--columns", "rate"], "'rate' is a member of the result: write result.rate"),
        (["rows", "--columns", "tokens"], "'tokens' is a member of the usage: write usage.tokens"),
        (["rows", "--columns", "Zip"], "did you mean 'zip'?"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_name_that_is_no_column_of_the_data_is_explained(
    capsys: Capture, arguments: list[str], hint: str
) -> None:
    assert run(command="true") == 0
    with JobService("jobs") as service:
        service.redo_row("j:1")
        service.complete_row("j:1", result={"rate": 5}, usage={"tokens": 3})
    capsys.readouterr()
    name, *options = arguments
    main([name, "j", *options])
    assert hint in capsys.readouterr().err

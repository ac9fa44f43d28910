"""Costs at the command line: what commands report, limits, forecasts, listings and exports."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.commands import PYTHON, journal

from journal import JobService
from journal.format.records import UNSET_TIME, RunEndedRecord
from journal.store.transitions import put_record

# Prints what the row has cost, and fails with the last column's status.
COMMAND = """
import sys
cost, status = sys.argv[1:]
print('{{"cost_cents": ' + cost + ', "usage": {{"tokens": 812}}, "n": 1}}')
sys.exit(int(status))
"""
RUN = ("run", "rows.csv", "--job", "j", "--stdout", "json")
SPEND = ("--", *PYTHON, COMMAND, "{cost}", "{status}")


@pytest.fixture(autouse=True, name="work")
def fixture_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNAL_ROOT", raising=False)
    return tmp_path


def write_rows(*rows: tuple[str, int]) -> None:
    lines = [f"{cost},{status}\n" for cost, status in rows]
    Path("rows.csv").write_text("cost,status\n" + "".join(lines))


def make_job(*costs: Any, rows: int = 4) -> None:
    """A job whose first rows have these costs."""
    with JobService("jobs") as service:
        service.create_job("J", job_id="j", row_data=[{"data": {"n": n}} for n in range(rows)])
        for number, cost in enumerate(costs, 1):
            service.complete_row(f"j:{number}", cost_cents=cost, usage={"tokens": 812})


def shown(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(journal("show", "j", "--json", *arguments).stdout)
    return found


def test_a_command_reports_its_cost_and_usage_also_when_it_fails() -> None:
    write_rows(("0.06", 0), ("7", 3), ("0.5", 0))
    done = journal(*RUN, "--max-attempts", "2", "--backoff", "0", *SPEND)
    assert done.returncode == 3, done.stderr
    job = shown()
    assert (job["total_cost_cents"], job["usage"]) == (14.56, {"tokens": 4 * 812})
    with JobService("jobs") as service:
        rows = service.get_rows("j")
        assert [row.cost_cents for row in rows] == [0.06, 7, 0.5]
        assert rows[0].result == {"n": 1}
        assert (rows[1].status, rows[1].error_code, rows[1].result) == ("failed", "3", None)


def advice() -> str:
    return str(shown()["next"][0]["why"])


def test_show_says_why_the_last_run_paused_and_to_raise_the_limit_of_cost() -> None:
    write_rows(*[("0.06", 0)] * 40)
    journal(*RUN, "--max-cost-cents", "0.12", *SPEND)
    reason = "the job has cost 0.12 cents, and `--max-cost-cents` is 0.12: start again with a higher limit"
    assert f"paused      {reason}\n" in journal("show", "j").stdout
    assert "raise the limit of the cost, or the next run pauses at once" in advice()
    journal(*RUN, "--limit", "3", *SPEND)
    assert shown()["paused"] == "3 rows were started, as many as were asked for"
    assert "raise the limit" not in advice()


def test_show_gives_no_reason_of_an_earlier_run() -> None:
    make_job(rows=2)
    with JobService("jobs") as service:
        service.start_job("j", "review")
        end = RunEndedRecord(kind="workers", message="all 2 workers hang", at=UNSET_TIME)
        service.store.journal("j").change(put_record, end)
        service.update_status("j", "paused")
        assert shown()["paused"] == "all 2 workers hang"
        service.update_status("j", "running")
        assert shown()["paused"] is None
        service.update_status("j", "paused")
    assert shown()["paused"] is None
    assert "\npaused  " not in journal("show", "j").stdout


@pytest.mark.parametrize(
    ("cents", "reason"),
    [
        ("many", "'many' is not a number of cents: give 1250, or 0.06"),
        ("-1", "-1 must be from 0 to"),
        ("nan", "nan must be an int, a float or a Decimal"),
    ],
)
def test_an_option_of_cents_refuses_what_is_no_cost(cents: str, reason: str) -> None:
    write_rows(("1", 0))
    done = journal(*RUN, "--max-cost-cents", cents, *SPEND)
    assert (done.returncode, reason in done.stderr, Path("jobs").exists()) == (2, True, False)


def test_a_row_is_resolved_with_parts_of_a_cent() -> None:
    make_job()
    with JobService("jobs") as service:
        service.start_row("j:1")
        service.review_row("j:1", "E", "unsure", cost_cents=1)
    assert journal("resolve", "j", "--row", "1", "--completed", "--cost-cents", "0.06").stdout
    assert shown()["total_cost_cents"] == 1.06


def test_exports_have_costs_and_usages_as_they_are() -> None:
    make_job(0.06, 5)
    lines = journal("export", "j", "-", "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["cost_cents"] for line in lines] == [0.06, 5, None, None]
    assert json.loads(lines[0])["usage"] == {"tokens": 812}
    assert ',0.06,"{""tokens"":812}",' in journal("export", "j", "-").stdout.splitlines()[1]
    assert journal("export", "j", "j.db").returncode == 0
    with closing(sqlite3.connect("j.db")) as database:
        found = database.execute("SELECT cost_cents, usage FROM rows").fetchall()
    assert found == [(0.06, '{"tokens":812}'), (5, '{"tokens":812}'), (None, None), (None, None)]


@pytest.mark.parametrize(("cost", "kind"), [(0.06, "double"), (6, "int64")])
def test_a_column_of_parquet_has_parts_of_a_cent_only_where_there_are_some(
    cost: float, kind: str
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    make_job(cost, 5)
    assert journal("export", "j", "j.parquet").returncode == 0
    column = parquet.read_table("j.parquet")["cost_cents"]
    assert (str(column.type), column.to_pylist()) == (kind, [cost, 5, None, None])


def test_a_limit_of_cost_of_a_job_that_costs_nothing_is_said_once_at_the_end() -> None:
    option = "--max-cost-cents"
    write_rows(("0.06", 0), ("7", 0))
    plain = ("run", "rows.csv", "--job", "j", option, "1", "--limit", "1")
    said = journal(*plain, "--", "echo", "{cost}").stderr
    unused = f"j: the job has cost nothing, so `{option}` has limited nothing: "
    assert said.count(unused + "with `--stdout json`, COMMAND prints it: ") == 1
    assert said.splitlines()[-1].startswith("to continue")
    assert journal(*plain, "-q", "--", "echo", "{cost}").stderr == ""
    write_rows(("0.06", 0), ("7", 0), ("0.5", 0))
    assert "limited nothing" not in journal(*RUN, option, "1", *SPEND).stderr
    assert "limited nothing" not in journal(*plain, "--", "echo", "{cost}").stderr  # nothing to do

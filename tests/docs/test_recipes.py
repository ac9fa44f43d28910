"""The README's recipes for other programs, word for word."""

import contextlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import README

from journal import JobService


def recipe(name: str) -> str:
    found = re.search(
        rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)```\n<!-- end -->", README, re.DOTALL
    )
    assert found is not None
    return found[1]


def shell(text: str, directory: Path) -> str:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": programs, "PYTHONWARNINGS": "default"}
    environment.pop("JOURNAL_ROOT", None)
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", name="orders")
def fixture_orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the export recipe has been followed."""
    pytest.importorskip("pyarrow", reason="no wheel of pyarrow here")
    directory = tmp_path_factory.mktemp("orders")
    shell(recipe("export"), directory)
    return directory


def python(name: str, directory: Path) -> str:
    printed = io.StringIO()
    with contextlib.chdir(directory), contextlib.redirect_stdout(printed):
        exec(recipe(f"python: {name}"), {})
    return printed.getvalue()


def test_failed_rows_are_fixed_and_fed_in_again(orders: Path) -> None:
    with JobService(orders / "jobs") as service:
        assert service.get_job_summary("orders")["failed_rows"] == 1
        (row,) = service.get_rows("orders-fixed")
    assert (row.status, row.data) == ("completed", {"order": "A-2", "zip": "90210"})


def test_duckdb_reads_what_was_exported(orders: Path) -> None:
    pytest.importorskip("duckdb", reason="no wheel of duckdb here")
    printed = python("duckdb", orders)
    assert re.search(r"orders\s.*failed\s.*1\s", printed)
    assert "9021" in printed
    assert "orders-fixed" in printed


def test_polars_reads_what_was_exported(orders: Path) -> None:
    pytest.importorskip("polars", reason="no wheel of polars here")
    printed = python("polars", orders)
    assert re.search(r"orders-fixed\s.*completed", printed)


def test_datasette_shows_what_was_exported(orders: Path) -> None:
    if not importlib.util.find_spec("datasette"):
        pytest.skip("no wheel of datasette here")
    first, *_ = shell(recipe("datasette"), orders).splitlines()
    assert json.loads(first) == [{"job_id": "orders", "row_number": 2, "error_code": "1"}]

"""What all listings have in common: formats, widths, colours, and how they end."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import unicodedata
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from support.commands import journal
from support.platforms import needs_signals
from support.terminal import on_terminal

from journal import JobService
from journal.cli.main import main
from journal.cli.output import as_json, pad, width_of
from journal.text import escaped

Capture = pytest.CaptureFixture[str]
COLORS = re.compile("\x1b\\[[0-9]*m")
LONG = "took longer than 30 s, and nobody knows why it did, nor what is to be done about it now"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with JobService(path, sync="none") as service:
        for number, name in enumerate(
            ("東京の注文を発送する", "Cafe\u0301 orders", "\x1b[2J한국", "x" * 150)
        ):
            rows = [{"data": {"都市": "東京" * 9, "n": n, "note": "\x1b[31m"}} for n in range(12)]
            job_id = f"job-{number}"
            service.create_job(name, job_id=job_id, row_data=rows)
            service.start_job(job_id)
            service.complete_row(f"{job_id}:1", cost_cents=123456)
            service.fail_row(f"{job_id}:2", "ConnectionError", LONG)
            service.fail_row(f"{job_id}:3", "時間切れ", "都市" * 40)
            service.fail_row(f"{job_id}:4", "E\x07\u202e", "\x1b[31m")
            service.start_row(f"{job_id}:5")
            service.review_row(f"{job_id}:5", "unknown", "look")
    return path


LISTINGS = (("list",), ("rows", "job-0"), ("errors", "job-0"), ("log", "job-0"))


@pytest.mark.parametrize("columns", [80, 200])
def test_show_cuts_what_is_looked_at_and_keeps_what_is_pasted(root: Path, columns: int) -> None:
    code, shown = on_terminal("--root", str(root), "show", "job-3", columns=columns)
    assert code == 0
    lines = COLORS.sub("", shown).splitlines()
    assert f"            journal --root {root} retry job-3" in lines
    for line in lines:
        if line.startswith(("name ", "next ", "            # ")):
            assert width_of(line) <= columns
    assert lines[-1].startswith("job=job-3 status=interrupted total=12 ")


def test_a_narrow_terminal_shows_the_columns_that_matter_most(root: Path) -> None:
    _, narrow = on_terminal("--root", str(root), "list", columns=80)
    _, wide = on_terminal("--root", str(root), "list", columns=200)
    titles = re.split("  +", wide.splitlines()[0].rstrip())
    assert titles[:6] == ["JOB", "STATUS", "PROGRESS", "DONE", "FAILED", "IN FLIGHT"]
    assert titles[-1] == "NAME"
    assert re.split("  +", narrow.splitlines()[0])[:6] == titles[:6]


@pytest.mark.parametrize("form", ["--csv", "--nl", "--json", ""])
@pytest.mark.parametrize("listing", LISTINGS, ids=" ".join)
def test_no_format_lets_data_steer_a_terminal(
    root: Path, listing: tuple[str, ...], form: str
) -> None:
    _, shown = on_terminal(
        *("--root", str(root), *listing, *form.split()),
        columns=120,
        environment={"NO_COLOR": "1"},
    )
    assert not set(shown) & set("\x1b\x07\u202e")


@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_an_export_does_not_steer_a_terminal_and_is_exact_elsewhere(root: Path, form: str) -> None:
    arguments = ("--root", str(root), "export", "job-0", "-", "--format", form)
    code, shown = on_terminal(*arguments, columns=80)
    assert code == 0
    assert not set(shown) & set("\x1b\x07\u202e")
    exact = journal(*arguments).stdout
    if form == "csv":
        assert "\x1b[31m" in exact
        assert "E\x07\u202e" in exact
        assert escaped(exact, keep="\t\n") == shown
    else:
        assert "\u202e" in exact
        assert exact.count("\n") == shown.count("\n")
        if form == "json":
            assert json.loads(exact) == json.loads(shown)


def _as_cells(record: dict[str, Any]) -> dict[str, str]:
    """What the cells of a JSON record hold, as the README says it."""
    return {
        name: value
        if isinstance(value, str)
        else ""
        if value is None
        else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        for name, value in record.items()
    }


@pytest.mark.parametrize("listing", LISTINGS, ids=" ".join)
def test_all_formats_hold_the_same_records(
    root: Path, capsys: Capture, listing: tuple[str, ...]
) -> None:
    def written(form: str) -> str:
        assert main(["--root", str(root), *listing, form]) == 0
        return capsys.readouterr().out

    def comparable(record: dict[str, Any]) -> dict[str, Any]:
        record.pop("duration_s", None)  # of jobs that run, up to now
        return {  # JSON leaves out microseconds that are zero
            name: datetime.fromisoformat(value).isoformat()
            if (name == "at" or name.endswith("_at")) and value
            else value
            for name, value in record.items()
        }

    records = list(map(comparable, json.loads(written("--json"))))
    assert len(records) >= 3
    assert [comparable(json.loads(line)) for line in written("--nl").splitlines()] == records
    cells = list(map(_as_cells, records))
    found = csv.DictReader(io.StringIO(written("--csv"), newline=""))
    assert list(map(comparable, found)) == cells


@pytest.mark.parametrize(
    ("form", "encoding"),
    [("--csv", "ascii"), ("--nl", "latin-1"), ("--json", "ascii")],
)
def test_what_programs_read_is_utf_8_in_every_locale(root: Path, form: str, encoding: str) -> None:
    def written(encoding: str) -> bytes:
        return subprocess.run(
            [sys.executable, "-m", "journal", "--root", str(root), "rows", "job-0", form],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout

    found = written(encoding)
    assert "都市".encode() in found
    assert found == written("utf-8")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """More rows, errors and jobs than a pipe holds."""
    path = tmp_path / "many"
    with JobService(path, sync="none") as service:
        rows = ({"data": {"text": "x" * 100}} for _ in range(3000))
        service.create_job("Many", job_id="many", row_data=rows)
        with service.batch("many"):
            for number in range(1, 3001):
                service.fail_row(f"many:{number}", f"E{number}", "no " * 20)
        for number in range(60):
            service.create_job("n" * 2000, job_id=f"j{number}")
    return path


@needs_signals
def test_ctrl_c_in_the_middle_of_a_listing_is_130(many: Path) -> None:
    arguments = [sys.executable, "-m", "journal", "--root", str(many), "rows", "many"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)  # it has begun, and soon waits for the pipe to be read
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.stderr.read().strip() == b"interrupted"
        assert process.wait() == 130


# --- text


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("abc", 3),
        ("東京", 4),
        ("Cafe\u0301", 4),
        ("한국", 4),
        ("\u1112\u1161\u11ab", 2),  # the same syllable in three parts
        ("\uff21", 2),  # a full-width A
        ("…█", 2),
        ("🚢", 2),
        ("", 0),
    ],
)
def test_text_is_as_wide_as_terminals_show_it(text: str, width: int) -> None:
    assert width_of(text) == width
    assert width_of(pad(text, 9)) == width_of(pad(text, 9, right=True)) == 9


def test_no_character_that_is_not_seen_gets_through_to_terminals_json_or_the_report() -> None:
    kinds = {"Cc", "Cf", "Zl", "Zp"}
    visible = {
        "\u06dd",
        "\u08e2",
        "\U000110bd",
        "\U000110cd",
    }  # signs around Arabic or Kaithi numbers
    for code in range(0x110000):
        character = chr(code)
        if unicodedata.category(character) not in kinds or character in visible:
            continue
        if 0x600 <= code <= 0x605 or code in {0x70F, 0x890, 0x891} or 0x13430 <= code <= 0x1D17A:
            continue  # shown, or about musical and hieroglyphic signs alone
        assert escaped(character).isascii()
        assert escaped(character).isprintable()
        assert escaped(character, keep="\t\n") in {escaped(character), "\t", "\n"}
        assert as_json(character).isascii()
        assert json.loads(as_json(character)) == character

"""`journal run` with inputs of many formats: what is printed to paste works."""

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from support.lines import split
from support.platforms import needs_any_names

from journal import JobService
from journal.cli.main import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def fixture_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNAL_ROOT", raising=False)


def run(*words: str) -> int:
    return main(["run", *words, "--job", "j", "--", "echo", "{id}"])


def continue_by(said: str) -> list[str]:
    (line,) = (line for line in said.splitlines() if line.startswith("to continue"))
    words = split(line.partition(": ")[2])
    return words[words.index("run") :]


def results() -> list[object]:
    with JobService("jobs") as service:
        return [row.result for row in service.get_rows("j")]


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        ("sqlite:shop.db?SELECT id FROM orders WHERE note = 'it''s' ORDER BY id DESC", ()),
        ("semi colon.csv.gz", ("--delimiter", ";", "--encoding", "cp1252", "--format", "csv")),
    ],
)
def test_what_continues_a_run_can_be_pasted(
    rows: str, options: tuple[str, ...], capsys: Capture
) -> None:
    with closing(sqlite3.connect("shop.db")) as connection:
        connection.execute("CREATE TABLE orders (id, note)")
        connection.execute("INSERT INTO orders VALUES ('A', 'it''s'), ('B', 'it''s'), ('C', '')")
        connection.commit()
    Path("semi colon.csv.gz").write_bytes(b"id;note\nB;\xfc\nA;\n")
    assert run(rows, *options, "--limit", "1") == 4
    again = continue_by(capsys.readouterr().err)
    assert main(again) == 0
    assert results() == ["B", "A"]


# --- names of files that are no UTF-8 ------------------------------------------------------------

_HEX = (sys.executable, "-c", "import os, sys; print(os.fsencode(sys.argv[1]).hex())")


@needs_any_names
@pytest.mark.parametrize(("option", "end"), [("--null", b"\0"), ("--lines", b"\n")])
@pytest.mark.parametrize("more", [(), ("-n", "1")])
def test_a_command_gets_the_bytes_of_a_line_that_is_no_utf8(
    option: str, end: bytes, more: tuple[str, ...]
) -> None:
    names = [b"caf\xe9.txt", b"caf\\xe9.txt", "café.txt".encode()]
    Path("names").write_bytes(end.join(names))
    assert main(["run", "names", option, "--job", "j", *more, "--", *_HEX, "{.}"]) == 0
    assert results() == [name.removesuffix(b".txt").hex() for name in names]
    with JobService("jobs") as service:
        assert [row.data["line"] for row in service.get_rows("j")] == [
            "caf\\xe9.txt",
            "caf\\xe9.txt",
            "café.txt",
        ]


@needs_any_names
def test_words_that_are_no_utf8_are_recorded_escaped_and_shown_for_pasting(
    capfd: pytest.CaptureFixture[str],
) -> None:
    Path("in.csv").write_text("id\nA\nB\n")
    word = os.fsdecode(b"it's \xe9")
    for more in (["--dry-run"], ["--limit", "1"], []):
        code = main(["run", "in.csv", "--job", "j", *more, "--", *_HEX, word])
        assert code == (4 if "--limit" in more else 0)
        shown = capfd.readouterr()
        assert ("$'it\\'s \\xe9'" in shown.out) == ("--dry-run" in more)
        assert "is not that of the last run" not in shown.err
    assert results() == [os.fsencode(word).hex()] * 2
    with JobService("jobs") as service:
        job = service.get_job("j")
        assert job is not None
        assert job.last_run is not None
        assert job.last_run.argv[-1] == "it's \\xe9"

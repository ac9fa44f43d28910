"""Messages of a run: to ``tell`` or standard error, and to the logger ``journal``."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import journal

Capture = pytest.CaptureFixture[str]
SAID = "j: 2 rows were started, as many as were asked for: pausing"


@pytest.fixture(name="root_logger", autouse=True)
def fixture_root_logger() -> Iterator[logging.Logger]:
    """The root logger without handlers; what a test adds to it is taken away."""
    logger = logging.getLogger()
    before = (logger.handlers[:], logger.level)
    logger.handlers.clear()
    yield logger
    logger.handlers[:], level = before
    logger.setLevel(level)


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def run(path: Path, **options: object) -> None:
    with journal.open_job(path / "j", [{"n": n} for n in range(5)], argv=["again"]) as job:
        job.run(lambda _row: None, max_rows=2, **options)  # type: ignore[arg-type]


def test_a_script_without_logging_sees_each_message_once(tmp_path: Path, capsys: Capture) -> None:
    run(tmp_path)
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[0]) == ("", SAID)
    assert err.count(SAID) == 1


def test_a_script_without_standard_error_has_no_messages_on_standard_output(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)  # as with 2>&-
    run(tmp_path, progress=True)
    assert capsys.readouterr().out == ""


def test_messages_are_records_with_a_level_and_the_job(
    tmp_path: Path, root_logger: logging.Logger, capsys: Capture
) -> None:
    kept = Kept()
    root_logger.addHandler(kept)
    root_logger.setLevel("INFO")
    run(tmp_path)
    first, last = kept.records[0], kept.records[-1]
    assert (first.name, first.levelname, first.getMessage()) == ("journal", "WARNING", SAID)
    assert (last.levelname, last.getMessage().partition(":")[0]) == ("INFO", "to continue")
    assert {record.job_id for record in kept.records} == {"j"}  # type: ignore[attr-defined]
    assert capsys.readouterr().err == ""  # such a handler is believed to show them


def test_a_file_of_log_records_takes_nothing_from_standard_error(
    tmp_path: Path, root_logger: logging.Logger, capsys: Capture
) -> None:
    file, text = logging.FileHandler(tmp_path / "log"), io.StringIO()
    for handler in (file, logging.StreamHandler(text), journal.RowLogHandler()):
        root_logger.addHandler(handler)
    run(tmp_path)
    file.close()
    assert SAID in (tmp_path / "log").read_text()
    assert SAID in text.getvalue()
    assert capsys.readouterr().err.count(SAID) == 1


def test_an_error_code_controls_no_terminal_and_no_log(
    tmp_path: Path, root_logger: logging.Logger, capsys: Capture
) -> None:
    kept, told = Kept(), list[str]()
    root_logger.addHandler(kept)

    def fail(_row: object) -> None:
        raise journal.Fail("\x1b[2J\u202e")

    for name, tell in (("told", told.append), ("printed", None)):
        with journal.open_job(tmp_path / name, [{}] * 11) as job:
            job.run(fail, tell=tell)
    said = [*told, *(record.getMessage() for record in kept.records), capsys.readouterr().err]
    assert sum(r"all failed with \x1b[2J\u202e:" in text for text in said) == 3
    assert "\x1b" not in "".join(said)


def test_messages_with_percent_signs_are_logged_as_they_are(
    tmp_path: Path, root_logger: logging.Logger
) -> None:
    def handle(row: journal.AttemptedRow) -> None:
        if row.attempts == 1:
            raise journal.Hold("Full", "100%s %d", after_s=0.01)

    kept = Kept()
    root_logger.addHandler(kept)
    with journal.open_job(tmp_path / "j", [{}]) as job:
        job.run(handle)
    assert "Full: 100%s %d" in kept.records[0].getMessage()

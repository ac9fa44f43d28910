"""All readers of JSON accept the same texts, with the same values, and refuse the same texts."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from corpus.judge import verdict
from format.json_cases import ACCEPTED, REFUSED
from support.children import place_journal, seal_commits

from journal import InvalidValueError, JobService, JournalDamagedError
from journal.cli.run.outcomes import outcome_of_printed
from journal.cli.run.subprocesses import _text as text_of
from journal.inputs.read import open_stream
from journal.inputs.read_options import Source
from journal.run.outcome import Outcome
from journal.text import encode_json

JOB = "cases"
AT = b'"at":"2026-11-24T13:35:00.000001Z"}'
JOB_RECORD = b'{"type":"job","format":1,"id":"cases","name":"Cases",' + AT
LATER = b'{"type":"log","message":"a later commit",' + AT

Reader = Callable[[bytes, Path], Any]


class Refused(Exception):
    """What every reader here raises for a text that it refuses."""


def journal_with(text: bytes) -> bytes:
    row = b'{"type":"row","row":1,"checksum":"c","data":{"it":%b},' % text + AT
    return seal_commits([[JOB_RECORD], [row], [LATER]])


def read_journal(text: bytes, directory: Path) -> Any:
    place_journal(directory, JOB, journal_with(text))
    try:
        with JobService(directory) as service:
            (row,) = service.get_rows(JOB)
            return row.data["it"]
    except JournalDamagedError as error:
        raise Refused from error


def judge_journal(text: bytes, directory: Path) -> Any:
    """The second reader of the format, which tells no values."""
    if verdict(journal_with(text))[0] != "good":
        raise Refused
    return read_journal(text, directory)


def read_input(content: bytes, kind: str) -> Any:
    source = Source("in", kind, argument="ROWS")
    try:
        with ExitStack() as stack:
            (data,) = open_stream(io.BytesIO(content), source, stack).rows
    except InvalidValueError as error:
        raise Refused from error
    return data["it"]


def read_json_lines(text: bytes, directory: Path) -> Any:
    return read_input(b'{"it":%b}\n' % text, "jsonl")


def read_array(text: bytes, directory: Path) -> Any:
    return read_input(b'[{"it":%b}]' % text, "json")


def read_printed(text: bytes, directory: Path) -> Any:
    printed = Outcome(kind="completed", result=text_of(b'{"it":%b}' % text))
    outcome = outcome_of_printed(printed)
    if outcome.kind == "review":
        raise Refused(outcome.error_message)
    return json.loads(encode_json(outcome.result["it"]))  # until then, a number keeps its text


READERS = (read_journal, judge_journal, read_json_lines, read_array, read_printed)


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_every_reader_accepts_this_text_and_finds_the_same_value(
    text: bytes, tmp_path: Path
) -> None:
    values = [repr(reader(text, tmp_path / reader.__name__)) for reader in READERS]
    assert len(set(values)) == 1, values


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_every_reader_refuses_this_text(text: bytes, tmp_path: Path) -> None:
    accepted = []
    for reader in READERS:
        with suppress(Refused):
            accepted.append((reader.__name__, reader(text, tmp_path / reader.__name__)))
    assert accepted == []

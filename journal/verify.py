"""Reading all of a journal and reporting everything that is wrong with it; changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from journal.errors import JobNotFoundError
from journal.files import JournalFile, storage_error, wait_for_lock
from journal.format import JOURNAL_NAME, UndecodableError, UnknownRecordError, decode_record
from journal.index import BadRecordError, Index
from journal.replay import Span, could_be_torn, lines_of, scan


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong: where it begins (1-based line, byte offset), where it ends.

    ``kind``: "damage" is history that was changed; "torn" is a commit that a writer died in,
    which the next writer cuts off; "newer" is what only a newer version understands.
    """

    kind: Literal["damage", "torn", "newer"]
    line: int
    offset: int
    end: int
    message: str


class Report(msgspec.Struct, frozen=True):
    """What :func:`verify_job` found, in the order of the file."""

    job_id: str
    path: str
    commits: int
    records: int
    rows: int
    findings: list[Finding]

    @property
    def damaged(self) -> bool:
        return any(finding.kind == "damage" for finding in self.findings)


def verify_job(directory: Path, lock_timeout_s: float = 10.0) -> Report:
    """Check every seal and decode every record of the job in ``directory``.

    Raises JobNotFoundError.
    """
    path = directory / JOURNAL_NAME
    try:
        file = JournalFile(path)
        report = _read_all(directory, file)
        if report.findings and wait_for_lock(file, lock_timeout_s):
            try:  # a writer may have been at work: look again with it locked out
                report = _read_all(directory, file)
            finally:
                file.unlock()
    except (FileNotFoundError, NotADirectoryError):
        raise JobNotFoundError(directory.name) from None
    except OSError as error:
        raise storage_error(path, "read", error) from error
    return report


def _read_all(directory: Path, file: JournalFile) -> Report:
    size = file.size_bytes()
    index = Index()
    findings: list[Finding] = []
    commits = records = rows = 0
    bad: Span | None = None
    for span in scan(file, size):
        if not span.good:
            bad = span
            continue
        if bad is not None:
            findings.append(_finding("damage", bad, bad.reason))
            bad = None
        commits += 1
        records += span.lines
        rows += _check_records(file, span, index, findings)
    if bad is not None:
        kind: Literal["torn", "damage"] = "torn" if could_be_torn(file, bad) else "damage"
        findings.append(_finding(kind, bad, bad.reason))
    if size == 0:
        findings.append(Finding("damage", 1, 0, 0, "the file is empty"))
    if index.state is not None and index.state.header.id != directory.name:
        message = f"this is job {index.state.header.id!r}, in a directory of another name"
        findings.append(Finding("damage", 1, 0, 0, message))
    return Report(directory.name, str(file.path), commits, records, rows, findings)


def _check_records(file: JournalFile, span: Span, index: Index, findings: list[Finding]) -> int:
    """Decode the records of a good commit; return how many rows it made."""
    rows = 0
    line = span.line
    broken = any(finding.kind != "torn" for finding in findings)
    for offset, text, _ in lines_of(file, span.offset, span.end):
        try:
            decode_record(text)
            if not broken:  # behind damage, records may refer to what is lost
                index.apply(offset, [text])
        except (UndecodableError, UnknownRecordError) as error:
            findings.append(_record_finding(error, line, offset, text))
            broken = True
        except BadRecordError as error:
            findings.append(_record_finding(error.why, line, offset, text))
            broken = True
        rows += text.startswith(b'{"type":"row",')
        line += 1
    return rows


def _record_finding(
    error: UndecodableError | UnknownRecordError, line: int, offset: int, text: bytes
) -> Finding:
    kind: Literal["newer", "damage"] = (
        "newer" if isinstance(error, UnknownRecordError) else "damage"
    )
    return Finding(kind, line, offset, offset + len(text) + 1, str(error.args[0]))


def _finding(kind: Literal["torn", "damage"], span: Span, message: str) -> Finding:
    return Finding(kind, span.line, span.offset, span.end, message)

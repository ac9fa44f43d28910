"""Reading all of a journal and reporting everything that is wrong with it; changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from journal.errors import JobNotFoundError
from journal.files import JournalFile, storage_error, wait_for_lock
from journal.format import JOURNAL_NAME, UndecodableError, UnknownRecordError, decode_record
from journal.index import BadRecordError, Index
from journal.scan import Span, Stretch, lines_of, survey


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
    return report_on(directory, file, survey(file, file.size_bytes()))


def report_on(directory: Path, file: JournalFile, stretches: list[Stretch]) -> Report:
    """What is wrong with a journal that was surveyed, its records decoded. Raises StorageError."""
    index = Index()
    findings: list[Finding] = []
    commits = records = rows = 0
    for stretch in stretches:
        if stretch.kind == "good":
            commits += stretch.commits
            records += stretch.span.lines
            rows += _check_records(file, stretch.span, index, findings)
        else:
            findings.append(_finding(stretch))
    if not stretches:
        findings.append(Finding("damage", 1, 0, 0, "the file is empty"))
    if index.state is not None and index.state.header.id != directory.name:
        message = f"this is job {index.state.header.id!r}, in a directory of another name"
        findings.append(Finding("damage", 1, 0, 0, message))
    return Report(directory.name, str(file.path), commits, records, rows, findings)


def _check_records(file: JournalFile, span: Span, index: Index, findings: list[Finding]) -> int:
    """Decode the records of good commits; return how many rows they made."""
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


def _finding(stretch: Stretch) -> Finding:
    span, message = stretch.span, stretch.span.reason
    if stretch.mended is not None:
        at = span.offset + stretch.mended.at
        message += f"; one bit was flipped in byte {at}: `journal repair` puts it back"
    kind: Literal["torn", "damage"] = "torn" if stretch.kind == "torn" else "damage"
    return Finding(kind, span.line, span.offset, span.end, message)

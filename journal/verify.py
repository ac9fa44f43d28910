"""Reading all of a journal and reporting everything that is wrong with it; changes nothing."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from journal.errors import JobNotFoundError
from journal.format.commits import START, Position
from journal.format.decode import (
    UndecodableError,
    UnknownRecordError,
    decode_record,
)
from journal.format.records import RowRecord
from journal.format.scan import Span, Stretch, lines_of, states_newer_format, survey
from journal.fs.handles import JournalFile, storage_error
from journal.fs.locks import LOCK_TIMEOUT_S, wait_for_lock
from journal.fs.names import JOURNAL_NAME
from journal.fs.sync_mark import is_marked
from journal.index.hint import is_ahead
from journal.index.index import Index
from journal.index.replay import BadRecordError, apply


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong: where it begins (1-based line, byte offset), where it ends.

    ``kind``: "damage" is history that was changed; "torn" is a commit that a writer died in,
    which the next writer saves and cuts off; "unended" is a commit that counts, and lacks its LF,
    which the next writer puts back; "newer" is what only a newer version understands.
    """

    kind: Literal["damage", "torn", "unended", "newer"]
    line: int
    offset: int
    end: int
    message: str


class Report(msgspec.Struct, frozen=True):
    """What :func:`verify_job` found, in the order of the file.

    ``ahead_until``: the time of the last record, if it lies ahead of this machine's clock. Times
    never go back, so until then all new records state it; no record is wrong for that.
    ``in_doubt``: a sync has failed since the system started, or its process died in it. What was
    read may be in memory only; the next commit that is synced first writes it again.
    """

    job_id: str
    path: str
    commits: int
    records: int
    rows: int
    findings: list[Finding]
    ahead_until: datetime | None = None
    in_doubt: bool = False

    @property
    def damaged(self) -> bool:
        return any(finding.kind == "damage" for finding in self.findings)


def verify_job(directory: Path, lock_timeout_s: float = LOCK_TIMEOUT_S) -> Report:
    """Check every seal and decode every record of the job in ``directory``.

    Raises JobNotFoundError and StorageError.
    """
    path = directory / JOURNAL_NAME
    try:
        file = JournalFile(path)
        stretches = survey(file, file.size_bytes())
        good = next((n for n, one in enumerate(stretches) if one.kind != "good"), len(stretches))
        if good < len(stretches) and wait_for_lock(file, lock_timeout_s):
            # A writer may have been at work: look again with it locked out, at no more than that.
            try:
                last = stretches[good - 1].span if good else None
                start = Position(last.end, last.crc) if last else START
                line = last.line + last.lines if last else 1
                stretches[good:] = survey(file, file.size_bytes(), start, line)
            finally:
                file.unlock()
        report = report_on(directory, file, stretches)
        return msgspec.structs.replace(report, in_doubt=_is_in_doubt(directory, file))
    except (FileNotFoundError, NotADirectoryError):
        raise JobNotFoundError(directory.name) from None
    except OSError as error:
        raise storage_error(path, "read", error) from error


def _is_in_doubt(directory: Path, file: JournalFile) -> bool:
    """Whether the journal is marked, and not by a writer at work: that one holds the lock."""
    if not is_marked(directory) or not file.try_lock():
        return False
    try:
        return is_marked(directory)
    finally:
        file.unlock()


def report_on(directory: Path, file: JournalFile, stretches: list[Stretch]) -> Report:
    """What is wrong with a journal that was surveyed, its records decoded. Raises StorageError."""
    index = Index()
    findings: list[Finding] = []
    commits = records = rows = 0
    for stretch in stretches:
        if stretch.span.good:
            commits += stretch.commits
            records += stretch.span.lines
            rows += _check_records(file, stretch.span, index, findings)
        if stretch.kind != "good":
            findings.append(_finding(stretch))
    if stretches and stretches[0].kind == "bad":
        newer = states_newer_format(file, stretches[0].span)
        if newer is not None:
            findings[0] = msgspec.structs.replace(findings[0], kind="newer", message=newer)
    if not stretches:
        findings.append(Finding("damage", 1, 0, 0, "the file is empty"))
    if index.state is not None and index.state.header.id != directory.name:
        message = f"this is job {index.state.header.id!r}, in a directory of another name"
        findings.append(Finding("damage", 1, 0, 0, message))
    ahead_until = index.last_at if is_ahead(index.last_at) else None
    return Report(directory.name, str(file.path), commits, records, rows, findings, ahead_until)


def _check_records(file: JournalFile, span: Span, index: Index, findings: list[Finding]) -> int:
    """Decode the records of good commits; return how many rows they made."""
    rows = 0
    line = span.line
    broken = any(finding.kind != "torn" for finding in findings)
    for offset, text, _ in lines_of(file, span.offset, span.end):
        try:
            rows += isinstance(decode_record(text), RowRecord)  # also one that isn't whole
            if not broken:  # behind damage, records may refer to what is lost
                apply(index, offset, [text])
        except (UndecodableError, UnknownRecordError) as error:
            findings.append(_record_finding(error, line, offset, text))
            broken = True
        except BadRecordError as error:
            findings.append(_record_finding(error.why, line, offset, text))
            broken = True
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
    if stretch.flip is not None:
        at = stretch.flip.at
        message += f"; one bit was flipped in byte {at}: `journal repair` puts it back"
    if stretch.kind == "unended":
        message = "the last commit counts, and lacks its LF"
        return Finding("unended", span.line, span.offset, span.end, message)
    kind: Literal["torn", "damage"] = "torn" if stretch.kind == "torn" else "damage"
    return Finding(kind, span.line, span.offset, span.end, message)

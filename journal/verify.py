"""Verification: reads a whole journal and reports everything that is wrong. Nothing is changed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from journal.format.commits import START, Position
from journal.format.decode import UndecodableError, UnknownRecordError, decode_record
from journal.format.records import RowRecord
from journal.format.scan import Region, lines_of
from journal.format.survey import survey
from journal.fs.handles import JournalFile, open_journal, refusals_of
from journal.fs.locks import LOCK_TIMEOUT_S, wait_for_lock
from journal.fs.names import JOURNAL_NAME
from journal.fs.sync_mark import is_marked
from journal.index.hint import is_ahead
from journal.index.index import Index
from journal.index.replay import BadRecordError, apply

Kind = Literal["damage", "torn", "unended", "newer"]


class Finding(msgspec.Struct, frozen=True):
    """One finding: a part of the file with something wrong.

    The part reaches from byte ``offset``, in ``line`` (1-based), to byte ``end``. ``kind``:

    - "damage": the bytes were changed after they were written.
    - "torn": a torn tail (an interrupted write). The next writer saves it in a separate file, and
      then truncates the journal.
    - "unended": the last commit lacks its LF. The commit counts, and the next writer adds the LF.
    - "newer": only a newer version of this package can read this part.
    """

    kind: Kind
    line: int
    offset: int
    end: int
    message: str


class Report(msgspec.Struct, frozen=True):
    """The result of :func:`verify_job`. Findings are in the order of the file.

    - ``ahead_until``: the time of the last record, if that time is ahead of this machine's clock,
      else None. This is no damage. Times in a journal never go back, so new records get this time
      until the clock has passed it.
    - ``in_doubt``: True if, since the system was booted, a sync of the journal has failed or a
      process has died during a sync. The last commits may not be on the disk then. The next synced
      commit first writes them again.
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
    file = open_journal(path, directory.name)
    with refusals_of(path, "read"):
        regions = survey(file, file.size_bytes())
        good = next((n for n, one in enumerate(regions) if one.kind != "good"), len(regions))
        if good < len(regions) and wait_for_lock(file, lock_timeout_s):
            # A writer may have been at work. So the rest is read again, with the commit lock held.
            try:
                last = regions[good - 1] if good else None
                start = Position(last.end, last.crc) if last else START
                line = last.line + last.lines if last else 1
                regions[good:] = survey(file, file.size_bytes(), start, line)
            finally:
                file.unlock()
        report = report_on(directory, file, regions)
        return msgspec.structs.replace(report, in_doubt=_is_in_doubt(directory, file))


def _is_in_doubt(directory: Path, file: JournalFile) -> bool:
    """Return whether a failed or interrupted sync left a sync mark.

    A set mark doesn't count while a writer holds the commit lock, since that writer's sync may be
    under way.
    """
    if not is_marked(directory) or not file.try_lock():
        return False
    try:
        return is_marked(directory)
    finally:
        file.unlock()


def report_on(directory: Path, file: JournalFile, regions: list[Region]) -> Report:
    """Decode the records of a surveyed journal, and return the report. Raises StorageError."""
    index = Index()
    findings: list[Finding] = []
    commits = records = rows = 0
    for region in regions:
        if region.good:
            commits += region.commits
            records += region.lines
            rows += _check_records(file, region, index, findings)
        if region.kind != "good":
            findings.append(_finding(region))
    if not regions:
        findings.append(Finding("damage", 1, 0, 0, "the file is empty"))
    if index.state is not None and index.state.header.id != directory.name:
        message = f"this is job {index.state.header.id!r}, but the directory has another name"
        findings.append(Finding("damage", 1, 0, 0, message))
    ahead_until = index.last_at if is_ahead(index.last_at) else None
    return Report(directory.name, str(file.path), commits, records, rows, findings, ahead_until)


def _check_records(file: JournalFile, region: Region, index: Index, findings: list[Finding]) -> int:
    """Decode the records of good commits; returns how many rows they added."""
    rows = 0
    # Records after damage may refer to lost records. So they are decoded, but not applied.
    is_applied = all(finding.kind == "torn" for finding in findings)
    lines = lines_of(file, region.offset, region.end)
    for line, (offset, text, _) in enumerate(lines, region.line):
        try:
            rows += isinstance(decode_record(text, exact=False), RowRecord)
            if is_applied:
                apply(index, offset, [text])
        except (UndecodableError, UnknownRecordError, BadRecordError) as error:
            why = error.why if isinstance(error, BadRecordError) else error
            kind: Kind = "newer" if isinstance(why, UnknownRecordError) else "damage"
            end = offset + len(text) + 1
            findings.append(Finding(kind, line, offset, end, str(why.args[0])))
            is_applied = False
    return rows


def _finding(region: Region) -> Finding:
    kind: Kind = region.kind if region.kind in ("torn", "newer", "unended") else "damage"
    message = region.reason
    if region.kind == "unended":
        message = "the last commit counts, but lacks its LF"
    if region.flip is not None:
        message += f"; one bit was flipped in byte {region.flip.at}: `journal repair` restores it"
    return Finding(kind, region.line, region.offset, region.end, message)

"""Verification reads a whole journal, reports everything that is wrong, and changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from journal.format.commits import START, Block, Position, has_seal, verified_blocks
from journal.format.decode import (
    UndecodableError,
    UnknownRecordError,
    decode_lines,
    decode_record,
)
from journal.format.records import RowRecord
from journal.format.torn_tail_or_damage import Region, lines_of, survey
from journal.fs.file_names import HINT_NAME, JOURNAL_NAME
from journal.fs.handles import JournalFile, open_journal, refusals_of
from journal.fs.locks import LOCK_TIMEOUT_S, wait_for_lock
from journal.fs.sync_mark import is_marked
from journal.ids import id_of_directory
from journal.index.hint import find_cut
from journal.index.index import Index
from journal.index.replay import BadRecordError, apply

Kind = Literal["damage", "mismatch", "torn", "unended", "newer"]


class Finding(msgspec.Struct, frozen=True):
    """A finding: a part of the file in which something is wrong.

    The part begins at byte ``offset``, in line ``line`` (1-based). It ends before byte ``end``, and
    has ``lines`` lines. ``kind``:

    - "damage": the bytes were changed after they were written.
    - "mismatch": the name of the directory isn't the id of the job whose journal it contains.
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
    lines: int = 1


class Report(msgspec.Struct, frozen=True):
    """The result of :func:`verify_job`. Findings are in the order of the file.

    - ``in_doubt``: True if a sync of the journal has failed since the system was booted, or if a
      process has died during a sync. In both cases, the last commits may not be on the disk. Before
      the next commit is synced, these commits are written again.
    """

    job_id: str
    path: str
    commits: int
    records: int
    rows: int
    findings: list[Finding]
    in_doubt: bool = False

    @property
    def damaged(self) -> bool:
        return any(finding.kind in ("damage", "mismatch") for finding in self.findings)


def verify_job(directory: Path, lock_timeout_s: float = LOCK_TIMEOUT_S) -> Report:
    """Check every seal (the checksum of a commit) and decode every record of a job's journal.

    ``directory``: the job's directory. Raises JobNotFoundError and StorageError.
    """
    path = directory / JOURNAL_NAME
    file = open_journal(path, id_of_directory(directory))
    with refusals_of(path, "read"):
        size = file.size_bytes()
        check = _Check(file)
        end, line = check.add_commits(START, size)
        if end.offset < size or not size or find_cut(directory, file) is not None:
            # A writer may be writing. So the rest of the journal is read with the commit lock held.
            locked = wait_for_lock(file, lock_timeout_s)
            try:
                size = file.size_bytes()
                if not has_seal(file, end):  # the writer has removed its last commits
                    check = _Check(file)
                    end, line = check.add_commits(START, size)
                for region in survey(file, size, end, line):
                    check.add(region)
            finally:
                if locked:
                    file.unlock()
        report = check.report(directory)
        return msgspec.structs.replace(report, in_doubt=_is_in_doubt(directory, file))


def _is_in_doubt(directory: Path, file: JournalFile) -> bool:
    """Return whether a failed or interrupted sync has left a sync mark.

    The mark is set before each sync, and cleared when the sync has succeeded. While a writer holds
    the commit lock, the mark doesn't count: a sync may be in progress.
    """
    if not is_marked(directory) or not file.try_lock():
        return False
    try:
        return is_marked(directory)
    finally:
        file.unlock()


def report_on(directory: Path, file: JournalFile, regions: list[Region]) -> Report:
    """Decode the records in the regions of a journal, and return the report.

    Raises StorageError.
    """
    check = _Check(file)
    for region in regions:
        check.add(region)
    return check.report(directory)


class _Check:
    """Decodes the records of a journal's regions in order, and collects the findings."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._index = Index()
        self._findings: list[Finding] = []
        self._commits = self._records = self._rows = 0
        self._end = 0  # the end of the last good commit
        # Records after damage may refer to lost records. So they are decoded, but not applied.
        self._applies = True

    def add_commits(self, position: Position, end: int, line: int = 1) -> tuple[Position, int]:
        """Check the good commits from ``position`` to ``end``.

        ``line``: the number of the first line. Returns the position after these commits, and the
        number of the line after them.
        """
        for block in verified_blocks(self._file, position, end):
            self._look(block, line)
            self._commits += block.commits
            self._records += len(block.lines)
            position, line = block.after, line + len(block.lines)
        self._end = position.offset
        return position, line

    def add(self, region: Region) -> None:
        if region.good:
            start = Position(region.offset, region.start)
            position, line = self.add_commits(start, region.end, region.line)
            for offset, text, _ in lines_of(self._file, position.offset, region.end):
                self._look_closely(offset, [text], line)  # a line of a commit without its LF
                self._records, line = self._records + 1, line + 1
            self._commits += region.kind != "good"
            self._end = region.end
        if region.kind != "good":
            self._find(_finding(region))

    def report(self, directory: Path) -> Report:
        findings = self._findings
        if not self._records and not findings:
            findings.append(Finding("damage", 1, 0, 0, "the file is empty"))
        state = self._index.state
        job_id = id_of_directory(directory) if state is None else state.header.job_id
        if job_id != id_of_directory(directory):
            message = (
                f"this is the journal of job {job_id!r}: call the directory {job_id!r}, or move it "
                "to another store"
            )
            findings.append(Finding("mismatch", 1, 0, 0, message))
        self._find_cut(directory)
        return Report(
            job_id=id_of_directory(directory),
            path=str(self._file.path),
            commits=self._commits,
            records=self._records,
            rows=self._rows,
            findings=findings,
        )

    def _find_cut(self, directory: Path) -> None:
        """Report that the end of the journal is missing, if the hint proves this.

        If other damage was found, the missing end isn't reported: both may have one cause, such as
        a changed line end. If the missing end is reported, bytes that look like a torn tail are the
        rest of a commit after a cut.
        """
        missing = find_cut(directory, self._file)
        if missing is None or any(finding.kind == "damage" for finding in self._findings):
            return
        size = self._file.size_bytes()
        left = size - self._end
        part = f" after {left} bytes of a commit that is incomplete" if left else ""
        what = (
            f"{missing.offset - size} bytes are missing here{part}"
            if missing.offset > size
            else f"the commit that ended at byte {missing.offset} is missing"
        )
        message = (
            f"{what}: {HINT_NAME} names a commit that the file no longer has, so the journal was cut, "
            "or an older copy was restored in its place; before a repair, `journal pull` a newer copy "
            "or pack, if you have one"
        )
        tail = ("torn", "unended")  # the rest of a commit after the cut
        self._findings[:] = [each for each in self._findings if each.kind not in tail]
        self._find(Finding("damage", self._records + 1, self._end, size, message))

    def _find(self, finding: Finding) -> None:
        if any(before.kind == "newer" for before in self._findings):
            return  # a newer version may write later bytes in another format
        self._findings.append(finding)
        if finding.kind != "torn":
            self._applies = False

    def _look(self, block: Block, line: int) -> None:
        """Check all records of a block at once. ``line``: the number of the block's first line."""
        try:
            records = decode_lines(block.lines, is_ascii=block.ascii)
        except (UndecodableError, UnknownRecordError):
            self._look_closely(block.offset, block.lines, line)
            return
        if not self._applies:
            self._rows += list(map(type, records)).count(RowRecord)
            return
        rows_before = self._index.row_count
        try:
            apply(self._index, block.offset, block.lines, records=records)
        except BadRecordError as error:
            self._look_closely(block.offset, block.lines, line, error)
        else:
            self._rows += self._index.row_count - rows_before

    def _look_closely(
        self, offset: int, lines: list[bytes], line: int, bad: BadRecordError | None = None
    ) -> None:
        """Check lines one by one.

        ``bad``: the error from applying all lines at once, or None if the caller hasn't applied
        them.
        """
        last_at = self._index.last_at
        if self._applies and bad is None:
            try:
                apply(self._index, offset, lines)
            except BadRecordError as error:
                bad = error
        self._index.last_at = last_at
        for number, text in enumerate(lines, line):
            end = offset + len(text) + 1
            try:
                record = decode_record(text, exact=False)
                self._rows += isinstance(record, RowRecord)
                if self._applies:
                    if bad is not None and bad.offset == offset:
                        raise bad.why
                    self._index.last_at = record.at
            except (UndecodableError, UnknownRecordError) as error:
                kind: Kind = "newer" if isinstance(error, UnknownRecordError) else "damage"
                self._find(Finding(kind, number, offset, end, str(error.args[0])))
            offset = end


def _finding(region: Region) -> Finding:
    kind: Kind = region.kind if region.kind in ("torn", "newer", "unended") else "damage"
    message = region.reason
    if region.kind == "unended":
        message = "the last commit counts, but lacks its LF"
    if region.flip is not None:
        message += f"; {region.flip}: `journal repair` restores it"
    if region.kind == "joined":
        message += ": `journal repair` adds it"
    return Finding(kind, region.line, region.offset, region.end, message, region.lines)

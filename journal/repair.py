"""A damaged journal made whole again, never in place: the verb around ``salvage.py``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from journal import files
from journal.errors import (
    FormatVersionError,
    InvalidValueError,
    JobLockedError,
    JobNotFoundError,
    JournalDamagedError,
)
from journal.files import JournalFile
from journal.format import JOURNAL_NAME, newer_format
from journal.log import Log
from journal.runlock import RunLock
from journal.salvage import Action, OpenRows, Salvage
from journal.scan import BYTE_ORDER_MARK, TEXT_MODE, Stretch, survey
from journal.verify import Report, report_on

DAMAGED_NAME = "journal.damaged"
_STAGING_NAME = ".repair"


class Repair(msgspec.Struct, frozen=True):
    """What :func:`repair_job` did; nothing if ``actions`` is empty.

    ``damaged_copy`` is the path of the journal as it was, None if it needed no salvaging.
    ``records`` and ``rows`` count what the job holds now, ``lost_rows`` are the numbers of the
    rows whose data is gone, ``review_count`` counts the rows that need a review by the repair.
    """

    job_id: str
    path: str
    damaged_copy: str | None
    records: int
    rows: int
    actions: list[Action]
    lost_rows: list[int]
    review_count: int

    @property
    def lossless(self) -> bool:
        """Whether nothing that was acknowledged is gone."""
        return not any(action.kind == "lost" for action in self.actions)


def repair_job(
    directory: Path, *, open_rows: OpenRows = "review", lock_timeout_s: float = 10.0
) -> Repair:
    """Put a whole journal in the place of the damaged one of the job in ``directory``.

    What is kept, and what becomes of rows, says :class:`~journal.salvage.Salvage`. When it
    returns, the new journal and the copy of the damaged one survive a power cut; when it raises,
    the journal is as it was, except after CommitOutcomeUnknownError.

    Raises JobNotFoundError, JobBusyError (a run works on the job), JobLockedError,
    JobMismatchError, FormatVersionError (an older version repairs nothing), StorageError, and
    JournalDamagedError if there is nothing that could be vouched for.
    """
    if open_rows not in ("review", "keep"):
        raise InvalidValueError("open_rows", open_rows, "must be 'review' or 'keep'")
    run = RunLock.take(directory, directory.name)
    try:
        with _locked(directory, lock_timeout_s) as file:
            stretches = survey(file, file.size_bytes())
            report = report_on(directory, file, stretches)
            _refuse_newer(file, report)
            if report.damaged:
                return _salvage(directory, file, stretches, open_rows)
        actions = [Action("torn", f.line, 0, [], f.message) for f in report.findings]
        if actions:
            with Log(directory, sync=True, lock_timeout_s=lock_timeout_s):
                pass  # a writer saves the torn tail and cuts it off
        return Repair(report.job_id, report.path, None, report.records, report.rows, actions, [], 0)
    except OSError as error:
        raise files.storage_error(directory, "repair", error) from error
    finally:
        run.release()


@contextmanager
def _locked(directory: Path, lock_timeout_s: float) -> Iterator[JournalFile]:
    """The journal, with every writer locked out."""
    try:
        file = JournalFile(directory / JOURNAL_NAME)
    except (FileNotFoundError, NotADirectoryError):
        raise JobNotFoundError(directory.name) from None
    try:
        if not files.wait_for_lock(file, lock_timeout_s):
            raise JobLockedError(directory.name, lock_timeout_s)
        yield file
    finally:
        file.close()


def _refuse_newer(file: JournalFile, report: Report) -> None:
    what = [finding.message for finding in report.findings if finding.kind == "newer"]
    first = newer_format(file.find_line(0) or b"")
    if first is not None or what:
        raise FormatVersionError(file.path, first or what[0])


def _salvage(
    directory: Path, file: JournalFile, stretches: list[Stretch], open_rows: OpenRows
) -> Repair:
    """Build the new journal beside the damaged one, save that one, and let the two change places."""
    size = file.size_bytes()
    staging = directory / _STAGING_NAME
    files.remove_tree(staging)  # of a repair that died
    files.make_directory(staging)
    try:
        source, actions = file, []
        if any(stretch.span.reason in (TEXT_MODE, BYTE_ORDER_MARK) for stretch in stretches):
            source = JournalFile(files.write_new(staging / "converted.jsonl", _to_unix(file, size)))
            stretches = survey(source, source.size_bytes())
            actions = [Action("converted", 1, 0, [], "CR before LF or a byte order mark taken out")]
        # Nobody is told of its commits before the end, so there is one sync, at the end.
        log = Log(staging, sync=False, lock_timeout_s=0, create=True)
        salvage = Salvage(directory, source, log)
        for stretch in stretches:
            salvage.take(stretch)
        if log.index.state is None:
            raise JournalDamagedError(file.path, 1, 0, "a commit", "none that could be salvaged")
        reviewed = salvage.finish(open_rows)
        records = log.file.count_lines(log.file.size_bytes())
        log.file.sync()
        log.close()
        copy = files.save_copy(file, 0, size, directory / DAMAGED_NAME, sync=True)
        files.sync_directory(directory)
        files.rename(staging / JOURNAL_NAME, directory / JOURNAL_NAME)
    finally:
        with suppress(OSError):
            files.remove_tree(staging)
    try:
        files.sync_directory(directory)
    except OSError as error:
        refused = files.storage_error(directory, "sync", error)
        raise files.outcome_unknown(refused) from error
    return Repair(
        directory.name,
        str(file.path),
        str(copy),
        records,
        log.index.row_count,
        actions + salvage.actions,
        sorted(salvage.stand_ins),
        reviewed,
    )


def _to_unix(file: JournalFile, size: int) -> Iterator[bytes]:
    """The file without a byte order mark and without the CR before each LF."""
    offset, held = 0, b""
    while offset < size and (chunk := file.read_at(offset, min(1 << 20, size - offset))):
        text = held + (chunk if offset else chunk.removeprefix(b"\xef\xbb\xbf"))
        offset += len(chunk)
        held = b"\r" if text.endswith(b"\r") else b""  # its LF may be in the next chunk
        yield text.removesuffix(held).replace(b"\r\n", b"\n")
    yield held

"""A damaged journal made whole again, never in place: the verb around ``salvage.py``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from journal.errors import (
    FormatVersionError,
    InvalidValueError,
    JobLockedError,
    JobNotFoundError,
    JournalDamagedError,
    NothingToSalvageError,
)
from journal.format.commits import Readable
from journal.format.records import SEAL_BYTES, stated_crc
from journal.format.scan import Stretch, lines_of, survey
from journal.fs import directories, files, handles, locks
from journal.fs.handles import JournalFile
from journal.fs.locks import LOCK_TIMEOUT_S
from journal.fs.names import DAMAGED_NAME, JOURNAL_NAME, REPAIR_STAGING_NAME, SYNC_MARK_NAME
from journal.repair.salvage import Action, OpenRows, Salvage
from journal.store.journal import Journal
from journal.store.run_lock import RunLock
from journal.verify import report_on

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CRS_BEFORE_LF = re.compile(rb"(?<!\r)\r+\n")  # a long run of CRs is gone through once
_CONVERTED = "CRs before LFs and a byte order mark taken out, a missing last LF put back"


class Repair(msgspec.Struct, frozen=True):
    """What :func:`repair_job` did; nothing if ``actions`` is empty.

    ``damaged_copy`` is the path of the journal as it was, None if it needed no salvaging.
    ``lossless``: nothing is known to be gone that was acknowledged.
    ``records`` and ``rows`` count what the job holds now, ``lost_rows`` are the numbers of the
    rows whose data is gone, ``review_count`` counts the rows that need a review by the repair.
    """

    job_id: str
    path: str
    damaged_copy: str | None
    lossless: bool
    records: int
    rows: int
    actions: list[Action]
    lost_rows: list[int]
    review_count: int


def repair_job(
    directory: Path, *, open_rows: OpenRows = "review", lock_timeout_s: float = LOCK_TIMEOUT_S
) -> Repair:
    """Put a whole journal in the place of the damaged one of the job in ``directory``.

    What is kept, and what becomes of rows, says :class:`~journal.repair.salvage.Salvage`. When it
    returns, the new journal and the copy of the damaged one survive a power cut; when it raises,
    the journal is as it was, except after CommitOutcomeUnknownError.

    Raises JobNotFoundError, JobBusyError (a run works on the job), JobLockedError,
    JobMismatchError, FormatVersionError (an older version repairs nothing), StorageError, and
    NothingToSalvageError.
    """
    if open_rows not in ("review", "keep"):
        raise InvalidValueError("open_rows", open_rows, "must be 'review' or 'keep'")
    directory = Path(os.path.abspath(directory))
    run = RunLock.take(directory, directory.name)
    try:
        with _locked(directory, lock_timeout_s) as file:
            directories.remove_tree(directory / REPAIR_STAGING_NAME)  # of a repair that died
            stretches = survey(file, file.size_bytes())
            report = report_on(directory, file, stretches)
            for finding in report.findings:
                if finding.kind == "newer":
                    raise FormatVersionError(file.path, finding.message)
            if report.damaged:
                return _salvage(directory, file, stretches, open_rows)
        actions = [
            Action("torn", f.line, 0, [], f.message)
            if f.kind == "torn"
            else Action("mended", report.records, 1, [], "the LF of the last commit put back")
            for f in report.findings
        ]
        if actions:
            with Journal(directory, sync=True, lock_timeout_s=lock_timeout_s):
                pass  # a writer saves the torn tail and cuts it off, or puts the LF back
        return Repair(
            directory.name,
            report.path,
            damaged_copy=None,
            lossless=True,
            records=report.records,
            rows=report.rows,
            actions=actions,
            lost_rows=[],
            review_count=0,
        )
    except OSError as error:
        raise handles.storage_error(directory, "repair", error) from error
    finally:
        run.release()


@contextmanager
def _locked(directory: Path, lock_timeout_s: float) -> Iterator[JournalFile]:
    """The journal, with every writer locked out."""
    try:
        file = JournalFile(directory / JOURNAL_NAME)
    except (FileNotFoundError, NotADirectoryError):
        raise JobNotFoundError(directory.name) from None
    except OSError as error:
        raise handles.storage_error(directory / JOURNAL_NAME, "open", error) from error
    try:
        if not locks.wait_for_lock(file, lock_timeout_s):
            raise JobLockedError(directory.name, lock_timeout_s)
        yield file
    finally:
        file.close()


def _salvage(
    directory: Path, file: JournalFile, stretches: list[Stretch], open_rows: OpenRows
) -> Repair:
    """Build the new journal beside the damaged one, save that one, and let the two change places."""
    staging = directory / REPAIR_STAGING_NAME
    directories.make_directory(staging)
    try:
        repair = _build(directory, file, stretches, open_rows)
        copy = files.save_copy(file, 0, file.size_bytes(), directory / DAMAGED_NAME, sync=True)
        directories.sync_directory(directory)
        files.rename(staging / JOURNAL_NAME, directory / JOURNAL_NAME)
    finally:
        with suppress(OSError):
            directories.remove_tree(staging)
    try:
        directories.sync_directory(directory)
    except OSError as error:
        refused = handles.storage_error(directory, "sync", error)
        raise handles.outcome_unknown(refused) from error
    files.remove_file(directory / SYNC_MARK_NAME)  # it is of the damaged journal's syncs
    return msgspec.structs.replace(repair, damaged_copy=str(copy))


def _build(
    directory: Path, file: JournalFile, stretches: list[Stretch], open_rows: OpenRows
) -> Repair:
    """Make the new journal in the staging directory; on the disk when it returns."""
    staging = directory / REPAIR_STAGING_NAME
    size = file.size_bytes()
    source, actions = file, []
    if any(_was_edited(file, stretch) for stretch in stretches):
        source = JournalFile(files.write_file(staging / "converted.jsonl", _to_unix(file, size)))
        stretches = survey(source, source.size_bytes())
        actions = [Action("converted", 1, 0, [], _CONVERTED)]
    try:
        # Nobody is told of its commits before the end, so there is one sync, at the end.
        journal = Journal(staging, sync=False, lock_timeout_s=0, create=True)
        salvage = Salvage(directory, source, journal)
        for stretch in stretches:
            salvage.take(stretch, last=stretch is stretches[-1])
        if journal.index.state is None:
            raise NothingToSalvageError(file.path)
        reviewed = salvage.finish(open_rows)
    finally:
        if source is not file:
            source.close()
    new = journal.file
    report = report_on(directory, new, survey(new, new.size_bytes()))
    if report.findings:  # never replace a damaged journal by another
        raise JournalDamagedError(
            file.path, 1, 0, "a repair that ends well", report.findings[0].message
        )
    new.take_owner_of(file)
    new.sync()
    journal.close()
    actions += salvage.actions
    lost = salvage.stand_ins or any(action.kind in ("lost", "unsealed") for action in actions)
    return Repair(
        directory.name,
        str(file.path),
        damaged_copy=None,
        lossless=not lost,
        records=report.records,
        rows=report.rows,
        actions=actions,
        lost_rows=sorted(salvage.stand_ins),
        review_count=reviewed,
    )


def _was_edited(file: JournalFile, stretch: Stretch) -> bool:
    """Whether a part of the file went through an editor, or was copied in text mode.

    No lawful line holds a CR: JSON escapes it within strings. A seal without its LF is either the
    end of a commit whose LF was taken, or of one that doesn't fit anyhow.
    """
    if stretch.kind == "good":
        return False
    return any(
        text.endswith(b"\r")
        or text.startswith(_BYTE_ORDER_MARK)
        or (not ended and stated_crc(text) is not None)
        for _, text, ended in lines_of(file, stretch.span.offset, stretch.span.end)
    )


def _to_unix(file: Readable, size: int) -> Iterator[bytes]:
    """The file without a byte order mark and CRs before LFs, and with the LF of its last commit."""
    offset, held, end = 0, 0, b""
    while offset < size and (chunk := file.read_at(offset, min(1 << 20, size - offset))):
        text = chunk if offset else chunk.removeprefix(_BYTE_ORDER_MARK)
        offset += len(chunk)
        body = text.rstrip(b"\r")  # their LF may be in the next chunk
        crs = len(text) - len(body)
        if not body:
            held += crs
            continue
        body = b"\r" * held + body
        held = crs
        yield _CRS_BEFORE_LF.sub(b"\n", body)
        end = (end + body)[-SEAL_BYTES:]
    yield b"\r" * held if stated_crc(end) is None else b"\n"

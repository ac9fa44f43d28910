"""Repairs a job: builds a new journal, and puts it in place of the damaged journal.

The damaged journal is never changed in place, and is kept as a backup.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from journal.errors import FormatVersionError, JournalDamagedError
from journal.format.commits import Readable, has_seal
from journal.format.seal import stated_crc
from journal.format.torn_tail_or_damage import Region, lines_of, survey
from journal.fs import files, handles
from journal.fs.file_names import (
    DAMAGED_NAME,
    HINT_NAME,
    JOURNAL_NAME,
    REPAIR_STAGING_NAME,
    SYNC_MARK_NAME,
)
from journal.fs.handles import JournalFile
from journal.fs.locks import LOCK_TIMEOUT_S
from journal.ids import id_of_directory
from journal.index.hint import find_cut, read_hint
from journal.repair.salvage import Action, Salvage
from journal.store.journal import Journal
from journal.store.log import Log
from journal.store.run_lock import RunLock
from journal.verify import report_on

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_CONVERTED = "removed CRs before LFs and a byte order mark, added a missing last LF"


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """The result of :func:`repair_job`. If ``actions`` is empty, nothing was changed.

    - ``damaged_copy``: the path of the backup of the damaged journal, or None if the journal wasn't
      damaged.
    - ``lossless``: True if all acknowledged changes were kept, as far as is known.
    - ``records``, ``rows``: how many records and rows the job has after the repair.
    - ``lost_rows``: the numbers of the rows whose data is lost.
    - ``review_count``: how many rows need a review because of the repair.
    """

    job_id: str
    path: str
    damaged_copy: str | None = None
    lossless: bool = True
    records: int
    rows: int
    actions: list[Action]
    lost_rows: list[int] = msgspec.field(default_factory=list)
    review_count: int = 0


def repair_job(directory: Path, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> Repair:
    """Replace the damaged journal in ``directory`` with a new journal made from undamaged parts.

    :class:`~journal.repair.salvage.Salvage` states the rules. On return, the new journal and the
    backup of the damaged journal survive a power cut. If this function raises, the journal is
    unchanged, except after CommitOutcomeUnknownError.

    Raises JobBusyError if a run works on the job. Raises FormatVersionError if a newer version
    wrote the journal, and JournalDamagedError if no part of the journal is intact. Also raises
    JobNotFoundError, JobLockedError, JobMismatchError, StorageError, and CommitOutcomeUnknownError.
    """
    directory = Path(os.path.abspath(directory))
    run = RunLock.take(directory, id_of_directory(directory), lock_timeout_s=lock_timeout_s)
    try:
        log = Log(directory, sync=True, lock_timeout_s=lock_timeout_s)
        with log.locked():
            file = log.file
            # A repair that died may have left the staging directory.
            files.remove_tree(directory / REPAIR_STAGING_NAME)
            regions = survey(file, file.size_bytes())
            report = report_on(directory, file, regions)
            for finding in report.findings:
                if finding.kind == "newer":
                    raise FormatVersionError(file.path, finding.message)
            if report.damaged:
                return _salvage(directory, file, regions, run)
        actions = [
            Action("torn", f.line, f.lines, [], f.message)
            if f.kind == "torn"
            else Action("unended", report.records, 1, [], "added the LF of the last commit")
            for f in report.findings
        ]
        if actions:
            journal = Journal(directory, sync=True, lock_timeout_s=lock_timeout_s)
            journal.log.use_claim(run.claim)
            with journal:
                pass  # an empty commit cuts off a torn tail, or adds a missing LF
        return Repair(
            job_id=id_of_directory(directory),
            path=report.path,
            records=report.records,
            rows=report.rows,
            actions=actions,
        )
    except OSError as error:
        raise handles.storage_error(directory, "repair", error) from error
    finally:
        run.release()


def _salvage(directory: Path, file: JournalFile, regions: list[Region], run: RunLock) -> Repair:
    """Replace the damaged journal with a new journal. Keep a backup of the damaged journal."""
    staging = directory / REPAIR_STAGING_NAME
    files.make_directory(staging)
    try:
        repair = _build(directory, file, regions)
        copy = files.save_copy(file, 0, file.size_bytes(), directory / DAMAGED_NAME, sync=True)
        files.sync_directory(directory)
        run.check()
        files.rename(staging / JOURNAL_NAME, directory / JOURNAL_NAME)
    finally:
        with suppress(OSError):
            files.remove_tree(staging)
    try:
        files.sync_directory(directory)
    except OSError as error:
        refused = handles.storage_error(directory, "sync", error)
        raise handles.outcome_unknown(refused) from error
    # Both files were about the damaged journal. Until now, the hint was needed as proof of a cut.
    files.remove_file(directory / SYNC_MARK_NAME)
    files.remove_file(directory / HINT_NAME)
    return msgspec.structs.replace(repair, damaged_copy=str(copy))


def _build(directory: Path, file: JournalFile, regions: list[Region]) -> Repair:
    """Make the new journal in the staging directory. On return, the new journal is synced."""
    staging = directory / REPAIR_STAGING_NAME
    size = file.size_bytes()
    source, actions = file, []
    if any(_was_edited(file, region) for region in regions):
        source = JournalFile(files.write_file(staging / "converted.jsonl", _to_unix(file, size)))
        regions = survey(source, source.size_bytes())
        actions = [Action("converted", 1, 0, [], _CONVERTED)]
    # Nothing is acknowledged before the end, so one sync at the end is enough.
    journal = Journal(staging, sync=False, lock_timeout_s=0, create=True)
    salvage = Salvage(directory, source, journal)
    missing = find_cut(directory, file)
    rest = regions.pop() if missing is not None and regions[-1].kind == "torn" else None
    for region in regions:
        salvage.take(region)
    if journal.index.state is None:
        hint = "here nothing can be: replace it with a copy from before the damage"
        raise JournalDamagedError(file.path, 1, 0, "a commit", "nothing intact", hint)
    if missing is not None and not has_seal(journal.file, missing):
        hinted = read_hint(directory, file, is_cut=True)
        salvage.take_cut(regions[-1], rest, hinted and hinted[0])
    reviewed = salvage.finish()
    new = journal.file
    report = report_on(directory, new, survey(new, new.size_bytes()))
    if report.findings:  # never replace a damaged journal with a damaged journal
        raise JournalDamagedError(
            file.path, 1, 0, "an undamaged result of the repair", report.findings[0].message
        )
    new.take_owner_of(file)
    new.sync()
    journal.close()
    actions += salvage.actions
    return Repair(
        job_id=id_of_directory(directory),
        path=str(file.path),
        lossless=salvage.is_lossless,
        records=report.records,
        rows=report.rows,
        actions=actions,
        lost_rows=sorted(salvage.placeholders),
        review_count=reviewed,
    )


def _was_edited(file: JournalFile, region: Region) -> bool:
    """Return whether a region went through an editor, or was copied in text mode.

    No valid line contains a CR, since JSON escapes CRs in strings. So a CR shows an edit.
    """
    return not region.good and any(
        text.endswith(b"\r") or text.startswith(_BYTE_ORDER_MARK)
        for _, text, _ in lines_of(file, region.offset, region.end)
    )


def _to_unix(file: Readable, size: int) -> Iterator[bytes]:
    """Yield the content of the file without a byte order mark and without CRs before LFs.

    If the last line has a seal, but no LF, the LF is added.
    """
    for offset, text, ended in lines_of(file, 0, size):
        text = text if offset else text.removeprefix(_BYTE_ORDER_MARK)  # noqa: PLW2901
        line = text.rstrip(b"\r")
        yield line + b"\n" if ended or stated_crc(line) is not None else text

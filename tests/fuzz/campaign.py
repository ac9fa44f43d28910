"""Checks of any bytes in the place of a journal, and a command for a long run of these checks.

    python tests/fuzz/campaign.py --seconds 600 --seed 7 [--target replay]

The same seed gives the same cases. A case that fails, hangs or crashes the interpreter is written
to a file, and the path is printed. ``--file PATH`` tries the case again.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the helpers, when run as a command

from fuzz.hints import Hint, good_hint, mutate_hint
from fuzz.mutator import JOB, Mutant, good_commits, mutate
from support.activation import check_share
from support.children import journal_path, seal_commits, split_commits

from journal import (
    FormatVersionError,
    JobMismatchError,
    JobRow,
    JobService,
    JournalDamagedError,
    JournalError,
    RowStatus,
)
from journal.format import commits as replay
from journal.fs.handles import JournalFile
from journal.ids import MAX_ROW_NUMBER
from journal.verify import Report, verify_job

HANGS_AFTER_S = 60
HARMLESS = {"torn", "unended"}  # findings about what the next writer puts in order

GOOD = good_commits(30, seed=1)


class Said(NamedTuple):
    """What a service says of a job."""

    summary: Any
    rows: list[JobRow]


def read(root: Path) -> Said | JournalError:
    """All that a fresh service reads of the job, or how it refuses."""
    with JobService(root, sync="none", lock_timeout_s=1) as service:
        return read_with(service)


def read_with(service: JobService) -> Said | JournalError:
    try:
        service.get_job(JOB)
        summary = service.get_job_summary(JOB)
        return Said(summary, list(service.get_rows(JOB)))
    except JournalError as error:
        return error


def row_or_line(service: JobService, row_id: str) -> JobRow | int | None:
    """The row, or the line that is damaged."""
    try:
        return service.get_row(row_id)
    except JournalDamagedError as error:
        return error.line


def place(root: Path, content: bytes) -> Path:
    path = journal_path(root, JOB)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


class Replay:
    """Opening, reading, verifying and writing on agree, and nothing is read that never was."""

    def __init__(self, root: Path) -> None:
        """``root`` is an empty directory, for the one job of each case."""
        self._root = root
        self._written: list[Said] = []
        self._good = seal_commits(GOOD)
        commits = split_commits(self._good)
        for end in range(1, len(commits) + 1):
            place(root, b"".join(commits[:end]))
            said = read(root)
            assert isinstance(said, Said)
            self._written.append(said)

    def __call__(self, mutant: Mutant) -> str:
        """Check one mutant; return what came of it, for the statistics."""
        path = place(self._root, mutant.content)
        said = read(self._root)
        report = verify_job(path.parent)
        assert path.read_bytes() == mutant.content, "reading has changed the file"
        self._check_seals(path, report)
        self._check_that_open_services_see_it(path, mutant.content, said)
        if isinstance(said, JournalError):
            self._check_refusal(said, report)
            self._check_that_nothing_is_written(path, mutant.content)
            return type(said).__name__
        passed_over = self._check_report(path, report)
        self._check_counts(said, report)
        if not mutant.sealed:
            assert said in self._written, "rows were read that never were written"
            assert not passed_over
        self._check_writing_on(path, said, report, mutant.content)
        kinds = sorted({finding.kind for finding in report.findings})
        return " ".join(("read", *kinds))

    def _check_seals(self, path: Path, report: Report) -> None:
        """The fast reader of seals stops where the thorough one finds the first bad span.

        Whether or not a commit fits into what it reads at a time.
        """
        file = JournalFile(path)
        size = file.size_bytes()
        usual_bytes = replay.CHUNK_BYTES
        read_lines = []
        for replay.CHUNK_BYTES in (300, usual_bytes):
            blocks = list(replay.verified_blocks(file, replay.START, size))
            end = blocks[-1].after.offset if blocks else 0
            # What follows a newer record isn't judged.
            named = any(f.kind == "newer" or f.offset == end < f.end for f in report.findings)
            assert end == size or named, end
            read_lines.append([line for block in blocks for line in block.lines])
            assert verify_job(path.parent) == report
        assert read_lines[0] == read_lines[1]
        file.close()

    def _check_that_open_services_see_it(
        self, path: Path, content: bytes, said: Said | JournalError
    ) -> None:
        """A service that knows a journal which this then goes on from says what a fresh one does."""
        pairs = zip(content, self._good, strict=False)
        shared = next((at for at, (one, other) in enumerate(pairs) if one != other), len(content))
        known = self._good[: self._good.rfind(b"\n", 0, shared) + 1]
        path.write_bytes(known)
        with JobService(self._root, sync="none", lock_timeout_s=1) as service:
            read_with(service)
            with path.open("r+b") as file:
                file.write(content)
                file.truncate()
            seen = read_with(service)
        assert seen == said or (type(seen) is type(said) and str(seen) == str(said)), (seen, said)

    def _check_refusal(self, error: JournalError, report: Report) -> None:
        """What a reader refuses, verify names, with the same line and offset.

        Or something before it: behind broken history verify can't tell what a record refers to.
        """
        places = {(f.kind, f.line, f.offset) for f in report.findings}
        assert isinstance(error, (JournalDamagedError, FormatVersionError, JobMismatchError)), error
        if isinstance(error, JournalDamagedError):
            before = any(
                f.kind not in HARMLESS and f.offset < error.offset for f in report.findings
            )
            named = ("damage", error.line, error.offset) in places
            assert named or before, (error, report.findings)
        elif isinstance(error, FormatVersionError):
            lines = {f.line for f in report.findings if f.kind == "newer"}
            assert lines, (error, report.findings)
        else:
            assert {("damage", 1, 0), ("mismatch", 1, 0)} & places, (error, report.findings)

    def _check_that_nothing_is_written(self, path: Path, content: bytes) -> None:
        """A writer that is refused by what opening reads leaves no trace; none is left unnamed."""
        with JobService(self._root, sync="none", lock_timeout_s=1) as service:
            try:
                service.set_error(JOB, "E", "written on")
            except JournalError:
                assert path.read_bytes() == content

    def _check_report(self, path: Path, report: Report) -> bool:
        """Where all was read, verify finds at most what no reader has to look at."""
        found = [finding for finding in report.findings if finding.kind not in HARMLESS]
        content = path.read_bytes()
        for finding in found:
            line = content[finding.offset : finding.end]
            # By a later one of its row: also its first data, which is given other data later.
            replaced = b"row_status" in line or b"row_data" in content[finding.offset :]
            replaced |= b'"call"' in line or b'"row_step"' in line  # nobody has to read all of it
            # Opening and going through all rows don't look at how the time of a row is written.
            is_time = b'"type":"row",' in line and finding.message.startswith("the time ")
            assert replaced or is_time or "\ufffd" in line.decode(errors="replace"), finding
        return bool(found)

    def _check_counts(self, said: Said, report: Report) -> None:
        """The tallies, which the index keeps, are those of the rows as they are decoded."""
        tallies = Counter(row.status for row in said.rows)
        assert said.summary["pending_count"] == tallies[RowStatus.PENDING]
        wrong = sum(finding.kind == "damage" for finding in report.findings)  # first data of rows
        assert len(said.rows) - wrong <= report.rows <= len(said.rows), report
        assert [row.row_number for row in said.rows] == sorted(row.row_number for row in said.rows)
        with JobService(self._root) as service:
            for status in RowStatus:
                listed = list(service.get_rows(JOB, status))
                assert listed == [row for row in said.rows if row.status is status], status
            named = {finding.line for finding in report.findings}
            for row in said.rows[:3]:
                seen = row_or_line(service, row.id)
                assert seen == row or seen in named, (seen, row)

    def _check_writing_on(self, path: Path, said: Said, report: Report, content: bytes) -> None:
        """A commit on what was read is there when it is read again, and all else as it was."""
        if any(finding.kind == "unended" for finding in report.findings):
            content += b"\n"
        with JobService(self._root, sync="none", lock_timeout_s=1) as service:
            service.set_error(JOB, "E", "written on")
            more: list[JobRow] = []
            if said.summary["status"] not in {"completed", "failed", "cancelled"}:
                highest = max((row.row_number for row in said.rows), default=0)
                if highest < MAX_ROW_NUMBER:
                    more = list(service.create_rows(JOB, [{"data": {"more": True}}]))
        again = read(self._root)
        assert isinstance(again, Said), again
        assert again.rows == said.rows + more
        last = path.read_bytes().splitlines(keepends=True)[-1]
        assert re.search(rb'"at":"[-0-9]{10}T[0-9:]{8}\.[0-9]{6}Z","crc"', last), last
        (kept, *torn) = [path, *path.parent.glob("journal.torn-*")]
        tails = [finding for finding in report.findings if finding.kind == "torn"]
        assert len(torn) == len(tails)
        cut = tails[0].offset if tails else len(content)
        assert kept.read_bytes().startswith(content[:cut])
        for copy in torn:
            assert copy.read_bytes() == content[cut:]
            copy.unlink()
        kinds = [finding.kind for finding in verify_job(path.parent).findings]
        assert kinds == [
            finding.kind for finding in report.findings if finding.kind not in HARMLESS
        ]


# One for each thing that reads what a hostile hand may have written: made with an empty directory,
# called with a mutant, raises if anything is wrong, returns a word for the statistics.
TARGETS: dict[str, Callable[[Path], Callable[[Mutant], str]]] = {"replay": Replay, "hint": Hint}
MUTATE: dict[str, Callable[[random.Random], Mutant]] = {
    "replay": lambda rng: mutate(rng, GOOD),
    "hint": mutate_hint,
}
UNCHANGED: dict[str, Callable[[], bytes]] = {
    "replay": lambda: seal_commits(GOOD),
    "hint": good_hint,
}


# --- the long run ----------------------------------------------------------------------------


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run(target: str, seconds: float, seed: int, work: Path) -> int:
    """Try mutants for so long; return how many. Raises what the target raises."""
    check = TARGETS[target](work / "root")
    case = work / "case.jsonl"
    outcomes: Counter[str] = Counter()
    good, changed = UNCHANGED[target](), 0
    end_s = time.monotonic() + seconds
    try:
        for number in count():
            if time.monotonic() >= end_s:
                break
            mutant = MUTATE[target](random.Random(f"{seed}:{number}"))
            case.write_bytes(b"%d\n" % mutant.sealed + mutant.content)
            faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True, file=2)
            outcomes[check(mutant)] += 1
            changed += mutant.content != good
    finally:
        faulthandler.cancel_dump_traceback_later()
    say(f"{target}: {outcomes.total()} cases, seed {seed}")
    for outcome, cases in outcomes.most_common():
        say(f"{cases:8} {outcome}")
    say(f"{changed:8} of them were changed")
    check_share(f"{target}: mutants that were changed", changed, outcomes.total(), 0.8)
    return outcomes.total()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--target", choices=TARGETS, default=next(iter(TARGETS)))
    parser.add_argument("--file", type=Path, help="try this case alone")
    asked = parser.parse_args(arguments)
    work = Path(tempfile.mkdtemp(prefix="fuzz-"))
    (work / "root").mkdir()
    say(f"{asked.target}: seed {asked.seed}; the case at hand is in {work / 'case.jsonl'}")
    try:
        if asked.file is not None:
            sealed, _, content = asked.file.read_bytes().partition(b"\n")
            mutant = Mutant(content, sealed == b"1")
            say(TARGETS[asked.target](work / "root")(mutant))
        else:
            run(asked.target, asked.seconds, asked.seed, work)
    except Exception:  # noqa: BLE001  whatever it is, the case is what has to be kept
        traceback.print_exc()
        say(f"failed with seed {asked.seed}: the case is in {work / 'case.jsonl'}")
        return 1
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    faulthandler.enable()
    sys.exit(main())

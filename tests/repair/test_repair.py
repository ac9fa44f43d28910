"""A damaged journal is repaired: break it, confirm it is broken, repair, go on, read again."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.attempts import start, wait
from support.children import (
    Child,
    FaultyOs,
    append_commit,
    fails,
    journal_path,
    read_all,
    seal_commits,
    split_commits,
    works,
)
from support.effort import IS_LONG
from support.platforms import IS_WINDOWS, needs_modes, not_under_wine

import journal.fs.files
import journal.fs.system
from journal import (
    CommitOutcomeUnknownError,
    FormatVersionError,
    JobBusyError,
    JobLockedError,
    JobMismatchError,
    JobRow,
    JobService,
    JobStatus,
    JournalDamagedError,
    JournalError,
    RowStatus,
)
from journal.cli.main import main
from journal.cli.output import as_json
from journal.cli.run.messages import lost_rows
from journal.format.records import LOST_CHECKSUM
from journal.format.seal import SEAL_BYTES
from journal.repair import Repair, repair_job
from journal.run.input_match import InputRules, match_rows
from journal.verify import verify_job

JOB = "broken"
ROWS = 30
CRC32_POLYNOMIAL = (
    0x1_DB71_0641  # of five bytes, the first bit the lowest: it leaves every crc as it is
)


def order(number: int) -> dict[str, Any]:
    return {"order": f"A-{number}", "street": f"Street {number}"}


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """The journal of a job: 30 rows with the job record, five done, one failed, one in flight."""
    with JobService(tmp_path, sync="none") as service:
        rows = [{"data": order(number)} for number in range(1, ROWS + 1)]
        service.create_job("Broken", job_id=JOB, metadata={"who": "me"}, row_data=rows)
        service.start_job(JOB)
        for number in range(1, 6):
            service.start_row(f"{JOB}:{number}")
            service.complete_row(f"{JOB}:{number}", f"T-{number}", cost_cents=number)
        service.start_row(f"{JOB}:6")
        service.fail_row(f"{JOB}:6", "E", "no such street")
        service.start_row(f"{JOB}:7")
    return journal_path(tmp_path, JOB)


def break_it(path: Path, content: bytes) -> None:
    """Put a damaged journal in place, and confirm that it is refused."""
    path.write_bytes(content)
    assert verify_job(path.parent).damaged
    with JobService(path.parents[1]) as service:
        with pytest.raises(JournalDamagedError, match="journal repair"):
            service.get_job(JOB)
        with pytest.raises(JournalDamagedError):
            service.skip_row(f"{JOB}:30")
    assert path.read_bytes() == content


def mend_it(path: Path) -> Repair:
    """Repair; the file as it was is kept, verify is clean, and the job goes on."""
    broken = path.read_bytes()
    repair = repair_job(path.parent)
    assert repair.damaged_copy is not None
    assert Path(repair.damaged_copy).read_bytes() == broken
    if not IS_WINDOWS:  # it has no mode bits
        assert Path(repair.damaged_copy).stat().st_mode & 0o777 == 0o600
    repaired = path.read_bytes()
    report = verify_job(path.parent)
    assert (report.findings, report.records, report.rows) == ([], repair.records, repair.rows)
    assert not (path.parent / ".repair").exists()
    assert repair_job(path.parent).actions == []
    with JobService(path.parents[1]) as service:
        service.skip_row(service.create_rows(JOB, [{"data": {"n": "new"}}])[0].id)
    assert read_all(path.parents[1], JOB)[1][-1].status is RowStatus.SKIPPED
    assert path.read_bytes().startswith(repaired)
    path.write_bytes(repaired)
    return repair


def statuses(rows: list[JobRow]) -> dict[int, RowStatus]:
    return {row.row_number: row.status for row in rows}


def known(row: JobRow) -> tuple[object, ...]:
    """All of a row but its times: of a row that no seal vouches for, nothing vouches for those."""
    return (row.id, row.data, row.row_checksum, row.status, row.tracking_number, row.error_code)


def lost(repair: Repair) -> list[tuple[int, int, list[int]]]:
    return [(a.line, a.lines, a.rows) for a in repair.actions if a.kind == "lost"]


# --- without loss ----------------------------------------------------------------------------


def replaced(old: bytes, new: bytes, count: int = -1) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(old, new, count)


def inserted(at: int, junk: bytes) -> Callable[[bytes], bytes]:
    def insert(content: bytes) -> bytes:
        commits = split_commits(content)
        return b"".join(commits[:at]) + junk + b"".join(commits[at:])

    return insert


def repeated(first: int, end: int, at: int) -> Callable[[bytes], bytes]:
    def repeat(content: bytes) -> bytes:
        commits = split_commits(content)
        return b"".join(commits[:at] + commits[first:end] + commits[at:])

    return repeat


@pytest.mark.parametrize(
    "breakage",
    [
        pytest.param(replaced(b"\n", b"\r\n"), id="text mode"),
        pytest.param(replaced(b"\n", b"\r\n", 7), id="text mode in a part"),
        pytest.param(lambda content: b"\xef\xbb\xbf" + content, id="a byte order mark"),
        pytest.param(
            lambda content: b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"),
            id="a byte order mark and text mode",
        ),
        pytest.param(
            lambda content: content.replace(b"\n", b"\r\n").rstrip(), id="text mode, no last end"
        ),
        pytest.param(
            lambda content: content.replace(b"\n", b"\r\n")[:-1], id="text mode, half an end"
        ),
        pytest.param(inserted(0, b"# my notes\n"), id="a line put in front"),
        pytest.param(inserted(4, b"<<<<<<< HEAD\n"), id="a line put in"),
        pytest.param(inserted(4, b"\n\n\n"), id="empty lines put in"),
        pytest.param(inserted(4, b'{"a":1,"crc":"01234567"}\n'), id="a sealed line put in"),
    ],
)
def test_damage_that_takes_nothing_away_is_undone_to_the_last_byte(
    path: Path, breakage: Callable[[bytes], bytes]
) -> None:
    content = path.read_bytes()
    break_it(path, breakage(content))
    repair = mend_it(path)
    assert path.read_bytes() == content
    assert (repair.lossless, repair.review_count, repair.lost_rows) == (True, 0, [])
    assert repair.actions


@pytest.fixture(name="small")
def fixture_small(tmp_path: Path) -> Path:
    """A journal of a few hundred bytes, with commits of one line and of several."""
    with JobService(tmp_path, sync="none") as service:
        service.create_job("S", job_id=JOB, row_data=[{"row_checksum": "J*", "data": {}}] * 2)
        service.start_row(f"{JOB}:1")
        with service.batch(JOB):
            service.complete_row(f"{JOB}:1", "J*")
            service.start_row(f"{JOB}:2")
        service.complete_row(f"{JOB}:2")
    return journal_path(tmp_path, JOB)


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_is_put_back_to_the_last_byte(small: Path, bit: int) -> None:
    content = small.read_bytes()
    for at in range(bit, len(content), 53):
        flipped = bytearray(content)
        flipped[at] ^= 1 << bit
        small.write_bytes(flipped)
        assert verify_job(small.parent).damaged
        with JobService(small.parents[1]) as service, pytest.raises(JournalDamagedError):
            service.get_rows(JOB)
        repair = repair_job(small.parent)
        assert small.read_bytes() == content
        assert repair.lossless


# --- with loss -------------------------------------------------------------------------------


def test_after_a_lost_line_every_row_that_looks_open_needs_a_review(path: Path) -> None:
    commits = split_commits(path.read_bytes())
    before = read_all(path.parents[1], JOB)[1]
    at = 3  # row 1 completed; start of row 2 then can't be vouched for either
    break_it(path, b"".join(commits[:at] + commits[at + 1 :]))
    repair = mend_it(path)
    line = b"".join(commits[:at]).count(b"\n") + 1
    assert lost(repair) == [(line, 1, [2])]
    assert not repair.lossless
    rows = read_all(path.parents[1], JOB)[1]
    assert [row.data for row in rows] == [row.data for row in before]
    assert rows[2:5] == before[2:5]
    done = dict.fromkeys((2, 3, 4, 5), RowStatus.COMPLETED)
    review = dict.fromkeys({*range(1, ROWS + 1)} - set(done), RowStatus.NEEDS_REVIEW)
    assert statuses(rows) == done | review
    assert repair.review_count == len(review)
    assert {row.error_code for row in rows if row.row_number in review} == {"repaired_unknown"}
    assert "may be about any row" in (rows[0].error_message or "")
    job = read_all(path.parents[1], JOB)[0]
    assert job is not None
    assert (job.status, job.error_code) == (JobStatus.RUNNING, "repaired")


def test_a_row_that_waits_needs_a_review_after_a_lost_line(path: Path) -> None:
    with JobService(path.parents[1], sync="none") as service:
        row = service.get_pending_rows(JOB)[0]
        start(service, row.id)
        wait(service, row.id)
    commits = split_commits(path.read_bytes())
    break_it(path, b"".join(commits[:3] + commits[4:]))
    mend_it(path)
    row = read_all(path.parents[1], JOB)[1][row.row_number - 1]
    assert (row.status, row.due) == (RowStatus.NEEDS_REVIEW, None)


def test_rows_that_lost_lines_are_known_to_be_about_have_their_own_error_code(path: Path) -> None:
    break_it(path, path.read_bytes().replace(b"no such street", b"?? ???? street"))
    assert 6 in {row for _, _, about in lost(mend_it(path)) for row in about}
    rows = read_all(path.parents[1], JOB)[1]
    codes = {row.row_number: row.error_code for row in rows if row.error_code}
    assert codes[6] == "repaired"
    assert {codes[number] for number in range(8, ROWS + 1)} == {"repaired_unknown"}


def spliced(content: bytes) -> bytes:
    """Four commits of a job much like it, in the middle."""
    commits = split_commits(content)
    records = [commit.replace(b"T-", b"X-") for commit in commits]
    stranger = split_commits(seal_commits([[one[:-19] + b"}"] for one in records]))
    return b"".join(commits[:6] + stranger[4:8] + commits[6:])


def test_a_commit_lost_before_rows_that_vouch_for_themselves_is_a_loss(path: Path) -> None:
    with JobService(path.parents[1], sync="none") as service:
        service.complete_row(f"{JOB}:8", "T-8")
        service.create_rows(JOB, [{"data": order(number)} for number in (31, 32)])
        service.skip_row(f"{JOB}:30")
    commits = split_commits(path.read_bytes())
    break_it(path, b"".join(commits[:-3] + commits[-2:]))
    repair = mend_it(path)
    assert not repair.lossless
    rows = read_all(path.parents[1], JOB)[1]
    assert rows[7].status is RowStatus.NEEDS_REVIEW
    assert [row.data for row in rows[-2:]] == [order(31), order(32)]


def test_rows_that_are_gone_without_a_trace_are_not_added_and_run_again(path: Path) -> None:
    with JobService(path.parents[1], sync="none") as service:
        service.create_rows(JOB, [{"data": order(number)} for number in (31, 32)])
        service.complete_row(f"{JOB}:31", "T-31")
        service.skip_row(f"{JOB}:30")
        service.update_status(JOB, "paused")
    commits = split_commits(path.read_bytes())
    gone = b"".join(commits[-4:-2])
    left = bytes(len(gone) - 1) + b"\n" + b"".join(commits[-2:])
    break_it(path, b"".join(commits[:-4]) + left)
    mend_it(path)
    with JobService(path.parents[1]) as service:
        job = service.get_job(JOB)
        assert job is not None
        matched = match_rows(service, job, (order(n) for n in range(1, 33)), InputRules())
        assert (matched.added, matched.lost) == (0, 2)
        assert len(service.get_rows(JOB)) == ROWS


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"\n", b" \n", id="blanks at the end of lines"),
        pytest.param(b"\n", b"\r\r\n", id="text mode twice"),
        pytest.param(b'"crc"', b'"crc" ', id="blanks in the seals"),
        pytest.param(b",", b", ", id="blanks behind commas"),
    ],
)
def test_a_repair_never_ends_with_another_damaged_journal(
    path: Path, old: bytes, new: bytes
) -> None:
    break_it(path, path.read_bytes().replace(old, new))
    try:
        mend_it(path)
    except JournalDamagedError:
        assert new in path.read_bytes()


@pytest.mark.parametrize("hole", [512, 1024, 3000])
def test_a_hole_from_the_first_commit_into_outcomes_takes_no_outcome_silently(
    path: Path, hole: int
) -> None:
    content = path.read_bytes()
    end = len(split_commits(content)[0]) + 300
    break_it(path, content[: end - hole] + bytes(hole) + content[end:])
    repair = mend_it(path)
    assert not repair.lossless
    rows = statuses(read_all(path.parents[1], JOB)[1])
    assert set(rows.values()) <= {RowStatus.NEEDS_REVIEW, RowStatus.COMPLETED}


@pytest.mark.parametrize(
    "breakage",
    [
        pytest.param(repeated(3, 4, 4), id="a commit repeated"),
        pytest.param(repeated(2, 4, 9), id="two commits repeated later"),
        pytest.param(repeated(7, 9, 99), id="two commits repeated at the end"),
        pytest.param(lambda c: c + b"".join(split_commits(c)[:5]), id="an older copy behind it"),
        pytest.param(lambda content: content + content, id="the journal twice"),
        pytest.param(
            lambda content: b"".join(split_commits(content)[:5]) + content,
            id="an older copy in front of it",
        ),
    ],
)
def test_copies_of_commits_are_lost_lines_and_count_nothing_twice(
    path: Path, breakage: Callable[[bytes], bytes]
) -> None:
    before = read_all(path.parents[1], JOB)[1]
    break_it(path, breakage(path.read_bytes()))
    assert not mend_it(path).lossless
    job, rows = read_all(path.parents[1], JOB)
    assert job is not None
    assert job.total_cost_cents == 15
    for old, new in zip(before, rows, strict=True):
        assert new == old if old.status.is_done else new.status is RowStatus.NEEDS_REVIEW


def test_one_error_more_does_not_make_a_repaired_job_forget_it(path: Path) -> None:
    break_it(path, path.read_bytes().replace(b"Street 30", b"Strasse30", 1))
    repair_job(path.parent)
    with JobService(path.parents[1]) as service:
        job = service.set_error(JOB, "E", "something else")
        assert job.repaired
        assert (
            match_rows(service, job, (order(n) for n in range(1, ROWS + 3)), InputRules()).added
            == 0
        )


def test_a_torn_commit_whose_crc_is_as_of_one_flipped_bit_is_cut_off_all_the_same(
    path: Path,
) -> None:
    before = path.read_bytes()
    with JobService(path.parents[1], sync="none") as service, service.batch(JOB):
        for number in range(8, 31):
            service.fail_row(f"{JOB}:{number}", "E", "no such street" * 60)
    content = bytearray(path.read_bytes())
    block = (len(before) + 4000) // 512 * 512
    for at in range(block, block + 512, 5):  # changes no crc
        changed = int.from_bytes(content[at : at + 5], "little") ^ CRC32_POLYNOMIAL
        content[at : at + 5] = changed.to_bytes(5, "little")
    content[len(before) + 40] ^= 1
    path.write_bytes(content)
    with JobService(path.parents[1], sync="none") as service:
        assert service.skip_row(f"{JOB}:9").status is RowStatus.SKIPPED
    assert path.read_bytes().startswith(before)
    assert len(path.read_bytes()) < len(content)


def test_commits_put_behind_the_last_that_go_another_way_are_not_taken_over(path: Path) -> None:
    """As when somebody joins two copies of a job that both went on."""
    content = path.read_bytes()
    with JobService(path.parents[1], sync="none") as service:
        service.complete_row(f"{JOB}:8", "OURS", cost_cents=100)
    ours = path.read_bytes()
    path.write_bytes(content)
    with JobService(path.parents[1], sync="none") as service:
        service.complete_row(f"{JOB}:8", "THEIRS", cost_cents=100)
        service.complete_row(f"{JOB}:9", "THEIRS", cost_cents=100)
    break_it(path, ours + path.read_bytes())
    repair = mend_it(path)
    assert not repair.lossless
    rows = read_all(path.parents[1], JOB)[1]
    assert (rows[7].tracking_number, rows[8].status) == ("OURS", RowStatus.NEEDS_REVIEW)
    assert sum(row.cost_cents or 0 for row in rows) == 115


def test_a_torn_tail_beside_other_damage_may_have_been_a_commit(path: Path) -> None:
    commits = split_commits(path.read_bytes())
    tail = bytes(len(commits[-1]))
    break_it(path, b"".join([*commits[:3], b"# notes\n", *commits[3:-1], tail]))
    repair = mend_it(path)
    assert not repair.lossless
    assert statuses(read_all(path.parents[1], JOB)[1])[7] is RowStatus.NEEDS_REVIEW


def test_a_first_commit_cut_in_the_middle_may_have_had_others_behind_it(path: Path) -> None:
    first = split_commits(path.read_bytes())[0]
    break_it(path, first[: len(first) // 2])
    repair = mend_it(path)
    rows = statuses(read_all(path.parents[1], JOB)[1])
    assert set(rows.values()) == {RowStatus.NEEDS_REVIEW}
    assert not repair.lossless


def test_rows_that_no_seal_vouches_for_are_kept_and_are_no_lossless_repair(path: Path) -> None:
    before = read_all(path.parents[1], JOB)[1]
    break_it(path, path.read_bytes().replace(b'"Broken"', b'"Untrue"', 1))
    repair = mend_it(path)
    assert {action.kind for action in repair.actions} == {"unsealed"}
    assert not repair.lossless
    after = read_all(path.parents[1], JOB)[1]
    assert [row.data for row in after] == [row.data for row in before]
    assert repair.review_count == sum(not row.status.is_done for row in before)


@pytest.mark.parametrize("broken", [ROWS, ROWS + 3], ids=["first commit", "last commit"])
def test_a_wrong_time_that_no_seal_vouches_for_does_not_hold_the_clock(
    path: Path, broken: int
) -> None:
    with JobService(path.parents[1], sync="none") as service:
        service.create_rows(JOB, [{"data": order(ROWS + number)} for number in (1, 2, 3)])
    content = path.read_bytes()
    before = read_all(path.parents[1], JOB)[1]
    at = content.index(b"2026", content.index(b'"row":%d,' % broken))
    break_it(path, content[:at] + b"9926" + content[at + 4 :])
    mend_it(path)
    after = read_all(path.parents[1], JOB)[1]
    assert [known(row) for row in after[:5]] == [known(row) for row in before[:5]]
    assert after[broken - 1].data == before[broken - 1].data
    with JobService(path.parents[1]) as service:
        row = service.create_rows(JOB, [{"data": order(0)}])[0]
        assert row.created_at.year == before[0].updated_at.year


@needs_modes
def test_a_repaired_journal_belongs_to_whom_the_damaged_one_did(path: Path) -> None:
    path.chmod(0o640)
    break_it(path, path.read_bytes().replace(b"\n", b"\r\n"))
    repair_job(path.parent)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_second_repair_keeps_what_the_first_has_kept(path: Path) -> None:
    content = path.read_bytes()
    broken = [content.replace(b"\n", b"\r\n"), b"# my notes\n" + content]
    for each in broken:
        break_it(path, each)
        repair_job(path.parent)
    copies = [path.with_name(f"journal.damaged-{number}") for number in (1, 2)]
    assert [copy.read_bytes() for copy in copies] == broken


def test_the_outcomes_of_another_job_are_not_taken_for_ones_of_this_one(path: Path) -> None:
    before = read_all(path.parents[1], JOB)[1]
    break_it(path, spliced(path.read_bytes()))
    repair = mend_it(path)
    rows = read_all(path.parents[1], JOB)[1]
    assert rows[:5] == before[:5]
    assert set(statuses(rows[5:]).values()) == {RowStatus.NEEDS_REVIEW}
    assert not repair.lossless


def test_a_broken_row_takes_no_other_row_of_its_commit_with_it(path: Path) -> None:
    content = path.read_bytes()
    before = read_all(path.parents[1], JOB)
    break_it(path, content.replace(b"Street 9", b"Strasse9", 1))
    repair = mend_it(path)
    assert lost(repair) == [(10, 1, [9])]
    assert repair.lost_rows == [9]
    job, rows = read_all(path.parents[1], JOB)
    assert job is not None
    assert before[0] is not None
    assert job.metadata == {"who": "me"}
    assert [row.data for row in rows if row.row_number != 9] == [
        row.data for row in before[1] if row.row_number != 9
    ]
    stand_in = next(one for one in rows if one.row_number == 9)
    assert (stand_in.data, stand_in.row_checksum) == ({}, LOST_CHECKSUM)
    assert stand_in.status is RowStatus.NEEDS_REVIEW


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b'"row":9,', b'"row":8,', id="the number of the row above"),
        pytest.param(b'"row":9,', b'"row":77,', id="a number beyond the last"),
        pytest.param(b'"row":9,', b'"row":0,', id="no number of a row"),
        pytest.param(b"Street 9", b"Street 8", id="legible data that was never written"),
        pytest.param(b'"row":9,', b'"row":9;', id="no JSON"),
    ],
)
def test_a_row_that_was_never_written_is_never_read(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    before = {row.row_number: row.data for row in read_all(path.parents[1], JOB)[1]}
    # Another byte of the same line makes it more than one flipped bit.
    start = content.index(b'{"type":"row","row":9,')
    end = content.index(b"\n", start)
    line = content[start:end].replace(old, new).replace(b"20", b"!0", 1)
    break_it(path, content[:start] + line + content[end:])
    repair = mend_it(path)
    rows = {row.row_number: row.data for row in read_all(path.parents[1], JOB)[1]}
    lost_rows = {number for number, data in rows.items() if data == {}}
    assert sorted(lost_rows) == repair.lost_rows
    assert {n: data for n, data in rows.items() if data} == {
        n: data for n, data in before.items() if n in rows and n not in lost_rows
    }
    # Neighbours that no longer fit don't vouch for each other.
    assert before.keys() - rows.keys() | lost_rows <= {8, 9, 10, 77}
    assert 9 not in rows or 9 in lost_rows


def test_of_rows_whose_commit_is_gone_what_was_worked_on_keeps_its_number_and_outcome(
    tmp_path: Path, path: Path
) -> None:
    commits = split_commits(path.read_bytes())
    before = read_all(tmp_path, JOB)[1]
    break_it(path, commits[0].replace(b"T", b"\0").replace(b"S", b"\0") + b"".join(commits[1:]))
    repair = mend_it(path)
    job, rows = read_all(tmp_path, JOB)
    assert job is not None
    assert job.name == JOB
    assert repair.lost_rows == [row.row_number for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [row.data for row in rows] == [{}] * 7
    assert [row.tracking_number for row in rows] == [row.tracking_number for row in before[:7]]
    assert sum(row.cost_cents or 0 for row in rows) == 15
    done = dict.fromkeys(range(1, 6), RowStatus.COMPLETED)
    assert statuses(rows) == done | dict.fromkeys((6, 7), RowStatus.NEEDS_REVIEW)


def test_a_row_of_which_only_the_outcome_is_left_keeps_it(path: Path) -> None:
    """The row's own record is gone without a trace: a stand-in takes the outcome."""
    with JobService(path.parents[1], sync="none") as service:
        row = service.create_rows(JOB, [{"row_number": 500, "data": {"n": 1}}])[0]
        service.skip_row(f"{JOB}:30")
        service.complete_row(row.id, "T-500", cost_cents=500)
    commits = split_commits(path.read_bytes())
    break_it(path, b"".join(commits[:-3] + commits[-2:]))
    repair = mend_it(path)
    rows = read_all(path.parents[1], JOB)[1]
    assert repair.lost_rows == [500]
    assert (rows[-1].row_number, rows[-1].tracking_number) == (500, "T-500")
    assert rows[-1].status is RowStatus.COMPLETED
    assert rows[-1].data == {}


def test_a_run_goes_on_after_a_repair_and_repeats_nothing(path: Path) -> None:
    content = path.read_bytes()
    break_it(path, content.replace(b"Street 9", b"Strasse9", 1))
    repair_job(path.parent)
    with JobService(path.parents[1]) as service:
        job = service.get_job(JOB)
        assert job is not None
        matched = match_rows(service, job, (order(n) for n in range(1, ROWS + 2)), InputRules())
        assert (matched.added, matched.gone, matched.lost) == (0, 0, 1)
        service.start_job(JOB)
        assert not service.get_pending_rows(JOB)
        open_rows = [row.row_number for row in service.get_rows(JOB, "needs_review")]
        assert open_rows == list(range(6, ROWS + 1))


def test_rows_of_the_input_that_a_repair_has_lost_are_named(path: Path) -> None:
    break_it(path, path.read_bytes().replace(b"Street 9", b"Strasse9", 1))
    repair_job(path.parent)
    with JobService(path.parents[1]) as service:
        job = service.get_job(JOB)
        assert job is not None
        given = (order(number) for number in range(1, ROWS + 2))
        (said,) = lost_rows(match_rows(service, job, given, InputRules(key="order")))
    lost = [order(number) for number in (9, ROWS + 1)]
    assert said.endswith(f"as another job; not in the job: {', '.join(map(as_json, lost))}")


def test_a_line_of_a_sealed_commit_that_makes_no_sense_may_have_been_any_outcome(
    path: Path,
) -> None:
    append_commit(path, b'{"type":"row_status","row":"8","status":"completed","attempts":1}')
    break_it_unseen(path, path.read_bytes())
    repair = mend_it(path)
    assert not repair.lossless
    rows = statuses(read_all(path.parents[1], JOB)[1])
    assert {rows[number] for number in range(6, ROWS + 1)} == {RowStatus.NEEDS_REVIEW}


def test_commits_of_one_moment_are_kept_after_a_lost_one(path: Path) -> None:
    commits = split_commits(path.read_bytes())
    plain = [(commit[: -SEAL_BYTES - 1] + b"}").split(b"\n") for commit in commits]
    end = plain[0][0][-29:]  # the time of the first record
    moment = [[line[: -len(end)] + end for line in commit] for commit in plain]
    commits = split_commits(seal_commits(moment))
    break_it(path, b"".join([*commits[:2], b"#" * 80 + b"\n", *commits[3:]]))
    mend_it(path)
    rows = read_all(path.parents[1], JOB)[1]
    assert [row.tracking_number for row in rows[1:5]] == [f"T-{number}" for number in range(2, 6)]


def break_it_unseen(path: Path, content: bytes) -> None:
    """Put a journal in place that only verify finds damaged."""
    path.write_bytes(content)
    assert verify_job(path.parent).damaged


# --- what can't be repaired ------------------------------------------------------------------


def newer(content: bytes) -> bytes:
    line = b'{"type":"vote","at":"2026-11-24T13:35:00.000001Z"}'
    commits = [[commit[:-19] + b"}"] for commit in split_commits(content)]
    return seal_commits([*commits[:4], [line], *commits[4:]])[:-30]


@not_under_wine
@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(lambda _: b"", JournalDamagedError, id="an empty file"),
        pytest.param(lambda _: b"id,name\n1,a\n2,b\n", JournalDamagedError, id="another file"),
        pytest.param(lambda _: bytes(300_000), JournalDamagedError, id="NULs"),
        pytest.param(lambda c: c.replace(b'"format":1', b'"format":2'), FormatVersionError, id="2"),
        pytest.param(newer, FormatVersionError, id="a newer record"),
        pytest.param(
            lambda c: c.replace(b"broken", b"braken").replace(b"\n", b"\r\n"),
            JobMismatchError,
            id="another job's",
        ),
    ],
)
def test_what_cannot_be_repaired_is_refused_and_left_as_it_is(
    path: Path, content: Callable[[bytes], bytes], error: type[JournalError]
) -> None:
    broken = content(path.read_bytes())
    path.write_bytes(broken)
    with pytest.raises(error):
        repair_job(path.parent)
    assert path.read_bytes() == broken
    assert {one.name for one in path.parent.iterdir()} == {"journal.jsonl", "run.lock"}


def test_a_job_that_somebody_works_on_is_not_repaired(path: Path) -> None:
    holds = """
    service = JobService(root)
    service.start_job(job_id)
    if sys.argv[3] == "commit":
        service.update_status(job_id, "paused")
        service.batch(job_id).__enter__()
    tell("holds it")
    hear()
    """
    for what, error in (("run", JobBusyError), ("commit", JobLockedError)):
        with Child(holds, path.parents[1], JOB, what) as child:
            assert child.hear() == "holds it"
            content = path.read_bytes()
            with pytest.raises(error):
                repair_job(path.parent, lock_timeout_s=0.01)
            child.kill()
        assert path.read_bytes() == content


# --- crashes and faults ----------------------------------------------------------------------

DIES_IN_REPAIR = """
import journal.fs.system
from pathlib import Path
from journal.repair import repair_job

SYSTEM_OS = journal.fs.system.os

calls_to_come = int(sys.argv[3])

class DeadlyOs:
    def __getattr__(self, name):
        global calls_to_come
        found = getattr(SYSTEM_OS, name)
        if callable(found) and not isinstance(found, type):
            calls_to_come -= 1
            if calls_to_come < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return found

journal.fs.system.os = DeadlyOs()
repair_job(Path(root) / job_id)
tell(calls_to_come)
"""


def test_a_repair_that_dies_at_any_moment_leaves_the_damaged_or_the_repaired_journal(
    path: Path,
) -> None:
    broken = path.read_bytes().replace(b"Street 9", b"Strasse9", 1)
    path.write_bytes(broken)
    repair_job(path.parent)
    repaired_rows = statuses(read_all(path.parents[1], JOB)[1])
    seen = set()
    path.write_bytes(broken)
    with Child(DIES_IN_REPAIR, path.parents[1], JOB, 10_000) as child:
        needed = 10_000 - int(child.hear())
    for calls in {*range(0, needed, 7 if IS_LONG else 28), needed - 1, needed}:
        path.write_bytes(broken)
        with Child(DIES_IN_REPAIR, path.parents[1], JOB, calls) as child:
            try:
                is_done = child.hear() == "0"
            except AssertionError:
                is_done = False
        left = path.read_bytes()
        seen.add((is_done, left == broken))
        assert left == broken or verify_job(path.parent).findings == []
        repair_job(path.parent)
        assert statuses(read_all(path.parents[1], JOB)[1]) == repaired_rows
        assert broken in [one.read_bytes() for one in path.parent.glob("journal.damaged-*")]
        assert not (path.parent / ".repair").exists()
        for one in path.parent.glob("journal.damaged-*"):
            one.unlink()
    assert seen == {(False, True), (False, False), (True, False)}


@not_under_wine
def test_a_repair_that_the_system_refuses_is_a_named_error_and_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = path.read_bytes().replace(b"Street 9", b"Strasse9", 1)
    path.write_bytes(broken)
    refused = 0

    def repair(faulty: FaultyOs) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(journal.fs.system, "os", faulty)
            repair_job(path.parent)

    repair(healthy := FaultyOs())
    for name in ("open", "write", "fdatasync", "fsync", "mkdir", "rename", "pread", "fstat"):
        for call in range(healthy.count(name)):
            path.write_bytes(broken)
            for one in path.parent.glob("journal.damaged-*"):
                one.unlink()
            faulty = FaultyOs()
            faulty.plan(name, *[works] * call, fails(28))
            try:
                repair(faulty)
            except JournalError:
                refused += 1
            left = path.read_bytes()
            assert left == broken or verify_job(path.parent).findings == []
            # To remove a directory, the repair opens it. The next repair removes what stays.
            assert name == "open" or not (path.parent / ".repair").exists()
    assert refused > 40


# --- the command line ------------------------------------------------------------------------


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_command_line_verifies_repairs_and_verifies_again(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--root", str(path.parents[1])]
    content = path.read_bytes()
    break_it(path, content.replace(b"\n", b"\r\n"))
    code, out, _ = run_cli(capsys, *root, "verify", JOB, "--json")
    assert code == 6
    (report,) = json.loads(out)
    assert [one["kind"] for one in report["findings"]] == ["damage"]
    assert (report["findings"][0]["line"], report["findings"][0]["offset"]) == (1, 0)
    code, out, err = run_cli(capsys, *root, "repair", JOB)
    assert (code, err) == (0, "")
    assert "repaired" in out
    assert "journal.damaged-1" in out
    assert run_cli(capsys, *root, "verify", "--all")[0] == 0
    code, out, _ = run_cli(capsys, *root, "repair", JOB)
    assert (code, out) == (0, f"ok       {JOB}: nothing to repair\n")


def test_the_command_line_lists_what_is_lost_and_exits_with_3(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--root", str(path.parents[1])]
    commits = split_commits(path.read_bytes())
    broken = b"".join(commits[:3] + commits[4:]).replace(b"Street 9", b"Strasse9", 1)
    break_it(path, broken)
    code, out, err = run_cli(capsys, *root, "repair", JOB)
    assert code == 3
    assert "LOSSES" in out
    assert "lost: line 10: lines without a seal that matches; about row 9\n" in out
    assert "about row 2\n" in out
    assert "the data of these rows is lost: 9\n" in out
    assert "needs_review" in err
    path.write_bytes(broken)
    code, out, _ = run_cli(capsys, *root, "repair", JOB, "--json")
    assert code == 3
    told = json.loads(out)
    assert told["lost_rows"] == [9]
    assert os.path.samefile(told["path"], path)


def test_a_row_that_is_gone_from_the_first_commit_makes_all_open_rows_doubtful(
    tmp_path: Path,
) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("J", job_id="j", row_data=[{"data": {"n": n}} for n in range(1, 7)])
        service.start_row("j:1")
        service.complete_row("j:1")
    path = journal_path(tmp_path, "j")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))  # without row 3, and without a trace of it
    repair_job(path.parent)
    with JobService(tmp_path) as service:
        found = {row.row_number: row.error_code for row in service.get_rows("j", "needs_review")}
    assert found == {2: "repaired", 4: "repaired", 5: "repaired_unknown", 6: "repaired_unknown"}


def test_a_repair_whose_new_name_may_not_be_on_the_disk_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JobService(tmp_path) as service:
        service.create_job("Torn", job_id="job", row_data=[{"data": {}}] * 3)
    path = tmp_path / "job" / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"Torn"', b'"Born"'))
    renamed: list[None] = []
    sync = journal.fs.files.sync_directory
    rename = journal.fs.files.rename

    def sync_until_renamed(directory: Path) -> None:
        if renamed:
            raise OSError(errno.EIO, "Input/output error")
        sync(directory)

    monkeypatch.setattr(journal.fs.files, "sync_directory", sync_until_renamed)
    monkeypatch.setattr(journal.fs.files, "rename", lambda *names: renamed.append(rename(*names)))
    with pytest.raises(CommitOutcomeUnknownError):
        repair_job(tmp_path / "job")

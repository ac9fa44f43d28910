"""A last commit of any length that a single bit was flipped in is damage; one that is torn is not.

The bits of its last 64 bytes, some in an ordinary run; all of them with
``LONG=1 python -m pytest tests/fuzz/test_long_commits.py``.
"""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import pytest
from support.children import Memory, journal_path
from support.effort import IS_LONG
from support.platforms import needs_boot_ids

from journal import JobService, JournalDamagedError, PackError
from journal.format import commits as replay
from journal.format import torn_tail_or_damage
from journal.format.bitflip import flipped_bit
from journal.format.commits import Position
from journal.format.torn_tail_or_damage import judge_tail, survey
from journal.repair import repair_job
from journal.transfer import unpack_job
from journal.transfer.copies import open_copy
from journal.verify import verify_job

JOB = "long"
END_BYTES = 64
SIZES: dict[str, Callable[[JobService], object]] = {
    "1 row": lambda service: service.create_rows(JOB, [{"data": {"n": 1}}]),
    "300 rows": lambda service: service.create_rows(JOB, [{"data": {"n": 1}}] * 300),
    "10,000 rows": lambda service: service.create_rows(JOB, [{"data": {"n": 1}}] * 10_000),
    "12 KB": lambda service: service.complete_row(f"{JOB}:1", result="x" * 12_000),
    "1 MiB": lambda service: service.complete_row(f"{JOB}:1", result="x" * (1 << 20)),
}
if IS_LONG:
    SIZES["5 MiB"] = lambda service: service.complete_row(f"{JOB}:1", result="x" * (5 << 20))


class Made(NamedTuple):
    """A journal whose last commit begins at ``before``."""

    path: Path
    content: bytes
    before: Position


@pytest.fixture(name="made", params=SIZES)
def fixture_made(tmp_path: Path, request: pytest.FixtureRequest) -> Made:
    path = journal_path(tmp_path, JOB)
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Long", job_id=JOB, row_data=[{"data": {}}])
        first = path.read_bytes()
        SIZES[request.param](service)
    return Made(path, path.read_bytes(), Position(len(first), int(first[-11:-3], 16)))


def flips(content: bytes, count: int) -> Iterator[tuple[int, int, bytes]]:
    """Bits of the last bytes, of each kind of place some: where, which one, and what that makes."""
    every = [(at, 1 << bit) for at in range(1, END_BYTES + 1) for bit in range(8)]
    for back, bit in every if IS_LONG else random.Random(7).sample(every, count):
        flipped = bytearray(content)
        flipped[-back] ^= bit
        yield len(content) - back, bit, bytes(flipped)


def test_a_bit_flipped_at_the_end_of_a_last_commit_is_found_and_never_cut_off(
    made: Made, count: Callable[[str, int], None]
) -> None:
    tried = 0
    for at, bit, flipped in flips(made.content, 60 if len(made.content) < 100_000 else 3):
        tried += 1
        file = Memory(flipped)
        assert judge_tail(file, len(flipped), made.before).kind != "torn", (at, bit)
        assert survey(file, len(flipped), made.before)[0].flip == (at, bit)
    count("bits flipped in last commits", tried)


def test_a_bit_flipped_at_the_end_of_a_last_commit_is_damage_for_all_who_read_it(
    made: Made,
) -> None:
    root = made.path.parents[1]
    for _, _, flipped in flips(made.content, 2 if len(made.content) < 100_000 else 1):
        made.path.write_bytes(flipped)
        with JobService(root) as service:
            with pytest.raises(JournalDamagedError) as refused:
                service.get_job(JOB)
            assert refused.value.offset == made.before.offset
            with pytest.raises(JournalDamagedError):
                service.set_error(JOB, "E", "m")
        assert made.path.read_bytes() == flipped
        (finding,) = verify_job(made.path.parent).findings
        assert (finding.kind, finding.offset) == ("damage", made.before.offset)
        with pytest.raises(JournalDamagedError):
            open_copy(made.path.parent)
        with pytest.raises(PackError, match="damaged"):
            unpack_job(root / "elsewhere", pack_of(root / "pack", flipped))
        repair = repair_job(made.path.parent)
        assert made.path.read_bytes() == made.content
        assert repair.lossless
        assert [action.kind for action in repair.actions] == ["bit_flip"]


def pack_of(path: Path, journal: bytes) -> Path:
    with tarfile.open(path, mode="w:gz", compresslevel=1) as tar:
        member = tarfile.TarInfo(f"{JOB}/journal.jsonl")
        member.size = len(journal)
        tar.addfile(member, io.BytesIO(journal))
    return path


def test_a_bit_flipped_anywhere_in_a_last_commit_is_found(made: Made) -> None:
    rng = random.Random(1)
    for _ in range(20 if len(made.content) < 100_000 else 3):
        at = rng.randrange(made.before.offset, len(made.content))
        flipped = bytearray(made.content)
        flipped[at] ^= (bit := 1 << rng.randrange(8))
        file = Memory(bytes(flipped))
        assert judge_tail(file, len(flipped), made.before).kind != "torn", (at, bit)
        (found,) = survey(file, len(flipped), made.before)
        # A bit that makes an LF out of a letter, say, is found as well.
        assert found.flip == (at, bit)


def test_a_last_commit_that_a_power_cut_has_torn_stays_torn(
    made: Made, count: Callable[[str, int], None]
) -> None:
    """Blocks of 512 bytes that were never written are NULs; or the file ends within the commit."""
    rng = random.Random(3)
    start, end = made.before.offset, len(made.content)
    first, last = -(-start // 512), (end - 1) // 512  # the first holds a part of what was there
    tried = 0
    for _ in range(60 if end < 100_000 else 6):
        torn = bytearray(made.content)
        odds = rng.choice((0.02, 0.5, 0.98))
        missing = [n for n in range(first, last + 1) if rng.random() < odds]
        for number in missing:
            torn[number * 512 : (number + 1) * 512] = bytes(512)
        del torn[end:]
        if rng.random() < 0.5:
            cut = rng.randrange(start + 1, end - 1)
            del torn[cut:]
            missing = [n for n in missing if n * 512 < cut]
        elif not missing:
            continue
        tried += 1
        verdict = judge_tail(Memory(bytes(torn)), len(torn), made.before)
        assert verdict.kind == "torn", (missing[:5], len(torn))
    count("torn last commits", tried)


@needs_boot_ids
def test_a_last_commit_that_matches_its_seal_is_damage_if_a_line_is_over_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Long", job_id=JOB, row_data=[{"data": {}}])
        SIZES["1 MiB"](service)
    (tmp_path / JOB / "index.hint").unlink()
    for module in (torn_tail_or_damage, replay):
        monkeypatch.setattr(module, "MAX_LINE_BYTES", 1 << 18)
    with JobService(tmp_path) as service, pytest.raises(JournalDamagedError):
        service.skip_row(f"{JOB}:1")


@pytest.mark.parametrize("length", [1, 7, 1023, 1024, 1025, 100_000])
def test_the_place_of_a_flipped_bit_is_known_from_the_crc(length: int) -> None:
    rng = random.Random(length)
    data = bytearray(rng.randbytes(length))
    crc = crc32(data)
    for at in {0, length - 1, rng.randrange(length)}:
        for bit in range(8):
            data[at] ^= 1 << bit
            assert flipped_bit(crc32(data) ^ crc, length) == (at, 1 << bit)
            if at:  # it isn't among the bytes behind it
                assert flipped_bit(crc32(data) ^ crc, length - at - 1) is None
            data[at] ^= 1 << bit


def test_a_flip_in_the_longest_commit_is_found_without_going_through_all_of_it() -> None:
    assert flipped_bit(crc32(b"\x01" + bytes(1 << 26)) ^ crc32(bytes((1 << 26) + 1)), 1 << 27) == (
        (1 << 26) - 1,
        1,
    )

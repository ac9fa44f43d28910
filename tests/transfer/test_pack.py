"""`journal pack` and `journal unpack`: what comes out is what went in, or nothing does."""

from __future__ import annotations

import gzip
import io
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.children import journal_path, seal_commits
from support.commands import journal as command
from support.copies import (
    JOB,
    content_of,
    go_on,
    journal_line,
    make_job,
    packed,
    put_artifact,
    source,
    staging_of,
)
from support.platforms import (
    IS_WINDOWS,
    needs_deep_paths,
    needs_fifos,
    needs_links,
    needs_modes,
    needs_shell,
    not_under_wine,
    only_long,
)

import journal.fs.system
import journal.transfer.pack
from journal import (
    InvalidValueError,
    JobExistsError,
    JobService,
    JournalDamagedError,
    PackError,
    StorageError,
)
from journal.transfer import pack_job, pack_to_file, preview_pull, pull_job, unpack_job
from journal.transfer.copies import open_copy
from journal.transfer.pack import Snapshot, Source, read_pack
from journal.verify import verify_job

LONG = "d" * 200 + "/" + "ä" * 120 + "/label.pdf"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    root = tmp_path / "here"
    make_job(root)
    put_artifact(root, "1.pdf", b"%PDF" * 1000)
    put_artifact(root, "empty", b"")
    put_artifact(root, LONG, b"long")
    put_artifact(root, "out/2/3.bin", random.Random(1).randbytes(3_000_000))
    return root


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


def test_what_is_unpacked_is_what_was_packed_to_the_byte(
    here: Path, there: Path, tmp_path: Path
) -> None:
    found = unpack_job(there, source(packed(here, tmp_path / "pack")))
    assert content_of(there) == content_of(here)
    assert verify_job(there / JOB).findings == []
    assert (found.rows, len(found.files)) == (6, 4)
    assert staging_of(there) == []
    for path in [there / JOB, *(there / JOB).rglob("*")] if not IS_WINDOWS else []:
        assert path.stat().st_mode & 0o077 == 0


def test_a_pack_that_is_cut_off_in_its_pipe_leaves_nothing(here: Path, there: Path) -> None:
    pack: list[bytes] = []
    pack_job(here / JOB, pack.append)
    whole = b"".join(pack)
    for length in (0, 1, 17, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        stream = io.BytesIO(whole[:length])
        with pytest.raises(PackError, match=r"begins with|ended before|cut short|gzipped file"):
            unpack_job(there, Source("a pipe", stream.read))
        assert not (there / JOB).exists()
        assert staging_of(there) == []


def test_a_pack_is_as_of_the_last_seal_and_holds_neither_locks_nor_hints_nor_torn_tails(
    here: Path, there: Path, tmp_path: Path
) -> None:
    whole = journal_path(here, JOB).read_bytes()
    with journal_path(here, JOB).open("ab") as file:
        file.write(b'{"type":"row_status","row":3,"sta')
    kept = ("journal.torn-12-1", "journal.damaged-12-2", "journal.other-1509-57c780d8")
    for name in ("index.hint", "index.hint.new", "notes.txt", *kept):
        (here / JOB / name).write_text("x")
    unpack_job(there, source(packed(here, tmp_path / "pack")))
    names = set(content_of(there))
    assert names == {"journal.jsonl", *(n for n in content_of(here) if n.startswith("artifacts/"))}
    assert journal_path(there, JOB).read_bytes() == whole


def test_what_is_no_file_but_has_the_name_of_a_backup_is_in_no_pack(here: Path) -> None:
    (here / JOB / "journal.torn-12-1").write_text("x")
    (here / JOB / "journal.damaged-12-2").mkdir()
    snapshot = Snapshot(open_copy(here / JOB), backups=True)
    names = [name for name in snapshot.names if name.startswith("journal.")]
    assert names == ["journal.jsonl", "journal.torn-12-1"]


@needs_shell
def test_any_tar_reads_a_pack_as_the_job_s_directory(here: Path, tmp_path: Path) -> None:
    pack = packed(here, tmp_path / "pack.tar.gz")
    plain = tmp_path / "plain"
    plain.mkdir()
    subprocess.run(["tar", "xzf", pack, "-C", plain], check=True)
    assert content_of(plain) == content_of(here)
    assert (plain / JOB / "journal.jsonl").stat().st_mode & 0o077 == 0
    with JobService(plain) as service:
        assert service.get_job_summary(JOB)["successful_rows"] == 2


@needs_fifos
@needs_links
def test_links_and_pipes_among_the_artifacts_are_left_out_and_named(
    here: Path, there: Path
) -> None:
    artifacts = here / JOB / "artifacts"
    (artifacts / "link").symlink_to("/etc/passwd")
    os.mkfifo(artifacts / "pipe")
    (artifacts / os.fsdecode(b"\xff")).write_bytes(b"not UTF-8")
    done = journal_line(here, "pack", JOB, "-o", str(there))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("left out: artifacts/") == 3


def test_an_artifact_with_a_second_hard_link_is_refused_and_named(
    here: Path, there: Path, tmp_path: Path
) -> None:
    shutil.copytree(here, there)
    (tmp_path / "secret").write_text("secret")
    os.link(tmp_path / "secret", here / JOB / "artifacts" / "laid")
    acts: list[Callable[[], object]] = [
        lambda: pack_to_file(here / JOB, tmp_path / "pack"),
        lambda: pull_job(there, here / JOB),
        lambda: pull_job(tmp_path / "new", here / JOB),
    ]
    copy = "copy" if IS_WINDOWS else "cp -p"
    for act in acts:
        with pytest.raises(
            StorageError, match=rf"laid: it has 2 hard links.* {copy} laid laid\.own"
        ):
            act()
    assert not (tmp_path / "pack").exists()
    assert not (tmp_path / "new" / JOB).exists()
    assert not (there / JOB / "artifacts" / "laid").exists()


class Changing:
    """Has something done to a file while it is packed, after each piece that is read of it."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, path: Path, act: Callable[[], object]
    ) -> None:
        real = journal.transfer.pack.pieces_of

        def pieces_of(file: Any, size: int) -> Iterator[bytes]:
            for piece in real(file, size):
                yield piece
                if file.path == path:
                    act()

        monkeypatch.setattr(journal.transfer.pack, "pieces_of", pieces_of)


def test_an_artifact_that_grows_while_it_is_packed_is_taken_as_it_was(
    here: Path, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = here / JOB / "artifacts" / "out" / "2" / "3.bin"
    before = path.read_bytes()

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"more")

    Changing(monkeypatch, path, grow)
    pack_to_file(here / JOB, tmp_path / "pack")
    unpack_job(there, source(tmp_path / "pack"))
    assert (there / JOB / "artifacts" / "out" / "2" / "3.bin").read_bytes().startswith(before)


def test_an_artifact_that_is_cut_while_it_is_packed_ends_it_and_leaves_no_file(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put_artifact(here, "z", bytes(3_000_000))
    Changing(monkeypatch, path, lambda: os.truncate(path, 1 << 20))
    with pytest.raises(StorageError, match=r"z: it was truncated"):
        pack_to_file(here / JOB, tmp_path / "pack")
    assert os.listdir(tmp_path) == ["here"]


def test_an_artifact_that_has_gone_since_it_was_listed_is_left_out_and_named(
    here: Path, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put_artifact(here, ".2.pdf.new", b"2")
    real = journal.transfer.pack.artifacts_of

    def artifacts_of(directory: Path) -> Iterator[tuple[str, bool]]:
        names = list(real(directory))
        path.rename(path.with_name("2.pdf"))
        return iter(names)

    monkeypatch.setattr(journal.transfer.pack, "artifacts_of", artifacts_of)
    found = pack_to_file(here / JOB, tmp_path / "pack")
    assert found.left_out == ["artifacts/.2.pdf.new"]
    assert "artifacts/.2.pdf.new" not in found.files
    unpack_job(there, source(tmp_path / "pack"))


def test_a_damaged_job_is_not_packed(here: Path, tmp_path: Path) -> None:
    path = journal_path(here, JOB)
    damaged = bytearray(path.read_bytes())
    damaged[200] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(JournalDamagedError):
        packed(here, tmp_path / "pack")
    assert os.listdir(tmp_path) == ["here"]
    assert journal_line(here, "pack", JOB, "-o", str(tmp_path / "pack")).returncode == 6


@pytest.mark.parametrize("name", ["x" + "ä" * 90, "xy" + "ä" * 90, "/".join(["n" * 250] * 15)])
def test_what_is_packed_can_be_unpacked_however_long_its_names_are(
    here: Path, there: Path, tmp_path: Path, name: str
) -> None:
    """Of a long name a tar has the first 100 bytes, too, which may end within a character."""
    put_artifact(here, name, b"1")
    packed(here, tmp_path / "pack")
    unpack_job(there, tmp_path / "pack")
    assert content_of(there) == content_of(here)


def test_names_that_no_reader_takes_are_refused_before_the_first_byte(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[bytes] = []
    files = pack_job(here / JOB, pieces.append).files
    length = len("".join(["journal.jsonl", *files]))
    pack = packed(here, tmp_path / "pack")
    monkeypatch.setattr(journal.transfer.pack, "MAX_NAMES_LENGTH", length)
    packed(here, pack)
    monkeypatch.setattr(journal.transfer.pack, "MAX_NAMES_LENGTH", length - 1)
    pieces.clear()
    with pytest.raises(InvalidValueError, match="more files than a pack can name"):
        pack_job(here / JOB, pieces.append)
    assert pieces == []
    monkeypatch.setattr(journal.transfer.pack, "MAX_NAMES_LENGTH", len("".join(files)) - 1)
    with pytest.raises(PackError, match="too many files"):
        unpack_job(tmp_path / "there", pack)


def peaks_of(root: Path, rows: int, artifact_bytes: int) -> tuple[int, int]:
    """The most memory that packing, and unpacking, a job of so many rows takes, in bytes."""
    make_job(root / "here", rows)
    put_artifact(root / "here", "large", bytes(artifact_bytes))
    peaks = []
    for work in (
        lambda: packed(root / "here", root / "pack"),
        lambda: unpack_job(root / "there", root / "pack"),
    ):
        tracemalloc.start()
        work()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return peaks[0], peaks[1]


@only_long
def test_packing_and_unpacking_take_no_more_memory_for_large_files_and_a_byte_for_a_row(
    tmp_path: Path,
) -> None:
    rows = 10_000, 300_000
    few = peaks_of(tmp_path / "few", rows[0], 4 << 20)
    many = peaks_of(tmp_path / "many", rows[1], 32 << 20)
    for less, more in zip(few, many, strict=True):
        assert more - less < 4 * (rows[1] - rows[0])
        assert more < 6 << 20


@needs_modes
def test_a_pack_is_private_for_its_journal_is(here: Path, tmp_path: Path) -> None:
    for _ in range(2):  # also in the place of one that isn't
        packed(here, tmp_path / "pack")
        assert (tmp_path / "pack").stat().st_mode & 0o777 == 0o600
        (tmp_path / "pack").chmod(0o644)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("none/x.tgz", "is in a directory that doesn't exist: make the directory first"),
        ("file/x.tgz", "is below a file, not a directory: name another path"),
        ("none/", "is a directory's name: name a file"),
        ("here", "exists and is not a file: name another"),
    ],
)
def test_a_pack_that_can_not_be_where_it_is_to_be_is_refused(
    here: Path, tmp_path: Path, target: str, message: str
) -> None:
    (tmp_path / "file").touch()
    done = journal_line(here, "pack", JOB, "-o", f"{tmp_path}/{target}")
    assert done.returncode == 2
    assert message in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["file", "here"]


# --- a job that is here already --------------------------------------------------------------


def test_unpack_never_touches_a_job_that_is_here_and_says_what_to_do(
    here: Path, there: Path, tmp_path: Path
) -> None:
    first = packed(here, tmp_path / "first")
    unpack_job(there, source(first))
    before = content_of(there)
    go_on(here, 3)
    second = packed(here, tmp_path / "second")
    begun = second.read_bytes()[:600]  # of an existing job, no more than the beginning is read
    for name in (source(second), Source("begun", io.BytesIO(begun).read)):
        with pytest.raises(JobExistsError):
            unpack_job(there, name)
    refused = journal_line(there, "unpack", str(second))
    assert (refused.returncode, refused.stdout) == (4, "")
    assert f"pull {second} --dry-run" in refused.stderr
    with second.open("rb") as stream:
        piped = journal_line(there, "unpack", "-", stdin=stream)
    assert piped.returncode == 4
    assert "pull - --dry-run" in piped.stderr
    assert content_of(there) == before


# --- hostile packs ---------------------------------------------------------------------------


def member(name: str, content: bytes = b"", **fields: Any) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    format_ = fields.get("format", tarfile.GNU_FORMAT)
    return info.tobuf(format_) + content + bytes(-len(content) % 512)


def pack_of(*members: bytes, end: bytes = bytes(1024)) -> bytes:
    return gzip.compress(b"".join([*members, end]), 1)


GOOD = seal_commits(
    [
        [
            b'{"type":"job","format":1,"id":"moved","name":"M","at":"2026-11-24T13:35:00.000001Z"}',
        ]
    ]
)
NOTE = b'{"type":"log","message":"m","at":"2026-11-24T13:35:00.000001Z"}'
BROKEN = seal_commits([[GOOD[:-19] + b"}"], [NOTE], [NOTE], [NOTE]]).replace(b'"m"', b'"n"', 1)
OTHER_ID = seal_commits([[GOOD[:-19].replace(b'"moved"', b'"other"') + b"}"]])
STATUS = b'{"type":"row_status","row":9,"status":"completed","at":"2026-11-24T13:35:00.000001Z"}'
NONSENSE = seal_commits([[GOOD[:-19] + b"}"], [STATUS]])
JOURNAL = member(f"{JOB}/journal.jsonl", GOOD)
EVIL = b"evil"


def journal_of(content: bytes) -> bytes:
    return member(f"{JOB}/journal.jsonl", content)


def evil(name: str = "artifacts/evil", **fields: Any) -> bytes:
    return member(f"{JOB}/{name}", EVIL, **fields)


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "no gzip": b"hello",
    "garbage in gzip": gzip.compress(b"hello" * 1000),
    "broken gzip": b"\x1f\x8b" + b"\xff" * 100,
    "no files": pack_of(),
    "another first file": pack_of(member("manifest.json", b"{}"), JOURNAL),
    "journal not first": pack_of(evil(), JOURNAL),
    "journal in no directory": pack_of(member("journal.jsonl", GOOD)),
    "journal in a directory in one": pack_of(member(f"x/{JOB}/journal.jsonl", GOOD)),
    "job id is a path": pack_of(member("../journal.jsonl", GOOD)),
    "another job": pack_of(JOURNAL, member("other/artifacts/evil", EVIL)),
    "a file that is a directory, too": pack_of(JOURNAL, evil("artifacts/a/b"), evil("artifacts/a")),
    "a directory that is a file, too": pack_of(JOURNAL, evil("artifacts/a"), evil("artifacts/a/b")),
    "name twice": pack_of(JOURNAL, evil(), evil()),
    "two journals": pack_of(JOURNAL, JOURNAL),
    "file outside": pack_of(JOURNAL, member("../../evil", EVIL)),
    "something behind its end": pack_of(JOURNAL, end=bytes(1024) + b"x" * 512),
    "endless zeros behind its end": pack_of(JOURNAL, end=bytes(4 << 20)),
    "no end": pack_of(JOURNAL, end=b""),
    "second gzip member": pack_of(JOURNAL) + gzip.compress(b"x"),
    "trailing garbage": pack_of(JOURNAL) + b"garbage",
    "another checksum": pack_of(JOURNAL)[:-8] + bytes(8),
    "padding holds something": pack_of(JOURNAL[: len(JOURNAL) - 1] + b"x"),
    "journal of another job": pack_of(journal_of(OTHER_ID)),
    "a journal without a commit": pack_of(journal_of(b"")),
    "a seal in the middle that doesn't fit": pack_of(journal_of(BROKEN)),
    "a status of a row that there isn't": pack_of(journal_of(NONSENSE)),
    "long name over all bounds": pack_of(
        member("././@LongLink", b"x" * 10_000, type=tarfile.GNUTYPE_LONGNAME)
    ),
    "a NUL in a long name": pack_of(
        JOURNAL,
        member("././@LongLink", b"moved/artifacts/n\0ul", type=tarfile.GNUTYPE_LONGNAME),
        evil(),
    ),
    "size over all bounds": pack_of(
        member(f"{JOB}/journal.jsonl").replace(b"00000000000", b"77777777777", 1)
    ),
}
for name in (
    "/etc/evil",
    "../evil",
    "artifacts/../../evil",
    "artifacts/./evil",
    "artifacts//evil",
    "artifacts/",
    "artifacts",
    "run.lock",
    "index.hint",
    "journal.jsonl/x",
    "artifacts/" + "x" * 256,
    "artifacts/" + "x/" * 2500 + "x",
    "artifacts/" + "x/" * 63 + "x",
    ".staging/lock",
):
    HOSTILE[f"name {name[:30]!r} of {len(name)}"] = pack_of(JOURNAL, evil(name))
for kind, type_ in {
    "symbolic link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
    "pipe": tarfile.FIFOTYPE,
    "directory": tarfile.DIRTYPE,
    "sparse file": tarfile.GNUTYPE_SPARSE,
    "contiguous file": tarfile.CONTTYPE,
    "pax header": tarfile.XHDTYPE,
    "global pax header": tarfile.XGLTYPE,
    "long link": tarfile.GNUTYPE_LONGLINK,
    "old file": tarfile.AREGTYPE,
}.items():
    HOSTILE[f"a {kind}"] = pack_of(JOURNAL, evil(type=type_, linkname="/etc/passwd"))


def test_the_pack_that_the_hostile_ones_are_made_of_is_taken(there: Path) -> None:
    good = pack_of(JOURNAL, evil())
    assert unpack_job(there, Source("good", io.BytesIO(good).read)).job_id == JOB
    assert (there / JOB / "artifacts" / "evil").read_bytes() == EVIL


@pytest.mark.parametrize("name", HOSTILE)
def test_a_pack_that_is_not_as_journal_pack_makes_it_is_refused_and_leaves_nothing(
    there: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises((PackError, StorageError)):
        unpack_job(there, Source("hostile", io.BytesIO(HOSTILE[name]).read))
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    if IS_WINDOWS:  # where the lock of a directory is a file in it
        left.discard("there/.staging/run.lock")
    if not_under_wine.args[0]:  # where a deleted file that is still open keeps its directory
        left = {name for name in left if not re.fullmatch(r"there/\.staging/moved\.\w+", name)}
    assert left <= {"there", "there/.staging"}


def test_a_pack_with_a_name_that_the_system_refuses_is_named(there: Path) -> None:
    pack = pack_of(JOURNAL, evil("artifacts/" + "x" * 256))
    why = "Windows allows no file of the name" if IS_WINDOWS else "File name too long"
    with pytest.raises(PackError, match=f"one of its files can't be made here: {why}"):
        unpack_job(there, Source("long", io.BytesIO(pack).read))


def make_deep(directory: Path, levels: int, name: str, file: str = "file") -> None:
    """Directories in one another, deeper than a path may be long, with a file in the last."""
    directory.mkdir()
    fd = os.open(directory, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        deeper = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(os.open(file, os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


@pytest.fixture(name="removed_after")
def fixture_removed_after(tmp_path: Path) -> Iterator[None]:
    """Python, too, fails to remove what is very deep."""
    yield
    subprocess.run(["rm", "-rf", tmp_path / "here"], check=True)


@needs_deep_paths
@pytest.mark.usefixtures("removed_after")
def test_a_job_with_artifacts_of_any_depth_is_deleted_and_what_is_left_blocks_nobody(
    tmp_path: Path,
) -> None:
    here = tmp_path / "here"
    make_job(here)
    put_artifact(here, "1.pdf", b"%PDF")
    make_deep(here / JOB / "artifacts" / "deep", 3000, "a")
    with JobService(here) as service:
        assert service.delete_job(JOB)
        assert list(service.store.job_ids()) == []
        service.create_job("Next", job_id="next")
    assert len(staging_of(here)) <= 1, "Python 3.13 can remove it, where a process may open so much"


@needs_deep_paths
def test_what_is_too_deep_for_a_pack_is_left_out_and_named(here: Path, tmp_path: Path) -> None:
    make_deep(here / JOB / "artifacts" / "deep", 60, "a" * 100)
    length = 4095 - len(os.fspath(here / JOB / "artifacts" / "long"))  # of a path, with no more
    levels = length // 101 - 1
    last = "f" * (length - 101 * levels)  # with its slash, one more
    make_deep(here / JOB / "artifacts" / "long", levels, "b" * 100, last)
    make_deep(here / JOB / "artifacts" / "many", 100, "c")
    put_artifact(here, "x/" * 62 + "y", b"just so")
    put_artifact(here, "x/" * 63 + "y", b"too deep")
    found = pack_to_file(here / JOB, tmp_path / "pack")
    deepest, long, many, one = sorted(found.left_out)
    assert deepest.startswith("artifacts/deep/" + "a" * 100 + "/")
    assert long.endswith("b" * 100 + "/" + last)
    assert many == "artifacts/many" + "/c" * 63
    assert one == "artifacts/" + "x/" * 63 + "y"
    unpack_job(tmp_path / "there", source(tmp_path / "pack"))
    assert content_of(tmp_path / "there")["artifacts/" + "x/" * 62 + "y"] == b"just so"


def test_a_pack_that_was_refused_for_its_depth_keeps_nobody_from_making_jobs(there: Path) -> None:
    pack = pack_of(JOURNAL, evil("artifacts/" + "x/" * 1900 + "f"))
    with pytest.raises(PackError):
        unpack_job(there, Source("deep", io.BytesIO(pack).read))
    with JobService(there) as service:
        service.create_job("Next", job_id="next")
    assert staging_of(there) == []


@pytest.mark.parametrize(
    ("before", "problem"),
    [
        (bytes(1024), "after its end"),
        (
            member("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=1 << 30),
            "not a regular file",
        ),
    ],
    ids=["padding", "name"],
)
def test_a_bomb_is_not_inflated_beyond_its_bounds(there: Path, before: bytes, problem: str) -> None:
    """A gigabyte of zeros in a megabyte: no more of it is taken than padding or a name may have."""

    def bomb() -> Iterator[bytes]:
        deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
        yield deflate.compress(JOURNAL + before)
        yield deflate.flush(zlib.Z_FULL_FLUSH)
        # After such a flush the same bytes mean the same: one megabyte of zeros is all of them.
        zeros = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
        yield zeros * 1024

    inflated = io.BytesIO(b"".join(bomb()))
    read = 0

    def counted(length: int) -> bytes:
        nonlocal read
        data = inflated.read(length)
        read += len(data)
        return data

    with pytest.raises(PackError, match=problem):
        unpack_job(there, Source("bomb", counted))
    assert read <= 1 << 18


def deep_pack(count: int) -> bytes:
    """A small pack of so many files, each of a byte, and in 62 directories of its own."""
    names = [f"artifacts/{number:063}" + ("/" + "d" * 63) * 61 + "/f" for number in range(count)]
    return pack_of(JOURNAL, *(member(f"{JOB}/{name}", b"E") for name in names))


@needs_deep_paths
def test_files_and_directories_count_for_the_free_space(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 5
    pack = deep_pack(count)
    takes = (count * 62 + 1) * 4096 + count * (4096 + 1) + 4096 + len(GOOD)
    monkeypatch.setattr(journal.fs.files, "free_bytes", lambda _: takes - 1)
    with pytest.raises(StorageError, match=f"the disk has only {takes - 1} bytes free"):
        unpack_job(there, Source("deep", io.BytesIO(pack).read))
    assert staging_of(there) == []
    monkeypatch.setattr(journal.fs.files, "free_bytes", lambda _: takes)
    unpack_job(there, Source("deep", io.BytesIO(pack).read))


@pytest.mark.parametrize("way", ["unpacked", "pulled", "previewed"])
def test_a_pack_may_hold_what_is_free_on_the_disk(
    here: Path, there: Path, tmp_path: Path, way: str
) -> None:
    size = 2 * journal.fs.files.free_bytes(there)
    head = member(f"{JOB}/journal.jsonl", size=size)
    if way != "previewed":  # which keeps the journal alone
        head = JOURNAL + member(f"{JOB}/artifacts/x", size=size)
    (tmp_path / "bomb").write_bytes(pack_of(head))
    acts: dict[str, Callable[[], object]] = {
        "unpacked": lambda: unpack_job(there, tmp_path / "bomb"),
        "pulled": lambda: pull_job(there, tmp_path / "bomb"),
        "previewed": lambda: preview_pull(here, tmp_path / "bomb"),
    }
    with pytest.raises(
        StorageError, match=r"the disk has only [0-9]+ bytes free; .*bomb takes more"
    ):
        acts[way]()
    assert staging_of(there) == []


def test_every_flipped_byte_of_a_pack_is_refused_or_changes_nothing_that_is_unpacked(
    here: Path, tmp_path: Path, count: Callable[[str, int], None]
) -> None:
    put_artifact(here, "out/2/3.bin", b"short")
    text = packed(here, tmp_path / "pack").read_bytes()
    draw, whole = random.Random(2), content_of(here)
    for at in draw.sample(range(len(text)), 300):
        changed = bytearray(text)
        changed[at] ^= 1 << draw.randrange(8)
        there = tmp_path / f"there-{at}"
        try:
            unpack_job(there, Source("flipped", io.BytesIO(changed).read))
        except PackError:
            assert not (there / JOB).exists()
        else:
            assert content_of(there) == whole
    count("flipped bits of packs", 300)


def test_reading_a_pack_takes_no_more_memory_than_a_piece_at_a_time(
    here: Path, tmp_path: Path
) -> None:
    put_artifact(here, "large", bytes(8 << 20))
    with packed(here, tmp_path / "pack").open("rb") as stream:
        _, contents = read_pack(stream.read, "pack")
        sizes = {max(map(len, pieces), default=0) for _, _, pieces in contents}
    assert max(sizes) <= journal.transfer.pack.PIECE_BYTES


def test_a_kill_in_the_middle_of_unpacking_leaves_what_the_next_writer_removes(
    here: Path, there: Path, tmp_path: Path
) -> None:
    pack = packed(here, tmp_path / "pack").read_bytes()
    command = [sys.executable, "-m", "journal", "--root", str(there), "unpack", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(pack[: len(pack) // 2])
        process.stdin.flush()
        staging = there / ".staging"
        while not any(path.name == "journal.jsonl" for path in staging.rglob("*")):
            assert process.poll() is None
        process.kill()
    assert len(staging_of(there)) == 1
    assert not (there / JOB).exists()
    unpack_job(there, source(tmp_path / "pack"))
    assert staging_of(there) == []
    assert content_of(there) == content_of(here)


def test_a_pack_made_while_rows_are_in_flight_says_so(here: Path, tmp_path: Path) -> None:
    pack = ("--root", str(here), "pack", JOB, "-o", str(tmp_path / "pack.tar.gz"))
    assert "in flight" not in command(*pack).stderr
    with JobService(here) as service:
        service.start_row(f"{JOB}:3")
    assert "1 row is in flight, and the copy won't have the outcome" in command(*pack).stderr

"""The fast reader of verified commits, for an undamaged journal.

A commit ends with a seal, which is a chained CRC-32. The reader stops at the first commit that
doesn't match its seal. ``scan.py`` finds out why the commit doesn't match. The reader needs
constant memory. It doesn't hold a commit larger than a chunk in memory, but reads it twice: first
to verify it, then to yield its lines.
"""

from __future__ import annotations

import sys
from array import array
from binascii import hexlify
from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple, Protocol
from zlib import crc32

import msgspec

from journal.format.records import MAX_LINE_BYTES
from journal.format.seal import SEAL_BYTES, SEAL_HEAD, SEALED_END_BYTES, SEALED_LINE_END

# The fastest of the sizes 2^15 to 2^20, since the lines stay in the CPU cache between the passes.
CHUNK_BYTES = 1 << 16

# Slices for map(). Each slice object is made once, and not for each line.
_seal_of = itemgetter(slice(-SEAL_BYTES, None))
_body_of = itemgetter(slice(None, -SEAL_BYTES))


class Readable(Protocol):
    """A file from which commits can be read. It needs only the method ``read_at``."""

    def read_at(self, offset: int, length: int) -> bytes: ...


class Position(msgspec.Struct, frozen=True):
    """A place between two commits, or between two lines of a commit.

    ``offset`` is in bytes. ``crc`` is the crc of all commits up to the offset. Between two commits,
    it is the crc in the seal (at the end) of the previous commit.
    """

    offset: int
    crc: int


START = Position(0, 0)


class Block(NamedTuple):
    """Whole lines of verified commits.

    - ``lines``: the lines without LF. The first line is at ``offset``.
    - ``after``: the position after the last commit that has lines in this block.
    - ``ends``: True if the last line of the block ends at ``after``. False if that line belongs to
      a large commit whose lines continue in the next block.
    - ``commits``: how many commits end in this block.
    - ``ascii``: True if all bytes are ASCII, so that they need no check for valid UTF-8.
    """

    offset: int
    lines: list[bytes]
    after: Position
    ends: bool
    commits: int
    ascii: bool


def verified_blocks(file: Readable, start: Position, size: int) -> Iterator[Block]:
    """Yield the commits from ``start`` to ``size`` (bytes) as blocks of lines.

    Each commit is verified before its first line is yielded. The iterator ends before the first
    commit that is incomplete or doesn't match its seal (the CRC-32 at its end). To find out whether
    everything was read, compare the last position with ``size``.
    """
    position = start
    while position.offset < size:
        chunk = file.read_at(position.offset, min(CHUNK_BYTES, size - position.offset))
        if len(chunk) < CHUNK_BYTES or SEALED_LINE_END.search(chunk):
            lines, after, commits = verified_lines(chunk, position)
            if not lines:
                return
            yield Block(position.offset, lines, after, True, commits, chunk.isascii())
        else:
            end = end_of_commit(file, position, size)
            if end is None:
                return
            after = end
            yield from _blocks_of_large_commit(file, position.offset, after)
        position = after


def verified_lines(chunk: bytes, position: Position) -> tuple[list[bytes], Position, int]:
    """Return the lines of the valid commits at the beginning of ``chunk``.

    Also returns the position after these commits, and the number of these commits.
    """
    lines = chunk.split(b"\n")
    lines.pop()  # drop the part after the last LF
    crc = _crc_of_single_records(lines, position.crc)
    if crc is not None:
        return lines, Position(position.offset + chunk.rfind(b"\n") + 1, crc), len(lines)
    after, commits = end_of_good_commits(chunk, position)
    lines = chunk[: after.offset - position.offset].split(b"\n")
    lines.pop()
    return lines, after, commits


def _crc_of_single_records(lines: list[bytes], crc: int) -> int | None:
    """Return the crc of the last commit if each line is a valid commit of one record, else None."""
    seals = b"".join(map(_seal_of, lines))
    if seals.count(SEAL_HEAD) != len(lines):
        return None
    crcs = [crc := crc32(body, crc) for body in map(_body_of, lines)]
    # Formatting and comparing all digits in one step takes a tenth of the time of a loop.
    if b"".join((SEAL_HEAD, _hex(crcs).replace(b"|", b'"}' + SEAL_HEAD), b'"}')) != seals:
        return None
    return crc


def end_of_good_commits(chunk: bytes, position: Position) -> tuple[Position, int]:
    """Return the position after the valid commits at the start of ``chunk``, and their number."""
    *parts, _ = SEALED_LINE_END.split(chunk)  # body, digits, body, digits, ...
    bodies, digits = parts[::2], parts[1::2]
    commits = 0
    offset, crc = position.offset, position.crc
    for body, stated in zip(bodies, digits, strict=True):
        found = crc32(body, crc)
        if b"%08x" % found != stated:
            break
        offset, crc = offset + len(body) + SEALED_END_BYTES, found
        commits += 1
    return Position(offset, crc), commits


def _hex(crcs: list[int]) -> bytes:
    """Return the eight hex digits of each crc, separated by ``|``."""
    values = array("I", crcs)
    if sys.byteorder == "little":
        values.byteswap()
    return hexlify(values, b"|", values.itemsize)


def end_of_commit(file: Readable, start: Position, size: int) -> Position | None:
    """Return the end of the commit that begins at ``start``, or None if it is invalid.

    A commit of any size is verified in constant memory.
    """
    crc = start.crc
    offset = start.offset
    held = b""  # the last bytes read, since a seal may lie across two chunks
    line_bytes = 0
    while offset < size:
        chunk = file.read_at(offset, min(CHUNK_BYTES, size - offset))
        if not chunk:
            return None
        last_lf = chunk.rfind(b"\n")
        line_bytes = line_bytes + len(chunk) if last_lf < 0 else len(chunk) - last_lf - 1
        if line_bytes > MAX_LINE_BYTES:
            return None
        offset += len(chunk)
        held += chunk
        match = SEALED_LINE_END.search(held)
        if match:
            crc = crc32(held[: match.start()], crc)
            if b"%08x" % crc != match[1]:
                return None
            return Position(offset - len(held) + match.end(), crc)
        crc = crc32(memoryview(held)[:-SEAL_BYTES], crc)
        held = held[-SEAL_BYTES:]
    return None


def _blocks_of_large_commit(file: Readable, offset: int, after: Position) -> Iterator[Block]:
    """Yield, in blocks of about one chunk, the lines from ``offset`` to the end of the commit."""
    for begin, piece in whole_lines(file, offset, after.offset, CHUNK_BYTES):
        lines = piece.split(b"\n")
        lines.pop()
        ends = begin + len(piece) == after.offset
        yield Block(begin, lines, after, ends, int(ends), piece.isascii())


def whole_lines(
    file: Readable, offset: int, end: int, piece_bytes: int
) -> Iterator[tuple[int, bytes]]:
    """Yield the lines from ``offset`` to ``end`` in pieces, each with its offset.

    A piece ends with an LF. It has at most ``piece_bytes``, or more if a line is longer. The
    iterator ends early if the file has shrunk, or a line is too long.
    """
    length = piece_bytes
    while offset < end:
        piece = file.read_at(offset, min(length, end - offset))
        size = piece.rfind(b"\n") + 1
        if size:
            yield offset, piece[:size]
            offset, length = offset + size, piece_bytes
        elif len(piece) < length or length > MAX_LINE_BYTES:
            return
        else:
            length *= 2

"""Finds one flipped bit in a commit, from the commit's seal.

A seal is the CRC-32 at the end of a commit. A CRC is linear. So the difference (XOR) between a
commit's crc and the crc in its seal depends only on the positions of the flipped bits. No two bits
have the same effect on the crc, so the difference identifies a single flipped bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import NamedTuple
from zlib import crc32

from journal.format.commits import Readable
from journal.format.seal import SEALED_END_BYTES, SEALED_LINE_END, sealed_end

# In a commit up to this length, no two bits have the same effect on the crc, because the polynomial
# is primitive.
_MAX_BYTES = (2**32 - 1) // 8

_PIECE_BYTES = 1 << 20


class Flip(NamedTuple):
    """One flipped bit in the byte at offset ``at``, or a changed LF at this offset.

    ``bit`` masks the bit in that byte: 1, 2, 4, … or 128. For an LF, the mask may have several
    bits.
    """

    at: int
    bit: int

    def __str__(self) -> str:
        is_one = self.bit.bit_count() == 1
        return f"{'one bit was flipped in' if is_one else 'the LF was changed in'} byte {self.at}"


class Unflipped:
    """A view of a file in which a flipped bit is restored."""

    def __init__(self, file: Readable, flip: Flip) -> None:
        self._file = file
        self._flip = flip

    def read_at(self, offset: int, length: int) -> bytes:
        data = self._file.read_at(offset, length)
        at, bit = self._flip
        if not offset <= at < offset + len(data):
            return data
        changed = bytearray(data)
        changed[at - offset] ^= bit
        return bytes(changed)


def possible_flips(file: Readable, offset: int, end: int, crc: int) -> Iterator[Flip]:
    """Yield each bit whose flip would make the bytes from ``offset`` to ``end`` a valid commit.

    ``crc`` is the crc in the seal before the commit.

    Up to a length of 91,607 bits, CRC-32 has a Hamming distance of 4 (Koopman, "32-Bit Cyclic
    Redundancy Codes for Internet Applications", 2002). So in a commit up to this length, at most
    one bit is found, and two flipped bits never look like one flipped bit. In a longer commit,
    other damage may look like one flipped bit. The probability is one in 2^32 for each bit of the
    commit.
    """
    body = end - offset - SEALED_END_BYTES
    if body < 0:
        return
    found = crc_of(file, offset, offset + body, crc)
    text = file.read_at(offset + body, SEALED_END_BYTES)
    wrong = int.from_bytes(text) ^ int.from_bytes(sealed_end(found))
    if wrong.bit_count() == 1:
        following = wrong.bit_length() - 1
        yield Flip(end - 1 - following // 8, 1 << following % 8)
    seal = SEALED_LINE_END.fullmatch(text)
    if seal and body <= _MAX_BYTES:
        place = flipped_bit(int(seal[1], 16) ^ found, body)
        if place:
            yield Flip(offset + place[0], place[1])


def crc_of(file: Readable, offset: int, end: int, crc: int) -> int:
    """Return the crc of the bytes from ``offset`` to ``end``, with the start value ``crc``."""
    while offset < end and (data := file.read_at(offset, min(_PIECE_BYTES, end - offset))):
        crc = crc32(data, crc)
        offset += len(data)
    return crc


def flipped_bit(difference: int, length: int) -> tuple[int, int] | None:
    """Find the bit in ``length`` bytes that changes their crc by ``difference``.

    Returns the index of the byte and the mask of the bit in this byte, or None if there is no such
    bit.

    The search is in strides. ``marks`` has the differences that bits in the last byte of each
    stride make. If a byte is appended, the difference changes in a known way. So after less than a
    stride of appended bytes, the difference is one of the marks.
    """
    stride = isqrt(8 * length) + 1  # as many strides as there are marks
    marks: dict[int, tuple[int, int]] = {}
    for bit in (1 << number for number in range(8)):
        mark = crc32(bytes([bit])) ^ crc32(b"\0")
        for following in range(0, length + stride, stride):
            marks[mark] = following, bit
            mark = _followed(mark, stride)
    for added in range(stride):
        if difference in marks:
            following, bit = marks[difference]
            at = length - 1 - (following - added)
            return (at, bit) if 0 <= at < length else None
        difference = _followed(difference, 1)
    return None


def _followed(difference: int, count: int) -> int:
    """Return what a difference between two crcs becomes if the same ``count`` bytes follow."""
    return crc32(bytes(count), difference) ^ crc32(bytes(count))

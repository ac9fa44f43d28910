"""Finding one flipped bit in a commit by its seal.

A CRC is linear. So the difference between a commit's crc and the crc that its seal states depends
only on which bits were flipped. Each single bit makes a different difference, so the difference
tells which bit it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple
from zlib import crc32

from journal.format.commits import Readable
from journal.format.records import SEAL_BYTES, SEALED_LINE_END, sealed_end

# Up to this length no two bits make the same difference, as x generates the polynomial's field.
_MAX_BYTES = (2**32 - 1) // 8

_END_BYTES = SEAL_BYTES + 1  # a seal and its LF
_PIECE_BYTES = 1 << 20
_STRIDE_BYTES = 1 << 10  # searched in one step; eight values a byte are held in a table

# A seal whose LF became another byte, before the next commit.
LOST_LINE_END = re.compile(rb',"crc":"([0-9a-f]{8})"}([^\n])(?={)')


class Flip(NamedTuple):
    """One flipped bit: in the byte at offset ``at``, where the bit has the value ``bit``."""

    at: int
    bit: int


class Unflipped:
    """A file in which a flipped bit is restored."""

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
    """The bits that, if restored, would make the bytes from ``offset`` to ``end`` one commit.

    ``crc`` is that of the seal before the commit. There is at most one such bit in a commit of up
    to 91,607 bits: up to there CRC-32 has a Hamming distance of 4 (Koopman, "32-Bit Cyclic
    Redundancy Codes for Internet Applications", 2002). So two flipped bits never look like one.
    Other damage does with a probability of one in 2^32 for each bit of the commit.
    """
    body = end - offset - _END_BYTES
    if body < 0:
        return
    found = crc_of(file, offset, offset + body, crc)
    text = file.read_at(offset + body, _END_BYTES)
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
    """The crc of the bytes from ``offset`` to ``end``, continued from ``crc``."""
    while offset < end and (data := file.read_at(offset, min(_PIECE_BYTES, end - offset))):
        crc = crc32(data, crc)
        offset += len(data)
    return crc


def flipped_bit(difference: int, length: int) -> tuple[int, int] | None:
    """The one bit in ``length`` bytes that makes this difference to their crc.

    Returns the number of its byte and its value in there, None if no single bit does.
    """
    near, back = _tables()
    for skipped in range(0, length, _STRIDE_BYTES):
        place = near.get(difference)
        if place:
            at = length - 1 - skipped - place[0]
            return (at, place[1]) if at >= 0 else None
        difference = (
            back[0][difference & 0xFF]
            ^ back[1][difference >> 8 & 0xFF]
            ^ back[2][difference >> 16 & 0xFF]
            ^ back[3][difference >> 24]
        )
    return None


@cache
def _tables() -> tuple[dict[int, tuple[int, int]], list[list[int]]]:
    """The tables for a search from the end of a commit, by strides.

    The first has the bits of the last ``_STRIDE_BYTES``, by the difference that each makes: the
    number of the byte, counted from the last, and the bit's value in there. The second has, for
    each byte of a difference, what it would be without the last stride.
    """
    changes = [crc32(bytes([byte])) ^ crc32(b"\0") for byte in range(256)]  # of a last byte
    near = {}
    for bit in (1 << number for number in range(8)):
        change = changes[bit]
        for before in range(_STRIDE_BYTES):
            near[change] = before, bit
            change = change >> 8 ^ changes[change & 0xFF]  # with one more byte after it
    undo = {change >> 24: (change << 8 & 0xFFFFFFFF) ^ byte for byte, change in enumerate(changes)}
    back = []
    for low in range(0, 32, 8):
        table = [0]
        for number in range(low, low + 8):
            change = 1 << number
            for _ in range(_STRIDE_BYTES):
                change = (change << 8 & 0xFFFFFFFF) ^ undo[change >> 24]
            table += [change ^ other for other in table]
        back.append(table)
    return near, back

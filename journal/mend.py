"""One flipped bit in a commit, found from what the seal says and put back.

A CRC is linear: what a commit's crc differs by from the one that its seal states depends only on
which of its bits were flipped. For one bit that is a different value at each place, so the place
can be told from the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

from journal.format import SEAL_BYTES, SEALED_LINE_END, sealed_end
from journal.replay import Position, verified_lines

# CRC-32 has a Hamming distance of 4 up to 91,607 bits (Koopman, "32-Bit Cyclic Redundancy Codes
# for Internet Applications", 2002): up to there two flipped bits never look like a single one. More
# than two do with odds of one in 47,000 at that length, so what is put back has to make sense too.
MEND_BYTES = 91_607 // 8

_END_BYTES = SEAL_BYTES + 1  # a seal and its LF

# What a seal looks like whose LF became something else, with the next commit right behind it.
LOST_LINE_END = re.compile(rb',"crc":"([0-9a-f]{8})"}([^\n])(?={)')


class Mended(NamedTuple):
    """``data`` with the bit put back in its byte ``at``."""

    data: bytes
    at: int


def mended(data: bytes, crc: int) -> Mended | None:
    """The one or two whole commits that ``data`` is but for one flipped bit; None if it isn't.

    ``crc`` is what the seal before ``data`` states. Two commits are there if the bit was in the
    LF between them.
    """
    for at, bit in _suspects(data, crc):
        changed = bytearray(data)
        changed[at] ^= bit
        guess = bytes(changed)
        if verified_lines(guess, Position(0, crc))[1].offset == len(data):
            return Mended(guess, at)
    return None


def _suspects(data: bytes, crc: int) -> Iterator[tuple[int, int]]:
    """Bits that may be the flipped one: where in ``data``, and which bit of the byte."""
    body = len(data) - _END_BYTES
    if body < 0:
        return
    found = crc32(data[:body], crc)
    end = int.from_bytes(data[body:]) ^ int.from_bytes(sealed_end(found))
    if end.bit_count() == 1:
        following = end.bit_length() - 1
        yield len(data) - 1 - following // 8, 1 << following % 8
    seal = SEALED_LINE_END.fullmatch(data, body)
    if seal:
        place = flipped_bit(int(seal[1], 16) ^ found, body)
        if place:
            yield place
    for match in LOST_LINE_END.finditer(data):
        yield match.start(2), data[match.start(2)] ^ 0x0A


def flipped_bit(difference: int, length: int) -> tuple[int, int] | None:
    """The one bit, of ``length`` bytes, that changes their crc by ``difference``.

    Returned is the number of its byte and its value in there; None if no single bit does.
    """
    for at in range(length - 1, -1, -1):
        bit = _LAST_BYTE_BITS.get(difference)
        if bit:
            return at, bit
        difference = (difference << 8 & 0xFFFFFFFF) ^ _UNDO_BYTE[difference >> 24]
    return None


# What a byte changes the crc by, if it is the last one; a zero byte behind it taken back.
_CHANGES = [crc32(bytes([byte])) ^ crc32(b"\0") for byte in range(256)]
_LAST_BYTE_BITS = {_CHANGES[1 << bit]: 1 << bit for bit in range(8)}
_UNDO_BYTE = [0] * 256
for _byte, _change in enumerate(_CHANGES):
    _UNDO_BYTE[_change >> 24] = (_change << 8 & 0xFFFFFFFF) ^ _byte

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

from journal.format import SEAL_BYTES, SEALED_LINE_END
from journal.replay import Position, verified_lines

# CRC-32 has a Hamming distance of 4 up to 91,607 bits (Koopman, "32-Bit Cyclic Redundancy Codes
# for Internet Applications", 2002): up to there two flipped bits never look like a single one.
MEND_BYTES = 91_607 // 8

_POLYNOMIAL = 0xEDB88320  # CRC-32's, its bits in the order in which zlib takes them
_END_BYTES = SEAL_BYTES + 1  # a seal and its LF

# What a seal looks like whose LF became something else, with the next commit right behind it.
_LOST_LF = re.compile(rb',"crc":"[0-9a-f]{8}"}([^\n])(?={)', re.DOTALL)


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
    seal = SEALED_LINE_END.fullmatch(data, body)
    if seal:
        place = _place_of(int(seal[1], 16) ^ crc32(data[:body], crc), body)
        if place is not None:
            yield place
    for match in _LOST_LF.finditer(data):
        yield match.start(1), data[match.start(1)] ^ 0x0A
    for at in range(body, len(data)):
        for bit in range(8):
            yield at, 1 << bit


def _place_of(difference: int, length: int) -> tuple[int, int] | None:
    """The one bit, of ``length`` bytes, that changes their crc by ``difference``."""
    value = _POLYNOMIAL  # of the last bit; one step for each bit that follows the flipped one
    for following in range(8 * length):
        if value == difference:
            return length - 1 - following // 8, 1 << (7 - following % 8)
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return None

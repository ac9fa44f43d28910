"""One flipped bit in a commit, found from what the seal says and put back.

A CRC is linear: what a commit's crc differs by from the one that its seal states depends only on
which of its bits were flipped. For one bit that is a different value at each place, so the place
can be told from the value.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import NamedTuple
from zlib import crc32

from journal.format import SEAL_BYTES, SEALED_LINE_END, sealed_end
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
    found = crc32(data[:body], crc)
    end = int.from_bytes(data[body:]) ^ int.from_bytes(sealed_end(found))
    if end.bit_count() == 1:
        following = end.bit_length() - 1
        yield len(data) - 1 - following // 8, 1 << following % 8
    seal = SEALED_LINE_END.fullmatch(data, body)
    if seal:
        # The differences that single bits make, from the last bit on, are all different.
        with suppress(ValueError):
            following = _differences().index(int(seal[1], 16) ^ found, 0, 8 * body)
            yield body - 1 - following // 8, 1 << (7 - following % 8)
    for match in _LOST_LF.finditer(data):
        yield match.start(1), data[match.start(1)] ^ 0x0A


@cache
def _differences() -> array[int]:
    """What a flipped bit changes a crc by, for each number of bits that follow it."""
    differences = array("I")
    value = _POLYNOMIAL
    for _ in range(8 * MEND_BYTES):
        differences.append(value)
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return differences

"""The seal at a commit's end: the seal's length, and functions to write and check seals.

A **seal** is a CRC-32 of the commit. The computation starts with the value of the previous commit's
seal. So each seal also covers all commits before it.
"""

from __future__ import annotations

import re
from zlib import crc32

SEAL_HEAD = b',"crc":"'
SEAL_DIGITS = 8  # hexadecimal
SEAL_BYTES = len(SEAL_HEAD) + SEAL_DIGITS + len('"}')
SEALED_END_BYTES = SEAL_BYTES + 1  # with the LF after it
SEAL = re.compile(rb',"crc":"([0-9a-f]{%d})"}' % SEAL_DIGITS)
# Matches the end of a commit. An LF stands only at the end of a line, so every match is a seal.
SEALED_LINE_END = re.compile(SEAL.pattern + rb"\n")


# sealed_end(crc) returns the seal and LF that replace the closing brace and LF of a commit's last
# record. This is a bound method instead of a Python function, because each commit calls it.
sealed_end = b',"crc":"%08x"}\n'.__mod__


def crc_digits(crc: int) -> str:
    """Return a crc as a seal states it: eight hexadecimal digits."""
    return f"{crc:0{SEAL_DIGITS}x}"


def digits_in(line: bytes) -> bytes:
    """Return the bytes of a line (without its LF) at the place where a seal has its digits."""
    return line[-SEAL_DIGITS - 2 : -2]


def is_sealed(line: bytes) -> bool:
    """Return whether a line of a verified commit (without its LF) is the commit's last line."""
    return line[-SEAL_BYTES:].startswith(SEAL_HEAD) and stated_crc(line) is not None


def stated_crc(line: bytes) -> int | None:
    """Return the crc in the seal of a line (without its LF), or None if the line has no seal."""
    if SEALED_LINE_END.fullmatch(line[-SEAL_BYTES:] + b"\n"):
        return int(digits_in(line), 16)
    return None


def unsealed(line: bytes) -> bytes:
    """Return the record in a sealed line (without its LF) as it was before the seal was added."""
    return line[:-SEAL_BYTES] + b"}"


def content_crc(line: bytes, start: int) -> int:
    """Return the crc of a commit that ends with ``line`` (without its LF).

    ``start`` is the crc of everything before the line.
    """
    return crc32(memoryview(line)[:-SEAL_BYTES], start)

"""From bytes to verified commits, and the verdict on what follows the last of them.

Two readers of one grammar. :func:`verified_blocks` is the fast one, for a journal that is as it
should be: it stops at the first commit that isn't. :func:`scan` is the thorough one, for telling
why: it goes on past what is broken and finds every commit that can still be vouched for. The
verdict on a tail is drawn from the second.

Memory stays constant: a commit larger than a chunk is verified in one pass and read again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple, Protocol
from zlib import crc32

from journal.format import (
    MAX_LINE_BYTES,
    SEAL_BYTES,
    SEAL_HEAD,
    SEALED_LINE_END,
    UndecodableError,
    UnknownRecordError,
    content_crc,
    decode_record,
    stated_crc,
)

_TEXT_MODE = "a CR before the LF: this copy was made in text mode"

CHUNK_BYTES = 1 << 16  # the fastest of 2^15 to 2^20: lines stay in the cache between passes


class Readable(Protocol):
    """What replay needs of a file."""

    def read_at(self, offset: int, length: int) -> bytes: ...


class Position(NamedTuple):
    """A place between two commits: ``offset`` in bytes, ``crc`` as the seal before it states."""

    offset: int
    crc: int


START = Position(0, 0)


class Block(NamedTuple):
    """Whole lines of commits that were verified: ``lines`` without LF, the first at ``offset``.

    ``after`` is the position behind the commits that the block belongs to, ``ends`` whether
    the block reaches it: of a large commit only the last block does.
    """

    offset: int
    lines: list[bytes]
    after: Position
    ends: bool


def verified_blocks(file: Readable, start: Position, size: int) -> Iterator[Block]:
    """Yield the commits from ``start`` on as blocks of lines.

    All lines of a commit are checked before the first is yielded. Ends before the first commit
    that doesn't match its seal, or that isn't there whole within the first ``size`` bytes; the
    caller compares the last position with ``size``.
    """
    position = start
    while position.offset < size:
        chunk = file.read_at(position.offset, min(CHUNK_BYTES, size - position.offset))
        lines, after = _verified_lines(chunk, position)
        if lines:
            yield Block(position.offset, lines, after, ends=True)
        elif len(chunk) < CHUNK_BYTES or SEALED_LINE_END.search(chunk):
            return
        else:
            found = _end_of_large_commit(file, position, size)
            if found is None:
                return
            after = found
            yield from _blocks_of_large_commit(file, position.offset, after)
        position = after


def _verified_lines(chunk: bytes, position: Position) -> tuple[list[bytes], Position]:
    """The lines of the commits in ``chunk`` that verify, and the position behind them."""
    lines = chunk.split(b"\n")
    lines.pop()  # what follows the last LF
    crc = sealed_crc = position.crc
    good = 0
    for count, line in enumerate(lines, 1):
        if line[-SEAL_BYTES:-10] == SEAL_HEAD:
            crc = crc32(line[:-SEAL_BYTES], crc)
            if line[-10:] != b'%08x"}' % crc:
                break
            sealed_crc, good = crc, count
        else:
            crc = crc32(b"\n", crc32(line, crc))
    del lines[good:]
    return lines, Position(position.offset + sum(map(len, lines)) + good, sealed_crc)


def _end_of_large_commit(file: Readable, start: Position, size: int) -> Position | None:
    """The end of the one commit at ``start``, which no chunk holds; None if it isn't whole."""
    crc = start.crc
    offset = start.offset
    held = b""  # the last bytes of what was read: a seal may lie across two chunks
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
        # The plain search is several times as fast as the pattern, and mostly finds nothing.
        match = SEALED_LINE_END.search(held) if SEAL_HEAD in held else None
        if match:
            crc = crc32(held[: match.start()], crc)
            if b"%08x" % crc != match[1]:
                return None
            return Position(offset - len(held) + match.end(), crc)
        crc = crc32(held[:-SEAL_BYTES], crc)
        held = held[-SEAL_BYTES:]
    return None


def _blocks_of_large_commit(file: Readable, offset: int, after: Position) -> Iterator[Block]:
    """The lines from ``offset`` to ``after``, a chunk of them at a time where lines allow."""
    length = CHUNK_BYTES
    while offset < after.offset:
        chunk = file.read_at(offset, min(length, after.offset - offset))
        cut = chunk.rfind(b"\n") + 1
        if cut:
            lines = chunk[:cut].split(b"\n")
            lines.pop()
            yield Block(offset, lines, after, ends=offset + cut == after.offset)
            offset += cut
            length = CHUNK_BYTES
        elif len(chunk) < length or length > MAX_LINE_BYTES:
            return  # shrank meanwhile, or a line over the bound: the caller sees it not reached
        else:
            length *= 2


# --- the thorough reader ---------------------------------------------------------------------


class Span(NamedTuple):
    """A stretch of the file: a commit that its seal vouches for, or bytes that none does.

    ``offset`` to ``end`` in bytes, ``line`` the number of its first line (1-based), ``lines``
    how many, ``crc`` what its last seal states. For a bad one ``seals`` counts the lines in it
    that end like a seal, and ``reason`` says what is wrong with it.
    """

    good: bool
    offset: int
    end: int
    line: int
    lines: int
    crc: int
    seals: int = 0
    reason: str = ""


class _Candidate(NamedTuple):
    """A guess that a commit begins at ``offset``; ``crc`` continued up to the current line."""

    offset: int
    line: int
    crc: int


def scan(file: Readable, size: int, start: Position = START, line: int = 1) -> Iterator[Span]:
    """Yield the spans of the file from ``start`` to ``size``, in order and without gaps.

    A commit counts as good if its bytes match its seal when continued from what the commit
    before it states, or, where that one is broken, from what it should have stated. So one
    flipped bit, in a seal, in a frame or in an LF, doesn't hide the commit behind it.
    """
    candidates = [_Candidate(start.offset, line, start.crc)]
    bad_from, bad_line, seals = start.offset, line, 0
    first_bad: bytes | None = None
    for offset, text, ended in lines_of(file, start.offset, size):
        end = offset + len(text) + ended
        stated = stated_crc(text) if ended else None
        good = None
        if stated is not None:
            good = next((c for c in candidates if content_crc(text, c.crc) == stated), None)
            good = good or _after_a_lost_line_end(text, offset, line, stated)
        if good and stated is not None:
            if good.offset > bad_from:
                reason, count = _reason(first_bad or text), good.line - bad_line
                yield Span(False, bad_from, good.offset, bad_line, count, 0, seals, reason)
            yield Span(True, good.offset, end, good.line, line - good.line + 1, stated)
            candidates = [_Candidate(end, line + 1, stated)]
            bad_from, bad_line, seals, first_bad = end, line + 1, 0, None
        else:
            if first_bad is None:
                first_bad = text if ended else text + b"\0"
            seals += stated is not None
            candidates = _next_candidates(candidates, text, stated, end, line + 1)
        line += 1
    if bad_from < size:
        reason, count = _reason(first_bad or b""), line - bad_line
        yield Span(False, bad_from, size, bad_line, count, 0, seals, reason)


def _next_candidates(
    candidates: list[_Candidate], text: bytes, stated: int | None, end: int, line: int
) -> list[_Candidate]:
    """The guesses after a line that ended no good commit.

    If the line has a seal, the next commit begins behind it. If only a part of a seal is there,
    it may be a broken seal or an ordinary line: both are followed up.
    """
    digits = re.fullmatch(rb"[0-9a-f]{8}", text[-10:-2])
    framed = re.fullmatch(rb',"crc":".{8}"}', text[-SEAL_BYTES:], re.DOTALL)
    following = []
    if digits:
        following.append(_Candidate(end, line, int(digits[0], 16)))
    if framed or digits:
        following += [_Candidate(end, line, content_crc(text, c.crc)) for c in candidates]
    if stated is None:
        following += [c._replace(crc=crc32(b"\n", crc32(text, c.crc))) for c in candidates]
    return following[:8]  # hostile input must not make the guesses multiply


def _after_a_lost_line_end(text: bytes, offset: int, line: int, stated: int) -> _Candidate | None:
    """A good commit within one line, behind a seal whose LF became something else."""
    for match in list(re.finditer(rb',"crc":"([0-9a-f]{8})"}.(?={)', text, re.DOTALL))[-8:]:
        if content_crc(text[match.end() :], int(match[1], 16)) == stated:
            return _Candidate(offset + match.end(), line, 0)
    return None


def _reason(first: bytes) -> str:
    if first.endswith(b"}\r"):
        return _TEXT_MODE
    if first.startswith(b"\xef\xbb\xbf"):
        return "a byte order mark: an editor has saved this file"
    if not first.strip(b"\0"):
        return "NUL bytes"
    if len(first) > MAX_LINE_BYTES:
        return f"a line over {MAX_LINE_BYTES} bytes"
    if first.endswith(b"\0"):
        return "a line without its end"
    if stated_crc(first) is not None:
        return "a commit that does not match its seal"
    return "lines without a seal that matches"


def lines_of(file: Readable, offset: int, end: int) -> Iterator[tuple[int, bytes, bool]]:
    """Yield ``(offset, line without its LF, whether it had one)``; a line over the bound is cut."""
    held: list[bytes] = []  # pieces of a line that spans chunks, joined once: it may be long
    held_bytes = 0
    while offset + held_bytes < end:
        at = offset + held_bytes
        chunk = file.read_at(at, min(CHUNK_BYTES, end - at))
        if not chunk:
            break
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join((*held, lines[0]))
            held, held_bytes = [], 0
        for text in lines:
            yield offset, text, True
            offset += len(text) + 1
        held.append(rest)
        held_bytes += len(rest)
        if held_bytes > MAX_LINE_BYTES:
            yield offset, b"".join(held), False
            offset += held_bytes
            held, held_bytes = [], 0
    if held_bytes:
        yield offset, b"".join(held), False


class TailVerdict(NamedTuple):
    """What follows the last good commit: ``torn`` may be cut off, else it is damage.

    ``span`` is the first stretch that no seal vouches for, ``good_behind`` whether there is a
    good commit behind it.
    """

    torn: bool
    span: Span
    good_behind: bool = False


def could_be_torn(file: Readable, span: Span) -> bool:
    """Whether a bad span at the end of the file is what one dying writer can leave.

    That is part of one commit, whatever a power cut made of it. It is not: two lines that end
    like a seal, which are two commits; a commit that is legible to its last byte and doesn't
    fit, for then something in or before it was changed; nor the first, for a journal is made
    with its first commit in it.
    """
    if span.seals > 1 or span.offset == 0 or span.reason == _TEXT_MODE:
        return False
    return span.seals == 0 or not _is_legible(file, span)


def _is_legible(file: Readable, span: Span) -> bool:
    """Whether each line of the span has its LF and is a record."""
    for _, text, ended in lines_of(file, span.offset, span.end):
        if not ended:
            return False
        with suppress(UnknownRecordError):
            try:
                decode_record(text)
            except UndecodableError:
                return False
    return True


def judge_tail(file: Readable, size: int, last: Position) -> TailVerdict:
    """Whether the bytes behind ``last`` are a commit that was never finished, or damage."""
    first: Span | None = None
    for span in scan(file, size, last):
        first = first or span
        if span.good:  # a good commit behind bad bytes: history was changed
            return TailVerdict(False, first, good_behind=True)
    if first is None:  # the file shrank meanwhile: a writer has cut it off already
        first = Span(False, last.offset, last.offset, 1, 0, 0, reason="nothing")
    return TailVerdict(could_be_torn(file, first), first)

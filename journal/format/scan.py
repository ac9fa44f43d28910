"""Past what is broken: every commit that can still be vouched for, and the verdict on a tail.

The thorough reader of the grammar that ``replay.py`` reads fast: for telling what is wrong with a
journal, and for salvaging the rest of it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple
from zlib import crc32

from journal.errors import FormatVersionError, JournalDamagedError, JournalError
from journal.format.bitflip import LOST_LINE_END, Flip, Unflipped, crc_of, possible_flips
from journal.format.commits import CHUNK_BYTES, START, Position, Readable
from journal.format.decode import (
    UndecodableError,
    UnknownRecordError,
    decode_record,
    newer_format,
    read_error,
)
from journal.format.records import MAX_LINE_BYTES, SEAL_BYTES, content_crc, stated_crc

_TEXT_MODE = "a CR before the LF: this copy was made in text mode"
_BYTE_ORDER_MARK = "a byte order mark: an editor has saved this file"
_JOB_RECORD = b'{"type":"job",'
_MOST_MENDS = 100  # where more is broken, no single bits were flipped
_BLOCK_BYTES = 512
_FOREIGN = "lines that were put in: the commits before and behind them fit each other"


class Span(NamedTuple):
    """A stretch of the file: a commit that its seal vouches for, or bytes that none does.

    ``offset`` to ``end`` in bytes, ``line`` the number of its first line (1-based), ``lines``
    how many. Of a good one, ``start`` is the crc that it continues and ``crc`` its own, and the
    last of the file may lack its LF: then it isn't ``ended``. Of a bad
    one both are what the last good seal before it states, ``seals`` counts the lines in it that
    end like a seal, the last of which ends at ``sealed_end``, and ``reason`` says what is wrong.
    """

    good: bool
    offset: int
    end: int
    line: int
    lines: int
    start: int
    crc: int
    seals: int = 0
    reason: str = ""
    ended: bool = True
    sealed_end: int = 0


class _Candidate(NamedTuple):
    """A guess that a commit begins at ``offset`` and continues ``start``.

    ``crc`` is continued up to the current line.
    """

    offset: int
    line: int
    start: int
    crc: int


def scan(file: Readable, size: int, start: Position = START, line: int = 1) -> Iterator[Span]:
    """Yield the spans of the file from ``start`` to ``size``, in order and without gaps.

    A commit counts as good if its bytes match its seal when continued from what the commit
    before it states, or, where that one is broken, from what it should have stated. So one
    flipped bit, in a seal, in a frame or in an LF, doesn't hide the commit behind it. Nor does
    what was put in between two commits: a good one may also continue the last one before any
    stretch of bad bytes.
    """
    homes: list[int] = []  # what the last good seals before bad stretches state
    last = start.crc
    candidates = _beginnings(start.offset, line, [last])
    bad_from, bad_line, seals, sealed_end = start.offset, line, 0, 0
    first_bad: bytes | None = None
    for offset, text, ended in lines_of(file, start.offset, size):
        end = offset + len(text) + ended
        if text.startswith(_JOB_RECORD) and offset > 0:  # a copy behind another one
            candidates += _beginnings(offset, line, [START.crc])
        stated = stated_crc(text) if ended or end == size else None
        good = None
        if stated is not None:
            good = next((c for c in candidates if content_crc(text, c.crc) == stated), None)
            good = good or _after_a_lost_line_end(text, offset, line, stated)
        if good and stated is not None:
            if good.offset > bad_from:
                reason, count = _reason(first_bad or text), good.line - bad_line
                yield Span(False, bad_from, good.offset, bad_line, count, last, last, seals, reason)
                homes = [*homes[-3:], last]
            count = line - good.line + 1
            yield Span(True, good.offset, end, good.line, count, good.start, stated, ended=ended)
            last = stated
            candidates = _beginnings(end, line + 1, [last, *homes])
            bad_from, bad_line, seals, first_bad = end, line + 1, 0, None
        else:
            if first_bad is None:
                first_bad = text if ended else text + b"\0"
            if ended and stated is not None:
                seals, sealed_end = seals + 1, end
            candidates = _next_candidates(candidates, text, stated, _Place(end, line + 1, last))
            if ended and stated is None:
                candidates += [
                    c._replace(crc=crc32(b"\n", crc32(rest, c.crc)))
                    for c, rest in _lost_line_ends(text, offset, line)
                ]
        line += 1
    if bad_from < size:
        reason, count = _reason(first_bad or b""), line - bad_line
        yield Span(
            False, bad_from, size, bad_line, count, last, last, seals, reason, sealed_end=sealed_end
        )


class _Place(NamedTuple):
    """Where the next line begins, and what the last good seal before it states."""

    offset: int
    line: int
    last: int


def _beginnings(offset: int, line: int, crcs: Iterable[int]) -> list[_Candidate]:
    """The guesses that a commit begins at ``offset``, continuing each of ``crcs``."""
    return [_Candidate(offset, line, crc, crc) for crc in dict.fromkeys(crcs)]


def _next_candidates(
    candidates: list[_Candidate], text: bytes, stated: int | None, place: _Place
) -> list[_Candidate]:
    """The guesses after a line that ended no good commit.

    If the line has a seal, the next commit begins behind it. If only a part of a seal is there,
    it may be a broken seal or an ordinary line: both are followed up. A line that is no record at
    all may have been put in between two commits.
    """
    digits = re.fullmatch(rb"[0-9a-f]{8}", text[-10:-2])
    framed = re.fullmatch(rb',"crc":".{8}"}', text[-SEAL_BYTES:], re.DOTALL)
    crcs = []
    if digits:
        crcs.append(int(digits[0], 16))
    if framed or digits:
        crcs += [content_crc(text, c.crc) for c in candidates]
    if stated is not None or not (text.startswith(b"{") and text.endswith(b"}")):
        crcs.append(place.last)
    following = _beginnings(place.offset, place.line, crcs)
    if stated is None:
        following += [c._replace(crc=crc32(b"\n", crc32(text, c.crc))) for c in candidates]
    return following[:12]  # hostile input must not make the guesses multiply


def _after_a_lost_line_end(text: bytes, offset: int, line: int, stated: int) -> _Candidate | None:
    """A good commit within one line, behind a seal whose LF became something else."""
    for candidate, rest in _lost_line_ends(text, offset, line):
        if content_crc(rest, candidate.crc) == stated:
            return candidate
    return None


def _lost_line_ends(text: bytes, offset: int, line: int) -> Iterator[tuple[_Candidate, bytes]]:
    """Where in a line a commit may begin, and what follows there; of a hostile line, the last few."""
    for match in deque(LOST_LINE_END.finditer(text), maxlen=4):
        crc = int(match[1], 16)
        yield _Candidate(offset + match.end(), line, crc, crc), text[match.end() :]


def _reason(first: bytes) -> str:
    if first.endswith(b"}\r"):
        return _TEXT_MODE
    if first.startswith(b"\xef\xbb\xbf"):
        return _BYTE_ORDER_MARK
    if not first.strip(b"\0"):
        return "NUL bytes"
    if len(first) > MAX_LINE_BYTES:
        return f"a line over {MAX_LINE_BYTES} bytes"
    if first.endswith(b"\0"):
        return "a line without its end"
    if stated_crc(first) is not None:
        return "a commit that does not match its seal"
    return "lines without a seal that matches"


# --- the whole of a journal ------------------------------------------------------------------


class Stretch(NamedTuple):
    """Neighbouring commits that are good (``span`` covers all of them), or what is not good.

    ``kind``: "good"; "bad" is lost; "flipped" is a commit but for one flipped bit, ``flip``;
    "foreign" was put in between two commits that fit each other; "torn" is a commit that was never
    finished; "unended" is a good one without its LF. ``commits`` counts those of a good one.
    """

    kind: Literal["good", "bad", "flipped", "foreign", "torn", "unended"]
    span: Span
    commits: int = 0
    flip: Flip | None = None


def survey(file: Readable, size: int, start: Position = START, line: int = 1) -> list[Stretch]:
    """All of a journal from ``start`` to ``size``, in order and without gaps."""
    found = _Survey(start)
    for span in scan(file, size, start, line):
        if span.good:
            found.add_good(span)
        else:
            flip = mend(file, span) if found.mends < _MOST_MENDS else None
            found.mends += 1
            kind: Literal["bad", "flipped"] = "bad" if flip is None else "flipped"
            found.stretches.append(Stretch(kind, span, 0, flip))
    last = found.stretches[-1] if found.stretches else None
    if last and last.kind == "bad" and could_be_torn(file, last.span):
        found.stretches[-1] = last._replace(kind="torn")
    return found.stretches


class _Survey:
    """Stretches so far, and where those end that hang on the start: others may go on there."""

    def __init__(self, start: Position) -> None:
        self.stretches: list[Stretch] = []
        self.mends = 0
        self._homes = {start.crc: 0}  # by the crc of such an end: how many stretches lead to it

    def add_good(self, span: Span) -> None:
        stretches = self.stretches
        last = stretches[-1] if stretches else None
        follows = last is not None and last.kind == "good" and last.span.crc == span.start
        home = self._homes.get(span.start)
        if last is not None and follows and span.ended and home in (None, len(stretches)):
            merged = _merge(last.span, span)._replace(start=last.span.start)
            stretches[-1] = Stretch("good", merged, last.commits + 1)
            at_home = self._homes.pop(span.start, None) is not None
        else:
            at_home = self._go_on_from(span.start)
            stretches.append(Stretch("good" if span.ended else "unended", span, 1))
        if at_home:
            self._homes[span.crc] = len(stretches)

    def _go_on_from(self, crc: int) -> bool:
        """Whether stretches that hang on the start end with ``crc``: then what follows was put in."""
        home = self._homes.get(crc)
        if home is None:
            return False
        if home == 0 and self.stretches and self.stretches[0].kind == "good":
            return False  # a second beginning, after a whole one
        put_in = self.stretches[home:]
        if put_in:
            foreign = _merge(put_in[0].span, put_in[-1].span)._replace(good=False, reason=_FOREIGN)
            self.stretches[home:] = [Stretch("foreign", foreign)]
        return True


def _merge(first: Span, last: Span) -> Span:
    lines = last.line + last.lines - first.line
    return last._replace(offset=first.offset, line=first.line, lines=lines)


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
    """What follows the last good commit: ``torn`` may be cut off; else it is damage.

    Unless it is one more good commit, which is ``unended``: it lacks its LF. Or ``newer`` says that
    the file is of a newer format. ``span`` is that commit, or the first stretch that no seal
    vouches for.
    """

    torn: bool
    span: Span
    unended: bool = False
    newer: str | None = None


def could_be_torn(file: Readable, span: Span) -> bool:
    """Whether a bad span at the end of the file is what one dying writer can leave.

    That is part of one commit, whatever a power cut made of it. It is not: two lines that end
    like a seal, which are two commits; a commit that is legible, as far as blocks that weren't
    written don't explain what isn't, and doesn't fit, for then something in or before it was
    changed; a commit that is whole but for one flipped bit; nor the first, for a journal is made
    with its first commit in it.
    """
    if span.seals > 1 or span.offset == 0 or span.reason == _TEXT_MODE:
        return False
    if span.seals:  # behind its seal the next commit may have been torn: it is judged without
        span = span._replace(end=span.sealed_end)
        if _is_legible(file, span) or _matches_seal(file, span):
            return False
    return mend(file, span) is None


def mend(file: Readable, span: Span) -> Flip | None:
    """The bit by which a bad span differs from a commit whose lines make sense; None if none does.

    However long it is. By chance a commit of a megabyte that is broken in another way looks like
    that once in 512 times; but then something in it is mostly illegible.
    """
    for flip in possible_flips(file, span.offset, span.end, span.start):
        lines = lines_of(Unflipped(file, flip), span.offset, span.end)
        seals = 0
        for _, text, ended in lines:
            if not ended or not _is_record(text):
                break
            seals += stated_crc(text) is not None
        else:
            if seals == 1:
                return flip
    return None


def _matches_seal(file: Readable, span: Span) -> bool:
    """Whether a bad span that ends with a seal matches it: then a line in it is over the bound."""
    seal = span.end - SEAL_BYTES - 1
    stated = stated_crc(file.read_at(seal, SEAL_BYTES))
    return stated is not None and crc_of(file, span.offset, seal, span.start) == stated


def _is_legible(file: Readable, span: Span) -> bool:
    """Whether no block that wasn't written can be why a line of a sealed span is no record.

    A disk writes blocks of 512 bytes whole. So a line that lies within a block was there when the
    block was written: when a record begins or ends in it, or the seal does.
    """
    seal = span.end - SEAL_BYTES - 1
    written = {seal // _BLOCK_BYTES, (span.end - 1) // _BLOCK_BYTES}
    illegible: set[int] = set()  # blocks of which a line that is no record lies within
    whole = True
    for offset, text, ended in lines_of(file, span.offset, span.end):
        blocks = range(offset // _BLOCK_BYTES, (offset + len(text)) // _BLOCK_BYTES + 1)
        if ended and _is_record(text):
            written |= {blocks[0], blocks[-1]}
        else:
            whole = False
            if len(blocks) == 1:
                illegible.add(blocks[0])
    return whole or not written.isdisjoint(illegible)


def _is_record(text: bytes) -> bool:
    try:
        decode_record(text)
    except UndecodableError:
        return False
    except UnknownRecordError:
        return True
    return True


def judge_tail(file: Readable, size: int, last: Position) -> TailVerdict:
    """Whether the bytes behind ``last`` are a commit that was never finished, or damage."""
    first: Span | None = None
    good_behind = False
    for span in scan(file, size, last):
        first = first or span
        if span is first and span.good and not span.ended:
            return TailVerdict(False, span, unended=True)
        if span.good:  # behind bad bytes: history was changed
            first = first._replace(reason=first.reason or "one that continues another")
            good_behind = True
            break
    if first is None:  # the file shrank meanwhile: a writer has cut it off already
        first = Span(False, last.offset, last.offset, 1, 0, last.crc, last.crc, reason="nothing")
    newer = states_newer_format(file, first) if last == START and not first.good else None
    return TailVerdict(not good_behind and could_be_torn(file, first), first, newer=newer)


def states_newer_format(file: Readable, first: Span) -> str | None:
    """What to say of a bad span at the beginning that states a newer format; None if it doesn't.

    That may have other seals; but a flipped bit may have made its number, too.
    """
    line = next((text for _, text, _ in lines_of(file, first.offset, first.end)), b"")
    newer = newer_format(line)
    return newer if newer is None or mend(file, first) is None else None


def header_error(
    path: Path, file: Readable, size: int, error: UndecodableError | UnknownRecordError
) -> JournalError:
    """The public error for a line 1 that can't be decoded: all of the file says what it means."""
    verdict = judge_tail(file, size, START)
    if verdict.newer is not None:
        return FormatVersionError(path, verdict.newer)
    if verdict.span.good:
        return read_error(path, 1, 0, error)
    expected = f"a commit that continues crc {START.crc:08x}"
    return JournalDamagedError(path, 1, 0, expected, verdict.span.reason)

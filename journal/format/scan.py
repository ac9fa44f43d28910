"""Reading a damaged journal: every commit that a seal still vouches for, and a verdict on the rest.

``commits.py`` reads the same grammar fast, and stops at the first commit that doesn't match its
seal. This reader finds out what is wrong there, and goes on after it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple
from zlib import crc32

from journal.errors import FormatVersionError, JournalError
from journal.format.bitflip import LOST_LINE_END, Flip, Unflipped, crc_of, possible_flips
from journal.format.commits import CHUNK_BYTES, START, Position, Readable
from journal.format.decode import (
    UndecodableError,
    UnknownRecordError,
    decode_record,
    newer_format,
)
from journal.format.extent import not_continued
from journal.format.records import (
    MAX_LINE_BYTES,
    SEAL_BYTES,
    SEALED_END_BYTES,
    content_crc,
    stated_crc,
)
from journal.fs.handles import JournalFile

_TEXT_MODE = "a CR before the LF: this copy was made in text mode"
_BYTE_ORDER_MARK = "a byte order mark: an editor has saved this file"
_INSERTED = "inserted lines: the commits before and after them fit each other"
_JOB_RECORD = b'{"type":"job",'
_MAX_FLIPS = (
    100  # regions in which a flipped bit is looked for: where more is broken, it is no flip
)
_BLOCK_BYTES = 512

Kind = Literal["good", "unended", "bad", "bit_flip", "inserted", "torn", "newer"]


class Region(NamedTuple):
    """A part of the file that has one verdict.

    ``kind`` is that verdict:


    - "good": commits that match their seals. ``commits`` counts them.
    - "unended": one such commit at the end of the file that lacks its LF.
    - "bad": bytes that no seal vouches for.
    - "bit_flip": a commit but for one flipped bit, ``flip``.
    - "inserted": lines between two commits of which the second continues the first.
    - "torn": a torn tail, that is an interrupted write.
    - "newer": the beginning of a journal in a newer format.

    It reaches from ``offset`` to ``end`` (bytes). ``line`` is the number of its first line
    (1-based), and ``lines`` counts them. If it is good or unended, ``start`` is the crc that it
    continues, and ``crc`` its own. Else both are the crc of the last good seal before it, and
    ``reason`` says what is wrong. ``seals`` counts the lines in a bad region that end like a seal;
    the last of these ends at ``sealed_end``.
    """

    kind: Kind
    offset: int
    end: int
    line: int
    lines: int
    start: int
    crc: int
    reason: str = ""
    commits: int = 0
    seals: int = 0
    sealed_end: int = 0
    flip: Flip | None = None

    @property
    def good(self) -> bool:
        return self.kind in ("good", "unended")


class _Candidate(NamedTuple):
    """A guess that a commit begins at ``offset`` and continues ``start``.

    ``crc`` is that of what was read of it so far.
    """

    offset: int
    line: int
    start: int
    crc: int


def scan(file: Readable, size: int, start: Position = START, line: int = 1) -> Iterator[Region]:
    """Yield the good, unended and bad regions from ``start`` to ``size``, in order, without gaps.

    A commit is good if it matches its seal when it is continued from one of these:

    - the crc that the commit before it states,
    - the crc that a broken commit before it should have stated, so one flipped bit in a seal or an
      LF doesn't hide the next commit,
    - the crc of the last good commit before bad bytes, so neither do inserted lines.
    """
    homes: list[int] = []  # crcs of the last good seals before bad regions
    last = start.crc
    candidates = _beginnings(start.offset, line, [last])
    bad_from, bad_line, seals, sealed_end = start.offset, line, 0, 0
    first_bad: bytes | None = None
    for offset, text, ended in lines_of(file, start.offset, size):
        end = offset + len(text) + ended
        if text.startswith(_JOB_RECORD) and offset > 0:  # a copy after another one
            candidates += _beginnings(offset, line, [START.crc])
        stated = stated_crc(text) if ended or end == size else None
        good = None
        if stated is not None:
            good = next((c for c in candidates if content_crc(text, c.crc) == stated), None)
            good = good or _after_a_lost_line_end(text, offset, line, stated)
        if good and stated is not None:
            if good.offset > bad_from:
                reason, count = _reason(first_bad or text), good.line - bad_line
                yield Region(
                    "bad", bad_from, good.offset, bad_line, count, last, last, reason, seals=seals
                )
                homes = [*homes[-3:], last]
            count = line - good.line + 1
            kind: Kind = "good" if ended else "unended"
            yield Region(kind, good.offset, end, good.line, count, good.start, stated, commits=1)
            last = stated
            candidates = _beginnings(end, line + 1, [last, *homes])
            bad_from, bad_line, seals, first_bad = end, line + 1, 0, None
        else:
            if first_bad is None:
                first_bad = text if ended else text + b"\0"
            if ended and stated is not None:
                seals, sealed_end = seals + 1, end
            following = _Candidate(end, line + 1, last, last)
            candidates = _next_candidates(candidates, text, stated, following)
            if ended and stated is None:
                candidates += [
                    c._replace(crc=crc32(b"\n", crc32(rest, c.crc)))
                    for c, rest in _lost_line_ends(text, offset, line)
                ]
        line += 1
    if bad_from < size:
        bad = Region("bad", bad_from, size, bad_line, line - bad_line, last, last)
        yield bad._replace(reason=_reason(first_bad or b""), seals=seals, sealed_end=sealed_end)


def _beginnings(offset: int, line: int, crcs: Iterable[int]) -> list[_Candidate]:
    """The guesses that a commit begins at ``offset``, continuing each of ``crcs``."""
    return [_Candidate(offset, line, crc, crc) for crc in dict.fromkeys(crcs)]


def _next_candidates(
    candidates: list[_Candidate], text: bytes, stated: int | None, inserted: _Candidate
) -> list[_Candidate]:
    """The guesses after a line that ended no good commit.

    - If the line has a seal, the next commit begins after it.
    - If it has only a part of a seal, it may be a broken seal or an ordinary line: both are tried.
    - If it is no record at all, it may have been ``inserted`` between two commits.
    """
    digits = re.fullmatch(rb"[0-9a-f]{8}", text[-10:-2])
    framed = re.fullmatch(rb',"crc":".{8}"}', text[-SEAL_BYTES:], re.DOTALL)
    crcs = []
    if digits:
        crcs.append(int(digits[0], 16))
    if framed or digits:
        crcs += [content_crc(text, c.crc) for c in candidates]
    if stated is not None or not (text.startswith(b"{") and text.endswith(b"}")):
        crcs.append(inserted.start)
    following = _beginnings(inserted.offset, inserted.line, crcs)
    if stated is None:
        following += [c._replace(crc=crc32(b"\n", crc32(text, c.crc))) for c in candidates]
    return following[:12]  # hostile input must not make the guesses multiply


def _after_a_lost_line_end(text: bytes, offset: int, line: int, stated: int) -> _Candidate | None:
    """A good commit within one line, after a seal whose LF became another byte."""
    for candidate, rest in _lost_line_ends(text, offset, line):
        if content_crc(rest, candidate.crc) == stated:
            return candidate
    return None


def _lost_line_ends(text: bytes, offset: int, line: int) -> Iterator[tuple[_Candidate, bytes]]:
    """Where in a line a commit may begin, and what follows there; only the last few places."""
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


# --- a whole journal ---------------------------------------------------------------------------


def survey(file: Readable, size: int, start: Position = START, line: int = 1) -> list[Region]:
    """All regions of a journal from ``start`` to ``size``, in order and without gaps."""
    found = _Survey(start)
    flips = 0
    for region in scan(file, size, start, line):
        if region.good:
            found.add_good(region)
            continue
        flip = find_flip(file, region) if flips < _MAX_FLIPS else None
        flips += 1
        kind: Kind = "bad" if flip is None else "bit_flip"
        found.regions.append(region._replace(kind=kind, flip=flip))
    regions = found.regions
    if regions and regions[-1].kind == "bad" and could_be_torn(file, regions[-1]):
        regions[-1] = regions[-1]._replace(kind="torn")
    if regions and regions[0].kind == "bad" and regions[0].offset == 0:
        newer = _newer_format(file, regions[0])
        if newer is not None:
            regions[0] = regions[0]._replace(kind="newer", reason=newer)
    return regions


class _Survey:
    """The regions so far, and the ends of the chains of commits that lead back to the start.

    Another commit may continue such an end. Then all regions after it were inserted.
    """

    def __init__(self, start: Position) -> None:
        self.regions: list[Region] = []
        self._homes = {start.crc: 0}  # by the crc of such an end: the number of regions up to it

    def add_good(self, region: Region) -> None:
        regions = self.regions
        last = regions[-1] if regions else None
        follows = last is not None and last.kind == "good" and last.crc == region.start
        home = self._homes.get(region.start)
        if last and follows and region.kind == "good" and home in (None, len(regions)):
            merged = _merged(last, region)
            regions[-1] = merged._replace(start=last.start, commits=last.commits + 1)
            at_home = self._homes.pop(region.start, None) is not None
        else:
            at_home = self._go_on_from(region.start)
            regions.append(region)
        if at_home:
            self._homes[region.crc] = len(regions)

    def _go_on_from(self, crc: int) -> bool:
        """Whether a chain from the start ends with ``crc``; marks what was inserted after it."""
        home = self._homes.get(crc)
        if home is None:
            return False
        if home == 0 and self.regions and self.regions[0].kind == "good":
            return False  # a second beginning, after a whole one
        inserted = self.regions[home:]
        if inserted:
            merged = _merged(inserted[0], inserted[-1])
            merged = merged._replace(kind="inserted", reason=_INSERTED, commits=0, flip=None)
            self.regions[home:] = [merged]
        return True


def _merged(first: Region, last: Region) -> Region:
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


# --- verdicts ----------------------------------------------------------------------------------


def could_be_torn(file: Readable, region: Region) -> bool:
    """Whether a bad region at the end of the file is a torn tail: what one dying writer can leave.

    That is a part of one commit, in whatever state a power cut left it. It is damage instead if

    1. two lines end like a seal: these are two commits; or
    2. it has a seal, and each line that doesn't decode could not have been left unwritten: then
       something in the commit or before it was changed; or
    3. it is a whole commit but for one flipped bit; or
    4. it begins the file: a journal is created with its first commit in it; or
    5. it went through text mode.
    """
    if region.seals > 1 or region.offset == 0 or region.reason == _TEXT_MODE:
        return False
    if region.seals:  # judged up to its seal: what follows may be part of the next commit
        region = region._replace(end=region.sealed_end)
        if _is_legible(file, region) or _matches_seal(file, region):
            return False
    return find_flip(file, region) is None


def find_flip(file: Readable, region: Region) -> Flip | None:
    """The bit by which a bad region differs from a commit whose lines decode, if there is one.

    It may be of any length. One in 512 commits of a megabyte that are broken in another way looks
    like that by chance. But then most of these have a line that doesn't decode.
    """
    for flip in possible_flips(file, region.offset, region.end, region.start):
        lines = lines_of(Unflipped(file, flip), region.offset, region.end)
        seals = 0
        for _, text, ended in lines:
            if not ended or not _is_record(text):
                break
            seals += stated_crc(text) is not None
        else:
            if seals == 1:
                return flip
    return None


def _matches_seal(file: Readable, region: Region) -> bool:
    """Whether a bad region that ends with a seal matches it: then it has a line over the bound."""
    seal = region.end - SEALED_END_BYTES
    stated = stated_crc(file.read_at(seal, SEAL_BYTES))
    return stated is not None and crc_of(file, region.offset, seal, region.start) == stated


def _is_legible(file: Readable, region: Region) -> bool:
    """Whether some line of a sealed region must have been written as it is, or all lines decode.

    A disk writes blocks of 512 bytes whole. A block was written if a line that decodes, or the
    seal, begins or ends in it. So a line within such a block was written, too.
    """
    seal = region.end - SEALED_END_BYTES
    written = {seal // _BLOCK_BYTES, (region.end - 1) // _BLOCK_BYTES}
    illegible: set[int] = set()  # blocks that have a whole line which doesn't decode
    whole = True
    for offset, text, ended in lines_of(file, region.offset, region.end):
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


def judge_tail(file: Readable, size: int, last: Position) -> Region:
    """The first region after ``last``, the end of the last commit that was read, with a verdict.

    - "torn": all that follows is a torn tail.
    - "unended": it is one more commit, which lacks its LF.
    - "newer": the file is of a newer format, as ``reason`` says.
    - All other kinds are damage, and ``reason`` says what was found.
    """
    first: Region | None = None
    good_after = False
    for region in scan(file, size, last):
        first = first or region
        if first.kind == "unended":
            return first
        if region.good:  # after bad bytes: history was changed
            first = first._replace(reason=first.reason or "one that continues another")
            good_after = True
            break
    if first is None:  # the file shrank meanwhile: a writer has cut off the tail
        offset, crc = last
        first = Region("bad", offset, offset, 1, 0, crc, crc, "nothing")
    if last == START and not first.good:
        newer = _newer_format(file, first)
        if newer is not None and find_flip(file, first) is None:
            return first._replace(kind="newer", reason=newer)
    is_torn = not good_after and could_be_torn(file, first)
    return first._replace(kind="torn") if is_torn else first


def _newer_format(file: Readable, first: Region) -> str | None:
    """What to report if a bad region at the beginning states a newer format, which may have other
    seals. A flipped bit may have made the number, too: the caller has looked for one.
    """
    line = next((text for _, text, _ in lines_of(file, first.offset, first.end)), b"")
    return newer_format(line)


def tail_error(file: JournalFile, last: Position, tail: Region) -> JournalError:
    """The public error for what follows ``last``, if that is neither torn nor a commit."""
    if tail.kind == "newer":
        return FormatVersionError(file.path, tail.reason)
    return not_continued(file, last, tail.reason)

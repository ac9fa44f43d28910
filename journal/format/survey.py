"""Finds all regions of a journal and gives a verdict on each, for `journal verify` and repairs."""

from __future__ import annotations

from journal.format.commits import START, Position, Readable
from journal.format.scan import MAX_HOMES, Kind, Region, good_commits, scan
from journal.format.torn_tail import could_be_torn, find_flip, stated_newer_format

_INSERTED = "inserted lines: the commits before and after them fit each other"
# How many bad regions are searched for a flipped bit. If there are more bad regions, the cause of
# the damage isn't flipped bits.
_MAX_FLIPS = 100
# After this number of good commits in a row, the fast reader is used again. With a smaller number
# and many bad commits, the fast reader would often start just before a bad commit, where it stops.
_GOOD_COMMITS = 32


def survey(file: Readable, size: int, start: Position = START, line: int = 1) -> list[Region]:
    """Return all regions of a journal from ``start`` to ``size``, in order and without gaps.

    ``start`` is the beginning of the file, or the end of the good commits at its beginning.
    """
    found = _Survey(start)
    homes: list[int] = []
    end = start
    while end.offset < size:
        quick = good_commits(file, size, end, line)
        if quick is not None:
            found.add_good(quick)
            end, line = Position(quick.end, quick.crc), line + quick.lines
        good = 0
        for region in scan(file, size, end, line, homes):
            end, line = Position(region.end, region.crc), region.line + region.lines
            if region.good:
                found.add_good(region)
                good += 1
                if good == _GOOD_COMMITS:
                    break
            else:
                found.add_bad(file, region)
                homes = [*homes, region.crc][-MAX_HOMES:]
                good = 0
    regions = found.regions
    if regions and regions[-1].kind == "bad" and could_be_torn(file, regions[-1]):
        regions[-1] = regions[-1]._replace(kind="torn")
    if regions and regions[0].kind == "bad" and regions[0].offset == 0:
        newer = stated_newer_format(file, regions[0])
        if newer is not None:
            regions[0] = regions[0]._replace(kind="newer", reason=newer)
    return regions


class _Survey:
    """Collects the regions, and finds inserted regions.

    Each commit continues the crc of the commit before it. So the commits from the start of the file
    are a chain. Other regions may interrupt the chain. If a later commit continues the chain, the
    regions in between were inserted.
    """

    def __init__(self, start: Position) -> None:
        self.regions: list[Region] = []
        self._start = start
        self._flips = 0  # how many bad regions were searched for a flipped bit
        # The places where a chain may end. For each place, the key is the crc there, and the value
        # is how many regions come before the place.
        self._homes = {start.crc: 0}

    def add_good(self, region: Region) -> None:
        regions = self.regions
        last = regions[-1] if regions else None
        follows = last is not None and last.kind == "good" and last.crc == region.start
        home = self._homes.get(region.start)
        if last and follows and region.kind == "good" and home in (None, len(regions)):
            merged = _merged(last, region)
            commits = last.commits + region.commits
            regions[-1] = merged._replace(start=last.start, commits=commits)
            at_home = self._homes.pop(region.start, None) is not None
        else:
            at_home = self._go_on_from(region.start)
            regions.append(region)
        if at_home:
            self._homes[region.crc] = len(regions)

    def add_bad(self, file: Readable, region: Region) -> None:
        flip = find_flip(file, region) if self._flips < _MAX_FLIPS else None
        self._flips += 1
        kind: Kind = "bad" if flip is None else "bit_flip"
        self.regions.append(region._replace(kind=kind, flip=flip))

    def _go_on_from(self, crc: int) -> bool:
        """Return whether a chain of commits from the start of the file ends with ``crc``.

        If so, the regions after the end of the chain are marked as inserted.
        """
        home = self._homes.get(crc)
        if home is None:
            return False
        if home == 0 and self._start == START and self.regions and self.regions[0].kind == "good":
            return False  # another journal was appended to a whole journal
        inserted = self.regions[home:]
        if inserted:
            merged = _merged(inserted[0], inserted[-1])
            merged = merged._replace(kind="inserted", reason=_INSERTED, commits=0, flip=None)
            self.regions[home:] = [merged]
        return True


def _merged(first: Region, last: Region) -> Region:
    lines = last.line + last.lines - first.line
    return last._replace(offset=first.offset, line=first.line, lines=lines)

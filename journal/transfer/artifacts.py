"""The artifacts of another copy of a job, brought here whole, and nothing lost for it."""

from __future__ import annotations

import errno
import itertools
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NoReturn

from journal.errors import StorageError
from journal.format.commits import Position
from journal.fs import directories, files, handles
from journal.fs.beneath import Below, parents_of
from journal.fs.names import ARTIFACTS_NAME, OTHER_HISTORY, PULL_STAGING_NAME
from journal.transfer.copies import Copy, Relation, holds
from journal.transfer.snapshot import artifacts_of
from journal.transfer.tarball import PIECE_BYTES

_PUT_BY = re.compile(r"(.+)\.(?:before|other)-[0-9]+")
_MOST_NAME_BYTES = 235  # of what is put by; a number is still to be added

Likeness = Literal["same", "grown", "different"]


class Artifacts:
    """The artifacts of another copy, and what became of them here.

    They are staged first, while others may commit, and put in their places at once. A file that
    differs is never lost: if the other's commits win, so does its file, and ours is put by beside
    it as ``NAME.before-N``; in a merge the other's is put by as ``NAME.other-N``.
    """

    def __init__(self, ours: Copy, theirs: Copy) -> None:
        """Nothing is looked at yet. All that follows is by names in the job's directory.

        Of what the other copy has, ``new`` is missing here, ``differing`` is here with other
        contents, and ``left_out`` can't be packed or has gone meanwhile. ``put_by`` says by the
        name of two that differ under which name the one that isn't in its place is kept. To the
        artifacts belong the histories of other copies that merges there have kept.
        """
        self._copy = ours
        self._ours = Below(ours.directory)
        self._theirs = Below(theirs.directory)
        self._staged: dict[str, str] = {}
        self._missing: list[str] = []
        self._grown: set[str] = set()  # ours is the beginning of theirs
        self._directories: set[str] = set()  # that may take what is pulled
        self.new: list[str] = []
        self.differing: list[str] = []
        self.left_out: list[str] = []
        self.put_by: dict[str, str] = {}

    def look(self) -> bool:
        """Find out what is missing or differs; whether anything is missing.

        Raises StorageError, also for a file that is a directory in the other copy, or the reverse.
        """
        self._missing, self.differing, self.left_out = [], [], []
        try:
            self._look()
        except OSError as error:
            path = Path(error.filename or self._theirs.top)
            raise handles.storage_error(path, "read", error) from error
        return bool(self._missing)

    def _look(self) -> None:
        self._check_file_system()
        for name, packable in artifacts_of(self._theirs.top):
            if not packable:
                self.left_out.append(name)
                continue
            self._check_place(name)
            if not self._ours.exists(name):
                if not self._is_ours_put_by(name):
                    self._missing.append(name)
                continue
            try:
                likeness = _likeness(self._ours, name, self._theirs, name)
            except FileNotFoundError:
                self.left_out.append(name)
                continue
            if likeness != "same":
                self.differing.append(name)
            if likeness == "grown":
                self._grown.add(name)
        self._missing += self._missing_histories()

    def _missing_histories(self) -> list[str]:
        """Those that are neither here nor the beginning of ours."""
        missing = []
        for name in directories.names_in(self._theirs.top):
            found = OTHER_HISTORY.fullmatch(name)
            if found is None or self._ours.exists(name):
                continue
            if not holds(self._copy, Position(int(found[1]), int(found[2], 16))):
                missing.append(name)
        return missing

    def _is_ours_put_by(self, name: str) -> bool:
        """Whether the other copy put by with this name what is here under its own."""
        found = _PUT_BY.fullmatch(name)
        if found is None or not self._ours.exists(found[1]):
            return False
        try:
            return _likeness(self._ours, found[1], self._theirs, name) == "same"
        except FileNotFoundError:
            return False

    def _check_file_system(self) -> None:
        ours = self._ours.top / ARTIFACTS_NAME
        if ours.is_dir() and files.device_of(ours) != files.device_of(self._ours.top):
            reason = "it is on another file system than the job: move it there for the pull"
            raise StorageError(ours, "pull into", errno.EXDEV, reason)

    def _check_place(self, name: str) -> None:
        if self._ours.is_directory(name):
            self._in_the_way(name, "it is a directory here and a file in the other copy")
        for parent in parents_of(name):
            if not parent or parent in self._directories:
                return
            if self._ours.exists(parent) and not self._ours.is_directory(parent):
                self._in_the_way(parent, "it is a directory in the other copy, and none here")
            self._directories.add(parent)

    def _in_the_way(self, name: str, reason: str) -> NoReturn:
        reason = f"{reason}: move one of them away"
        raise StorageError(self._ours.top / name, "pull into", errno.ENOTDIR, reason)

    def stage(self, *, differing: bool) -> None:
        """Copy what is missing, or also what differs, to where it does no harm yet, synced."""
        for name in [*self._missing, *(self.differing if differing else ())]:
            staged = f"{PULL_STAGING_NAME}/{len(self._staged)}"
            try:
                source = _open(self._theirs, name)
            except FileNotFoundError:  # as a file that is written under another name does
                self.left_out.append(name)
                continue
            new = self._ours.create(staged)
            for piece in _all_of(source):
                new.write(piece)
            new.sync()
            new.close()
            self._staged[name] = staged
        self.differing = [name for name in self.differing if name not in self.left_out]

    def install(self, relation: Relation) -> None:
        """Put what was staged in its place, each whole; on the disk on return.

        ``relation`` of ours to theirs: "behind" takes theirs where they differ, "diverged" puts
        them by, else they only fill gaps.
        """
        places = {name: self._place(name, relation) for name in self._staged}
        make_way = [name for name, place in places.items() if place == name in self.put_by]
        for name in make_way:
            if not self._ours.exists(self.put_by[name]):
                self._ours.give_name(name, self.put_by[name])
        # On the disk before theirs is: a power cut must not take one and leave the other.
        self._ours.sync_directories({name.rpartition("/")[0] for name in make_way})
        changed: set[str] = set()
        for name, place in places.items():
            if place is not None:
                self._ours.rename(self._staged[name], place)
                changed |= set(parents_of(place))
        self._ours.sync_directories(changed)

    def put_back(self) -> None:
        """Let ours stand where theirs took its place: their commits didn't come.

        As far as the system lets us; both are there under one name or another.
        """
        for name in self._staged:
            if name in self.put_by:
                with suppress(OSError):
                    self._ours.take_name_back(name, self.put_by[name])

    def _place(self, name: str, relation: Relation) -> str | None:
        """Under which name the other's file goes, if any does; what else that means is noted."""
        if not self._ours.exists(name):
            self.new.append(name)
            return name
        if relation == "behind":
            if name in self._grown:
                self.differing.remove(name)
            else:
                self.put_by[name] = self._free_name(name, "before")
            return name
        if relation != "diverged":
            return None
        place = self._free_name(name, "other")
        self.put_by[name] = place
        return None if self._ours.exists(place) else place

    def _free_name(self, name: str, word: str) -> str:
        """A name that neither copy has; or the one that the file has been put by as already."""
        directory, _, last = name.rpartition("/")
        last = last.encode()[:_MOST_NAME_BYTES].decode(errors="ignore")
        putting_by = self._staged[name] if word == "other" else name
        for number in itertools.count(1):
            found = f"{directory}/{last}.{word}-{number}"
            if not self._ours.exists(found):
                if not self._theirs.exists(found):
                    return found
            elif _likeness(self._ours, found, self._ours, putting_by) == "same":
                return found
        raise AssertionError


def _open(below: Below, name: str) -> handles.DerivedFile:
    """Raises FileNotFoundError if it has gone, StorageError."""
    try:
        return below.opened(name)
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:  # a link, say, has taken the place of its directory
        raise FileNotFoundError(errno.ENOENT, error.strerror) from error
    except OSError as error:
        raise handles.storage_error(below.top / name, "read", error) from error


def _likeness(ours: Below, name: str, theirs: Below, their_name: str) -> Likeness:
    """What their file is to ours. Raises FileNotFoundError if theirs has gone, StorageError."""
    b = _open(theirs, their_name)
    try:
        a = ours.opened(name)
        more = b.size_bytes() - a.size_bytes()
    except OSError:  # a link, or no regular file
        return "different"
    pairs = zip(_all_of(a), _all_of(b), strict=False)
    if more < 0 or not all(y.startswith(x) for x, y in pairs):
        return "different"
    return "grown" if more else "same"


def _all_of(file: handles.DerivedFile) -> Iterator[bytes]:
    offset = 0
    try:
        while piece := file.read_at(offset, PIECE_BYTES):
            yield piece
            offset += len(piece)
    except OSError as error:
        raise handles.storage_error(file.path, "read", error) from error

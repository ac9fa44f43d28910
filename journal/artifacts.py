"""The artifacts of another copy of a job, brought here whole, and nothing lost for it."""

from __future__ import annotations

import errno
import itertools
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from journal import directories, files, handles
from journal.archive import ARTIFACTS_NAME, OTHER_HISTORY_NAME, PIECE_BYTES
from journal.compare import Relation
from journal.copies import Copy, holds
from journal.errors import StorageError
from journal.replay import Position
from journal.snapshot import artifacts_of

STAGING_NAME = ".pull"
_PUT_BY = re.compile(r"(.+)\.(?:before|other)-[0-9]+")
_MOST_NAME_BYTES = 235  # of what is put by; a number is still to be added


class Artifacts:
    """The artifacts of another copy, and what became of them here.

    They are staged first, while others may commit, and put in their places at once. A file that
    differs is never lost: if the other's commits win, so does its file, and ours is put by beside
    it as ``NAME.before-N``; in a merge the other's is put by as ``NAME.other-N``.
    """

    def __init__(self, ours: Copy, theirs: Copy) -> None:
        """Histories of other copies, which merges there have kept, come along with the artifacts.

        ``new`` are those that are new here, ``differing`` those that differ.

        ``put_by`` says under which name the one of two that isn't in its place is kept, and
        ``left_out`` what no pack can hold or has gone meanwhile. All of it by names in the job's
        directory.
        """
        self._copy = ours
        self._ours = ours.directory
        self._theirs = theirs.directory
        self._staging = ours.directory / STAGING_NAME
        self._staged: dict[str, Path] = {}
        self._missing: list[str] = []
        self._grown: set[str] = set()  # ours is the beginning of theirs
        self._directories: set[Path] = set()  # that may take what is pulled
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
            path = Path(error.filename or self._theirs)
            raise handles.storage_error(path, "read", error) from error
        return bool(self._missing)

    def _look(self) -> None:
        self._check_file_system()
        for name, packable in artifacts_of(self._theirs):
            ours, theirs = self._ours / name, self._theirs / name
            if not packable:
                self.left_out.append(name)
                continue
            self._check_place(ours)
            if not files.exists(ours):
                if not self._is_ours_put_by(name):
                    self._missing.append(name)
                continue
            try:
                likeness = _likeness(ours, theirs)
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
        for name in directories.names_in(self._theirs):
            found = OTHER_HISTORY_NAME.fullmatch(name)
            if found is None or files.exists(self._ours / name):
                continue
            if not holds(self._copy, Position(int(found[1]), int(found[2], 16))):
                missing.append(name)
        return missing

    def _is_ours_put_by(self, name: str) -> bool:
        """Whether the other copy put by with this name what is here under its own."""
        found = _PUT_BY.fullmatch(name)
        if found is None or not files.exists(self._ours / found[1]):
            return False
        try:
            return _likeness(self._ours / found[1], self._theirs / name) == "same"
        except FileNotFoundError:
            return False

    def _check_file_system(self) -> None:
        ours = self._ours / ARTIFACTS_NAME
        if ours.is_dir() and files.device_of(ours) != files.device_of(self._ours):
            reason = "it is on another file system than the job: move it there for the pull"
            raise StorageError(ours, "pull into", errno.EXDEV, reason)

    def _check_place(self, target: Path) -> None:
        if target.is_dir() and not target.is_symlink():
            raise _in_the_way(target, "it is a directory here and a file in the other copy")
        for parent in target.parents:
            if parent == self._ours or parent in self._directories:
                return
            if files.exists(parent) and not parent.is_dir():
                raise _in_the_way(parent, "it is a directory in the other copy, and none here")
            self._directories.add(parent)

    def stage(self, *, differing: bool) -> None:
        """Copy what is missing, or also what differs, to where it does no harm yet, synced."""
        for name in [*self._missing, *(self.differing if differing else ())]:
            path = self._staging / str(len(self._staged))
            try:
                source = _open(self._theirs / name)
            except FileNotFoundError:  # as a file that is written under another name does
                self.left_out.append(name)
                continue
            new = files.NewFile(path)
            for piece in _all_of(source):
                new.write(piece)
            new.sync()
            new.close()
            self._staged[name] = path
        self.differing = [name for name in self.differing if name not in self.left_out]

    def install(self, relation: Relation) -> None:
        """Put what was staged in its place, each whole; on the disk on return.

        ``relation`` of ours to theirs: "behind" takes theirs where they differ, "diverged" puts
        them by, else they only fill gaps.
        """
        places = {name: self._place(name, relation) for name in self._staged}
        make_way = [name for name, place in places.items() if place == name in self.put_by]
        for name in make_way:
            if not files.exists(self._ours / self.put_by[name]):
                files.give_name(self._ours / name, self._ours / self.put_by[name])
        # On the disk before theirs is: a power cut must not take one and leave the other.
        for directory in {(self._ours / name).parent for name in make_way}:
            directories.sync_directory(directory)
        changed = set()
        for name, place in places.items():
            if place is None:
                continue
            target = self._ours / place
            directories.make_directories(target.parent, self._ours)
            files.rename(self._staged[name], target)
            changed |= {parent for parent in target.parents if parent.is_relative_to(self._ours)}
        for directory in changed:
            directories.sync_directory(directory)

    def put_back(self) -> None:
        """Let ours stand where theirs took its place: their commits didn't come.

        As far as the system lets us; both are there under one name or another.
        """
        for name in self._staged:
            if name in self.put_by:
                with suppress(OSError):
                    files.rename(self._ours / self.put_by[name], self._ours / name)

    def _place(self, name: str, relation: Relation) -> str | None:
        """Under which name the other's file goes, if any does; what else that means is noted."""
        if not files.exists(self._ours / name):
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
        return None if files.exists(self._ours / place) else place

    def _free_name(self, name: str, word: str) -> str:
        """A name that neither copy has; or the one that the file has been put by as already."""
        directory, _, last = name.rpartition("/")
        last = last.encode()[:_MOST_NAME_BYTES].decode(errors="ignore")
        putting_by = self._staged[name] if word == "other" else self._ours / name
        for number in itertools.count(1):
            found = f"{directory}/{last}.{word}-{number}"
            ours, theirs = self._ours / found, self._theirs / found
            if not files.exists(ours):
                if not files.exists(theirs):
                    return found
            elif _likeness(ours, putting_by) == "same":
                return found
        raise AssertionError


def _in_the_way(path: Path, reason: str) -> StorageError:
    return StorageError(path, "pull into", errno.ENOTDIR, f"{reason}: move one of them away")


def _open(path: Path) -> handles.DerivedFile:
    """Raises FileNotFoundError, StorageError."""
    try:
        return handles.DerivedFile(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise handles.storage_error(path, "read", error) from error


def _likeness(ours: Path, theirs: Path) -> Literal["same", "grown", "different"]:
    """What their file is to ours. Raises FileNotFoundError if theirs has gone, StorageError."""
    b = _open(theirs)
    try:
        a = handles.DerivedFile(ours)
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
        file.size_bytes()  # a regular file
        while piece := file.read_at(offset, PIECE_BYTES):
            yield piece
            offset += len(piece)
    except OSError as error:
        raise handles.storage_error(file.path, "read", error) from error

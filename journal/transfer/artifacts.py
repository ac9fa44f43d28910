"""The artifacts of another copy of a job: staged, then installed, and no file of ours is lost."""

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
from journal.transfer.pack_contents import PIECE_BYTES, artifacts_of

_BACKUP_NAME = re.compile(r"(.+)\.(?:before|other)-[0-9]+")
_MAX_NAME_BYTES = 235  # of a backup, without its ending

Likeness = Literal["same", "grown", "different"]


class Artifacts:
    """The artifacts of another copy, and where they go here.

    They are staged first, while others may commit, and then renamed to their places. Of a file that
    differs both are kept. If the other copy's commits are appended, its file takes the place of
    ours, which is kept as ``NAME.before-N``. In a merge, ours stays and theirs is kept as
    ``NAME.other-N``.

    All names are relative to the job's directory. The histories of other copies that merges have
    kept there count as artifacts, too.

    - ``new``: names that are missing here.
    - ``differing``: names that are here with other contents.
    - ``left_out``: names that can't be packed, or were removed meanwhile.
    - ``backups``: for names in ``differing``, the name of the file that isn't in its place.
    """

    def __init__(self, ours: Copy, theirs: Copy) -> None:
        """Nothing is read yet."""
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
        self.backups: dict[str, str] = {}

    def look(self) -> bool:
        """Find out what is missing or differs; returns whether anything is missing.

        Raises StorageError, also if a name is a file in one copy and a directory in the other.
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
                if not self._is_backup_of_ours(name):
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
        """Kept histories that are neither here nor the beginning of our journal."""
        missing = []
        for name in directories.names_in(self._theirs.top):
            found = OTHER_HISTORY.fullmatch(name)
            if found is None or self._ours.exists(name):
                continue
            if not holds(self._copy, Position(int(found[1]), int(found[2], 16))):
                missing.append(name)
        return missing

    def _is_backup_of_ours(self, name: str) -> bool:
        """Whether this is the other copy's backup of a file that is here under its own name."""
        found = _BACKUP_NAME.fullmatch(name)
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
        """Copy what is missing, and if asked for what differs, to the staging directory; synced."""
        for name in [*self._missing, *(self.differing if differing else ())]:
            staged = f"{PULL_STAGING_NAME}/{len(self._staged)}"
            try:
                source = _open(self._theirs, name)
            except FileNotFoundError:  # renamed, say, when it was complete
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
        """Rename what was staged to its place; synced on return.

        ``relation`` is that of ours to theirs. Where files differ, theirs replaces ours if it is
        "behind", and becomes a backup if it is "diverged". Else only missing files are installed.
        """
        places = {name: self._place(name, relation) for name in self._staged}
        make_way = [name for name, place in places.items() if place == name in self.backups]
        for name in make_way:
            if not self._ours.exists(self.backups[name]):
                self._ours.give_name(name, self.backups[name])
        # Synced before theirs is renamed: a power cut must not lose ours.
        self._ours.sync_directories({name.rpartition("/")[0] for name in make_way})
        changed: set[str] = set()
        for name, place in places.items():
            if place is not None:
                self._ours.rename(self._staged[name], place)
                changed |= set(parents_of(place))
        self._ours.sync_directories(changed)

    def put_back(self) -> None:
        """Put ours back where theirs took its place, because their commits weren't appended.

        Errors are ignored: both files are there under one name or another.
        """
        for name in self._staged:
            if name in self.backups:
                with suppress(OSError):
                    self._ours.take_name_back(name, self.backups[name])

    def _place(self, name: str, relation: Relation) -> str | None:
        """The name under which the other copy's file is installed, None if it isn't; notes why."""
        if not self._ours.exists(name):
            self.new.append(name)
            return name
        if relation == "behind":
            if name in self._grown:
                self.differing.remove(name)
            else:
                self.backups[name] = self._free_name(name, "before")
            return name
        if relation != "diverged":
            return None
        place = self._free_name(name, "other")
        self.backups[name] = place
        return None if self._ours.exists(place) else place

    def _free_name(self, name: str, word: str) -> str:
        """A name for a backup that neither copy has, or that of an equal backup that is here."""
        directory, _, last = name.rpartition("/")
        last = last.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
        backed_up = self._staged[name] if word == "other" else name
        for number in itertools.count(1):
            found = f"{directory}/{last}.{word}-{number}"
            if not self._ours.exists(found):
                if not self._theirs.exists(found):
                    return found
            elif _likeness(self._ours, found, self._ours, backed_up) == "same":
                return found
        raise AssertionError


def _open(below: Below, name: str) -> handles.DerivedFile:
    """Raises FileNotFoundError if it was removed, StorageError."""
    try:
        return below.opened(name)
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:  # its directory was replaced by a link, say
        raise FileNotFoundError(errno.ENOENT, error.strerror) from error
    except OSError as error:
        raise handles.storage_error(below.top / name, "read", error) from error


def _likeness(ours: Below, name: str, theirs: Below, their_name: str) -> Likeness:
    """How their file compares to ours. Raises FileNotFoundError if theirs is gone, StorageError."""
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
    with handles.refusals_of(file.path, "read"):
        while piece := file.read_at(offset, PIECE_BYTES):
            yield piece
            offset += len(piece)

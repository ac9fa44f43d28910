"""Copies the artifacts of another copy of a job into this copy. Artifacts are the user's files.

No file of this copy is lost. A merge also stores the other copy's journal in this copy's directory.
Such a journal is a **kept history**, and counts as an artifact.
"""

from __future__ import annotations

import errno
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NoReturn

from journal.errors import StorageError
from journal.format.commits import Position
from journal.fs import directories, files, handles
from journal.fs.beneath import Below, parents_of
from journal.fs.names import ARTIFACTS_NAME, OTHER_HISTORY, PULL_STAGING_NAME
from journal.transfer.copies import Copy, Relation, holds
from journal.transfer.pack_contents import PIECE_BYTES, artifacts_of, write_new

_BACKUP_NAME = re.compile(r"(.+)\.(?:before|other)-[0-9]+")
_MAX_NAME_BYTES = 235  # the maximum for the name of a backup, without its ending

Likeness = Literal["same", "grown", "different"]


class Artifacts:
    """The artifacts of another copy, and their places in this copy.

    Artifacts are first copied to a staging directory, while other processes may commit. Then the
    artifacts are renamed to their places. If a file differs between the copies:

    - If the pull appends the other copy's commits to our journal, the other copy's file replaces
      ours. Our file is kept as ``NAME.before-N``, unless the other copy's file begins with the
      content of our file.
    - In a merge, our file stays. The other copy's file is kept as ``NAME.other-N``.
    - If the other copy has no new commits, our file stays. The other copy's file isn't copied.

    All names are relative to the job's directory:

    - ``new``: the names of files that were missing here.
    - ``differing``: the names of files that differ between the copies.
    - ``left_out``: the names of files that can't be packed, or were removed during the pull.
    - ``backups``: a dict from a name in ``differing`` to the name of the backup, as described
      above.
    """

    def __init__(self, ours: Copy, theirs: Copy) -> None:
        """Nothing is read here; call :meth:`look`."""
        self._copy = ours
        self._ours = Below(ours.directory)
        self._theirs = Below(theirs.directory, is_to_copy=True)
        self._staged: list[str] = []
        self._missing: list[str] = []
        self._grown: set[str] = set()  # names for which the other copy's file begins with our file
        self._directories: set[str] = set()  # directories that were checked, and can take files
        self.new: list[str] = []
        self.differing: list[str] = []
        self.left_out: list[str] = []
        self.backups: dict[str, str] = {}

    def look(self) -> bool:
        """Find the files that are missing or differ; return whether any file is missing.

        Raises StorageError, also if a name is a file in one copy and a directory in the other copy.
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
        """Return the names of the other copy's kept histories that are missing here.

        A kept history is a journal that a merge kept. A history isn't returned if our journal
        begins with all commits of that history.
        """
        missing = []
        for name in directories.names_in(self._theirs.top):
            found = re.fullmatch(OTHER_HISTORY, name)
            if found is None or self._ours.exists(name):
                continue
            if not holds(self._copy, Position(int(found[1]), int(found[2], 16))):
                missing.append(name)
        return missing

    def _is_backup_of_ours(self, name: str) -> bool:
        """Return whether the other copy's file ``name`` is a backup with our file's content.

        The name of our file is ``name`` without the ending of a backup.
        """
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
            reason = "it is on another file system than the job: move it to that one for the pull"
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
        """Copy the missing files to the staging directory. With ``differing``, also copy the files
        that differ.

        On return, the copies are synced. Raises StorageError, and FileExistsError if our file
        system treats two of the names as the same name.
        """
        for name in [*self._missing, *(self.differing if differing else ())]:
            try:
                source = _open(self._theirs, name)
            except FileNotFoundError:  # the file was removed, or renamed because it was complete
                self.left_out.append(name)
                continue
            write_new(self._ours, name, _all_of(source), below=f"{PULL_STAGING_NAME}/")
            self._staged.append(name)
        self.differing = [name for name in self.differing if name not in self.left_out]

    def install(self, relation: Relation) -> None:
        """Rename the staged files to their places. On return, the names are synced.

        ``relation`` says how our copy relates to the other copy. If it is "behind", the other
        copy's files replace our files that differ. If it is "diverged", the other copy's files
        become backups. Otherwise only missing files are installed.
        """
        places = {name: self._place(name, relation) for name in self._staged}
        make_way = [name for name, place in places.items() if place == name in self.backups]
        changed: set[str] = set()
        try:
            for name in make_way:
                if not self._ours.exists(self.backups[name]):
                    self._ours.rename(name, self.backups[name])
            # Between the two renames, a name is missing. If the process dies there, the next pull
            # copies the other copy's file.
            for name, place in places.items():
                if place is not None:
                    self._ours.rename(f"{PULL_STAGING_NAME}/{name}", place)
                    changed |= set(parents_of(place))
        except OSError:
            for name in make_way:
                if not self._ours.exists(name):
                    self._ours.rename(self.backups[name], name)
            raise
        self._ours.sync_directories(changed)

    def _place(self, name: str, relation: Relation) -> str | None:
        """Return the name under which the other copy's file is installed.

        Returns None if the file isn't installed. Also updates ``new``, ``differing`` and
        ``backups``.
        """
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
        """Return a name for a backup.

        This is a name that neither copy has, or the name of a backup here that already has the
        same content as the file to back up.
        """
        directory, _, last = name.rpartition("/")
        last = last.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
        backed_up = f"{PULL_STAGING_NAME}/{name}" if word == "other" else name
        for number in itertools.count(1):
            found = f"{directory}/{last}.{word}-{number}"
            if not self._ours.exists(found):
                if not self._theirs.exists(found):
                    return found
            elif _likeness(self._ours, found, self._ours, backed_up) == "same":
                return found
        raise AssertionError


def _open(below: Below, name: str) -> handles.DerivedFile:
    """Open a file. Raises StorageError, or FileNotFoundError if the file was removed."""
    try:
        return below.opened(name)
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:  # for example, a link has replaced the file's directory
        raise FileNotFoundError(errno.ENOENT, error.strerror) from error
    except OSError as error:
        raise handles.storage_error(below.top / name, "read", error) from error


def _likeness(ours: Below, name: str, theirs: Below, their_name: str) -> Likeness:
    """Compare the other copy's file with ours. Returns "same", "different", or "grown".

    "grown" means that their file is longer, and begins with the content of our file. Raises
    StorageError, or FileNotFoundError if their file is gone.
    """
    b = _open(theirs, their_name)
    try:
        a = ours.opened(name)
        more = b.size_bytes() - a.size_bytes()
    except OSError:  # a link, a pipe or the like
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

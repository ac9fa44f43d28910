"""Copies the artifacts of another copy of a job into this copy. Artifacts are the user's files.

No file of this copy is lost.
"""

from __future__ import annotations

import errno
import itertools
import re
from pathlib import Path
from typing import Literal

from journal.fs.file_names import PULL_STAGING_NAME
from journal.fs.safe_paths import Below, parents_of
from journal.transfer.copies import Relation
from journal.transfer.pack import artifacts_of, pieces_of, write_new

_BACKUP_NAME = re.compile(r"(.+)\.(?:before|other)-[0-9]+")
_MAX_NAME_BYTES = 235  # the maximum for the name of a backup, without its ending

# The file was removed, or another file has replaced one of its directories.
_GONE = (FileNotFoundError, NotADirectoryError)

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

    def __init__(self, ours: Path, theirs: Path) -> None:
        """``ours`` and ``theirs``: the directories of the copies.

        Call :meth:`look` to read the files.
        """
        self._ours = Below(ours)
        self._theirs = Below(theirs, is_to_copy=True)
        self._staged: list[str] = []
        self._missing: list[str] = []
        self.new: list[str] = []
        self.differing: list[str] = []
        self.left_out: list[str] = []
        self.backups: dict[str, str] = {}

    def look(self) -> bool:
        """Find the files that are missing or differ. Returns whether a file is missing.

        Raises StorageError, and ``OSError`` with the path in ``filename``.
        """
        self._missing, self.differing, self.left_out = [], [], []
        for name, packable in artifacts_of(self._theirs.top):
            if not packable:
                self.left_out.append(name)
                continue
            if not self._ours.exists(name):
                if not self._is_backup_of_ours(name):
                    self._check_place(name)
                    self._missing.append(name)
                continue
            try:
                likeness = _likeness(self._ours, name, self._theirs, name)
            except _GONE:
                self.left_out.append(name)
                continue
            if likeness != "same":
                self.differing.append(name)
        return bool(self._missing)

    def _check_place(self, name: str) -> None:
        """Raise NotADirectoryError if a file or link here has the name of a directory there."""
        for parent in parents_of(name):
            if self._ours.exists(parent) and not self._ours.is_directory(parent):
                reason = "it is a directory in the other copy: rename it here, then pull again"
                raise NotADirectoryError(errno.ENOTDIR, reason, self._ours.top / parent)

    def _is_backup_of_ours(self, name: str) -> bool:
        """Return whether the other copy's file ``name`` is a backup with our file's content.

        The name of our file is ``name`` without the ending of a backup.
        """
        found = _BACKUP_NAME.fullmatch(name)
        if found is None or not self._ours.exists(found[1]):
            return False
        try:
            return _likeness(self._ours, found[1], self._theirs, name) == "same"
        except _GONE:
            return False

    def stage(self, *, differing: bool) -> None:
        """Copy the missing files to the staging directory.

        With ``differing``, also copy the files that differ.

        On return, the copies are synced. Raises the errors of :meth:`look`, and FileExistsError if
        our file system treats two of the names as the same name.
        """
        for name in [*self._missing, *(self.differing if differing else ())]:
            try:
                source = self._theirs.opened(name)
            except _GONE:  # the file was removed, or renamed because it was complete
                self.left_out.append(name)
                continue
            pieces = pieces_of(source, source.size_bytes())
            write_new(self._ours, name, pieces, below=f"{PULL_STAGING_NAME}/")
            self._staged.append(name)
        self.differing = [name for name in self.differing if name not in self.left_out]

    def install(self, relation: Relation) -> None:
        """Rename the staged files to their places. On return, the names are synced.

        ``relation`` says how our copy relates to the other copy. If our copy is "behind", the other
        copy's files replace our files that differ. If the copies have "diverged", the other copy's
        files become backups. Otherwise only missing files are installed.
        """
        places = {name: self._place(name, relation) for name in self._staged}
        make_way = [name for name, place in places.items() if place == name in self.backups]
        changed: set[str] = set()
        try:
            for name in make_way:
                if not self._ours.exists(self.backups[name]):
                    self._ours.rename(name, self.backups[name])
            # Between the two renames, a name is missing. If the process dies then, the next pull
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
            # Compare again, since another program may have written to our file after :meth:`look`.
            staged = f"{PULL_STAGING_NAME}/{name}"
            if _likeness(self._ours, name, self._ours, staged) == "different":
                self.backups[name] = self._free_name(name, "before")
            else:
                self.differing = [each for each in self.differing if each != name]
            return name
        if relation != "diverged":
            return None
        place = self._free_name(name, "other")
        self.backups[name] = place
        return None if self._ours.exists(place) else place

    def _free_name(self, name: str, word: str) -> str:
        """Return a name for a backup.

        The name is unused in both copies, or belongs to a backup here that has the same content as
        the file.
        """
        directory, _, last = name.rpartition("/")
        last = last.encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
        backed_up = f"{PULL_STAGING_NAME}/{name}" if word == "other" else name
        given = set(self.backups.values())  # long names that begin alike are cut to one name
        for number in itertools.count(1):
            found = f"{directory}/{last}.{word}-{number}"
            if found in given:
                continue
            if not self._ours.exists(found):
                if not self._theirs.exists(found):
                    return found
            elif self._are_same(found, backed_up):
                return found
        raise AssertionError

    def _are_same(self, name: str, other: str) -> bool:
        try:
            return _likeness(self._ours, name, self._ours, other) == "same"
        except OSError:  # our file may be a directory or a link
            return False


def _likeness(ours: Below, name: str, theirs: Below, their_name: str) -> Likeness:
    """Compare the other copy's file with ours. Returns "same", "different", or "grown".

    "grown" means that their file is longer, and begins with the content of our file. Raises
    ``OSError`` if their file can't be opened, and StorageError.
    """
    b = theirs.opened(their_name)
    try:
        a = ours.opened(name)
    except OSError:  # a directory, a link, a pipe or the like
        return "different"
    size, their_size = a.size_bytes(), b.size_bytes()
    pairs = zip(pieces_of(a, size), pieces_of(b, size), strict=True)
    if their_size < size or not all(x == y for x, y in pairs):
        return "different"
    return "grown" if their_size > size else "same"

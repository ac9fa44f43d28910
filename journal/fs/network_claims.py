"""Claims of jobs on network file systems.

There, locks aren't enough. A server forgets the locks of a node that it can't reach, and some file
systems have locks that other nodes don't see. So each run **claims** the job: it creates the file
``claims/NNNNNN`` in the job's directory, exclusively, with the next number. The run with the highest
number has the job. As long as a run works, it has its claim locked, so that no other run starts if
the lock reaches the other node.

After each commit that it has synced, a run lists the claims (see :meth:`Claim.why_lost`). If there
is a later one, or its own is missing, another run has the job. Then the commit may be missing in the
journal that the other run continues. So it counts as in doubt, and nothing that it has started
begins.

A run that claims the job while an earlier one may still work replaces the journal with a copy
(``Log.take_over``). What the earlier run still appends lands in a file that nobody reads. The
earlier run may itself be about to replace the journal. So each run writes its copy under a name of
its own, ``claims/NNNNNN.new``. It lists the claims before it renames the copy, and the next run
removes all other copies before it opens the journal. So the rename precedes this, or fails.

A claim holds the name of its run. When the run has ended, and all that it has written is on the
server, the claim is empty.
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterable
from contextlib import closing, suppress
from os import environ
from pathlib import Path

from journal.fs import files, locks, system
from journal.fs.file_names import CLAIMS_NAME, NEW_JOURNAL_NAME, REPAIR_STAGING_NAME
from journal.fs.files import DIRECTORY_MODE
from journal.fs.handles import Descriptor, Guard, close_fd, open_regular, write_all
from journal.fs.locks import wait_for_lock

# This environment variable makes each file system count as one of a network, unless it is 0.
_FORCED = "JOURNAL_NETWORK"
# Types in /proc/self/mountinfo. All of FUSE but overlays count, since nobody can know all that are
# over a network. A local one costs its runs a few system calls.
_OF_NETWORKS = (
    r"nfs4?|cifs|smb3|smbfs|lustre|gpfs|beegfs|9p|virtiofs|ceph|afs|orangefs|pvfs2|ocfs2|gfs2|"
    r"wekafs|panfs|vboxsf|fuse(?!\.fuse-overlayfs)(\..*)?"
)
_NEW, _LATE = ".new", ".late"  # beside a claim
_known: dict[int, str] = {}  # see `network_of`


def network_of(device: int, *, anew: bool = False) -> str:
    """Return the type of the network file system with this ``st_dev``, such as "nfs4".

    Each run looks ``anew``. Who only opens a journal or makes a job uses what was found last, since
    to look takes half as long as to open a journal.

    Returns "" if it is a local file system, or if the system doesn't say. Raises ``OSError``.
    """
    forced = environ.get(_FORCED, "0")
    if forced not in ("", "0"):
        return f"{_FORCED}={forced}"
    if sys.platform == "win32":
        return ""
    network = _known.get(device)
    # A number without a block device (major 0) may be that of another file system after a mount.
    if network is None or (anew and not system.os.major(device)):
        network = _network_of(f"{system.os.major(device)}:{system.os.minor(device)}")
        _known[device] = network
    return network


def _network_of(number: str) -> str:
    for line in system.mounts():
        mount, _, kind = line.partition(" - ")
        if number in mount and mount.split()[2:3] == [number]:
            kind = kind.partition(" ")[0]
            return kind if re.fullmatch(_OF_NETWORKS, kind) else ""
    return ""


class Claim(Guard):
    """The claim of one run. The methods raise ``OSError``.

    - ``number``: later claims have higher numbers.
    - ``network``: the type of the file system.
    - ``lost``: why the run has lost the job, or "".
    - ``is_over``: whether the run has ended.
    - ``is_writing``: whether a commit hasn't ended, or has failed, or a call of a worker was given
      up: something may reach the server later.
    """

    def __init__(self, directory: Path, number: int, network: str = "") -> None:
        """Use a claim of a process that this one works for, and that has the claim's lock."""
        self.network = network
        self.directory = directory / CLAIMS_NAME
        self.number = number
        self.path = self.directory / f"{number:06}"
        self.lost = ""
        self.is_over = self.is_writing = False
        self.file: Descriptor  # of the run's own process

    @property
    def new_journal(self) -> Path:
        """The path of a journal that is to replace the present one."""
        return self.path.with_suffix(_NEW)

    @classmethod
    def take(cls, directory: Path, holder: bytes, network: str) -> tuple[Claim, bool] | None:
        """Claim a job for the run that ``holder`` names.

        Returns the claim, and whether an earlier run may still work: the caller must then replace
        the journal. Returns None if an earlier run is known to work.
        """
        claims = directory / CLAIMS_NAME
        with suppress(FileExistsError):
            files.make_directory(claims)
            files.sync_directory(directory)
        try:
            close_fd(files.open_directory(claims))
        except NotADirectoryError as error:
            raise OSError(error.errno, "it is a file or a link: move it away", claims) from error
        claim = None
        while claim is None:
            earlier = sorted(_numbers(look(claims)))
            # If one is gone, or there is one more, another run was faster: look again.
            with suppress(FileNotFoundError, FileExistsError):
                for number in earlier:
                    with closing(_open(claims / f"{number:06}")) as file:
                        if not wait_for_lock(file, locks.PATIENCE_S):
                            return None
                claim = cls._make(directory, max(earlier, default=0) + 1, network)
        try:
            if claim.sign(holder):
                # Only now, since a run whose claim was still empty may have signed it meanwhile. If
                # it does so later, it finds this claim.
                return claim, any(claim.is_signed(number) for number in earlier)
        except BaseException:
            claim.abandon()
            raise
        claim.abandon()
        return None

    @classmethod
    def _make(cls, directory: Path, number: int, network: str) -> Claim:
        claim = cls(directory, number, network)
        claim.file = _open(claim.path, system.os.O_CREAT | system.os.O_EXCL)
        wait_for_lock(claim.file, locks.PATIENCE_S)  # without it, the claim still counts
        return claim

    def sign(self, holder: bytes) -> bool:
        """Write the run's name. Returns False if a run with a later claim doesn't know of it."""
        write_all(self.file.fd, holder)
        system.os.fsync(self.file.fd)
        files.sync_directory(self.directory)
        names = look(self.directory)
        if max(_numbers(names), default=0) != self.number:
            return False
        # Earlier runs that were about to replace the journal now can't.
        for name in names:
            if name.endswith(_NEW):
                files.remove_tree(self.directory / name)
        for name in (NEW_JOURNAL_NAME, REPAIR_STAGING_NAME):
            files.remove_tree(self.directory.parent / name)
        # This node may still know the journal by its name that an earlier run has replaced.
        _change_directory_of(self.directory.parent / REPAIR_STAGING_NAME)
        return True

    def is_signed(self, number: int) -> bool:
        """Return whether an earlier claim names a run that may still work."""
        with suppress(FileNotFoundError), closing(_open(self.directory / f"{number:06}")) as file:
            return system.os.fstat(file.fd).st_size > 0
        return False

    def forget_earlier(self) -> None:
        """Remove earlier claims, whose runs have ended, or write to a file that was replaced."""
        for number in _numbers(files.names_in(self.directory)):
            if number < self.number:
                with suppress(OSError):
                    system.os.unlink(self.directory / f"{number:06}")

    def why_lost(self) -> str:
        """List the claims. Returns why the run has lost the job, or ""."""
        if not (self.lost or self.is_over):
            try:
                numbers = _numbers(look(self.directory))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
                    raise
                numbers = []
            last = max(numbers, default=0)
            if last > self.number:
                self.lost = f"another run has claimed the job (claims/{last:06})"
            elif self.number not in numbers:
                self.lost = f"its claim is gone (claims/{self.path.name})"
        return self.lost

    def leave_late(self, line: bytes) -> None:
        """Append a line to the file ``claims/NNNNNN.late``, for people."""
        flags = system.os.O_APPEND | system.os.O_CREAT
        with closing(_open(self.path.with_suffix(_LATE), flags)) as file:
            write_all(file.fd, line + b"\n")
            system.os.fsync(file.fd)

    def release(self) -> None:
        """End the claim. Errors are ignored: the next run then replaces the journal in vain."""
        self.is_over = True
        if self.file.fd >= 0:
            if not (self.lost or self.is_writing):
                with suppress(OSError):
                    system.os.ftruncate(self.file.fd, 0)
            self.file.close()

    def abandon(self) -> None:
        """Remove a claim under which nothing was written."""
        with suppress(OSError):
            system.os.unlink(self.path)
        self.release()


def look(directory: Path) -> list[str]:
    """Return the names in a directory of claims, or of shards, as they are on the server.

    A cached list may lack what another node has made. Raises ``OSError``.
    """
    _change_directory_of(directory / "look")
    return list(files.names_in(directory))


def _change_directory_of(path: Path) -> None:
    """Make and remove the directory ``path``.

    This changes the directory that it is in, so a network file system no longer uses what this node
    knows of the names there.
    """
    while True:
        is_made = True
        try:
            system.os.mkdir(path, DIRECTORY_MODE)
        except FileExistsError:  # another process does the same, or has died meanwhile
            is_made = False
        try:
            system.os.rmdir(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            why = f"{path.parent.name}/{path.name} is no empty directory: move it away"
            raise OSError(errno.EEXIST, why, path) from error
        if is_made:
            return


def is_claimed(directory: Path) -> bool:
    """Return whether a run on any node is known to work on the job. Raises ``OSError``."""
    claims = directory / CLAIMS_NAME
    last = max(_numbers(files.names_in(claims)), default=0)
    if not last:
        return False
    try:
        with closing(_open(claims / f"{last:06}", access=system.os.O_RDONLY)) as file:
            return file.is_held()
    except FileNotFoundError:
        return False


def late_files(directory: Path) -> list[Path]:
    """Return the files with what rows have returned to runs that had lost the job.

    Raises ``OSError``.
    """
    claims = directory / CLAIMS_NAME
    with suppress(FileNotFoundError, NotADirectoryError):
        return [claims / name for name in sorted(files.names_in(claims)) if name.endswith(_LATE)]
    return []


def _open(path: Path, more: int = 0, access: int = system.os.O_RDWR) -> Descriptor:
    try:
        fd, _ = open_regular(path, access | more)
    except OSError as error:
        error.filename = path
        raise
    return Descriptor(path, fd)


def _numbers(names: Iterable[str]) -> list[int]:
    return [int(name) for name in names if re.fullmatch("[0-9]{6}|[1-9][0-9]{6,}", name)]

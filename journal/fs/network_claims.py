"""Claims of jobs on network file systems.

On a network file system, locks aren't enough. A server may forget the locks of a node that has lost
its connection. On some file systems, the locks of a node are invisible to the other nodes. So each
run **claims** the job: the run creates the file ``claims/NNNNNN`` in the job's directory,
exclusively, with the next number. The run with the highest number has the job. A run keeps its
claim locked until the run ends. Nodes that see this lock start no run.

After each synced commit, a run lists the claims (see :meth:`Claim.why_lost`). If there is a later
claim, or the run's own claim is missing, another run has the job. In this case, the other run may
continue a journal without the commit. So the commit counts as in doubt. If the commit has started
rows or steps, these rows and steps don't begin.

If an earlier run may still work, the run that claims the job replaces the journal with a copy
(``Log.take_over``). Nobody reads the records that the earlier run then appends to the old file.

The earlier run may itself be about to replace the journal. So each run writes its copy to
``claims/NNNNNN.new``, with the number of its claim, and lists the claims before it renames the
copy. The next run removes the copies of all other runs before it opens the journal. After this
removal, the rename of an earlier run fails.

A claim holds the name of its run. The claim becomes empty when the run has ended and everything
that the run has written is on the server.
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

# With a value other than 0, this environment variable makes each file system a network file system.
_FORCED = "JOURNAL_NETWORK"
# Types in /proc/self/mountinfo. All FUSE file systems count, except overlays: no list of the FUSE
# file systems on a network would be complete. On a local FUSE file system, claims cost a run a few
# system calls.
_OF_NETWORKS = (
    r"nfs4?|cifs|smb3|smbfs|lustre|gpfs|beegfs|9p|virtiofs|ceph|afs|orangefs|pvfs2|ocfs2|gfs2|"
    r"wekafs|panfs|vboxsf|fuse(?!\.fuse-overlayfs)(\..*)?"
)
_NEW, _LATE = ".new", ".late"  # endings of files beside a claim
_known: dict[int, str] = {}  # see `network_of`


def network_of(device: int, *, anew: bool = False) -> str:
    """Return the type of the network file system with this ``st_dev``, such as "nfs4".

    Each run passes ``anew`` to look the type up again. Callers that only open a journal or make a
    job use the last answer, since a look-up takes half as long as opening a journal.

    Returns "" for a local file system, or if the system doesn't report the type. Raises
    ``OSError``.
    """
    forced = environ.get(_FORCED, "0")
    if forced not in ("", "0"):
        return f"{_FORCED}={forced}"
    if sys.platform == "win32":
        return ""
    network = _known.get(device)
    # After a mount, a number without a block device (major 0) may belong to another file system.
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
    - ``is_writing``: whether data may still reach the server later, because a commit is in progress
      or has failed, or because a call of a worker was given up.
    """

    def __init__(self, directory: Path, number: int, network: str = "") -> None:
        """Use the claim of the process that this process works for.

        That process has the claim's lock.
        """
        self.network = network
        self.directory = directory / CLAIMS_NAME
        self.number = number
        self.path = self.directory / f"{number:06}"
        self.lost = ""
        self.is_over = self.is_writing = False
        self.file: Descriptor  # opened by the run's own process

    @property
    def new_journal(self) -> Path:
        """The path of the copy that will replace the journal."""
        return self.path.with_suffix(_NEW)

    @classmethod
    def take(cls, directory: Path, holder: bytes, network: str) -> tuple[Claim, bool] | None:
        """Claim a job for the run that ``holder`` names.

        Returns the claim, and whether an earlier run may still work. If so, the caller must replace
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
            # If a claim is gone, or there is a new claim, another run was faster. In this case,
            # look again.
            with suppress(FileNotFoundError, FileExistsError):
                for number in earlier:
                    with closing(_open(claims / f"{number:06}")) as file:
                        if not wait_for_lock(file, locks.PATIENCE_S):
                            return None
                claim = cls._make(directory, max(earlier, default=0) + 1, network)
        try:
            if claim.sign(holder):
                # Check the earlier claims only now, since their runs may have signed them
                # meanwhile. A run that signs later finds this claim.
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
        wait_for_lock(claim.file, locks.PATIENCE_S)  # without the lock, the claim still counts
        return claim

    def sign(self, holder: bytes) -> bool:
        """Write the run's name.

        Returns False if a later claim exists, whose run may not have seen the name.
        """
        write_all(self.file.fd, holder)
        system.os.fsync(self.file.fd)
        files.sync_directory(self.directory)
        names = look(self.directory)
        if max(_numbers(names), default=0) != self.number:
            return False
        # From now on, earlier runs that were about to replace the journal can't replace it.
        for name in names:
            if name.endswith(_NEW):
                files.remove_tree(self.directory / name)
        for name in (NEW_JOURNAL_NAME, REPAIR_STAGING_NAME):
            files.remove_tree(self.directory.parent / name)
        # An earlier run may have replaced the journal, while this node still has the old file under
        # the journal's name.
        _change_directory_of(self.directory.parent / REPAIR_STAGING_NAME)
        return True

    def is_signed(self, number: int) -> bool:
        """Return whether an earlier claim names a run that may still work."""
        with suppress(FileNotFoundError), closing(_open(self.directory / f"{number:06}")) as file:
            return system.os.fstat(file.fd).st_size > 0
        return False

    def forget_earlier(self) -> None:
        """Remove earlier claims. Their runs have ended, or write to a file that was replaced."""
        for number in _numbers(files.names_in(self.directory)):
            if number < self.number:
                with suppress(OSError):
                    system.os.unlink(self.directory / f"{number:06}")

    def why_lost(self) -> str:
        """List the claims. Return the reason why the run has lost the job, or ""."""
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
        """End the claim.

        Errors are ignored: after an error, the next run replaces the journal needlessly.
        """
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

    A cached list may lack names that another node has made. Raises ``OSError``.
    """
    _change_directory_of(directory / "look")
    return list(files.names_in(directory))


def _change_directory_of(path: Path) -> None:
    """Make and remove the directory ``path``.

    Each call changes the parent directory. So a network file system discards this node's cached
    names of the parent directory.
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
    """Return the files with outcomes of rows whose run had already lost the job.

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

"""A real NFS, with a server and two clients, in one process of User Mode Linux.

    with Nfs() as nfs:
        nfs.run("touch /mnt/nodeA/x; ls /mnt/nodeB")

``python tests/clusters/nfs.py COMMAND…`` runs one command there. See README.md.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from support.platforms import IS_ROOT, NO_CLUSTER

PROGRAMS = ("linux.uml", "rpc.nfsd", "rpcbind", "modprobe", "ip", "mkfs.ext4", "setpriv")
_MODULES = Path("/usr/lib/uml/modules")
_START_S, _END_S = 60.0, 20.0
# The machine's own programs, in the order of its PATH, and those that only root has on the PATH.
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

# The first process of the machine. / is this machine's, read only; $D is the one directory that is
# shared and writable. Commands come as files q/N.cmd; their output and exit status go to q/N.out
# and q/N.rc.
_INIT = """\
#!/bin/bash
[ $$ = 1 ] || exit 1
. "${0%/*}/settings"
export PATH
mount -t proc proc /proc
mount -t tmpfs mnt /mnt
mkdir -p /mnt/srv /mnt/nodeA /mnt/nodeB
mount -t hostfs -o rw,hostfs="$D" none "$D"
exec >"$D/boot.log" 2>&1
set -x
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
ln -sfn /proc/self/fd /dev/fd
mount -t tmpfs run /run
mount -t tmpfs lib /var/lib/nfs
mkdir -p /run/netns /run/rpcbind /run/lock /run/tmp
mkdir -p /var/lib/nfs/sm /var/lib/nfs/sm.bak /var/lib/nfs/v4recovery /var/lib/nfs/rpc_pipefs /var/lib/nfs/nfsdcld
touch /var/lib/nfs/etab /var/lib/nfs/rmtab /var/lib/nfs/xtab /var/lib/nfs/state
chmod 1777 /run/tmp
export TMPDIR=/run/tmp
for module in nfsd nfs nfsv4 veth; do modprobe -d "$D/modules" $module; done
mount -t nfsd nfsd /proc/fs/nfsd
mount -t rpc_pipefs rpc /var/lib/nfs/rpc_pipefs
mount -t ext4 /dev/ubda /mnt/srv && chmod 1777 /mnt/srv
hostname server
ip link set lo up
rpcbind -w
# It tells the server that no client of an earlier boot has to be waited for.
nfsdcld -p /var/lib/nfs/rpc_pipefs
exportfs -o rw,sync,no_root_squash,no_subtree_check,fsid=0,insecure '*:/mnt/srv'
rpc.mountd
rpc.nfsd --grace-time 10 8  # until then, a lock waits; the default is 90 s
# A network and a host name of its own make each mount an NFS client of its own, with its own caches.
client() {
    ip netns add node$1
    ip link add srv$1 type veth peer name eth0 netns node$1
    ip addr add 10.9.$2.1/24 dev srv$1
    ip link set srv$1 up
    ip -n node$1 addr add 10.9.$2.2/24 dev eth0
    ip -n node$1 link set eth0 up
    unshare -u bash -c "hostname node$1
        nsenter --net=/run/netns/node$1 mount -t nfs -o $OPTIONS 10.9.$2.1:/ /mnt/node$1"
}
client A 1
client B 2
timeout 30 touch /mnt/nodeA/.first /mnt/nodeB/.first
rm -f /mnt/srv/.first
mountpoint -q /mnt/nodeA && mountpoint -q /mnt/nodeB && echo ok >"$D/ready" || echo no >"$D/ready"
set +x
one() {
    (
        cd "$W" || exit 1
        bash "$1.now" >"$1.out" 2>&1 </dev/null
        echo $? >"$1.new"
        mv "$1.new" "$1.rc"
    ) &
}
while [ ! -e "$D/halt" ]; do
    for file in "$D"/q/*.cmd; do
        [ -e "$file" ] || continue
        mv "$file" "${file%.cmd}.now"
        one "${file%.cmd}"
    done
    sleep 0.1
done
umount -f -l /mnt/nodeA /mnt/nodeB
rpc.nfsd 0
umount -l /mnt/srv
sync
echo o >/proc/sysrq-trigger
sleep 5
"""


class Done(NamedTuple):
    status: int
    output: str  # with what went to standard error


def why_no_nfs() -> str | None:
    """Return why the machine can't be started here, or None."""
    if not IS_ROOT:
        return f"{NO_CLUSTER}NFS needs Linux and root"
    missing = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    if not missing and not _MODULES.is_dir():
        missing = [str(_MODULES)]
    return f"{NO_CLUSTER}there is no {', '.join(missing)}" if missing else None


class Nfs:
    """Starts the machine on entering, in about 5 s, and ends it on leaving.

    /mnt/nodeA and /mnt/nodeB are one directory of the server, as its two clients see it; /mnt/srv
    is that directory on the server's own disk. ``shared`` is a directory of this machine that the
    other one sees at the same path and may write. Everything else of this machine is read only
    there. ``options`` are those of the mounts. The machine ends with this process, too.
    """

    def __init__(self, options: str = "vers=4.2", memory: str = "1G") -> None:
        # Not below /dev or /run, which are the machine's own there.
        self.shared = Path(tempfile.mkdtemp(prefix="nfs-", dir="/var/tmp"))
        self._options = options
        self._memory = memory
        self._machine: subprocess.Popen[bytes] | None = None
        self._commands = 0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def start(self, command: str) -> Path:
        """Start a command of bash there. Return what :meth:`result` takes."""
        self._commands += 1
        file = self.shared / "q" / str(self._commands)
        file.with_suffix(".tmp").write_text(f"{command}\n")
        file.with_suffix(".tmp").rename(file.with_suffix(".cmd"))
        return file

    def result(self, file: Path, timeout_s: float = 600) -> Done:
        """Wait for the end of a command. Raises TimeoutError, and RuntimeError without a machine."""
        status = file.with_suffix(".rc")
        end = time.monotonic() + timeout_s
        while not status.exists():
            if self._machine is None or self._machine.poll() is not None:
                raise RuntimeError("the machine has ended")
            if time.monotonic() > end:
                raise TimeoutError(file.with_suffix(".now").read_text())
            time.sleep(0.05)
        output = file.with_suffix(".out").read_text(errors="replace")
        return Done(int(status.read_text()), output)

    def run(self, command: str, timeout_s: float = 600) -> Done:
        """Run a command of bash there, and wait for its end."""
        return self.result(self.start(command), timeout_s)

    def _start(self) -> None:
        disk = self.shared / "disk"
        with disk.open("wb") as file:
            file.truncate(300 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", disk], check=True)
        (self.shared / "q").mkdir()
        (self.shared / "modules" / "lib").mkdir(parents=True)
        (self.shared / "modules" / "lib" / "modules").symlink_to(_MODULES)
        values = {"D": self.shared, "W": Path.cwd(), "OPTIONS": self._options, "PATH": _PATH}
        lines = [f"{name}={shlex.quote(str(value))}\n" for name, value in values.items()]
        (self.shared / "settings").write_text("".join(lines))
        init = self.shared / "init"
        init.write_text(_INIT)
        init.chmod(0o755)
        # Its memory is a file in TMPDIR that has no name.
        memory_directory = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()
        with (self.shared / "console.log").open("wb") as console:
            self._machine = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "TERM", "linux.uml", f"mem={self._memory}"),
                    *(f"umid={self.shared.name}", f"uml_dir={self.shared / 'uml'}", f"ubd0={disk}"),
                    *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={init}"),
                    *("con=null", "con0=fd:0,fd:1", "ssl=null", "loglevel=4"),
                ],
                env={**os.environ, "PATH": _PATH, "TMPDIR": memory_directory},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,  # Ctrl-C is for us; and its processes are one group
            )
        end = time.monotonic() + _START_S
        ready = self.shared / "ready"
        while not ready.exists() or not ready.read_text():
            if self._machine.poll() is not None or time.monotonic() > end:
                break
            time.sleep(0.1)
        if not ready.exists() or ready.read_text() != "ok\n":
            logs = [self.shared / "console.log", self.shared / "boot.log"]
            said = "\n".join(
                log.read_text(errors="replace")[-3000:] for log in logs if log.exists()
            )
            raise RuntimeError(f"the machine with NFS didn't start:\n{said}")

    def _stop(self) -> None:
        if self._machine is not None:
            (self.shared / "halt").touch()
            with suppress(subprocess.TimeoutExpired):
                self._machine.wait(_END_S)
            with suppress(ProcessLookupError):  # processes of the machine that are left
                os.killpg(self._machine.pid, 9)
            self._machine.wait()
        shutil.rmtree(self.shared, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run a command beside a real NFS.")
    parser.add_argument("--options", default="vers=4.2", help="of the mounts")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="with /mnt/nodeA and /mnt/nodeB")
    chosen = parser.parse_args(arguments)
    if why_not := why_no_nfs():
        parser.error(why_not)
    with Nfs(chosen.options) as nfs:
        done = nfs.run(shlex.join(chosen.command) or "grep nfs4 /proc/mounts")
        sys.stdout.write(done.output)
        return done.status


if __name__ == "__main__":
    sys.exit(main())

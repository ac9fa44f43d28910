"""A real Slurm of one node, on the loopback addresses of this machine.

    with Slurm() as slurm:
        slurm.run("sbatch", "--array=0-15", "task.sh")

``python tests/clusters/slurm.py COMMAND…`` runs a command beside it. See README.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from support.platforms import IS_ROOT, NO_CLUSTER

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "setpriv")
_START_S, _END_S = 30.0, 20.0

_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=5,bf_interval=5
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
JobRequeue=1
MaxArraySize=10001
KillWait=2
SlurmctldTimeout=10
SlurmdTimeout=10
InactiveLimit=0
MessageTimeout=10
WaitTime=0
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
NodeName={host} NodeAddr=127.0.0.1 NodeHostname={host} CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE OverSubscribe=FORCE:4 State=UP
"""


def why_no_slurm() -> str | None:
    """Return why a Slurm can't be started here, or None."""
    if not IS_ROOT:
        return f"{NO_CLUSTER}Slurm needs root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"{NO_CLUSTER}there is no {', '.join(missing)}" if missing else None


class Slurm:
    """Starts Slurm's daemons on entering, and ends them and all tasks on leaving.

    ``cpus`` is how many tasks run at once; the real number of CPUs doesn't matter. All files are in
    a temporary directory, which is removed at the end. If this process is killed, the daemons end.
    """

    def __init__(self, cpus: int = 8) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.environment = {**os.environ, "SLURM_CONF": str(self.directory / "slurm.conf")}
        self._cpus = cpus
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        """Run a command beside Slurm. Return what it printed. Raises CalledProcessError."""
        return subprocess.run(
            command,
            env=self.environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout

    def queued(self) -> list[str]:
        """Return the ids of the tasks that aren't done, such as ``12_3``."""
        return self.run("squeue", "--noheader", "--array", "--format=%i").split()

    def running(self) -> list[str]:
        """Return the ids of the tasks that are running."""
        return self.run(
            "squeue", "--noheader", "--array", "--format=%i", "--states=RUNNING"
        ).split()

    def wait(self, timeout_s: float = 600) -> None:
        """Wait until no task is queued or running. Raises TimeoutError."""
        end = time.monotonic() + timeout_s
        while queued := self.queued():
            if time.monotonic() > end:
                raise TimeoutError(f"still queued: {queued}")
            time.sleep(0.1)

    def _start(self) -> None:
        self.directory.chmod(0o755)  # munge wants to know that only its owner may write there
        for name in ("state", "spool"):
            (self.directory / name).mkdir()
        key = self.directory / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        with socket.socket() as one, socket.socket() as other:
            for each in (one, other):
                each.bind(("127.0.0.1", 0))
            ports = [each.getsockname()[1] for each in (one, other)]
        (self.directory / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        (self.directory / "slurm.conf").write_text(
            _CONFIGURATION.format(
                host=socket.gethostname().partition(".")[0],
                controller_port=ports[0],
                node_port=ports[1],
                directory=self.directory,
                cpus=self._cpus,
            )
        )
        paths = {
            "key-file": key,
            "socket": self.directory / "munge.socket",
            "pid-file": self.directory / "munged.pid",
            "log-file": self.directory / "munged.log",
            "seed-file": self.directory / "munge.seed",
        }
        # --force: a directory above may be writable by all, as /tmp is.
        options = [f"--{name}={path}" for name, path in paths.items()]
        self._daemon("munged", "--foreground", "--force", "--num-threads=2", *options)
        self._until("munge", paths["socket"].exists)
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D")
        self._until("Slurm", lambda: self._state() in ("idle", "mixed", "allocated"))

    def _state(self) -> str:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    def _daemon(self, *command: str) -> None:
        with (self.directory / f"{command[0]}.out").open("wb") as output:
            self._daemons.append(
                subprocess.Popen(
                    ["setpriv", "--pdeathsig", "TERM", *command],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # Ctrl-C is for us
                )
            )

    def _until(self, what: str, is_there: Callable[[], bool]) -> None:
        end = time.monotonic() + _START_S
        while not is_there():
            if time.monotonic() > end or any(each.poll() is not None for each in self._daemons):
                outputs = sorted(self.directory.glob("*.out"))
                said = "\n".join(path.read_text(errors="replace")[-2000:] for path in outputs)
                raise RuntimeError(f"{what} didn't start:\n{said}")
            time.sleep(0.05)

    def _stop(self) -> None:
        if len(self._daemons) == 3 and self._daemons[1].poll() is None:
            with suppress(subprocess.CalledProcessError, TimeoutError):
                if queued := self.queued():
                    self.run("scancel", "--signal=KILL", "--full", *queued)
                    self.run("scancel", *queued)
                    self.wait(_END_S)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(_END_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run a command beside a real Slurm.")
    parser.add_argument("--cpus", type=int, default=8, help="tasks that run at once")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="such as bash")
    chosen = parser.parse_args(arguments)
    if why_not := why_no_slurm():
        parser.error(why_not)
    with Slurm(chosen.cpus) as slurm:
        command = chosen.command or ["sinfo"]
        return subprocess.run(command, env=slurm.environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

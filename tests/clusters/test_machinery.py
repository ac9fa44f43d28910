"""The Slurm and the NFS of the longer runs start, work and end. They are skipped where they can't."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

import pytest
from clusters.nfs import Nfs, why_no_nfs
from clusters.slurm import Slurm, why_no_slurm
from support.paths import TOP
from support.platforms import only_long

# One node has run or changed the job, and keeps it open. Another node works on it.
READ_AFTER = """
import os, sys
from journal import JobService

with JobService("/mnt/nodeA/jobs") as a:
    a.create_job("j", job_id="j", row_data=[{"data": {}}] * 4)
    a.start_job("j")
    a.update_status("j", "paused")
    for node, number in (("B", 1), ("B", 2), ("A", 3), ("B", 4)):
        a.get_rows("j")
        a.update_row_data("j:4", {"number": number})
        if not os.fork():
            with JobService(f"/mnt/node{node}/jobs") as b:
                b.start_job("j")
                b.start_row(f"j:{number}")
                b.complete_row(f"j:{number}")
                b.update_status("j", "paused")
            os._exit(0)
        assert os.wait()[1] == 0
        print(*(row.status for row in a.get_rows("j")))
"""

WHY_NO_SLURM, WHY_NO_NFS = why_no_slurm(), why_no_nfs()


def is_there(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def wait_until_gone(*processes: int) -> None:
    """Until they have ended, and whoever is their parent has asked how."""
    while any(map(is_there, processes)):
        time.sleep(0.01)


@pytest.mark.skipif(WHY_NO_SLURM is not None, reason=WHY_NO_SLURM or "")
def test_a_slurm_runs_an_array_and_ends_with_its_tasks(tmp_path: Path) -> None:
    with Slurm() as slurm:
        script = "echo $$ > started.$SLURM_ARRAY_TASK_ID; exec sleep 600"
        options = ("--array=3,5", "--output=/dev/null", f"--wrap={script}")
        slurm.run("sbatch", *options, cwd=tmp_path)
        started = [tmp_path / "started.3", tmp_path / "started.5"]
        while not all(path.exists() and path.read_text() for path in started):
            time.sleep(0.01)
        assert sorted(slurm.queued()) == ["1_3", "1_5"]
        processes = [int(path.read_text()) for path in started]
        assert all(map(is_there, processes))
        daemons = [each.pid for each in slurm._daemons]
    wait_until_gone(*processes, *daemons)
    assert not slurm.directory.exists()


@only_long
@pytest.mark.skipif(WHY_NO_NFS is not None, reason=WHY_NO_NFS or "")
def test_two_clients_read_at_once_what_the_other_writes_and_nothing_is_left_of_them() -> None:
    """The second one keeps a job open that the first one runs or changes."""
    command = shlex.join(["env", f"PYTHONPATH={TOP}", sys.executable, "-c", READ_AFTER])
    with Nfs() as nfs:
        assert nfs.run("echo one > /mnt/nodeA/file; cat /mnt/nodeB/file; exit 3") == (3, "one\n")
        assert nfs.run(f"touch {Path(__file__)}").status == 1  # this machine is read only there
        assert nfs.run(f"touch {nfs.shared}/here").status == 0
        assert (nfs.shared / "here").exists()
        status, output = nfs.run(command)
        statuses = [[*["completed"] * done, *["pending"] * (4 - done)] for done in (1, 2, 3, 4)]
        assert (status, output) == (0, "".join(f"{' '.join(each)}\n" for each in statuses))
        assert nfs._machine is not None
        machine = nfs._machine.pid
    wait_until_gone(machine)
    assert not nfs.shared.exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(machine, 0)

"""The Slurm and the NFS of the longer runs start, work and end. They are skipped where they can't."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from clusters.nfs import Nfs, why_no_nfs
from clusters.slurm import Slurm, why_no_slurm

WHY_NO_SLURM, WHY_NO_NFS = why_no_slurm(), why_no_nfs()


def is_there(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


@pytest.mark.skipif(WHY_NO_SLURM is not None, reason=WHY_NO_SLURM or "")
def test_a_slurm_runs_an_array_and_ends_with_its_tasks(tmp_path: Path) -> None:
    with Slurm() as slurm:
        script = "echo $$ > started.$SLURM_ARRAY_TASK_ID; exec sleep 600"
        options = ("--array=3,5", "--output=/dev/null", f"--wrap={script}")
        slurm.run("sbatch", *options, cwd=tmp_path)
        started = [tmp_path / "started.3", tmp_path / "started.5"]
        while not all(path.exists() and path.read_text() for path in started):
            assert sorted(slurm.queued()) == ["1_3", "1_5"]
        processes = [int(path.read_text()) for path in started]
        assert all(map(is_there, processes))
        daemons = [each.pid for each in slurm._daemons]
    assert not any(map(is_there, (*processes, *daemons)))
    assert not slurm.directory.exists()


@pytest.mark.skipif(WHY_NO_NFS is not None, reason=WHY_NO_NFS or "")
def test_two_clients_share_a_directory_of_a_server_and_nothing_is_left_of_them() -> None:
    with Nfs() as nfs:
        assert nfs.run("echo one > /mnt/nodeA/file; cat /mnt/nodeB/file; exit 3") == (3, "one\n")
        assert nfs.run(f"touch {Path(__file__)}").status == 1  # this machine is read only there
        assert nfs.run(f"touch {nfs.shared}/here").status == 0
        assert (nfs.shared / "here").exists()
        assert nfs._machine is not None
        machine = nfs._machine.pid
    assert not is_there(machine)
    assert not nfs.shared.exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(machine, 0)

"""The scripts of the page `clusters` run unchanged.

They run under a real Slurm, and under programs that set the variables of Slurm, Kubernetes and AWS
Batch.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from clusters.slurm import Slurm, why_no_slurm
from support import examples
from support.paths import TOP
from support.platforms import needs_shell

from journal import JobService, RowStatus

pytestmark = needs_shell
PAGE = f"{examples.DOCS}/clusters.md"
ORDERS = [f"A-{number}" for number in range(1, 41)]

# Kills its run once, at the order A-20, before it has taken effect.
SHIP = """\
if [ "$1" = A-20 ] && mkdir killed 2>/dev/null; then
    kill -9 $PPID
    exit
fi
echo "$1" >> ledger
"""

# Runs the tasks of an array one after the other.
SBATCH = f"""\
#!{sys.executable}
import os, re, subprocess, sys
words = sys.argv[1:]
at = words.index("ship.sbatch")
options, script = words[:at], words[at:]
given = re.findall("--array=(.+)", "\\n".join(options) or open(script[0]).read())[0]
for part in given.split(","):
    first, _, last = part.partition("-")
    for task in range(int(first), int(last or first) + 1):
        with open(f"ship-{{task}}.log", "ab") as log:
            env = os.environ | {{"SLURM_ARRAY_TASK_ID": str(task)}}
            subprocess.run(["sh", *script], env=env, stdout=log, stderr=log)
"""


class Cluster:
    """A directory with the input, in which the blocks of the page are run."""

    def __init__(self, directory: Path, slurm: Slurm | None) -> None:
        self.directory = directory
        self._slurm = slurm
        programs = directory / "bin"
        programs.mkdir()
        if slurm is None:
            (programs / "sbatch").write_text(SBATCH)
            (programs / "sbatch").chmod(0o755)
        lines = ["order,street", *(f"{order},street {order[2:]}" for order in ORDERS)]
        (directory / "orders.csv").write_text("\n".join(lines) + "\n")
        (directory / "ship.sh").write_text(SHIP)
        (directory / "ship.sbatch").write_text(examples.example(PAGE, "ship.sbatch"))
        paths = programs, Path(sys.executable).parent, os.environ["PATH"]
        self.environment = {
            "PATH": os.pathsep.join(map(str, paths)),
            "PYTHONPATH": str(TOP),
            **({} if slurm is None else {"SLURM_CONF": slurm.environment["SLURM_CONF"]}),
        }

    def run(self, name: str, replace: tuple[str, str] = ("", "")) -> str:
        """Run a block of the page, and wait for its tasks. Return what it printed."""
        (block,) = [each for each in examples.blocks_of(PAGE) if each.name == name]
        block = block._replace(text=block.text.replace(*replace) if all(replace) else block.text)
        return self._finish(examples.run(block, self.directory, self.environment))

    def journal(
        self, words: str, variables: dict[str, str] | None = None, exit_code: int = 0
    ) -> str:
        block = examples.Block("sh", f"journal {words}", "", (), ())
        done = examples.run(block, self.directory, self.environment | (variables or {}))
        return self._finish(done, exit_code)

    def _finish(self, done: CompletedProcess[str], exit_code: int = 0) -> str:
        assert done.returncode == exit_code, done.stdout + done.stderr
        if self._slurm is not None:
            self._slurm.wait()
        return done.stdout

    def ledger(self) -> list[str]:
        return sorted((self.directory / "ledger").read_text().split())


@pytest.fixture(name="cluster")
def fixture_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """With a Slurm, where there is one; else tasks get the variables that it sets."""
    with ExitStack() as stack:
        slurm = stack.enter_context(Slurm()) if why_no_slurm() is None else None
        yield Cluster(tmp_path, slurm)


def test_an_array_whose_task_is_killed_is_continued_by_the_commands_of_the_page(
    cluster: Cluster,
) -> None:
    cluster.run("submit")
    assert re.fullmatch(r"[0-7]\n", cluster.journal("shards ship --open"))
    cluster.run("retry")
    assert cluster.ledger() == sorted({*ORDERS} - {"A-20"})
    with JobService(cluster.directory / "jobs") as service:
        shards = sorted(path.name for path in (cluster.directory / "jobs" / "ship").iterdir())
        assert shards == [f"00{index}-of-008" for index in range(8)]
        jobs = [f"ship/{name}" for name in shards]
        (row,) = (r for job in jobs for r in service.get_rows(job, RowStatus.NEEDS_REVIEW))
    cluster.run("settle", ("--row 12", f"--row {row.row_number}"))
    assert cluster.ledger() == sorted(ORDERS)
    assert cluster.journal("shards ship --open") == ""
    cluster.run("table")
    with (cluster.directory / "table.csv").open(newline="") as file:
        assert [line["order"] for line in csv.DictReader(file)] == ORDERS
    # The other schedulers continue the same set, and find nothing to do.
    for name, variable in (
        ("ship.yaml", "JOB_COMPLETION_INDEX"),
        ("aws", "AWS_BATCH_JOB_ARRAY_INDEX"),
    ):
        (words,) = re.findall(r"\"?command\"?: (\[.*?\])", examples.example(PAGE, name), re.DOTALL)
        command = [word.replace("/data", str(cluster.directory)) for word in json.loads(words)]
        assert command.pop(0) == "journal"
        cluster.journal(" ".join(f"'{word}'" for word in command), {variable: "7"})
    assert cluster.ledger() == sorted(ORDERS)


def test_shards_of_two_nodes_are_gathered_by_the_commands_of_the_page(tmp_path: Path) -> None:
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    cluster = Cluster(tmp_path, None)
    (tmp_path / "killed").mkdir()
    for node, tasks in (("node1", "0-1"), ("node2", "2-3")):
        disk = tmp_path / node / "scratch"
        disk.mkdir(parents=True)
        for name in ("orders.csv", "ship.sh", "ship.sbatch", "killed"):
            (disk / name).symlink_to(tmp_path / name)
        block = (
            f"cd {disk} && sbatch --array={tasks} ship.sbatch && cat ledger >> {tmp_path}/ledger"
        )
        cluster._finish(
            examples.run(examples.Block("sh", block, "", (), ()), tmp_path, cluster.environment)
        )
    # On the other node, the shards aren't started again.
    (again,) = [each for each in examples.blocks_of(PAGE) if each.name == "again"]
    disk = tmp_path / "node2" / "scratch"
    assert examples.run(again, disk, cluster.environment).returncode == 0
    for task in (0, 1):
        assert "leave --existing out" in (disk / f"ship-{task}.log").read_text()
    assert sorted(path.name[:3] for path in (disk / "jobs" / "ship").iterdir()) == ["002", "003"]
    cluster.run("gather", ("${node}:/", "${node}/"))
    assert cluster.journal("shards ship --open") == "4-7\n"
    exported = cluster.journal("export ship - --columns order", exit_code=4).split()[1:]
    assert exported == sorted(cluster.ledger(), key=ORDERS.index)

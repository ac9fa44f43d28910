"""Runs the shards of a job on nodes with separate disks, with the variables of each scheduler.

    python tests/clusters/engines.py --rows 6400 --shards 64

A process in its own directory runs each shard. A third of the processes are killed and started
again. Then the directories are gathered by rsync and `journal pull`. Each mistake of a user is
refused or named. The mistakes are a shard that is missing, copied twice, or started twice at once,
another count, input or key, a task that was restarted on an empty disk, and a copy that went on
elsewhere. A ledger outside of the jobs shows that each row was called once.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from clusters.arrays import Array

# The variables with the number of a task, and those that say how often it was started: the first
# time, and after that.
ENGINES: tuple[tuple[str, str, str, str], ...] = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "", "1"),
    ("JOB_COMPLETION_INDEX", "", "", ""),
    ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ATTEMPT", "1", "2"),
    ("CLOUD_RUN_TASK_INDEX", "CLOUD_RUN_TASK_ATTEMPT", "0", "1"),
    ("HQ_TASK_ID", "", "", ""),
    ("OMPI_COMM_WORLD_RANK", "", "", ""),
    ("PMI_RANK", "", "", ""),
    ("RANK", "", "", ""),
)
AT_ONCE = 4


class Nodes(Array):
    """A set whose shards are made in directories of their own: ``nodes/003`` for shard 3."""

    def node(self, index: int, name: str = "") -> Path:
        """Make the directory of a node, with the input and the ledger."""
        node = self.directory / "nodes" / (name or f"{index:03}")
        if not node.exists():
            node.mkdir(parents=True)
            for shared in ("orders.csv", "ledger"):
                (node / shared).symlink_to(self.directory / shared)
        return node

    def shard(self, index: int) -> str:
        return f"ship/{index:03}-of-{self.shards:03}"

    def start(
        self,
        index: int,
        node: Path,
        *,
        is_restart: bool = False,
        shard: str = "",
        ends_at: int = 0,
        by: signal.Signals = signal.SIGKILL,
    ) -> subprocess.Popen[str]:
        """Start the task of a shard on a node, as its scheduler would.

        At its call number ``ends_at``, it sends itself the signal ``by``.
        """
        variable, restarts, first, later = ENGINES[index % len(ENGINES)]
        number = index + self.shards if variable == "HQ_TASK_ID" else index
        environment = self.environment | {variable: str(number)}
        environment |= {"ENDS_AT": str(ends_at), "ENDS_BY": str(int(by))}
        if restarts and (said := later if is_restart else first):
            environment[restarts] = said
        return subprocess.Popen(
            [sys.executable, self.directory / "task.py", shard or f"auto/{self.shards}"],
            cwd=node,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, index: int, node: Path, *, is_restart: bool = False, shard: str = "") -> str:
        """Run a task to its end. Return what it said of an error, or nothing."""
        process = self.start(index, node, is_restart=is_restart, shard=shard)
        said = process.communicate()[1]
        assert process.returncode >= 0
        return said if process.returncode else ""

    def run_all(self, killed: int) -> None:
        """Run each shard on its node. So many of the tasks kill themselves, and are restarted.

        A copy of what such a task has left is kept: ``nodes/old-003``.
        """
        todo = [*range(1, self.shards)]  # shard 0 has been run
        random.shuffle(todo)
        doomed = set(todo[:killed])
        old: set[int] = set()
        running: list[tuple[int, subprocess.Popen[str]]] = []
        while todo or running:
            while todo and len(running) < AT_ONCE:
                index = todo.pop()
                ends_at = random.randint(1, 3) if index in doomed - old else 0
                node, is_restart = self.node(index), index in old
                task = self.start(index, node, is_restart=is_restart, ends_at=ends_at)
                running.append((index, task))
            index, task = running.pop(0)
            said = task.communicate()[1]
            if index in doomed - old:
                assert task.returncode == -signal.SIGKILL, said
                shutil.copytree(
                    self.node(index) / "jobs", self.node(index, f"old-{index:03}") / "jobs"
                )
                old.add(index)
                todo.insert(0, index)
                self.tally["killed"] += 1
            else:  # 3: rows that were in flight need a review
                assert task.returncode == (3 if index in old else 0), said

    def gather(self, index: int) -> str:
        """Copy a node's shards, and pull them into the set here."""
        source = self.node(index)
        there = self.directory / "from" / source.name
        there.mkdir(parents=True, exist_ok=True)
        subprocess.run(["rsync", "-a", f"{source}/jobs/ship", there], check=True)
        return self.journal("pull", f"{there}/ship")

    def journal_file(self, index: int) -> Path:
        return self.directory / "jobs" / self.shard(index) / "journal.jsonl"


def check_second_start(nodes: Nodes) -> None:
    """While a shard runs, a second start of it is refused."""
    node = nodes.node(0)
    first = nodes.start(0, node, ends_at=1, by=signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(first.pid, os.WUNTRACED)[1])
    said = nodes.run(0, node)
    assert "JobBusyError" in said, said
    first.send_signal(signal.SIGCONT)
    said = first.communicate()[1]
    assert first.returncode == 0, said


def check_empty_disks(nodes: Nodes) -> None:
    """A task that was restarted, and finds no job, runs nothing."""
    called = nodes.called()
    for index, (_, restarts, _, later) in enumerate(ENGINES[: nodes.shards]):
        if restarts:
            said = nodes.run(index, nodes.node(index, f"empty-{index}"), is_restart=True)
            assert f"{restarts} is {later}, so this task was started before" in said, said
    assert nodes.called() == called


def check_gathering(nodes: Nodes) -> None:
    """Shards are gathered in any order, and twice. A missing one is named."""
    last = nodes.shards - 1
    for index in random.sample(range(last), last):
        nodes.gather(index)
    assert nodes.journal("shards", "ship", "--open").strip() == str(last)
    assert f"1 absent ({last})" in nodes.journal("show", "ship")
    nodes.gather(last)
    again = random.randrange(nodes.shards)
    before = nodes.journal_file(again).read_bytes()
    nodes.gather(again)
    assert nodes.journal_file(again).read_bytes() == before
    assert not nodes.journal("shards", "ship", "--open").strip()


def check_other_sets(nodes: Nodes) -> None:
    """Starts with another count or another key than the set's are refused."""
    here = nodes.directory
    called = nodes.called()
    said = nodes.run(0, here, shard=f"0/{2 * nodes.shards}")
    assert f"{nodes.shards}" in said.splitlines()[-1], said
    task = here / "task.py"
    text = task.read_text()
    task.write_text(text.replace('key="order"', 'key="street"'))
    said = nodes.run(0, here)
    assert "InvalidValueError" in said, said
    assert "order" in said.splitlines()[-1]
    task.write_text(text)
    assert nodes.called() == called


def check_other_input(nodes: Nodes) -> None:
    """Shards that have seen another input are named, until all of them have seen the same."""
    orders = nodes.directory / "orders.csv"
    text = orders.read_text()
    orders.write_text(f"{text}A-new,street new\n")
    nodes.rows += 1
    assert not nodes.run(0, nodes.directory)
    others = f"1-{nodes.shards - 1}"
    said = nodes.journal("show", "ship")
    assert f"{nodes.shards - 1} of another input ({others})" in said, said
    assert nodes.journal("shards", "ship", "--open").strip() == others
    for index in range(1, nodes.shards):
        assert not nodes.run(index, nodes.directory)
    assert nodes.called()["A-new"] == 1


def check_old_copy(nodes: Nodes) -> None:
    """An old copy of a shard has nothing new. If it goes on, the rows that both did are named."""
    old = next((nodes.directory / "nodes").glob("old-*"))
    index = int(old.name.removeprefix("old-"))
    source = f"{old}/jobs/ship"
    before = nodes.journal_file(index).read_bytes()
    said = nodes.journal("pull", source, "--dry-run")
    assert "the job here has everything from there" in said, said
    nodes.journal("pull", source)
    assert nodes.journal_file(index).read_bytes() == before
    # What follows is a mistake. It has a ledger of its own, and another copy of the set.
    (old / "ledger").unlink()
    nodes.run(index, old)
    twice = set((old / "ledger").read_text().split())
    assert twice
    shutil.copytree(nodes.directory / "jobs", nodes.directory / "merged")
    here = ("--root", "merged", "pull", source)
    nodes.journal(*here, exit_code=3)
    assert nodes.check("merged") == {}
    nodes.journal(*here, "--merge-outcomes", exit_code=3)
    assert set(nodes.check("merged").values()) == twice


def run_on_nodes(directory: Path, *, rows: int, shards: int, kills: int) -> Counter[str]:
    """Run a set on nodes of their own, gather it, and do what is wrong. Returns what happened."""
    nodes = Nodes(directory, rows, shards, 0.0)
    check_second_start(nodes)
    check_empty_disks(nodes)
    nodes.run_all(kills)
    check_gathering(nodes)
    nodes.settle()
    for index in range(shards):
        assert not nodes.run(index, directory)
    nodes.check_end()
    check_other_sets(nodes)
    check_old_copy(nodes)
    check_other_input(nodes)
    nodes.check_end()
    return nodes.tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=6400)
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    given = parser.parse_args()
    if shutil.which("rsync") is None:
        parser.error("rsync is not installed")
    print(f"seed {given.seed}")
    random.seed(given.seed)
    size = {"rows": given.rows, "shards": given.shards, "kills": given.kills}
    with tempfile.TemporaryDirectory() as directory:
        begin = time.monotonic()
        tally = run_on_nodes(Path(directory), **size)
        seconds = time.monotonic() - begin
    print(f"{given.rows} rows, each once; the table is the input's; {dict(tally)}; {seconds:.0f} s")


if __name__ == "__main__":
    main()

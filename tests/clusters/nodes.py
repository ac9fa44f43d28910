"""Runs one job on two dying nodes with a shared directory, and checks a ledger of their work.

    python tests/clusters/nodes.py --rounds 60                       two mounts of one directory
    python tests/clusters/nodes.py /mnt/nodeA /mnt/nodeB --rounds 10 two clients of a server

A node is a process. Its locks of directories reach no other node, as on NFS. In most rounds, its
other locks reach no other node, either. At a random system call, the node is stopped, is killed, or
loses the file system. Without the file system, its handlers go on, but its calls wait or fail.
Another node starts the job, is refused while the first node is known to live, and is stopped, too.
Then the first node comes back. In the end, one more run does the rest.

A ledger outside of the job has each effect of a row or a step, and each answer that a node got from
the job. No effect has happened twice. Each row is completed, or failed, or needs a review. Each
answer is in the job. A failure prints the seed of its round.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

# For the command; pytest has them there already. In the machine of NFS, PYTHONPATH isn't set.
sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

from support.nodes import separate_locks, two_mounts

import journal
import journal.run.open_job  # before a node loses its file system
from journal import AttemptedRow, JobBusyError, JobService, JournalError
from journal.fs import system
from journal.fs.handles import Descriptor
from journal.fs.locks import DirectoryLock
from journal.verify import verify_job

ROWS, WORKERS, MAX_CALLS, MAX_TAKE_OVERS = 24, 3, 900, 3
HANG_S = 60  # of a round
# No calls of a file system.
NO_CALLS = [
    "fspath",
    "getcwd",
    "geteuid",
    "getpid",
    "getuid",
    "major",
    "minor",
    "strerror",
    "uname",
    "urandom",
    "register_at_fork",
]
CALLS = ("write", "fdatasync", "stat", "mkdir", "rename")
MODES = ("threads", "pool", "steps", "loop")
# A row has failed if the file system was gone before a step of it could begin.
SETTLED = ("completed", "needs_review", "failed")
FATES = ("stop", "kill", "wait", "fail")
LOST, CRASHED = "lost", "crashed"


class Plan(NamedTuple):
    """What a node does: which job, how, and at which of its system calls what happens to it."""

    name: str
    root: Path
    mode: str
    locks: Path
    only_directories: bool
    ledger: Path
    call: int = 0  # the number of the call among those with this name; 0: nothing happens
    call_name: str = ""  # "": all names
    fate: str = ""


# --- a node


class System:
    """Stands in for ``os``. At a call, the node stops itself, and its fate begins."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._calls = plan, 0
        self._is_back = threading.Event()
        self._is_back.set()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        signal.signal(signal.SIGUSR2, lambda *_: self._is_back.set())

    def __getattr__(self, name: str) -> Any:
        value = getattr(os, name)
        if (
            name in NO_CALLS
            or isinstance(value, type | ModuleType | int)
            or os.getpid() != self._pid
        ):
            return value

        def call(*arguments: Any, **options: Any) -> Any:
            self._before(name)
            return value(*arguments, **options)

        return call

    def _before(self, name: str) -> None:
        with self._lock:
            self._calls += name.endswith(self._plan.call_name)
            is_now = name.endswith(self._plan.call_name) and self._calls == self._plan.call
            if is_now and self._plan.fate in ("wait", "fail"):
                self._is_back.clear()
        if is_now:
            os.kill(self._pid, signal.SIGSTOP)  # the parent then kills it, or lets it go on
        if not self._is_back.is_set():
            if self._plan.fate == "fail":
                raise OSError(5, "the file system is gone")
            self._is_back.wait()


def note(ledger: Path, *words: object) -> None:
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(descriptor)


def handle(row: AttemptedRow) -> str:
    number, ledger = row.data["k"], Path(row.data["ledger"])
    if row.data["mode"] == "steps":
        for step in ("charge", "mail"):
            row.step(step, note, ledger, "effect", f"{number}.{step}")
            note(ledger, "answer", f"{number}.{step}")
    else:
        note(ledger, "effect", number)
    return f"done {number}"


def loop(plan: Plan) -> None:
    """A loop of one's own, which gets an answer for each row."""
    with JobService(plan.root, sync="none") as service:
        service.start_job("j")
        for row in service.get_rows("j", status="pending"):
            service.start_row(row.id)
            note(plan.ledger, "effect", row.data["k"])
            service.complete_row(row.id, f"T-{row.data['k']}")
            note(plan.ledger, "answer", row.data["k"])
        rows = service.get_rows("j", status="needs_review")
        service.update_status("j", "failed" if len(rows) else "completed")


def run(plan: Plan) -> None:
    rows = [{"k": k, "mode": plan.mode, "ledger": str(plan.ledger)} for k in range(ROWS)]
    policy: Any = "resume" if plan.mode == "steps" else "review"
    with journal.open_job(plan.root / "j", rows, key="k", on_interrupted=policy) as job:
        if plan.mode == "pool":
            with ProcessPoolExecutor(WORKERS, get_context("fork")) as pool:
                report = job.run(handle, executor=pool, tell=str)
        else:
            report = job.run(handle, workers=WORKERS, tell=str)
    if report.reason is not None and "claim" in report.reason:
        note(plan.ledger, LOST, plan.name)


def node(plan: Plan) -> int:
    """Do the work of a node. Returns its exit code: 5 if another node has the job."""
    of = DirectoryLock if plan.only_directories else Descriptor
    separate_locks(setattr, plan.locks, lambda _: plan.name, of)
    system.os = System(plan)  # type: ignore[assignment]
    try:
        (loop if plan.mode == "loop" else run)(plan)
    except JobBusyError as error:
        return error.exit_code
    except JournalError as error:
        note(plan.ledger, LOST if "claim" in str(error) else "error", plan.name, repr(error))
    except BaseException:  # noqa: BLE001  (the parent shows it)
        note(plan.ledger, CRASHED, plan.name, traceback.format_exc().replace("\n", "\n  "))
    return 0


class Node:
    """The process of a node."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.is_over, self.code = plan, False, 0
        self.has_met_its_fate = False
        self.pid = os.fork()
        if not self.pid:
            os.setsid()  # with the processes of its pool
            code = 70
            try:
                code = node(plan)
            except BaseException:  # noqa: BLE001  (it is shown)
                traceback.print_exc()
            finally:
                os._exit(code)

    def wait(self) -> bool:
        """Wait until it has ended, or something has happened to it. Returns whether it has ended."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            self.has_met_its_fate = True
            if self.plan.fate == "kill":
                self.kill()
            elif self.plan.fate in ("wait", "fail"):
                os.kill(self.pid, signal.SIGCONT)
            return self.is_over
        self.is_over, self.code = True, os.waitstatus_to_exitcode(status)
        return True

    def come_back(self) -> None:
        if not self.is_over:
            os.kill(self.pid, signal.SIGCONT if self.plan.fate == "stop" else signal.SIGUSR2)

    def kill(self) -> None:
        if not self.is_over:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.is_over = True

    def end(self) -> None:
        """Kill it, and what is left of its pool."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.kill()


# --- a round


class Round:
    """A job, the nodes that work on it, and what was counted."""

    def __init__(
        self, roots: tuple[Path, Path], place: Path, seed: str, counts: Counter[str]
    ) -> None:
        self.draw, self.counts = random.Random(seed), counts
        self.roots, self.place, self.seed = roots, place, seed
        self.mode = self.draw.choice(MODES)
        self.only_directories = self.draw.random() < 0.3
        self.ledger = place / "ledger"
        self.ledger.touch()
        self.names = 0
        self.nodes: list[Node] = []

    def start(self, call: int = 0, call_name: str = "", fate: str = "") -> Node:
        """Start the job on the node whose turn it is."""
        which = self.names % 2
        self.names += 1
        plan = Plan(
            f"node-{self.names}",
            self.roots[which],
            self.mode,
            self.place / "locks",
            self.only_directories,
            self.ledger,
            call,
            call_name,
            fate,
        )
        started = Node(plan)
        self.nodes.append(started)
        return started

    def play(self) -> None:
        with JobService(self.roots[0]) as service:  # as a job that is already there
            rows = [{"k": k, "mode": self.mode, "ledger": str(self.ledger)} for k in range(ROWS)]
            service.create_job("j", job_id="j", key="k", row_data=[{"data": row} for row in rows])
        signal.signal(signal.SIGALRM, self._hangs)
        signal.alarm(HANG_S)
        try:
            for _ in range(self.draw.randint(1, MAX_TAKE_OVERS)):
                self._one_more()
            self._all_come_back()
            while self.start_and_wait().code == 5:
                pass
        finally:
            signal.alarm(0)
            for each in self.nodes:
                each.end()
        self._check()

    def _hangs(self, *_: object) -> None:
        raise AssertionError(f"seed {self.seed}: a node hangs")

    def _one_more(self) -> None:
        call, name = int(MAX_CALLS ** self.draw.random()), ""
        if self.draw.random() < 0.7:  # of a commit
            call, name = self.draw.randint(1, ROWS), self.draw.choice(CALLS)
        started = self.start(call, name, self.draw.choice(FATES))
        is_over = started.wait()
        if started.code == 5:
            self._let_go()
        elif started.has_met_its_fate:
            self.counts[f"nodes: {started.plan.fate}"] += 1
        if not is_over and self.draw.random() < 0.5:  # an earlier one comes back meanwhile
            self._all_come_back(but=started)

    def start_and_wait(self) -> Node:
        started = self.start()
        started.wait()
        assert started.is_over, f"seed {self.seed}: it was stopped"
        return started

    def _let_go(self) -> None:
        """A start was refused: one of the nodes before has the job. It dies."""
        living = [each for each in self.nodes if not each.is_over]
        assert self.only_directories, f"seed {self.seed}: a lock that reaches nobody has refused"
        assert living, f"seed {self.seed}: refused though no node lives"
        self.counts["starts that a living node's lock has refused"] += 1
        if self.draw.random() < 0.5:
            for each in living:
                each.kill()

    def _all_come_back(self, but: Node | None = None) -> None:
        for each in self.nodes:
            if each is not but and not each.is_over:
                each.come_back()
                each.wait()
                self.counts["nodes that came back"] += 1

    def _check(self) -> None:
        effects, answers = Counter[str](), set[str]()
        for line in self.ledger.read_text().splitlines():
            word, _, text = line.partition(" ")
            if word == "effect":
                effects[text] += 1
            elif word == "answer":
                answers.add(text)
            elif word in (LOST, "error"):
                self.counts[f"nodes that ended: {word}"] += 1
            else:
                raise AssertionError(f"seed {self.seed}: {self.ledger.read_text()}")
        twice = [text for text, count in effects.items() if count > 1]
        assert not twice, f"seed {self.seed}: happened twice: {twice}"
        report = verify_job(self.roots[1] / "j")
        assert not report.damaged, f"seed {self.seed}: {report}"
        with JobService(self.roots[1]) as service:
            rows = {row.data["k"]: row for row in service.get_rows("j")}
            left = [row for row in rows.values() if row.status not in SETTLED]
            assert not left, f"seed {self.seed}: {left}"
            done = set[str]()
            for k, row in rows.items():
                steps = [f"{k}.{s.name}" for s in service.get_steps(row.id) if s.state == "done"]
                done.update(steps)
                if row.status == "completed":
                    done.add(str(k))
                    wanted = [f"{k}.charge", f"{k}.mail"] if self.mode == "steps" else [str(k)]
                    missing = [each for each in wanted if not effects[each]]
                    assert not missing, f"seed {self.seed}: completed and never done: {missing}"
            lost = answers - done
            assert not lost, f"seed {self.seed}: answers that aren't in the job: {lost}"
            self.counts.update(f"rows: {row.status}" for row in rows.values())
        assert os.listdir(self.roots[1] / "j/claims"), (
            f"seed {self.seed}: no run has claimed the job"
        )
        late = list((self.roots[1] / "j/claims").glob("*.late"))
        for path in late:
            self.counts["late outcomes"] += len([json.loads(x) for x in path.open()])
        self.counts["rounds"] += 1
        self.counts["effects"] += effects.total()


def play(
    roots: tuple[Path, Path], rounds: int, seed: str, count: Callable[[Counter[str]], object]
) -> None:
    counts = Counter[str]()
    for number in range(rounds):
        name = f"{seed}.{number}"
        with tempfile.TemporaryDirectory(prefix="nodes-") as place:
            jobs = (roots[0] / f"jobs-{name}", roots[1] / f"jobs-{name}")
            Round(jobs, Path(place), name, counts).play()
    count(counts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("roots", nargs="*", type=Path, help="two paths of one directory")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", default=str(random.randrange(10**6)))
    options = parser.parse_args()
    if len(options.roots) not in (0, 2):
        parser.error("give two paths, or none")

    def show(counts: Counter[str]) -> None:
        for what, number in sorted(counts.items()):
            print(f"{number:8} {what}")

    print(f"seed {options.seed}", flush=True)
    if options.roots:
        play((options.roots[0], options.roots[1]), options.rounds, options.seed, show)
        return
    os.environ["JOURNAL_NETWORK"] = "1"
    with tempfile.TemporaryDirectory(prefix="nodes-") as place, two_mounts(Path(place)) as roots:
        play(roots, options.rounds, options.seed, show)


if __name__ == "__main__":
    main()

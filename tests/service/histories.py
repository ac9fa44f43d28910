"""Histories of threads and processes that change the same rows, and whether they are linearizable.

A history is linearizable if each call can be thought of as happening at one moment between its
begin and its end, so that every answer is the one that a single caller would have got (Herlihy and
Wing, "Linearizability", 1990). Rows are independent of one another, so each row has a history of
its own. A call of a process that was killed has happened at some moment after its begin, or not at
all. The search is that of Wing and Gong, with a memory of what was tried (Lowe, "Testing for
linearizability", 2017).

As a command, it makes and checks more histories than the tests do::

    python tests/service/histories.py --histories 500
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from support.activation import check_share
from support.memory import fast_directory

from journal import VALID_ROW_TRANSITIONS, InvalidStateTransition, JobService, RowStatus

JOB, ROWS, THREADS, PROCESSES = "shared", 2, 3, 2
CALLS = 30  # of each thread; of a process that will be killed, until then
FOREVER_NS = 1 << 63

State = tuple[str, int, str | None]  # status, attempts, error code
Answer = State | None  # None: refused
Operation = tuple[str, str]  # its name, and the error code that it records

FIRST: State = ("pending", 0, None)
TARGETS = {"start": "processing", "complete": "completed", "fail": "failed", "retry": "pending"}
REDONE = ("completed", "failed", "skipped")


class Call(NamedTuple):
    """One call, or the calls of one batch, which happen together; ``discarded``: not at all.

    ``answers`` is None if the caller was killed: it may have happened at any time since, or never.
    """

    begin_ns: int
    end_ns: int
    operations: tuple[Operation, ...]
    answers: tuple[Answer, ...] | None
    discarded: bool = False


def step(state: State, operation: Operation) -> tuple[State, Answer]:
    """What one caller alone would get: the row's new state, and the answer."""
    name, code = operation
    status, attempts, _ = state
    if name == "read":
        return state, state
    if name == "redo":
        is_allowed, target = status in REDONE, "pending"
    else:
        target = TARGETS[name]
        is_allowed = RowStatus(target) in VALID_ROW_TRANSITIONS[RowStatus(status)]
    if not is_allowed:
        return state, None
    after = (target, attempts + (name == "start"), code if name == "fail" else None)
    return after, after


def is_linearizable(calls: Iterable[Call], state: State = FIRST) -> bool:
    """Whether there is an order of the calls that explains all answers."""
    calls = sorted(calls)
    needed = sum(1 << number for number, call in enumerate(calls) if call.answers is not None)
    waiting = [(0, state)]
    tried = set(waiting)
    while waiting:
        done, state = waiting.pop()
        if done & needed == needed:
            return True
        left = [number for number in range(len(calls)) if not done >> number & 1]
        first_end_ns = min(calls[number].end_ns for number in left)
        for number in left:
            call = calls[number]
            if call.begin_ns > first_end_ns:
                break  # a call that ended before this one began must come first
            after, answers = state, []
            for operation in call.operations:
                after, answer = step(after, operation)
                answers.append(answer)
            if call.answers is not None and call.answers != tuple(answers):
                continue
            further = (done | 1 << number, state if call.discarded else after)
            if further not in tried:
                tried.add(further)
                waiting.append(further)
    return False


# --- making histories ------------------------------------------------------------------------


def call(service: JobService, row_id: str, operation: Operation) -> Answer:
    name, code = operation
    try:
        match name:
            case "start":
                row = service.start_row(row_id)
            case "complete":
                row = service.complete_row(row_id)
            case "fail":
                row = service.fail_row(row_id, code, "no answer")
            case "retry":
                row = service.retry_row(row_id)
            case "redo":
                row = service.redo_row(row_id)
            case _:
                found = service.get_row(row_id)
                assert found is not None
                row = found
    except InvalidStateTransition:
        return None
    return str(row.status), row.attempts, row.error_code


class Discarded(Exception):
    """What a batch that is to leave nothing behind raises."""


def work(service: JobService, seed: str, note: Callable[..., None], most: int | None) -> None:
    """Make random calls, and note the begin and the end of each."""
    draw = Random(seed)
    for number in count() if most is None else range(most):
        row = draw.randint(1, ROWS)
        kind = draw.choice(["single"] * 4 + ["batch", "discarded"])
        names = draw.choices(
            ["start", "fail", "complete", "retry", "redo", "read"],
            k=1 if kind == "single" else draw.randint(2, 3),
        )
        operations = [(name, f"E-{seed}-{number}") for name in names]
        about = {"call": f"{seed}-{number}", "row": row, "of": operations, "kind": kind}
        note(at=time.monotonic_ns(), **about)
        answers: list[Answer] = []
        row_id = f"{JOB}:{row}"
        if kind == "single":
            answers.append(call(service, row_id, operations[0]))
        else:
            with suppress(Discarded), service.batch(JOB):
                answers += [call(service, row_id, operation) for operation in operations]
                if kind == "discarded":
                    raise Discarded
        note(at=time.monotonic_ns(), call=about["call"], answers=answers)


def work_in_threads(root: Path, log: Path, seed: str, most: int | None) -> None:
    """What one process does."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(**about: object) -> None:
        os.write(descriptor, json.dumps(about).encode() + b"\n")

    with JobService(root) as service:
        threads = [
            threading.Thread(target=work, args=(service, f"{seed}.{number}", note, most))
            for number in range(THREADS)
        ]
        print("ready", flush=True)
        sys.stdin.readline()  # all processes begin together
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def read_calls(log: Path) -> dict[int, list[Call]]:
    """The calls that were noted, by row."""
    begun: dict[str, dict[str, Any]] = {}
    ended: dict[str, dict[str, Any]] = {}
    for line in log.read_bytes().splitlines():
        about = json.loads(line)
        (ended if "answers" in about else begun)[about["call"]] = about
    calls: dict[int, list[Call]] = {row: [] for row in range(1, ROWS + 1)}
    for name, about in begun.items():
        end_ns, answers = FOREVER_NS, None
        if name in ended:
            end_ns = ended[name]["at"]
            answers = tuple(answer and tuple(answer) for answer in ended[name]["answers"])
        operations = tuple((one, code) for one, code in about["of"])
        is_discarded = about["kind"] == "discarded"
        calls[about["row"]].append(Call(about["at"], end_ns, operations, answers, is_discarded))
    return calls


def meetings(calls: Iterable[Call], others: Sequence[Call]) -> int:
    """How many of these calls were under way while another process made one for the same row."""
    return sum(
        any(one.begin_ns < other.end_ns and other.begin_ns < one.end_ns for other in others)
        for one in calls
    )


def make_history(
    root: Path, seed: int, kill_after_s: float | None
) -> tuple[dict[int, list[Call]], int]:
    """Let processes with threads change a new job. Returns the calls by row, and how many met.

    ``kill_after_s``: how long after its first call to kill the first process, None for never.
    """
    with JobService(root) as service:
        service.create_job("Shared", job_id=JOB, row_data=[{"data": {}}] * ROWS)
    logs = [root / f"calls-{number}" for number in range(PROCESSES)]
    with ExitStack() as stack:
        processes = []
        for number, log in enumerate(logs):
            command = [sys.executable, __file__, "--work", str(root), "--log", str(log)]
            command += ["--seed", f"{seed}.{number}"]
            if number or kill_after_s is None:
                command += ["--calls", str(CALLS)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            processes.append(stack.enter_context(process))
            stack.callback(process.kill)
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()  # now all of them begin
        if kill_after_s is not None:
            while not logs[0].stat().st_size:
                assert processes[0].poll() is None, "it has ended before its first call"
                time.sleep(0.0001)
            time.sleep(kill_after_s)  # a kill comes at any moment
            processes[0].send_signal(signal.SIGKILL)
        statuses = [process.wait() for process in processes]
    assert statuses[1:] == [0] * (PROCESSES - 1), statuses
    assert statuses[0] == (0 if kill_after_s is None else -signal.SIGKILL), statuses
    by_process = [read_calls(log) for log in logs]
    calls: dict[int, list[Call]] = {}
    met = 0
    with JobService(root) as service:
        for row in range(1, ROWS + 1):
            first, second = (of_process[row] for of_process in by_process)
            met += meetings(first, second) + meetings(second, first)
            now_ns = time.monotonic_ns()
            read = ("read", "")
            answer = call(service, f"{JOB}:{row}", read)
            calls[row] = [*first, *second, Call(now_ns, now_ns, (read,), (answer,))]
    return calls, met


def check_histories(base: Path, seeds: Sequence[int], *, kills: bool) -> Counter[str]:
    """Make and check a history for each seed. Returns how many calls were made, met, and killed.

    Raises AssertionError, too, if too few calls met another one, or no call was killed.
    """
    found: Counter[str] = Counter()
    for seed in seeds:
        root = base / str(seed)
        root.mkdir()
        calls, met = make_history(root, seed, Random(seed).uniform(0, 0.03) if kills else None)
        found["met"] += met
        for row, some in calls.items():
            assert is_linearizable(some), f"seed {seed}, row {row}:\n" + "\n".join(
                map(str, sorted(some))
            )
            found["made"] += len(some)
            found["killed"] += sum(one.answers is None for one in some)
        shutil.rmtree(root)
    check_share("calls that met one of another process", found["met"], found["made"], 0.05)
    if kills:
        check_share("killed calls", found["killed"], len(seeds), 0.3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Check histories of calls for linearizability.")
    parser.add_argument("--histories", type=int, default=200)
    parser.add_argument("--seed", default="1", help="of the first history")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--calls", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work_in_threads(arguments.work, arguments.log, arguments.seed, arguments.calls)
        return
    base = fast_directory("histories-")
    try:
        first = int(arguments.seed)
        for kills in (False, True):
            seeds = range(first, first + arguments.histories // 2)
            found = check_histories(base, seeds, kills=kills)
            sys.stdout.write(
                f"{found['made']} calls, {found['met']} of them met one of another process, "
                f"{found['killed']} were killed: linearizable\n"
            )
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()

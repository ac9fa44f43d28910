"""Charge and mail: rows of three steps, processes killed with SIGKILL, and a ledger of the effects.

    python tests/crash/charge_and_mail.py --rows 200 --kills 60       all modes, both policies
    python tests/crash/charge_and_mail.py --modes pool --policies resume --seed 7

Each row charges, then mails, then polls the charge. Each charge and each mail is a line that is
appended to a ledger outside of the job, and synced. At random moments, the driver, a worker or all
processes are killed. Workers that outlive their driver continue beside the next driver. Now and
then, a person settles the rows in review by the ledger. In the end, all rows are completed, and the
ledger has each effect once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from support.activation import check_share
from support.children import processes_with

import journal
from journal import AttemptedRow, InvalidStateTransition, JobService, RowStatus
from journal.model import Policy
from journal.verify import verify_job

MODES = ("threads", "asyncio", "pool", "commands")
POLICIES: tuple[Policy, ...] = ("review", "resume")
JOB = "charge-and-mail"
MARK = "CHARGE_AND_MAIL"  # in the environment of each process, the name of its work
WORKERS = 4
HANG_S = 120.0
EFFECTS = ("charge", "mail")

# The row's command, and the command of its steps. Like all that matters, the effect is synced.
ROW_COMMAND = """
step() { "$PYTHON" -m journal step "$@" || { code=$?; [ $code = 4 ] && echo $2 >> refused; exit $code; }; }
charge=$(step charge -- sh ./effect charge "$1") || exit
mail=$(step mail -- sh ./effect mail "$1") || exit
step settle --idempotent -- sh ./poll "$1" "$charge"
"""
EFFECT_COMMAND = """
id=$(cat /proc/sys/kernel/random/uuid)
case $id in 00*|11*|22*|33*) sleep 2;; *) sleep 0.00$(($$ % 8));; esac
printf '%s %s %s\\n' "$1" "$2" "$id" | dd of=ledger oflag=append conv=notrunc,fsync status=none || exit
sleep 0.00$(($$ % 7))
echo "$id"
"""
POLL_COMMAND = """
echo "poll $1 $2" >> polls
grep -q "^charge $1 $2\\$" ledger && echo settled
"""


# --- the process that is killed


def append(name: str, *words: object) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def moment_s() -> float:
    """The duration of an effect.

    Mostly zero, but at times so long that a driver is gone meanwhile.
    """
    return random.choice([0, 0.001, 0.004, 0.004, 0.02]) if random.random() < 0.96 else 1.5


def effect(step: str, number: int) -> str:
    time.sleep(moment_s())
    append("ledger", step, number, id_ := str(uuid.uuid4()))
    time.sleep(moment_s())
    return id_


async def effect_async(step: str, number: int) -> str:
    await asyncio.sleep(moment_s())
    append("ledger", step, number, id_ := str(uuid.uuid4()))
    await asyncio.sleep(moment_s())
    return id_


def poll(number: int, charge: str) -> str:
    """Ask the called service about the charge.

    It must know the charge, and nothing else of this row.
    """
    append("polls", "poll", number, charge)
    if f"charge {number} {charge}" not in Path("ledger").read_text().splitlines():
        raise LookupError(charge)
    return "settled"


def handle(row: AttemptedRow) -> None:
    try:
        charge = row.step("charge", effect, "charge", row.row_number)
        row.step("mail", effect, "mail", row.row_number)
        row.step("settle", poll, row.row_number, charge, idempotent=True)
    except InvalidStateTransition:
        append("refused", row.id)
        raise


async def handle_async(row: AttemptedRow) -> None:
    charge = await row.step("charge", effect_async, "charge", row.row_number)
    await row.step("mail", effect_async, "mail", row.row_number)
    row.step("settle", poll, row.row_number, charge, idempotent=True)


def drive(mode: str, policy: Policy) -> None:
    executor = partial(ProcessPoolExecutor, WORKERS, get_context("fork"))
    with journal.open_job(Path("jobs", JOB), on_interrupted=policy, argv=[]) as job:
        job.run(
            handle_async if mode == "asyncio" else handle,
            executor if mode == "pool" else None,
            workers=WORKERS,
            halt="never",
            tell=lambda _text: None,
        )


# --- the one that kills, and the person who looks at the ledger


class Loss(AssertionError):
    """An effect came twice, a row is lost, or a row is in review for no reason."""


def expect(condition: object, what: str) -> None:
    if not condition:
        raise Loss(what)


@dataclass
class Tally:
    """The hits of a number of kills."""

    kills: int = 0
    of_workers_alone: int = 0
    reviews: int = 0  # rows that a person has looked at
    done: int = 0  # steps in doubt that the ledger has
    not_done: int = 0  # steps in doubt that it hasn't
    late: int = (
        0  # results that a worker recorded after its driver had died and the row was settled
    )
    refused: int = 0  # steps that a worker wanted to begin after its attempt had ended
    repeated_polls: int = 0

    def check(self, mode: str, kills: int) -> None:
        """So many kills must have hit runs at work, and every kind of step. A few needn't."""
        if kills >= 50:
            check_share("kills of a run at work", self.kills, kills, 0.5)
            check_share("steps in doubt that the ledger has", self.done, self.reviews, 0.1)
            check_share("steps in doubt that it hasn't", self.not_done, self.reviews, 0.1)
            if mode in ("pool", "commands"):
                check_share("steps that were refused to a worker", self.refused, kills, 0)

    def __str__(self) -> str:
        return ", ".join(
            f"{field.name.replace('_', ' ')} {getattr(self, field.name)}" for field in fields(self)
        )


class Work:
    """One job, whose processes are killed, in a directory with the ledger."""

    def __init__(
        self, directory: Path, mode: str, policy: Policy, *, rows: int, draw: random.Random
    ) -> None:
        self.directory, self.mode, self.policy, self.draw = directory, mode, policy, draw
        self.mark = f"{os.getpid()}-{uuid.uuid4()}"
        self.rows = rows
        self.tally = Tally()
        directory.mkdir(parents=True)
        for name in ("ledger", "polls", "refused"):
            (directory / name).touch()
        if mode == "commands":
            commands = {"row": ROW_COMMAND, "effect": EFFECT_COMMAND, "poll": POLL_COMMAND}
            for name, text in commands.items():
                (directory / name).write_text(text)
            (directory / "rows.txt").write_text("".join(f"{n}\n" for n in range(1, rows + 1)))
        with self.service() as service:
            data: Any = [{"data": {"line": str(n)}} for n in range(1, rows + 1)]
            service.create_job("Charge and mail", job_id=JOB, row_data=data)

    def service(self) -> JobService:
        return JobService(self.directory / "jobs")

    def lines(self, name: str) -> list[str]:
        return (self.directory / name).read_text().splitlines()

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, __file__, "--drive", self.mode, "--policies", self.policy]
        if self.mode == "commands":
            command = [
                *(sys.executable, "-m", "journal", "--root", "jobs", "run", "rows.txt", "--lines"),
                *("--job", JOB, "-j", str(WORKERS), "--halt", "never"),
                *("--on-interrupted", self.policy, "--", "sh", "./row", "{line}"),
            ]
        top = str(Path(__file__).parents[2])
        environment = {
            **os.environ, MARK: self.mark, "PYTHON": sys.executable,
            "PYTHONPATH": os.pathsep.join([top, f"{top}/tests", os.environ.get("PYTHONPATH", "")]),
        }  # fmt: skip
        with (self.directory / "output").open("ab") as output:
            return subprocess.Popen(
                command, cwd=self.directory, env=environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip

    def kill_all(self) -> None:
        deadline = time.monotonic() + HANG_S
        while found := processes_with(MARK, self.mark):
            expect(time.monotonic() < deadline, "processes don't die")
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)

    # --- kills

    def kill(self) -> bool:
        """Run a driver, and kill it or its workers at a random moment.

        Returns whether the target was there.
        """
        driver = self.start()
        try:
            if self.mode in ("pool", "commands") and self.draw.random() < 0.3:
                if self._is_over(driver):
                    return False
                others = [pid for pid in processes_with(MARK, self.mark) if pid != driver.pid]
                if others:
                    with suppress(ProcessLookupError):
                        os.kill(self.draw.choice(others), signal.SIGKILL)
                    self.tally.of_workers_alone += 1
            if self._is_over(driver):
                return False
            driver.kill()
            self.tally.kills += 1
        finally:
            driver.kill()
            driver.wait()
        if self.draw.random() < 0.2:
            self.kill_all()
        return True

    def _is_over(self, driver: subprocess.Popen[bytes]) -> bool:
        """Wait for a random number of effects or commits, and a moment.

        Returns whether the driver ended.
        """
        names = ("ledger", f"jobs/{JOB}/journal.jsonl")
        watched = self.directory / self.draw.choice(names)
        marks, size = self.draw.randrange(1, 10), watched.stat().st_size
        deadline = time.monotonic() + HANG_S
        while marks and driver.poll() is None:
            expect(time.monotonic() < deadline, "a driver does nothing")
            if (now := watched.stat().st_size) != size:
                size, marks = now, marks - 1
            time.sleep(0.0002)
        # The moment of the kill is random, so there is no event to wait for.
        time.sleep(self.draw.choice([0, self.draw.random() * 0.01]))
        return driver.poll() is not None

    # --- the person

    def settle(self) -> None:
        """Look at each row in review, and at the ledger, and have the row go on."""
        self.kill_all()  # nobody may do what a person says was not done
        ids = {(step, int(n)): id_ for step, n, id_ in map(str.split, self.lines("ledger"))}
        with self.service() as service:
            with suppress(journal.JobNotFoundError):
                service.recover_job(JOB, self.policy)
            for row in list(service.get_rows(JOB, "needs_review")):
                self.tally.reviews += 1
                steps = {step.name: step for step in service.get_steps(row.id)}
                doubts = [step.name for step in steps.values() if step.state == "started"]
                named = re.findall(r"step '(\w+)' of row", str(row.error_message))
                if self.policy == "resume":
                    expect(named, f"{row.id} is in review for no step: {row.error_message}")
                for name in doubts:
                    expect(name in named, f"{row.id}: {name} is in doubt: {row.error_message}")
                for name in set(named) - set(doubts):
                    expect(steps[name].state == "done", f"{row.id}: {name} is {steps[name].state}")
                    self.tally.late += 1
                for name in doubts:
                    id_ = ids.get((name, row.row_number))
                    if id_ is None:
                        service.fail_step(row.id, name, "the ledger doesn't have it")
                        self.tally.not_done += 1
                    else:
                        service.record_step(row.id, name, id_)
                        self.tally.done += 1
                service.retry_row(row.id)
            # A command that was killed, or a row that has lost three workers.
            for row in list(service.get_rows(JOB, "failed")):
                is_lost = self.mode == "pool" and "worker was lost" in str(row.error_message)
                expect(self.mode == "commands" or is_lost, f"{row.id} failed: {row.error_message}")
                service.retry_row(row.id)

    # --- what must hold

    def check(self) -> None:
        """At any moment, no effect has happened twice, and each effect has a recorded start."""
        effects = Counter(tuple(line.split()[:2]) for line in self.lines("ledger"))
        twice = [words for words, count in effects.items() if count > 1]
        expect(not twice, f"done twice: {twice}")
        with self.service() as service:
            for step, number in effects:
                states = {each.name: each.state for each in service.get_steps(f"{JOB}:{number}")}
                is_known = states.get(step) in ("started", "done")
                expect(is_known, f"{step} of row {number} is done, and {states.get(step)}")

    def finish(self) -> None:
        """Let runs complete all rows, with a person between the runs, and check everything."""
        for _ in range(20):
            driver = self.start()
            driver.wait(HANG_S * 5)
            self.settle()
            with self.service() as service:
                job = service.get_job(JOB)
            assert job is not None
            if job.successful_rows == self.rows:
                break
        self.check()
        self.tally.refused = len(self.lines("refused"))
        polls = Counter(self.lines("polls"))
        self.tally.repeated_polls = sum(polls.values()) - len(polls)
        effects = {(step, int(n)): id_ for step, n, id_ in map(str.split, self.lines("ledger"))}
        expect(len(effects) == 2 * self.rows, f"{len(effects)} effects of {self.rows} rows")
        asked = {tuple(line.split()[1:]) for line in polls}
        charged = {(str(n), id_) for (step, n), id_ in effects.items() if step == "charge"}
        expect(asked == charged, f"polled for what was not charged: {asked ^ charged}")
        with self.service() as service:
            rows = list(service.get_rows(JOB))
            open_rows = [row.id for row in rows if row.status is not RowStatus.COMPLETED]
            expect(not open_rows, f"not completed: {open_rows}")
            expect(len(rows) == self.rows, f"{len(rows)} rows")
            for row in rows:
                steps = {step.name: step.result for step in service.get_steps(row.id)}
                known = {step: effects[step, row.row_number] for step in EFFECTS}
                expect(steps == {**known, "settle": "settled"}, f"{row.id}: {steps}")
        expect(verify_job(self.directory / "jobs" / JOB).findings == [], "the journal is damaged")


def charge_and_mail(
    directory: Path, mode: str, policy: Policy, *, rows: int, kills: int, seed: object
) -> Tally:
    """Kill processes so many times, or until all rows are done. Raises Loss."""
    work = Work(directory, mode, policy, rows=rows, draw=random.Random(f"{mode}-{policy}-{seed}"))
    try:
        idle = 0
        while work.tally.kills < kills:
            is_there = work.kill()
            idle = 0 if is_there else idle + 1
            expect(idle < 5, "drivers end by themselves, and leave rows")
            if not is_there or work.draw.random() < 0.25:
                work.settle()
            work.check()
            with work.service() as service:
                job = service.get_job(JOB)
            if job is None or job.successful_rows == rows:
                break
        work.finish()
    finally:
        work.kill_all()
    return work.tally


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES)
    parser.add_argument("--drive", choices=MODES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        drive(options.drive, options.policies[0])
        return 0
    print(f"seed {options.seed}, {options.rows} rows", flush=True)
    failed = 0
    for mode in options.modes:
        for policy in options.policies:
            begun_s = time.monotonic()
            with tempfile.TemporaryDirectory() as name:
                try:
                    tally = charge_and_mail(
                        Path(name) / "work", mode, policy,
                        rows=options.rows, kills=options.kills, seed=options.seed,
                    )  # fmt: skip
                    tally.check(mode, options.kills)
                    said: object = tally
                except AssertionError as loss:  # a Loss, or nothing was hit
                    failed, said = 1, f"LOSS: {loss}"
                    output = Path(name) / "work" / "output"
                    said = f"{said}\n{output.read_text()[-2000:]}"
            print(f"{mode} {policy}: {said}; {time.monotonic() - begun_s:.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())

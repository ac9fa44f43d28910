"""A second user replaces directories with links, while root deletes, prunes and unpacks jobs.

As a command, run by root:

    python tests/crash/second_user.py --rounds 20

Each round has its own store, and the second user may write to it. The links lead to a tree outside
of the store. The second user may not write to this tree. The command prints the number of rounds in
which root changed this tree. It exits with 1 if there was such a round.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from support.activation import check_share
from support.memory import fast_directory

from journal import JobService, JournalError
from journal.transfer import pack_to_file, prune_jobs, unpack_job

JOB = "job"
SECOND_USER = 54_321
DIRECTORIES, FILES = 100, 2

# The second user. What he makes is his own, with all permissions for everybody. The program becomes
# his after it was started, since the interpreter may be in a directory of root.
PRELUDE = """
import os, sys, time
store, outside, user = *sys.argv[1:3], int(sys.argv[3])
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
os.umask(0)

def replace(name, target, **where):
    \"\"\"Put a link in the place of a directory.\"\"\"
    there = {f"src_{key}": value for key, value in where.items()}
    there |= {f"dst_{key}": value for key, value in where.items()}
    try:
        os.rename(name, f"{name}.{time.monotonic_ns()}.was", **there)
        os.symlink(target, name, **where)
        os.write(1, b"replaced\\n")
    except OSError:
        pass

"""

# He has made the staging directory first. If he may, he also replaces root's.
STAGING = """
staging = store + "/.staging"
os.mkdir(staging)
print("ready", flush=True)
while True:
    for name in os.listdir(staging):
        path = staging + "/" + name
        if name != "lock" and not name.endswith(".was") and not os.path.islink(path):
            replace(path, outside)
    for name in os.listdir(store):
        if name.startswith(".staging-") and not name.endswith(".was"):
            replace(store + "/" + name, staging)
"""

# The job is his own. Root moves and removes it, but his open directory stays his.
INSIDE = """
artifacts, done = os.open(store + "/job/artifacts", os.O_RDONLY), set()
print("ready", flush=True)
while os.path.exists(store + "/job"):
    pass
while True:
    for name in set(os.listdir(artifacts)) - done:
        done.add(name)
        if not name.endswith(".was"):
            replace(name, f"{outside}/artifacts/{name}", dir_fd=artifacts)
"""


def delete(store: Path) -> None:
    with JobService(store, sync="none") as service:
        service.delete_job(JOB)


def prune(store: Path) -> None:
    for _ in prune_jobs(store, datetime.now(UTC) + timedelta(days=1)):
        pass


def unpack(store: Path) -> None:
    unpack_job(store, store.parent / "pack")


# The actions of root, what the second user does meanwhile, and whether the job is in the store.
ATTACKS: dict[str, tuple[Callable[[Path], None], str, bool]] = {
    "delete, .staging was made first": (delete, STAGING, True),
    "delete, the job's directories are swapped": (delete, INSIDE, True),
    "prune, .staging was made first": (prune, STAGING, True),
    "prune, the job's directories are swapped": (prune, INSIDE, True),
    "unpack, .staging was made first": (unpack, STAGING, False),
}


def attack(name: str, rounds: int) -> tuple[int, int]:
    """Let the second user attack in so many rounds.

    Return in how many the tree was changed, and how many directories he has replaced in all.

    In every other round, the store's directory has the sticky bit, as ``/tmp`` has: then he can't
    replace what belongs to others.
    """
    base = fast_directory("second-user-")
    base.chmod(0o755)
    try:
        make_job(base / "made")
        pack_to_file(base / "made" / JOB, base / "pack")
        found = [_one_round(name, base, sticky=bool(number % 2)) for number in range(rounds)]
        # On a busy machine, root may be quicker in all of these rounds.
        while not (replaced := sum(count for _, count in found)) and len(found) < 20 * rounds:
            found.append(_one_round(name, base, sticky=False))
        check_share(f"{name}: rounds in which a directory was replaced", replaced, rounds, 0)
        return sum(is_changed for is_changed, _ in found), replaced
    finally:
        shutil.rmtree(base)


def _one_round(name: str, base: Path, *, sticky: bool) -> tuple[bool, int]:
    """Let the second user attack once. Return whether the tree outside was changed, and the replaced."""
    act, script, is_there = ATTACKS[name]
    store, outside = base / "store", base / "outside"
    store.mkdir()
    outside.mkdir()
    if is_there:
        for place in (store / JOB, outside):
            shutil.copytree(base / "made" / JOB, place, dirs_exist_ok=True)
    if script == INSIDE:
        for path in ((store / JOB), *(store / JOB).rglob("*")):
            os.chown(path, SECOND_USER, SECOND_USER)
    store.chmod(0o1777 if sticky else 0o777)
    before = _all_below(outside)
    replaced: list[bytes] = []
    with _second_user(script, store, outside, replaced), suppress(JournalError):
        act(store)
    changed = _all_below(outside) != before
    shutil.rmtree(outside)
    shutil.rmtree(store)
    return changed, len(replaced)


def make_job(root: Path) -> None:
    with JobService(root, sync="none") as service:
        service.create_job("Job", job_id=JOB)
        for number in range(DIRECTORIES):
            directory = service.artifacts_dir(JOB) / f"d{number}"
            directory.mkdir()
            for file in range(FILES):
                (directory / f"f{file}").write_text("kept")
        service.start_job(JOB)
        service.update_status(JOB, "completed")


@contextmanager
def _second_user(script: str, store: Path, outside: Path, replaced: list[bytes]) -> Iterator[None]:
    user = subprocess.Popen(
        [sys.executable, "-I", "-c", PRELUDE + script, store, outside, str(SECOND_USER)],
        stdout=subprocess.PIPE,
    )
    with user:
        assert user.stdout is not None
        assert user.stdout.readline() == b"ready\n"
        try:
            yield
            assert user.poll() is None, "the second user has failed"
        finally:
            user.kill()
            replaced += user.stdout


def _all_below(path: Path) -> set[str]:
    return {os.fspath(each.relative_to(path)) for each in path.rglob("*")}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    found = Counter[str]()
    for name in ATTACKS:
        found[name], replaced = attack(name, rounds)
        print(
            f"{name}: {rounds} rounds, {replaced} directories replaced; the tree outside was "
            f"changed in {found[name]}",
            flush=True,
        )
    sys.exit(1 if found.total() else 0)


if __name__ == "__main__":
    main()

"""Take away what the promise rests on, thing by thing, and see that the test of each thing fails.

    python tests/mutation/check.py                       all patches
    python tests/mutation/check.py "a commit" run/driver those whose name or module has such a text
    python tests/mutation/check.py --share 10            a random tenth of them
    python tests/mutation/check.py --search "my patch"   find the test that fails, and name it

The tests that the patches name are run once without a patch, then each patch with its own. Each
worker patches its own copy of the repository. A test that takes much longer than without a patch
hangs. It is ended, and has failed. With --search, each patch gets the tests that it names, then the
other tests of their files, then those of the module's room, until one fails. Check once more without
it, to see that the test passes without the patch.

A patch is an error, not a survivor, if no process imported the patched module, and so are tests that
fail without a patch. Ctrl-C ends the check with the figures so far. The exit code is 1 if there is a
survivor or an error.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has this path already

from mutation.patch import Patch
from mutation.patches import PATCHES
from support.memory import fast_directory

TOP = Path(__file__).parents[2]
PARTS = ("journal", "tests", "benchmarks", "pyproject.toml", "README.md", "CHANGELOG.md", ".ci")
TIMEOUT_S = 1800  # of the whole suite in one process
HANG_S = 40  # a test of a search
# A test hangs if it takes these seconds, and so many times as long as without a patch.
MIN_HANG_S, HANG_FACTOR = 15, 10

# Bytecode is used as long as its source has the same time, in seconds. So each state of a module gets
# another one, also the one after a patch: a process that a test has left behind may read one state
# and take it for the other.
_stamps = itertools.count(1_000_000_000)


class Verdict(NamedTuple):
    patch: Patch
    killer: str | None  # the test that fails; None if none does
    took_s: float
    error: str = ""  # why neither counts

    @property
    def has_survived(self) -> bool:
        return self.killer is None and not self.error


class UnclearError(Exception):
    """Whether a test fails can't be said."""


class Tree:
    """A copy of the repository, in which one patch at a time is applied."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._imported = directory / "imported"  # made by each process that imports patched code
        self._running: subprocess.Popen[bytes] | None = None
        for part in PARTS:
            if (TOP / part).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(TOP / part, directory / part, ignore=ignored)
            else:
                shutil.copy(TOP / part, directory / part)

    @contextmanager
    def patched(self, patch: Patch) -> Iterator[None]:
        module = self.directory / "journal" / f"{patch.module}.py"
        before = module.read_text(encoding="utf-8")
        if before.count(patch.old) != 1:
            raise UnclearError(f"its text stands {before.count(patch.old)} times in the module")
        noting = f"try: open({str(self._imported)!r}, 'w').close()\nexcept OSError: pass"
        first_import = re.compile(
            r"^(?=import |from (?!__future__)|_?[A-Z_]+ = )",  # a module may import nothing
            re.MULTILINE,
        )
        after = before.replace(patch.old, patch.new)
        after = first_import.sub(lambda _: f"exec({noting!r})\n", after, count=1)
        try:
            _write(module, after)
            yield
        finally:
            _write(module, before)
            self._imported.unlink(missing_ok=True)

    def was_imported(self) -> bool:
        return self._imported.exists()

    def end(self) -> None:
        """End the tests that run, if any."""
        if self._running is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait()
            self._running = None

    def failures(self, tests: list[str], *options: str, hang_s: float = HANG_S) -> list[str]:
        """The tests that fail, without their parameters. A test that takes ``hang_s`` fails."""
        # Very deep directories may be left of a test that was ended. Neither pytest nor rmtree can
        # remove them, and then each later test would fail.
        temporary = str(self.directory / "temporary")
        subprocess.run(["rm", "-rf", temporary], check=True)
        command = [sys.executable, "-m", "pytest", "-v", "-rfE", "-p", "no:cacheprovider", *options]
        command += ["--basetemp", temporary, "--tb=no", "--assert=plain"]
        command += ["--hypothesis-profile", "mutation", *tests]
        command += ["-o", f"faulthandler_timeout={hang_s:.0f}"]
        left_out = {"LONG", "NO_SKIPS", "SAMPLE_SEED"}
        environment = {name: text for name, text in os.environ.items() if name not in left_out}
        environment["PYTHONPATH"] = str(self.directory)
        report = self.directory / "report"
        with report.open("wb") as output:
            process = self._running = subprocess.Popen(
                command, cwd=self.directory, env=environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                raise UnclearError(f"pytest {tests} takes more than {TIMEOUT_S} s") from None
            finally:
                self.end()  # and what tests have left behind
        if code == 0:
            return []
        text = self.report()
        test = r"(tests/\S+?\.py(?:::\w+)*)"
        found = re.findall(rf"^(?:FAILED|ERROR) {test}", text, re.MULTILINE)
        # The last test that began hangs, or raises KeyboardInterrupt.
        if not found and (code == 2 or "Timeout (" in text):
            found = re.findall(rf"^{test}", text, re.MULTILINE)[-1:]
        if not found:
            raise UnclearError(f"pytest {tests} ended with {code}: {text[-1000:]}")
        return list(dict.fromkeys(found))

    def report(self) -> str:
        """What pytest has printed."""
        return (self.directory / "report").read_text(encoding="utf-8", errors="replace")


class Check:
    """The check of some patches, by one worker for each tree."""

    def __init__(self, trees: list[Tree]) -> None:
        self._trees = trees
        self._free: queue.SimpleQueue[Tree] = queue.SimpleQueue()
        for tree in trees:
            self._free.put(tree)
        self._hang_s: dict[str, float] = {}  # of tests that take long without a patch
        self._broken: list[str] = []  # the tests that fail without a patch

    def run_unpatched(self, patches: list[Patch]) -> list[Patch]:
        """Run the tests that the patches name, to see that they pass, and how long they take.

        Returns the patches whose tests are not skipped here.
        """
        named = sorted({test for patch in patches for test in existing(patch.tests)})
        print(f"{len(named)} tests without a patch", flush=True)
        tree = self._trees[0]
        options = ("-n", str(len(self._trees)), "--durations=0", "--durations-min=0.1")
        broken = tree.failures(named, *options, hang_s=300) if named else []
        report = tree.report() if named else ""
        for took_s, test in re.findall(r"(?m)^ *([\d.]+)s \w+ +(tests/[\w/]+\.py::\w+)", report):
            hang_s = max(MIN_HANG_S, HANG_FACTOR * float(took_s))
            self._hang_s[test] = max(hang_s, self._hang_s.get(test, 0))
        self._broken = tree.failures(broken, hang_s=300) if broken else []  # one at a time
        skipped = set(re.findall(r" SKIPPED (tests/[\w/]+\.py::\w+)", report))
        skipped -= set(re.findall(r" (?:PASSED|FAILED|ERROR) (tests/[\w/]+\.py::\w+)", report))
        print(f"{len(skipped)} of them are skipped here, and their patches not checked")
        return [patch for patch in patches if patch.tests not in skipped]

    def judge(self, patches: list[Patch], *, is_search: bool = False) -> Iterator[Verdict]:
        """Yield a verdict for each patch, as soon as it is known."""
        killer_of = self._search if is_search else self._killer
        with ThreadPoolExecutor(len(self._trees)) as pool:
            try:
                calls = [pool.submit(self._timed, killer_of, patch) for patch in patches]
                for call in as_completed(calls):
                    yield call.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                for tree in self._trees:
                    tree.end()

    def _timed(self, killer_of: Callable[[Tree, Patch], str | None], patch: Patch) -> Verdict:
        tree = self._free.get()
        begun_s = time.monotonic()
        killer, error = None, ""
        try:
            killer = killer_of(tree, patch)
        except UnclearError as unclear:
            error = str(unclear)
        finally:
            self._free.put(tree)
        return Verdict(patch, killer, time.monotonic() - begun_s, error)

    def _killer(self, tree: Tree, patch: Patch) -> str | None:
        """The test that the patch names, if it fails with the patch."""
        tests = existing(patch.tests)
        if not tests:
            raise UnclearError(f"there is no test {patch.tests}")
        if patch.tests in self._broken:
            raise UnclearError(f"{patch.tests} fails without the patch, too")
        hang_s = self._hang_s.get(patch.tests, MIN_HANG_S)
        with tree.patched(patch):
            failed = tree.failures(tests, "-x", hang_s=hang_s)
            if not tree.was_imported():
                raise UnclearError("its module is not imported")
        return next(iter(failed), None)

    def _search(self, tree: Tree, patch: Patch) -> str | None:
        """Look for a test that fails with the patch."""
        paths = dict.fromkeys(test.partition("::")[0] for test in patch.tests.split())
        room = f"tests/{patch.module.partition('/')[0]}"
        found = None
        with tree.patched(patch):
            for test in (*existing(patch.tests), *paths, room):
                if found is None and (TOP / test.partition("::")[0]).exists():
                    found = next(iter(tree.failures([test], "-x")), None)
        return found


def _write(module: Path, text: str) -> None:
    stamp_s = next(_stamps)
    module.write_text(text, encoding="utf-8")
    os.utime(module, (stamp_s, stamp_s))


def main(wanted: list[str], *, share: float, seed: int, workers: int, searches: bool) -> int:
    chosen = [
        patch
        for patch in PATCHES
        if not wanted or any(text in patch.name or text in patch.module for text in wanted)
    ]
    if not chosen:
        sys.exit(f"no patch has a name or a module that contains {' or '.join(map(repr, wanted))}")
    if share < 100:
        chosen = random.Random(seed).sample(chosen, max(1, round(len(chosen) * share / 100)))
        print(f"a share, by --share {share:g} --seed {seed}")
    begun_s = time.monotonic()
    place = fast_directory("mutation-")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    verdicts: list[Verdict] = []
    try:
        check = Check([Tree(place / str(number)) for number in range(workers)])
        if not searches:
            chosen = check.run_unpatched(chosen)
        for verdict in check.judge(chosen, is_search=searches):
            verdicts.append(verdict)
            print_verdict(verdict, len(verdicts), len(chosen))
            if searches and verdict.killer is not None:
                write_name(verdict)
    except KeyboardInterrupt:
        print("interrupted")
    finally:
        subprocess.run(["rm", "-rf", place], check=False)
    print_figures(verdicts)
    killed = sum(verdict.killer is not None for verdict in verdicts)
    took = timedelta(seconds=round(time.monotonic() - begun_s))
    print(f"{killed} of {len(chosen)} killed in {took}")
    return 0 if killed == len(chosen) else 1


def print_verdict(verdict: Verdict, number: int, count: int) -> None:
    what = verdict.killer or verdict.error or "SURVIVED"
    patch = verdict.patch
    print(
        f"{number:3} of {count}, {verdict.took_s:5.1f} s, {patch.module}: {patch.name}: {what}",
        flush=True,
    )


def print_figures(verdicts: list[Verdict]) -> None:
    """Print how many patches of each room are killed, and which are not."""
    rooms: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        rooms.setdefault(verdict.patch.module.rpartition("/")[0] or "(root)", []).append(verdict)
    for room, found in sorted(rooms.items()):
        killed = sum(verdict.killer is not None for verdict in found)
        print(f"{killed:4} of {len(found):4} killed in {room}")
    for verdict in verdicts:
        patch = verdict.patch
        if verdict.error:
            print(f"error: {patch.module}: {patch.name}: {verdict.error}")
        elif verdict.has_survived:
            print(f"survived: {patch.module}: {patch.name}: {patch.tests}")


def existing(tests: str) -> list[str]:
    """The tests that a patch names, except those that are gone."""
    found = []
    for test in tests.split():
        path, _, name = test.partition("::")
        if (TOP / path).exists():
            text = (TOP / path).read_text(encoding="utf-8") if name else ""
            found += [test] * (not name or f"def {name}(" in text)
    return found


def write_name(verdict: Verdict) -> None:
    """Write the name of the test that kills a patch into the patch."""
    places = Path(__file__).parent
    for path in (places / "patches.py", *sorted((places / "areas").glob("*.py"))):
        text = path.read_text(encoding="utf-8")
        for call in ast.walk(ast.parse(text)):
            if (
                isinstance(call, ast.Call)
                and len(call.args) == len(Patch._fields)
                and ast.literal_eval(call.args[0]) == verdict.patch.name
            ):
                lines = text.splitlines(keepends=True)
                tests = call.args[-1]
                begin, end = tests.lineno - 1, (tests.end_lineno or tests.lineno) - 1
                before = lines[begin].encode()[: tests.col_offset].decode()
                after = lines[end].encode()[tests.end_col_offset :].decode()
                lines[begin : end + 1] = [f'{before}"{verdict.killer}"{after}']
                path.write_text("".join(lines), encoding="utf-8")
                return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", nargs="*", help="only patches whose name or module contains one")
    parser.add_argument("--share", type=float, default=100, metavar="PERCENT", help="at random")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the share")
    cores = os.cpu_count() or 1
    parser.add_argument("--workers", type=int, default=cores + (cores + 1) // 2, metavar="N")
    parser.add_argument("--search", action="store_true", help="see above")
    asked = parser.parse_args()
    sys.exit(
        main(
            asked.text,
            share=asked.share,
            seed=asked.seed,
            workers=asked.workers,
            searches=asked.search,
        )
    )

"""Take away what the promise rests on, thing by thing, and see that some test fails for each.

    python tests/mutation/check.py                 all patches
    python tests/mutation/check.py "a commit"      those whose name or module contains the text
    python tests/mutation/check.py --tenth         a random tenth of them
    python tests/mutation/check.py --write-hints   then write the killers into the patches

First phase: each patch with the tests that it names. Second phase, for patches that pass these tests:
the tests of the module's room, then the whole suite. Each worker patches its own copy of the repository.

A patch is an error, not a survivor, if no process imported the patched module, and so are tests that
fail without a patch. Prints the test that killed each patch, and at the end the figures of each room,
the survivors, and the patches that don't name their killer. The exit code is 1 if there is a
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
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from mutation.patch import Patch
from mutation.patches import PATCHES
from support.memory import fast_directory

TOP = Path(__file__).parents[2]
PARTS = ("journal", "tests", "benchmarks", "pyproject.toml", "README.md", "CHANGELOG.md", ".ci")
TIMEOUT_S = 1800  # of the whole suite in one process
HANG_S = 40  # a test that waits for what a patch has taken away

# Bytecode is used as long as its source has the same time, in seconds: each patch gets another one.
_stamps = itertools.count(1_000_000_000)


class Verdict(NamedTuple):
    patch: Patch
    killer: str | None  # the test that fails; None if none does
    took_s: float
    error: str = ""  # why neither counts


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
        before, at_ns = module.read_text(encoding="utf-8"), module.stat().st_mtime_ns
        if before.count(patch.old) != 1:
            raise UnclearError(f"its text stands {before.count(patch.old)} times in the module")
        noting = f"try: open({str(self._imported)!r}, 'w').close()\nexcept OSError: pass"
        first_import = re.compile(r"^(?=import |from (?!__future__))", re.MULTILINE)
        after = before.replace(patch.old, patch.new)
        after = first_import.sub(lambda _: f"exec({noting!r})\n", after, count=1)
        stamp_s = next(_stamps)
        try:
            module.write_text(after, encoding="utf-8")
            os.utime(module, (stamp_s, stamp_s))
            yield
        finally:
            module.write_text(before, encoding="utf-8")
            os.utime(module, ns=(at_ns, at_ns))
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

    def failures(self, tests: list[str], *options: str) -> list[str]:
        """The tests that fail, without their parameters."""
        command = [sys.executable, "-m", "pytest", "-v", "-rfE", "-p", "no:cacheprovider", *options]
        command += ["--basetemp", str(self.directory / "temporary"), "--tb=no"]
        command += ["--hypothesis-profile", "mutation", *tests]
        command += ["-o", f"faulthandler_timeout={HANG_S}"]
        command += ["-o", "faulthandler_exit_on_timeout=true"]
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
        text = report.read_text(encoding="utf-8", errors="replace")
        if code == 0:
            return []
        test = r"(tests/\S+?\.py(?:::\w+)*)"
        found = re.findall(rf"^(?:FAILED|ERROR) {test}", text, re.MULTILINE)
        if not found and "Timeout (" in text:  # the last test that began hangs
            found = re.findall(rf"^{test}", text, re.MULTILINE)[-1:]
        if not found:
            raise UnclearError(f"pytest {tests} ended with {code}: {text[-1000:]}")
        return list(dict.fromkeys(found))


def main(wanted: str, *, seed: int | None, workers: int, writes_hints: bool) -> int:
    chosen = [patch for patch in PATCHES if wanted in patch.name or wanted in patch.module]
    if not chosen:
        sys.exit(f"no patch has a name or a module that contains {wanted!r}")
    if seed is not None:
        print(f"a tenth, by --seed {seed}")
        chosen = random.Random(seed).sample(chosen, -(-len(chosen) // 10))
    begun_s = time.monotonic()
    place = fast_directory("mutation-")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        verdicts = judge(chosen, [Tree(place / str(number)) for number in range(workers)])
    finally:
        shutil.rmtree(place, ignore_errors=True)
    stale = [verdict for verdict in verdicts if verdict.killer not in {None, verdict.patch.tests}]
    for verdict in stale:
        print(f"not named: {verdict.killer} kills {verdict.patch.name!r}")
        if writes_hints:
            write_hint(verdict)
    figures = Counter(verdict.patch.module.rpartition("/")[0] or "(root)" for verdict in verdicts)
    survived = [verdict for verdict in verdicts if verdict.killer is None and not verdict.error]
    errors = [verdict for verdict in verdicts if verdict.error]
    for room, count in sorted(figures.items()):
        lost = [one for one in (*survived, *errors) if one.patch.module.rpartition("/")[0] == room]
        print(f"{count - len(lost):4} of {count:4} killed in {room}")
    killed = len(verdicts) - len(survived) - len(errors)
    took = timedelta(seconds=round(time.monotonic() - begun_s))
    print(f"{killed} of {len(chosen)} killed in {took}")
    for verdict in survived:
        print(f"survived: {verdict.patch.module}: {verdict.patch.name}")
    for verdict in errors:
        print(f"error: {verdict.patch.module}: {verdict.patch.name}: {verdict.error}")
    return 1 if survived or errors else 0


def judge(chosen: list[Patch], trees: list[Tree]) -> list[Verdict]:
    named = sorted({test for patch in chosen for test in existing(patch.tests)})
    broken = trees[0].failures(named, "-n", str(len(trees))) if named else []
    broken = trees[0].failures(broken) if broken else []  # one at a time
    if broken:
        sys.exit(f"without any patch, these tests fail: {' '.join(broken)}")
    free: queue.SimpleQueue[Tree] = queue.SimpleQueue()
    for tree in trees:
        free.put(tree)

    def check(patch: Patch, *, is_last: bool) -> Verdict:
        tree = free.get()
        begun_s = time.monotonic()
        try:
            return verdict_of(patch, tree, is_last=is_last)
        except UnclearError as error:
            return Verdict(patch, None, time.monotonic() - begun_s, str(error))
        finally:
            free.put(tree)

    verdicts = []
    with ThreadPoolExecutor(len(trees)) as pool:
        try:
            for is_last in (False, True):
                print(f"{'the second' if is_last else 'the first'} phase: {len(chosen)} patches")
                done = pool.map(partial(check, is_last=is_last), chosen)
                chosen = []
                for number, verdict in enumerate(done, 1):
                    what = verdict.killer or verdict.error or ("SURVIVED" if is_last else "later")
                    print(
                        f"{number:3} {verdict.took_s:5.1f} s "
                        f"{verdict.patch.module}: {verdict.patch.name}: {what}",
                        flush=True,
                    )
                    if is_last or what != "later":
                        verdicts.append(verdict)
                    else:
                        chosen.append(verdict.patch)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for tree in trees:
                tree.end()
            raise
    return verdicts


def verdict_of(patch: Patch, tree: Tree, *, is_last: bool) -> Verdict:
    """Run a patch's own tests, or in the last phase the other ones."""
    begun_s = time.monotonic()
    room = f"tests/{patch.module.partition('/')[0]}"
    wanted = [existing(patch.tests)]
    if is_last:
        others = [path for path in files_of(patch.tests) if path not in patch.tests.split()]
        wanted = [others, [room] * (TOP / room).is_dir(), ["tests", "--ignore=tests/mutation"]]
    killer, error = None, ""
    with tree.patched(patch):
        for tests in filter(None, wanted):
            killer = next(iter(tree.failures(tests, "-x")), None)
            if killer is None:
                continue
            if killer != patch.tests and not tree.failures([killer], "-x"):
                killer, error = None, f"{killer} failed once, and then not"
            break
        was_imported = tree.was_imported()
    if killer is not None and killer != patch.tests and tree.failures([killer]):
        killer, error = None, f"{killer} fails without the patch, too"
    if not was_imported and (killer or is_last):
        killer, error = None, f"no test imports it ({killer})"
    return Verdict(patch, killer, time.monotonic() - begun_s, error)


def existing(tests: str) -> list[str]:
    """The tests that a patch names, except those that are gone."""
    found = []
    for test in tests.split():
        path, _, name = test.partition("::")
        if (TOP / path).exists():
            text = (TOP / path).read_text(encoding="utf-8") if name else ""
            found += [test] * (not name or f"def {name}(" in text)
    return found


def files_of(tests: str) -> list[str]:
    paths = dict.fromkeys(test.partition("::")[0] for test in tests.split())
    return [path for path in paths if (TOP / path).exists()]


def write_hint(verdict: Verdict) -> None:
    """Write the killer into the patch's text, as the test that it names."""
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
    parser.add_argument("text", nargs="*", help="only patches whose name or module contains this")
    parser.add_argument("--tenth", action="store_true", help="only a random tenth of them")
    parser.add_argument("--seed", type=int, help="of the tenth that is chosen; with --tenth only")
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1), metavar="N")
    parser.add_argument("--write-hints", action="store_true", help="see above")
    asked = parser.parse_args()
    chosen_seed = (asked.seed or random.randrange(10**6)) if asked.tenth else None
    sys.exit(
        main(
            " ".join(asked.text),
            seed=chosen_seed,
            workers=asked.workers,
            writes_hints=asked.write_hints,
        )
    )

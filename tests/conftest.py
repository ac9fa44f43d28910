"""What all tests share by pytest's own rules."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash.fault_disk import NO_FAULT_DISK
from hypothesis import Phase, settings
from support import syncs
from support.activation import Injected
from support.clock import Clock
from support.memory import directory_in_memory
from support.paths import TESTS
from support.platforms import (
    IS_WINDOWS,
    NO_CLUSTER,
    NOT_HERE,
    ONLY_LONG,
    WINDOWS_ONLY,
    needs_shell,
    skip_without,
)

# For the mutation check: whether an example fails is all it asks, and shrinking takes minutes. The
# same examples each time, so that a patch that was killed is killed again.
settings.register_profile(
    "mutation", phases=[Phase.explicit, Phase.generate], derandomize=True, database=None
)


def pytest_configure() -> None:
    """Prepare what the tests' own processes inherit.

    Temporary files are made in memory, unless TMPDIR is set. Syncs return at once. Bytecode is kept: each of thousands of processes would compile the package. Signals
    that are ignored, as those of a program that nohup has started, are not.
    """
    memory = directory_in_memory()
    if "TMPDIR" not in os.environ and memory is not None:
        os.environ["TMPDIR"] = str(memory)
        tempfile.tempdir = None  # forget the directory that was found before
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    syncs.skip_syncs()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "win32":
        for number in (signal.SIGHUP, signal.SIGQUIT):
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Hide the tests themselves from the garbage collector.

    They are half a million objects. With them, each `gc.collect` of a test takes 0.2 s, and so does
    each full collection while they are made.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """With ``-n auto``, run three workers for two cores: a quarter of a worker's time is waiting."""
    cores = yield
    return cores if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else cores + (cores + 1) // 2


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Forget what the setup of an earlier test has injected, and then failed."""
    Injected.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Fail a test if a fault that it has injected never took effect."""
    try:
        yield
    finally:
        taken, never = Injected.end()
    assert not never, f"injected, and never took effect: {', '.join(never)}"
    if taken:
        item.user_properties.append(("count: single system calls with a fault", taken))


@pytest.fixture(name="count")
def fixture_count(request: pytest.FixtureRequest) -> Callable[[str, int], None]:
    """``count("kills", 20)``: so many things of a kind were tried; the end of the run tells the sum."""

    def count(what: str, number: int) -> None:
        request.node.user_properties.append((f"count: {what}", number))

    return count


@pytest.fixture(name="real_syncs")
def fixture_real_syncs() -> Iterator[None]:
    """Syncs reach the disk, in processes that the test starts, too."""
    syncs.make_syncs_real()
    yield
    syncs.skip_syncs()


@pytest.fixture(name="clock")
def fixture_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which runs in this process end attempts that take too long, or notice stalls."""
    clock = Clock()
    for module in ("workers.in_flight", "workers.termination", "pacing.stall_warning"):
        monkeypatch.setattr(f"journal.run.{module}.monotonic", clock)
    return clock


# What the tests run as the commands of users. Here are batch files that do the same on Windows, of
# programs that need no shell.
_STAND_INS = TESTS / "support" / "programs"
_TOOLS_OF_POSIX = {
    "bash",
    "cat",
    "echo",
    "false",
    "head",
    "printf",
    "sh",
    "sleep",
    "test",
    "timeout",
    "touch",
    "true",
}


@pytest.fixture(autouse=IS_WINDOWS)
def _tools_of_posix(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, skip a test as soon as a tool of POSIX is looked up, to be run, or started.

    A test of a command that is refused before doesn't get so far. For some tools, `journal run`
    finds batch files.
    """
    which, start = shutil.which, subprocess.Popen.__init__
    stand_ins = {path.stem for path in _STAND_INS.glob("*.cmd")}
    directories = [str(_STAND_INS), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(directories))

    def look_up(name: str, *arguments: Any, **options: Any) -> str | None:
        _skip_for({name} - stand_ins)
        return which(name, *arguments, **options)

    def begin(self: Any, words: Any, *arguments: Any, **options: Any) -> None:
        if isinstance(words, list):  # of `journal run`, the command is after --
            rows = {words[at + 1] for at in range(len(words)) if words[at] == "--"}
            _skip_for({words[0], *(rows - stand_ins)})
        start(self, words, *arguments, **options)

    monkeypatch.setattr(shutil, "which", look_up)
    monkeypatch.setattr(subprocess.Popen, "__init__", begin)


def _skip_for(programs: set[str]) -> None:
    if not _TOOLS_OF_POSIX.isdisjoint(programs):
        skip_without(needs_shell)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    sums: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", ()):
            if name.startswith("count: ") and report.when == "call":
                sums[name.removeprefix("count: ")] += value
    if sums:
        terminalreporter.section("tried")
        for what, number in sorted(sums.items()):
            terminalreporter.write_line(f"{number:>9,} {what}")
    skipped = Counter(why for _, why in skips(terminalreporter))
    if skipped:
        terminalreporter.section(f"skipped: {skipped.total()}, by reason")
        for why, number in skipped.most_common():
            terminalreporter.write_line(f"{number:>9,} {why}")
    for reason in unexpected_skips(terminalreporter):
        terminalreporter.write_line(f"skipped, and NO_SKIPS is set: {reason}")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With NO_SKIPS=1 a test that is skipped fails the run, but for want of a disk with faults or a cluster.

    Tests of Windows may be skipped elsewhere. On Windows and macOS, tests of what these systems
    don't have may be skipped, too.
    """
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and unexpected_skips(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def skips(reporter: pytest.TerminalReporter) -> list[tuple[str, str]]:
    """Where a test was skipped, and why, for each of them."""
    found = []
    for report in reporter.stats.get("skipped", []):
        if isinstance(report.longrepr, tuple):
            path, line, why = report.longrepr
            found.append((f"{path}:{line}", why.removeprefix("Skipped: ")))
    return found


def unexpected_skips(reporter: pytest.TerminalReporter) -> list[str]:
    if not os.environ.get("NO_SKIPS"):
        return []
    windows_only = f"{NOT_HERE}{WINDOWS_ONLY}"
    not_here = windows_only if sys.platform == "linux" else NOT_HERE
    expected = (NO_FAULT_DISK, NO_CLUSTER, ONLY_LONG, not_here)
    unexpected = {(where, why) for where, why in skips(reporter) if not why.startswith(expected)}
    return sorted(f"{where}: {why}" for where, why in unexpected)

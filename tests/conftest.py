"""What all tests share by pytest's own rules."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from crash.fault_disk import NO_FAULT_DISK
from hypothesis import Phase, settings

# For the mutation check: whether an example fails is all it asks, and shrinking takes minutes.
settings.register_profile("no-shrinking", phases=[Phase.explicit, Phase.generate])


def pytest_configure() -> None:
    """Started in the background, as by nohup, the tests' own processes would ignore what is sent to them."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(
                number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            )


@pytest.fixture(name="count")
def fixture_count(request: pytest.FixtureRequest) -> Callable[[str, int], None]:
    """``count("kills", 20)``: so many things of a kind were tried; the end of the run tells the sum."""

    def count(what: str, number: int) -> None:
        request.node.user_properties.append((f"count: {what}", number))

    return count


@pytest.fixture(name="place")
def fixture_place() -> Iterator[Path]:
    """A directory in memory where there is one, for a test that makes very many files.

    For a test in which no power is cut: a disk would take minutes.
    """
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK)
    with TemporaryDirectory(dir=memory if usable else None) as directory:
        yield Path(directory)


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
    for reason in unexpected_skips(terminalreporter):
        terminalreporter.write_line(f"skipped, and NO_SKIPS is set: {reason}")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With NO_SKIPS=1 a test that is skipped fails the run, but for want of a disk with faults."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and unexpected_skips(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def unexpected_skips(reporter: pytest.TerminalReporter) -> list[str]:
    if not os.environ.get("NO_SKIPS"):
        return []
    skipped = [report.longrepr for report in reporter.stats.get("skipped", [])]
    reasons = [f"{path}:{line}: {why.removeprefix('Skipped: ')}" for path, line, why in skipped]
    return sorted(reason for reason in set(reasons) if NO_FAULT_DISK not in reason)

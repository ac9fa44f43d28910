"""What all sides of a work share: the data, the sizes, the clock and the directories."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

JOB = "bench"
TRACKING_NUMBER = "1Z999AA10123456784"
COST_CENTS = 1250
LOCK_TIMEOUT_S = 60.0  # for ours and for sqlite3's busy timeout: 32 threads want one lock
JOURNAL = "import sys; from journal.__main__ import main; sys.exit(main())"  # its console script

_SOURCES = Path(__file__).resolve().parent.parent


def row_dicts(count: int) -> Iterator[dict[str, Any]]:
    """The rows' data. Everybody starts from these dicts."""
    for number in range(1, count + 1):
        yield {"order": f"A-{number}", "zip": "94107"}


def row_ids(count: int) -> list[str]:
    return [f"{JOB}:{number}" for number in range(1, count + 1)]


# On a machine that is busy with other work, the time of the process' CPU says more.
_now_s = time.process_time if os.environ.get("BENCHMARKS_CPU") else time.perf_counter


class Clock:
    """``with Clock() as clock: ...``; ``clock.s`` is how long it took. Collects garbage before."""

    def __init__(self) -> None:
        self.s = 0.0
        self._begin = 0.0

    def __enter__(self) -> Self:
        gc.collect()
        self._begin = _now_s()
        return self

    def __exit__(self, *_: object) -> None:
        self.s = _now_s() - self._begin


class Setting:
    """Where to work, and how much. What is measured again and again is built once and kept."""

    def __init__(self, root: Path, scale: float = 1.0) -> None:
        self._root = root
        self._scale = scale

    def count(self, number: int, least: int = 20) -> int:
        """``number`` at the scale of this run."""
        return max(round(number * self._scale), least)

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """An empty directory, which is removed afterwards."""
        directory = Path(tempfile.mkdtemp(dir=self._root))
        try:
            yield directory
        finally:
            shutil.rmtree(directory)

    def kept(self, name: str, build: Callable[[Path], None]) -> Path:
        """A directory that ``build`` has filled; built at its first use in this run."""
        directory = self._root / name
        if not directory.exists():
            with self.fresh() as made:
                build(made)
                os.rename(made, directory)
                made.mkdir()  # for `fresh` to remove
            os.sync()  # or its dirty pages would be written during what is measured next
        return directory


def start_python(*arguments: str, stdin: bytes = b"") -> str:
    """What a new Python process, which finds these modules, has printed."""
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program is compiled once
    path = os.pathsep.join(filter(None, (str(_SOURCES), environment.get("PYTHONPATH"))))
    done = subprocess.run(
        (sys.executable, *arguments),
        env={**environment, "PYTHONPATH": path},
        input=stdin,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{arguments} ended with {done.returncode}:\n{done.stderr.decode()}")
    return done.stdout.decode()


def in_child(module: str, *arguments: str) -> float:
    """The figure that ``python -m module arguments`` prints as its last line."""
    return float(json.loads(start_python("-m", module, *arguments).splitlines()[-1]))

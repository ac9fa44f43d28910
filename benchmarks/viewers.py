"""What a live view costs the run that it shows: `python -m benchmarks.viewers`.

A run of 10,000 trivial rows a second, alone and beside two `journal watch`, in turns. The run's processor time is the
measure, since its time depends on how many processors are free.
"""

from __future__ import annotations

import os
import pty
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROWS = 60_000
ROUNDS = 7
VIEWERS = 2
_RUN = """
import sys, time
import journal
job = journal.open_job(sys.argv[1], [{"n": n} for n in range(int(sys.argv[2]))])
sys.stdout.write("made\\n"); sys.stdout.flush(); sys.stdin.readline()
began_s, spent_s = time.perf_counter(), time.process_time()
job.run(lambda row: row.data["n"], progress=False, workers=4, rate="10000/s")
print(time.perf_counter() - began_s, time.process_time() - spent_s)
"""


@contextmanager
def viewer(job: Path) -> Iterator[None]:
    """A `journal watch` on a terminal, whose output is read and dropped."""
    ours, there = pty.openpty()
    words = [sys.executable, "-m", "journal", "watch", str(job)]
    process = subprocess.Popen(words, stdin=there, stdout=there, stderr=there)
    os.close(there)

    def drain() -> None:
        with suppress(OSError):
            while os.read(ours, 1 << 16):
                pass

    reader = threading.Thread(target=drain)
    reader.start()
    yield
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    spent_s.append(used.ru_utime + used.ru_stime)
    reader.join()
    os.close(ours)


spent_s: list[float] = []  # of each viewer


def measure(viewers: int) -> tuple[float, float]:
    """The time and the processor time of a run beside so many viewers."""
    with tempfile.TemporaryDirectory() as root:
        job = Path(root, "job")
        words = [sys.executable, "-c", _RUN, str(job), str(ROWS)]
        pipe = subprocess.PIPE
        run = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True)
        assert run.stdout is not None
        assert run.stdin is not None
        run.stdout.readline()
        made = [viewer(job) for _ in range(viewers)]
        for each in made:
            each.__enter__()
        run.stdin.write("\n")
        run.stdin.flush()
        took_s, used_s = map(float, run.stdout.readline().split())
        run.wait()
        for each in made:
            each.__exit__(None, None, None)
    return took_s, used_s


def main() -> None:
    found: dict[int, list[tuple[float, float]]] = {0: [], VIEWERS: []}
    measure(0)
    for _ in range(ROUNDS):
        for viewers, times in found.items():
            times.append(measure(viewers))
    medians = {
        n: [statistics.median(each) for each in zip(*times, strict=True)]
        for n, times in found.items()
    }
    for viewers, (took_s, used_s) in medians.items():
        print(
            f"{viewers} viewers: {took_s:.2f} s, {ROWS / took_s:,.0f} rows/s; CPU of the run {used_s:.3f} s"
        )
    (took, used), (alone_s, alone) = medians[VIEWERS], medians[0]
    print(f"ratio: time {took / alone_s:.3f}, CPU of the run {used / alone:.3f}")
    share = statistics.median(spent_s) / took
    print(
        f"CPU of a viewer, with its start: {statistics.median(spent_s):.2f} s ({share:.0%} of a core)"
    )


if __name__ == "__main__":
    main()

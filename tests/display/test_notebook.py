"""A run in a real kernel: what its cells show, and what an interrupt of the kernel does."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.examples import blocks_of
from support.paths import TOP

pytest.importorskip("ipykernel")
manager = pytest.importorskip("jupyter_client.manager")

SETUP = """
import asyncio, threading, time
import journal
import journal.run.workers.termination

journal.run.workers.termination.GRACE_S = 0.1

gate = threading.Event()
gate.set()

def rows():
    return [{"n": n} for n in range(1, 31)]

def open_gate(text):
    print(text)
    gate.set()

def handle(row):
    if row.data["n"] == 3 and not gate.is_set():
        print("it waits")
        gate.wait(60)
    return row.data["n"]

async def handle_async(row):
    if row.data["n"] == 3 and not gate.is_set():
        print("it waits")
        await asyncio.to_thread(gate.wait, 60)
    return row.data["n"]

async def hang_at_3(row):
    await asyncio.sleep(1000 if row.data["n"] == 3 else 0)

async def ignore_at_3(row):
    if row.data["n"] == 3 and not gate.is_set():
        print("it waits")
    while row.data["n"] == 3 and not gate.is_set():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            pass

def hold_at_3(row):
    if row.data["n"] == 3 and not gate.is_set():
        raise journal.Hold("Busy", after_s=1000)

def hang_once_it_is_stopped(text):
    shown = 0
    while "waiting for the rows in flight" in text:
        if job._runs[0].count > shown:
            shown = job._runs[0].count
            print("interrupts:", shown)
        time.sleep(0.001)
"""


class Kernel:
    """A kernel in a directory of its own. ``shown``: what the last cell has shown, in order."""

    def __init__(self, directory: Path) -> None:
        self._manager, self._client = manager.start_new_kernel(
            cwd=str(directory), env={**os.environ, "PYTHONPATH": str(TOP)}
        )
        self.shown: list[str] = []
        self.html: list[str] = []

    def run(self, code: str, *interrupt_at: str) -> str:
        """Run a cell, and return what it shows. Interrupt it as soon as it shows these texts."""
        self.shown, self.html = [], []
        waits = list(interrupt_at)
        cell = self._client.execute(code)
        while True:
            message = self._client.get_iopub_msg(timeout=60)
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != cell:
                continue
            if kind == "status" and content["execution_state"] == "idle":
                break
            if kind in ("stream", "error"):
                self.shown.append(content.get("text") or "\n".join(content["traceback"]))
            elif "data" in content:
                self.shown.append(f"{kind}: {content['data']['text/plain']}\n")
                self.html.append(content["data"].get("text/html", ""))
            if waits and waits[0] in "".join(self.shown):
                waits.pop(0)
                self._manager.interrupt_kernel()
        assert waits == [], self.shown
        return "".join(self.shown)

    def restart_at(self, text: str, code: str) -> None:
        """Run a cell, and restart the kernel as soon as it shows this text."""
        self._client.execute(code)
        while text not in str(self._client.get_iopub_msg(timeout=60)["content"].get("text")):
            pass
        self._manager.restart_kernel(now=True)
        self._client.wait_for_ready(timeout=60)
        assert self.run(SETUP) == ""

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()


@pytest.fixture(name="kernel", scope="module")
def fixture_kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    directory = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
            patch.setenv(name, str(directory / name))
        kernel = Kernel(directory)
        try:
            assert kernel.run(SETUP) == ""
            yield kernel
        finally:
            kernel.close()


def opened(job_id: str) -> str:
    return f'job = journal.open_job("jobs/{job_id}", rows(), key="n")\n'


@pytest.mark.parametrize(
    ("job_id", "run"), [("plain", "job.run(handle"), ("awaited", "await job.arun(handle_async")]
)
def test_an_interrupt_of_a_cell_drains_and_the_cell_run_again_continues(
    kernel: Any, job_id: str, run: str
) -> None:
    kernel.run("gate.clear()")
    cell = f"{opened(job_id)}{run}, tell=open_gate)"
    shown = kernel.run(cell, "it waits")
    waits = f"{job_id}: pausing; waiting for the rows in flight (1); "
    assert f"{waits}a further interrupt of the kernel ends them\n" in shown
    assert "to continue: run this cell again\n" in shown
    assert f"execute_result: <RunReport {job_id}: paused, 3 of 30 rows done; " in shown
    shown = kernel.run(cell)
    assert f"execute_result: <RunReport {job_id}: completed, 30 of 30 rows done; " in shown
    attempts = kernel.run("print({row.attempts for row in job.rows()}, job.job.last_run.argv)")
    assert attempts == "{1} ()\n"


@pytest.mark.parametrize("run", ["job.run", "await job.arun"])
def test_a_second_interrupt_ends_the_rows_in_flight_in_words_of_a_notebook(
    kernel: Any, run: str
) -> None:
    job_id = f"hang-{run.rsplit('.', maxsplit=1)[-1]}"
    shown = kernel.run(
        f"{opened(job_id)}{run}(hang_at_3, on_progress=lambda job: "
        "job.successful_rows == 2 and print('it hangs'))",
        *("it hangs", "waiting for the rows in flight"),
    )
    assert "a further interrupt of the kernel kills them\n" in shown
    assert "2 of 30 rows done, 1 need review" in shown
    assert "Ctrl-C" not in shown
    assert "kernel_launcher" not in shown


ONCE = ["it waits"]
TWICE = [*ONCE, "waiting for the rows in flight"]
THRICE = [*TWICE, "ending the rows in flight"]
IN_TELL = [*ONCE, "interrupts: 1", "interrupts: 2", "interrupts: 3"]


@pytest.mark.parametrize(
    ("run", "interrupt_at", "says"),
    [
        ("job.run(hold_at_3)", ["Busy"], ": paused, 2 of 30 rows done; "),
        ("job.run(handle, tell=open_gate, handle_signals=False)", ONCE, "KeyboardInterrupt"),
        ("job.run(ignore_at_3, handle_signals=False)", TWICE, "KeyboardInterrupt"),
        ("job.run(ignore_at_3)", THRICE, ": paused, 2 of 30 rows done, 1 need review"),
        ("await job.arun(ignore_at_3)", THRICE, ": paused, 2 of 30 rows done, 1 need review"),
        ("job.run(handle, tell=hang_once_it_is_stopped)", IN_TELL, "KeyboardInterrupt"),
    ],
)
def test_however_a_cell_is_interrupted_its_run_has_ended_with_it_and_the_next_cell_continues(
    kernel: Kernel, run: str, interrupt_at: list[str], says: str
) -> None:
    open_it = opened(re.sub("[^a-z]+", "-", run.lower()).strip("-"))
    kernel.run("gate.clear()")
    assert says in kernel.run(open_it + run, *interrupt_at)
    # A driver that was asked to stop three times may be in its last instructions.
    drivers = (
        '[t for t in threading.enumerate() if t.name == "journal-driver"'
        " and [t.join(30), t.is_alive()][1]]"
    )
    assert kernel.run(f"print({drivers}, job.service.run_holder(job.id))") == "[] None\n"
    shown = kernel.run(f"gate.set()\n{open_it}report = job.run(handle)\nprint(report.job)")
    is_done = interrupt_at in (ONCE, ["Busy"])
    assert f"{'completed, 30' if is_done else 'failed, 29'} of 30 rows done" in shown
    attempts = kernel.run("print({row.attempts for row in job.rows()})")
    assert attempts == ("{1, 2}\n" if "hold" in run else "{1}\n")


@pytest.mark.parametrize("run", ["job.run(handle", "await job.arun(handle_async"])
def test_a_kernel_that_is_restarted_leaves_in_doubt_what_was_in_flight_and_no_more(
    kernel: Kernel, run: str
) -> None:
    job_id = f"restarted-{len(run)}"
    kernel.run("gate.clear()")
    kernel.restart_at("it waits", f"{opened(job_id)}{run})")
    shown = kernel.run(f"{opened(job_id)}report = {run})\nprint(report.job)")
    assert (
        "1 row was in flight when an earlier run died, and may have taken effect (row 3)" in shown
    )
    assert f"<Job {job_id}: failed, 29 of 30 rows done, 1 need review" in shown
    assert kernel.run("print({row.attempts for row in job.rows()})") == "{1}\n"


def test_a_cell_shows_progress_in_place_and_its_last_state_stays(kernel: Any) -> None:
    shown = kernel.run(f"{opened('shown')}report = job.run(handle)")
    first, *others = shown.splitlines()
    assert first == "display_data: shown: pending, 0 of 30 rows done"
    assert others
    assert all(line.startswith("update_display_data: shown: ") for line in others)
    assert others[-1].startswith("update_display_data: shown: completed, 30 of 30 rows done")
    assert "30 completed" in kernel.html[-1]
    assert kernel.run("job.run(handle, progress=False, tell=lambda _: None); job") == (
        "execute_result: <JobRun shown: completed, 30 of 30 rows done>\n"
    )


def test_the_cells_of_the_page_run_in_a_notebook(kernel: Any) -> None:
    cells = [block for block in blocks_of("journal/docs/asyncio.md") if "cell" in block.name]
    first, second, _task = (kernel.run(cell.text) for cell in cells)
    assert "39 completed, 1 failed\n" in first
    assert "execute_result: <RunReport fetch-nb: completed, 40 of 40 rows done" in second
    assert kernel.run("report = await task; print(report.exit_code)").endswith("0\n")

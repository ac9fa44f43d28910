"""A run in a real kernel: what its cells show, and what an interrupt of the kernel does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.examples import blocks_of
from support.paths import TOP

import journal
from journal import JobService

pytest.importorskip("ipykernel")
manager = pytest.importorskip("jupyter_client.manager")

SETUP = """
import asyncio, threading
import journal

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

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()


@pytest.fixture(name="kernel", scope="module")
def fixture_kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    directory = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
            patch.setenv(name, str(directory / name))
        kernel = Kernel(directory)
        try:
            assert kernel.run(SETUP) == ""
            yield kernel  # type: ignore[misc]
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
    assert f"{job_id}: pausing; waiting for the rows in flight (1)\n" in shown
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


def test_completion_in_a_cell_knows_the_public_names_and_no_others(kernel: Any) -> None:
    client = kernel._client
    client.complete("journal.", 8)
    names = client.get_shell_msg(timeout=60)["content"]
    while "matches" not in names:
        names = client.get_shell_msg(timeout=60)["content"]
    found = {name.removeprefix("journal.") for name in names["matches"]}
    assert set(journal.__all__) <= found
    assert not found & {"importlib", "annotations", "TYPE_CHECKING", "VERSION"}


def test_a_task_shows_progress_while_other_cells_run(kernel: Any) -> None:
    kernel.run(f"{opened('task')}task = asyncio.create_task(job.arun(handle_async))")
    shown = kernel.run("report = await task; print(report.exit_code, job)")
    assert shown.endswith("0 <JobRun task: completed, 30 of 30 rows done>\n")
    root = kernel.run("print(job.service.root)").strip()
    with JobService(root) as service:
        assert {row.attempts for row in service.get_rows("task")} == {1}


def test_the_cells_of_the_page_run_in_a_notebook(kernel: Any) -> None:
    cells = [block for block in blocks_of("journal/docs/notebooks.md") if "cell" in block.name]
    first, second, _task = (kernel.run(cell.text) for cell in cells)
    assert "39 completed, 1 failed\n" in first
    assert "execute_result: <RunReport fetch-nb: completed, 40 of 40 rows done" in second
    assert kernel.run("report = await task; print(report.exit_code)").endswith("0\n")

"""Jobs in every state are copied from Linux to Windows (wine) and back, and go on at each end::

    python tests/windows/copies.py [--python 3.11]

Both systems make the same jobs. Each job is copied to the other system, which reads it with every
command that reads, goes on with it with the commands that change it, and packs it. The same is done
on the system that made the job. What all commands print and their exit codes must be the same. Then
the job goes back, must verify, must have no CR, and the first copy must pull it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import journal
from journal import JobService
from journal.cli.main import main as main_of_journal

TREE = Path(__file__).resolve().parents[2]
STATES = ("pending", "in-flight", "paused", "failed", "review", "cancelled", "completed", "torn")
HELD = "held"
ARTIFACT = b"one\r\ntwo\n"
PRINT = "print('went on with {n}')"  # {n} is filled in by `journal run`
READS = (
    ["show", "JOB", "--json"],
    ["rows", "JOB", "--json"],
    ["errors", "JOB", "--json"],
    ["log", "JOB", "--json"],
    ["export", "JOB", "-"],
    ["verify", "JOB", "--json"],
)
CHANGES: dict[str, list[list[str]]] = {
    "pending": [["skip", "JOB", "--row", "4", "--reason", "gone"], ["RUN"]],
    "in-flight": [["RUN", "--on-interrupted", "retry"]],
    "paused": [["resume", "JOB"], ["pause", "JOB"], ["RUN"]],
    "failed": [["resume", "JOB"], ["retry", "JOB"], ["RUN"]],
    "review": [["resolve", "JOB", "--row", "2", "--completed"], ["RUN"]],
    "cancelled": [["resume", "JOB"], ["RUN"], ["cancel", "JOB"]],
    "completed": [["redo", "JOB", "--row", "1", "--yes"], ["RUN"], ["wait", "JOB"]],
    "torn": [["RUN"], ["repair", "JOB"]],
    HELD: [["RUN", "--on-interrupted", "retry"]],
}


# --- on either system --------------------------------------------------------------------------


def command(root: Path, *arguments: str) -> tuple[int, str, str]:
    """The exit code of ``journal``, and what it prints: in this process, which is faster."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n") for _ in range(2))
    os.chdir(root.parent)
    with redirect_stdout(out), redirect_stderr(err):
        code = main_of_journal(["--root", str(root), *arguments])
    printed = []
    for stream in (out, err):
        stream.flush()
        stream.seek(0)
        printed.append(stream.read())
    return code, printed[0], printed[1]


def run_words(job_id: str, *more: str, code: str = PRINT) -> list[str]:
    rows = ["run", "rows.jsonl", "--job", job_id, "--key", "n", *more]
    return [*rows, "--", sys.executable, "-c", code]


def make(root: Path) -> None:
    """Make a job in each state; this process ends without closing them."""
    rows = [{"n": n, "text": "L\u00f6wenstra\u00dfe\n2"} for n in range(1, 5)]
    (root.parent / "rows.jsonl").write_bytes(b"".join(json.dumps(r).encode() + b"\n" for r in rows))
    line = [sys.executable, "-m", "journal", "--root", str(root)]
    hold = subprocess.Popen(
        [*line, *run_words(HELD, "--hold-on", "69", code="exit(69)")],
        stderr=subprocess.PIPE,
        cwd=root.parent,
        env={**os.environ, "PYTHONPATH": str(TREE)},
    )
    assert hold.stderr is not None
    while (said := hold.stderr.readline()) and b"holding" not in said:
        pass
    hold.kill()
    hold.communicate()
    for state in STATES:
        journal.open_job(root / state, rows, key="n").close()
    service = JobService(root)
    for state in STATES[1:]:
        service.start_job(state)
        service.start_row(f"{state}:1")
        service.complete_row(f"{state}:1", "T-1", cost_cents=3)
    for number in (2, 3):
        service.start_row(f"in-flight:{number}")
    service.start_row("failed:2")
    service.fail_row("failed:2", "E7", "no such stra\u00dfe")
    service.start_row("review:2")
    service.review_row("review:2", "Unclear", "was it sent?")
    for number in range(2, 5):
        service.start_row(f"completed:{number}")
        service.complete_row(f"completed:{number}", "T")
    for state in ("paused", "failed", "cancelled", "completed"):
        service.update_status(state, state)
    with (root / "torn" / "journal.jsonl").open("ab") as file:
        file.write(b'{"type":"row_status","row":2,"sta')
    for state in (*STATES, HELD):
        (root / state / "artifacts" / "a").mkdir(parents=True)
        (root / state / "artifacts" / "a" / "label.txt").write_bytes(ARTIFACT)
    sys.stdout.flush()
    os._exit(0)


def go_on(root: Path, results: Path) -> None:
    """Run all commands on each job; write what they print, and their exit codes."""
    other = root.parent / "unpacked"
    found: dict[str, list[Any]] = {}
    for state in (*STATES, HELD):
        words = [[word.replace("JOB", state) for word in line] for line in READS]
        words += [
            run_words(state, *line[1:]) if line[0] == "RUN" else [line[0], state, *line[2:]]
            for line in CHANGES[state]
        ]
        pack = str(root.parent / f"{state}.tar.gz")
        words += [
            ["rows", state, "--columns", "row_number,status,attempts,result", "--csv"],
            ["verify", state, "--json"],
            ["pack", state, "-o", pack],
            ["pull", pack, state, "--dry-run", "--json"],
        ]
        found[state] = [_result(root, line) for line in words]
        found[state].append(_result(other, ["unpack", pack]))
        found[state].append(_result(other, ["verify", state, "--json"]))
    results.write_text(json.dumps(found), encoding="utf-8")


def come_home(root: Path, travelled: Path) -> None:
    """Each job that has gone on elsewhere verifies here, and the first copy pulls it."""
    for state in (*STATES, HELD):
        for words in (
            ["verify", state],
            ["pull", str(travelled / state)],
            ["redo", state, "--row", "3", "--yes"],
            run_words(state),
            ["verify", state],
        ):
            there = travelled if words == ["verify", state] else root
            code, out, err = command(there, *words)
            assert code == 0, (words, code, out, err)


def _result(root: Path, words: list[str]) -> list[Any]:
    """The command, its exit code, and what it prints if that is the same everywhere."""
    code, out, err = command(root, *words)
    is_same = words[0] in ("rows", "errors", "export", "log")
    return [words[0], code, out if is_same else "", err if code > 4 or code == 1 else ""]


# --- on Linux ----------------------------------------------------------------------------------


class Side:
    """One system, and a directory of its own."""

    def __init__(self, directory: Path, windows: Any = None) -> None:
        self.directory = directory
        self.root = directory / "jobs"
        self.name = "Windows" if windows else "Linux"
        self._windows = windows
        directory.mkdir()

    def _give(self) -> None:
        if self._windows:
            self._windows.give(self.directory)

    def does(self, what: str) -> None:
        self._give()
        script = self.directory.parents[1] / "tree" / "tests" / "windows" / "copies.py"
        words = [str(script), what, str(self.root)]
        if self._windows:
            from windows.run import windows_path  # noqa: PLC0415

            paths = [windows_path(Path(word)) if word[0] == "/" else word for word in words]
            status = self._windows.python(*paths, tree=self.directory)
        else:
            status = subprocess.run([sys.executable, *words], check=False).returncode
        assert status == 0, f"{self.name}: {what} ended with {status}"

    def take(self, other: Side) -> None:
        """Copy the other side's jobs here."""
        shutil.copytree(other.directory, self.directory, dirs_exist_ok=True)

    def results(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = json.loads(
            (self.directory / "results.json").read_text("utf-8")
        )
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", default="3.13")
    parser.add_argument("--into", type=Path, default=Path("/var/tmp/rowjournal-windows"))
    options = parser.parse_args()
    from windows.run import NOT_COPIED, Windows  # noqa: PLC0415  (this file runs on Windows, too)

    windows = Windows(options.into.resolve(), options.python)
    windows.set_up()
    with tempfile.TemporaryDirectory(prefix="copies-") as name:
        top = Path(name)
        top.chmod(0o755)
        shutil.copytree(TREE, top / "tree", ignore=NOT_COPIED)
        windows.give(top / "tree")
        for number, maker in enumerate((None, windows)):
            check(top / str(number), maker, windows if maker is None else None)
    return 0


def check(top: Path, maker: Any, goer: Any) -> None:
    top.mkdir()
    first, stays = Side(top / "first", maker), Side(top / "stays", maker)
    travels = Side(top / "travels", goer)
    first.does("make")
    for side in (stays, travels):
        side.take(first)
        side.does("go-on")
    expected, found = stays.results(), travels.results()
    wrong, count = [], 0
    for state, results in expected.items():
        for ours, theirs in zip(results, found[state], strict=True):
            count += 1
            if ours != theirs:
                wrong.append(f"{state}: {first.name} says {ours}, {travels.name} says {theirs}")
        if b"\r" in (travels.root / state / "journal.jsonl").read_bytes():
            wrong.append(f"{state}: a line end has changed")
        if (travels.root / state / "artifacts" / "a" / "label.txt").read_bytes() != ARTIFACT:
            wrong.append(f"{state}: an artifact has changed")
    if wrong:
        raise SystemExit("\n".join(wrong))
    shutil.copytree(travels.root, first.directory / "travelled")
    first.does("come-home")
    print(
        f"{len(found)} jobs made on {first.name}, went on on {travels.name}: {count} commands alike"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["go-on"]:
        go_on(Path(sys.argv[2]), Path(sys.argv[2]).parent / "results.json")
    elif sys.argv[1:2] == ["come-home"]:
        come_home(Path(sys.argv[2]), Path(sys.argv[2]).parent / "travelled")
    else:
        sys.exit(main())

"""`journal list`, `show`, `rows`, `verify`, `retry`: output and exit codes."""

import os
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import pytest

from journal import JobService
from journal.cli.main import main


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with a job that ended with a failed row, and a paused one."""
    path = tmp_path / "store"
    with JobService(path, sync="none") as service:
        service.create_job("Ship CA", "ship --state CA", job_id="ship-ca")
        service.create_rows("ship-ca", [{"data": {"order": f"A-{n}"}} for n in range(1, 4)])
        service.start_job("ship-ca")
        service.complete_row("ship-ca:1", "1Z999", cost_cents=1250)
        service.fail_row("ship-ca:2", "E42", "no such \x1b[31mzip\x07\u202e")
        service.skip_row("ship-ca:3", "a duplicate")
        service.update_status("ship-ca", "failed")
        service.create_job("Ship OR", job_id="ship-or")
        service.start_job("ship-or")
        service.update_status("ship-or", "paused")
    return path


def run(root: Path, *arguments: str) -> int:
    return main(["--root", str(root), *arguments])


def test_list_of_a_store_that_is_not_there_says_so_and_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "none", "list") == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "does not exist" in captured.err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", ["show", "wait", "delete"])
def test_who_names_a_directory_that_is_no_job_means_no_other(
    root: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (root / "ship-c").mkdir()
    assert run(root, command, "ship-c") == 4
    assert f"{root / 'ship-c'} is not a job: it has no journal.jsonl" in capsys.readouterr().err
    assert (root / "ship-ca" / "journal.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        pytest.param("nope", 4, "no job 'nope'", id="unknown"),
        pytest.param("", 4, "no job ''", id="empty"),
        pytest.param("../x", 4, "no job '../x'", id="traversing"),
        pytest.param("x" * 300, 4, "no job", id="over-long"),
        pytest.param("con", 4, "no job 'con'", id="reserved"),
        pytest.param("\x1b[31m", 4, r"\x1b", id="control characters"),
        pytest.param("ship", 4, "did you mean 'ship-ca'?", id="the beginning of an id"),
    ],
)
@pytest.mark.parametrize("command", ["show", "rows", "verify", "retry"])
def test_a_job_that_cannot_be_found_is_named(
    root: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    name: str,
    code: int,
    words: str,
) -> None:
    assert run(root, command, name) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert "\x1b" not in captured.err


def test_a_root_that_is_a_file_is_a_usage_error(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root / "ship-ca" / "journal.jsonl", "list") == 2
    assert "not a directory" in capsys.readouterr().err


def test_verify_reports_every_damage_and_goes_on(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "ship-ca" / "journal.jsonl"
    damaged = path.read_bytes().replace(b"A-2", b"A-9").replace(b"1250", b"1251")
    path.write_bytes(damaged)
    assert run(root, "verify", "--all") == 6
    out, err = capsys.readouterr()
    copy = "if an intact copy has all commits, use that copy (journal help damage) and don't repair"
    assert err == f"next: {copy}; else: journal --root {root} repair ship-ca\n"
    assert run(root, "show", "ship-ca") == 6
    assert copy in capsys.readouterr().err
    assert "DAMAGED  ship-ca" in out
    assert "damage: lines 2 to 4, bytes " in out
    assert "damage: line 7, bytes " in out
    assert "ok       ship-or" in out
    assert path.read_bytes() == damaged


def test_verify_advises_a_newer_version_and_no_repair_for_a_damaged_journal_of_a_newer_one(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = b'{"type":"job","format":2,"id":"ship-ca","at":"2026-11-24T13:35:00.000001Z"'
    second = b'{"type":"log","message":"m","at":"2026-11-24T13:35:00.000001Z"'
    begun = crc32(first)
    flipped = second.replace(b'"m"', b'"n"')
    content = b'%b,"crc":"%08x"}\n%b,"crc":"%08x"}\n' % (
        first,
        begun,
        flipped,
        crc32(second, begun),
    )
    path = root / "ship-ca" / "journal.jsonl"
    path.write_bytes(content)
    assert run(root, "verify", "ship-ca") == 6
    out, err = capsys.readouterr()
    assert "newer: line 1, bytes " in out
    assert "damage" not in out, "a newer version may write what follows in another way"
    assert err == "next: pip install -U rowjournal\n"
    assert run(root, "repair", "ship-ca") == 6
    assert "pip install -U rowjournal" in capsys.readouterr().err


def test_verify_wants_jobs_or_all(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "verify") == 2
    assert run(root, "verify", "ship-ca", "--all") == 2
    assert "--all" in capsys.readouterr().err


def test_a_closed_pipe_ends_the_command_quietly(root: Path) -> None:
    with JobService(root, sync="none") as service:
        service.create_rows("ship-or", ({"data": {"n": "x" * 100}} for _ in range(5000)))
    command = [sys.executable, "-m", "journal", "--root", str(root), "rows", "ship-or"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


# Ctrl-C comes as the module that is named is looked for.
INTERRUPTED = """
import signal, sys
from importlib.abc import MetaPathFinder

class CtrlC(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == module:
            signal.raise_signal(signal.SIGINT)

module, sys.argv[1:] = sys.argv[1], ["list"]
sys.meta_path.insert(0, CtrlC())
from journal.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "module", ["click", "msgspec", "journal.errors", "journal.cli.commands.list"]
)
def test_ctrl_c_while_a_command_still_imports_is_no_error(root: Path, module: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED, module]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root.parent)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.strip() in ("", "interrupted")


def test_ctrl_c_while_text_is_evaluated_is_130_too(root: Path, tmp_path: Path) -> None:
    in_text = INTERRUPTED.partition("\nmodule,")[0].replace(
        "signal.raise_signal(signal.SIGINT)", 'eval("signal.raise_signal(signal.SIGINT)")'
    )
    # Python imports this module when it starts.
    path = tmp_path / "sitecustomize.py"
    path.write_text(f"{in_text}\nmodule = 'click'\nsys.meta_path.insert(0, CtrlC())\n")
    done = subprocess.run(
        [sys.executable, "-m", "journal", "list"],
        capture_output=True,
        check=False,
        cwd=root.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert done.returncode == 130


def test_the_errors_can_be_named_before_anything_else_was() -> None:
    code = "import journal; journal.errors.JobBusyError; journal.model.Job; journal.nothing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "module 'journal' has no attribute 'nothing'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 141), (["--version"], 141), (["list", "--help"], 141)]
    + [(each, 2) for each in (["list", "--limit", "x"], ["lisst"], ["rows"], ["list", "--nope"])],
    ids=str,
)
def test_help_and_usage_errors_that_nobody_reads_end_quietly(
    root: Path, tmp_path: Path, arguments: list[str], code: int
) -> None:
    reader, pipe = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "journal", "--root", str(root), *arguments]
    with (tmp_path / "err").open("wb") as err:
        done = subprocess.run(
            command, stdout=pipe, stderr=err if code == 141 else pipe, check=False
        )
    os.close(pipe)
    assert done.returncode == code
    assert (tmp_path / "err").read_bytes() == b""


def test_a_usage_error_shows_what_was_typed_without_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["list", "--limit", "\x1b[31m"]) == 2
    assert main(["\x1b[31m\u202e"]) == 2
    err = capsys.readouterr().err
    assert err.count("Usage: ") == 2
    assert not set(err) & set("\x1b\u202e")

"""Processes of commands, on every system: their start, their end, and how they ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.platforms import needs_any_names, needs_windows

from journal.run.platform import processes
from journal.run.platform.batch_files import batch_line
from journal.run.platform.processes import Process


def start(script: str, *arguments: str, directory: Path) -> Process:
    """A Python that runs the script, with its output in the file ``out``."""
    with (directory / "out").open("wb") as out:
        return processes.start(
            [sys.executable, "-c", script, *arguments],
            processes.environment() | processes.variables({"GIVEN": "ü €"}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


def test_a_command_gets_its_arguments_and_its_environment_as_they_are(tmp_path: Path) -> None:
    odd = ["", "two words", 'a "quote"', "C:\\dir\\", "ü €", "100%", "a & b", "line\nend"]
    script = "import os, sys; print(ascii((sys.argv[1:], os.environ['GIVEN'], sys.stdin.read())))"
    process = start(script, *odd, directory=tmp_path)
    process.wait()
    assert process.close() == 0
    assert (tmp_path / "out").read_text().strip() == ascii((odd, "ü €", ""))


@needs_any_names
def test_a_command_starts_though_a_variable_has_an_empty_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environb", {**os.environb, b"": b"ours", b"ODD\xff": b"\xfe"})
    process = start("import os; print(os.environb[b'ODD\\xff'])", directory=tmp_path)
    process.wait()
    assert process.close() == 0
    assert (tmp_path / "out").read_text() == "b'\\xfe'\n"


@pytest.mark.parametrize("force", [False, True])
def test_a_command_that_is_ended_doesnt_end_with_zero(tmp_path: Path, force: bool) -> None:
    process = start("import time; time.sleep(600)", directory=tmp_path)
    process.end(force=force)
    process.wait()
    assert process.close() != 0


def test_a_process_in_the_background_outlives_its_command(tmp_path: Path) -> None:
    child = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1], 'go').exists(): time.sleep(.01)\nprint('done', flush=True)"
    script = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', *sys.argv[1:]])"
    process = start(script, child, str(tmp_path), directory=tmp_path)
    process.wait()
    assert process.close() == 0
    (tmp_path / "go").touch()
    while (tmp_path / "out").read_bytes().strip() != b"done":
        pass


@needs_windows
def test_a_batch_file_gets_its_arguments_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "say hello.cmd").write_bytes(
        f'@"{sys.executable}" -c "import sys; print(ascii(sys.argv[1:]))" %*\r\n'.encode()
    )
    odd = ["", "two words", "a & b | c > d ^ e (f)", "C:\\dir\\", "!x!", "$HOME"]
    with (tmp_path / "out").open("wb") as out:
        process = processes.start(
            [str(tmp_path / "say hello"), *odd],
            processes.environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    process.wait()
    assert (process.close(), (tmp_path / "out").read_text().strip()) == (0, ascii(odd))


def test_the_line_of_a_batch_file_has_each_argument_in_quotes() -> None:
    line = batch_line("C:\\a b\\ship.bat", ["", "x & y", "C:\\dir\\"])
    assert line == r'cmd.exe /d /e:on /v:off /s /c ""C:\a b\ship.bat" "" "x & y" "C:\dir\\""'


@pytest.mark.parametrize("argument", ['a "b"', "100%", "%PATH%", "two\nlines", "cr\r", "nul\0"])
def test_an_argument_that_cmd_would_interpret_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match="can't be an argument of a batch file"):
        batch_line("C:\\ship.bat", ["safe", argument])

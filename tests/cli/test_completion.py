"""What bash, zsh and fish complete on the tab key, in real shells and by what they are told."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from support.platforms import needs_modes
from support.terminal import Shell

from journal import JobService
from journal.cli.main import main

START = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        'eval "$(_JOURNAL_COMPLETE=bash_source journal)"',
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -U compinit; compinit -D -u; eval "$(_JOURNAL_COMPLETE=zsh_source journal)"',
    ),
    "fish": (["fish", "--no-config", "-i"], "_JOURNAL_COMPLETE=fish_source journal | source"),
}
# For shells: journal as it is installed. Without a question of completion, it prints its words.
JOURNAL = f"""#!/bin/sh
[ -n "$_JOURNAL_COMPLETE" ] || {{ printf '<'; printf '[%s]' "$@"; echo '>'; exit; }}
exec {sys.executable} -c 'import sys; sys.argv[0] = "journal"
from journal.cli.main import main; sys.exit(main())' "$@"
"""


@pytest.fixture(name="work")
def fixture_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with jobs, inputs and a pack, which is the current one."""
    for name in ("orders one.csv", "ship-ca.tar.gz", "label.sh"):
        (tmp_path / name).touch()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"journal": JOURNAL, "labelprinter": "#!/bin/sh\n"}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (programs / "labelled.txt").touch()
    with JobService(tmp_path / "jobs", sync="none") as service:
        service.create_job("Ship", job_id="ship-ca")
    with JobService(tmp_path / "jobs two", sync="none") as service:
        service.create_job("Other", job_id="other")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNAL_ROOT", raising=False)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


# What is typed up to the tab key, and the words that the program gets.
TYPED = [
    ("journal show sh", "show ship-ca"),
    ("journal run ord", "run orders one.csv"),
    ("journal run in.csv --on-changed=ig", "run in.csv --on-changed=ignore"),
    ("journal --root jobs\\ t", "--root jobs two"),
    ("journal --root 'jobs two' show o", "--root jobs two show other"),
    ("journal run in.csv --job x -- labelp", "run in.csv --job x -- labelprinter"),
    ("journal run in.csv --job x -- sh -j lab", "run in.csv --job x -- sh -j label.sh"),
    ("journal unpack shi", "unpack ship-ca.tar.gz"),
]


@pytest.mark.parametrize("name", START)
def test_a_shell_completes_jobs_files_directories_values_and_programs(
    name: str, work: Path
) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    argv, switch_on = START[name]
    with Shell(argv, work) as shell:
        shell.enter(switch_on)
        shell.enter("echo rea''dy")
        shell.awaits("ready")
        found = {}
        for typed, _ in TYPED:
            shell.press(f"{typed}\t\r")
            found[typed] = shell.awaits(r"<\[(.*?)/?\]>")[1].replace("][", " ")
    assert found == dict(TYPED)


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("journal sho", ["plain,show"]),
        ("journal --ro", ["plain,--root"]),
        ("journal --root ~/jobs show ", ["plain,ship-ca"]),
        ("journal --root $HOME/jobs show ", ["plain,ship-ca"]),
        ("journal run ", ["file,"]),
        ("journal run in.csv ", ["plain,--"]),
        ("journal run in.csv --on-changed re", ["plain,retry"]),
        # It isn't executable.
        pytest.param("journal run in.csv -- labell", ["file,labell"], marks=needs_modes),
        ("journal run in.csv -- ./lab", ["file,./lab"]),
        ("journal run in.csv -- sh --job ", ["file,"]),
        ("journal run in.csv --results o", ["dir,o"]),
        ("journal step mail -- labelp", ["plain,labelprinter"]),
        ("journal pull ", ["file,"]),
        ("journal pack ship-ca -o ", ["file,"]),
        ("journal resolve ship-ca --row 1 --sta", []),
        ("journal nosuch ", []),
        ("journal run in.csv --on-end a --on-end b ", []),
    ],
)
def test_a_shell_is_told_what_can_stand_there_and_nothing_about_errors(
    words: str,
    completed: list[str],
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for home in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(home, str(work))
    monkeypatch.setenv("_JOURNAL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    with pytest.raises(SystemExit) as ended:
        main([])
    assert (ended.value.code, capfd.readouterr()) == (0, ("\n".join(completed) + "\n", ""))

"""The checks. `nox` runs the default sessions in under a minute; `nox -s tests-3.12` one of the others.

`.ci/run` installs nox and runs the sessions that a change must pass.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.sessions = ["lint", "quick"]
nox.options.reuse_existing_virtualenvs = True

TOP = Path(__file__).parent
PYTHONS = nox.project.python_versions(nox.project.load_toml(TOP / "pyproject.toml"))
OWN = "{}.{}".format(*sys.version_info)
# The variables of a developer's shell that change what the package or pip does.
UNSET = dict.fromkeys(("PYTHONPATH", "VIRTUAL_ENV", "JOURNAL_ROOT"))
QUICK = ("tests/format", "tests/index", "tests/history", "tests/test_structure.py")
CORE = ("tests/format", "tests/index", "tests/store", "tests/service", "tests/run", "tests/history")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    for system in ("win32", "darwin"):  # each has its own module instead of os
        session.run("mypy", "--platform", system, "--no-warn-unreachable", "journal")


@nox.session
def quick(session: nox.Session) -> None:
    """The tests of the core, and of this project's own rules."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-q", "-n", "auto", *(session.posargs or QUICK))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The README's two commands, word for word, in a fresh copy, with all that the tests can use.

    The oldest Python works on a disk; the others in the default temporary directory, often memory.
    """
    env: dict[str, str | None] = dict(UNSET)
    if session.python == PYTHONS[0]:
        env["TMPDIR"] = os.environ.get("TMPDIR", "/var/tmp")  # noqa: S108  (a disk)
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "tree"
        away = shutil.ignore_patterns(".git", ".nox", ".venv", ".*_cache", "jobs")
        shutil.copytree(TOP, copy, ignore=away)
        with session.chdir(copy):
            shell = ("bash", "-euo", "pipefail", "-c")
            session.run(*shell, readme_command("install"), external=True, env=env)
            session.run(".venv/bin/pip", "install", "--quiet", ".[dev]", external=True, env=env)
            session.run(*shell, readme_command("test"), external=True, env=env)


def readme_command(name: str) -> str:
    """The command in the README between the markers of this name."""
    text = (TOP / "README.md").read_text()
    found = re.search(rf"<!--{name}-->\n```sh\n(.*?)```\n<!--end-->", text, re.DOTALL)
    assert found is not None, name
    return found[1]


@nox.session(python=[each for each in PYTHONS if each != OWN])
def core(session: nox.Session) -> None:
    """The tests of what depends most on Python's own version, with each Python but nox's own."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-q", "-n", "auto", *(session.posargs or CORE), env=UNSET)


@nox.session
def mutation(session: nox.Session) -> None:
    """A random tenth of the guards: see tests/mutation/README.md."""
    session.install("-e", ".[dev]")
    session.run("python", "tests/mutation/check.py", *(session.posargs or ("--share", "10")))


@nox.session
def package(session: nox.Session) -> None:
    """The wheel and the sdist: their contents, and the wheel without extras at work."""
    session.install("build", "twine")
    with tempfile.TemporaryDirectory() as directory:
        session.run("python", "-m", "build", "--outdir", directory, silent=True)
        wheel, sdist = sorted(Path(directory).iterdir(), key=lambda path: path.suffix != ".whl")
        session.run("twine", "check", "--strict", str(wheel), str(sdist))
        names = set(zipfile.ZipFile(wheel).namelist())
        modules = {path.relative_to(TOP).as_posix() for path in (TOP / "journal").rglob("*.py")}
        pages = {path.relative_to(TOP).as_posix() for path in (TOP / "journal").rglob("*.md")}
        missing = (modules | pages | {"journal/py.typed"}) - names
        beside = {name for name in names if not name.startswith(("journal/", "rowjournal-"))}
        if missing or beside:
            session.error(f"wheel: missing {sorted(missing)}, not of the package {sorted(beside)}")
        session.run("python", "-m", "venv", f"{directory}/venv")
        python = f"{directory}/venv/bin/python"
        session.run(python, "-m", "pip", "install", "--quiet", str(wheel), external=True)
        with session.chdir(directory):
            run = (
                python,
                "-m",
                "journal",
                "run",
                "-",
                "--lines",
                "--job",
                "j",
                "--",
                "echo",
                "{line}",
            )
            session.run("bash", "-c", 'printf "a\\nb\\n" | "$@"', "bash", *run, external=True)
            session.run(python, "-m", "journal", "verify", "j", external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """The site, in build/site. A link that leads nowhere is an error."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "-q", "-W", "--keep-going", "-E", "docs", "build/site")


@nox.session
def windows(session: nox.Session) -> None:
    """The suite with Pythons for Windows, under wine: see tests/windows/README.md."""
    for version in ("3.13", "3.11"):
        session.run("python", "tests/windows/run.py", "--python", version, "-n", "auto")

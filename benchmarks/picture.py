"""Draws what `journal show` says about a run that was killed, for the README.

python -m benchmarks.picture > benchmarks/show.svg
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

COMMAND = [sys.executable, "-m", "journal"]
RUN = "run orders.csv --job labels --key order -j 4 -- sh label.sh {zip}"
LABEL = """sleep 0.02
case $1 in %d) kill -9 $PPID ;; ?????) ;; *) echo "no such zip: $1" >&2; exit 7 ;; esac
"""
WIDTH, HEIGHT = 7.8, 19  # of a character, in px
BACKGROUND = '<rect width="100%" height="100%" rx="8" fill="#171b21"/>'
STYLE = """text { font: 13px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #d6dde4;
  white-space: pre } .c35 { fill: #d79bff } .c90 { fill: #8b98a5 }"""


def show_of_a_killed_run(row: int) -> str:
    """Run a job, kill the run at this row, and return what a terminal then shows of the job."""
    with tempfile.TemporaryDirectory() as name:
        rows = (f"A-{n},{9002 if n % 83 == 0 else 90000 + n}\n" for n in range(1, 1001))
        Path(name, "orders.csv").write_text("order,zip\n" + "".join(rows), encoding="utf-8")
        Path(name, "label.sh").write_text(LABEL % (90000 + row), encoding="utf-8")
        subprocess.run([*COMMAND, *RUN.split()], cwd=name, capture_output=True, check=False)
        ours, theirs = pty.openpty()
        of_terminal = os.environ | {"COLUMNS": "96", "TERM": "xterm", "PYTHONUTF8": "1"}
        show = [*COMMAND, "show", "labels"]
        subprocess.run(show, cwd=name, stdout=theirs, env=of_terminal, check=True)
        return os.read(ours, 1 << 16).decode().replace("\r\n", "\n")


def drawing(text: str) -> str:
    """Return a picture of text with colours of a terminal, as SVG."""
    lines = ["$ journal show labels", *text.split("\n")]
    size = f'width="{max(map(len, lines)) * WIDTH + 32:.0f}" height="{len(lines) * HEIGHT + 24}"'
    shown = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{BACKGROUND}']
    for number, line in enumerate(lines, 1):
        parts = re.split(r"\x1b\[(\d+)m", re.sub(r"(?<=\s)#.*", "\x1b[90m\\g<0>", line))
        spans = zip(["0", *parts[1::2]], parts[::2], strict=True)
        content = "".join(f'<tspan class="c{code}">{escape(part)}</tspan>' for code, part in spans)
        shown.append(f'<text x="16" y="{number * HEIGHT + 10}">{content}</text>')
    return "\n".join([*shown, "</svg>\n"])


if __name__ == "__main__":
    told = re.sub(r"hosts .*\n", "", show_of_a_killed_run(722))  # the name of this machine
    sys.stdout.write(drawing(told.partition("            # or leave")[0].rstrip()))

"""What echo, cat and touch of POSIX do, for tests on Windows: ``python stand_ins.py echo words``."""

import shutil
import sys
from pathlib import Path

name, *words = sys.argv[1:]
if name == "echo":
    sys.stdout.buffer.write(" ".join(words).encode() + b"\n")
elif name == "touch":
    for word in words:
        Path(word).touch()
else:
    shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)

"""Opens a job of small rows, to be run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import journal


def open_job(path: Path, count: int = 5, **options: Any) -> journal.JobRun:
    """Open a job whose rows have the data ``{"n": 1}`` and so on."""
    return journal.open_job(path, ({"n": n} for n in range(1, count + 1)), **options)

"""The files in a job's directory that are the journal's own, told by their names."""

from __future__ import annotations

import os
import re
from pathlib import Path

from journal import files
from journal.errors import InvalidValueError
from journal.format import JOURNAL_NAME

_OWN = re.compile(
    r"journal\.jsonl(\.new)?|index\.hint.*|run\.lock|sync\.mark|journal\.(damaged|torn|other)-.*"
)


def check_not_of_a_job(out: str | os.PathLike[str]) -> None:
    """Raise InvalidValueError if what is to be written to ``out`` would replace a job's own file."""
    target = Path(os.path.realpath(out))
    if _OWN.fullmatch(target.name) and files.exists(target.with_name(JOURNAL_NAME)):
        raise InvalidValueError(
            "out",
            str(target),
            f"is a file of the job {target.parent.name!r}, which would be lost: name another, or one "
            "in its artifacts/",
        )

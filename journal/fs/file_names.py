"""The names of all files in a job's directory and in a store, and the names that Windows refuses."""

from __future__ import annotations

import re

JOURNAL_NAME = "journal.jsonl"
NEW_JOURNAL_NAME = f"{JOURNAL_NAME}.new"  # exists while the journal is rewritten
HINT_NAME = "index.hint"
NEW_HINT_NAME = f"{HINT_NAME}.new"
RUN_LOCK_NAME = "run.lock"
SYNC_MARK_NAME = "sync.mark"
NEW_SYNC_MARK_NAME = f"{SYNC_MARK_NAME}.new"
ARTIFACTS_NAME = "artifacts"
CLAIMS_NAME = "claims"  # in a job on a network file system: which run has the job
PRUNED_NAME = ".pruned.jsonl"  # in a store: which jobs were pruned, and where their packs are

# Patterns are text, so `re` compiles only the patterns that a command uses.

# Backups of a journal, or of parts of a journal. The comments say how their names end.
TORN_NAME = "journal.torn"  # -OFFSET-N: a torn tail
DAMAGED_NAME = "journal.damaged"  # -N: the journal before a repair
OTHER_NAME = "journal.other"  # -OFFSET-CRC: the journal of another copy, before a merge
BACKUP = r"journal\.((torn|damaged)-[0-9]{1,20}(-[0-9]{1,9})?|other-[0-9]{1,20}-[0-9a-f]{8})"
NEW_BACKUP_NAME = "journal.backup.new"  # exists while a backup is written

# Directories for files that are built there and then renamed to their final place.
JOB_STAGING_NAME = ".staging"  # in a store: jobs that are being made or deleted
REPAIR_STAGING_NAME = ".repair"  # in a job
PULL_STAGING_NAME = ".pull"  # in a job

# Files that aren't part of a job. These files are made again when they are needed.
DERIVED = frozenset(
    {
        HINT_NAME,
        NEW_HINT_NAME,
        RUN_LOCK_NAME,
        SYNC_MARK_NAME,
        CLAIMS_NAME,
        NEW_SYNC_MARK_NAME,
        NEW_JOURNAL_NAME,
        NEW_BACKUP_NAME,
        REPAIR_STAGING_NAME,
        PULL_STAGING_NAME,
    }
)

# Files that an output must not replace. Case is ignored, since some file systems ignore it.
OWN_FILE = r"(?i)journal\.(jsonl(\.new)?|backup\.new)|index\.hint.*|run\.lock|sync\.mark(\.new)?|journal\.(damaged|torn|other)-.*"

# On Windows, a name of this form means a device, another directory, or a stream of another file,
# or is too long.
_NO_NAME_FOR_WINDOWS = r'(?is).*[<>:"\\|?*\x00-\x1f].*|.*[. ]|.{256,}|(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?'


def no_name_for_windows(name: str) -> str | None:
    """Return the first part of a name that Windows refuses as a file name, or None."""
    return next(
        (part for part in name.split("/") if re.fullmatch(_NO_NAME_FOR_WINDOWS, part)), None
    )

"""How much a test tries: a sample in each run of the suite, everything with ``LONG=1``."""

from __future__ import annotations

import os

IS_LONG = os.environ.get("LONG") == "1"

"""The calls that the package makes on this system, before a test puts something in their place."""

from __future__ import annotations

from typing import Any

import journal.fs.system

SYSTEM_OS: Any = journal.fs.system.os  # the module ``os`` on Linux alone

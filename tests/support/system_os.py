"""The module whose system calls the package makes here, before a test replaces the module."""

from __future__ import annotations

from typing import Any

import journal.fs.system

SYSTEM_OS: Any = journal.fs.system.os  # the module ``os`` on Linux alone

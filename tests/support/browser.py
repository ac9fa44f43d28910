"""Chromium without a window, driven through pipes."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections import deque
from pathlib import Path
from typing import Any, Self

import pytest
from support.commands import PYTHON
from support.pipes import ready

CHROMIUM = shutil.which("chromium")
_HANGS_S = 120
# Chromium reads descriptor 3 and writes descriptor 4.
_ON_3_AND_4 = """
import os, sys
reads, writes, *command = sys.argv[1:]
os.dup2(int(reads), 3)
os.dup2(int(writes), 4)
os.execv(command[0], command)
"""


def in_browser(test: Any) -> Any:
    """Marks a test that needs Chromium."""
    skips = pytest.mark.skipif(CHROMIUM is None, reason="Chromium isn't installed here")
    return pytest.mark.browser(skips(test))


class Browser:
    """One page in a browser of its own. Commands are those of the Chrome DevTools protocol."""

    def __enter__(self) -> Self:
        assert CHROMIUM is not None
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        asked, self._asks = os.pipe()
        self._hears, told = os.pipe()
        theirs = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10) for descriptor in (asked, told)]
        self._process = subprocess.Popen(
            [
                *(*PYTHON, _ON_3_AND_4, *map(str, theirs), CHROMIUM),
                *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
                *(
                    "--hide-scrollbars",
                    "--no-first-run",
                    "--disable-background-networking",
                    "--disable-sync",
                ),
                *("--disable-component-update", f"--user-data-dir={self._profile.name}"),
                "--remote-debugging-pipe",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=theirs,
        )
        for descriptor in (asked, told, *theirs):
            os.close(descriptor)
        self._number, self._heard, self._loads = 0, b"", deque[None]()
        self._session: dict[str, Any] = {}
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        self._ask("Page.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._asks)
        os.close(self._hears)
        self._profile.cleanup()

    def open(self, path: Path, fragment: str = "", width: int = 1200) -> None:
        """Show a file, and wait until its script has run and everything that the file names was
        loaded.
        """
        size = {"width": width, "height": 500, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **size)
        self._loads.clear()
        self._ask("Page.navigate", url=f"file://{path}{fragment}")
        self.wait_for_load()

    def wait_for_load(self) -> None:
        """Wait for the next load of the page."""
        while not self._loads:
            self._hear()
        self._loads.popleft()

    @property
    def has_loaded(self) -> bool:
        """Whether the page was loaded anew since the last wait for a load."""
        return bool(self._loads)

    def value(self, script: str) -> Any:
        """The value of a script in the page, or of its promise.

        The script runs again if the page was left.
        """
        while True:
            found = self._ask(
                "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
            )
            if "result" in found and "exceptionDetails" not in found:
                return found["result"].get("value")
            assert "exceptionDetails" not in found, found
            self.wait_for_load()

    def _ask(self, method: str, **given: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": given, **self._session}
        os.write(self._asks, json.dumps(message).encode() + b"\0")
        while (answer := self._hear()).get("id") != self._number:
            pass
        found: dict[str, Any] = answer.get("result", {})
        return found

    def _hear(self) -> dict[str, Any]:
        while b"\0" not in self._heard:
            assert ready([self._hears], _HANGS_S), "the browser hangs"
            data = os.read(self._hears, 1 << 16)
            assert data, "the browser has ended"
            self._heard += data
        text, _, self._heard = self._heard.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if message.get("method") == "Page.loadEventFired":
            self._loads.append(None)
        return message

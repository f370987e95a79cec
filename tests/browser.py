"""Headless Chromium, controlled by the DevTools protocol over a pipe, without an open port or a driver."""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
)  # fmt: skip


def find_chromium() -> str:
    """Path of Chromium; without it the test is skipped."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("Chromium is not installed")
    return found


class Browser:
    """One page of a browser of its own.

    Attributes:
        errors: what the page complained of: exceptions, console errors, and requests for anything beside itself.
    """

    def __init__(self, folder: Path) -> None:
        command_read, command_write = _high_pipe()
        answer_read, answer_write = _high_pipe()

        def wire() -> None:
            os.dup2(command_read, 3)
            os.dup2(answer_write, 4)

        command = [find_chromium(), *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, preexec_fn=wire, close_fds=False, **quiet)  # noqa: PLW1509
        os.close(command_read)
        os.close(answer_write)
        self._write, self._read = command_write, answer_read
        self._buffer, self._numbers, self._events = b"", itertools.count(1), []
        self._session = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self.errors: list[str] = []

    def open(self, page: Path | str, width: int = 1280, height: int = 900) -> float:
        """Open a file or an address at a size of the window; return the seconds until it is loaded and drawn."""
        url = page if isinstance(page, str) else page.absolute().as_uri()
        self.resize(width, height)
        self._events.clear()
        self.errors.clear()
        started = time.perf_counter()
        self._call("Page.navigate", url=url)
        self._wait_for("Page.loadEventFired")
        self.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")
        seconds = time.perf_counter() - started
        self.note_errors(url)
        return seconds

    def resize(self, width: int, height: int) -> None:
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def run(self, expression: str) -> Any:
        """Value of an expression of JavaScript in the page."""
        found = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def screenshot(self, path: Path, whole: bool = False) -> None:
        shot = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        self._call("Browser.close")
        self._process.wait(timeout=20)
        os.close(self._write)
        os.close(self._read)

    def choose_file(self, selector: str, path: Path) -> None:
        """Give a file to an input of the page, as its dialogue does."""
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        node = self._call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self._call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def note_errors(self, page: str) -> None:
        """Collect the errors of the page since it was opened; requests below its own address are not errors."""
        for event in self._events:
            method, values = event["method"], event["params"]
            if method == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(values["exceptionDetails"])[:500])
            elif method == "Log.entryAdded" and values["entry"]["level"] in ("error", "warning"):
                self.errors.append(values["entry"]["text"])
            elif method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning", "assert"):
                self.errors.append(str(values["args"]))
            elif method == "Network.requestWillBeSent":
                url = values["request"]["url"]
                if not url.startswith((page, "data:")):
                    self.errors.append(f"asked for {url}")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self._events.append(answer)

    def _wait_for(self, method: str) -> None:
        while not any(event.get("method") == method for event in self._events):
            self._events.append(self._receive())

    def _receive(self, seconds: float = 60.0) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], seconds)
            assert ready, "the browser does not answer"
            part = os.read(self._read, 1 << 16)
            assert part, "the browser has gone"
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)


def _high_pipe() -> tuple[int, int]:
    """A pipe whose file descriptors do not collide with 3 and 4, which Chromium reads and writes."""
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends)
    for end in ends:
        os.close(end)
    return high

"""Chromium without a window, driven through the pipe of its DevTools protocol: no driver, no port.

https://chromedevtools.github.io/devtools-protocol/ names the methods and events.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_SECONDS = 60
_FLAGS = (
    "--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--hide-scrollbars", "--disable-background-networking", "--disable-extensions",
)  # fmt: skip


class Chromium:
    """One tab.

    :ivar events: every event of the browser so far, as ``(method, parameters)``.
    """

    def __init__(self, requests: int, answers: int) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._requests, self._answers = requests, answers
        self._number, self._session, self._rest = 0, "", b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method, and wait for its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append((answer["method"], answer["params"]))
            if answer["method"] == "Page.javascriptDialogOpening":
                raise AssertionError(f"a dialog opened: {answer['params']['message']}")
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        found: dict[str, Any] = answer["result"]
        return found

    def open(self, path: Path, *, width: int = 1200, dark: bool = False, script: bool = True) -> None:
        """Open a file as a page, and wait until it has loaded."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.events.clear()
        self.call("Page.navigate", url=path.absolute().as_uri())
        while not any(name == "Page.loadEventFired" for name, _ in self.events):
            event = self._next()
            self.events.append((event["method"], event["params"]))

    def value(self, expression: str) -> Any:
        """Evaluate an expression of JavaScript; also where the page's own scripts are switched off."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key, named as in JavaScript."""
        for kind in ("rawKeyDown", "keyUp"):
            code = {"Tab": 9, "Home": 36, "End": 35, " ": 32}.get(key)
            code = code or 37 + ["ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"].index(key)
            details = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
            self.call("Input.dispatchKeyEvent", type=kind, **details)

    def point(self, selector: str) -> None:
        """Move the pointer to the middle of an element."""
        self.value(
            f"document.querySelector({selector!r}).scrollIntoView({{block: 'center', inline: 'center'}})"
        )
        box = self.value(f"(b => [b.x + b.width / 2, b.y + b.height / 2])"
                         f"(document.querySelector({selector!r}).getBoundingClientRect())")  # fmt: skip
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])

    def accessible(self) -> list[tuple[str, str]]:
        """Role and name of everything that a screen reader is told of."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", "").strip())
            for node in nodes
            if not node["ignored"]
        ]

    def picture(self, path: Path) -> None:
        """Save the whole page as a PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip={**size, "scale": 1})[
            "data"
        ]
        path.write_bytes(base64.b64decode(data))

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + _SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(0, end - time.monotonic()))
            assert ready, f"no answer in {_SECONDS} s"
            block = os.read(self._answers, 1 << 20)
            assert block, "the browser has ended"
            self._rest += block
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def started(folder: Path) -> Iterator[Chromium]:
    """Start a browser with a profile of its own below ``folder``, and end it."""
    assert PROGRAM is not None
    (to_read, requests), (answers, to_write) = os.pipe(), os.pipe()
    # The browser reads from descriptor 3 and writes to 4, which the shell sets.
    line = 'exec "$0" "$@" 3<&"$IN" 4>&"$OUT"'
    with (folder / "chromium.log").open("wb") as log:
        browser = subprocess.Popen(
            ["bash", "-c", line, PROGRAM, *_FLAGS, f"--user-data-dir={folder / 'profile'}"],
            env={**os.environ, "IN": str(to_read), "OUT": str(to_write), "HOME": str(folder)},
            pass_fds=(to_read, to_write), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    os.close(to_read)
    os.close(to_write)
    try:
        yield Chromium(requests, answers)
    finally:
        os.close(requests)  # it ends when its pipe does
        try:
            browser.wait(10)
        except subprocess.TimeoutExpired:
            browser.kill()
            browser.wait()
        os.close(answers)

"""A real headless Chromium, spoken to through a pipe by the DevTools protocol: no port, and no library for it.

https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import itertools
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import programs

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-default-apps", "--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe",
]  # fmt: skip


class Browser:
    """One tab. `events` are all that it told of network, console and errors."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self._numbers = process, itertools.count(1)
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol; returns its result. Events that come meanwhile are kept."""
        number = next(self._numbers)
        session = {"sessionId": self._session} if hasattr(self, "_session") else {}
        message = {"id": number, "method": method, "params": params, **session}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()
        while (told := self._read()).get("id") != number:
            self.events.append(told)
        assert "error" not in told, told
        result: dict[str, Any] = told["result"]
        return result

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        told = b"".join(iter(lambda: self._process.stdout.read(1), b"\0"))  # type: ignore[union-attr]
        message: dict[str, Any] = json.loads(told)
        return message

    def look(self, width: int, scheme: str = "light") -> None:
        """Be a screen of this width, in the light or in the dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600
        )
        self.call(
            "Emulation.setEmulatedMedia", media="screen", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def open(self, page: Path | str) -> None:
        """Open a file, or an address, and wait until it is there."""
        self.events.clear()
        told = self.call("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        if "loaderId" not in told:  # another place of the page that is there
            return
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def ask(self, script: str) -> Any:
        """The value of a script's expression."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def until(self, script: str, seconds: float = 60) -> Any:
        """The value of a script's expression, once it is true in JavaScript's sense."""
        end = time.monotonic() + seconds
        while not (value := self.ask(script)):
            assert time.monotonic() < end, (
                f"{script} is {value!r} after {seconds:.0f} s; the page: {self.text()[-2000:]}"
            )
            time.sleep(0.5)
        return value

    def text(self) -> str:
        """What can be read on the page."""
        return str(self.ask("document.body.innerText"))

    def screen(self, path: Path) -> None:
        """What a screen shows of the page, as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def picture(self, path: Path) -> None:
        """The whole page as a PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def told(self, *methods: str) -> list[dict[str, Any]]:
        """The events of these methods."""
        return [event["params"] for event in self.events if event.get("method") in methods]


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser with a profile of its own in `folder`."""
    program = programs.find("browser")
    assert program is not None
    # The protocol is read from descriptor 3 and written to 4.
    command = ["bash", "-c", 'exec "$@" 3<&0 4>&1 >/dev/null', "bash", program, *FLAGS, f"--user-data-dir={folder}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            yield Browser(process)
        finally:
            process.kill()

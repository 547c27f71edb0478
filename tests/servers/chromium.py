"""Debian's chromium without a window, driven over its debugging protocol: what a person with a browser sees."""

import base64
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from aiohttp import ClientSession, ClientWebSocketResponse

from .process import Child

PROGRAM = shutil.which("chromium") or shutil.which("chromium-headless-shell")
MISSING = "chromium is not installed (Debian: apt-get install chromium)"
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--force-color-profile=srgb", "--remote-debugging-port=0",
)  # fmt: skip


_UNTIL = """(async () => {
  for (let left = 600; left; left -= 1) {
    const value = await (SCRIPT);
    if (value) return value;
    await new Promise((next) => setTimeout(next, 25));
  }
  throw new Error('waited in vain: ' + document.body.innerText);
})()"""


@dataclass(slots=True)
class Tab:
    """One page in the browser."""

    socket: ClientWebSocketResponse
    errors: list[str] = field(default_factory=list)  # what the console says of scripts, policies and requests
    _numbers: itertools.count = field(default_factory=itertools.count)  # type: ignore[type-arg]

    async def call(self, method: str, **params: object) -> dict[str, object]:
        """One command of the protocol, and its result."""
        number = next(self._numbers)
        await self.socket.send_json({"id": number, "method": method, "params": params})
        with anyio.fail_after(20):
            while True:
                message = json.loads(await self.socket.receive_str())
                if message.get("id") == number:
                    if "error" in message:
                        raise RuntimeError(f"{method}: {message['error']}")
                    return dict(message["result"])
                self._note(message)

    async def show(self, width: int, height: int, *, dark: bool = False, mobile: bool = False) -> None:
        """The window's size in CSS pixels, and the user's wish for darkness."""
        scale = 2 if mobile else 1
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def open(self, url: str) -> None:
        """Load a page anew."""
        await self.call("Page.navigate", url="about:blank")
        await self.call("Page.navigate", url=url)

    async def run(self, script: str) -> object:
        """The value of an expression, awaited; an exception in it is an error here."""
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        result = found["result"]
        return result.get("value") if isinstance(result, dict) else None

    async def until(self, script: str) -> object:
        """The value of an expression once it is true."""
        return await self.run(_UNTIL.replace("SCRIPT", script))

    async def type(self, text: str) -> None:
        """Write into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def screenshot(self, path: Path) -> None:
        """What the window shows, as PNG."""
        found = await self.call("Page.captureScreenshot", format="png")
        await anyio.Path(path).write_bytes(base64.b64decode(str(found["data"])))

    def _note(self, message: dict[str, object]) -> None:
        params = message.get("params")
        if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
            self.errors.append(json.dumps(params))


@asynccontextmanager
async def browser_tab(folder: Path, *flags: str) -> AsyncIterator[Tab]:
    """A browser with an empty profile in a folder, and one tab of it."""
    await anyio.Path(folder).mkdir(parents=True, exist_ok=True)
    profile = folder / "profile"
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "TZ": "UTC"}
    child = Child([PROGRAM or "chromium", *_FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"], folder, env)
    try:
        port_file = profile / "DevToolsActivePort"
        await anyio.to_thread.run_sync(child.wait_until, port_file.is_file, "chromium to listen")
        port = (await anyio.Path(port_file).read_text()).splitlines()[0]
        async with ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as reply:
                [page] = [one for one in await reply.json() if one["type"] == "page"]
            async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                tab = Tab(socket)
                for domain in ("Page", "Runtime", "Log"):
                    await tab.call(f"{domain}.enable")
                yield tab
    finally:
        child.kill()

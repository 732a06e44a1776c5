"""`postflow dev` as a whole behind headless Chromium: one start for all tests of a process, one browser a module."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests import servers
from tests.patience import PATIENCE_S

_NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
#: What brings it, by the package manager that is here; Ubuntu's apt has none, its snap does.
_BRINGING = {
    "snap": "snap install chromium",
    "apt-get": "apt-get install chromium",
    "dnf": "dnf install chromium",
    "zypper": "zypper install chromium",
    "pacman": "pacman -S chromium",
    "apk": "apk add chromium",
    "brew": "brew install --cask google-chrome",
}
Open = Callable[..., Page]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skipif(
        CHROMIUM is None, reason=f"browser tests need Chromium; to have it: {_what_brings_it()}"
    )
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(missing)
            item.add_marker(pytest.mark.xdist_group("browser"))


def _what_brings_it() -> str:
    manager = next(filter(shutil.which, _BRINGING), None)
    as_root = "" if manager in (None, "brew") or not os.geteuid() else "sudo "
    return as_root + _BRINGING[manager] if manager else "your system's package manager, or google.com/chrome"


class Running(NamedTuple):
    url: str
    password: str


@pytest.fixture(scope="session")
def running() -> Iterator[Running]:
    port, sandbox_port = free_port(1), free_port(7) + 1
    own = servers.environment()
    command = [str(Path(sys.executable).with_name("postflow")), "dev", "--port", str(port)]
    with tempfile.TemporaryDirectory(prefix="postflow-browser-", dir="/tmp") as home:
        os.chmod(home, 0o755)  # root's database runs as somebody else
        terminal = Path(home) / "terminal"
        with terminal.open("wb") as out:
            process = subprocess.Popen(
                [*command, "--sandbox-port", str(sandbox_port)],
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**own, "POSTFLOW_DATA_DIR": home},
            )
        try:
            yield Running(f"http://localhost:{port}", the_password(terminal))
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(PATIENCE_S)


def the_password(terminal: Path) -> str:
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        if found := re.search(r"with the password (\S+)", terminal.read_text()):
            return found[1]
        time.sleep(0.2)
    pytest.fail(terminal.read_text())


def free_port(run: int) -> int:
    """The first of `run` free ports in a row."""
    for first in range(21000 + os.getpid() % 9000, 60000, 10):
        try:
            for port in range(first, first + run):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    pytest.fail("no free ports")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """No wider than a module: while Playwright is open, an event loop runs in this thread and asyncio.run() is refused."""
    with (
        sync_playwright() as driver,
        driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        yield browser


def _is_refusal(said: ConsoleMessage) -> bool:
    """A server that is away, or that asks before it sends the same words again, is no mistake of the page."""
    return said.type == "error" and not re.search("status of (409|503)", said.text)


@pytest.fixture
def signed_in(running: Running, chromium: Browser) -> Iterator[Open]:
    """signed_in(width=…, java_script_enabled=…) -> a page of the demo person; what the browser refuses fails the test."""
    contexts: list[Any] = []
    refused: list[str] = []

    def opened(*, width: int = 1200, **options: Any) -> Page:
        context = chromium.new_context(base_url=running.url, viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        page.on("console", lambda said: refused.append(said.text) if _is_refusal(said) else None)
        page.on("pageerror", lambda error: refused.append(str(error)))
        page.goto("/")
        page.fill("#email", "demo@postflow.example")
        page.fill("#password", running.password)
        page.click("button.button-main")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert refused == []

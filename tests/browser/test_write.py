"""A person at the pages, in headless Chromium, with `postflow dev` behind them: sign in, write, publish, see the links."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: install it to run the browser test"),
]


class Running(NamedTuple):
    url: str
    password: str


@pytest.fixture
def running() -> Iterator[Running]:
    port, sandbox_port = free_port(1), free_port(7) + 1
    own = {name: value for name, value in os.environ.items() if not name.startswith(("POSTFLOW_", "DATABASE_URL"))}
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
            process.wait(60)


def the_password(terminal: Path) -> str:
    give_up = time.monotonic() + 60
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


def test_a_picture_written_in_the_browser_is_out_on_three_networks(running: Running, tmp_path: Path) -> None:
    Image.new("RGB", (800, 600), "orange").save(tmp_path / "orange.png")
    with (
        sync_playwright() as driver,
        driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as chromium,
    ):
        page = chromium.new_page()
        refused: list[str] = []
        page.on("console", lambda said: refused.append(said.text) if said.type == "error" else None)
        page.goto(running.url)
        page.fill("#email", "demo@postflow.example")
        page.fill("#password", running.password)
        page.click("button.button-main")
        page.goto(f"{running.url}/posts/new")
        for box in page.query_selector_all("input[name=account]"):
            box.check()
        page.fill("#text", "written in a browser")
        assert "left" in page.inner_text(".counters")
        page.set_input_files("#files", tmp_path / "orange.png")
        page.fill(".attached textarea", "an orange field")
        page.click("button[value=now]")
        page.locator(".pill-published").nth(2).wait_for(timeout=45_000)
        assert page.locator(".delivery p a").count() == 3
        assert refused == []

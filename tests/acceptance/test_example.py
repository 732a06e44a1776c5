"""`.env.example` as it stands, its empty lines filled by the commands it names: the pages serve http://localhost."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

CHECKOUT = Path(__file__).parents[2]
PASSWORD = "correct horse battery"


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    """What compose makes of the file. A line that is empty is filled as the comment above it says."""
    if not shutil.which("openssl"):
        pytest.skip("the example makes its secrets with openssl")
    found, comment = dict[str, str](), ""
    for line in (CHECKOUT / ".env.example").read_text().splitlines():
        if line.startswith("#"):
            comment += line
            continue
        name, _, value = line.partition("=")
        if name and not value and (make := re.search(r"Make one: ([\w -]+)", comment)):
            value = subprocess.run(shlex.split(make[1]), capture_output=True, text=True, check=True).stdout.strip()
        if name:
            found[name] = value
        comment = ""
    assert found.pop("POSTGRES_PASSWORD") == "", "it belongs to compose's database"
    assert all(found.values()), found
    kept = {name: value for name, value in os.environ.items() if not name.startswith("POSTFLOW_")}
    return {**kept, **found, "DATABASE_URL": database_url, "PORT": str(a_free_port()), "WEB_CONCURRENCY": "1"}


@pytest.fixture
def served(environment: dict[str, str]) -> Iterator[str]:
    gunicorn = [sys.executable, "-m", "gunicorn", "--config", "python:web.gunicorn", "web.app:create_app()"]
    address = f"http://localhost:{environment['PORT']}"
    with subprocess.Popen(gunicorn, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as web:
        try:
            until_it_answers(f"{address}/healthz", web)
            yield address
            web.send_signal(signal.SIGTERM)
            _, said = web.communicate(timeout=30)
        finally:
            web.kill()
    assert web.returncode == 0, said.decode()


def test_the_example_as_it_stands_lets_a_person_sign_in_on_localhost(environment: dict[str, str], served: str):
    create = [sys.executable, "-c", "from postflow.cli import main; main()", "create-user", "--password-stdin"]
    subprocess.run([*create, "ada@example.org"], env=environment, input=PASSWORD, text=True, check=True)
    with httpx.Client(base_url=served, follow_redirects=True) as browser:  # it keeps cookies as a browser does
        page = browser.get("/sign-in").text
        csrf = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert csrf
        fields = {"csrf_token": csrf[1], "email": "ada@example.org", "password": PASSWORD}
        home = browser.post("/sign-in", data=fields)
        assert (home.status_code, home.url.path) == (200, "/"), home.text
        assert browser.get("/profile").url.path == "/profile", "and stays signed in"


def until_it_answers(url: str, web: "subprocess.Popen[bytes]") -> None:
    give_up = time.monotonic() + 60
    while True:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            assert time.monotonic() < give_up and web.poll() is None
        time.sleep(0.2)


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

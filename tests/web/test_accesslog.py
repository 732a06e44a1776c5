"""The access log of a real gunicorn: what it says, and what it must not."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest
from cryptography.fernet import Fernet

from tests.patience import PATIENCE_S
from web.middleware import access_log

SECRET = "abcDEF0123456789secret"


@pytest.fixture
def told(database_url: str) -> str:
    """Everything one gunicorn wrote while it was asked for addresses with secrets in them."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "POSTFLOW_SECRET_KEY": "k" * 40,
        "POSTFLOW_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "PORT": "0",
        "WEB_CONCURRENCY": "1",
    }
    command = [sys.executable, "-m", "gunicorn", "--config", "python:web.gunicorn", "web.app:create_app()"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout
        lines: list[str] = []
        while not (found := re.search(r"Listening at: (http://\S+)", lines[-1] if lines else "")):
            lines.append(server.stdout.readline())
        base = found[1].replace("0.0.0.0", "127.0.0.1")
        ask(f"{base}/healthz")
        ask(f"{base}/m/{SECRET}.signature")
        ask(f"{base}/accounts/callback?code={SECRET}&state={SECRET}", referer=f"{base}/m/{SECRET}")
        ask(f"{base}/sign-in?next=/posts/new")
        ask_as_a_proxy(base)
    finally:
        server.terminate()
        rest, _ = server.communicate(timeout=PATIENCE_S)
    return "".join(lines) + rest


def ask_as_a_proxy(base: str) -> None:
    """As one would on this machine, though nobody said that there is one."""
    with socket.create_connection((urlsplit(base).hostname, urlsplit(base).port), PATIENCE_S) as line:
        line.sendall(
            b"GET /accounts HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.77\r\nX-Forwarded-Proto: https\r\n"
            b"SCRIPT_NAME: /forged\r\nConnection: close\r\n\r\n"
        )
        answer = b"".join(iter(lambda: line.recv(4096), b""))
    assert b"302" in answer.split(b"\r\n")[0]
    assert b"forged" not in answer and b"https://" not in answer.partition(b"Content-Security")[0]


def ask(url: str, referer: str = "") -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(
                urllib.request.Request(url, headers={"Referer": referer}), timeout=PATIENCE_S
            ).close()
        except urllib.error.HTTPError as answered:
            answered.close()
        except urllib.error.URLError:
            time.sleep(0.1)
            continue
        return
    raise AssertionError("no answer")


def test_neither_signed_links_nor_queries_are_written_and_each_request_has_its_number(told: str):
    assert SECRET not in told
    assert "GET /m/(hidden)" in told
    assert "GET /accounts/callback" in told
    assert "next=" not in told
    assert "/healthz" not in told, "a probe that went well"
    [line] = [line for line in told.splitlines() if "GET /m/(hidden)" in line]
    assert "status=404" in line
    assert re.search(r"request=[0-9a-f]{32}", line)


def test_the_address_in_the_log_is_not_what_anybody_says_it_is(told: str):
    assert "203.0.113.77" not in told
    [line] = [line for line in told.splitlines() if re.search(r"GET /accounts\b(?!/)", line)]
    assert "address=127.0.0.1" in line


def test_a_signed_link_is_hidden_before_it_comes_to_the_log():
    assert access_log.shown(f"/m/{SECRET}.signature") == "/m/(hidden)"


def test_a_path_cannot_forge_a_line_of_the_log():
    assert access_log.shown("/x\n2026-01-01 all is well\x1b[31m") == "/x?2026-01-01 all is well?[31m"

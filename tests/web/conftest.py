"""The web side on a real database: an app, two people, and a browser for each.

app        create_app() on a fresh database
browser    a test client that sends the page's CSRF token with each form, as a browser does
ada, bob   signed-in browsers of two people
"""

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import argon2
import psycopg
import pytest
from cryptography.fernet import Fernet
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import FileSystemBytecodeCache
from pydantic import SecretStr
from werkzeug.test import TestResponse

from postflow import config, platforms, users
from postflow.accounts import accounts, servers
from postflow.models import Credentials, Limits, Profile, Server, utc_now
from postflow.platforms.instagram import Instagram
from web import app as web_app
from web.middleware import database

PASSWORD = "correct horse battery"
SHIPPED_HASHER = users._hasher
Started = Callable[..., Flask]


class Browser(FlaskClient):
    """Asks under the public address, reads the CSRF token from the last page and sends it along."""

    csrf = ""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        ours = urlsplit(self.application.extensions["settings"].public_url).netloc
        kwargs.setdefault("base_url", f"http://{ours}")
        if self.csrf and kwargs.get("method") == "POST" and type(kwargs.get("data")) is dict:
            kwargs["data"] = {"csrf_token": self.csrf, **kwargs["data"]}
        answer = super().open(*args, **kwargs)
        if answer.mimetype != "text/html":
            return answer
        if found := re.search(r'"X-CSRFToken": "([^"]+)"', answer.get_data(as_text=True)):
            self.csrf = found[1]
        return answer

    def send(self, path: str, **fields: str) -> TestResponse:
        """Load a page for its token, then send the form."""
        self.get("/sign-in", follow_redirects=True)
        return self.post(path, data=fields)


@pytest.fixture(scope="session")
def encryption_key() -> str:
    return Fernet.generate_key().decode()


@pytest.fixture(autouse=True)
def _cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real hashes, of a hundredth of the cost: each test signs somebody in."""
    monkeypatch.setattr(users, "_hasher", argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> FileSystemBytecodeCache:
    """The templates, for all apps of a test process: one compiles each of its own anew."""
    return FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))


@pytest.fixture
def start(
    database_url: str, encryption_key: str, compiled: FileSystemBytecodeCache, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Started]:
    """start(instagram_url=…) -> an app with these settings."""
    running: list[Flask] = []

    def started(**chosen: Any) -> Flask:
        environment = {
            "DATABASE_URL": database_url,
            "POSTFLOW_SECRET_KEY": "x" * 40,
            "POSTFLOW_ENCRYPTION_KEYS": encryption_key,
            "POSTFLOW_PUBLIC_URL": "http://localhost",
            **{f"POSTFLOW_{name.upper()}": str(value) for name, value in chosen.items()},
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings = config.load()
        monkeypatch.setitem(
            platforms.REGISTRY, "instagram", Instagram(settings)
        )  # it keeps the settings of its process
        app = web_app.create_app(settings)
        app.test_client_class = Browser
        app.jinja_env.bytecode_cache = compiled
        running.append(app)
        return app

    yield started
    for app in running:
        database.close(app)


@pytest.fixture
def app(start: Started) -> Flask:
    return start()


@pytest.fixture
def browser(app: Flask) -> Browser:
    return app.test_client()  # type: ignore[return-value]


@pytest.fixture
def signed_in(db: psycopg.Connection) -> Callable[[Flask, str], Browser]:
    """signed_in(app, "ada") -> her browser; the first one is the owner."""

    def of(app: Flask, name: str) -> Browser:
        make = users.create if users.any_yet(db) else users.create_owner
        make(db, f"{name}@example.org", PASSWORD, display_name=name.title())
        browser: Any = app.test_client()
        assert browser.send("/sign-in", email=f"{name}@example.org", password=PASSWORD).status_code == 302
        return browser

    return of


@pytest.fixture
def ada(app: Flask, signed_in: Callable[[Flask, str], Browser]) -> Browser:
    return signed_in(app, "ada")


@pytest.fixture
def bob(app: Flask, ada: Browser, signed_in: Callable[[Flask, str], Browser]) -> Browser:
    return signed_in(app, "bob")


def an_account(conn: psycopg.Connection, email: str, platform: str, limits: Limits) -> int:
    """Connected without a network: for pages that only read what is stored."""
    base_url = "" if platform == "instagram" else f"https://{platform}.example"
    server = Server(
        platform=platform, base_url=base_url, software=platform, version="4.5.0", limits=limits, fetched_at=utc_now()
    )
    servers.save(conn, server)
    [user_id] = conn.execute("SELECT id FROM users WHERE email = %s", [email]).fetchone() or [0]
    made = accounts.connect(
        conn,
        user_id,
        platform=platform,
        base_url=base_url,
        option="",
        profile=Profile(remote_id="1", handle=f"@ada@{platform}.example"),
        credentials=Credentials(access_token=SecretStr("a token")),
        keys=[SecretStr(Fernet.generate_key().decode())],
    )
    return made.id

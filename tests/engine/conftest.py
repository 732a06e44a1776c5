"""An engine on a real database and the sandbox's real sockets; two people, the second must see nothing of the first's."""

import base64
import io
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg
import pytest
from PIL import Image
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from postflow import config, crypto, db, jobs, platforms
from postflow.engine import Engine
from postflow.http import clients
from postflow.models import Attachment, Content, Credentials, Delivery, NewPost
from postflow.posts import scheduling
from sandbox import Sandbox

KEY = base64.urlsafe_b64encode(b"0123456789abcdef0123456789abcdef").decode()


@pytest.fixture
def settings(database_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> config.Settings:
    values = {
        "DATABASE_URL": database_url,
        "POSTFLOW_SECRET_KEY": "k" * 40,
        "POSTFLOW_ENCRYPTION_KEYS": KEY,
        "POSTFLOW_ALLOWED_PRIVATE": "127.0.0.1",
        "POSTFLOW_INSTAGRAM_URL": sandbox.url("instagram"),
        "POSTFLOW_SETTLE_S": "0",
        "POSTFLOW_BACKOFF_S": "0.01",
        "POSTFLOW_REQUEST_TIMEOUT_S": "3",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return config.load(values)


@pytest.fixture
async def engine(settings: config.Settings) -> AsyncIterator[Engine]:
    async with (
        db.async_pool(settings.database_url.get_secret_value(), max_size=8) as pool,
        clients.client(settings) as http,
        clients.commit_client(settings) as commit_http,
    ):
        yield Engine(pool=pool, settings=settings, http=http, commit_http=commit_http, wake=jobs.wake)


class Person(NamedTuple):
    user_id: int
    account_id: int
    handle: str


@pytest.fixture
def ada(db: psycopg.Connection) -> int:
    return a_user(db, "ada@example.org")


@pytest.fixture
def bob(db: psycopg.Connection) -> int:
    return a_user(db, "bob@example.org")


@pytest.fixture
def handle() -> str:
    """Of `account`, and the words of what is posted there."""
    return "ada-there"


@pytest.fixture
async def account(handle: str, db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int) -> int:
    """Ada's, on the newest Mastodon."""
    return await an_account(db, engine, sandbox, ada, "mastodon", handle)


def at_step(engine: Engine, step: str, do: Callable[[], Any]) -> Engine:
    """One that does this too when it has reached the step."""
    return replace(engine, reached=lambda reached: do() if reached == step else None)


def a_user(conn: psycopg.Connection, email: str) -> int:
    row = conn.execute("INSERT INTO users (email, password_hash) VALUES (%s, 'x') RETURNING id", [email]).fetchone()
    assert row
    return row[0]


async def an_account(
    conn: psycopg.Connection, engine: Engine, sandbox: Sandbox, user_id: int, instance: str, handle: str
) -> int:
    """Connected without the consent page: the token comes straight from the sandbox."""
    given = sandbox.add_account(instance, handle)
    name = instance if instance in platforms.REGISTRY else "mastodon"
    base_url = sandbox.url(instance)
    server = await platforms.get(name).server(engine.http, base_url)
    conn.execute(
        "INSERT INTO servers VALUES (%s, %s, %s, %s, %s, %s, %s, now()) ON CONFLICT DO NOTHING",
        [
            name,
            base_url,
            server.software,
            server.version,
            server.title,
            Jsonb(server.limits.model_dump(mode="json")),
            Jsonb(server.capabilities.model_dump(mode="json")),
        ],
    )
    credentials = Credentials(access_token=SecretStr(given.access_token))
    row = conn.execute(
        "INSERT INTO accounts (user_id, platform, base_url, remote_id, handle, sealed)"
        " VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
        [user_id, name, base_url, given.account_id, f"@{handle}", crypto.seal([SecretStr(KEY)], credentials)],
    ).fetchone()
    assert row
    return row[0]


def a_picture(conn: psycopg.Connection, user_id: int) -> int:
    out = io.BytesIO()
    Image.new("RGB", (640, 480), "teal").save(out, "JPEG")
    row = conn.execute(
        "INSERT INTO media (user_id, filename, kind, mime, size_bytes, width, height, sha256)"
        " VALUES (%s, 'sea.jpg', 'image', 'image/jpeg', %s, 640, 480, 'x') RETURNING id",
        [user_id, len(out.getvalue())],
    ).fetchone()
    assert row
    conn.execute("INSERT INTO media_files VALUES (%s, '', 'image/jpeg', 640, 480, %s)", [row[0], out.getvalue()])
    return row[0]


def scheduled(
    conn: psycopg.Connection,
    settings: config.Settings,
    user_id: int,
    account_ids: tuple[int, ...],
    text: str,
    *,
    media: tuple[int, ...] = (),
    thread: tuple[str, ...] = (),
    at: datetime | None = None,
    options: dict[str, dict[str, object]] | None = None,
) -> list[Delivery]:
    now = datetime.now(UTC)
    new = NewPost(
        content=Content(
            text=text,
            language="en",
            attachments=tuple(Attachment(media_id=one, alt_text="the sea") for one in media),
            options=options or {},
        ),
        thread=tuple(Content(text=part) for part in thread),
        account_ids=account_ids,
        post_date=at or now,
        time_zone="UTC",
    )
    with conn.transaction():
        made = scheduling.schedule(conn, user_id, new, now=now - timedelta(seconds=1))
        jobs.publish_later(conn, made.deliveries)
    return made.deliveries


def status_of(conn: psycopg.Connection, delivery: Delivery) -> str:
    row = conn.execute("SELECT status FROM deliveries WHERE id = %s", [delivery.id]).fetchone()
    assert row
    return row[0]

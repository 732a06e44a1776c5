"""A small world to publish in: the sandbox in a process of its own, accounts, posts that are due, and many that are not."""

import asyncio
import base64
import contextlib
import io
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import httpx
import psycopg
from PIL import Image
from pydantic import SecretStr

from benchmarks import ground
from postflow import accounts, children, config, media, net, platforms, scheduling, servers, users, waking
from postflow.models import Attachment, Content, Credentials, NewPost, Profile

#: Software and how many accounts on it: text and pictures on the first, pictures on the second.
ACCOUNTS = (("mastodon", 8), ("pixelfed", 4))


class Box(NamedTuple):
    """The running sandbox: its control address, and the instances' by name."""

    control: str
    urls: dict[str, str]


class Post(NamedTuple):
    """One that is measured, by the text that finds it in the sandbox's ledger."""

    text: str
    at: datetime
    pictured: bool


@contextlib.contextmanager
def sandbox() -> Iterator[Box]:
    for _ in range(5):  # ports follow on one another, and one of them may be taken
        port = 20_000 + secrets.randbelow(12_000)
        running = children.start(
            [sys.executable, "-m", "sandbox", "--port", str(port)],
            dies_by=signal.SIGKILL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert running.stdout
        words = running.stdout.readline().split()
        if words:
            try:
                yield Box(words[3], dict(word.split("=", 1) for word in words[4:]))
            finally:
                running.kill()
                running.wait()
                running.stdout.close()
            return
        running.wait()
        running.stdout.close()
    raise RuntimeError("the sandbox found no free ports")


def environment(database_url: str, box: Box) -> dict[str, str]:
    """What a worker of this world needs to know."""
    return {
        **os.environ,
        "DATABASE_URL": database_url,
        "POSTFLOW_SECRET_KEY": "benchmark " * 5,
        "POSTFLOW_ENCRYPTION_KEYS": base64.urlsafe_b64encode(b"0123456789abcdef0123456789abcdef").decode(),
        "POSTFLOW_ALLOWED_PRIVATE": "127.0.0.1",
        "POSTFLOW_INSTAGRAM_URL": box.urls["instagram"],
    }


@contextlib.contextmanager
def running(arguments: Sequence[str], count: int, environ: dict[str, str]) -> Iterator[None]:
    """So many processes of this Python, killed at the end; raises when one ended before."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            command = [sys.executable, *arguments]
            processes.append(children.start(command, dies_by=signal.SIGKILL, env=environ, **quiet))
        time.sleep(4)
        yield
        assert all(process.poll() is None for process in processes), f"a process ended by itself: {arguments}"
    finally:
        for process in processes:
            process.kill()
            process.wait()


def people(conn: psycopg.Connection, settings: config.Settings, box: Box) -> list[int]:
    """One person and the ids of their connected accounts."""
    owner = users.create_owner(conn, "bench@example.org", "a long enough password")
    return [
        account_id
        for name, count in ACCOUNTS
        for account_id in asyncio.run(_connected(conn, settings, box, owner.id, name, count))
    ]


async def _connected(
    conn: psycopg.Connection, settings: config.Settings, box: Box, user_id: int, name: str, count: int
) -> list[int]:
    ids = []
    async with net.client(settings) as http:
        server = await platforms.get(name).server(http, box.urls[name])
        servers.save(conn, server)
        for number in range(count):
            asked = {"instance": name, "handle": f"bench{number}x{secrets.token_hex(4)}"}
            given = (await http.post(f"{box.control}/_sandbox/accounts", json=asked)).raise_for_status().json()
            account = accounts.connect(
                conn,
                user_id,
                platform=name,
                base_url=box.urls[name],
                option="",
                profile=Profile(remote_id=str(given["account_id"]), handle=f"@{asked['handle']}"),
                credentials=Credentials(access_token=SecretStr(given["access_token"])),
                keys=settings.encryption_keys,
            )
            ids.append(account.id)
    return ids


def posts(
    conn: psycopg.Connection,
    settings: config.Settings,
    account_ids: Sequence[int],
    dates: Sequence[datetime],
    marker: str,
) -> list[Post]:
    """One per date, on the accounts in turn, two of three with a picture."""
    [user_id] = conn.execute("SELECT id FROM users").fetchone() or [0]
    picture = media.store(conn, user_id, "sea.jpg", _picture()).id
    text_only = ACCOUNTS[0][1] // 2
    made = []
    for number, date in enumerate(dates):
        place = number % len(account_ids)
        post = Post(f"{marker} number {number:04}.", date, place >= text_only)
        attachments = (Attachment(media_id=picture, alt_text="The sea."),) if post.pictured else ()
        new = NewPost(
            content=Content(text=post.text, language="en", attachments=attachments),
            account_ids=(account_ids[place],),
            post_date=date,
            time_zone="UTC",
        )
        with conn.transaction():
            stored = scheduling.schedule(conn, user_id, new, now=ground.now(conn), settings=settings)
            waking.publish_later(conn, stored.deliveries)
        made.append(post)
    return made


def crowd(conn: psycopg.Connection, account_ids: Sequence[int], count: int) -> None:
    """Posts for the next year, beginning tomorrow: rows, deliveries and both jobs of each."""
    conn.execute("SET session_replication_role = replica")
    conn.execute(
        """
        WITH made AS (
            INSERT INTO posts (user_id, content, post_date, time_zone)
            SELECT (SELECT id FROM users), '{"text": "Not yet."}', now() + interval '1 day' + random() * interval '1 year',
                   'UTC' FROM generate_series(1, %(count)s) RETURNING id, post_date),
        delivered AS (
            INSERT INTO deliveries (post_id, account_id, revision, wake_at)
            SELECT id, (%(accounts)s::bigint[])[1 + id %% cardinality(%(accounts)s::bigint[])], 1, post_date FROM made
            RETURNING id, wake_at)
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, args, scheduled_at)
        SELECT 'posts', story, priority, jsonb_build_object('delivery_id', id), wake_at - early
          FROM delivered, (VALUES ('publish', 10, interval '0'), ('prepare', 0, interval '10 minutes'))
               AS job (story, priority, early)
        """,
        {"count": count, "accounts": list(account_ids)},
    )
    conn.execute("SET session_replication_role = origin")
    conn.execute("VACUUM ANALYZE")


def dates(conn: psycopg.Connection, count: int, *, lead_s: float, window_s: float, seed: int) -> list[datetime]:
    """Random instants inside the window that begins in `lead_s`, by the database's clock."""
    begin, chance = ground.now(conn), random.Random(seed)  # noqa: S311
    return [begin + timedelta(seconds=lead_s + chance.uniform(0, window_s)) for _ in range(count)]


def lateness_ms(box: Box, made: Sequence[Post]) -> dict[str, float]:
    """Text → how long after its date the visible request arrived at the network. Raises when one came early or twice."""
    arrived = arrivals(box)
    late = {}
    for post in made:
        [at] = arrived.get(post.text, [])
        late[post.text] = (at - post.at.timestamp()) * 1000
    early = [text for text, ms in late.items() if ms < 0]
    assert not early, f"published before their time: {early}"
    return late


def arrivals(box: Box) -> Mapping[str, list[float]]:
    """Text → when each request to publish it arrived, epoch seconds."""
    asked = {"show": "requests", "method": "POST", "path": "/api/v1/statuses"}
    answer = httpx.get(f"{box.control}/_sandbox/ledger", params=asked, timeout=60).raise_for_status()
    found: dict[str, list[float]] = {}
    for request in answer.json()["requests"]:
        text: Any = request["params"].get("status")
        if request["path"].endswith("/statuses") and isinstance(text, str):
            found.setdefault(text, []).append(request["received_ns"] / 1e9)
    return found


def _picture() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((1600, 1200), 40).convert("RGB").save(out, "JPEG", quality=85)
    return out.getvalue()

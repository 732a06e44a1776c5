"""Who publishes: one person, their accounts in the sandbox, posts that are due, many that are not, and what arrived."""

import asyncio
import io
import random
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import httpx
import psycopg
from PIL import Image
from pydantic import SecretStr

from benchmarks import ground, world
from postflow import config, jobs, platforms, users
from postflow.accounts import accounts, servers
from postflow.http import clients
from postflow.media import media
from postflow.models import Attachment, Content, Credentials, NewPost, Profile
from postflow.posts import scheduling

#: Networks and how many accounts on each. Half of the first ones publish text alone, all others pictures.
ACCOUNTS = (("mastodon", 8), ("pixelfed", 4), ("instagram", 4))
_TEXT_ONLY = ACCOUNTS[0][1] // 2
_NETWORKS = [name for name, count in ACCOUNTS for _ in range(count)]


class Post(NamedTuple):
    """One that is measured."""

    delivery_id: int
    text: str
    at: datetime
    network: str
    pictured: bool


class Late(NamedTuple):
    """How long after its date the visible request for a post arrived at the network."""

    post: Post
    ms: float


def move_in(conn: psycopg.Connection, settings: config.Settings, box: world.Box) -> list[int]:
    """One person and the ids of their connected accounts."""
    owner = users.create_owner(conn, "bench@example.org", "a long enough password")
    return [
        account_id
        for name, count in ACCOUNTS
        for account_id in asyncio.run(_connected(conn, settings, box, owner.id, name, count))
    ]


async def _connected(
    conn: psycopg.Connection, settings: config.Settings, box: world.Box, user_id: int, name: str, count: int
) -> list[int]:
    ids = []
    base_url = "" if name == "instagram" else box.urls[name]
    async with clients.client(settings) as http:
        servers.save(conn, await platforms.get(name).server(http, base_url))
        for number in range(count):
            asked = {"instance": name, "handle": f"bench{number}x{secrets.token_hex(4)}"}
            given = (await http.post(f"{box.control}/_sandbox/accounts", json=asked)).raise_for_status().json()
            account = accounts.connect(
                conn,
                user_id,
                platform=name,
                base_url=base_url,
                option="",
                profile=Profile(remote_id=str(given["account_id"]), handle=f"@{asked['handle']}"),
                credentials=Credentials(access_token=SecretStr(given["access_token"]), issued_at=ground.now(conn)),
                keys=settings.encryption_keys,
            )
            ids.append(account.id)
    return ids


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
            INSERT INTO deliveries (post_id, account_id, place, revision, wake_at)
            SELECT made.id, a.id, concat_ws(' ', a.platform, a.base_url, a.remote_id), 1, post_date
              FROM made JOIN accounts a ON a.id = (%(accounts)s::bigint[])[1 + made.id %% cardinality(%(accounts)s::bigint[])]
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


def write(conn: psycopg.Connection, dates: Sequence[datetime], marker: str) -> list[Post]:
    """One post per date, on the accounts in turn."""
    [user_id] = conn.execute("SELECT id FROM users").fetchone() or [0]
    account_ids = [row[0] for row in conn.execute("SELECT id FROM accounts ORDER BY id").fetchall()]
    picture = media.store(conn, user_id, "sea.jpg", _picture()).id
    made = []
    for number, date in enumerate(dates):
        place = number % len(account_ids)
        text, pictured = f"{marker} number {number:04}.", place >= _TEXT_ONLY
        new = NewPost(
            content=Content(
                text=text,
                language="en",
                attachments=(Attachment(media_id=picture, alt_text="The sea."),) if pictured else (),
            ),
            account_ids=(account_ids[place],),
            post_date=date,
            time_zone="UTC",
        )
        with conn.transaction():
            stored = scheduling.schedule(conn, user_id, new, now=ground.now(conn))
            jobs.publish_later(conn, stored.deliveries)
        made.append(Post(stored.deliveries[0].id, text, date, _NETWORKS[place], pictured))
    return made


def states(conn: psycopg.Connection, made: Sequence[Post]) -> dict[str, int]:
    """Of these posts, how many are in which state."""
    query = "SELECT status, count(*) FROM deliveries WHERE id = ANY(%s) GROUP BY status"
    return dict(conn.execute(query, [[post.delivery_id for post in made]]).fetchall())


def lateness(conn: psycopg.Connection, box: world.Box, made: Sequence[Post]) -> list[Late]:
    """Raises when one came early, twice, or never."""
    containers = dict(
        conn.execute("SELECT id, staged->'parent'->>'remote_id' FROM deliveries WHERE staged IS NOT NULL")
    )
    statuses = arrivals(box, "/api/v1/statuses", "status")
    published = arrivals(box, "/media_publish", "creation_id")
    late = []
    for post in made:
        by_container = post.network == "instagram"
        found = published.get(containers[post.delivery_id], []) if by_container else statuses.get(post.text, [])
        assert len(found) == 1, f"requested {len(found)} times: {post}"
        late.append(Late(post, (found[0] - post.at.timestamp()) * 1000))
    assert all(one.ms >= 0 for one in late), f"before its time: {min(late, key=lambda one: one.ms)}"
    return late


def arrivals(box: world.Box, path: str, field: str) -> dict[str, list[float]]:
    """A field of each POST to a path that ends like this → when it arrived, epoch seconds."""
    asked = {"show": "requests", "method": "POST", "path": path}
    answer = httpx.get(f"{box.control}/_sandbox/ledger", params=asked, timeout=60).raise_for_status()
    found: dict[str, list[float]] = {}
    for request in answer.json()["requests"]:
        if request["path"].endswith(path) and field in request["params"]:
            found.setdefault(str(request["params"][field]), []).append(request["received_ns"] / 1e9)
    return found


def _picture() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((1600, 1200), 40).convert("RGB").save(out, "JPEG", quality=85)
    return out.getvalue()

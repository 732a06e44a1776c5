"""The first start shows the main job: `python -m worker.demo` seeds an empty database beside a running sandbox.

A demo owner (the password is printed), one account on each network, and a post with a picture, due in a moment.
"""

import asyncio
import io
import secrets
import sys
import time
from datetime import timedelta

import httpx
import psycopg
from PIL import Image, ImageDraw
from pydantic import SecretStr

from postflow import config, db, jobs, platforms, users
from postflow.accounts import accounts, servers
from postflow.config import Settings
from postflow.errors import PostFlowError
from postflow.http import clients
from postflow.media import media
from postflow.models import Attachment, Content, Credentials, NewPost, Profile, utc_now
from postflow.platforms.base import Connected
from postflow.posts import scheduling

EMAIL = "demo@postflow.example"
NETWORKS = ("mastodon", "pixelfed", "instagram")
DUE_IN_S = 10
PATIENCE_S = 30


def main() -> int:
    settings = config.load()
    with db.connect(settings.database_url.get_secret_value()) as conn:
        if users.any_yet(conn):
            return 0
        try:
            connected = asyncio.run(_connected(settings))
        except (PostFlowError, httpx.HTTPError) as error:
            print(f"The demo could not be set up: {error}", file=sys.stderr)  # noqa: T201
            return 1
        password = secrets.token_urlsafe(12)
        with conn.transaction():
            _seed(conn, settings, connected, password)
    print(f"Sign in at {settings.public_url} as {EMAIL} with the password {password}")  # noqa: T201
    print(f"A post goes out to {', '.join(NETWORKS)} in {DUE_IN_S} seconds.", flush=True)  # noqa: T201
    return 0


async def _connected(settings: Settings) -> list[tuple[servers.Server, Connected]]:
    """One account per network; the sandbox hands out the tokens without its consent pages."""
    async with clients.client(settings) as http:
        bases = await _bases(http, settings)
        found = []
        for name in NETWORKS:
            # Instagram is one place: its accounts carry no address.
            server = await platforms.get(name).server(http, "" if name == "instagram" else bases[name])
            asked = {"instance": name, "handle": "demo"}
            given = (await http.post(f"{settings.sandbox_url}/_sandbox/accounts", json=asked)).json()
            handle = "@demo" if name == "instagram" else f"@demo@{bases[name].split('://')[1]}"
            credentials = Credentials(access_token=SecretStr(given["access_token"]), issued_at=utc_now())
            profile = Profile(
                remote_id=str(given["account_id"]),
                handle=handle,
                display_name="Demo",
                profile_url=f"{bases[name]}/@demo",
            )
            found.append((server, Connected(profile=profile, credentials=credentials)))
        return found


async def _bases(http: httpx.AsyncClient, settings: Settings) -> dict[str, str]:
    """The sandbox's instances, once it is up."""
    url = f"{settings.sandbox_url}/_sandbox/instances"
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer = await http.get(url)
            return {one["name"]: one["url"].rstrip("/") for one in answer.raise_for_status().json()["instances"]}
        except httpx.HTTPError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.2)


def _seed(
    conn: psycopg.Connection, settings: Settings, connected: list[tuple[servers.Server, Connected]], password: str
) -> None:
    owner = users.create_owner(conn, EMAIL, password, display_name="Demo", time_zone=settings.time_zone)
    ids = []
    for server, one in connected:
        servers.save(conn, server)
        account = accounts.connect(
            conn,
            owner.id,
            platform=server.platform,
            base_url=server.base_url,
            option="",
            profile=one.profile,
            credentials=one.credentials,
            keys=settings.encryption_keys,
        )
        ids.append(account.id)
    picture = media.store(conn, owner.id, "first-light.jpg", _picture())
    now = utc_now()
    new = NewPost(
        content=Content(
            text="Hello from PostFlow: written once, out on three networks, on the second.",
            language="en",
            attachments=(Attachment(media_id=picture.id, alt_text="A low sun over calm water."),),
        ),
        account_ids=tuple(ids),
        post_date=now + timedelta(seconds=DUE_IN_S),
        time_zone=owner.time_zone,
    )
    made = scheduling.schedule(conn, owner.id, new, now=now)
    jobs.publish_later(conn, made.deliveries)


def _picture() -> bytes:
    """A sun over the sea, drawn here: a demo needs no stock photo."""
    image = Image.new("RGB", (1200, 900))
    draw = ImageDraw.Draw(image)
    for y in range(900):
        sky = y < 560
        shade = y / 560 if sky else (y - 560) / 340
        color = (int(40 + 200 * shade), int(60 + 90 * shade), int(120 - 20 * shade)) if sky else None
        draw.line([(0, y), (1200, y)], fill=color or (int(150 - 120 * shade), int(100 - 50 * shade), 110))
    draw.ellipse([500, 400, 700, 600], fill=(255, 226, 160))
    draw.rectangle([0, 560, 1200, 600], fill=(150, 100, 110))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())

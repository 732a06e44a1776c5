"""The people of the run: they write every post beforehand, and change their minds while it is on its way."""

import asyncio
import contextlib
import io
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import psycopg
from PIL import Image
from psycopg import Connection
from pydantic import SecretStr

from chaos.plan import Deed, Plan, PlannedDeed, PlannedPost
from chaos.stage import Stage
from postflow import accounts, db, media, net, platforms, scheduling, servers, users, waking
from postflow.errors import PostFlowError
from postflow.models import Attachment, Content, Credentials, Media, NewPost, Profile
from postflow.platforms.base import Platform

_PLATFORM = {"gotosocial": "mastodon", "mastodon-4.1": "mastodon"}
_COLOURS = ("teal", "gold", "crimson")


class People:
    """One person who owns all accounts; `posts` maps the plan's numbers to the stored posts."""

    def __init__(self, stage: Stage, plan: Plan) -> None:
        self._stage, self._plan = stage, plan
        self._user_id = 0
        self._accounts: dict[str, int] = {}
        self._pictures: list[Media] = []
        self._posts: dict[int, int] = {}
        self.began_at: datetime | None = None
        self.deeds = self.refused = 0

    def move_in(self) -> None:
        """Accounts with their tokens straight from the sandbox, and a few pictures."""
        with self._stage.connect() as conn:
            owner = users.create_owner(conn, "chaos@postflow.example", "a password for nobody", time_zone="UTC")
            self._user_id = owner.id
            for name, base_url, server in asyncio.run(self._servers()):
                servers.save(conn, server)
                self._connect(conn, name, base_url)
            self._pictures = [media.store(conn, owner.id, f"{colour}.jpg", _picture(colour)) for colour in _COLOURS]

    async def _servers(self) -> list[tuple[str, str, servers.Server]]:
        found = []
        async with net.client(self._stage.settings) as http:
            for instance in sorted(set(self._plan.accounts.values())):
                platform: Platform = platforms.get(_PLATFORM.get(instance, instance))
                base_url = "" if platform.name == "instagram" else self._stage.sandbox.url(instance)
                found.append((instance, base_url, await platform.server(http, base_url)))
        return found

    def _connect(self, conn: Connection, instance: str, base_url: str) -> None:
        for handle in [handle for handle, place in self._plan.accounts.items() if place == instance]:
            given = self._stage.sandbox.add_account(instance, handle)
            account = accounts.connect(
                conn,
                self._user_id,
                platform=_PLATFORM.get(instance, instance),
                base_url=base_url,
                option="",
                profile=Profile(remote_id=given.account_id, handle=f"@{handle}"),
                credentials=Credentials(access_token=SecretStr(given.access_token), issued_at=db.now(conn)),
                keys=self._stage.settings.encryption_keys,
            )
            self._accounts[handle] = account.id

    def write_all(self) -> None:
        """Everything is scheduled before the first post is due; `began_at` is the run's second zero."""
        with self._stage.connect() as conn:
            # Writing takes its time: about 3 ms a post.
            self.began_at = db.now(conn) + timedelta(seconds=1 + 0.004 * len(self._plan.posts))
            for post in self._plan.posts:
                with conn.transaction():
                    made = scheduling.schedule(
                        conn,
                        self._user_id,
                        self._new(post, version=1),
                        now=db.now(conn),
                        settings=self._stage.settings,
                    )
                    waking.publish_later(conn, made.deliveries)
                self._posts[post.number] = made.posts[0].id

    def _new(self, post: PlannedPost, *, version: int) -> NewPost:
        assert self.began_at
        attachments = tuple(
            Attachment(media_id=one.id, alt_text=one.filename) for one in self._pictures[: post.pictures]
        )
        parts = [Content(text=marker(post.number, part, version), language="en") for part in range(post.parts)]
        return NewPost(
            content=parts[0].model_copy(update={"attachments": attachments}),
            thread=tuple(parts[1:]),
            account_ids=tuple(self._accounts[handle] for handle in post.accounts),
            post_date=self.began_at + timedelta(seconds=post.due_s),
            time_zone="UTC",
        )

    # -- while it is on its way --------------------------------------------------------------------------------

    def change_their_minds(self, planned: PlannedDeed) -> None:
        """One deed, or two at the same moment from two windows; being told "too late" is an answer, too."""
        wanted = [planned.deed, *([planned.at_once] if planned.at_once else [])]
        windows = [threading.Thread(target=self._try, args=(planned.post, deed)) for deed in wanted]
        for window in windows:
            window.start()
        for window in windows:
            window.join()

    def _try(self, number: int, deed: Deed) -> None:
        self.deeds += 1
        post = self._plan.posts[number]
        with contextlib.suppress(psycopg.OperationalError):  # the database was away: the person sees a page saying so
            try:
                with self._stage.connect() as conn, conn.transaction():
                    _DEEDS[deed](self, conn, post)
            except PostFlowError:
                self.refused += 1

    def _edit(self, conn: Connection, post: PlannedPost) -> None:
        post_id = self._posts[post.number]
        stored = scheduling.posts.get(conn, self._user_id, post_id)
        made = scheduling.edit(
            conn,
            self._user_id,
            post_id,
            self._new(post, version=stored.revision + 1).model_copy(update={"post_date": stored.post_date}),
            revision=stored.revision,
            now=db.now(conn),
            settings=self._stage.settings,
        )
        waking.publish_later(conn, made.deliveries)

    def _move(self, conn: Connection, post: PlannedPost) -> None:
        now = db.now(conn)
        moved = scheduling.move(
            conn,
            self._user_id,
            self._posts[post.number],
            now + timedelta(seconds=3),
            now=now,
            settings=self._stage.settings,
        )
        waking.publish_later(conn, moved)

    def _publish_now(self, conn: Connection, post: PlannedPost) -> None:
        moved = scheduling.publish_now(conn, self._user_id, self._posts[post.number], now=db.now(conn))
        waking.publish_later(conn, moved)

    def _cancel(self, conn: Connection, post: PlannedPost) -> None:
        scheduling.cancel(conn, self._user_id, self._posts[post.number])

    def _retry(self, conn: Connection, post: PlannedPost) -> None:
        rows = conn.execute(
            "SELECT d.id FROM deliveries d WHERE d.post_id = %s AND d.status IN ('failed', 'missed', 'cancelled')",
            [self._posts[post.number]],
        ).fetchall()
        for (delivery_id,) in rows:
            again = scheduling.retry(conn, self._user_id, delivery_id, now=db.now(conn))
            waking.publish_later(conn, again)


_DEEDS: dict[Deed, Callable[[People, Connection, PlannedPost], None]] = {
    "edit": People._edit,
    "move": People._move,
    "publish_now": People._publish_now,
    "cancel": People._cancel,
    "retry": People._retry,
}


def marker(number: int, part: int, version: int) -> str:
    """What the ledger is searched for; `verdict.MARKER` reads it back."""
    return f"Chaos post {number:05}.{part}, version {version}"


def _picture(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (640, 640), colour).save(out, "JPEG")
    return out.getvalue()

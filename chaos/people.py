"""The people of the run: they write every post beforehand, and change their minds while it is on its way."""

import asyncio
import contextlib
import io
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

import psycopg
from PIL import Image
from psycopg import Connection
from pydantic import SecretStr

from chaos.plan import Deed, Plan, PlannedPost
from chaos.rows import Row
from chaos.stage import Stage
from postflow import db, jobs, platforms, users
from postflow.accounts import accounts, servers
from postflow.errors import PostFlowError
from postflow.http import clients
from postflow.media import media
from postflow.models import Attachment, Content, Credentials, Media, NewPost, Profile
from postflow.platforms.base import Platform
from postflow.posts import scheduling

_PLATFORM = {"gotosocial": "mastodon", "mastodon-4.1": "mastodon", "akkoma": "mastodon"}
_COLOURS = ("teal", "gold", "crimson")


@dataclass
class _Person:
    user_id: int
    pictures: list[Media]
    accounts: dict[str, int] = field(default_factory=dict)  # by handle


@dataclass
class Wish:
    """One window of one person, and what they were told. `unclear`: the connection broke before an answer came."""

    post: int
    deed: Deed
    outcome: Literal["away", "done", "too late", "unclear"] = "away"
    version: int | None = None  # an edit's text
    post_date: datetime | None = None  # the date that goes with an edit, a move or a publish now
    held_back: tuple[int, ...] = ()  # the deliveries that a cancel stopped

    @property
    def may_hold(self) -> bool:
        return self.outcome in ("done", "unclear")


class People:
    """One person who has connected all accounts, and one who has connected some of them, too. `posts` maps the plan's
    numbers to the stored posts, `numbers` the other way.
    """

    def __init__(self, stage: Stage, plan: Plan) -> None:
        self._stage, self._plan = stage, plan
        self._persons: list[_Person] = []
        self._posts: dict[int, int] = {}
        self.numbers: dict[int, int] = {}
        self.began_at: datetime | None = None
        self.wishes: list[Wish] = []
        self.asked: list[tuple[Row, timedelta]] = []  # what only they could tell, and how much was skipped before
        self.surprises: list[str] = []  # whatever no person may ever see
        self._at_work: threading.Thread | None = None
        self._open_windows, self._quiet = 0, threading.Condition()
        self._may_open = True

    def move_in(self) -> None:
        """Accounts with their tokens straight from the sandbox, and a few pictures."""
        with self._stage.connect() as conn:
            owner = users.create_owner(conn, "chaos@postflow.example", "a password for nobody", time_zone="UTC")
            other = users.create(conn, "other@postflow.example", "a password for nobody", time_zone="UTC")
            known = asyncio.run(self._servers())
            for _, _, server in known:
                servers.save(conn, server)
            for user, handles in ((owner, frozenset(self._plan.accounts)), (other, self._plan.shared)):
                person = _Person(
                    user.id, [media.store(conn, user.id, f"{colour}.jpg", _picture(colour)) for colour in _COLOURS]
                )
                for name, base_url, _ in known:
                    self._connect(conn, person, handles, name, base_url)
                self._persons.append(person)

    async def _servers(self) -> list[tuple[str, str, servers.Server]]:
        found = []
        async with clients.client(self._stage.settings) as http:
            for instance in sorted(set(self._plan.accounts.values())):
                platform: Platform = platforms.get(_PLATFORM.get(instance, instance))
                base_url = "" if platform.name == "instagram" else self._stage.sandbox.url(instance)
                found.append((instance, base_url, await platform.server(http, base_url)))
        return found

    def _connect(
        self, conn: Connection, person: "_Person", handles: frozenset[str], instance: str, base_url: str
    ) -> None:
        for handle in sorted(handle for handle in handles if self._plan.accounts[handle] == instance):
            given = self._stage.sandbox.add_account(instance, handle)
            account = accounts.connect(
                conn,
                person.user_id,
                platform=_PLATFORM.get(instance, instance),
                base_url=base_url,
                option="",
                profile=Profile(remote_id=given.account_id, handle=f"@{handle}"),
                credentials=Credentials(access_token=SecretStr(given.access_token), issued_at=db.now(conn)),
                keys=self._stage.settings.encryption_keys,
            )
            person.accounts[handle] = account.id

    def write_all(self) -> None:
        """Everything is scheduled before the first post is due; `began_at` is the run's second zero."""
        with self._stage.connect() as conn:
            self.began_at = db.now(conn) + timedelta(seconds=1 + 2 * self._seconds_each(conn) * len(self._plan.posts))
            for post in self._plan.posts:
                with conn.transaction():
                    first = self._write(conn, post)
                self._posts[post.number] = first
                self.numbers[first] = post.number

    def _seconds_each(self, conn: Connection) -> float:
        """Writing takes its time, and on a busy machine more of it: so the first are written for trial."""
        trial = self._plan.posts[:20]
        self.began_at = db.now(conn) + timedelta(hours=1)
        began = time.monotonic()
        with conn.transaction(force_rollback=True):
            for post in trial:
                self._write(conn, post)
        return (time.monotonic() - began) / max(1, len(trial))

    def _write(self, conn: Connection, post: PlannedPost) -> int:
        """The id of its first part."""
        made = scheduling.schedule(
            conn,
            self._person(post.number).user_id,
            self._new(post, version=1),
            now=db.now(conn),
        )
        jobs.publish_later(conn, made.deliveries)
        return made.posts[0].id

    def _new(self, post: PlannedPost, *, version: int) -> NewPost:
        assert self.began_at
        person = self._persons[post.person]
        attachments = tuple(
            Attachment(media_id=one.id, alt_text=one.filename) for one in person.pictures[: post.pictures]
        )
        parts = [Content(text=marker(post.says, part, version), language="en") for part in range(post.parts)]
        return NewPost(
            content=parts[0].model_copy(update={"attachments": attachments}),
            thread=tuple(parts[1:]),
            account_ids=tuple(person.accounts[handle] for handle in post.accounts),
            post_date=self.began_at + timedelta(seconds=post.due_s),
            time_zone="UTC",
        )

    def user_of(self, post: int) -> int:
        return self._person(post).user_id

    def _person(self, post: int) -> "_Person":
        return self._persons[self._plan.posts[post].person]

    # -- while it is on its way --------------------------------------------------------------------------------

    def begin(self, zero: float) -> None:
        """Every deed at its time, `zero` by the monotonic clock, whatever else happens meanwhile."""
        self._at_work = threading.Thread(target=self._go_through, args=(zero,), name="people")
        self._at_work.start()

    def finish(self) -> None:
        """Returns when the last window is closed."""
        if self._at_work:
            self._at_work.join()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Nobody does anything meanwhile: what a person does in a moment that the database forgets, nobody can know of."""
        with self._quiet:
            self._may_open = False
            self._quiet.wait_for(lambda: not self._open_windows)
        try:
            yield
        finally:
            with self._quiet:
                self._may_open = True
                self._quiet.notify_all()

    def _go_through(self, zero: float) -> None:
        windows: list[threading.Thread] = []
        for planned in self._plan.deeds:
            time.sleep(max(0.0, zero + planned.at_s - time.monotonic()))
            for deed in (planned.deed, planned.at_once):
                if deed is None:
                    continue
                wish = Wish(planned.post, deed)
                self.wishes.append(wish)
                windows.append(threading.Thread(target=self._try, args=(wish,)))
                windows[-1].start()
        for window in windows:
            window.join()

    def _try(self, wish: Wish) -> None:
        """Being told "too late" is an answer, too; so is a page saying that the database is away."""
        with self._quiet:
            self._quiet.wait_for(lambda: self._may_open)
            self._open_windows += 1
        try:
            with self._stage.connect(patience_s=0) as conn:
                wish.outcome = "unclear"  # until it is told
                with conn.transaction():
                    _DEEDS[wish.deed](self, conn, wish)
            wish.outcome = "done"
        except PostFlowError:
            wish.outcome = "too late"
        except psycopg.OperationalError as error:
            if not _connection_lost(error):
                self.surprises.append(f"{wish.deed} of post {wish.post}: {error!r}")
        except Exception:  # noqa: BLE001 each fails the run
            self.surprises.append(f"{wish.deed} of post {wish.post}: {traceback.format_exc()}")
        finally:
            with self._quiet:
                self._open_windows -= 1
                self._quiet.notify_all()

    def _edit(self, conn: Connection, wish: Wish) -> None:
        post_id, user_id = self._posts[wish.post], self._person(wish.post).user_id
        stored = scheduling.posts.get(conn, user_id, post_id)
        wish.version, wish.post_date = stored.revision + 1, stored.post_date
        made = scheduling.edit(
            conn,
            user_id,
            post_id,
            self._new(self._plan.posts[wish.post], version=wish.version).model_copy(
                update={"post_date": stored.post_date}
            ),
            revision=stored.revision,
            now=db.now(conn),
        )
        jobs.publish_later(conn, made.deliveries)

    def _move(self, conn: Connection, wish: Wish) -> None:
        now = db.now(conn)
        wish.post_date = now + timedelta(seconds=3)
        moved = scheduling.move(
            conn,
            self._person(wish.post).user_id,
            self._posts[wish.post],
            wish.post_date,
            now=now,
        )
        jobs.publish_later(conn, moved)

    def _publish_now(self, conn: Connection, wish: Wish) -> None:
        wish.post_date = db.now(conn)
        moved = scheduling.publish_now(
            conn, self._person(wish.post).user_id, self._posts[wish.post], now=wish.post_date
        )
        jobs.publish_later(conn, moved)

    def _cancel(self, conn: Connection, wish: Wish) -> None:
        stopped = scheduling.cancel(conn, self._person(wish.post).user_id, self._posts[wish.post])
        wish.held_back = tuple(one.id for one in stopped)

    def _retry(self, conn: Connection, wish: Wish) -> None:
        rows = conn.execute(
            "SELECT d.id FROM deliveries d WHERE d.post_id = %s AND d.status IN ('failed', 'missed', 'cancelled')",
            [self._posts[wish.post]],
        ).fetchall()
        for (delivery_id,) in rows:
            again = scheduling.retry(conn, self._person(wish.post).user_id, delivery_id, now=db.now(conn))
            jobs.publish_later(conn, again)


_DEEDS: dict[Deed, Callable[[People, Connection, Wish], None]] = {
    "edit": People._edit,
    "move": People._move,
    "publish_now": People._publish_now,
    "cancel": People._cancel,
    "retry": People._retry,
}


def marker(number: int, part: int, version: int) -> str:
    """What the ledger is searched for; `rows.MARKER` reads it back."""
    return f"Chaos post {number:05}.{part}, version {version}"


def _connection_lost(error: psycopg.OperationalError) -> bool:
    """The session or the server went away. A deadlock, say, is no such thing: that would be a fault of ours."""
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def _picture(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (640, 640), colour).save(out, "JPEG")
    return out.getvalue()

"""PostFlow whole, as it is run: its pages in a browser, a database of its own, a worker under the stock command."""

import base64
import io
import os
import re
import secrets
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest
from PIL import Image
from psycopg.rows import class_row
from pydantic import SecretStr
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from postflow import config, crypto, users
from postflow.accounts import accounts, servers
from postflow.models import Account, Credentials, Delivery, Server
from postflow.posts import deliveries, scheduling
from tests.acceptance.test_workers import COMMAND
from tests.web.conftest import PASSWORD, Browser
from web import app as web_app
from web.middleware import database
from worker import tasks

Fields = list[tuple[str, Any]]
#: From the moment a post is given its date until that date comes: time to upload its pictures.
AHEAD_S = 8.0
RESTS = ("published", "failed", "missed", "cancelled", "attention")


class Out(NamedTuple):
    """What became of one part of a post."""

    delivery: Delivery
    due: datetime


@dataclass
class House:
    """`start` it once. Settings are the shipped ones, but for what is set in this process's environment."""

    database_url: str
    public_url: str
    server_at: str
    logs: Path

    def start(self, environment: pytest.MonkeyPatch) -> None:
        for name, value in {
            "DATABASE_URL": self.database_url,
            "POSTFLOW_SECRET_KEY": secrets.token_urlsafe(40),
            "POSTFLOW_ENCRYPTION_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "POSTFLOW_PUBLIC_URL": self.public_url,
            "POSTFLOW_ALLOWED_PRIVATE": self.server_at.removeprefix("http://"),
        }.items():
            environment.setenv(name, value)
        self.settings = config.load()
        self.db = psycopg.connect(self.database_url, autocommit=True)
        self.app = web_app.create_app(self.settings)
        self.app.test_client_class = Browser
        self.user_id = users.create_owner(self.db, "live@example.org", PASSWORD, display_name="Live").id
        self.browser: Any = self.app.test_client()
        assert self.browser.send("/sign-in", email="live@example.org", password=PASSWORD).status_code == 302
        self._worker: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        self.kill_worker()
        database.close(self.app)
        self.db.close()

    # -- the worker ------------------------------------------------------------------------------------------

    def start_worker(self) -> None:
        with self.logs.open("ab") as log:
            self._worker = subprocess.Popen(COMMAND, env=dict(os.environ), stdout=log, stderr=log)
        self.until("SELECT count(*) > 0 FROM procrastinate_workers", 60)

    def kill_worker(self) -> None:
        """-9: nothing is tidied up, nothing said to the database."""
        if self._worker:
            self._worker.kill()
            self._worker.wait()
        self._worker = None

    # -- the account -----------------------------------------------------------------------------------------

    def connect_by_token(self, token: str) -> None:
        form = {"mastodon.token.instance": self.server_at, "mastodon.token.token": token}
        self._connected(self.browser.send("/accounts/sign-in/mastodon/token", **form))

    def consent_page(self) -> str:
        away = self.browser.send("/accounts/connect", instance=self.server_at)
        assert away.status_code == 302, " ".join(sentences(away))
        return away.headers["Location"]

    def came_back(self, callback: str, query: str) -> None:
        self._connected(self.browser.get(f"{urlsplit(callback).path}?{query}"))

    def disconnect(self) -> None:
        self._followed(self.browser.send(f"/accounts/{self.account.id}/disconnect"))

    def _connected(self, answer: TestResponse) -> None:
        page = self._followed(answer)
        assert "connected." in page.text, " ".join(sentences(page))

    def _followed(self, answer: TestResponse) -> TestResponse:
        assert answer.status_code == 302, " ".join(sentences(answer))
        return self.browser.get(answer.headers["Location"])

    @property
    def account(self) -> Account:
        return accounts.of_user(self.db, self.user_id)[0]

    @property
    def by_hand(self) -> bool:
        return accounts.option_of(self.db, self.account.id) == "token"

    @property
    def server(self) -> Server:
        found = servers.get(self.db, self.account.platform, self.server_at)
        assert found
        return found

    def token(self) -> str:
        keys = self.settings.encryption_keys
        return accounts.login_of(
            self.db, self.user_id, self.account.id, keys
        ).credentials.access_token.get_secret_value()

    def spoil_token(self) -> None:
        """As if the access had been withdrawn: what is stored opens nothing there."""
        spoilt = Credentials(access_token=SecretStr("x" + secrets.token_urlsafe(32)))
        sealed = crypto.seal(self.settings.encryption_keys, spoilt)
        self.db.execute("UPDATE accounts SET sealed = %s WHERE id = %s", [sealed, self.account.id])

    # -- posts -----------------------------------------------------------------------------------------------

    def upload(self, colour: str, width: int = 640, height: int = 480) -> int:
        out = io.BytesIO()
        Image.new("RGB", (width, height), colour).save(out, "JPEG")
        self.browser.get("/posts/new")
        data = {"file": (io.BytesIO(out.getvalue()), f"{colour}.jpg")}
        answer = self.browser.post("/media", data=data, content_type="multipart/form-data")
        assert answer.status_code == 201, answer.text
        return answer.json["id"]

    def compose(self, fields: Fields, action: str = "schedule") -> TestResponse:
        """The composer's form as a browser sends it, for tomorrow."""
        self.browser.get("/posts/new")
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        usual = {
            "account": self.account.id, "visibility": "unlisted", "zone": "UTC", "date": f"{tomorrow:%Y-%m-%d}",
            "time": f"{tomorrow:%H:%M}", "action": action, "csrf_token": self.browser.csrf,
        }  # fmt: skip
        given = {name for name, _ in fields}
        unsaid = [(name, value) for name, value in usual.items() if name not in given]
        return self.browser.post("/posts", data=MultiDict([*fields, *unsaid]), content_type="multipart/form-data")

    def schedule(self, fields: Fields, ahead_s: float = AHEAD_S) -> list[int]:
        """Written in the composer, then moved to a date so near: the composer itself thinks in minutes. Its deliveries."""
        answer = self.compose(fields)
        assert answer.status_code == 302, " ".join(sentences(answer))
        post_id = int(answer.headers["Location"].rsplit("/", 1)[-1])
        now = datetime.now(UTC)
        with psycopg.connect(self.database_url) as conn:
            moved = scheduling.move(
                conn, self.user_id, post_id, now + timedelta(seconds=ahead_s), now=now,
                time_zone="UTC",
            )  # fmt: skip
            tasks.publish_later(conn, moved)
        return [row.id for row in moved]

    def settle(self, delivery_id: int, *, there: bool) -> None:
        self._followed(self.browser.send(f"/deliveries/{delivery_id}/settle", published="yes" if there else "no"))

    def outcome(self, delivery_ids: list[int], patience_s: float, rests: tuple[str, ...] = RESTS) -> list[Out]:
        """When all of them rest."""
        give_up = time.monotonic() + patience_s
        while True:
            found = self.look(delivery_ids)
            if all(one.delivery.status in rests for one in found):
                return found
            told = [f"{one.delivery.status} ({one.delivery.error or 'no error'})" for one in found]
            assert time.monotonic() < give_up, f"after {patience_s:.0f} s: {', '.join(told)}"
            time.sleep(0.2)

    def look(self, delivery_ids: list[int]) -> list[Out]:
        query = "SELECT " + deliveries.COLUMNS + " FROM deliveries WHERE id = ANY(%s) ORDER BY id"
        with self.db.cursor(row_factory=class_row(Delivery)) as cursor:
            rows = cursor.execute(query, [delivery_ids]).fetchall()
        dates = dict(
            self.db.execute(
                "SELECT d.id, p.post_date FROM deliveries d JOIN posts p ON p.id = d.post_id WHERE d.id = ANY(%s)",
                [delivery_ids],
            ).fetchall()
        )
        return [Out(row, dates[row.id]) for row in rows]

    def story(self, delivery_id: int) -> list[str]:
        rows = self.db.execute("SELECT sentence FROM delivery_events WHERE delivery_id = %s ORDER BY id", [delivery_id])
        return [row[0] for row in rows]

    def remote_ids(self) -> list[str]:
        return [row[0] for row in self.db.execute("SELECT remote_id FROM deliveries WHERE remote_id IS NOT NULL")]

    def until(self, query: str, patience_s: float) -> None:
        give_up = time.monotonic() + patience_s
        while True:
            row = self.db.execute(query.encode()).fetchone()
            if row and row[0]:
                return
            assert time.monotonic() < give_up, f"not within {patience_s:.0f} s: {query}"
            time.sleep(0.1)


def sentences(answer: TestResponse) -> list[str]:
    """What a page says that went wrong, without its markup; the most particular last."""
    bad = r'class="(?:note note-bad|finding-bad|field-error)[^"]*"[^>]*>(.*?)</(?:p|div|li)>'
    said = [" ".join(unescape(re.sub(r"<[^>]*>", " ", one)).split()) for one in re.findall(bad, answer.text, re.DOTALL)]
    return [one for one in said if one] or [f"HTTP {answer.status_code}: {answer.text[:2000]}"]

"""An upload that vanished from the server after it was prepared: found out before the post goes, or told to its person."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.http import clients
from postflow.models import Delivery
from postflow.publishing import preparing, sending
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, an_account, scheduled, status_of

COMMIT = {"method": "POST", "path": "/api/v1/statuses$"}
#: They leave out what they do not find, or get stuck over it.
QUIET = ["mastodon-4.1", "pixelfed"]


async def prepared(
    conn: psycopg.Connection, engine: Engine, sandbox: Sandbox, user_id: int, network: str, text: str, *, late_s: float
) -> Delivery:
    """With two pictures that were uploaded some minutes ago."""
    account = await an_account(conn, engine, sandbox, user_id, network, f"vanish-{network}-{time.time_ns()}")
    media = (a_picture(conn, user_id), a_picture(conn, user_id))
    at = datetime.now(UTC) - timedelta(seconds=late_s)
    [delivery] = scheduled(conn, engine.settings, user_id, (account,), text, media=media, at=at)
    assert await preparing.prepare(engine, delivery.id)
    conn.execute(
        """
        UPDATE deliveries SET staged = jsonb_set(staged, '{uploads}', (SELECT jsonb_agg(one || jsonb_build_object(
               'uploaded_at', (one->>'uploaded_at')::timestamptz - interval '5 minutes'))
          FROM jsonb_array_elements(staged->'uploads') AS one)) WHERE id = %s
        """,
        [delivery.id],
    )
    return delivery


def lose_an_upload(conn: psycopg.Connection, sandbox: Sandbox, delivery: Delivery, place: int = 0) -> None:
    row = conn.execute("SELECT staged->'uploads'->%s->>'remote_id' FROM deliveries WHERE id = %s", [place, delivery.id])
    [key] = row.fetchone() or [None]
    sandbox.network.store.uploads[key].deleted = True


@pytest.mark.parametrize("network", QUIET)
async def test_a_lost_upload_is_uploaded_again_before_the_post_goes(
    network: str, db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    text = f"with both pictures {network}"
    delivery = await prepared(db, engine, sandbox, ada, network, text, late_s=0)
    lose_an_upload(db, sandbox, delivery)
    await lifetime.to_rest(engine, db, [delivery.id])
    assert status_of(db, delivery) == "published"
    [status] = sandbox.ledger.statuses(text=text)
    assert len(status.media) == 2
    assert len(sandbox.ledger.requests(path="/media", method="POST", account=status.handle)) == 4, "uploaded anew, once"


@pytest.mark.parametrize("network", QUIET)
async def test_asking_after_uploads_makes_no_post_later(
    network: str, db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    """A server that does not answer in time is not waited for: the post leaves at its date."""
    text = f"not a moment later {network}"
    delivery = await prepared(db, engine, sandbox, ada, network, text, late_s=-1.5)
    sandbox.faults.add("slow", instance=network, method="GET", path="/api/v1/media/", seconds=40, times=None)
    await asyncio.sleep(1.1)
    async with clients.client(engine.settings.model_copy(update={"request_timeout_s": 60.0})) as patient:
        assert await sending.publish(replace(engine, http=patient), delivery.id)
    row = db.execute(
        "SELECT extract(epoch FROM d.sent_at - p.post_date) FROM deliveries d JOIN posts p ON p.id = d.post_id"
        " WHERE d.id = %s",
        [delivery.id],
    ).fetchone()
    assert row
    assert 0 <= row[0] < 30, "far less than it would have taken to wait for the answer"


async def test_a_picture_that_is_left_out_all_the_same_is_told_to_its_person(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    delivery = await prepared(db, engine, sandbox, ada, "mastodon-4.1", "only one picture", late_s=0)
    sandbox.faults.add("media_vanishes", instance="mastodon-4.1")
    done = await sending.publish(engine, delivery.id)
    assert done
    assert (done.status, done.error_code) == ("published", "incomplete")
    assert done.error == "It went out without 1 of its 2 pictures: the server left it out."
    told = db.execute("SELECT kind, subject, body FROM notices").fetchall()
    assert [(kind, done.error in body) for kind, _, body in told] == [("delivery-incomplete", True)]
    assert "incomplete" in told[0][1]
    story = db.execute("SELECT sentence FROM delivery_events WHERE delivery_id = %s ORDER BY id DESC", [delivery.id])
    assert done.error in str(story.fetchone())


async def test_before_it_is_sent_again_what_vanished_meanwhile_is_uploaded_anew(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    """The first request never arrived, and the server cleaned up."""
    text = "again and whole"
    delivery = await prepared(db, engine, sandbox, ada, "mastodon-4.1", text, late_s=0)
    sandbox.faults.add("drop_before", instance="mastodon-4.1", **COMMIT)
    assert await sending.publish(engine, delivery.id) is None
    lose_an_upload(db, sandbox, delivery, place=1)
    await lifetime.to_rest(engine, db, [delivery.id])
    assert status_of(db, delivery) == "published"
    [status] = sandbox.ledger.statuses(text=text)
    assert len(status.media) == 2

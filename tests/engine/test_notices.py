"""What a person hears outside the pages: written with its cause, once; told by mail and webhook, at least once."""

import asyncio
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from pydantic import SecretStr

from postflow import config
from postflow.engine import Engine
from postflow.http import clients
from postflow.notifications import notices, posts_at_risk, sender
from postflow.publishing import reconciling, sending
from sandbox import Sandbox
from tests.engine.conftest import a_picture, an_account, scheduled, status_of
from tests.engine.connected import connected, state_of
from tests.engine.mailbox import hook, mailbox

SECRET = "a shared secret of some length"


def written(conn: psycopg.Connection) -> list[tuple[str, str, str]]:
    return conn.execute("SELECT kind, subject, body FROM notices ORDER BY id").fetchall()


async def test_a_dead_token_is_told_once_with_the_posts_that_wait_in_the_persons_own_time(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int, bob: int
) -> None:
    db.execute("UPDATE users SET time_zone = 'Asia/Tokyo' WHERE id = %s", [ada])
    account = await connected(db, engine, sandbox, ada, "mastodon", "cut-off")
    others = await an_account(db, engine, sandbox, bob, "mastodon", "bob-is-well")
    scheduled(db, settings, bob, (others,), "Bob's own", at=datetime.now(UTC) + timedelta(days=2))
    later = datetime(2027, 3, 5, 20, 30, tzinfo=UTC)
    scheduled(db, settings, ada, (account.id,), "in spring", at=later, thread=("and its second part",))
    [due] = scheduled(db, settings, ada, (account.id,), "due now")
    sandbox.revoke_tokens("cut-off")
    await sending.publish(engine, due.id)
    await sending.publish(engine, due.id)
    assert state_of(db, account)[0] == "needs_reconnect"
    [(kind, subject, body)] = written(db)
    assert (kind, subject) == ("access-ended", "@cut-off must be connected again")
    assert "- 06 March 2027, 05:30 JST: “in spring”" in body
    assert "“due now”" in body and "second part" not in body and "Bob" not in body
    assert f"{settings.public_url}/accounts" in body
    row = db.execute("SELECT faults, attempt_no FROM deliveries WHERE id = %s", [due.id]).fetchone()
    assert row == (0, 0)


async def test_what_was_not_published_is_told_with_the_reason_and_what_to_do(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "unlucky")
    [refused] = scheduled(db, settings, ada, (account,), "refused")
    sandbox.faults.add("status", instance="mastodon", method="POST", path="/api/v1/statuses$", status=403, body="json")
    await sending.publish(engine, refused.id)
    [late] = scheduled(db, settings, ada, (account,), "too late")
    db.execute("UPDATE posts SET post_date = now() - interval '1 day' WHERE content->>'text' = 'too late'")
    await sending.publish(engine, late.id)
    assert (status_of(db, refused), status_of(db, late)) == ("failed", "missed")
    failed, missed = written(db)
    assert failed[:2] == ("delivery-failed", "A post was not published on @unlucky")
    assert "“refused”\nThe server refused it" in failed[2]
    assert failed[2].endswith(f"{settings.public_url}/posts/{refused.post_id}")
    assert missed[:2] == ("delivery-missed", "A post missed its time on @unlucky")
    assert "Publish it now, or move it to another time." in missed[2]


async def test_an_outcome_nobody_can_tell_asks_its_person(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "puzzled")
    [delivery] = scheduled(db, settings, ada, (account,), "is it out?")
    sandbox.faults.add("drop_before", instance="mastodon", method="POST", path="/api/v1/statuses$")
    await sending.publish(engine, delivery.id)
    trusted_with_nothing = '{"lists_all": false, "idempotency": "none"}'
    db.execute("UPDATE servers SET capabilities = capabilities || %s::jsonb", [trusted_with_nothing])
    for _ in range(2):
        db.execute(
            "UPDATE deliveries SET wake_at = now(), first_absent_at = first_absent_at - interval '1 minute',"
            " sent_at = sent_at - interval '5 minutes'"
        )
        await reconciling.reconcile(engine, delivery.id)
    assert status_of(db, delivery) == "attention"
    assert [row[:2] for row in written(db)] == [("delivery-attention", "Please look at a post on @puzzled")]


async def test_posts_at_risk_are_named_at_14_7_and_1_days_and_each_time_once(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int, bob: int
) -> None:
    now = datetime.now(UTC)
    account = await connected(db, engine, sandbox, ada, "pixelfed", "ending", left=timedelta(days=20))
    picture = (a_picture(db, ada),)
    scheduled(db, settings, ada, (account.id,), "before", media=picture, at=now + timedelta(days=19))
    scheduled(db, settings, ada, (account.id,), "after", media=picture, at=now + timedelta(days=25))
    told = []
    for day in range(21):
        async with engine.pool.connection() as conn:
            if await notices.warn_of_posts_at_risk(conn, settings, now + timedelta(days=day, minutes=1)):
                told.append(20 - day)
            assert await notices.warn_of_posts_at_risk(conn, settings, now + timedelta(days=day, minutes=1)) == 0
    assert told == [14, 7, 1]
    assert all("“after”" in body and "“before”" not in body for _, _, body in written(db))
    seen = posts_at_risk.of_user(db, ada, now)
    assert seen == []  # twenty days are left: renewing has hardly begun
    assert [risk.text for risk in posts_at_risk.of_user(db, ada, now + timedelta(days=7))] == ["after"]
    assert posts_at_risk.of_user(db, bob, now + timedelta(days=7)) == []


async def test_a_post_that_waits_for_its_account_is_named_as_its_date_comes_near(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    now = datetime.now(UTC)
    account = await connected(db, engine, sandbox, ada, "mastodon", "waited-for")
    scheduled(db, settings, ada, (account.id,), "in twenty days", at=now + timedelta(days=20))
    db.execute("UPDATE accounts SET state = 'needs_reconnect', state_reason = 'Its access was withdrawn.'")
    told = []
    for day in range(20):
        async with engine.pool.connection() as conn:
            if await notices.warn_of_posts_at_risk(conn, settings, now + timedelta(days=day, minutes=1)):
                told.append(20 - day)
    assert told == [14, 7, 1]
    assert [risk.text for risk in posts_at_risk.of_user(db, ada, now)] == ["in twenty days"]
    assert all(body.startswith("Its access was withdrawn. Its posts wait") for _, _, body in written(db))


async def test_a_notice_vanishes_with_the_transaction_that_caused_it(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    await connected(db, engine, sandbox, ada, "mastodon", "rolled-back")
    scheduled(db, settings, ada, (1,), "in a week", at=datetime.now(UTC) + timedelta(days=6))
    db.execute("UPDATE accounts SET state = 'needs_reconnect', state_reason = 'Gone.'")
    async with engine.pool.connection() as conn, conn.transaction(force_rollback=True):
        assert await notices.warn_of_posts_at_risk(conn, settings, datetime.now(UTC)) == 1
    assert written(db) == []


# -- telling -------------------------------------------------------------------------------------------------


def a_notice(conn: psycopg.Connection, user_id: int, subject: str, body: str = "Look at it.") -> None:
    conn.execute(
        "INSERT INTO notices (user_id, key, kind, subject, body) VALUES (%s, %s, 'delivery-failed', %s, %s)",
        [user_id, subject, subject, body],
    )


def configured(settings: config.Settings, **chosen: Any) -> config.Settings:
    return settings.model_copy(update={"mail_from": "PostFlow <postflow@example.org>", **chosen})


def to_mail(port: int, who: str = "") -> dict[str, SecretStr]:
    return {"smtp_url": SecretStr(f"smtp://{who}127.0.0.1:{port}")}


def to_hook(port: int) -> dict[str, SecretStr]:
    return {"webhook_url": SecretStr(f"http://127.0.0.1:{port}/hook"), "webhook_secret": SecretStr(SECRET)}


async def tell(engine: Engine, settings: config.Settings) -> int:
    return await sender.tell(engine.pool, settings, engine.http)


async def test_each_person_gets_one_mail_with_all_that_is_new_and_no_second_one(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, ada: int, bob: int
) -> None:
    a_notice(db, ada, "First of @ada")
    a_notice(db, ada, "Second\r\nBcc: eve@example.org", "With “quotes” and 🐦.")
    a_notice(db, bob, "Only of @bob")
    async with mailbox() as box:
        ready = configured(settings, **to_mail(box.port, "robot:p%40ss@"))
        assert await tell(engine, ready) == 3
        assert await tell(engine, ready) == 0
    assert [letter["To"] for letter in box.letters] == ["ada@example.org", "bob@example.org"]
    assert box.letters[0]["Subject"] == "First of @ada (and 1 more)"
    assert box.letters[0]["Bcc"] is None
    assert "With “quotes” and 🐦." in box.letters[0].get_content()
    assert box.letters[1]["From"] == "PostFlow <postflow@example.org>"
    assert "AUTH PLAIN AHJvYm90AHBAc3M=" in box.said  # the password with its percent-encoding undone


async def test_the_webhook_gets_a_signed_body_that_cannot_be_replayed_with_another_time(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, ada: int
) -> None:
    a_notice(db, ada, "Not published")
    async with hook() as far_end:
        assert await tell(engine, configured(settings, **to_hook(far_end.port))) == 1
    [(headers, body)] = far_end.requests
    signed = headers["x-postflow-timestamp"].encode() + b"." + body
    expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert headers["x-postflow-signature"] == f"sha256={expected}"
    sent = json.loads(body)
    assert sent["text"] == "Not published\nLook at it."
    assert [(one["kind"], one["person"]) for one in sent["notices"]] == [("delivery-failed", "ada@example.org")]


async def test_a_way_that_fails_is_tried_again_alone_with_growing_pauses_and_an_end(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, ada: int
) -> None:
    a_notice(db, ada, "Hard to tell")
    pauses = []
    async with mailbox() as box, hook(lambda: 500) as far_end:
        ready = configured(settings, **to_mail(box.port), **to_hook(far_end.port))
        for _ in range(notices.MOST_TRIES + 2):
            assert await tell(engine, ready) == 0
            assert await tell(engine, ready) == 0  # not before the pause is over
            pauses.append(
                db.execute("SELECT round(extract(epoch FROM try_at - now()) / 60)::int FROM notices").fetchone()
            )
            db.execute("UPDATE notices SET try_at = now()")
    assert len(box.letters) == 1
    assert len(far_end.requests) == notices.MOST_TRIES
    assert [row[0] for row in pauses if row][:4] == [2, 4, 8, 16]
    assert db.execute("SELECT sent_at, fault FROM notices").fetchone() == (None, "webhook: HTTP 500")


async def test_two_senders_at_once_tell_once_and_a_dead_one_costs_only_a_pause(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, ada: int
) -> None:
    a_notice(db, ada, "Once, please")
    async with hook() as far_end:
        ready = configured(settings, **to_hook(far_end.port))
        assert sorted(await asyncio.gather(tell(engine, ready), tell(engine, ready))) == [0, 1]
        a_notice(db, ada, "Its sender dies")
        async with engine.pool.connection() as conn:
            assert len(await notices.claim(conn)) == 1  # and nothing more comes of it
        assert await tell(engine, ready) == 0
        db.execute("UPDATE notices SET try_at = now() WHERE sent_at IS NULL")
        assert await tell(engine, ready) == 1
    assert len(far_end.requests) == 2


async def test_nothing_old_is_told_when_mail_is_configured_at_last(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, ada: int
) -> None:
    a_notice(db, ada, "From another age")
    db.execute("UPDATE notices SET created_at = now() - interval '3 days'")
    assert await tell(engine, settings) == 0
    async with mailbox() as box:
        assert await tell(engine, configured(settings, **to_mail(box.port))) == 0
    assert box.letters == []


async def test_a_webhook_to_a_private_address_is_refused_unless_the_operator_allows_it(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, ada: int
) -> None:
    a_notice(db, ada, "Inwards")
    async with hook() as far_end:
        ready = configured(settings, **to_hook(far_end.port), allowed_private=())
        async with clients.client(ready) as guarded:
            assert await sender.tell(engine.pool, ready, guarded) == 0
    assert far_end.requests == []
    assert db.execute("SELECT fault FROM notices").fetchone() == ("webhook: ConnectError",)


async def test_a_password_is_never_sent_in_the_clear(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, ada: int
) -> None:
    a_notice(db, ada, "Secretly")
    async with mailbox() as box:
        ready = configured(settings, **to_mail(box.port, "robot:pass@"), allowed_private=())
        assert await tell(engine, ready) == 0
    assert not [line for line in box.said if line.startswith("AUTH")]
    assert db.execute("SELECT fault FROM notices").fetchone() == ("mail: SMTPNotSupportedError",)


async def test_a_mail_server_that_refuses_is_no_end_of_the_others(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, ada: int, bob: int
) -> None:
    a_notice(db, ada, "Refused there")
    a_notice(db, bob, "Taken there")
    async with mailbox(lambda command: "ada@" in command) as box:
        assert await tell(engine, configured(settings, **to_mail(box.port))) == 1
    assert [letter["To"] for letter in box.letters] == ["bob@example.org"]

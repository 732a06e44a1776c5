"""Instagram on the engine: Meta fetches from the real web app, answers get lost, and a container goes out once."""

import dataclasses
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Literal

import psycopg
import pytest
from pydantic import SecretStr
from werkzeug.serving import make_server

from postflow import config, platforms
from postflow.accounts import accounts, servers
from postflow.connections import token_refresh
from postflow.engine import Engine
from postflow.models import Delivery, Profile, utc_now
from postflow.platforms.instagram import Instagram, reachable
from postflow.platforms.instagram.graph import Keys
from postflow.publishing import preparing, rechecking, reconciling, sending
from sandbox import Sandbox
from tests.engine import lifetime, test_frozen
from tests.engine.conftest import a_picture, scheduled, status_of
from web import app as web_app
from web.middleware import database

Post = Callable[[str], Delivery]
Flavour = Literal["instagram", "facebook"]


@pytest.fixture
def settings(settings: config.Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[config.Settings]:
    """With a web app behind the public address, from which the sandbox fetches, and republishing left to PostFlow."""
    with make_server("127.0.0.1", 0, lambda environ, start: app(environ, start), threaded=True) as server:
        monkeypatch.setenv("POSTFLOW_PUBLIC_URL", f"http://127.0.0.1:{server.port}")
        monkeypatch.setenv("POSTFLOW_INSTAGRAM_REPUBLISH", "auto")
        monkeypatch.setenv("POSTFLOW_FACEBOOK_APP_ID", "880000000000001")
        monkeypatch.setenv("POSTFLOW_FACEBOOK_APP_SECRET", "sandbox-facebook-secret")
        chosen = config.load()
        monkeypatch.setitem(platforms.REGISTRY, "instagram", Instagram(chosen))
        app = web_app.create_app(chosen)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield chosen
        server.shutdown()
        database.close(app)


async def connected(
    conn: psycopg.Connection, engine: Engine, sandbox: Sandbox, user_id: int, handle: str, flavour: Flavour = "facebook"
) -> int:
    """Through Facebook Login there are two tokens to look with."""
    given = sandbox.add_account("instagram", handle, flavour=flavour)
    servers.save(conn, await platforms.get("instagram").server(engine.http, ""))
    user_token = SecretStr(given.user_token) if given.user_token else None
    keys = Keys(access_token=SecretStr(given.access_token), user_token=user_token, flavour=flavour)
    return accounts.connect(
        conn,
        user_id,
        platform="instagram",
        base_url="",
        option=f"{flavour}-login",
        profile=Profile(remote_id=given.account_id, handle=f"@{handle}"),
        credentials=keys,
        keys=engine.settings.encryption_keys,
    ).id


@pytest.fixture
async def account_id(db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int) -> int:
    return await connected(db, engine, sandbox, ada, "wren")


@pytest.fixture
def post(db: psycopg.Connection, settings: config.Settings, ada: int, account_id: int) -> Post:
    def posted(text: str) -> Delivery:
        [delivery] = scheduled(db, settings, ada, (account_id,), text, media=(a_picture(db, ada),))
        return delivery

    return posted


def row(db: psycopg.Connection, delivery: Delivery, column: str) -> str:
    found = db.execute(f"SELECT {column}::text FROM deliveries WHERE id = %s".encode(), [delivery.id]).fetchone()
    assert found
    return found[0]


async def looked(db: psycopg.Connection, engine: Engine, delivery: Delivery, *, later: timedelta) -> None:
    """One look, after so much time: everything the row remembers moves into the past."""
    db.execute(
        "UPDATE deliveries SET sent_at = sent_at - %(by)s, first_sent_at = first_sent_at - %(by)s,"
        " first_absent_at = first_absent_at - %(by)s, wake_at = now() - interval '1 second'"
        " WHERE id = %(id)s AND status = 'unknown'",
        {"by": later, "id": delivery.id},
    )
    await reconciling.reconcile(engine, delivery.id)


async def test_a_picture_is_fetched_from_the_web_app_and_goes_out_with_its_link(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, post: Post
) -> None:
    delivery = post("a view of the sea")
    done = await sending.publish(engine, delivery.id)
    assert done
    (status,) = sandbox.ledger.statuses(text="a view of the sea")
    assert (done.remote_id, row(db, delivery, "permalink")) == (status.id, status.url)
    assert (status.media[0].alt_text, status.media[0].width, status.media[0].mime) == ("the sea", 640, "image/jpeg")


async def test_the_probe_finds_the_web_app_behind_the_public_address(engine: Engine, settings: config.Settings) -> None:
    assert await reachable.fetched(engine.http, settings) is None
    elsewhere = settings.model_copy(update={"secret_key": SecretStr("of another PostFlow" * 3)})
    assert "HTTP 404" in str(await reachable.fetched(engine.http, elsewhere))


async def test_a_container_that_never_went_out_goes_again_after_ten_minutes_and_once(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, post: Post
) -> None:
    delivery = post("never arrived")
    sandbox.faults.add("drop_before", method="POST", path="media_publish$")
    assert await sending.publish(engine, delivery.id) is None
    for _ in range(10):
        await looked(db, engine, delivery, later=timedelta(minutes=1))
        assert status_of(db, delivery) == "unknown"
    await looked(db, engine, delivery, later=timedelta(minutes=2))
    assert status_of(db, delivery) == "scheduled"
    assert await sending.publish(engine, delivery.id)
    assert sandbox.ledger.times_published("never arrived") == 1
    assert len(sandbox.network.store.containers) == 1


@pytest.mark.parametrize("step", ["connection.connect_tcp.complete", "http11.send_request_headers.started"])
async def test_a_process_that_stood_still_on_the_way_publishes_nothing_and_leaves_no_question(
    step: str, db: psycopg.Connection, engine: Engine, sandbox: Sandbox, post: Post
) -> None:
    delivery = post("stood still")
    hasty = engine.settings.model_copy(update={"request_timeout_s": test_frozen.TIMEOUT_S})
    await preparing.prepare(engine, delivery.id)
    still = test_frozen.stalling(dataclasses.replace(engine, settings=hasty), step)
    assert await sending.publish(still, delivery.id) is None
    assert (status_of(db, delivery), sandbox.ledger.times_published("stood still")) == ("scheduled", 0)
    engine.commit_http.event_hooks = {"request": []}
    await lifetime.to_rest(engine, db, [delivery.id])
    assert (status_of(db, delivery), sandbox.ledger.times_published("stood still")) == ("published", 1)


@pytest.mark.parametrize(
    ("second_publish", "with_next", "times"), [("24/2207008", False, 1), ("again", False, 2), ("24/2207008", True, 2)]
)
async def test_a_request_that_was_held_back_and_made_a_second_post_is_seen(
    second_publish: str,
    with_next: bool,
    times: int,
    db: psycopg.Connection,
    engine: Engine,
    sandbox: Sandbox,
    post: Post,
) -> None:
    """Meta is said to publish a container once; should it do so twice, or take two in one instant, the person is told."""
    sandbox.configure("instagram", second_publish=second_publish)
    delivery = post("held back")
    sandbox.faults.add("held", path="media_publish$", with_next=with_next)
    assert await sending.publish(engine, delivery.id) is None
    for _ in range(12):
        await looked(db, engine, delivery, later=timedelta(minutes=1))
    assert await sending.publish(engine, delivery.id)
    assert sandbox.let_go() == (0 if with_next else 1)
    assert sandbox.ledger.times_published("held back") == times
    await rechecking.recheck(engine, delivery.id)
    told = row(db, delivery, "notes")
    assert ("twice" in told) == (times == 2)
    assert all(one.url in told for one in sandbox.ledger.statuses(text="held back") if times == 2)


async def test_a_container_that_did_go_out_is_found_however_late_meta_says_so(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, post: Post
) -> None:
    delivery = post("seen late")
    sandbox.faults.add("status_lag", seconds=500)
    sandbox.faults.add("drop_after_commit", method="POST", path="media_publish$")
    assert await sending.publish(engine, delivery.id) is None
    for _ in range(8):
        await looked(db, engine, delivery, later=timedelta(seconds=60))
        assert status_of(db, delivery) == "unknown"
    sandbox.advance(501)
    await looked(db, engine, delivery, later=timedelta(seconds=21))
    assert status_of(db, delivery) == "published"
    assert row(db, delivery, "remote_id") == sandbox.ledger.statuses(text="seen late")[0].id


async def test_a_lag_that_outlasts_the_looks_is_a_question_and_no_second_post(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, post: Post
) -> None:
    delivery = post("lags for hours")
    sandbox.faults.add("status_lag", seconds=7200)
    sandbox.faults.add("drop_after_commit", method="POST", path="media_publish$")
    assert await sending.publish(engine, delivery.id) is None
    for _ in range(34):
        await looked(db, engine, delivery, later=timedelta(minutes=1))
    assert status_of(db, delivery) == "attention"
    assert sandbox.ledger.times_published("lags for hours") == 1


async def test_an_error_over_a_post_that_is_live_is_found_out(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, post: Post
) -> None:
    delivery = post("blocked, it says")
    sandbox.faults.add("publish_error_but_live")
    assert await sending.publish(engine, delivery.id) is None
    await looked(db, engine, delivery, later=timedelta(seconds=31))
    assert status_of(db, delivery) == "published"
    assert sandbox.ledger.times_published("blocked, it says") == 1


async def test_a_picture_that_cannot_be_fetched_fails_with_what_to_do(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, post: Post
) -> None:
    delivery = post("out of reach")
    sandbox.faults.add("unfetchable", times=None)
    for _ in range(3):
        await sending.publish(engine, delivery.id)
        db.execute("UPDATE deliveries SET not_before = NULL WHERE id = %s", [delivery.id])
    assert status_of(db, delivery) == "failed"
    assert "POSTFLOW_PUBLIC_URL" in row(db, delivery, "next_step")


async def test_a_used_up_budget_holds_the_whole_account(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, post: Post
) -> None:
    first, second = post("one too many"), post("and another")
    sandbox.faults.add("rate_limit", style="instagram", method="POST", path="media$", seconds=600)
    assert await sending.publish(engine, first.id) is None
    assert await sending.publish(engine, second.id) is None
    assert row(db, first, "faults") == "0"
    held = db.execute("SELECT throttled_until - now() > interval '9 minutes' FROM accounts").fetchone()
    assert held == (True,)
    assert sandbox.ledger.requests(path="/media_publish") == []


async def test_access_that_only_the_person_can_renew_is_told_ahead_and_used_to_its_end(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, account_id: int
) -> None:
    for token in sandbox.network.store.tokens.values():
        token.created_at -= 80 * 86400
    assert (await token_refresh.refresh(engine, account_id)).state == "failed"
    found = db.execute("SELECT state, state_reason FROM accounts").fetchone()
    assert found
    assert found[0] == "active"
    assert "only the person can renew it" in found[1]


async def test_the_end_of_facebooks_access_is_stored_for_the_pages(
    db: psycopg.Connection, engine: Engine, account_id: int
) -> None:
    assert (await token_refresh.refresh(engine, account_id)).state == "refreshed"
    assert (await token_refresh.refresh(engine, account_id)).state == "fresh"
    (ends_at,) = db.execute("SELECT token_expires_at FROM accounts").fetchone() or (None,)
    assert ends_at
    assert timedelta(days=89) < ends_at - utc_now() < timedelta(days=91)

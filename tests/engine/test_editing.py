"""A post that is changed after it was prepared: only the new version goes out, and nothing of the old is used."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from postflow import config, jobs
from postflow.engine import Engine
from postflow.models import Attachment, Content, Delivery, NewPost
from postflow.posts import scheduling
from postflow.publishing import preparing, sending, transitions
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, an_account, scheduled, status_of


def version(account: int, text: str, *, media: tuple[int, ...] = (), thread: tuple[str, ...] = ()) -> NewPost:
    pictures = tuple(Attachment(media_id=one, alt_text=f"the sea, {text}") for one in media)
    return NewPost(
        content=Content(text=text, language="en", attachments=pictures),
        thread=tuple(Content(text=part, language="en") for part in thread),
        account_ids=(account,),
        post_date=datetime.now(UTC),
        time_zone="UTC",
    )


def edit(
    conn: psycopg.Connection, settings: config.Settings, ada: int, delivery: Delivery, new: NewPost, revision: int = 1
) -> list[Delivery]:
    """As the web does it."""
    now = datetime.now(UTC)
    with conn.transaction():
        made = scheduling.edit(conn, ada, delivery.post_id, new, revision=revision, now=now)
        jobs.publish_later(conn, made.deliveries)
    return made.deliveries


@pytest.mark.parametrize("instance", ["mastodon", "gotosocial", "pixelfed"])
async def test_what_was_ready_goes_out_with_the_new_words_and_the_new_pictures_alone(
    instance: str,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    handle = f"editor-{instance}"
    account = await an_account(db, engine, sandbox, ada, instance, handle)
    [delivery] = scheduled(db, settings, ada, (account,), f"{handle} before", media=(a_picture(db, ada),))
    ready = await preparing.prepare(engine, delivery.id)
    assert ready and ready.staged
    old = {upload["remote_id"] for upload in ready.staged["uploads"]}
    new = version(account, f"{handle} after", media=(a_picture(db, ada), a_picture(db, ada)))
    edit(db, settings, ada, delivery, new)
    assert status_of(db, delivery) == "scheduled"
    await lifetime.to_rest(engine, db, [delivery.id])
    assert status_of(db, delivery) == "published"
    [status] = sandbox.ledger.statuses(account=handle)
    assert status.text == f"{handle} after"
    assert [media.alt_text for media in status.media] == [f"the sea, {handle} after"] * 2
    assert not old & {media.id for media in status.media}, "an upload of the old version"
    assert len(sandbox.ledger.requests(account=handle, method="POST", path="/statuses")) == 1


async def test_an_upload_that_the_new_version_keeps_is_described_as_the_new_version_says(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "describer")
    picture = a_picture(db, ada)
    [delivery] = scheduled(db, settings, ada, (account,), "described before", media=(picture,))
    assert await preparing.prepare(engine, delivery.id)
    edit(db, settings, ada, delivery, version(account, "described after", media=(picture,)))
    await lifetime.to_rest(engine, db, [delivery.id])
    [status] = sandbox.ledger.statuses(account="describer")
    assert [media.alt_text for media in status.media] == ["the sea, described after"]


async def test_a_thread_that_was_ready_goes_out_with_its_new_parts_alone(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "thread-editor")
    made = scheduled(db, settings, ada, (account,), "old one", thread=("old two", "old three"))
    for one in made:
        assert await preparing.prepare(engine, one.id)
    now = edit(db, settings, ada, made[0], version(account, "new one", thread=("new two",)))
    for one in made:  # wake-ups of the old version
        await sending.publish(engine, one.id)
    await lifetime.to_rest(engine, db, [one.id for one in now])
    first, second = sandbox.ledger.statuses(account="thread-editor")
    assert [first.text, second.text] == ["new one", "new two"]
    assert second.in_reply_to_id == first.id


async def test_an_edit_while_pictures_go_up_leaves_the_upload_unused(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    """The worker is in the middle of the old version; what it finishes belongs to nobody."""
    account = await an_account(db, engine, sandbox, ada, "mastodon", "interrupter")
    [delivery] = scheduled(db, settings, ada, (account,), "half made", media=(a_picture(db, ada), a_picture(db, ada)))
    edited = list[str]()

    def between_two_steps(step: str) -> None:
        if step == "checkpoint" and not edited:
            edited.append(step)
            edit(db, settings, ada, delivery, version(account, "made anew", media=(a_picture(db, ada),)))

    watched = replace(engine, reached=between_two_steps)
    assert await preparing.prepare(watched, delivery.id) is None
    assert edited
    assert status_of(db, delivery) == "scheduled"
    assert db.execute("SELECT staged FROM deliveries").fetchone() == (None,)
    await lifetime.to_rest(engine, db, [delivery.id])
    [status] = sandbox.ledger.statuses(account="interrupter")
    assert (status.text, len(status.media)) == ("made anew", 1)


@pytest.mark.parametrize("prepared_anew", [False, True])
async def test_what_was_gathered_before_an_edit_cannot_be_claimed_after_it(
    prepared_anew: bool,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    """Even when another worker has made the new version ready by then."""
    handle = f"stale-{prepared_anew}"
    account = await an_account(db, engine, sandbox, ada, "mastodon", handle)
    [delivery] = scheduled(db, settings, ada, (account,), f"{handle} before")
    ready = await preparing.prepare(engine, delivery.id)
    assert ready
    edit(db, settings, ada, delivery, version(account, f"{handle} after"))
    if prepared_anew:
        assert await preparing.prepare(engine, delivery.id)
    async with engine.pool.connection() as conn:
        assert await transitions.claim_to_send(conn, ready, "stale", 30, "alike", None, pace_s=0) is None
    await lifetime.to_rest(engine, db, [delivery.id])
    assert [one.text for one in sandbox.ledger.statuses(account=handle)] == [f"{handle} after"]


async def test_a_post_that_failed_goes_out_as_it_was_changed(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "corrector")
    [delivery] = scheduled(db, settings, ada, (account,), "refused as it was")
    sandbox.faults.add("status", account="corrector", method="POST", path="/statuses$", status=422, body="json")
    await lifetime.to_rest(engine, db, [delivery.id])
    assert status_of(db, delivery) == "failed"
    edit(db, settings, ada, delivery, version(account, "taken as it is now"))
    await lifetime.to_rest(engine, db, [delivery.id])
    assert [one.text for one in sandbox.ledger.statuses(account="corrector")] == ["taken as it is now"]
    assert status_of(db, delivery) == "published"


async def test_two_edits_after_preparing_leave_the_last_one(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "undecided")
    later = datetime.now(UTC) + timedelta(minutes=5)
    [delivery] = scheduled(db, settings, ada, (account,), "first thought", at=later)
    for revision, text in enumerate(["second thought", "third thought"], start=1):
        assert await preparing.prepare(engine, delivery.id)
        edit(db, settings, ada, delivery, version(account, text), revision=revision)
    await lifetime.to_rest(engine, db, [delivery.id])
    assert [one.text for one in sandbox.ledger.statuses(account="undecided")] == ["third thought"]

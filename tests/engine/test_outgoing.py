"""What is gathered of a post before it leaves: what tells it from others, what is made to fit, and what stops it."""

import fcntl
import signal
import sys
from typing import Any

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.errors import Refused, Retry
from postflow.media import decoding
from postflow.models import Delivery, Outgoing
from postflow.publishing import outgoing
from tests.engine.conftest import a_picture, scheduled

TEXT = "The sea, at noon."


@pytest.fixture
def post(account: int, db: psycopg.Connection, settings: config.Settings, ada: int) -> Delivery:
    """With two pictures."""
    [delivery] = scheduled(db, settings, ada, (account,), TEXT, media=(a_picture(db, ada), a_picture(db, ada)))
    return delivery


async def gathered(engine: Engine, post: Delivery, *, with_data: bool = False) -> Outgoing:
    return await outgoing.gather(engine.pool, post, engine.settings, with_data=with_data)


# -- what could be taken for it ------------------------------------------------------------------------------------


def likeness(parcel: Outgoing, *, keeps_media_ids: bool = True, **changed: Any) -> str:
    capabilities = parcel.server.capabilities.model_copy(update={"keeps_media_ids": keeps_media_ids})
    server = parcel.server.model_copy(update={"capabilities": capabilities})
    return outgoing._likeness(parcel.content.model_copy(update=changed), parcel.media, server)


async def test_words_that_a_server_may_write_in_its_own_way_do_not_tell_posts_apart(
    post: Delivery, engine: Engine
) -> None:
    parcel = await gathered(engine, post)
    ours = likeness(parcel)
    for text in ("the sea at noon", "THE SEA — at noon!", "the sea, @bob@example.org, at noon", "Ｔｈｅ sea_at\nnoon"):
        assert likeness(parcel, text=text) == ours, text
    assert likeness(parcel, text="The sea", spoiler_text="at noon") == ours
    for text in ("The sea, at night.", ""):
        assert likeness(parcel, text=text) != ours, text


@pytest.mark.parametrize("keeps_media_ids", [True, False])
async def test_uploads_tell_posts_apart_where_a_status_keeps_their_ids(
    keeps_media_ids: bool, post: Delivery, engine: Engine
) -> None:
    parcel = await gathered(engine, post)
    first, second = parcel.media
    others = parcel.model_copy(update={"media": (second, first)})
    ours = likeness(parcel, keeps_media_ids=keeps_media_ids)
    assert (likeness(others, keeps_media_ids=keeps_media_ids) != ours) is keeps_media_ids


# -- made to fit ---------------------------------------------------------------------------------------------------


async def test_pictures_come_in_their_order_with_their_bytes_only_where_they_are_wanted(
    post: Delivery, db: psycopg.Connection, engine: Engine
) -> None:
    order = [media_id for (media_id,) in db.execute("SELECT id FROM media ORDER BY id")]
    for with_data in (True, False):
        parcel = await gathered(engine, post, with_data=with_data)
        assert [one.media_id for one in parcel.media] == order
        assert [bool(one.data) for one in parcel.media] == [with_data] * 2
        assert all(one.size_bytes for one in parcel.media)


async def test_what_was_made_to_fit_is_kept_for_the_next_account(
    post: Delivery, db: psycopg.Connection, engine: Engine
) -> None:
    db.execute("UPDATE servers SET limits = jsonb_set(limits, '{max_image_pixels}', '10000')")
    first = await gathered(engine, post, with_data=True)
    assert [one.width * one.height <= 10_000 for one in first.media] == [True, True]
    assert [one.size_bytes for one in first.media] == [len(one.data) for one in first.media]
    assert db.execute("SELECT count(*) FROM media_files WHERE recipe <> ''").fetchone() == (2,)
    db.execute("DELETE FROM media_files WHERE recipe = ''")
    again = await gathered(engine, post, with_data=True)
    assert [one.data for one in again.media] == [one.data for one in first.media]


# -- what stops it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ("DELETE FROM posts", Refused, "post_gone"),
        ("DELETE FROM media_files", Refused, "media_gone"),
        ("UPDATE servers SET base_url = 'https://elsewhere.example'", Retry, "server_unknown"),
        ("UPDATE media_files SET data = 'no picture'", Refused, "media_unfit"),
    ],
)
async def test_what_is_gone_or_not_known_yet_says_so(
    change: str,
    error: type[Refused | Retry],
    code: str,
    post: Delivery,
    db: psycopg.Connection,
    engine: Engine,
) -> None:
    db.execute(change.encode())
    with pytest.raises(error) as stopped:
        await gathered(engine, post)
    assert stopped.value.code == code


async def test_where_other_pictures_have_the_turn_it_is_tried_again_and_nothing_is_said_against_it(
    post: Delivery, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "PATIENCE_S", 0.05)
    with decoding._lock_file().open("ab") as of_another_process:
        fcntl.flock(of_another_process, fcntl.LOCK_EX)
        with pytest.raises(Retry) as put_off:
            await gathered(engine, post)
    assert put_off.value.code == "decoding_busy"


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGKILL])
async def test_a_picture_whose_child_was_ended_with_the_machine_s_other_processes_is_tried_again(
    ended_by: signal.Signals, post: Delivery, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "FEW_PIXELS", 0)
    monkeypatch.setattr(decoding, "_SELF", [sys.executable, "-c", f"import os; os.kill(os.getpid(), {ended_by:d})"])
    with pytest.raises(Retry) as put_off:
        await gathered(engine, post)
    assert put_off.value.code == "decoding_busy"

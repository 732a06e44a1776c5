"""Skipping time at the end of a chaos run: the database and the sandbox age alike, to the last instant."""

from datetime import datetime, timedelta

import psycopg

from chaos import drain
from postflow import config
from postflow.engine import Engine
from postflow.publishing import preparing
from sandbox import Sandbox
from tests.engine.conftest import *  # noqa: F403 their fixtures
from tests.engine.conftest import a_picture, an_account, scheduled


async def test_every_instant_of_a_delivery_lies_further_back(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "pixelfed", "ages")
    [delivery] = scheduled(db, settings, ada, (account,), "ages", media=(a_picture(db, ada),))
    await preparing.prepare(engine, delivery.id)
    [instants] = db.execute(
        "SELECT array_agg(table_name || '.' || column_name) FROM information_schema.columns"
        " WHERE table_name IN ('deliveries', 'posts') AND data_type = 'timestamp with time zone'"
    ).fetchone() or [()]
    assert {"deliveries.wake_at", "deliveries.staged_at", "posts.post_date"} <= set(instants)
    before, jobs_before, uploaded_before = _instants(db)
    drain.age(db, 120)
    after, jobs_after, uploaded_after = _instants(db)
    by = timedelta(seconds=120)
    assert after == {name: at - by for name, at in before.items()}
    assert jobs_after == [at - by for at in jobs_before]
    assert uploaded_after == uploaded_before - by


def _instants(db: psycopg.Connection) -> tuple[dict[str, datetime], list[datetime], datetime]:
    row = db.execute(
        "SELECT to_jsonb(d), to_jsonb(p), d.staged FROM deliveries d JOIN posts p ON p.id = d.post_id"
    ).fetchone()
    assert row
    found = {
        f"{place}.{name}": datetime.fromisoformat(value)
        for place, columns in enumerate(row[:2])
        for name, value in columns.items()
        if value and (name.endswith("_at") or name == "post_date")
    }
    jobs = db.execute("SELECT scheduled_at FROM procrastinate_jobs WHERE status = 'todo' ORDER BY id").fetchall()
    return found, [at for (at,) in jobs], datetime.fromisoformat(row[2]["uploads"][0]["uploaded_at"])


def test_what_a_network_holds_ages_however_deep_it_stands() -> None:
    staged = {"children": {"0": {"created_at": "2026-11-25T12:00:00Z"}}, "anchor": None, "n": [1]}
    aged = drain.aged(staged, timedelta(hours=1))
    assert aged == {"children": {"0": {"created_at": "2026-11-25T11:00:00+00:00"}}, "anchor": None, "n": [1]}

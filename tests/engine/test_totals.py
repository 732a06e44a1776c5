"""What /metrics counts: it is what the networks' ledger holds, each thing once, and nothing makes it go down."""

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from pydantic import SecretStr

from postflow import config
from postflow.connections import token_refresh
from postflow.engine import Engine
from postflow.operations import migrate, retention, totals
from postflow.posts import deliveries
from postflow.publishing import sending
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, scheduled
from tests.engine.connected import connected
from tests.engine.test_instagram import connected as connected_through_facebook
from tests.engine.test_instagram import settings
from web import app as web_app
from web.middleware import database

__all__ = ["settings"]

LATE = "postflow_lateness_seconds"

Figures = Callable[[], dict[str, float]]


@pytest.fixture
def figures(settings: config.Settings) -> Iterator[Figures]:
    """`figures()["postflow_outcomes_total{network="mastodon",outcome="failed"}"]`, asked anew each time."""
    app = web_app.create_app(settings.model_copy(update={"metrics_token": SecretStr("let-me-see")}))

    def ask() -> dict[str, float]:
        answer = app.test_client().get("/metrics", headers={"Authorization": "Bearer let-me-see"})
        assert answer.status_code == 200
        return {name: float(value) for name, value in re.findall(r"^(postflow_\S+) (\S+)$", answer.text, re.MULTILINE)}

    yield ask
    database.close(app)


async def folded(engine: Engine) -> int:
    async with engine.pool.connection() as conn:
        return await totals.fold(conn)


def outcomes(found: dict[str, float], network: str) -> dict[str, float]:
    line = f'postflow_outcomes_total{{network="{network}",outcome="%s"}}'
    return {outcome: found[line % outcome] for outcome in ("published", "failed", "missed", "attention")}


def counters(found: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in found.items() if re.match(r"postflow_\w+_(total|count|sum|bucket)\b", name)}


class Author:
    """Writes posts for one account and lets time pass until each has come to its end."""

    def __init__(self, db: psycopg.Connection, engine: Engine, user_id: int, account_id: int) -> None:
        self._db, self._engine, self._user_id, self._account_id = db, engine, user_id, account_id

    async def writes(self, text: str, *, late: timedelta | None = None) -> None:
        pictures = (a_picture(self._db, self._user_id),)
        [made] = scheduled(self._db, self._engine.settings, self._user_id, (self._account_id,), text, media=pictures)
        if late:
            self._db.execute("UPDATE posts SET post_date = now() - %s WHERE id = %s", [late, made.post_id])
        await lifetime.to_rest(self._engine, self._db, [made.id])


async def test_after_a_run_with_every_kind_of_end_the_figures_are_the_ledger_s_and_never_go_down(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int, figures: Figures
) -> None:
    patience = replace(engine, settings=settings.model_copy(update={"max_faults": 3, "pace_s": 0}))
    for name in ("mastodon", "pixelfed"):
        author = Author(db, patience, ada, (await connected(db, engine, sandbox, ada, name, f"counted-{name}")).id)
        commit = {"account": f"counted-{name}", "method": "POST", "path": "/api/v1/statuses$"}
        for number in range(3):
            await author.writes(f"counted {number}")
        sandbox.faults.add("drop_after_commit", **commit)
        await author.writes("counted though its answer got lost")
        sandbox.faults.add("status", **commit, times=2, status=503)
        await author.writes("counted after two faults")
        sandbox.faults.add("status", **commit, status=422, body="json")
        await author.writes("counted as refused")
        await author.writes("counted as missed", late=timedelta(days=2))
        await author.writes("counted as late", late=timedelta(minutes=2))
        await folded(engine)
        fault = sandbox.faults.add("drop_before", **commit, times=None)
        await author.writes("counted as undecidable")
        sandbox.faults.clear(fault)

    found = figures()
    for name in ("mastodon", "pixelfed"):
        held = len(sandbox.ledger.statuses(instance=name, published=True))
        assert held == 6
        assert outcomes(found, name) == {"published": held, "failed": 1, "missed": 1, "attention": 1}
        assert found[f'{LATE}_count{{network="{name}"}}'] == held
        assert found[f'{LATE}_bucket{{le="60",network="{name}"}}'] == held - 1
        assert found[f'{LATE}_bucket{{le="300",network="{name}"}}'] == held
        requests = [
            one for one in sandbox.ledger.requests(instance=name, method="POST") if one.path.endswith("/statuses")
        ]
        assert found[f'postflow_processing_seconds_count{{network="{name}",step="send"}}'] == len(requests)
    told = db.execute(
        "SELECT a.platform, e.detail ->> 'code', count(*) FROM delivery_events e JOIN deliveries d ON d.id = e.delivery_id"
        " JOIN accounts a ON a.id = d.account_id WHERE e.detail ->> 'code' IS NOT NULL GROUP BY 1, 2"
    ).fetchall()
    errors = {f'postflow_errors_total{{kind="{kind}",network="{name}"}}': times for name, kind, times in told}
    assert errors == {name: value for name, value in found.items() if name.startswith("postflow_errors")}
    assert sum(errors.values()) == 2 * (1 + 2 + 1 + 4), "lost, faults, refused, never arrived: on two networks"
    states = db.execute("SELECT status, count(*) FROM deliveries GROUP BY 1").fetchall()
    assert {f'postflow_deliveries{{status="{status}"}}': count for status, count in states}.items() <= found.items()

    await folded(engine)
    assert counters(figures()) == pytest.approx(counters(found)), "folding moves nothing"
    for query in (
        "UPDATE delivery_events SET at = now() - interval '1000 days'",
        "UPDATE deliveries SET status_at = now() - interval '1000 days'",
    ):
        db.execute(query.encode())
    async with engine.pool.connection() as conn:
        assert (await retention.purge(conn, settings))["stories"] > 50
    assert counters(figures()) == pytest.approx(counters(found)), "nor does purging"
    db.execute("DELETE FROM posts")
    db.execute("DELETE FROM users")
    gone = figures()
    assert counters(gone) == pytest.approx(counters(found)), "nor does a person who leaves"
    assert not any(value for name, value in gone.items() if name.startswith("postflow_deliveries{"))


async def test_an_answer_found_by_looking_on_instagram_counts_as_published_once(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int, figures: Figures
) -> None:
    author = Author(db, engine, ada, await connected_through_facebook(db, engine, sandbox, ada, "counted-gram"))
    sandbox.faults.add("drop_after_commit", method="POST", path="media_publish$")
    await author.writes("counted on instagram")
    assert len(sandbox.ledger.statuses(instance="instagram", published=True)) == 1
    assert outcomes(figures(), "instagram") == {"published": 1, "failed": 0, "missed": 0, "attention": 0}


async def test_refreshes_that_worked_and_that_did_not_are_counted_and_a_fresh_token_is_not(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int, figures: Figures
) -> None:
    line = 'postflow_token_refreshes_total{network="pixelfed",outcome="%s"}'
    before = figures()
    assert (before[line % "refreshed"], before[line % "failed"]) == (0, 0)
    soon = await connected(db, engine, sandbox, ada, "pixelfed", "counted-soon", left=timedelta(days=20))
    sandbox.advance(2 * 86400)
    assert (await token_refresh.refresh(engine, soon.id)).state == "refreshed"
    assert (await token_refresh.refresh(engine, soon.id)).state == "fresh"
    refused = await connected(db, engine, sandbox, ada, "pixelfed", "counted-refused", left=timedelta(days=20))
    sandbox.faults.add("status", method="POST", path="/oauth/token$", status=500)
    assert (await token_refresh.refresh(engine, refused.id)).state == "failed"
    after = figures()
    assert (after[line % "refreshed"], after[line % "failed"]) == (1, 1)


async def test_a_move_that_is_rolled_back_is_not_counted_and_two_folds_at_once_count_each_once(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int, figures: Figures
) -> None:
    account = await connected(db, engine, sandbox, ada, "mastodon", "counted-twice")
    made = [scheduled(db, settings, ada, (account.id,), f"counted twice {number}")[0] for number in range(5)]
    with db.transaction(force_rollback=True):
        deliveries.cancel(db, [one.id for one in made], "Never mind.")
    assert figures()['postflow_deliveries{status="cancelled"}'] == 0
    deliveries.cancel(db, [one.id for one in made[:2]], "Cancelled.")
    assert sum(await asyncio.gather(folded(engine), folded(engine))) == 7
    assert await folded(engine) == 0
    found = figures()
    assert (found['postflow_deliveries{status="cancelled"}'], found['postflow_deliveries{status="scheduled"}']) == (
        2,
        3,
    )


async def test_lateness_counts_from_the_person_s_later_word(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int, figures: Figures
) -> None:
    account = await connected(db, engine, sandbox, ada, "mastodon", "counted-asked")
    [made] = scheduled(db, settings, ada, (account.id,), "counted from the second word")
    db.execute("UPDATE posts SET post_date = now() - interval '3 days'")
    db.execute("UPDATE deliveries SET asked_at = clock_timestamp()")
    assert await sending.publish(engine, made.id)
    found = figures()
    assert found[f'{LATE}_bucket{{le="3600",network="mastodon"}}'] == 1
    assert found[f'{LATE}_sum{{network="mastodon"}}'] < 3600


def before_the_tables() -> str:
    script = ScriptDirectory.from_config(migrate.config(""))
    [made] = [one for one in script.walk_revisions("base", "heads") if one.path.endswith("_totals.py")]
    return str(made.down_revision)


def test_what_was_there_before_the_tables_are_counted_with_what_is_there(
    empty_database_url: str, settings: config.Settings
) -> None:
    migrate.upgrade(empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True) as conn:
        conn.execute("INSERT INTO users (email, password_hash) VALUES ('ada@example.org', 'x')")
        conn.execute(
            "INSERT INTO accounts (user_id, platform, base_url, remote_id, handle, sealed)"
            " SELECT id, 'mastodon', 'https://birds.example', '1', '@ada', 'x' FROM users"
        )
        conn.execute(
            "INSERT INTO posts (user_id, content, post_date, time_zone)"
            " SELECT id, '{}', now(), 'UTC' FROM users, generate_series(1, 4)"
        )
        conn.execute(
            "INSERT INTO deliveries (post_id, account_id, revision, wake_at)"
            " SELECT posts.id, accounts.id, 1, post_date FROM posts, accounts"
        )
        command.downgrade(migrate.config(empty_database_url), before_the_tables())
        conn.execute("UPDATE deliveries SET status = 'cancelled', wake_at = NULL WHERE id % 2 = 0")
        migrate.upgrade(empty_database_url)
        held = {one.label: one.times for one in totals.read(conn)}
        states = conn.execute("SELECT '>' || status, count(*) FROM deliveries GROUP BY 1").fetchall()
        assert held == dict(states) == {">scheduled": 2, ">cancelled": 2}

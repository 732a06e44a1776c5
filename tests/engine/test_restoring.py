"""A database that has lost its last moments, by a restored backup or a promoted replica: nothing is lost, and nothing goes out
a second time.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from postflow import cli, config
from postflow import db as database
from postflow.dev import embedded_postgres
from postflow.dev.embedded_postgres import binaries, place
from postflow.engine import Engine, engine_over
from postflow.models import Delivery
from postflow.operations import migrate
from postflow.publishing import preparing, reconciling, restoring, sending, sweeping, transitions
from sandbox import Sandbox
from tests.conftest import UrlOf, a_database
from tests.engine import lifetime
from tests.engine.conftest import a_picture, a_user, an_account, scheduled


@pytest.fixture
def tools(db: psycopg.Connection) -> Path:
    """The directory of pg_dump and pg_restore that fit this server."""
    found = binaries.find()
    if found.major < db.info.server_version // 10000 or not (found.bindir / "pg_restore").exists():
        pytest.skip("no pg_dump as new as this server")
    return found.bindir


@pytest.fixture
def other_url(postgres: UrlOf, admin: psycopg.Connection) -> Iterator[str]:
    """Another, empty database to restore into."""
    with a_database(admin, "postflow_restored") as name:
        yield postgres(name)


async def test_a_backup_holds_everything_and_what_went_out_since_is_not_sent_again(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    database_url: str,
    other_url: str,
    tools: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "keeper")
    soon = datetime.now(UTC) + timedelta(hours=1)
    [later] = scheduled(db, settings, ada, (account,), "due after all that", at=soon, media=(a_picture(db, ada),))
    [since] = scheduled(db, settings, ada, (account,), "went out after the backup")
    assert await preparing.prepare(engine, since.id)

    dump = tmp_path / "postflow.dump"
    run(tools / "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={database_url}")
    assert await sending.publish(engine, since.id)
    run(tools / "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={other_url}", str(dump))

    monkeypatch.setenv("DATABASE_URL", other_url)
    said = (await asyncio.to_thread(CliRunner().invoke, cli.main, ["restored"])).output
    assert said.startswith("1 deliveries were due since the backup and may be out already.")
    with psycopg.connect(other_url, autocommit=True) as restored:
        database.check_schema(restored)
        rows = dict(restored.execute("SELECT id, status FROM deliveries").fetchall())
        assert rows == {later.id: "scheduled", since.id: "unknown"}
        row = restored.execute("SELECT error, error_code FROM deliveries WHERE id = %s", [since.id]).fetchone()
        assert row == (restoring.SENTENCE, restoring.RESTORED)
        kept = restored.execute("SELECT count(*) FROM media_files WHERE length(data) > 0").fetchone()
        assert kept and kept[0] >= 1
        waiting = restored.execute("SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'").fetchone()
        assert waiting and waiting[0] >= 2
        async with engine_on(settings, other_url) as again:
            assert await sending.publish(again, since.id) is None
            await lifetime.to_rest(again, restored, [since.id])
        assert states(restored, since) == ["published"]
    assert sandbox.ledger.times_published("went out after the backup") == 1


@contextlib.asynccontextmanager
async def engine_on(settings: config.Settings, url: str) -> AsyncIterator[Engine]:
    """A worker on that database."""
    over = settings.model_copy(update={"database_url": SecretStr(url)})
    async with database.async_pool(url) as pool:
        engine = engine_over(over, pool)
        async with engine.http, engine.commit_http:
            yield engine


def states(conn: psycopg.Connection, *made: Delivery) -> list[str]:
    return lifetime.states(conn, [one.id for one in made])


async def test_a_dump_in_another_database_is_noticed_by_the_first_worker_also_without_the_command(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    database_url: str,
    other_url: str,
    tools: Path,
    tmp_path: Path,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "gotosocial", "unannounced")
    [since] = scheduled(db, settings, ada, (account,), "out before anybody spoke of a backup")
    dump = tmp_path / "postflow.dump"
    run(tools / "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={database_url}")
    assert await sending.publish(engine, since.id)
    run(tools / "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={other_url}", str(dump))
    with psycopg.connect(other_url, autocommit=True) as restored:
        restored.execute("UPDATE posts SET post_date = post_date - interval '3 days'")  # longer than any grace
        async with engine_on(settings, other_url) as again:
            assert await sending.publish(again, since.id) is None
            assert states(restored, since) == ["unknown"], "not missed, which would be untrue"
            await lifetime.to_rest(again, restored, [since.id])
        assert states(restored, since) == ["published"]
    assert sandbox.ledger.times_published("out before anybody spoke of a backup") == 1


# -- a promoted replica ------------------------------------------------------------------------------------


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[embedded_postgres.EmbeddedPostgres]:
    with embedded_postgres.EmbeddedPostgres(tmp_path / "primary", careless=True) as server:
        migrate.upgrade(server.url())
        yield server


@contextlib.contextmanager
def promoted(copy: Path, home: Path) -> Iterator[embedded_postgres.EmbeddedPostgres]:
    """The replica, which knows what the copy knows, becomes the primary."""
    server = embedded_postgres.EmbeddedPostgres(home, careless=True)
    kept = place.prepare(home)
    shutil.copytree(copy, kept.data)
    (kept.data / "standby.signal").touch()
    give_to(kept, kept.data)
    kept.release()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(server, "_ensure_database", lambda: None)  # nothing can be made on a replica, and all is there
        server.start()
    try:
        with psycopg.connect(server.url(), autocommit=True) as conn:
            assert conn.execute("SELECT pg_promote()").fetchone() == (True,)
        yield server
    finally:
        server.stop()


def give_to(kept: place.Place, tree: Path) -> None:
    if kept.as_user:
        for path in (tree, *tree.rglob("*")):
            os.chown(path, kept.as_user["user"], kept.as_user["group"])


async def test_a_promoted_replica_that_lost_the_last_commits_sends_nothing_a_second_time(
    primary: embedded_postgres.EmbeddedPostgres, settings: config.Settings, sandbox: Sandbox, tmp_path: Path
) -> None:
    """GoToSocial knows no key: only a look can tell. One was out and so was a reply to it, one was not, one is for later."""
    async with engine_on(settings, primary.url()) as before:
        with psycopg.connect(primary.url(), autocommit=True) as db:
            ada = a_user(db, "ada@example.org")
            account = await an_account(db, before, sandbox, ada, "gotosocial", "failed-over")
            other = await an_account(db, before, sandbox, ada, "mastodon", "failed-over-too")
            thread = scheduled(db, settings, ada, (account,), "sent, then forgotten", thread=("its answer, forgotten",))
            [unsent] = scheduled(db, settings, ada, (other,), "due in the failover")
            soon = datetime.now(UTC) + timedelta(hours=1)
            [later] = scheduled(db, settings, ada, (other,), "due after the failover", at=soon)
            for one in (*thread, unsent):
                assert await preparing.prepare(before, one.id)
        primary._end_process("fast")
        await asyncio.to_thread(shutil.copytree, primary.data, tmp_path / "copy")
        primary._launch()
        for one in thread:
            assert await sending.publish(before, one.id)
    primary.stop("immediate")
    with (
        promoted(tmp_path / "copy", tmp_path / "replica") as server,
        psycopg.connect(server.url(), autocommit=True) as db,
    ):
        async with engine_on(settings, server.url()) as after:
            assert states(db, *thread, unsent, later) == ["ready", "ready", "ready", "scheduled"]
            assert await sending.publish(after, thread[0].id) is None
            assert states(db, *thread, unsent, later) == ["unknown", "unknown", "unknown", "scheduled"]
            await lifetime.to_rest(after, db, [*(one.id for one in thread), unsent.id])
        assert states(db, *thread, unsent, later) == ["published", "published", "published", "scheduled"]
    for text in ("sent, then forgotten", "its answer, forgotten", "due in the failover"):
        assert sandbox.ledger.times_published(text) == 1, text


async def test_a_claim_in_another_history_is_refused_whatever_was_read_before(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    """A failover between reading and claiming, through an address that leads to whoever is primary."""
    account = await an_account(db, engine, sandbox, ada, "gotosocial", "claimed-elsewhere")
    [delivery] = scheduled(db, settings, ada, (account,), "claimed in another history")
    ready = await preparing.prepare(engine, delivery.id)
    assert ready
    db.execute("UPDATE lineage SET mark = 'another'")
    async with engine.pool.connection() as conn:
        assert await transitions.claim_to_send(conn, ready, "mine", 60, "alike", None, pace_s=0) is None
    assert (await sweeping.sweep(engine))["forgotten"] == 1
    assert states(db, delivery) == ["unknown"]
    assert (await sweeping.sweep(engine))["forgotten"] == 0


async def test_a_clock_that_is_set_back_before_a_failover_is_noticed_hides_nothing(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    """Sent in the moments that are lost, and not due any more by the clock of the machine that took over."""
    account = await an_account(db, engine, sandbox, ada, "gotosocial", "an-hour-back")
    [delivery] = scheduled(db, settings, ada, (account,), "out before the clock was set back")
    assert await preparing.prepare(engine, delivery.id)
    db.execute("CREATE TABLE replica AS SELECT * FROM deliveries")
    assert await sending.publish(engine, delivery.id)
    db.execute("DELETE FROM deliveries")
    db.execute("INSERT INTO deliveries OVERRIDING SYSTEM VALUE SELECT * FROM replica")
    db.execute("UPDATE lineage SET mark = 'another', seen_at = now() + interval '1 hour'")
    db.execute("UPDATE posts SET post_date = post_date + interval '1 hour'")
    assert (await sweeping.sweep(engine))["forgotten"] == 1
    await lifetime.to_rest(engine, db, [delivery.id])
    assert states(db, delivery) == ["published"]
    assert sandbox.ledger.times_published("out before the clock was set back") == 1


async def test_a_part_is_not_looked_for_before_the_part_that_it_answers_is_known(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    """It would be missed as an answer to nothing, and sent a second time."""
    account = await an_account(db, engine, sandbox, ada, "gotosocial", "part-after-part")
    parts = scheduled(db, settings, ada, (account,), "which part is first", thread=("the one after it",))
    for one in parts:
        assert await preparing.prepare(engine, one.id)
    db.execute("UPDATE lineage SET mark = 'another'")
    assert await sending.publish(engine, parts[1].id) is None
    lifetime.pass_time(db, 65)
    await reconciling.reconcile(engine, parts[1].id)
    row = db.execute("SELECT status, looks, absent_looks FROM deliveries WHERE id = %s", [parts[1].id]).fetchone()
    assert row == ("unknown", 1, 0)


async def test_after_a_long_gap_what_is_not_found_is_left_to_its_person_who_hears_of_it(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "long-gap")
    [delivery] = scheduled(db, settings, ada, (account,), "perhaps out in other words")
    db.execute("UPDATE lineage SET mark = 'another', seen_at = now() - interval '2 hours'")
    assert await sending.publish(engine, delivery.id) is None
    await lifetime.to_rest(engine, db, [delivery.id])
    row = db.execute("SELECT status, error FROM deliveries WHERE id = %s", [delivery.id]).fetchone()
    assert row == ("attention", restoring.NOT_FOUND)
    assert db.execute("SELECT kind FROM notices").fetchall() == [("delivery-attention",)]
    assert sandbox.ledger.times_published("perhaps out in other words") == 0


def test_it_is_refused_while_a_worker_runs(
    settings: config.Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")
    result = CliRunner().invoke(cli.main, ["restored"])
    assert result.exit_code == 1
    assert "Stop all workers" in result.output


def run(*words: str | Path) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

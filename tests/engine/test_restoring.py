"""A backup as docs/operations.md says, restored as it says: nothing is lost, and nothing goes out a second time."""

import asyncio
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from postflow import cli, config, preparing, publishing, restoring, sweeping
from postflow import db as database
from postflow.embedded import binaries
from postflow.engine import Engine, engine_over
from sandbox import Sandbox
from tests.conftest import UrlOf, a_database
from tests.engine.conftest import a_picture, an_account, scheduled


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
    assert await publishing.publish(engine, since.id)
    run(tools / "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={other_url}", str(dump))

    monkeypatch.setenv("DATABASE_URL", other_url)
    said = (await asyncio.to_thread(CliRunner().invoke, cli.main, ["restored"])).output
    assert said.startswith("Held 1 deliveries that were due since the backup.")
    with psycopg.connect(other_url, autocommit=True) as restored:
        database.check_schema(restored)
        rows = dict(restored.execute("SELECT id, status FROM deliveries").fetchall())
        assert rows == {later.id: "scheduled", since.id: "missed"}
        row = restored.execute("SELECT error, next_step FROM deliveries WHERE id = %s", [since.id]).fetchone()
        assert row == (restoring.SENTENCE, restoring.NEXT_STEP)
        kept = restored.execute("SELECT count(*) FROM media_files WHERE length(data) > 0").fetchone()
        assert kept and kept[0] >= 1
        waiting = restored.execute("SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'").fetchone()
        assert waiting and waiting[0] >= 2
    over = settings.model_copy(update={"database_url": config.load().database_url})
    async with database.async_pool(over.database_url.get_secret_value()) as pool:
        again = engine_over(over, pool)
        async with again.http, again.commit_http:
            assert await publishing.publish(again, since.id) is None
            await sweeping.sweep(again)
    assert sandbox.ledger.times_published("went out after the backup") == 1


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

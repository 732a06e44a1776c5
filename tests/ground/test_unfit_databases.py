"""Databases that PostFlow cannot live in are refused with a sentence by whatever meets them, before anything is written."""

import re
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from click.testing import CliRunner
from cryptography.fernet import Fernet
from psycopg import conninfo, sql

from postflow import cli, errors
from postflow import db as database
from postflow.operations import migrate
from tests import catalog
from tests.patience import PATIENCE_S

PYTHON = [sys.executable, "-m"]
WORKER = [*PYTHON, "procrastinate", "--app=worker.app.app", "worker", "--one-shot"]
WEB = [*PYTHON, "gunicorn", "--config", "python:web.gunicorn", "--bind", "127.0.0.1:0", "web.app:create_app()"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTFLOW_SECRET_KEY", "k" * 32)
    monkeypatch.setenv("POSTFLOW_ENCRYPTION_KEYS", Fernet.generate_key().decode())


@pytest.fixture
def ascii_url(admin: psycopg.Connection, empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database that takes every byte for what the client says it is."""
    name = sql.Identifier(str(conninfo.conninfo_to_dict(empty_database_url)["dbname"]))
    admin.execute(sql.SQL("DROP DATABASE {}").format(name))
    made = "CREATE DATABASE {} ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
    admin.execute(sql.SQL(made).format(name))
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    return empty_database_url


@pytest.fixture
def stranger(admin: psycopg.Connection) -> Iterator[str]:
    """Somebody who may sign in to every database and owns none."""
    admin.execute("CREATE ROLE stranger LOGIN")
    yield "stranger"
    admin.execute("DROP ROLE stranger")


@pytest.mark.parametrize("command", [WORKER, WEB], ids=["worker", "web"])
def test_text_of_no_known_encoding_lets_neither_worker_nor_pages_start(ascii_url: str, command: list[str]):
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert done.stderr.count("The database's encoding is SQL_ASCII") == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert "pooler" not in done.stderr


@pytest.mark.parametrize("command", ["migrate", "doctor", "due"])
def test_text_of_no_known_encoding_is_refused_by_each_command(ascii_url: str, command: str):
    result = CliRunner().invoke(cli.main, [command])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "The database's encoding is SQL_ASCII" in result.output
    assert "ENCODING 'UTF8'" in result.output
    with psycopg.connect(ascii_url, client_encoding="utf8") as conn:
        assert conn.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace").fetchone() == (
            0,
        )


def test_a_server_that_is_too_old_is_named_with_what_is_needed(database_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(database, "OLDEST_SERVER", 99)
    with pytest.raises(
        errors.Misconfigured, match=r"The database is PostgreSQL \d+\.\d+, and PostFlow needs 99 or newer"
    ):
        database.connect(database_url)


def test_a_server_newer_than_those_that_were_tried_is_worth_a_look(
    database_url: str, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DATABASE_URL", database_url)
    db.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")
    before = CliRunner().invoke(cli.main, ["doctor"]).output
    assert "ok    Database: PostgreSQL " in before
    monkeypatch.setattr(database, "NEWEST_SERVER", 14)
    said = CliRunner().invoke(cli.main, ["doctor"]).output
    assert "WARN  Database: PostgreSQL " in said
    assert "tried on (15 to 14)" in said
    assert said.count("FAULT") == before.count("FAULT")


def test_whoever_may_not_create_tables_is_told_and_may_go_on_once_allowed(
    admin: psycopg.Connection, empty_database_url: str, stranger: str
):
    url = re.sub("//[^@/]*@", f"//{stranger}@", empty_database_url)
    with psycopg.connect(empty_database_url, autocommit=True) as conn:
        with pytest.raises(errors.Misconfigured, match=r"permission denied for schema public.*should own the database"):
            migrate.upgrade(url)
        conn.execute("ALTER ROLE stranger SET search_path = nowhere")
        with pytest.raises(errors.Misconfigured, match="no schema has been selected to create in"):
            migrate.upgrade(url)
        assert catalog.of(conn)["tables and indexes"] == []
        conn.execute("ALTER ROLE stranger RESET search_path")
        conn.execute("GRANT CREATE ON SCHEMA public TO stranger")
        migrate.upgrade(url)
        database.check_schema(conn)
        conn.execute("DROP OWNED BY stranger")


def test_whoever_may_not_read_the_tables_is_told(database_url: str, stranger: str, monkeypatch: pytest.MonkeyPatch):
    url = re.sub("//[^@/]*@", f"//{stranger}@", database_url)
    with (
        database.connect(url) as conn,
        pytest.raises(errors.Misconfigured, match="may not read PostFlow's tables"),
    ):
        database.check_schema(conn)
    monkeypatch.setenv("DATABASE_URL", url)
    assert "FAULT Tables: The user in DATABASE_URL may not read" in CliRunner().invoke(cli.main, ["doctor"]).output


def test_a_database_that_is_read_only_is_migrated_later(admin: psycopg.Connection, empty_database_url: str):
    name = sql.Identifier(str(conninfo.conninfo_to_dict(empty_database_url)["dbname"]))
    admin.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    with pytest.raises(errors.Misconfigured, match=r"read-only transaction. Look for a full disk or a failover"):
        migrate.upgrade(empty_database_url)
    admin.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))
    migrate.upgrade(empty_database_url)


def test_every_command_says_in_a_sentence_that_the_database_is_read_only(
    admin: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    name = sql.Identifier(str(conninfo.conninfo_to_dict(database_url)["dbname"]))
    admin.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    monkeypatch.setenv("DATABASE_URL", database_url)
    for command in (["due"], ["restored"], ["create-user", "ada@example.org", "--password-stdin"]):
        done = CliRunner().invoke(cli.main, command, input="long enough to be let in\n")
        assert (done.exit_code, type(done.exception)) == (1, SystemExit), (command, done.output)
        assert "The database would not do it: cannot execute" in done.output


def test_what_the_database_says_of_its_clients_encoding_is_not_believed(admin: psycopg.Connection, database_url: str):
    name = sql.Identifier(str(conninfo.conninfo_to_dict(database_url)["dbname"]))
    admin.execute(sql.SQL("ALTER DATABASE {} SET client_encoding = 'LATIN1'").format(name))
    with database.connect(database_url) as conn, database.pool(database_url) as pool, pool.connection() as pooled:
        for one in (conn, pooled):
            assert one.execute("SELECT 'Boxkämpfer 🥊'").fetchone() == ("Boxkämpfer 🥊",)

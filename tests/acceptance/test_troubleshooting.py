"""Every command of docs/troubleshooting.md is run: on a database with posts, beside a real worker and real pages."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from werkzeug.serving import make_server

from postflow import config
from postflow.engine import Engine
from sandbox import Sandbox
from tests.acceptance.test_workers import Start, start_worker, until
from tests.engine.conftest import ada, an_account, engine, scheduled, settings
from web import app as web_app
from web.middleware import database

#: Two dozen programs are started one after another.
pytestmark = pytest.mark.timeout(400)

__all__ = ["ada", "engine", "settings", "start_worker"]

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "troubleshooting.md").read_text()
PROGRAMS = ("postflow", "procrastinate", "docker", "heroku", "psql", "curl", "uv", "pip", "gunicorn", "python3")
#: Around a command of ours: where it runs, not what it does.
ELSEWHERE = re.compile(r"^(docker compose exec (?P<service>\w+)|heroku run) (?=\S)")
#: The tests' own server keeps nothing through a power cut, and doctor says so.
UNKEPT = "FAULT Keeping: "
SERVICES = set(
    re.findall(r"^  (\w+):$", (CHECKOUT / "docker-compose.yml").read_text().partition("\nservices:")[2], re.MULTILINE)
)
PROCESSES = {line.partition(":")[0] for line in (CHECKOUT / "Procfile").read_text().splitlines()}


def commands() -> list[str]:
    """Lines of shell blocks, what stands in backticks and begins with a program, and queries for psql."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    inline = [one for one in re.findall(r"`([^`\n]+)`", prose) if one.split()[0] in PROGRAMS]
    return list(dict.fromkeys([line for block in blocks for line in block.splitlines()] + inline))


def queries() -> list[str]:
    return re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
async def house(
    settings: config.Settings,
    engine: Engine,
    db: psycopg.Connection,
    sandbox: Sandbox,
    ada: int,
    start_worker: Start,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> AsyncIterator[dict[str, str]]:
    """A worker that has published a post and waits for another, and pages. Gives the environment of a shell."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with make_server("127.0.0.1", 0, lambda environ, start: app(environ, start), threaded=True) as server:
        address = f"http://127.0.0.1:{server.port}"
        app = web_app.create_app(settings.model_copy(update={"public_url": address}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        account = await an_account(db, engine, sandbox, ada, "mastodon", "troubled")
        scheduled(db, settings, ada, (account,), "out before the trouble began")
        start_worker()
        until(db, "SELECT count(*) FROM deliveries WHERE status = 'published'", 1)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        yield {**os.environ, "PATH": path, "POSTFLOW_PUBLIC_URL": address}
        server.shutdown()
        database.close(app)


def test_the_page_names_commands_of_each_kind_and_none_that_this_test_does_not_know():
    assert len(commands()) >= 15
    assert len(queries()) >= 8
    for command in commands():
        assert kind(command) in ("run", "compose", "heroku", "install", "psql"), command


def kind(command: str) -> str:
    words = shlex.split(ELSEWHERE.sub("", command))
    if words[0] in ("postflow", "procrastinate", "curl"):
        return "run"
    return {"docker": "compose", "heroku": "heroku", "uv": "install", "pip": "install"}.get(words[0], words[0])


def test_every_command_that_runs_here_ends_well_beside_a_worker_that_lives(house: dict[str, str]):
    for command in (one for one in commands() if kind(one) == "run"):
        if where := ELSEWHERE.match(command):
            assert where["service"] is None or where["service"] in SERVICES, command
        bare = ELSEWHERE.sub("", command)
        if bare.startswith("curl") and not shutil.which("curl"):
            continue
        if bare.startswith("procrastinate"):
            bare += " --one-shot"
        done = subprocess.run(["sh", "-c", bare], env=house, capture_output=True, text=True, timeout=90)
        said = done.stdout + done.stderr
        if bare == "postflow restored":
            assert (done.returncode, "A worker is running on this database" in said) == (1, True), said
            continue
        faults = [line for line in said.splitlines() if line.startswith("FAULT") and not line.startswith(UNKEPT)]
        assert (done.returncode, faults) == (int(UNKEPT in said), []), f"{command}: {said}"
        assert said.strip(), command


def test_the_queries_give_what_the_page_says_they_show(house: dict[str, str], db: psycopg.Connection):
    psql = shutil.which("psql")
    for query in queries():
        assert query.lstrip().upper().startswith("SELECT"), "the page promises that they only read"
        db.execute(query.encode())
        if psql:
            done = subprocess.run(
                [psql, "--no-psqlrc", "-c", query, house["DATABASE_URL"]], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
    [by_words] = [query for query in queries() if "HAVING count(*) > 1" in query]
    assert db.execute(by_words.encode()).fetchall() == []
    with db.transaction(force_rollback=True):
        db.execute("UPDATE deliveries SET attempt_no = 2")
        [sent_again] = [query for query in queries() if "d.attempt_no > 1" in query]
        assert len(db.execute(sent_again.encode()).fetchall()) == 1


def test_the_query_for_whoever_migrates_finds_them_and_the_one_for_open_transactions_names_who_holds_others(
    database_url: str, db: psycopg.Connection
):
    [turn] = [query for query in queries() if "locktype = 'advisory'" in query]
    assert db.execute(turn.encode()).fetchall() == []
    with psycopg.connect(database_url, autocommit=True) as migrating:
        migrating.execute("SELECT pg_advisory_lock(%s)", [lock_key()])
        assert [row[0] for row in db.execute(turn.encode()).fetchall()] == [migrating.info.backend_pid]
    [held] = [query for query in queries() if "pg_blocking_pids" in query]
    with psycopg.connect(database_url) as forgetful, psycopg.connect(database_url) as waiting:
        forgetful.execute("LOCK TABLE posts")
        alter = threading.Thread(target=lambda: waiting.execute("SET lock_timeout = '60s'; LOCK TABLE posts"))
        alter.start()
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
        until(db, blocked, 1)
        rows = db.execute(held.encode()).fetchall()
        forgetful.rollback()
        alter.join()
        assert (waiting.info.backend_pid, [forgetful.info.backend_pid]) in [(row[0], row[4]) for row in rows]


def lock_key() -> int:
    [key] = re.findall(r"^LOCK_KEY = ([\d_]+)$", (CHECKOUT / "migrations" / "env.py").read_text(), re.MULTILINE)
    return int(key)


def test_what_is_said_to_compose_heroku_and_installers_names_what_is_there():
    extras = set(tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for command in commands():
        words = shlex.split(command)
        if kind(command) == "compose":
            assert words[1] == "compose" and words[2] in ("restart", "up", "logs"), command
            assert SERVICES & {word.partition("=")[0] for word in words[3:]}, command
        elif kind(command) == "heroku":
            assert words[1] in ("ps:restart", "ps:scale") and words[2].partition("=")[0] in PROCESSES, command
        elif kind(command) == "install":
            assert extras & set(re.split(r"[^\w]+", command)), command

"""CONTRIBUTING's recipes, followed to the letter in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from cryptography.fernet import Fernet

from postflow import db as database
from postflow.operations import migrate
from tests import catalog

CHECKOUT = Path(migrate.__file__).parents[2]
_BLOCK = re.compile(r"```\w+\n# (\S+?)(?:, below \"([^\n]+)\")?\n(.*?)```", re.DOTALL)

#: Run in the copy, on a database of its own.
USE = """
from alembic import command

from postflow import config, db, users
from postflow.operations import migrate
from web.app import create_app
from worker import periodic, schedule

settings = config.load()
url = settings.database_url.get_secret_value()
migrate.upgrade(url)
with db.connect(url) as conn:
    db.check_schema(conn)
    users.create_owner(conn, "ada@birds.example", "correct horse", display_name="Ada", time_zone="UTC")
    conn.execute("UPDATE users SET greeting = 'Hello'")
    [greet] = [job for job in schedule.planned(settings, db.now(conn)) if job.name == "greet"]
assert "greet" in periodic.app.tasks
app = create_app(settings)
app.config["WTF_CSRF_ENABLED"] = False
person = app.test_client()
person.post("/sign-in", data={"email": "ada@birds.example", "password": "correct horse"})
print(person.get("/greetings").text)
command.downgrade(migrate.config(url), "-1")
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout in which every recipe has been followed."""
    for name in ("postflow", "web", "worker", "migrations"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "README.md", tmp_path)
    newest = database.shipped_revision()
    recipes = (CHECKOUT / "CONTRIBUTING.md").read_text().replace("NEWEST", newest)
    for path, anchor, lines in _BLOCK.findall(recipes.replace("NEXT", f"{int(newest) + 1:04}")):
        file = tmp_path / path
        before = file.read_text() if file.exists() else ""
        file.parent.mkdir(exist_ok=True)
        file.write_text(below(before, anchor, lines) if anchor else f"{before}{lines}")
    app = tmp_path / "web" / "app.py"
    first = app.read_text()
    assert first.count("deliveries, health") == 2
    app.write_text(first.replace("deliveries, health", "deliveries, greetings, health"))
    return tmp_path


def below(text: str, anchor: str, lines: str) -> str:
    """The lines behind the one line that has the anchor, as far in as what stands there."""
    before, line, after = re.split(rf"^(.*{re.escape(anchor)}.*\n)", text, flags=re.MULTILINE)
    margin = re.match(r" *", after)
    assert margin
    return before + line + "".join(f"{margin[0]}{one}\n" for one in lines.splitlines()) + after


def test_a_setting_a_page_a_periodic_job_and_a_migration(copy: Path, empty_database_url: str, db: psycopg.Connection):
    own = {
        "PATH": os.defpath,
        "DATABASE_URL": empty_database_url,
        "POSTFLOW_SECRET_KEY": "k" * 32,
        "POSTFLOW_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "POSTFLOW_GREETING": "Good evening",
    }
    said = subprocess.run([sys.executable, "-c", USE], cwd=copy, env=own, capture_output=True, text=True)
    assert "<h1>Good evening</h1>" in said.stdout, said.stderr
    with psycopg.connect(empty_database_url) as conn:
        database.check_schema(conn)
        assert catalog.of(conn) == catalog.of(db), "it went back as it came"

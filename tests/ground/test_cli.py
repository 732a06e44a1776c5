"""The `postflow` command as people meet it: by its output and its exit code."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from click.testing import CliRunner, Result
from cryptography.fernet import Fernet
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from postflow import cli, db, users


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("POSTFLOW_SECRET_KEY", "k" * 32)
    monkeypatch.setenv("POSTFLOW_ENCRYPTION_KEYS", Fernet.generate_key().decode())
    return monkeypatch


def test_migrate_brings_an_empty_database_up_and_says_so(environment, empty_database_url: str):
    environment.setenv("DATABASE_URL", empty_database_url)
    newest = db.shipped_revision()
    assert run("migrate").output == f"Migrated from nothing to {newest}.\n"
    assert run("migrate").output == f"The database is up to date ({newest}).\n"


def test_migrate_waits_for_a_database_that_does_not_answer_yet_and_no_longer_than_it_is_told(
    environment, empty_database_url: str, admin: psycopg.Connection
):
    environment.setenv("DATABASE_URL", empty_database_url)
    name = sql.Identifier(str(conninfo_to_dict(empty_database_url)["dbname"]))
    admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
    for words in (["migrate"], ["migrate", "--wait=0.2"]):
        refused = run(*words)
        assert (refused.exit_code, "cannot be reached" in refused.output) == (1, True)
    with ThreadPoolExecutor() as beside:
        waiting = beside.submit(run, "migrate", "--wait=100")
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
        assert waiting.result(100).output == f"Migrated from nothing to {db.shipped_revision()}.\n"


def test_wrong_settings_are_a_sentence_and_not_a_traceback(monkeypatch: pytest.MonkeyPatch):
    for name in ("DATABASE_URL", "POSTFLOW_SECRET_KEY", "POSTFLOW_ENCRYPTION_KEYS"):
        monkeypatch.delenv(name, raising=False)
    result = run("migrate")
    assert result.exit_code == 1
    assert result.output.startswith("Error: PostFlow cannot start with these settings:")
    assert "DATABASE_URL: is not set" in result.output


def test_the_doctor_names_each_fault_with_its_cure(environment, empty_database_url: str):
    environment.setenv("DATABASE_URL", empty_database_url)
    result = run("doctor")
    assert result.exit_code == 1
    assert "FAULT Tables: The database has no PostFlow tables yet; run: postflow migrate" in result.output


def test_the_doctor_misses_workers_and_is_content_when_one_lives(
    environment, database_url: str, db: psycopg.Connection
):
    environment.setenv("DATABASE_URL", database_url)
    assert "FAULT Workers: none is running" in run("doctor").output
    db.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")
    result = run("doctor")
    kept = db.execute("SHOW fsync").fetchone() == ("on",)  # the tests' own server keeps nothing through a power cut
    assert (result.exit_code, result.output.count("FAULT")) == ((0, 0) if kept else (1, 1))
    assert "ok    Workers: 1 running" in result.output


def test_the_doctor_reports_a_database_it_cannot_reach(environment, tmp_path):
    environment.setenv("DATABASE_URL", f"postgresql://ada:hunter2@/postflow?host={tmp_path}")
    result = run("doctor")
    assert "FAULT Database: The database cannot be reached" in result.output
    assert "hunter2" not in result.output


def test_the_first_person_becomes_the_owner_and_the_second_does_not(environment, database_url: str):
    environment.setenv("DATABASE_URL", database_url)
    words = ("create-user", "--password-stdin", "--time-zone", "Europe/Berlin")
    assert run(*words, "Ada@birds.example", typed="correct horse\n").output == (
        "ada@birds.example may sign in and is the owner.\n"
    )
    assert run(*words, "bo@birds.example", typed="battery staple\n").output == "bo@birds.example may sign in.\n"
    with psycopg.connect(database_url) as conn:
        ada = users.authenticate(conn, "ada@birds.example", "correct horse")
    assert ada
    assert (ada.is_owner, ada.time_zone) == (True, "Europe/Berlin")


def test_a_password_is_asked_for_twice_and_never_shown(environment, database_url: str):
    environment.setenv("DATABASE_URL", database_url)
    result = run("create-user", "ada@birds.example", typed="correct horse\ncorrect horse\n")
    assert result.exit_code == 0
    assert "correct horse" not in result.output


@pytest.mark.parametrize(
    ("words", "typed", "sentence"),
    [
        (["ada@birds.example"], "short\n", "at least 10 characters"),
        (["birds.example"], "correct horse\n", "e-mail address"),
        (["ada@birds.example", "--time-zone", "Berlin"], "correct horse\n", "not an IANA zone"),
    ],
)
def test_a_person_who_cannot_be_made_is_refused_with_the_reason(
    environment, database_url: str, words: list[str], typed: str, sentence: str
):
    environment.setenv("DATABASE_URL", database_url)
    result = run("create-user", "--password-stdin", *words, typed=typed)
    assert result.exit_code != 0
    assert sentence in result.output
    with psycopg.connect(database_url) as conn:
        assert not users.any_yet(conn)


def test_a_new_key_is_accepted_as_an_encryption_key():
    Fernet(run("new-key").output.strip())


def run(*words: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(cli.main, words, input=typed)

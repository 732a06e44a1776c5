"""Postgres stops while people look at pages, and starts again: each page says so meanwhile, and nobody is signed out."""

import time
from collections.abc import Iterator

import pytest

from postflow import db
from postflow.dev import embedded_postgres
from postflow.operations import migrate
from tests.web.conftest import Browser


@pytest.fixture
def server() -> Iterator[embedded_postgres.EmbeddedPostgres]:
    """One of our own: the others' must not be stopped."""
    with embedded_postgres.ephemeral() as running:
        migrate.upgrade(running.url())
        yield running


@pytest.fixture
def database_url(server: embedded_postgres.EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(db, "PATIENCE_S", 0.5)  # people wait five seconds; this test need not
    return server.url()


def test_pages_say_so_and_go_on_by_themselves(ada: Browser, server: embedded_postgres.EmbeddedPostgres):
    assert ada.get("/profile").status_code == 200
    server.stop()
    for path in ("/profile", "/sign-in"):
        answer = ada.get(path)
        assert answer.status_code == 503, path
        assert "The database does not answer" in answer.text
        assert "Nothing is lost" in answer.text
    assert ada.get("/healthz").status_code == 200, "the process is well: nobody should restart it"
    assert ada.get("/readyz").json["why"] == "the database does not answer"
    server.start()
    patience = time.monotonic() + 60
    while (answer := ada.get("/profile")).status_code == 503:
        assert time.monotonic() < patience
    assert "ada@example.org" in answer.text

"""Writing a post through the form: what is stored, what is refused, and that nothing typed is lost."""

import io

import psycopg
from PIL import Image

from tests.web.conftest import Browser


def a_picture() -> io.BytesIO:
    out = io.BytesIO()
    Image.new("RGB", (320, 240), "teal").save(out, "PNG")
    out.seek(0)
    return out


def test_a_refused_form_keeps_what_was_typed(ada: Browser, db: psycopg.Connection) -> None:
    answer = ada.send(
        "/posts", text="kept words", spoiler_text="kept warning", visibility="public", zone="UTC", action="now"
    )
    assert answer.status_code == 422
    assert "kept words" in answer.text
    assert "kept warning" in answer.text
    assert "Choose at least one account" in answer.text
    assert db.execute("SELECT count(*) FROM posts").fetchone() == (0,)


def test_a_time_that_has_passed_is_said(ada: Browser) -> None:
    answer = ada.send("/posts", text="late", visibility="public", date="2020-01-01", time="09:00", zone="UTC")
    assert answer.status_code == 422
    assert "This time has passed" in answer.text


def test_an_hour_the_clocks_skip_is_explained(ada: Browser) -> None:
    answer = ada.send(
        "/posts", text="skipped", visibility="public", date="2027-03-28", time="02:30", zone="Europe/Berlin"
    )
    assert answer.status_code == 422
    assert "the clocks go forward" in answer.text


def test_a_draft_may_be_unfinished_and_comes_back_in_the_composer(ada: Browser, db: psycopg.Connection) -> None:
    answer = ada.send("/posts", text="half a thought", visibility="public", zone="UTC", action="draft")
    assert answer.status_code == 302
    row = db.execute("SELECT id FROM posts WHERE draft_account_ids IS NOT NULL").fetchone()
    assert row
    assert "half a thought" in ada.get(f"/posts/{row[0]}/edit").text


def test_another_persons_post_is_not_there(ada: Browser, bob: Browser, db: psycopg.Connection) -> None:
    ada.send("/posts", text="private thought", visibility="public", zone="UTC", action="draft")
    row = db.execute("SELECT id FROM posts").fetchone()
    assert row
    assert bob.get(f"/posts/{row[0]}").status_code == 404
    assert bob.get(f"/posts/{row[0]}/edit").status_code == 404
    assert bob.send(f"/posts/{row[0]}/delete").status_code == 404


def test_every_list_of_the_queue_says_what_to_do_when_it_is_empty(ada: Browser) -> None:
    for view in ("upcoming", "published", "attention", "drafts"):
        assert "Connect an account first" in ada.get(f"/?view={view}").text

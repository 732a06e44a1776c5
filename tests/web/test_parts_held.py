"""Parts of a thread behind one that is not out: the page says what they wait for, and what their person can do."""

import re
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from postflow.models import Limits
from postflow.operations import doctor
from tests.web.conftest import Browser, an_account
from tests.web.test_compose import written


def rests(db: psycopg.Connection, status: str) -> None:
    """The first part, which is not out and does not move any more."""
    db.execute(
        "UPDATE deliveries SET status = %s, error = 'Because.', wake_at = NULL"
        " WHERE id = (SELECT min(id) FROM deliveries)",
        [status],
    )


@pytest.fixture
def thread(ada: Browser, db: psycopg.Connection) -> str:
    """Three parts; returns its page's address."""
    account = an_account(db, "ada@example.org", "mastodon", Limits())
    at = datetime.now(UTC) + timedelta(days=2)
    fields = [
        ("account", account), ("text", "held one"), ("part", "1"), ("text.1", "held two"), ("part", "2"),
        ("text.2", "held three"), ("date", f"{at:%Y-%m-%d}"), ("time", f"{at:%H:%M}"), ("zone", "UTC"),
        ("visibility", "public"), ("language", "cy"),
    ]  # fmt: skip
    return written(ada, fields).headers["Location"]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("failed", "a part before it has failed. Try that one again, and this one follows. From"),
        ("missed", "a part before it was not sent in time. Publish that one, and this one follows. From"),
        ("cancelled", "a part before it is cancelled. Send that one after all, and this one follows. From"),
        ("attention", "nobody knows yet whether a part before it is out. Say there what you see, and this one"),
    ],
)
def test_every_part_behind_one_that_rests_says_what_it_waits_for(
    ada: Browser, db: psycopg.Connection, thread: str, status: str, said: str
) -> None:
    assert ada.get(thread).text.count("It follows as soon as the part before it is out") == 2
    db.execute(
        "UPDATE deliveries SET status = %s, error = 'Because.', wake_at = NULL WHERE id = (SELECT min(id) FROM deliveries)",
        [status],
    )
    page = ada.get(thread).text
    assert page.count(f"It waits: {said}") == 2
    assert "It follows as soon as" not in page


def test_a_part_that_cannot_follow_becomes_a_post_of_its_own_by_its_person_s_hand(
    ada: Browser, bob: Browser, db: psycopg.Connection, thread: str
) -> None:
    db.execute(
        "UPDATE deliveries SET status = 'failed', wake_at = NULL, error = 'Gone.', error_code = 'parent_gone',"
        " next_step = 'Publish it as a post of its own.' WHERE id = (SELECT max(id) FROM deliveries)"
    )
    [link] = re.findall(r'href="(/posts/new\?of=\d+)">Publish it as a post of its own', ada.get(thread).text)
    page = ada.get(link).text
    assert ">held three</textarea>" in page and "held two" not in page
    assert '<option value="cy" selected>Cymraeg</option>' in page
    assert re.search(r'name="account" value="\d+" checked', page)
    assert 'action="/posts"' in page and 'name="revision" value=""' in page
    assert db.execute("SELECT count(*) FROM posts").fetchone() == (3,)  # nothing happens before it is sent
    assert bob.get(link).status_code == 404


def test_a_part_that_became_a_post_of_its_own_is_not_sent_from_its_thread_any_more(
    ada: Browser, db: psycopg.Connection, thread: str
) -> None:
    db.execute(
        "UPDATE deliveries SET status = 'failed', wake_at = NULL, error = 'Gone.', error_code = 'parent_gone'"
        " WHERE id = (SELECT min(id) + 1 FROM deliveries)"
    )
    [(part, account)] = db.execute("SELECT id, account_id FROM deliveries WHERE status = 'failed'").fetchall()
    page = ada.get(f"/posts/new?of={part}").text
    assert f'name="of" value="{part}"' in page
    fields = {"text": "held two", "of": str(part), "account": str(account), "visibility": "public"}
    at = datetime.now(UTC) + timedelta(days=1)
    fields |= {"date": f"{at:%Y-%m-%d}", "time": f"{at:%H:%M}", "zone": "UTC"}
    refused = ada.send("/posts", **fields | {"date": "nonsense"})
    assert refused.status_code == 422 and f'name="of" value="{part}"' in refused.text
    assert ada.send("/posts", **fields | {"action": "draft"}).status_code == 302
    assert db.execute("SELECT status FROM deliveries WHERE id = %s", [part]).fetchone() == ("failed",)
    assert ada.send("/posts", **fields).status_code == 302
    assert db.execute("SELECT status FROM deliveries WHERE id = %s", [part]).fetchone() == ("cancelled",)
    page = ada.get(thread).text
    assert "You made it a post of its own." in page and "It cannot follow: a part before it" in page
    for offered in ("Try again", "Send it after all", f"/posts/new?of={part}"):
        assert offered not in page
    answer = ada.post(f"/deliveries/{part}/retry", data={}, follow_redirects=True)
    assert "It has become a post of its own." in answer.text
    assert db.execute("SELECT status FROM deliveries WHERE id = %s", [part]).fetchone() == ("cancelled",)
    again = ada.send("/posts", **fields | {"text": "from a second window"})
    assert again.status_code == 302, "who writes it once more means it"


def test_a_part_that_is_on_its_way_again_makes_no_post_of_its_own_beside_it(
    ada: Browser, db: psycopg.Connection, thread: str
) -> None:
    """Asked for again in another window, while the form stood open."""
    [(part, account)] = db.execute("SELECT id, account_id FROM deliveries ORDER BY id DESC LIMIT 1").fetchall()
    answer = ada.send(
        "/posts", text="held three", of=str(part), account=str(account), visibility="public", action="now", zone="UTC"
    )
    assert answer.status_code == 409
    assert "It is on its way by itself meanwhile." in answer.text
    assert db.execute("SELECT count(*) FROM posts").fetchone() == (3,)


def test_doctor_names_what_is_held_by_a_part_that_is_not_out(db: psycopg.Connection, ada: Browser, thread: str) -> None:
    assert doctor._posts(db).sentence == "3 waiting, none overdue"  # pyright: ignore[reportPrivateUsage]
    db.execute("UPDATE posts SET post_date = now() - interval '1 minute'")
    rests(db, "failed")
    sentence = doctor._posts(db).sentence  # pyright: ignore[reportPrivateUsage]
    assert sentence.startswith("2 waiting, none overdue; 2 of them due, held by a part of their thread")


def test_seconds_that_were_typed_are_kept_and_shown(ada: Browser, db: psycopg.Connection) -> None:
    account = an_account(db, "ada@example.org", "mastodon", Limits())
    fields = [
        ("account", account), ("text", "to the second"), ("date", "2030-06-05"), ("time", "07:30:12"), ("zone", "UTC"),
        ("visibility", "public"),
    ]  # fmt: skip
    address = written(ada, fields).headers["Location"]
    assert db.execute("SELECT post_date FROM posts").fetchone() == (datetime(2030, 6, 5, 7, 30, 12, tzinfo=UTC),)
    page = ada.get(address).text
    assert "Wed 5 Jun 2030, 07:30:12" in page
    for form in (page, ada.get(f"{address}/edit").text):
        assert re.search(r'type="time"[^>]* step="1"[^>]* value="07:30:12"', form)
    refused = written(ada, [*fields[:3], ("time", "07:30:99"), *fields[4:]])
    assert "This is not a date and time that can be read." in refused.text


def test_every_language_of_iso_639_1_is_offered_and_the_page_stays_light(ada: Browser, db: psycopg.Connection) -> None:
    page = ada.get("/posts/new").text
    select = re.search(r'<select id="language".*?</select>', page, re.DOTALL)
    assert select
    codes = re.findall(r'<option value="([a-z]*)"', select[0])
    assert len(codes) == len(set(codes)) and sum(len(code) == 2 for code in codes) >= 183
    assert {"gsw", "tok", "zgh", "cy", "nn"} <= set(codes)
    assert len(select[0].encode()) < 12_000

"""A post's page and the queue: what became of it, what happens next, and what may be done in each state."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import psycopg.sql
import pytest

from postflow.models import IN_FLIGHT, RESTING, DeliveryStatus, Limits, PollLimits
from tests.web.conftest import Browser, an_account
from web import forms
from web.posts import VIEWS


@pytest.fixture
def account(ada: Browser, db: psycopg.Connection) -> int:
    return an_account(db, "ada@example.org", "mastodon", Limits())


def a_post(browser: Browser, account: int, *, at: datetime | None = None, text: str = "a post", **fields: str) -> str:
    """Scheduled through the form; returns its page's address."""
    at = at or datetime.now(UTC) + timedelta(days=2)
    answer = browser.send(
        "/posts", text=text, visibility="public", date=f"{at:%Y-%m-%d}", time=f"{at:%H:%M}", zone="UTC",
        account=str(account), **fields,
    )  # fmt: skip
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"]


def put(db: psycopg.Connection, status: str, **more: Any) -> None:
    """Into a state a worker would have brought it to."""
    row = {"status": status, "wake_at": None, **more}
    columns = psycopg.sql.SQL(", ").join(
        psycopg.sql.SQL("{} = {}").format(psycopg.sql.Identifier(name), psycopg.sql.Placeholder(name)) for name in row
    )
    db.execute(psycopg.sql.SQL("UPDATE deliveries SET {}").format(columns), row)


def state(db: psycopg.Connection) -> Any:
    return db.execute("SELECT status, error FROM deliveries").fetchone()


def buttons(page: str) -> set[str]:
    return {re.sub(r"<[^>]+>.*", "", found) for found in re.findall(r"<button[^>]*>(.*?)</button>", page)}


def test_a_scheduled_post_says_when_it_goes_out_and_offers_every_change(ada: Browser, account: int) -> None:
    page = ada.get(a_post(ada, account, at=datetime(2029, 6, 5, 7, 30, tzinfo=UTC))).text
    assert re.search(
        r'It goes out <time class="when" datetime="2029-06-05T07:30:00\+00:00"[^>]*>Tue 5 Jun 2029, 07:30', page
    )
    assert '<span class="zone">UTC</span>' in page
    assert {"Publish now", "Cancel", "Move"} <= buttons(page) and "/edit" in page and "Delete" in page


def test_an_open_page_is_left_alone_until_there_is_something_new(
    ada: Browser, account: int, db: psycopg.Connection
) -> None:
    page = ada.get(a_post(ada, account)).text
    found = re.search(r'hx-get="([^"]+)" hx-trigger="every (\d+)s"', page)
    assert found
    again = found[1].replace("&amp;", "&")
    assert int(found[2]) >= 10  # nothing can happen for two days: no need to ask every other second
    assert ada.get(again, headers={"HX-Request": "true"}).status_code == 204
    put(db, "ready", staged="{}", wake_at=datetime.now(UTC) + timedelta(seconds=5))
    renewed = ada.get(again, headers={"HX-Request": "true"})
    assert renewed.status_code == 200 and "All is made ready" in renewed.text
    assert 'hx-trigger="every 2s"' in renewed.text and "<html" not in renewed.text


def test_a_finished_post_is_not_asked_about_again(ada: Browser, account: int, db: psycopg.Connection) -> None:
    address = a_post(ada, account)
    sent_at = datetime.now(UTC)
    db.execute("UPDATE posts SET post_date = %s", [sent_at - timedelta(milliseconds=31)])
    put(db, "published", published_at=sent_at, sent_at=sent_at, permalink="https://m.example/1", notes=["One note."])
    page = ada.get(address).text
    assert "hx-trigger" not in page
    assert "31 ms after its time" in page and 'href="https://m.example/1"' in page and "One note." in page
    assert not {"Publish now", "Cancel", "Try again"} & buttons(page)


def test_a_missed_post_goes_out_with_one_click_or_is_moved(ada: Browser, account: int, db: psycopg.Connection) -> None:
    address = a_post(ada, account)
    db.execute("UPDATE posts SET post_date = now() - interval '1 day'")
    put(db, "missed", error="It is late. Nothing was sent.", next_step="Publish it now, or move it to another time.")
    page = ada.get(address).text
    assert "It is late. Nothing was sent." in page
    assert "Publish now" in buttons(page) and "Move" in buttons(page)
    ada.send(f"{address}/move", date="2030-01-02", time="10:00", zone="Europe/Berlin")
    assert state(db) == ("scheduled", None)
    moved = db.execute("SELECT post_date FROM posts").fetchone()
    assert moved == (datetime(2030, 1, 2, 9, 0, tzinfo=UTC),)
    put(db, "missed", error="Late again.")
    retry = re.search(r'action="(/deliveries/\d+/retry)"', ada.get(address).text)
    assert retry
    ada.send(retry[1])
    assert state(db) == ("scheduled", None)
    assert db.execute("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'publish'").fetchone() == (3,)


def test_attention_offers_both_choices_and_says_what_each_does(
    ada: Browser, account: int, db: psycopg.Connection
) -> None:
    address = a_post(ada, account)
    put(db, "attention", error="Nobody can tell.")
    page = ada.get(address).text
    assert {"Yes, it is there", "No, send it again"} <= buttons(page)
    assert "nothing is sent" in page and "it will be there twice" in page
    settle = re.search(r'action="(/deliveries/\d+/settle)"', page)
    assert settle
    ada.send(settle[1], published="yes")
    assert state(db) == ("published", None)


@pytest.mark.parametrize(
    ("status", "more", "said"),
    [
        ("sending", {"claim": "c", "staged": "{}"}, "It is being sent this moment."),
        ("unknown", {}, "sends nothing before it knows. Next look:"),
        ("preparing", {"claim": "c"}, "It is being made ready."),
        ("scheduled", {"not_before": datetime(2031, 1, 1, tzinfo=UTC)}, "It is tried again"),
    ],
)
def test_the_page_says_what_happens_next(
    ada: Browser, account: int, db: psycopg.Connection, status: str, more: dict[str, Any], said: str
) -> None:
    address = a_post(ada, account)
    soon = datetime.now(UTC) + timedelta(seconds=30)
    sent = {"sent_at": soon, "first_sent_at": soon, "attempt_no": 1} if status in ("sending", "unknown") else {}
    put(db, status, wake_at=soon, **sent, **more)
    assert said in ada.get(address).text


def test_the_end_of_a_lease_is_not_said_to_be_the_time_of_a_post_or_a_look(
    ada: Browser, account: int, db: psycopg.Connection
) -> None:
    address = a_post(ada, account)
    leased = datetime.now(UTC) + timedelta(days=3)  # later than the post is due, as it is in the minutes before
    put(db, "preparing", claim="c", wake_at=leased)
    page = ada.get(address).text
    assert "It is being made ready. It goes out" in page and "keeps its distance" not in page
    put(db, "unknown", claim="c", wake_at=leased, staged="{}", sent_at=leased, first_sent_at=leased, attempt_no=1)
    page = ada.get(address).text
    assert "sends nothing before it knows. It is looking this moment." in page and "Next look" not in page


def test_a_post_in_doubt_on_an_account_that_is_cut_off_says_what_it_waits_for_and_is_named_on_every_page(
    ada: Browser, account: int, db: psycopg.Connection
) -> None:
    address = a_post(ada, account)
    now = datetime.now(UTC)
    put(db, "unknown", wake_at=now + timedelta(minutes=10), sent_at=now, first_sent_at=now, attempt_no=1)
    db.execute("UPDATE accounts SET state = 'needs_reconnect', state_reason = 'Its access was withdrawn.'")
    page = ada.get(address).text
    assert "can be seen once this account is connected again. Nothing is sent before." in page
    assert "Next look" not in page and '<a href="/accounts">Connect the account again</a>' in page
    assert f'<a href="{address}">a post</a>' in ada.get("/").text


def test_of_a_thread_on_an_account_that_is_cut_off_the_first_part_that_waits_is_named(
    ada: Browser, account: int, db: psycopg.Connection
) -> None:
    address = a_post(ada, account, part="1", **{"text.1": "the second part"})
    db.execute("UPDATE accounts SET state = 'needs_reconnect', state_reason = 'Its access was withdrawn.'")
    at_risk = 'class="note note-bad" role="status" aria-label="Posts at risk'
    page = ada.get("/").text.partition(at_risk)[2].partition("</section>")[0]
    assert "This post waits for it" in page and "a post</a>" in page and "the second part" not in page
    db.execute(
        "UPDATE deliveries SET status = 'published', published_at = now(), wake_at = NULL"
        " WHERE post_id = %s", [int(address.rsplit("/", 1)[1])],
    )  # fmt: skip
    page = ada.get("/").text.partition(at_risk)[2].partition("</section>")[0]
    assert "This post waits for it" in page and "the second part</a>" in page


def test_what_lasts_is_said_in_the_words_it_was_chosen_in(ada: Browser, db: psycopg.Connection) -> None:
    account = an_account(db, "ada@example.org", "mastodon", Limits(polls=PollLimits()))
    fields = {"poll_options": "yes\nno", "poll_expires": "604800"}
    page = ada.get(a_post(ada, account, grace="86400", **fields)).text
    assert "A poll of 7 days" in page and "given up when more than 1 day late" in page
    assert "given up when more than 15 minutes late" in ada.get(a_post(ada, account, grace="900")).text


def test_what_failed_can_be_changed_although_it_is_out_elsewhere(
    ada: Browser, account: int, db: psycopg.Connection
) -> None:
    other = an_account(db, "ada@example.org", "pixelfed", Limits())
    address = a_post(ada, account)
    put(db, "failed", error="It was refused.", next_step="Change the post and try again.")
    page = ada.get(address).text
    assert f'href="{address}/edit"' in page and "as a post of its own" not in page
    db.execute(
        "INSERT INTO deliveries (post_id, account_id, revision, status, published_at)"
        " VALUES (%s, %s, 1, 'published', now())", [int(address.rsplit("/", 1)[1]), other],
    )  # fmt: skip
    page = ada.get(address).text
    assert f'href="{address}/edit"' not in page
    [link] = re.findall(r'href="(/posts/new\?of=\d+)">Change it as a post of its own', page)
    filled = ada.get(link).text
    assert ">a post</textarea>" in filled and f'value="{account}" checked' in filled
    assert f'value="{other}" checked' not in filled
    a_post(ada, account, of=link.partition("=")[2])
    page = ada.get(address).text
    assert (
        "You made it a post of its own. It is not sent from here any more." in page
        and "as a post of its own" not in page
    )


def test_a_post_waiting_for_its_account_says_until_when(ada: Browser, account: int, db: psycopg.Connection) -> None:
    address = a_post(ada, account, at=datetime(2029, 6, 5, 7, 0, tzinfo=UTC), grace="3600")
    db.execute("UPDATE accounts SET state = 'needs_reconnect'")
    page = ada.get(address).text
    assert re.search(r"waits until this account is connected again.+2029-06-05T08:00:00", page)


def test_a_post_that_may_be_late_waits_for_its_account_however_long(
    ada: Browser, account: int, db: psycopg.Connection
) -> None:
    address = a_post(ada, account, grace=str(forms.ALWAYS_S))
    db.execute("UPDATE accounts SET state = 'needs_reconnect'")
    page = ada.get(address).text
    assert "however late that is" in page and "published however late" in page


def test_a_part_of_a_thread_leads_to_the_whole_thread(ada: Browser, account: int, db: psycopg.Connection) -> None:
    address = a_post(ada, account, part="1", **{"text.1": "the second part"})
    page = ada.get(address).text
    assert "the second part" in page and "as soon as the part before it is out" in page
    child = db.execute("SELECT id FROM posts WHERE parent_id IS NOT NULL").fetchone()
    assert child and ada.get(f"/posts/{child[0]}").headers["Location"] == address


def test_deleting_says_what_will_not_go_out_and_what_stays(ada: Browser, account: int, db: psycopg.Connection) -> None:
    other = an_account(db, "ada@example.org", "pixelfed", Limits())
    address = a_post(ada, account)
    put(db, "published", published_at=datetime.now(UTC), permalink="https://m.example/7")
    post_id = int(address.rsplit("/", 1)[1])
    db.execute(
        "INSERT INTO deliveries (post_id, account_id, revision, wake_at) VALUES (%s, %s, 1, now() + interval '1 day')",
        [post_id, other],
    )
    page = ada.get(f"{address}/delete").text
    stopped, stays = page.split("This stays on the network")
    assert "This will not be published" in stopped and "@ada@pixelfed.example" in stopped
    assert "@ada@mastodon.example" in stays and "https://m.example/7" in stays
    assert ada.send(f"{address}/delete").status_code == 302
    assert db.execute("SELECT count(*) FROM posts").fetchone() == (0,)


def test_a_move_into_an_hour_that_comes_twice_asks_which_in_place(ada: Browser, account: int) -> None:
    address = a_post(ada, account)
    typed = {"date": "2027-10-31", "time": "02:30", "zone": "Europe/Berlin"}
    asked = ada.send(f"{address}/move", **typed)
    assert asked.status_code == 422
    assert "comes twice" in asked.text and 'value="2027-10-31"' in asked.text and '<select id="which"' in asked.text
    assert ada.send(f"{address}/move", **typed, which="second").status_code == 302
    assert "Sun 31 Oct 2027, 02:30 (CET)" in ada.get(address).text


def test_a_thread_whose_last_part_needs_somebody_is_in_that_list(
    ada: Browser, account: int, db: psycopg.Connection
) -> None:
    a_post(ada, account, text="another")
    a_post(ada, account, part="1", **{"text.1": "second"})
    put(db, "published", published_at=datetime.now(UTC))
    assert "Nothing is waiting" in ada.get("/").text
    last = db.execute("SELECT max(id) FROM deliveries").fetchone()
    assert last
    db.execute("UPDATE deliveries SET published_at = NULL, status = 'missed', error = 'Too late.' WHERE id = %s", last)
    page = ada.get("/?view=attention").text
    assert page.count("<article") == 1 and "Thread of 2" in page
    assert "Too late." in page and "part 2" in page
    assert re.search(r'Needs attention <span class="count">1</span>', page)


def test_a_post_changed_in_another_tab_is_not_overwritten_and_nothing_typed_is_lost(
    ada: Browser, account: int, db: psycopg.Connection
) -> None:
    address = a_post(ada, account)
    fields = {"visibility": "public", "date": "2030-01-02", "time": "10:00", "zone": "UTC", "account": str(account)}
    assert ada.send(address, text="from the first tab", revision="1", **fields).status_code == 302
    late = ada.send(address, text="from the second tab", revision="1", **fields)
    assert late.status_code == 409
    assert f'href="{address}">See the post as it is now' in late.text
    assert "changed in another window" in late.text and "from the second tab" in late.text
    assert db.execute("SELECT content->>'text' FROM posts").fetchone() == ("from the first tab",)


def test_a_post_that_is_out_cannot_be_opened_for_editing(ada: Browser, account: int, db: psycopg.Connection) -> None:
    address = a_post(ada, account)
    put(db, "published", published_at=datetime.now(UTC))
    assert ada.get(f"{address}/edit").headers["Location"] == address
    assert "cannot be changed any more" in ada.get(address).text


@pytest.mark.parametrize("asked", ["move", "publish-now", "cancel", "delete"])
def test_what_comes_too_late_is_said_and_changes_nothing(
    ada: Browser, account: int, db: psycopg.Connection, asked: str
) -> None:
    address = a_post(ada, account)
    now = datetime.now(UTC)
    put(db, "sending", wake_at=now, claim="c", staged="{}", sent_at=now, first_sent_at=now, attempt_no=1)
    before = db.execute("SELECT * FROM posts").fetchone()
    answer = ada.send(f"{address}/{asked}", date="2030-01-02", time="10:00", zone="UTC")
    assert answer.status_code == 302
    assert re.search(r'role="alert">It is (being sent right now|too late)', ada.get(address).text)
    assert db.execute("SELECT * FROM posts").fetchone() == before and state(db)[0] == "sending"


def test_an_open_queue_is_left_alone_until_something_changes(
    ada: Browser, account: int, db: psycopg.Connection
) -> None:
    a_post(ada, account)
    found = re.search(r'hx-get="([^"]+)"', ada.get("/").text)
    assert found
    again = found[1].replace("&amp;", "&")
    assert ada.get(again, headers={"HX-Request": "true"}).status_code == 204
    put(db, "failed", error="No.")
    renewed = ada.get(again, headers={"HX-Request": "true"})
    assert renewed.status_code == 200 and "1 needs you" in renewed.text


def test_another_person_can_do_nothing_with_it(
    ada: Browser, bob: Browser, account: int, db: psycopg.Connection
) -> None:
    address = a_post(ada, account)
    delivery = db.execute("SELECT id FROM deliveries").fetchone()
    assert delivery
    for path in ("publish-now", "move", "cancel", "delete"):
        sent = bob.send(f"{address}/{path}", date="2030-01-02", time="10:00", zone="UTC")
        assert sent.status_code == 404, path
    assert bob.send(f"{address}/move", date="nonsense").status_code == 404
    for path in ("retry", "settle"):
        assert bob.send(f"/deliveries/{delivery[0]}/{path}").status_code == 404
    assert bob.get(f"{address}/delete").status_code == 404
    assert state(db) == ("scheduled", None)


def test_an_address_nobody_has_is_not_found(ada: Browser) -> None:
    for path in ("/posts/99999999999999999999", "/posts/0", "/media/99999999999999999999/thumbnail"):
        assert ada.get(path).status_code == 404, path


INCOMPLETE = {
    "error": "It went out without 1 of its 2 pictures.",
    "error_code": "incomplete",
    "next_step": "Look there.",
}
TWICE = {"notes": ["It seems to be on the account twice."], "error_code": "out_twice"}


@pytest.mark.parametrize(("flaw", "said"), [(INCOMPLETE, "without 1 of its 2 pictures"), (TWICE, "account twice")])
def test_what_went_out_flawed_needs_attention_until_its_person_has_seen_it(
    ada: Browser, bob: Browser, account: int, db: psycopg.Connection, flaw: dict[str, Any], said: str
) -> None:
    where = a_post(ada, account)
    put(db, "published", published_at=datetime.now(UTC), **flaw)
    assert said in ada.get("/?view=attention").text
    assert "I have seen it" in buttons(ada.get(where).text)
    [(delivery,)] = db.execute("SELECT id FROM deliveries").fetchall()
    assert bob.send(f"/deliveries/{delivery}/seen").status_code == 404
    assert ada.send(f"/deliveries/{delivery}/seen").status_code == 302
    assert said not in ada.get("/?view=attention").text
    page = ada.get(where).text
    assert said in page, "it stays among its notes"
    assert "You have seen it." in page and "I have seen it" not in buttons(page)
    assert state(db) == ("published", None)
    assert "This has been seen before." in ada.post(f"/deliveries/{delivery}/seen", data={}, follow_redirects=True).text


def test_a_flawed_part_of_a_thread_brings_its_thread_to_what_needs_attention(
    ada: Browser, account: int, db: psycopg.Connection
) -> None:
    a_post(ada, account, **{"part": "1", "text.1": "the second"})
    put(db, "published", published_at=datetime.now(UTC))
    db.execute("UPDATE deliveries SET error = %(error)s, error_code = %(error_code)s, next_step = %(next_step)s"
               " WHERE id = (SELECT max(id) FROM deliveries)", INCOMPLETE)  # fmt: skip
    page = ada.get("/?view=attention").text
    assert "without 1 of its 2 pictures" in page and ">part 2<" in page
    assert re.search(r'Needs attention <span class="count">1</span>', page)


def test_a_post_that_waits_for_one_alike_says_so(ada: Browser, account: int, db: psycopg.Connection) -> None:
    where = a_post(ada, account)
    at = datetime.now(UTC) + timedelta(days=3)
    put(db, "ready", staged="{}", not_before=at, wake_at=at, error_code="alike")
    assert "another post with the same words may be on this account already" in ada.get(where).text
    put(db, "scheduled", not_before=at, wake_at=at, error_code=None)
    assert "It is tried again" in ada.get(where).text


@pytest.mark.parametrize("status", list(DeliveryStatus))
def test_a_post_is_in_a_list_whatever_became_of_it(
    ada: Browser, account: int, db: psycopg.Connection, status: DeliveryStatus
) -> None:
    a_post(ada, account, text="made by Ada")
    at = datetime.now(UTC)
    more = {"sent_at": at, "first_sent_at": at, "attempt_no": 1, "staged": "{}"} if status in IN_FLIGHT else {}
    row = (
        more | {"wake_at": None if status in RESTING else at} | ({"published_at": at} if status == "published" else {})
    )
    if status in ("preparing", "sending"):
        row["claim"] = "c"
    if status in ("attention", "failed", "missed"):
        row["error"] = "Because."
    put(db, status, **row | ({"staged": "{}"} if status == "ready" else {}))
    lists = [ada.get(f"/?view={view}").text for view, _ in VIEWS]
    assert sum("made by Ada" in page for page in lists) == 1


def test_what_is_cancelled_stays_in_reach_and_says_when_it_goes_out_after_all(
    ada: Browser, bob: Browser, account: int, db: psycopg.Connection
) -> None:
    address = a_post(ada, account, at=datetime(2031, 6, 5, 7, 30, tzinfo=UTC), text="not now")
    ada.send(f"{address}/cancel")
    page = ada.get("/?view=cancelled").text
    assert "not now" in page and re.search(r'Cancelled <span class="count">1</span>', page)
    assert "not now" not in bob.get("/?view=cancelled").text
    retry = re.search(r'action="(/deliveries/\d+/retry)"', ada.get(address).text)
    assert retry
    ada.send(retry[1])
    assert "Scheduled again: it goes out Thu 5 Jun 2031, 07:30 (UTC)." in ada.get(address).text
    assert "not now" in ada.get("/").text and "not now" not in ada.get("/?view=cancelled").text

"""Writing a post through the form: what is stored, what is refused, and that nothing typed is lost."""

import io
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from PIL import Image
from werkzeug.datastructures import MultiDict

from postflow.models import Limits, PollLimits, Visibility
from tests.web.conftest import Browser, an_account

Fields = MultiDict[str, Any]


def a_picture(width: int = 320, height: int = 240, colour: str = "teal") -> io.BytesIO:
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, "PNG")
    out.seek(0)
    return out


def uploaded(browser: Browser, *, width: int = 320, height: int = 240) -> int:
    browser.get("/posts/new")
    file = (a_picture(width, height), "sea.png")
    answer = browser.post("/media", data={"file": file}, content_type="multipart/form-data")
    assert answer.status_code == 201, answer.text
    return answer.json["id"]


def written(browser: Browser, fields: Sequence[tuple[str, Any]], path: str = "/posts") -> Any:
    """The composer's form as a browser sends it; several fields may share a name."""
    browser.get("/posts/new")
    usual = {"visibility": "public", "zone": "UTC", "date": "2030-05-06", "time": "09:30", "csrf_token": browser.csrf}
    given = {name for name, _ in fields}
    sent = [*fields, *((name, value) for name, value in usual.items() if name not in given)]
    return browser.post(path, data=MultiDict(sent), content_type="multipart/form-data")


@pytest.fixture
def mastodon(ada: Browser, db: psycopg.Connection) -> int:
    return an_account(db, "ada@example.org", "mastodon", Limits(polls=PollLimits()))


def test_a_refused_form_keeps_what_was_typed(ada: Browser, db: psycopg.Connection) -> None:
    answer = ada.send(
        "/posts", text="kept words", spoiler_text="kept warning", visibility="public", zone="UTC", action="now"
    )
    assert answer.status_code == 422
    assert "kept words" in answer.text
    assert "kept warning" in answer.text
    assert "Choose at least one account" in answer.text
    assert db.execute("SELECT count(*) FROM posts").fetchone() == (0,)


def test_a_refused_thread_keeps_its_parts_pictures_descriptions_and_focal_points(ada: Browser, mastodon: int) -> None:
    first, second = uploaded(ada), uploaded(ada)
    answer = written(
        ada,
        [
            ("text", "part one"), ("media_id", first), (f"alt.{first}", "a teal field"),
            (f"focus_left.{first}", "25"), (f"focus_top.{first}", "120"),
            ("part", "7"), ("text.7", "part two"), ("media_id.7", second), (f"alt.{second}", "another one"),
            ("files.7", (a_picture(), "new.png")),
            ("poll_options", "yes\nno"), ("poll_hide_totals", "on"), ("grace", "900"), ("account", mastodon),
        ],
    )  # fmt: skip
    assert answer.status_code == 422
    assert "The focal point is given in percent" in answer.text
    for kept in ("part one", "a teal field", 'value="25"', 'value="120"', "part two", "another one", "new.png"):
        assert kept in answer.text
    assert re.search(r'name="poll_hide_totals" checked', answer.text)
    assert '<option value="900" selected>' in answer.text
    assert re.search(rf'value="{mastodon}" checked', answer.text)
    assert len(re.findall(r'name="media_id\.7"', answer.text)) == 2


def test_what_was_typed_is_what_is_stored(ada: Browser, mastodon: int, db: psycopg.Connection) -> None:
    one, two, three = uploaded(ada), uploaded(ada), uploaded(ada)
    answer = written(
        ada,
        [
            ("text", "first\r\nline"), ("media_id", two), ("media_id", one),
            (f"alt.{one}", "one"), (f"alt.{two}", "two"), (f"focus_left.{two}", "75"), (f"focus_top.{two}", "10"),
            ("part", "2"), ("text.2", "second"), ("media_id.2", three), (f"alt.{three}", "three"),
            ("part", "1"), ("text.1", ""),
            ("spoiler_text", "sea"), ("sensitive", "on"), ("visibility", "unlisted"), ("language", "de"),
            ("grace", "3600"), ("zone", "Europe/Berlin"), ("account", mastodon),
        ],
    )  # fmt: skip
    assert answer.status_code == 302, answer.text
    rows = db.execute("SELECT content, grace_s, post_date FROM posts ORDER BY id").fetchall()
    (first, grace_s, post_date), (second, _, _) = rows
    assert [picture["alt_text"] for picture in first["attachments"]] == ["two", "one"]
    assert first["attachments"][0]["focus"] == {"x": 0.5, "y": 0.8} and first["attachments"][1]["focus"] is None
    assert first["text"] == "first\nline" and second["text"] == "second"
    assert [picture["alt_text"] for picture in second["attachments"]] == ["three"]
    for content in (first, second):
        held = {name: content[name] for name in ("spoiler_text", "sensitive", "visibility", "language")}
        assert held == {"spoiler_text": "sea", "sensitive": True, "visibility": "unlisted", "language": "de"}
    assert grace_s == 3600
    assert post_date == datetime(2030, 5, 6, 7, 30, tzinfo=UTC)
    edited = ada.get(answer.headers["Location"] + "/edit").text
    for shown in ('value="75"', 'value="10"', ">two</textarea>", ">three</textarea>", ">second</textarea>", "09:30"):
        assert shown in edited


def test_a_poll_s_hidden_counts_are_kept(ada: Browser, mastodon: int, db: psycopg.Connection) -> None:
    fields = [("text", "?"), ("poll_options", "yes\nno"), ("poll_hide_totals", "on"), ("account", mastodon)]
    assert written(ada, [*fields, ("poll_expires", "3600")]).status_code == 302
    poll = db.execute("SELECT content->'poll' FROM posts").fetchone()
    assert poll == ({"options": ["yes", "no"], "expires_in_s": 3600, "multiple": False, "hide_totals": True},)


def test_a_check_says_what_each_network_would_refuse_and_stores_nothing(
    ada: Browser, mastodon: int, db: psycopg.Connection
) -> None:
    narrow = an_account(db, "ada@example.org", "pixelfed", Limits(max_chars=5, min_media=1, threads=False))
    picture = uploaded(ada)
    fields = [("text", "rather long"), ("media_id", picture), ("account", mastodon), ("account", narrow)]
    answer = written(ada, [*fields, ("action", "check")])
    assert answer.status_code == 200
    assert "This cannot go out yet" in answer.text and "6 characters too long" in answer.text
    assert "has no description" in answer.text and "rather long" in answer.text
    assert answer.text.count("Would be refused") == 1 and answer.text.count(">Fits<") == 1
    assert db.execute("SELECT count(*) FROM posts").fetchone() == (0,)


def test_who_may_see_it_is_said_in_the_words_of_the_form(ada: Browser, db: psycopg.Connection) -> None:
    public_only = an_account(db, "ada@example.org", "mastodon", Limits(visibilities=(Visibility.public,)))
    answer = written(ada, [("text", "x"), ("account", public_only), ("visibility", "private")])
    assert "“Followers” is not offered there, only: everyone." in answer.text
    assert '<option value="private" selected>Followers</option>' in answer.text


def test_a_day_that_is_full_is_said_beforehand(ada: Browser, db: psycopg.Connection) -> None:
    busy = an_account(db, "ada@example.org", "mastodon", Limits(posts_per_day=2))
    fields = [("text", "one more"), ("account", busy)]
    assert "may have to wait" not in written(ada, [*fields, ("action", "check")]).text
    for time in ("08:00", "09:00"):
        assert written(ada, [*fields, ("time", time)]).status_code == 302
    assert "2 posts are planned there" in written(ada, [*fields, ("action", "check")]).text
    assert "may have to wait" not in written(ada, [*fields, ("date", "2030-05-08"), ("action", "check")]).text
    assert written(ada, fields).status_code == 302  # a nudge stops nobody


def test_what_another_release_has_stored_about_a_server_stops_nobody(
    ada: Browser, mastodon: int, db: psycopg.Connection
) -> None:
    more = '{"a_field_of_tomorrow": 1}'
    db.execute("UPDATE servers SET limits = limits || %s, capabilities = capabilities || %s", [more, more])
    assert ada.get("/posts/new").status_code == 200
    assert written(ada, [("text", "fine"), ("account", mastodon)]).status_code == 302


def test_a_script_s_check_gets_only_the_verdicts(ada: Browser, mastodon: int) -> None:
    ada.get("/posts/new")
    fields = {"text": "fine", "visibility": "public", "zone": "UTC", "date": "2030-05-06", "time": "09:30"}
    sent = {**fields, "account": str(mastodon), "action": "check", "csrf_token": ada.csrf}
    answer = ada.post("/posts", data=sent, headers={"HX-Request": "true"})
    assert "This can go out" in answer.text and "<form" not in answer.text
    sent |= {"date": "2027-03-28", "time": "02:30", "zone": "Europe/Berlin"}
    answer = ada.post("/posts", data=sent, headers={"HX-Request": "true"})
    assert answer.status_code == 200  # else the script would show nothing
    assert "does not exist on that day" in answer.text and "<form" not in answer.text


def test_what_a_network_would_refuse_is_shown_with_the_refused_form(ada: Browser, mastodon: int) -> None:
    answer = written(ada, [("text", "x" * 501), ("account", mastodon), ("action", "schedule")])
    assert answer.status_code == 422
    assert answer.text.count("1 character too long") == 2  # beside the text, and under the account
    assert "501 of 500 characters" in answer.text


@pytest.mark.parametrize(
    ("button", "order"),
    [(("later", 0), [1, 0]), (("earlier", 1), [1, 0]), (("remove", 0), [1]), (("earlier", 0), [0, 1])],
)
def test_pictures_are_moved_and_removed_without_a_script(
    ada: Browser, mastodon: int, button: tuple[str, int], order: list[int]
) -> None:
    pictures = [uploaded(ada), uploaded(ada)]
    name, place = button
    fields: list[tuple[str, Any]] = [("media_id", one) for one in pictures] + [(f"alt.{pictures[1]}", "the second")]
    answer = written(ada, [*fields, (name, pictures[place])])
    assert answer.status_code == 200
    shown = [int(one) for one in re.findall(r'name="media_id" value="(\d+)"', answer.text)]
    assert shown == [pictures[one] for one in order]
    assert ">the second</textarea>" in answer.text


def test_parts_are_added_and_removed_without_a_script(ada: Browser, mastodon: int) -> None:
    answer = written(ada, [("text", "one"), ("part", "1"), ("text.1", "two"), ("action", "part")])
    assert re.findall(r'name="part" value="(\w+)"', answer.text.split("<template")[0]) == ["1", "2"]
    answer = written(ada, [("text", "one"), ("part", "1"), ("text.1", "two"), ("drop", "1")])
    assert "two</textarea>" not in answer.text and ">one</textarea>" in answer.text


def test_a_preview_is_the_picture_as_the_network_gets_it_and_only_for_its_owner(
    ada: Browser, bob: Browser, db: psycopg.Connection
) -> None:
    instagram = an_account(db, "ada@example.org", "instagram", Limits(mime_types=("image/jpeg",)))
    picture = uploaded(ada, width=400, height=1200)
    fields = [("text", "x"), ("media_id", picture), ("account", instagram), ("action", "check")]
    previews = [
        re.search(r'src="(/media/\d+/preview/[^"]+)"', written(ada, [*fields, ("instagram.fit", fit)]).text)
        for fit in ("crop", "pad")
    ]
    assert all(previews)
    addresses = [found[1].replace("&amp;", "&") for found in previews if found]
    sizes = [Image.open(io.BytesIO(ada.get(address).data)).size for address in addresses]
    assert sizes == [(400, 500), (960, 1200)]
    assert bob.get(addresses[0]).status_code == 404


def test_uploads_sent_with_the_form_name_those_that_cannot_be_used_and_keep_the_others(ada: Browser) -> None:
    files = [("files", (a_picture(), "good.png")), ("files", (io.BytesIO(b"<svg/>"), "drawing.svg"))]
    answer = written(ada, [("text", "kept"), *files])
    assert answer.status_code == 422
    assert "“drawing.svg” cannot be used" in answer.text and "good.png" in answer.text


def test_a_time_that_has_just_passed_is_offered_as_publish_now(ada: Browser, mastodon: int) -> None:
    then = datetime.now(UTC) - timedelta(minutes=14, seconds=30)
    fields = [("text", "late"), ("account", mastodon), ("date", f"{then:%Y-%m-%d}"), ("time", f"{then:%H:%M}")]
    answer = written(ada, fields)
    assert answer.status_code == 422
    assert re.search(
        r"This time has passed 1[45] minutes ago\. Choose a later one, or press “Publish now”", answer.text
    )


def test_a_far_date_is_questioned_and_a_very_far_one_refused(ada: Browser, mastodon: int) -> None:
    years = datetime.now(UTC).year
    fields = [("text", "far"), ("account", mastodon), ("action", "check")]
    assert "Is the year right?" in written(ada, [*fields, ("date", f"{years + 3}-05-06")]).text
    assert "more than five years away" in written(ada, [*fields, ("date", f"{years + 7}-05-06")]).text


def test_an_hour_the_clocks_skip_is_explained(ada: Browser) -> None:
    answer = written(ada, [("text", "skipped"), ("date", "2027-03-28"), ("time", "02:30"), ("zone", "Europe/Berlin")])
    assert answer.status_code == 422
    assert "the clocks go forward. Choose another time, such as 03:30" in answer.text


def test_an_hour_that_comes_twice_is_asked_about_and_kept(ada: Browser, mastodon: int, db: psycopg.Connection) -> None:
    fields = [("date", "2027-10-31"), ("time", "02:30"), ("zone", "Europe/Berlin")]
    fields += [("account", str(mastodon))]
    asked = written(ada, [*fields, ("text", "twice")])
    assert asked.status_code == 422
    assert "the first (CEST, UTC+02:00) or the second (CET, UTC+01:00)" in asked.text
    assert asked.text.count('name="which"') == 2
    for which, hour in (("first", 0), ("second", 1)):
        made = written(ada, [*fields, ("text", f"the {which}"), ("which", which)])
        assert made.status_code == 302
        stored = db.execute("SELECT post_date FROM posts ORDER BY id DESC LIMIT 1").fetchone()
        assert stored == (datetime(2027, 10, 31, hour, 30, tzinfo=UTC),)
        assert f'value="{which}" checked' in ada.get(made.headers["Location"] + "/edit").text


@pytest.mark.parametrize("odd", ["0", "9" * 30, "-1", "x", "١"])
def test_ids_no_form_of_ours_would_send_are_answered_and_not_stored(
    ada: Browser, mastodon: int, odd: str, db: psycopg.Connection
) -> None:
    answer = written(ada, [("text", "a\0b"), ("account", odd), ("media_id", odd), ("part", odd), ("grace", odd)])
    assert answer.status_code == 422
    assert db.execute("SELECT count(*) FROM posts").fetchone() == (0,)


def test_a_draft_may_be_unfinished_and_comes_back_in_the_composer(ada: Browser, db: psycopg.Connection) -> None:
    answer = ada.send("/posts", text="half a thought", visibility="public", zone="UTC", action="draft")
    assert answer.status_code == 302
    row = db.execute("SELECT id FROM posts WHERE draft_account_ids IS NOT NULL").fetchone()
    assert row
    assert "half a thought" in ada.get(f"/posts/{row[0]}/edit").text


def test_going_back_to_a_form_that_was_saved_changes_the_draft_it_made_and_loses_nothing(
    ada: Browser, mastodon: int, db: psycopg.Connection
) -> None:
    fields = [("form_key", "one form"), ("account", mastodon)]
    first = written(ada, [*fields, ("text", "a start"), ("action", "draft")])
    again = written(ada, [*fields, ("text", "a start and more"), ("action", "draft")])
    assert again.headers["Location"] == first.headers["Location"]
    assert db.execute("SELECT array_agg(content->>'text') FROM posts").fetchone() == (["a start and more"],)
    sent = written(ada, [*fields, ("text", "all of it"), ("part", "1"), ("text.1", "and a second part")])
    assert sent.headers["Location"] == first.headers["Location"]
    assert db.execute("SELECT count(*) FROM deliveries").fetchone() == (2,)
    twice = written(ada, [*fields, ("text", "all of it"), ("part", "1"), ("text.1", "and a second part")])
    assert twice.status_code == 302 and db.execute("SELECT count(*) FROM posts").fetchone() == (2,)
    for action in ("schedule", "draft"):
        other = written(ada, [*fields, ("text", "something else"), ("action", action)])
        assert other.status_code == 409 and "something else" in other.text and "sent before" in other.text


def test_another_persons_post_is_not_there(ada: Browser, bob: Browser, db: psycopg.Connection) -> None:
    ada.send("/posts", text="private thought", visibility="public", zone="UTC", action="draft")
    row = db.execute("SELECT id FROM posts").fetchone()
    assert row
    assert bob.get(f"/posts/{row[0]}").status_code == 404
    assert bob.get(f"/posts/{row[0]}/edit").status_code == 404
    assert bob.send(f"/posts/{row[0]}/delete").status_code == 404


def test_every_list_of_the_queue_says_what_to_do_when_it_is_empty(ada: Browser) -> None:
    for view in ("upcoming", "published", "attention", "drafts", "cancelled"):
        assert "Connect an account first" in ada.get(f"/?view={view}").text


def test_more_than_anybody_writes_is_refused_before_it_is_counted(ada: Browser, mastodon: int) -> None:
    """Each network would count it, part by part: a form of megabytes would hold the page for minutes."""
    parts = [("part", "1"), ("text.1", "a" * 60_000), ("account", mastodon)]
    answer = written(ada, [("text", "https://" + "a." * 30_000), *parts])
    assert answer.status_code == 422
    assert "This is 120,008 characters long. No network takes more than 100,000: shorten it." in answer.text
    assert "too long" not in answer.text
    assert "https://a.a." in answer.text
    checked = written(ada, [("text", "a" * 100_001), ("account", mastodon), ("action", "check")])
    assert "No network takes more than 100,000" in checked.text
    assert "too long" in written(ada, [("text", "a" * 100_000), ("account", mastodon)]).text

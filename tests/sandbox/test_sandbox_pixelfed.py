"""The sandbox as Pixelfed and as GoToSocial: the quirks a client has to live with."""

import pytest

VIDEO = b"\0\0\0\x18ftypmp42" + b"\0" * 40 + b"moov"


@pytest.fixture
def pixelfed(connect):
    return connect("pixelfed")


@pytest.fixture
def gotosocial(connect):
    return connect("gotosocial")


def test_pixelfed_publishes_an_album_and_never_gives_an_address_on_upload(sandbox, pixelfed, picture):
    uploads = [pixelfed.upload(picture(shade=n), description=f"alt {n}") for n in (1, 2)]
    assert [(one.status_code, one.json()["url"]) for one in uploads] == [(202, None)] * 2
    answer = pixelfed.post("k", status="Light", media_ids=[one.json()["id"] for one in uploads], visibility="public")
    assert answer.json()["pf_type"] == "photo:album"
    (status,) = sandbox.ledger.statuses(account=pixelfed.account)
    assert [one.alt_text for one in status.media] == ["alt 1", "alt 2"]
    assert [one["id"] for one in pixelfed.listing()] == [status.id]


def test_its_key_is_a_tripwire_burned_before_the_work(sandbox, pixelfed, picture):
    assert pixelfed.post("k", status="nothing to see").status_code == 403
    key = pixelfed.uploaded(picture())
    again = pixelfed.post("k", status="now with a picture", media_ids=[key])
    assert (again.status_code, again.json()) == (400, {"error": "Duplicate idempotency key."})
    assert pixelfed.post("k2", status="now with a picture", media_ids=[key]).status_code == 200
    too_long = pixelfed.post("k3", status="x" * 501, media_ids=[key])
    assert (too_long.status_code, "status" in too_long.json()["errors"]) == (500, True)
    assert sandbox.ledger.counts()["published"] == 1
    sandbox.advance(3601)
    assert pixelfed.post("k", status="x", media_ids=[pixelfed.uploaded(picture())]).status_code == 200


def test_without_json_in_accept_it_sends_a_login_page(pixelfed, http):
    answer = pixelfed.get("/api/v1/accounts/verify_credentials", headers={"Accept": "text/html"})
    assert answer.status_code == 302
    assert http.get(answer.headers["location"]).text.startswith("<!DOCTYPE html>")


def test_dead_tokens_are_500_and_missing_scopes_an_empty_403(sandbox, connect, pixelfed):
    reader = connect("pixelfed", "robin", scopes="read")
    refused = reader.upload(b"")
    assert (refused.status_code, refused.json()) == (403, {"error": ""})
    sandbox.expire_tokens(pixelfed.account)
    dead = pixelfed.post(status="x")
    assert (dead.status_code, dead.json()) == (500, {"error": "Unauthenticated."})


def test_somebody_who_never_opened_the_web_page_publishes_nothing(sandbox, connect, picture):
    client = connect("pixelfed", never_logged_in=True)
    assert client.upload(picture()).json() == []
    answer = client.post(status="x", media_ids=["1"])
    assert (answer.status_code, answer.json()) == (200, [])
    assert sandbox.ledger.statuses() == []


def test_uploads_live_two_hours(sandbox, pixelfed, picture):
    key = pixelfed.uploaded(picture())
    assert pixelfed.get(f"/api/v1/media/{key}").status_code == 200
    sandbox.advance(2 * 3600 + 1)
    assert pixelfed.get(f"/api/v1/media/{key}").status_code == 500
    refused = pixelfed.post("k", status="late", media_ids=[key])
    assert (refused.status_code, refused.json()) == (400, {"error": "Invalid media_ids"})


def test_a_mixed_album_is_live_but_never_listed(sandbox, pixelfed, picture):
    keys = [pixelfed.uploaded(picture()), pixelfed.uploaded(VIDEO)]
    answer = pixelfed.post("k", status="mixed", media_ids=keys).json()
    assert pixelfed.listing() == []
    assert pixelfed.get(f"/api/v1/statuses/{answer['id']}").status_code == 200
    assert sandbox.ledger.times_published("mixed") == 1


def test_a_failure_half_way_leaves_a_draft_that_holds_the_picture(sandbox, pixelfed, picture):
    sandbox.faults.add("stuck_draft")
    key = pixelfed.uploaded(picture())
    assert pixelfed.post("k", status="stuck", media_ids=[key]).status_code == 500
    assert pixelfed.get(f"/api/v1/media/{key}").status_code == 500
    assert pixelfed.listing() == []
    assert sandbox.ledger.times_published("stuck") == 0
    assert sandbox.ledger.statuses(text="stuck")[0].hidden == "draft"


def test_warnings_need_sensitive_and_direct_is_not_available(sandbox, pixelfed, picture):
    keys = [pixelfed.uploaded(picture()) for _ in range(2)]
    pixelfed.post(status="a<b>c", spoiler_text="dropped", media_ids=keys[:1]).raise_for_status()
    pixelfed.post(status="d", spoiler_text="kept", sensitive=True, media_ids=keys[1:]).raise_for_status()
    assert [one.spoiler_text for one in sandbox.ledger.statuses()] == ["", "kept"]
    assert sandbox.ledger.statuses()[0].text == "ac"
    assert pixelfed.post(status="e", visibility="direct", media_ids=["1"]).status_code == 400


def test_min_id_on_pixelfed_shows_the_newest_above_it(pixelfed, picture):
    keys = [pixelfed.post(status=f"{n}", media_ids=[pixelfed.uploaded(picture())]).json()["id"] for n in range(4)]
    assert [one["id"] for one in pixelfed.listing(min_id=keys[0], limit=2)] == [keys[3], keys[2]]


def test_gotosocial_ignores_the_key_and_guards_its_media(sandbox, gotosocial, picture):
    assert [gotosocial.post("k", status="twice").status_code for _ in range(2)] == [200, 200]
    assert sandbox.ledger.times_published("twice") == 2
    assert sandbox.ledger.repeated() == {("gotosocial", "wren", "twice"): 2}
    key = gotosocial.uploaded(picture())
    assert gotosocial.post(status="a", media_ids=[key]).status_code == 200
    again = gotosocial.post(status="b", media_ids=[key])
    assert again.status_code == 400
    assert again.json() == {"error": f"Bad Request: media already attached to status: {key}"}
    assert gotosocial.get(f"/api/v1/media/{key}").status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"User-Agent": ""}, 418), ({"Accept": "text/html"}, 406), ({"Authorization": "Bearer x"}, 401)],
)
def test_gotosocial_is_strict_about_headers(gotosocial, headers, status):
    assert gotosocial.get("/api/v1/accounts/verify_credentials", headers=headers).status_code == status


def test_gotosocial_says_400_where_mastodon_says_422(gotosocial, picture):
    assert gotosocial.post(status="").status_code == 400
    assert gotosocial.post(status="x" * 5001).status_code == 400
    assert gotosocial.post(status="x", visibility="bogus").status_code == 422
    assert gotosocial.post(status="x", media_ids=["nope"]).json() == {"error": "Bad Request: media not found: nope"}
    assert gotosocial.call("POST", "/api/v1/statuses").status_code == 406
    assert gotosocial.upload(picture()[:300]).status_code == 422


def test_gotosocial_pages_through_ulids(gotosocial):
    keys = [gotosocial.post(status=f"{n}").json()["id"] for n in range(5)]
    assert [len(key) for key in keys] == [26] * 5
    assert [one["id"] for one in gotosocial.listing(min_id=keys[1], limit=2)] == [keys[3], keys[2]]

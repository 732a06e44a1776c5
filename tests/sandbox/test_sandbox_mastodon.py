"""The sandbox as Mastodon: what a client meets when it publishes, repeats itself, looks and deletes."""

import concurrent.futures

import httpx
import pytest
from PIL import Image

from sandbox import Sandbox


def test_it_publishes_what_was_sent_in_the_order_it_was_sent(sandbox, connect, picture):
    client = connect()
    keys = [client.uploaded(picture(shade=60 * n), description=f"picture {n}", focus="0.5,-0.25") for n in (1, 2, 3)]
    keys = [keys[2], keys[0], keys[1]]
    answer = client.post(
        "key-1",
        status="Good morning #birds https://example.org",
        media_ids=keys,
        visibility="unlisted",
        language="de",
        spoiler_text="feathers",
        sensitive=True,
    )
    assert answer.status_code == 200
    assert [one["id"] for one in answer.json()["media_attachments"]] == keys
    (status,) = sandbox.ledger.statuses(account=client.account)
    assert (status.text, status.spoiler_text) == ("Good morning #birds https://example.org", "feathers")
    assert (status.visibility, status.language, status.sensitive) == ("unlisted", "de", True)
    assert [one.alt_text for one in status.media] == ["picture 3", "picture 1", "picture 2"]
    assert [(one.width, one.height, one.focus) for one in status.media] == [(64, 48, (0.5, -0.25))] * 3
    assert sandbox.ledger.picture(status.media[1].sha256) == picture(shade=60)
    assert status.idempotency_key == "key-1"
    assert answer.json()["url"] == status.url


def test_a_poll_and_a_reply_arrive_whole(sandbox, connect):
    client = connect()
    poll = {"options": ["yes", "no"], "expires_in": 3600, "multiple": True}
    first = client.post(status="Rain?", poll=poll).json()
    assert [option["title"] for option in first["poll"]["options"]] == ["yes", "no"]
    form = {"status": "and snow?", "in_reply_to_id": first["id"]}
    form |= {"poll[options][]": ["a", "b", "c"], "poll[expires_in]": "600"}
    second = client.call("POST", "/api/v1/statuses", data=form)
    assert second.json()["in_reply_to_account_id"] == client.account.account_id
    assert [one.poll["options"] for one in sandbox.ledger.statuses()] == [["yes", "no"], ["a", "b", "c"]]


@pytest.mark.parametrize(
    ("version", "second", "published"),
    [("4.5.2", 200, 1), ("4.6.4", 500, 1), ("4.7.4", 200, 1), ("4.1.2", 200, 1)],
)
def test_a_repeated_key_answers_as_that_version_does(sandbox, connect, version, second, published):
    client = connect(sandbox.add_instance("mastodon", version))
    first = client.post("same", status="once").json()
    again = client.post("same", status="other text")
    assert again.status_code == second
    assert second == 500 or again.json()["id"] == first["id"]
    assert sandbox.ledger.times_published("o") == published


def test_a_key_is_forgotten_after_an_hour_and_points_nowhere_after_a_delete(sandbox, connect):
    client = connect()
    first = client.post("k", status="once").json()
    client.call("DELETE", f"/api/v1/statuses/{first['id']}")
    assert client.post("k", status="once").status_code == 404
    sandbox.advance(3601)
    assert client.post("k", status="once").status_code == 200


def test_a_refused_post_does_not_burn_the_key(connect):
    client = connect()
    assert client.post("k", status="x" * 501).json() == {
        "error": "Validation failed: Text character limit of 500 exceeded"
    }
    assert client.post("k", status="short").status_code == 200


@pytest.mark.parametrize(("version", "times"), [("4.5.2", 2), ("4.7.4", 1)])
def test_two_posts_at_once_with_one_key_slip_through_before_4_6_only(sandbox, connect, version, times):
    client = connect(sandbox.add_instance("mastodon", version))
    sandbox.faults.add("slow", seconds=0.3, when="inside", path="/statuses$", times=2)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: client.post("same", status="racing"), range(2)))
    assert {answer.status_code for answer in answers} == {200}
    assert sandbox.ledger.times_published("racing") == times


def test_the_second_of_two_gives_up_with_503_when_the_first_takes_too_long(sandbox, connect):
    client = connect(sandbox.add_instance("mastodon", "4.7.4", lock_wait_s=0.05))
    sandbox.faults.add("slow", seconds=0.5, when="inside", path="/statuses$")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: client.post("same", status="racing").status_code, range(2)))
    assert sorted(answers) == [200, 503]
    assert sandbox.ledger.times_published("racing") == 1


def test_media_guard_from_4_3_on_refuses_and_before_drops_silently(sandbox, connect, picture):
    new, old = connect("mastodon"), connect("mastodon-4.1")
    for client, status in ((new, 422), (old, 200)):
        key = client.uploaded(picture())
        client.post(status="first", media_ids=[key]).raise_for_status()
        again = client.post(status="second", media_ids=[key])
        assert again.status_code == status
        assert client.get(f"/api/v1/media/{key}").status_code == 404
    assert again.json()["media_attachments"] == []


def test_a_video_is_processed_after_the_answer_and_cannot_be_posted_before(sandbox, connect):
    client = connect()
    answer = client.upload(b"\0\0\0\x18ftypmp42" + b"\0" * 40 + b"moov")
    assert (answer.status_code, answer.json()["url"]) == (202, None)
    key = answer.json()["id"]
    assert client.get(f"/api/v1/media/{key}").status_code == 206
    refused = client.post(status="film", media_ids=[key])
    assert (refused.status_code, "finished processing" in refused.text) == (422, True)
    sandbox.advance(2)
    assert client.get(f"/api/v1/media/{key}").status_code == 200
    assert client.post(status="film", media_ids=[key]).status_code == 200


def test_pictures_a_server_refuses(sandbox, connect, picture):
    client = connect(sandbox.add_instance("mastodon", "4.7.4", image_bytes=2000, image_pixels=10_000))
    assert client.upload(b"no picture at all").status_code == 422
    assert client.upload(b"").status_code == 422
    assert "must be less than" in client.upload(picture(80, 80) + b"\0" * 2000).json()["error"]
    assert client.upload(picture(200, 100)).json() == {"error": "200x100 images are not supported"}
    assert client.upload(picture(), description="x" * 10_001).status_code == 422


def test_the_ledger_sees_metadata_that_should_have_been_removed(sandbox, connect, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8825)[1] = "N"
    Image.new("RGB", (20, 20)).save(tmp_path / "gps.jpg", exif=exif)
    client = connect()
    client.post(status="here", media_ids=[client.uploaded((tmp_path / "gps.jpg").read_bytes())])
    (status,) = sandbox.ledger.statuses()
    assert (status.media[0].has_exif, status.media[0].has_gps) == (True, True)


def test_length_counts_graphemes_links_as_23_and_mentions_without_their_domain(connect):
    client = connect()
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    text = family * 400 + " https://example.org/" + "x" * 300 + " @someone@a-very-long-domain.example.org"
    assert client.post(status=text).status_code == 200
    assert client.post(status=text + " y" * 50).status_code == 422


def test_reading_back_needs_the_scope_and_pages_from_an_anchor(sandbox, connect, http):
    client = connect()
    anchor = client.post(status="anchor").json()["id"]
    later = [client.post(status=f"post {n}", visibility="private").json()["id"] for n in range(5)]
    assert [one["id"] for one in client.listing(min_id=anchor, limit=2)] == later[:2][::-1]
    assert [one["id"] for one in client.listing(since_id=anchor, limit=2)] == later[3:][::-1]
    assert [one["id"] for one in client.listing(max_id=later[1])] == [later[0], anchor]
    assert client.listing()[0]["application"]["name"] == "PostFlow"
    writer = connect("mastodon", "wren", scopes="profile write:statuses write:media")
    path = f"/api/v1/accounts/{client.account.account_id}/statuses"
    assert writer.get(path).status_code == 403
    assert [one["id"] for one in http.get(client.account.url + path).json()] == [anchor]
    source = client.get(f"/api/v1/statuses/{later[0]}/source").json()
    assert source == {"id": later[0], "text": "post 0", "spoiler_text": ""}


def test_deleting_gives_the_source_back_and_frees_the_media(connect, picture):
    client = connect()
    key = client.uploaded(picture())
    status = client.post(status="oops", media_ids=[key]).json()
    assert client.call("DELETE", f"/api/v1/statuses/{status['id']}").json()["text"] == "oops"
    assert client.call("DELETE", f"/api/v1/statuses/{status['id']}").status_code == 404
    assert client.post(status="better", media_ids=[key]).status_code == 200


def test_dead_tokens_and_missing_scopes_are_told_apart(sandbox, connect, http):
    client = connect(scopes="read")
    verify = "/api/v1/accounts/verify_credentials"
    assert client.get(verify).json()["id"] == client.account.account_id
    assert client.post(status="x").status_code == 403
    assert http.get(client.account.url + verify).headers["www-authenticate"].startswith("Bearer realm=")
    sandbox.expire_tokens(client.account)
    assert client.get(verify).json() == {"error": "The access token expired"}
    sandbox.revoke_tokens(client.account)
    assert client.get(verify).json() == {"error": "The access token was revoked"}


def test_limits_differ_by_version_and_can_be_set(sandbox, http):
    strange = sandbox.add_instance("mastodon", "4.6.9", max_characters=1234, max_media=9)
    v2 = http.get(strange.url + "/api/v2/instance").json()
    assert v2["configuration"]["statuses"]["max_characters"] == 1234
    assert v2["configuration"]["media_attachments"]["description_limit"] == 10_000
    old = http.get(sandbox.url("mastodon-4.1") + "/api/v2/instance").json()
    assert "description_limit" not in old["configuration"]["media_attachments"]


@pytest.mark.parametrize(
    ("software", "v2", "field"),
    [("akkoma", 404, "max_toot_chars"), ("takahe", 200, "configuration"), ("somethingnew", 404, "configuration")],
)
def test_other_software_says_who_it_is(sandbox, http, software, v2, field):
    instance = sandbox.add_instance(software)
    links = http.get(instance.url + "/.well-known/nodeinfo").json()["links"]
    assert http.get(links[0]["href"]).json()["software"]["name"] == software
    assert http.get(instance.url + "/api/v2/instance").status_code == v2
    assert field in http.get(instance.url + "/api/v1/instance").json()


def test_akkoma_replays_whole_answers_even_errors(sandbox, connect):
    client = connect(sandbox.add_instance("akkoma"))
    first = client.post("k", status="")
    again = client.post("k", status="now with text")
    assert (first.status_code, again.status_code) == (422, 422)
    assert again.headers["idempotent-replayed"] == "true"
    assert client.post("new", status="now with text").status_code == 200


def test_rate_limits_are_shown_and_enforced_on_request(sandbox, connect):
    client = connect(sandbox.add_instance("mastodon", rate_limit_overrides={"statuses": 2}))
    shown = [client.post(status=f"{n}").headers["x-ratelimit-remaining"] for n in range(2)]
    assert shown == ["1", "0"]
    refused = client.post(status="too many")
    assert (refused.status_code, "retry-after" in refused.headers) == (429, False)
    assert refused.headers["x-ratelimit-reset"].endswith("Z")
    sandbox.advance(3 * 3600)
    assert client.post(status="later").status_code == 200


def test_errors_come_in_the_language_of_the_person(connect):
    client = connect(locale="de")
    assert client.post(status="").json()["error"].startswith("Gültigkeitsprüfung fehlgeschlagen")


def test_a_silenced_account_gets_unlisted_instead_of_public(connect):
    assert connect(silenced=True).post(status="hush").json()["visibility"] == "unlisted"


def test_a_scheduled_post_goes_into_somebody_elses_queue(sandbox, connect):
    client = connect()
    answer = client.post(status="later", scheduled_at="2099-01-01T00:00:00Z").json()
    assert set(answer) == {"id", "scheduled_at", "params", "media_attachments"}
    assert sandbox.ledger.times_published("later") == 0


def test_it_reads_a_broken_body_as_mastodon_does(connect):
    client = connect()
    headers = {"Content-Type": "application/json"}
    answer: httpx.Response = client.call("POST", "/api/v1/statuses", content=b'{"status":', headers=headers)
    assert (answer.status_code, answer.content) == (400, b"")


def test_it_starts_on_free_ports_and_stops_without_waiting_for_slow_answers(http):
    with Sandbox.start(instances=["mastodon"]) as one, Sandbox.start(instances=["mastodon"]) as two:
        assert one.url("mastodon") != two.url("mastodon")
        one.faults.add("slow", seconds=60)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(http.get, one.url("mastodon") + "/api/v2/instance")
            while not one.ledger.requests():
                pass
            one.stop()
            assert isinstance(waiting.exception(), httpx.RemoteProtocolError | httpx.ReadError)

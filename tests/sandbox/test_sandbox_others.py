"""Akkoma, Takahē, Hollo, snac and servers nobody has named: what they do differently from Mastodon."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from sandbox import Sandbox


@pytest.fixture
def on(sandbox: Sandbox, connect: Callable[..., Any]) -> Callable[[str], Any]:
    return lambda software: connect(sandbox.add_instance(software))


@pytest.mark.parametrize(
    ("software", "status", "body"),
    [
        ("akkoma", 403, '{"error":"Invalid credentials."}'),
        ("takahe", 400, "Invalid Bearer token"),
        ("snac", 401, ""),
        ("sharkey", 400, "Invalid Bearer token"),
    ],
)
def test_each_says_in_its_own_way_that_a_token_is_dead(sandbox, on, software: str, status: int, body: str) -> None:
    client = on(software)
    sandbox.revoke_tokens(client.account)
    answer = client.post(status="hello")
    assert (answer.status_code, answer.text) == (status, body)


def test_a_reply_to_something_that_is_gone_is_refused_or_becomes_no_reply(on) -> None:
    assert on("mastodon").post(status="x", in_reply_to_id="123").status_code == 404
    for software in ("akkoma", "takahe", "snac"):
        assert on(software).post(status="x", in_reply_to_id="123").json()["in_reply_to_id"] is None


def test_takahe_counts_the_text_alone_and_refuses_with_400_and_takes_a_picture_twice(on, picture) -> None:
    client = on("takahe")
    assert client.post(status="x" * 500, spoiler_text="y" * 100).status_code == 200
    assert client.post(status="x" * 501).status_code == 400
    assert client.post(status="x", media_ids=["404"]).status_code == 404
    upload = client.uploaded(picture())
    for text in ("one", "two"):
        assert len(client.post(status=text, media_ids=[upload]).json()["media_attachments"]) == 1


def test_hollo_wants_no_empty_text_remembers_keys_and_stumbles_over_a_picture_used_twice(on, picture) -> None:
    client = on("hollo")
    upload = client.uploaded(picture())
    assert client.post(status="", media_ids=[upload]).status_code == 422
    assert client.post(status="x" * 20_000).status_code == 200
    first = client.post("key", media_ids=[upload]).json()
    assert client.post("key", media_ids=[upload]).json()["id"] == first["id"]
    assert client.post("another", media_ids=[upload]).status_code == 500


def test_snac_takes_anything_lists_only_public_posts_and_drops_a_poll_that_comes_as_json(on) -> None:
    client = on("snac")
    upload = client.uploaded(b"no picture at all")
    status = client.post(status="x" * 5000, media_ids=[upload]).json()
    assert status["media_attachments"][0]["id"] != upload
    client.post(status="for followers", visibility="private")
    assert [one["id"] for one in client.listing()] == [status["id"]]
    poll = {"options": ["a", "b"], "expires_in": 3600}
    assert client.post(status="which?", poll=poll).json()["poll"] is None


def test_akkoma_counts_clusters_in_full_and_keeps_answering_for_an_attached_picture(on, picture) -> None:
    client = on("akkoma")
    assert client.post(status="👨‍👩‍👧‍👦" * 5000).status_code == 200
    assert client.post(status="https://example.com/" + "x" * 4990).status_code == 422
    upload = client.uploaded(picture())
    client.post(status="with it", media_ids=[upload])
    assert client.get(f"/api/v1/media/{upload}").status_code == 200


def test_an_unknown_server_may_take_booleans_from_json_only(on) -> None:
    client = on("sharkey")
    assert client.post(status="x", sensitive=True).status_code == 200
    assert client.call("POST", "/api/v1/statuses", data={"status": "x", "sensitive": "true"}).status_code == 400


def test_a_large_animation_is_refused_by_mastodon_though_it_does_not_say_so(on) -> None:
    out = io.BytesIO()
    frames = [Image.new("P", (1300, 720), colour) for colour in (0, 1)]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    assert on("mastodon").upload(out.getvalue()).status_code == 422
    assert on("sharkey").upload(out.getvalue()).status_code == 200

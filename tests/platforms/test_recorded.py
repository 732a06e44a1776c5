"""Answers of real servers, read as the platforms read them."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from postflow.errors import OutcomeUnknown, Refused, Retry, Throttled, Unauthorized
from postflow.platforms import answers, software

RECORDED = Path(__file__).parents[1] / "recorded"
FILES = ("mastodon-4.1", "mastodon-4.6", "gotosocial-0.20")


def recorded(name: str) -> list[dict[str, Any]]:
    """One answer a line; the lines without a status are summaries of several."""
    lines = map(json.loads, filter(None, (RECORDED / f"{name}.jsonl").read_text().split("\n")))
    return [line for line in lines if "status" in line and "path" in line]


def answer(entry: dict[str, Any]) -> httpx.Response:
    kept = {
        name: value
        for name, value in entry["response_headers"].items()
        if value.isascii() and name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
    }
    body = entry["response_body"]
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    request = httpx.Request(entry["method"], "https://birds.example" + entry["path"])
    return httpx.Response(entry["status"], headers=kept, content=content, request=request)


@pytest.mark.parametrize("name", FILES)
def test_every_recorded_refusal_means_what_its_status_says(name: str) -> None:
    seen = 0
    for entry in recorded(name):
        if not 400 <= entry["status"] < 600:
            continue
        seen += 1
        error = answers.refusal(answer(entry), commit=True)
        expected = {401: Unauthorized, 429: Throttled}.get(
            entry["status"], OutcomeUnknown if entry["status"] >= 500 else Refused
        )
        by_a_proxy = entry["status"] == 403 and not isinstance(answers.parsed(answer(entry)), dict)
        if entry["status"] in answers.AT_THE_DOOR or by_a_proxy:
            expected = Retry  # a gateway says it, too
        if entry["status"] == 503 and "Retry-After" in {key.title() for key in entry["response_headers"]}:
            expected = Throttled
        assert type(error) is expected, (entry["method"], entry["path"], entry["status"], error)
        assert len(error.sentence) < 400
    assert seen or name == "mastodon-4.6"


@pytest.mark.parametrize(
    ("name", "chars", "media", "counting"),
    [
        ("mastodon-4.1", 500, 4, "mastodon"),
        ("gotosocial-0.20", 500, 6, "gotosocial"),
    ],
)
def test_the_limits_of_recorded_servers_are_read(name: str, chars: int, media: int, counting: str) -> None:
    seen = [
        entry
        for entry in recorded(name)
        if entry["path"] in ("/api/v1/instance", "/api/v2/instance") and entry["status"] == 200
    ]
    bodies = [body for entry in seen if (body := answers.parsed(answer(entry)))]  # the longest were cut off
    assert bodies
    for body in bodies:
        limits = software.limits(*name.split("-"), body)
        assert (limits.max_chars, limits.max_media, limits.counting) == (chars, media, counting)
        assert "image/jpeg" in limits.mime_types


@pytest.mark.parametrize(
    "instance",
    [
        {},
        {"configuration": None},
        {"configuration": {"statuses": {"max_characters": "many"}, "media_attachments": {"supported_mime_types": "x"}}},
        {"configuration": {"polls": {"max_options": -1}}, "poll_limits": []},
    ],
)
def test_a_server_that_says_nonsense_gets_the_usual_limits(instance: dict[str, Any]) -> None:
    limits = software.limits("mastodon", "4.1.2", instance)
    assert (limits.max_chars, limits.max_media, limits.chars_per_url) == (500, 4, 23)
    assert limits.polls is None


def test_forks_say_their_limits_at_the_top() -> None:
    limits = software.limits("pleroma", "2.7.2", {"max_toot_chars": 5000, "poll_limits": {"max_options": 20}})
    assert limits.max_chars == 5000
    assert limits.polls
    assert limits.polls.max_options == 20


@pytest.mark.parametrize(
    ("kind", "version", "idempotency", "guard"),
    [
        ("mastodon", "4.1.2", "replay", False),
        ("mastodon", "4.3.0+glitch", "replay", True),
        ("mastodon", "4.6.7", "bug500", True),
        ("mastodon", "4.6.8", "replay", True),
        ("mastodon", "4.7.1", "bug500", True),
        ("mastodon", "4.7.2", "replay", True),
        ("pixelfed", "0.12.6+glitch.1", "tripwire", True),
        ("gotosocial", "0.20.0", "none", True),
        ("akkoma", "3.15.0", "cached", False),
        ("", "", "none", False),
    ],
)
def test_each_software_is_trusted_as_far_as_it_goes(kind: str, version: str, idempotency: str, guard: bool) -> None:
    known = software.capabilities(kind, version)
    assert (known.idempotency, known.media_guard) == (idempotency, guard)


def test_every_way_a_connection_can_break_is_either_surely_not_sent_or_maybe_sent() -> None:
    def leaves(kind: type[Exception]) -> set[type[Exception]]:
        below = [one for one in kind.__subclasses__() if one.__module__.startswith("httpx")]
        return set().union(*map(leaves, below)) or {kind}

    assert leaves(httpx.RequestError) == {*answers.NOT_SENT, *answers.MAYBE_SENT}
    assert not {*answers.NOT_SENT} & {*answers.MAYBE_SENT}


def test_a_read_that_fails_is_tried_again_and_a_dead_token_in_plain_text_is_seen() -> None:
    request = httpx.Request("GET", "https://birds.example/", headers={"Authorization": "Bearer sesame"})
    assert isinstance(answers.refusal(httpx.Response(502, text="<html>", request=request), commit=False), Retry)
    plain = httpx.Response(400, text="Invalid token", request=request)
    assert isinstance(answers.refusal(plain, commit=True), Unauthorized)
    echo = httpx.Response(403, json={"error": "sesame may\x00 not"}, request=request)
    assert answers.refusal(echo, commit=True).detail == "HTTP 403 … may not"

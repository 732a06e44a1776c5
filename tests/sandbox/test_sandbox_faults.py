"""The switches: each spoils exactly the request it is aimed at, and the ledger tells what really happened."""

import concurrent.futures
import time

import httpx
import pytest

from sandbox.faults.switches import STYLES

BROKEN = (httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError)


@pytest.fixture
def client(connect):
    return connect()


def test_a_connection_dropped_before_leaves_nothing(sandbox, client):
    sandbox.faults.add("drop_before")
    with pytest.raises(BROKEN):
        client.post("k", status="hello")
    assert sandbox.ledger.times_published("hello") == 0
    assert client.post("k", status="hello").status_code == 200


def test_a_connection_dropped_after_the_commit_leaves_a_status_nobody_was_told_of(sandbox, client):
    sandbox.faults.add("drop_after_commit", method="POST", path="/statuses$")
    with pytest.raises(BROKEN):
        client.post("k", status="hello")
    assert sandbox.ledger.times_published("hello") == 1
    (entry,) = sandbox.ledger.requests(method="POST")
    assert (entry.status, entry.answered_ns, entry.faults) == (0, 0, ["drop_after_commit"])
    assert client.post("k", status="hello").status_code == 200
    assert sandbox.ledger.times_published("hello") == 1


def test_a_body_cut_in_half(sandbox, client):
    sandbox.faults.add("cut_body")
    with pytest.raises(BROKEN):
        client.post(status="hello")
    assert sandbox.ledger.times_published("hello") == 1


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("body", ["html", "json", "text", "empty"])
def test_a_status_with_any_body_before_or_after_the_work(sandbox, client, body, commit):
    sandbox.faults.add("status", status=502, body=body, commit=commit)
    answer = client.post(status="hello")
    assert answer.status_code == 502
    assert bool(answer.content) == (body != "empty")
    assert sandbox.ledger.times_published("hello") == int(commit)


@pytest.mark.parametrize("style", sorted(STYLES))
def test_every_manner_of_saying_too_many_requests(sandbox, client, style):
    sandbox.faults.add("rate_limit", style=style, seconds=90)
    answer = client.post(status="hello")
    headers = {name for name in answer.headers if name.startswith(("retry", "x-ratelimit", "x-bus"))}
    limits = {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"}
    assert (
        headers
        == {
            "mastodon": limits,
            "pixelfed": limits | {"retry-after"},
            "gotosocial": limits,
            "overload": {"retry-after"},
            "retry_after": {"retry-after"},
            "http_date": {"retry-after"},
            "bare": set(),
            "html": set(),
            "instagram": {"x-business-use-case-usage"},
        }[style]
    )
    assert answer.status_code == (400 if style == "instagram" else 429)
    assert sandbox.ledger.times_published("hello") == 0


def test_a_redirect_garbage_and_an_answer_without_an_id(sandbox, client):
    for kind in ("redirect", "garbage", "answer_without_id"):
        sandbox.faults.add(kind, method="POST")
    first, second, third = (client.post(status=text) for text in ("one", "two", "three"))
    assert (first.status_code, first.headers["location"]) == (302, client.account.url + "/login")
    with pytest.raises(ValueError, match="Expecting value"):
        second.json()
    assert (third.status_code, "id" in third.json(), third.json()["content"]) == (200, False, "<p>three</p>")
    assert [one.text for one in sandbox.ledger.statuses()] == ["two", "three"]


def test_a_slow_answer_is_given_up_by_the_client_and_still_committed(sandbox, client):
    sandbox.faults.add("slow", seconds=0.4)
    with pytest.raises(httpx.ReadTimeout):
        client.http.post(
            client.account.url + "/api/v1/statuses", headers=client.headers, json={"status": "slow"}, timeout=0.1
        )
    assert sandbox.ledger.times_published("slow") == 0
    deadline = time.monotonic() + 10
    while not sandbox.ledger.times_published("slow"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_hundreds_of_slow_connections_wait_side_by_side(sandbox, client):
    sandbox.faults.add("slow", seconds=0.5, times=None)
    limits = httpx.Limits(max_connections=None)
    with (
        httpx.Client(headers=client.headers, limits=limits, timeout=60, trust_env=False) as http,
        concurrent.futures.ThreadPoolExecutor(100) as pool,
    ):
        url = client.account.url + "/api/v1/statuses"
        sent = list(pool.map(lambda n: http.post(url, json={"status": f"post {n}"}).status_code, range(200)))
    assert sent == [200] * 200
    assert sandbox.ledger.times_published("post") == 200


def test_a_fault_hits_only_what_it_was_aimed_at(sandbox, connect):
    wren, robin = connect("mastodon", "wren"), connect("mastodon", "robin")
    other = connect("mastodon-4.1", "wren")
    sandbox.faults.add("status", account=wren.account, instance="mastodon", method="POST", times=2, skip=1)
    assert [one.post(status="x").status_code for one in (robin, other, wren)] == [200, 200, 200]
    assert [wren.post(status="x").status_code for _ in range(3)] == [500, 500, 200]
    assert sandbox.faults.all() == []


def test_probability_is_repeatable_with_a_seed(sandbox, client):
    def round_of_twenty():
        sandbox.faults.seed(7)
        fault = sandbox.faults.add("status", probability=0.5, times=None, body="empty")
        answers = [client.get("/api/v1/accounts/verify_credentials").status_code for _ in range(20)]
        sandbox.faults.clear(fault)
        return answers

    first = round_of_twenty()
    assert first == round_of_twenty()
    assert set(first) == {200, 500}


def test_the_coin_falls_by_account_and_not_by_order_of_arrival(sandbox, connect):
    def fates(order):
        sandbox.faults.seed(7)
        fault = sandbox.faults.add("status", probability=0.5, times=None, body="empty")
        path = "/api/v1/accounts/verify_credentials"
        answers = [(one.account.handle, one.get(path).status_code) for one in order]
        sandbox.faults.clear(fault)
        return [[code for handle, code in answers if handle == who] for who in ("wren", "robin")]

    wren, robin = connect("mastodon", "wren"), connect("mastodon", "robin")
    assert fates([wren, robin] * 10) == fates([robin] * 10 + [wren] * 10)


def test_the_ledger_names_only_the_switches_that_took_effect(sandbox, client, picture):
    sandbox.faults.add("still_processing", polls=2, path="/statuses$")  # nobody there looks for it
    sandbox.faults.add("slow", seconds=0.01, when="after", path="/statuses$")
    client.post(status="x")
    [entry] = sandbox.ledger.requests(path="/statuses")
    assert (entry.faults, entry.fault_options) == (["slow"], {"slow": {"seconds": 0.01, "when": "after"}})


def test_tokens_die_at_the_request_that_should_find_them_dead(sandbox, client):
    sandbox.faults.add("expire_token", method="POST")
    assert client.get("/api/v1/accounts/verify_credentials").status_code == 200
    assert client.post(status="x").json() == {"error": "The access token expired"}
    assert client.get("/api/v1/accounts/verify_credentials").status_code == 401


def test_a_silently_dropped_status_is_answered_and_never_saved(sandbox, client):
    sandbox.faults.add("silently_drop")
    answer = client.post("k", status="gone")
    assert answer.status_code == 200
    assert client.get(f"/api/v1/statuses/{answer.json()['id']}").status_code == 404
    assert client.listing() == []
    assert sandbox.ledger.times_published("gone") == 0


def test_the_server_can_lose_pictures_and_change_the_visibility(sandbox, client, picture):
    sandbox.faults.add("drop_media")
    sandbox.faults.add("change_visibility")
    answer = client.post(status="x", media_ids=[client.uploaded(picture())], visibility="public").json()
    assert (answer["media_attachments"], answer["visibility"]) == ([], "unlisted")


def test_media_can_take_their_time_and_fail(sandbox, client, picture):
    sandbox.faults.add("still_processing", polls=2)
    sandbox.faults.add("media_failed")
    answer = client.upload(picture())
    assert answer.status_code == 202
    path = f"/api/v1/media/{answer.json()['id']}"
    assert [client.get(path).status_code for _ in range(4)] == [206, 206, 422, 422]


def test_errors_can_be_in_japanese(sandbox, client):
    sandbox.faults.add("localised", lang="ja")
    assert client.post(status="").json()["error"].startswith("検証に失敗しました")


def test_kept_alive_connections_can_be_reset_without_notice(sandbox, client):
    sandbox.faults.add("drop_reused", method="POST", times=None)
    client.get("/api/v1/accounts/verify_credentials")
    with pytest.raises(BROKEN):
        client.post(status="x")
    assert client.post(status="x").status_code == 200


def test_an_instance_can_go_away_come_back_and_change_its_software(sandbox, client):
    sandbox.go_down("mastodon")
    with pytest.raises(httpx.ConnectError):
        client.post(status="x")
    sandbox.come_back("mastodon")
    assert client.post(status="x").status_code == 200
    sandbox.configure("mastodon", software="pixelfed")
    links = client.get("/.well-known/nodeinfo").json()["links"]
    assert client.http.get(links[0]["href"]).json()["software"]["name"] == "pixelfed"


@pytest.mark.parametrize("wrong", [{"kind": "explode"}, {"kind": "slow"}, {"kind": "rate_limit", "style": "x"}])
def test_a_switch_that_does_not_exist_is_refused(sandbox, wrong):
    with pytest.raises(ValueError, match=r"unknown|needs"):
        sandbox.faults.add(**wrong)

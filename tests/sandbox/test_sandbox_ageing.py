"""Ageing: the clock stays, and all that is remembered lies further back."""

import concurrent.futures
import dataclasses
import time

import pytest

from sandbox.core import model


@pytest.fixture
def client(connect):
    return connect("mastodon")


def test_statuses_and_requests_lie_further_back_and_ids_keep_growing(sandbox, client):
    client.post(status="before")
    [before] = sandbox.ledger.statuses()
    received_ns = sandbox.ledger.requests()[0].received_ns
    now = sandbox.now()
    sandbox.age(600)
    [after] = sandbox.ledger.statuses()
    assert after.created_at == before.created_at - 600
    assert after.committed_ns == before.committed_ns - 600 * 10**9
    assert sandbox.ledger.requests()[0].received_ns == received_ns - 600 * 10**9
    assert sandbox.now() - now < 60
    client.post(status="after")
    assert [one["content"] for one in client.listing()] == ["<p>after</p>", "<p>before</p>"]


def test_keys_and_uploads_grow_old(sandbox, client, picture):
    client.post("key", status="once")
    upload = client.uploaded(picture())
    sandbox.age(3601)
    client.post("key", status="once")
    assert sandbox.ledger.times_published("once") == 2
    sandbox.age(48 * 3600)
    assert client.get(f"/api/v1/media/{upload}").status_code == 404


def test_the_windows_of_rate_limits_pass(sandbox, client):
    sandbox.configure("mastodon", rate_limit_overrides={"statuses": 1})
    assert [client.post(status="x").status_code for _ in range(2)] == [200, 429]
    sandbox.age(3 * 3600)
    assert client.post(status="x").status_code == 200


def test_every_instant_of_every_record_ages():
    instants = {
        kind.__name__: {field.name for field in dataclasses.fields(kind) if "float" in str(field.type)}
        for kind in (model.Account, model.App, model.Code, model.Token, model.Upload, model.Status, model.Container)
    }
    instants["Upload"].discard("focus")
    for names in instants.values():
        assert names
        assert all(name.endswith(("_at", "_after")) for name in names)


def test_idle_is_when_nothing_is_under_way_though_connections_stay_open(sandbox, client):
    sandbox.faults.add("slow", seconds=0.3, method="POST")
    client.get("/api/v1/accounts/verify_credentials")  # and its connection is kept
    with concurrent.futures.ThreadPoolExecutor() as pool:
        posting = pool.submit(client.post, status="slowly")
        while not sandbox.ledger.requests(method="POST"):
            time.sleep(0.005)
        sandbox.wait_until_idle()
        assert sandbox.ledger.times_published("slowly") == 1
        posting.result()


def test_over_http(sandbox, client, http):
    client.post(status="x")
    before = sandbox.ledger.statuses()[0].created_at
    http.post(sandbox.control_url + "/_sandbox/clock", json={"age": 60}).raise_for_status()
    assert sandbox.ledger.statuses()[0].created_at == pytest.approx(before - 60)

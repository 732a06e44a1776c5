"""The ledger, the pages, the control API, the file that survives a restart, and the process itself."""

import dataclasses
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from sandbox import Sandbox, registry
from sandbox.core import software
from sandbox.faults import switches
from tests.patience import PATIENCE_S


def test_everything_python_can_do_can_be_done_over_http(sandbox, http):
    control = sandbox.control_url + "/_sandbox/"
    made = http.post(control + "accounts", json={"instance": "mastodon", "handle": "wren"}).json()
    fault = {"kind": "status", "status": 503, "account": "wren", "method": "POST"}
    added = http.post(control + "faults", json=fault)
    assert (added.status_code, http.get(control + "faults").json()["faults"]) == (201, [added.json()])
    headers = {"Authorization": f"Bearer {made['access_token']}"}
    url = made["url"] + "/api/v1/statuses"
    sent = [http.post(url, headers=headers, json={"status": f"hello {n}"}).status_code for n in range(2)]
    assert sent == [503, 200]
    assert http.get(control + "ledger").json()["by_instance"] == {"mastodon": 1}
    (status,) = http.get(control + "ledger", params={"show": "statuses", "text": "hello"}).json()["statuses"]
    assert (status["text"], status["handle"]) == ("hello 1", "wren")
    log = http.get(control + "ledger", params={"show": "requests", "method": "POST"}).json()["requests"]
    assert [one["status"] for one in log] == [503, 200]
    http.post(control + "clock", json={"advance": 86400})
    assert sandbox.now() > time.time() + 86_000
    http.post(control + "faults", json={"kind": "drop_before", "times": None})
    http.delete(control + "faults")
    added = http.post(control + "instances", json={"software": "gotosocial", "name": "second"}).json()
    assert http.get(added["url"] + "/nodeinfo/2.0").json()["software"]["name"] == "gotosocial"
    assert http.post(control + "tokens", json={"account": "wren", "do": "revoke"}).json() == {"tokens": 1}
    assert http.post(url, headers=headers, json={"status": "x"}).status_code == 401
    assert http.post(control + "faults", json={"kind": "nonsense"}).status_code == 422
    assert http.post(control + "accounts", json={"handle": "x"}).status_code == 422


def test_an_instance_is_changed_and_taken_down_over_http_while_it_runs(sandbox, http):
    control, url = sandbox.control_url + "/_sandbox/instances", sandbox.url("mastodon")
    changed = http.put(control, json={"name": "mastodon", "max_characters": 7, "idempotency": "bug500"})
    assert changed.json()["profile"]["max_characters"] == 7
    limits = http.get(url + "/api/v2/instance").json()["configuration"]["statuses"]
    assert limits["max_characters"] == 7
    assert http.put(control, json={"name": "mastodon", "listening": False}).status_code == 200
    with pytest.raises(httpx.ConnectError):
        http.get(url + "/api/v2/instance")
    assert http.put(control, json={"name": "mastodon", "listening": True}).status_code == 200
    assert http.get(url + "/api/v2/instance").status_code == 200
    assert http.put(control, json={"name": "mastodon", "nonsense": 1}).status_code == 422
    assert http.put(control, json={"name": "nobody"}).status_code == 422


def test_no_secret_is_in_the_ledger_or_on_a_page(sandbox, http):
    account = sandbox.add_account("instagram", "wren")
    http.get(account.url + "/me", params={"access_token": account.access_token})
    (entry,) = sandbox.ledger.requests()
    assert account.access_token not in repr(entry)
    assert account.access_token not in repr(account)
    assert account.access_token not in http.get(sandbox.control_url).text


def test_a_signed_request_is_really_delivered(sandbox, http):
    received = []

    class Callback(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args):
            pass

    sandbox.add_account("instagram", "wren")
    with HTTPServer(("127.0.0.1", 0), Callback) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/deauthorise"
        form = {"url": url, "account": "wren"}
        answer = http.post(sandbox.control_url + "/_sandbox/signed_request", json=form)
        thread.join()
    assert answer.json()["status"] == 200
    assert received[0].startswith("signed_request=")


def test_the_public_pages_show_pictures_alt_texts_and_warnings_and_nothing_private(sandbox, connect, http, picture):
    client = connect()
    key = client.uploaded(picture(), description='a "blue" field')
    client.post(status="<b>hello</b>", media_ids=[key], spoiler_text="careful")
    client.post(status="for your eyes only", visibility="direct")
    timeline = http.get(client.account.url + "/").text
    assert "a &#34;blue&#34; field" in timeline
    assert "&lt;b&gt;hello" in timeline
    assert "careful" in timeline
    assert "for your eyes only" not in timeline
    (status, private) = sandbox.ledger.statuses()
    assert http.get(status.url).status_code == 200
    assert http.get(private.url).status_code == 404
    image = http.get(client.get(f"/api/v1/statuses/{status.id}").json()["media_attachments"][0]["url"])
    assert image.content == picture()
    assert http.get(client.account.url + "/@wren").status_code == 200
    assert http.get(client.account.url + "/static/sandbox.css").headers["content-type"].startswith("text/css")
    avatar = client.get("/api/v1/accounts/verify_credentials").json()["avatar"]
    assert http.get(avatar).headers["content-type"] == "image/png"
    assert client.account.url in http.get(sandbox.control_url + "/").text


def test_the_ledger_keeps_every_status_but_bounds_what_is_large(picture):
    with (
        Sandbox.start(instances=["mastodon"], keep_pictures=2, keep_requests=10) as sandbox,
        httpx.Client(trust_env=False) as http,
    ):
        account = sandbox.add_account("mastodon", "wren")
        headers = {"Authorization": f"Bearer {account.access_token}"}
        for n in range(5):
            files = {"file": ("a.jpg", picture(shade=40 * n), "image/jpeg")}
            key = http.post(account.url + "/api/v1/media", headers=headers, files=files).json()["id"]
            status = {"status": f"post {n}", "media_ids": [key]}
            http.post(account.url + "/api/v1/statuses", headers=headers, json=status).raise_for_status()
        statuses = sandbox.ledger.statuses()
        kept = [sandbox.ledger.picture(one.media[0].sha256) is not None for one in statuses]
        assert kept == [False, False, False, True, True]
        assert (len(sandbox.ledger.requests()), sandbox.ledger.counts()["requests"]) == (10, 10)
        stored = http.get(account.url + f"/system/media/{statuses[0].media[0].id}/original/x.jpg")
        assert stored.headers["content-type"] == "image/png"


def test_with_a_file_tokens_permalinks_pictures_and_the_clock_survive_a_restart(tmp_path, picture, http):
    data = str(tmp_path / "network.sqlite3")
    with Sandbox.start(data=data) as first:
        account = first.add_account("mastodon", "wren")
        headers = {"Authorization": f"Bearer {account.access_token}"}
        files = {"file": ("a.jpg", picture(), "image/jpeg")}
        key = http.post(account.url + "/api/v1/media", headers=headers, files=files).json()["id"]
        status = {"status": "kept", "media_ids": [key]}
        made = http.post(account.url + "/api/v1/statuses", headers={**headers, "Idempotency-Key": "k"}, json=status)
        first.advance(1000)
        http.get(account.url + "/")
        port = int(account.url.rpartition(":")[2])
    with Sandbox.start(data=data) as second:
        assert second.now() > time.time() + 900
        url = second.url("mastodon")
        again = http.post(url + "/api/v1/statuses", headers={**headers, "Idempotency-Key": "k"}, json=status)
        assert again.json()["id"] == made.json()["id"]
        (entry,) = second.ledger.statuses()
        assert http.get(entry.url).status_code == 200
        assert second.ledger.picture(entry.media[0].sha256) == picture()
        assert entry.url.replace(url, "") == made.json()["url"].replace(f"http://127.0.0.1:{port}", "")
        later = http.post(url + "/api/v1/statuses", headers=headers, json={"status": "new"}).json()
        assert int(later["id"]) > int(entry.id)


def test_the_process_says_where_it_listens_and_leaves_on_sigterm(tmp_path):
    command = [sys.executable, "-m", "sandbox", "--port", "0", "--data", str(tmp_path / "x.sqlite3")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.split()[3]
        assert line.startswith("sandbox listening on http://127.0.0.1:")
        assert httpx.get(url + "/", trust_env=False).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


def test_a_port_that_is_taken_stops_the_start_with_a_sentence(sandbox):
    port = sandbox.control_url.rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", "--port", port],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr.startswith("The sandbox could not start:")) == (1, True)


def test_asking_for_an_instance_that_is_not_there_names_those_that_are(sandbox):
    with pytest.raises(KeyError, match="pixelfed"):
        sandbox.url("friendica")


def test_the_manual_names_every_switch_every_option_and_every_software():
    manual = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text()
    kinds = switches.ANSWERS | switches.TIMING | switches.INSIDE
    fields = {field.name for field in dataclasses.fields(software.Profile)} - {"family", "software", "version"}
    missing = {name for name in kinds | fields | switches.STYLES | set(registry.SOFTWARE) if name not in manual}
    assert missing == set()

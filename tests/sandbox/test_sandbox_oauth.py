"""Connecting as a person would: registration, the consent page, codes, tokens, and everything that can be wrong."""

import base64
import hashlib
import urllib.parse

import pytest

CALLBACK = "https://pf.example/callback"
VERIFIER = "a-verifier-of-sufficient-length-0123456789-abcdef"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
SCOPES = "profile read:statuses write:media write:statuses"


@pytest.fixture(params=["mastodon", "mastodon-4.1", "gotosocial", "pixelfed"])
def server(request, sandbox, http):
    scopes = {"pixelfed": "read write", "mastodon-4.1": "read:accounts read:statuses write"}.get(request.param, SCOPES)
    return Server(sandbox.url(request.param), http, scopes)


class Server:
    def __init__(self, url, http, scopes=SCOPES):
        self.url, self.http, self.scopes = url, http, scopes
        form = {"client_name": "PostFlow", "redirect_uris": CALLBACK, "scopes": scopes}
        self.app = http.post(url + "/api/v1/apps", data=form).raise_for_status().json()

    def query(self, **changes):
        query = {
            "response_type": "code",
            "client_id": self.app["client_id"],
            "redirect_uri": CALLBACK,
            "scope": self.scopes,
            "state": "s/1",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        return query | changes

    def decide(self, decision="allow", account="wren", **changes):
        form = {"decision": decision, "new_account": account}
        answer = self.http.post(self.url + "/oauth/authorize", params=self.query(**changes), data=form)
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(answer.headers["location"]).query))

    def token(self, code, **changes):
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": self.app["client_id"],
            "client_secret": self.app["client_secret"],
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
        }
        return self.http.post(self.url + "/oauth/token", data=form | changes)


def test_a_person_connects_and_the_token_works(server):
    page = server.http.get(server.url + "/oauth/authorize", params=server.query())
    assert (page.status_code, "PostFlow would like to use your account" in page.text) == (200, True)
    answer = server.decide()
    assert answer["state"] == "s/1"
    token = server.token(answer["code"]).raise_for_status().json()
    assert token["token_type"] == "Bearer"
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    who = server.http.get(server.url + "/api/v1/accounts/verify_credentials", headers=headers).json()
    assert who["username"] == "wren"


def test_a_code_is_worth_one_token(server):
    code = server.decide()["code"]
    assert server.token(code).status_code == 200
    assert server.token(code).json()["error"] == "invalid_grant"


def test_a_denial_comes_back_with_the_state(server):
    answer = server.decide("deny")
    assert (answer["error"], answer["state"], "code" in answer) == ("access_denied", "s/1", False)


def test_wrong_secret_and_wrong_address_get_no_token(server):
    code = server.decide()["code"]
    assert server.token(code, client_secret="guess").json()["error"] == "invalid_client"
    assert server.token(code, redirect_uri="https://evil.example").json()["error"] == "invalid_grant"


def test_a_foreign_redirect_address_is_never_redirected_to(server):
    query = server.query(redirect_uri="https://evil.example/")
    answer = server.http.get(server.url + "/oauth/authorize", params=query)
    assert (answer.status_code, "location" in answer.headers) == (400, False)


def test_pkce_is_checked_where_it_is_offered(sandbox, http):
    server = Server(sandbox.url("mastodon"), http)
    metadata = http.get(server.url + "/.well-known/oauth-authorization-server").json()
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert server.token(server.decide()["code"], code_verifier="other").json()["error"] == "invalid_grant"
    refused = http.get(server.url + "/oauth/authorize", params=server.query(code_challenge_method="plain"))
    assert "invalid_code_challenge_method" in refused.headers["location"]
    assert http.get(sandbox.url("mastodon-4.1") + "/.well-known/oauth-authorization-server").status_code == 404


def test_a_code_dies_after_ten_minutes(sandbox, http):
    server = Server(sandbox.url("mastodon"), http)
    code = server.decide()["code"]
    sandbox.advance(601)
    assert server.token(code).status_code == 400


def test_scopes_that_were_not_registered_or_are_unknown_are_refused(sandbox, http):
    server = Server(sandbox.url("mastodon"), http)
    assert server.decide(scope="read")["error"] == "invalid_scope"
    form = {"client_name": "x", "redirect_uris": CALLBACK, "scopes": "profile"}
    assert http.post(sandbox.url("mastodon-4.1") + "/api/v1/apps", data=form).status_code == 422
    pixelfed = Server(sandbox.url("pixelfed"), http, "read write")
    assert pixelfed.decide(scope="write:media")["error"] == "invalid_scope"


def test_mastodon_gives_the_same_token_again_and_revoking_it_kills_both(sandbox, http):
    server = Server(sandbox.url("mastodon"), http)
    first, second = (server.token(server.decide()["code"]).json() for _ in range(2))
    assert first["access_token"] == second["access_token"]
    assert {"expires_in", "refresh_token"}.isdisjoint(first)
    client = {name: server.app[name] for name in ("client_id", "client_secret")}
    form = {**client, "token": first["access_token"]}
    assert http.post(server.url + "/oauth/revoke", data=form).json() == {}
    headers = {"Authorization": f"Bearer {second['access_token']}"}
    assert http.get(server.url + "/api/v1/accounts/verify_credentials", headers=headers).status_code == 401
    other = Server(sandbox.url("mastodon"), http)
    third = server.token(server.decide()["code"]).json()
    stolen = {name: other.app[name] for name in client} | {"token": third["access_token"]}
    assert http.post(server.url + "/oauth/revoke", data=stolen).status_code == 403


def test_pixelfed_rotates_both_tokens_at_once(sandbox, http):
    server = Server(sandbox.url("pixelfed"), http, "read write")
    first = server.token(server.decide()["code"]).json()
    assert (first["expires_in"], len(first["access_token"]) > 900) == (31_536_000, True)
    renew = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = server.token("", **renew).json()
    assert second["access_token"] != first["access_token"]
    verify = server.url + "/api/v1/accounts/verify_credentials"
    dead = http.get(verify, headers={"Authorization": f"Bearer {first['access_token']}"})
    assert (dead.status_code, dead.json()) == (500, {"error": "Unauthenticated."})
    assert server.token("", **renew).status_code == 401
    alive = http.get(verify, headers={"Authorization": f"Bearer {second['access_token']}"})
    assert alive.status_code == 200
    sandbox.advance(366 * 86400)
    late = http.get(verify, headers={"Authorization": f"Bearer {second['access_token']}"})
    assert late.json() == {"error": "Unauthenticated."}


def test_the_consent_page_offers_those_who_exist_and_escapes_what_it_shows(sandbox, http):
    server = Server(sandbox.url("mastodon"), http)
    sandbox.add_account("mastodon", "robin")
    page = http.get(server.url + "/oauth/authorize", params=server.query(state='"><script>x')).text
    assert 'value="robin"' in page
    assert "<script>" not in page
    form = {"decision": "allow", "account": "robin"}
    answer = http.post(server.url + "/oauth/authorize", params=server.query(), data=form)
    assert "code=" in answer.headers["location"]
    bad = http.post(server.url + "/oauth/authorize", params=server.query(), data={"decision": "allow"})
    assert bad.status_code == 422

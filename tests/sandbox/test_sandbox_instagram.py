"""The sandbox as Instagram: containers that fetch for real, one commit point, both logins, its own errors."""

import hashlib
import hmac
import json
import time
import urllib.parse

import httpx
import pytest

from sandbox import Sandbox

VIDEO = b"\0\0\0\x18ftypmp42" + b"\0" * 40 + b"moov"
CALLBACK = "https://pf.example/instagram/callback"


class Instagram:
    """A connected professional account, and a place its pictures can be fetched from."""

    def __init__(self, sandbox: Sandbox, http: httpx.Client, picture, **options):
        self.sandbox, self.http, self.picture = sandbox, http, picture
        self.account = sandbox.add_account("instagram", "wren", **options)
        self.base = f"{self.account.url}/v25.0/{self.account.account_id}"
        self.host = sandbox.add_account("mastodon", "host")

    def address(self, body: bytes) -> str:
        """Any of the sandbox's servers will do as the public web."""
        headers = {"Authorization": f"Bearer {self.host.access_token}"}
        files = {"file": ("x", body, "image/jpeg")}
        answer = self.http.post(self.host.url + "/api/v1/media", headers=headers, files=files)
        return answer.raise_for_status().json()["url"]

    def post(self, edge: str, **form) -> httpx.Response:
        return self.http.post(f"{self.base}/{edge}", data={**form, "access_token": self.account.access_token})

    def get(self, path: str, **query) -> httpx.Response:
        query = {**query, "access_token": self.account.access_token}
        return self.http.get(f"{self.account.url}/{path}", params=query)

    def container(self, body: bytes | None = None, **form) -> str:
        if "children" not in form:
            kind = "video_url" if form.get("media_type") in ("REELS", "VIDEO") else "image_url"
            form[kind] = self.address(body or self.picture())
        return self.post("media", **form).raise_for_status().json()["id"]

    def state(self, container: str) -> str:
        return self.get(container, fields="id,status_code,status").json()["status_code"]

    def settled(self, container: str) -> str:
        """The state once a fetch in the background is over; the clock is moved past the processing time."""
        self.sandbox.advance(3)
        deadline = time.monotonic() + 10
        while (state := self.state(container)) == "IN_PROGRESS" and time.monotonic() < deadline:
            time.sleep(0.01)
        return state

    def publish(self, container: str) -> httpx.Response:
        return self.post("media_publish", creation_id=container)


def error_of(answer: httpx.Response) -> tuple[int, int | None]:
    error = answer.json()["error"]
    return error["code"], error.get("error_subcode")


@pytest.fixture
def instagram(sandbox, http, picture):
    return Instagram(sandbox, http, picture)


def test_a_picture_goes_out_with_everything_it_was_given(sandbox, instagram, picture):
    tags = json.dumps([{"username": "robin", "x": 0.5, "y": 0.25}])
    container = instagram.container(
        picture(800, 800),
        caption="Light #birds",
        alt_text="a blue field",
        user_tags=tags,
        collaborators='["finch"]',
        location_id="4711",
    )
    assert instagram.state(container) == "FINISHED"
    media = instagram.publish(container).json()["id"]
    assert instagram.state(container) == "PUBLISHED"
    (status,) = sandbox.ledger.statuses(account=instagram.account)
    assert (status.text, status.media[0].alt_text) == ("Light #birds", "a blue field")
    assert status.media[0].user_tags == [{"username": "robin", "x": 0.5, "y": 0.25}]
    assert status.media[0].sha256 == hashlib.sha256(picture(800, 800)).hexdigest()
    assert (status.details["collaborators"], status.details["location_id"]) == (["finch"], "4711")
    shown = instagram.get(media, fields="id,permalink,shortcode,timestamp,media_type,caption,username").json()
    assert (shown["permalink"], shown["timestamp"][-5:]) == (status.url, "+0000")
    assert instagram.http.get(status.url).status_code == 200


def test_a_carousel_keeps_its_order_and_its_alt_texts(sandbox, instagram, picture):
    bodies = [picture(400, 400, shade=n) for n in (10, 20, 30)]
    children = [
        instagram.container(body, is_carousel_item="true", alt_text=f"alt {n}") for n, body in enumerate(bodies)
    ]
    container = instagram.container(media_type="CAROUSEL", children=",".join(children), caption="three")
    assert instagram.state(container) == "IN_PROGRESS"
    early = instagram.publish(container)
    assert (early.status_code, error_of(early)) == (400, (9007, 2207027))
    assert instagram.settled(container) == "FINISHED"
    instagram.publish(container).raise_for_status()
    (status,) = sandbox.ledger.statuses(account=instagram.account)
    assert [one.alt_text for one in status.media] == ["alt 0", "alt 1", "alt 2"]
    assert [one.sha256 for one in status.media] == [hashlib.sha256(body).hexdigest() for body in bodies]
    listed = instagram.get(f"{instagram.account.account_id}/media", fields="id,caption,children{id}").json()["data"]
    assert [(one["caption"], len(one["children"]["data"])) for one in listed] == [("three", 3)]
    alone = instagram.post("media", media_type="CAROUSEL", children=children[0])
    assert error_of(alone) == (100, 2207028)


def test_a_reel_is_fetched_in_the_background_and_a_story_never_shows_among_the_media(sandbox, instagram, picture):
    reel = instagram.container(VIDEO, media_type="REELS", caption="moving", share_to_feed="true")
    assert instagram.settled(reel) == "FINISHED"
    instagram.publish(reel).raise_for_status()
    story = instagram.container(picture(90, 160), media_type="STORIES")
    instagram.publish(story).raise_for_status()
    account = instagram.account.account_id
    media = instagram.get(f"{account}/media", fields="id,media_product_type").json()["data"]
    stories = instagram.get(f"{account}/stories", fields="id,media_product_type").json()["data"]
    assert ([one["media_product_type"] for one in media], len(stories)) == (["REELS"], 1)
    assert "/reel/" in sandbox.ledger.statuses(text="moving")[0].url
    sandbox.advance(25 * 3600)
    sandbox.network.store.tokens[instagram.account.access_token].expires_at += 90 * 86400
    assert instagram.get(f"{account}/stories").json()["data"] == []


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"image_url": "http://127.0.0.1:1/nothing.jpg"}, (9004, 2207052)),
        ({"image_url": "not an address"}, (9004, 2207052)),
        ({}, (100, None)),
        ({"media_type": "VIDEO", "video_url": "http://x"}, (100, 2207067)),
        ({"media_type": "POEM"}, (100, 2207023)),
        ({"image_url": "http://x", "caption": "x" * 2201}, (36004, 2207010)),
        ({"image_url": "http://x", "caption": "#tag " * 31}, (36004, 2207010)),
        ({"image_url": "http://x", "caption": "@wren " * 21}, (100, 2207040)),
        ({"image_url": "http://x", "collaborators": '["a","b","c","d"]'}, (100, 2207035)),
        ({"image_url": "http://x", "user_tags": '[{"username":"a"}]'}, (100, 2207036)),
    ],
)
def test_what_a_container_is_refused_for(instagram, form, expected):
    assert error_of(instagram.post("media", **form)) == expected


def test_pictures_are_looked_at(sandbox, instagram, picture):
    def refused(body):
        return error_of(instagram.post("media", image_url=instagram.address(body)))

    assert refused(picture(100, 100, "PNG")) == (36001, 2207005)
    assert refused(picture(100, 200)) == (36003, 2207009)
    assert refused(picture(400, 200)) == (36003, 2207009)
    sandbox.configure("instagram", image_bytes=500)
    assert refused(picture(100, 100)) == (36000, 2207004)


def test_a_video_that_cannot_be_read_ends_as_error(instagram, picture):
    container = instagram.container(picture(), media_type="REELS")
    assert instagram.settled(container) == "ERROR"
    assert "2207026" in instagram.get(container, fields="status").json()["status"]


def test_a_container_dies_after_a_day_and_is_published_once(sandbox, instagram, picture):
    old, used = instagram.container(), instagram.container()
    instagram.publish(used).raise_for_status()
    assert error_of(instagram.publish(used)) == (24, 2207008)
    sandbox.advance(24 * 3600)
    assert instagram.state(old) == "EXPIRED"
    assert error_of(instagram.publish(old)) == (24, 2207008)
    assert len(sandbox.ledger.statuses(account=instagram.account)) == 1


def test_the_quota_is_told_and_enforced(sandbox, instagram):
    sandbox.configure("instagram", publish_quota=1)
    first, second = instagram.container(), instagram.container()
    instagram.publish(first).raise_for_status()
    path = f"{instagram.account.account_id}/content_publishing_limit"
    told = instagram.get(path, fields="quota_usage,config").json()["data"]
    assert told == [{"quota_usage": 1, "config": {"quota_total": 1, "quota_duration": 86400}}]
    assert error_of(instagram.publish(second)) == (9, 2207042)


def test_an_error_can_hide_a_success_and_the_state_can_lag(sandbox, instagram):
    container = instagram.container(caption="ghost")
    sandbox.faults.add("publish_error_but_live")
    sandbox.faults.add("status_lag", seconds=120)
    answer = instagram.publish(container)
    assert error_of(answer) == (4, 2207051)
    assert instagram.state(container) == "FINISHED"
    assert instagram.get(f"{instagram.account.account_id}/media").json() == {"data": []}
    sandbox.advance(121)
    assert instagram.state(container) == "PUBLISHED"
    assert sandbox.ledger.times_published("ghost") == 1


def test_nobody_sees_what_is_somebody_elses(sandbox, instagram):
    container = instagram.container()
    stranger = sandbox.add_account("instagram", "robin")
    query = {"access_token": stranger.access_token}
    hidden = instagram.http.get(f"{stranger.url}/{container}", params=query)
    assert (hidden.status_code, error_of(hidden)) == (400, (100, 33))
    form = {**query, "creation_id": container}
    assert error_of(instagram.http.post(f"{instagram.base}/media_publish", data=form)) == (100, 33)


def test_a_personal_account_cannot_publish(sandbox, http, picture):
    personal = Instagram(sandbox, http, picture, account_type="PERSONAL")
    assert personal.get("me", fields="user_id,account_type").json()["account_type"] == "PERSONAL"
    assert error_of(personal.post("media", image_url="http://x"))[0] == 10


def test_instagram_login_from_consent_to_a_refreshed_token(sandbox, http):
    base = sandbox.url("instagram")
    app = {"client_id": "990000000000001", "client_secret": "sandbox-instagram-secret"}
    scope = "instagram_business_basic,instagram_business_content_publish"
    query = {"client_id": app["client_id"], "redirect_uri": CALLBACK, "response_type": "code", "state": "s"}
    query["scope"] = scope
    assert http.get(base + "/oauth/authorize", params=query).status_code == 200
    form = {"decision": "allow", "new_account": "wren"}
    location = http.post(base + "/oauth/authorize", params=query, data=form).headers["location"]
    assert location.endswith("#_")
    code = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)["code"][0]
    exchange = {**app, "grant_type": "authorization_code", "redirect_uri": CALLBACK, "code": code}
    wrong = http.post(base + "/oauth/access_token", data={**exchange, "client_secret": "guess"})
    assert (wrong.status_code, wrong.json()["error_type"]) == (400, "OAuthException")
    (short,) = http.post(base + "/oauth/access_token", data=exchange).json()["data"]
    assert short["permissions"] == scope
    query = {"grant_type": "ig_exchange_token", "client_secret": app["client_secret"]}
    query["access_token"] = short["access_token"]
    long = http.get(base + "/access_token", params=query).json()
    assert (long["token_type"], long["expires_in"]) == ("bearer", 5_183_944)
    renew = {"grant_type": "ig_refresh_token", "access_token": long["access_token"]}
    assert http.get(base + "/v25.0/refresh_access_token", params=renew).status_code == 400
    sandbox.advance(25 * 3600)
    fresh = http.get(base + "/refresh_access_token", params=renew).json()
    assert fresh["access_token"] != long["access_token"]
    sandbox.advance(59 * 86400)
    expired = http.get(base + "/me", params={"access_token": long["access_token"]})
    assert error_of(expired) == (190, 463)
    assert error_of(http.get(base + "/refresh_access_token", params=renew)) == (190, 463)
    me = http.get(base + "/me", params={"access_token": fresh["access_token"], "fields": "user_id,username"}).json()
    assert (me["user_id"], me["username"]) == (str(short["user_id"]), "wren")


def test_facebook_login_leads_to_a_page_token_that_publishes(sandbox, http, picture):
    base = sandbox.url("instagram")
    app = {"client_id": "880000000000001", "client_secret": "sandbox-facebook-secret"}
    scope = "instagram_basic,instagram_content_publish,pages_show_list,pages_read_engagement"
    query = {"client_id": app["client_id"], "redirect_uri": CALLBACK, "response_type": "code", "scope": scope}
    form = {"decision": "allow", "new_account": "wren"}
    location = http.post(base + "/v25.0/dialog/oauth", params=query, data=form).headers["location"]
    code = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)["code"][0]
    exchange = {**app, "redirect_uri": CALLBACK, "code": code}
    short = http.get(base + "/v25.0/oauth/access_token", params=exchange).json()
    swap = {**app, "grant_type": "fb_exchange_token", "fb_exchange_token": short["access_token"]}
    long = http.get(base + "/v25.0/oauth/access_token", params=swap).json()
    assert (short["expires_in"], long["expires_in"]) == (3600, 5_183_944)
    fields = "id,name,access_token,instagram_business_account{id,username}"
    query = {"access_token": long["access_token"], "fields": fields}
    (page,) = http.get(base + "/v25.0/me/accounts", params=query).json()["data"]
    assert page["instagram_business_account"]["username"] == "wren"
    proof = {"input_token": page["access_token"], "access_token": "|".join(app.values())}
    debug = http.get(base + "/debug_token", params=proof).json()["data"]
    assert (debug["is_valid"], debug["expires_at"], debug["type"]) == (True, 0, "PAGE")
    granted = http.get(base + "/me/permissions", params=query).json()["data"]
    assert {"permission": "pages_show_list", "status": "granted"} in granted
    connected = Instagram(sandbox, http, picture, flavour="facebook")
    assert connected.account.page_id == page["id"]
    connected.publish(connected.container()).raise_for_status()
    assert sandbox.revoke_tokens(connected.account) == 5
    assert error_of(connected.get("me")) == (190, 460)


def test_the_token_answer_can_be_flat(sandbox, http):
    flat = sandbox.add_instance("instagram", token_answer="flat", redirect_uris=[CALLBACK])
    query = {"client_id": "990000000000001", "redirect_uri": CALLBACK, "response_type": "code", "scope": "a,b"}
    form = {"decision": "allow", "new_account": "wren"}
    location = http.post(flat.url + "/oauth/authorize", params=query, data=form).headers["location"]
    code = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)["code"][0]
    exchange = {"client_id": "990000000000001", "client_secret": "sandbox-instagram-secret", "code": code}
    exchange |= {"grant_type": "authorization_code", "redirect_uri": CALLBACK}
    assert http.post(flat.url + "/oauth/access_token", data=exchange).json()["permissions"] == ["a", "b"]
    elsewhere = http.get(flat.url + "/oauth/authorize", params={**query, "redirect_uri": "https://evil.example/"})
    assert elsewhere.status_code == 400


def test_usage_headers_and_limits_look_like_metas(sandbox, instagram):
    sandbox.faults.add("usage", percent=95, regain_minutes=7)
    headers = instagram.get("me").headers
    assert json.loads(headers["x-app-usage"])["call_count"] == 95
    (usage,) = json.loads(headers["x-business-use-case-usage"])[instagram.account.account_id]
    assert (usage["type"], usage["estimated_time_to_regain_access"]) == ("instagram", 7)
    sandbox.faults.add("rate_limit", style="instagram", code=4)
    limited = instagram.get("me")
    assert (limited.status_code, error_of(limited)) == (400, (4, None))


def test_a_signed_request_verifies_with_the_apps_secret(sandbox, instagram):
    sent = sandbox.signed_request(instagram.account)
    signature, _, payload = sent.partition(".")
    expected = hmac.digest(b"sandbox-instagram-secret", payload.encode(), "sha256")
    assert bytes.fromhex(expected.hex()) == _unpadded(signature)
    assert json.loads(_unpadded(payload))["user_id"] == instagram.account.account_id


def _unpadded(text: str) -> bytes:
    import base64

    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_switches_spoil_fetching_processing_quota_and_permission(sandbox, instagram, picture):
    address = instagram.address(picture())
    sandbox.faults.add("unfetchable")
    assert error_of(instagram.post("media", image_url=address)) == (9004, 2207052)
    sandbox.faults.add("container_error", instance="instagram", code=2207032)
    broken = instagram.post("media", image_url=address).json()["id"]
    assert instagram.state(broken) == "ERROR"
    good = instagram.container()
    sandbox.faults.add("quota_full")
    assert error_of(instagram.publish(good)) == (9, 2207042)
    sandbox.faults.add("permission_missing", method="POST")
    assert error_of(instagram.publish(good))[0] == 10
    sandbox.faults.add("graph_error", code=100, subcode=33, method="GET", times=2)
    assert [error_of(instagram.get(good)) for _ in range(2)] == [(100, 33)] * 2
    sandbox.faults.add("media_vanishes")
    old = instagram.container()
    assert (error_of(instagram.publish(old)), instagram.state(old)) == ((24, 2207008), "EXPIRED")
    assert instagram.publish(good).status_code == 200


def test_the_worst_a_server_could_do_is_to_publish_a_container_twice(sandbox, instagram):
    sandbox.configure("instagram", second_publish="again")
    container = instagram.container(caption="double")
    assert [instagram.publish(container).status_code for _ in range(2)] == [200, 200]
    assert sandbox.ledger.repeated() == {("instagram", "wren", "double"): 2}

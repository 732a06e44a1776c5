"""A sandbox per test (it starts in a few milliseconds), a client that never keeps what it should not, and pictures."""

import io
from collections.abc import Callable, Iterator

import httpx
import pytest
from PIL import Image

from sandbox import Credentials, Sandbox

Picture = Callable[..., bytes]


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    headers = {"Accept": "application/json", "User-Agent": "PostFlow-tests/1"}
    with httpx.Client(headers=headers, timeout=10, trust_env=False) as client:
        yield client


class Client:
    """One connected account: a token, and the four calls every test makes."""

    def __init__(self, account: Credentials, http: httpx.Client) -> None:
        self.account, self.http = account, http
        self.headers = {"Authorization": f"Bearer {account.access_token}"}

    def call(self, method: str, path: str, **options: object) -> httpx.Response:
        headers = {**self.headers, **options.pop("headers", {})}  # type: ignore[dict-item]
        return self.http.request(method, self.account.url + path, headers=headers, **options)  # type: ignore[arg-type]

    def get(self, path: str, **options: object) -> httpx.Response:
        return self.call("GET", path, **options)

    def post(self, key: str | None = None, **status: object) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        return self.call("POST", "/api/v1/statuses", json=status, headers=headers)

    def upload(self, body: bytes, **form: str) -> httpx.Response:
        return self.call("POST", "/api/v2/media", files={"file": ("picture.jpg", body, "image/jpeg")}, data=form)

    def uploaded(self, body: bytes, **form: str) -> str:
        return self.upload(body, **form).raise_for_status().json()["id"]

    def listing(self, **query: object) -> list[dict]:
        path = f"/api/v1/accounts/{self.account.account_id}/statuses"
        return self.get(path, params=query).raise_for_status().json()


@pytest.fixture
def connect(sandbox: Sandbox, http: httpx.Client) -> Callable[..., Client]:
    """connect("mastodon") or connect(instance, "handle", **options) -> Client"""

    def connected(instance: object = "mastodon", handle: str = "wren", **options: object) -> Client:
        return Client(sandbox.add_account(instance, handle, **options), http)  # type: ignore[arg-type]

    return connected


@pytest.fixture
def picture() -> Picture:
    """picture(width, height, kind) -> bytes of a plain image."""

    def make(width: int = 64, height: int = 48, kind: str = "JPEG", shade: int = 90) -> bytes:
        out = io.BytesIO()
        Image.new("RGB", (width, height), (shade, 120, 200)).save(out, kind)
        return out.getvalue()

    return make

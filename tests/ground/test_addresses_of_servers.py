"""Where something is, as a server says: a link or a picture on our pages, or nothing."""

import pytest

from postflow.models import Profile, Receipt

NONE = [
    "javascript:alert(1)", "JAVASCRIPT:alert(1)", "data:text/html,x", "//evil.example", "https:evil.example", "http://[",
    "https://", "https://ada.example/\nx", "https://ada.example/ x", "ftp://ada.example/", "https://" + "a" * 5000, "", 7, ["https://a.bc"],
]  # fmt: skip


@pytest.mark.parametrize("said", NONE, ids=lambda said: repr(said)[:30])
def test_nothing_but_a_web_address_becomes_a_link(said: object) -> None:
    assert Receipt(remote_id="1", permalink=said).permalink is None  # pyright: ignore[reportArgumentType]
    profile = Profile(remote_id="1", handle="@ada", avatar_url=said, profile_url=said)  # pyright: ignore[reportArgumentType]
    assert (profile.avatar_url, profile.profile_url) == (None, None)


@pytest.mark.parametrize(
    "said", ["https://ada.example/@ada/1", "http://127.0.0.1:8900/p/1?x=y#z", "HTTPS://ÄDA.example/ž"]
)
def test_a_web_address_does(said: str) -> None:
    assert Receipt(remote_id="1", permalink=said).permalink == said

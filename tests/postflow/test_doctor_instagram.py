"""What `postflow doctor` says of Instagram; the rest of it is tried in tests/ground/test_cli.py."""

from typing import Any

import pytest

from postflow.operations import doctor
from tests.platforms.conftest import settings


def said(**chosen: Any) -> list[doctor.Finding]:
    return list(doctor.instagram(settings(**chosen)))


@pytest.mark.parametrize("app", ["instagram_app_id", "facebook_app_id"])
def test_an_address_meta_cannot_reach_is_a_fault(app: str) -> None:
    (finding,) = said(**{app: "1"}, public_url="http://localhost:8000")
    assert not finding.well
    assert "is not https" in finding.sentence


def test_an_address_that_does_not_answer_is_a_fault() -> None:
    """A name that nobody can have (RFC 2606), really looked up."""
    (finding,) = said(instagram_app_id="1", public_url="https://postflow.example")
    assert not finding.well
    assert "when PostFlow tried that itself" in finding.sentence


def test_nothing_is_said_where_instagram_is_not_set_up_or_is_the_sandbox() -> None:
    assert said(public_url="http://localhost:8000") == []
    assert said(instagram_app_id="1", public_url="http://localhost:8000", instagram_url="http://127.0.0.1:8903") == []

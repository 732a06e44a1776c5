"""The tables of docs/networks.md are true: each row is held against the code, and no software or field is missing."""

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from postflow import platforms
from postflow.config import Settings
from postflow.http import deadline
from postflow.models import (
    Account,
    AccountState,
    Attempt,
    Capabilities,
    Content,
    Credentials,
    Limits,
    Login,
    LookAgain,
    Outgoing,
    SafeToResend,
    Server,
    Undecidable,
    utc_now,
)
from postflow.platforms import lookups, software
from postflow.platforms.base import Platform
from postflow.platforms.mastodon.own_statuses import Staged, Upload
from sandbox import Sandbox

DOC = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
NAMED = {name for network in ("mastodon", "pixelfed") for name in platforms.get(network).software} | {"unknown"}


def table(name: str) -> list[dict[str, str]]:
    """The rows of a marked table by their column's name."""
    lines = DOC.split(f"<!-- table: {name} -->\n", 1)[1].split("\n\n", 1)[0].splitlines()
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def rows(name: str) -> list[Any]:
    return [pytest.param(row, id=f"{row['software']}-{row['version']}") for row in table(name)]


def shown(value: Any) -> str:
    if value is None:
        return "–"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("row", rows("capabilities"))
def test_a_software_is_trusted_as_the_table_says(row: dict[str, str]) -> None:
    known = software.capabilities(row["software"], row["version"])
    for name, cell in row.items():
        if name not in ("software", "version"):
            assert cell == shown(getattr(known, name)), name


@pytest.mark.parametrize("row", rows("limits"))
async def test_a_fresh_server_takes_what_the_table_says(
    row: dict[str, str], sandbox: Sandbox, http: httpx.AsyncClient
) -> None:
    kind, version = row["software"], row["version"]
    fake = "glitch" if "glitch" in version else kind
    usual = None if kind in ("akkoma", "pleroma") else version.split("+")[0]
    instance = sandbox.add_instance(fake, usual, name=f"doc-{uuid.uuid4().hex}")
    platform = platforms.get("pixelfed" if kind == "pixelfed" else "mastodon")
    limits = (await platform.server(http, instance.url)).limits
    for name, cell in row.items():
        if name == "polls":
            assert cell == (f"{limits.polls.max_options} × {limits.polls.max_option_chars}" if limits.polls else "no")
        elif name not in ("software", "version"):
            assert cell == shown(getattr(limits, name)), name


@pytest.mark.parametrize("row", rows("absent"))
async def test_what_is_absent_twice_ends_as_the_table_says(row: dict[str, str], http: httpx.AsyncClient) -> None:
    upload = Upload(media_id=1, remote_id="1", uploaded_at=utc_now(), ready=True)
    for column, uploads in (("a text", []), ("with pictures", [upload])):
        assert row[column] == await ending(http, row, uploads, sent_s_ago=lookups.HELD_S), column


async def ending(http: httpx.AsyncClient, row: dict[str, str], uploads: list[Upload], *, sent_s_ago: float) -> str:
    now = utc_now()
    attempt = Attempt(
        attempt_no=1, first_sent_at=now, sent_at=now - timedelta(seconds=sent_s_ago), looks=2, absent_looks=1,
        first_absent_at=now - timedelta(seconds=40), taken_remote_ids=frozenset(),
    )  # fmt: skip
    platform: Any = platforms.get("mastodon")
    verdict = await platform.absent(http, outgoing(row["software"], row["version"]), Staged(uploads=uploads), attempt)
    if isinstance(verdict, LookAgain):
        return "looked again"
    if isinstance(verdict, Undecidable):
        return "a person decides"
    assert isinstance(verdict, SafeToResend)
    return f"sent again, {'new' if verdict.new_key else 'same'} key"


@pytest.mark.parametrize("row", rows("absent"))
async def test_nobody_is_asked_while_a_proxy_may_still_hold_it(row: dict[str, str], http: httpx.AsyncClient) -> None:
    soon = await ending(http, row, [], sent_s_ago=lookups.HELD_S - 1)
    assert soon == ("looked again" if row["a text"] == "a person decides" else row["a text"])


@pytest.mark.parametrize("name", ["capabilities", "limits", "absent"])
def test_no_software_is_left_out(name: str) -> None:
    expected = NAMED - {"pixelfed"} if name == "absent" else NAMED
    assert {row["software"] for row in table(name)} == expected


def test_no_capability_is_left_out() -> None:
    meant_for_others = {"fetch_fault"}  # networks that fetch pictures
    assert {*table("capabilities")[0]} - {"software", "version"} == set(Capabilities.model_fields) - meant_for_others


def outgoing(kind: str, version: str) -> Outgoing:
    now = utc_now()
    account = Account(
        id=1, user_id=1, platform="mastodon", base_url="https://birds.example", remote_id="1", handle="@a@birds.example",
        display_name="", state=AccountState.active, created_at=now,
    )  # fmt: skip
    return Outgoing(
        delivery_id=1,
        login=Login(account=account, credentials=Credentials(access_token=SecretStr("t"))),
        server=Server(
            platform="mastodon", base_url="https://birds.example", software=kind, version=version, limits=Limits(),
            capabilities=software.capabilities(kind, version), fetched_at=now,
        ),
        content=Content(text="x"),
        media=(),
        reply_to_remote_id=None,
        idempotency_key="k",
    )  # fmt: skip


def test_the_recipe_for_a_network_names_every_part_of_the_protocol() -> None:
    recipe = (Path(__file__).parents[2] / "docs" / "adding-a-network.md").read_text()
    declared = {*vars(Platform), *Platform.__annotations__}
    for name in declared:
        if not name.startswith("_"):
            assert f"`{name}`" in recipe, name


@pytest.mark.parametrize("timeout_s", [3.0, 30.0, 120.0])
def test_no_look_counts_while_something_of_the_request_may_be_on_its_way(timeout_s: float) -> None:
    """Its last byte is written within the timeout, our kernel holds it for as long again; a proxy waits for a minute."""
    gone_after_s = max(60, 2 * timeout_s + deadline.ROAD_S)
    early, late = (sent(timeout_s, s_ago=gone_after_s + off, absent_for_s=60) for off in (-0.5, 0.5))
    too_soon = lookups.once_more(early)
    assert too_soon is not None
    assert too_soon.absent is None
    assert lookups.once_more(late) is None
    first = lookups.once_more(late.model_copy(update={"first_absent_at": None}))
    assert first is not None
    assert first.absent


def sent(timeout_s: float, *, s_ago: float, absent_for_s: float) -> Attempt:
    now = utc_now()
    return Attempt(
        attempt_no=1, first_sent_at=now - timedelta(seconds=s_ago), sent_at=now - timedelta(seconds=s_ago), looks=2,
        absent_looks=1, first_absent_at=now - timedelta(seconds=absent_for_s), taken_remote_ids=frozenset(),
        still_ours_s=deadline.still_ours_s(timeout_s), now=now,
    )  # fmt: skip


def test_an_attempt_that_says_nothing_of_it_takes_the_shipped_timeout() -> None:
    shipped = deadline.still_ours_s(Settings.model_fields["request_timeout_s"].default)
    assert Attempt.model_fields["still_ours_s"].default == shipped

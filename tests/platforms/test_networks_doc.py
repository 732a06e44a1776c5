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
from postflow.models import (
    Account,
    AccountState,
    Attempt,
    Capabilities,
    Content,
    Credentials,
    Limits,
    Login,
    Outgoing,
    SafeToResend,
    Server,
    Undecidable,
    utc_now,
)
from postflow.platforms import looking, software
from postflow.platforms.base import Platform
from postflow.platforms.mastodon.traces import Staged
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
    now = utc_now()
    attempt = Attempt(
        attempt_no=1, first_sent_at=now, sent_at=now - timedelta(seconds=61), looks=2, absent_looks=1,
        first_absent_at=now - timedelta(seconds=40), taken_remote_ids=frozenset(),
    )  # fmt: skip
    platform: Any = platforms.get("mastodon")
    verdict = await platform.absent(http, outgoing(row["software"], row["version"]), Staged(), attempt)
    if isinstance(verdict, Undecidable):
        assert row["seen absent twice"] == "a person decides"
    else:
        assert isinstance(verdict, SafeToResend)
        assert row["seen absent twice"] == f"sent again, {'new' if verdict.new_key else 'same'} key"


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
        payload_hash="0",
    )  # fmt: skip


def test_the_recipe_for_a_network_names_every_part_of_the_protocol() -> None:
    recipe = (Path(__file__).parents[2] / "docs" / "adding-a-network.md").read_text()
    declared = {*vars(Platform), *Platform.__annotations__}
    for name in declared:
        if not name.startswith("_"):
            assert f"`{name}`" in recipe, name


def test_an_absence_is_never_proven_within_a_minute_of_sending() -> None:
    assert Settings.model_fields["settle_s"].default + looking.SETTLE_S >= 60

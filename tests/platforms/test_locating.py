"""Where a person has seen a post: the network is asked what stands at an address, in the shapes each software has."""

from typing import Any

import httpx
import pytest

from postflow.errors import Invalid
from postflow.models import Receipt
from tests.platforms.conftest import Case, Start
from tests.platforms.networks import NETWORKS

SHIPPED = [network.name for network in NETWORKS if network.platform != "bluesky"]
FAMILY = [network.name for network in NETWORKS if network.platform in ("mastodon", "pixelfed")]


async def asked(case: Case, link: str, http: httpx.AsyncClient | None = None) -> Receipt:
    return await case.platform.located(http or case.http, case.outgoing.login, link)


async def refusal(case: Case, link: str, http: httpx.AsyncClient | None = None) -> str:
    with pytest.raises(Invalid) as wrong:
        await asked(case, link, http)
    return wrong.value.fields["link"][0]


async def published(start: Start, network: str, **content: Any) -> tuple[Case, Receipt, str]:
    """A post, and the address that its server shows of it."""
    case = await start(network, **content)
    receipt = await case.publish()
    link = receipt.permalink or await case.platform.permalink(case.http, case.outgoing.login, receipt)
    assert link
    return case, receipt, link


@pytest.mark.parametrize("network", SHIPPED)
async def test_the_address_a_server_gives_leads_back_to_its_post(network: str, start: Start) -> None:
    case, receipt, link = await published(start, network)
    assert await asked(case, f" {link.rstrip('/')}/?utm=x#top ") == Receipt(remote_id=receipt.remote_id, permalink=link)


async def test_what_is_not_in_a_list_for_all_is_found_by_its_address_alone(start: Start) -> None:
    for network in ("snac", "hollo", "takahe"):
        case, receipt, link = await published(start, network, visibility="private", pictures=0)
        assert (await asked(case, link)).remote_id == receipt.remote_id


@pytest.mark.parametrize("network", FAMILY)
async def test_somebody_else_s_post_and_pages_that_are_none_are_refused(network: str, start: Start) -> None:
    case, _, link = await published(start, network)
    _, _, theirs = await published(start, network)
    assert "somebody else's post" in await refusal(case, theirs)
    base, person = case.outgoing.login.account.base_url, link.rpartition("/")[0]
    for page in (f"{person}/media", f"{link}/embed", f"{person}/with_replies", f"{link}0", person):
        assert "shows no post of" in await refusal(case, page), page
    for page in (base, "https://elsewhere.example/@ada/1", f"{base}.evil.example/@ada/1"):
        assert "not the address of a post on" in await refusal(case, page), page


async def test_a_post_that_was_boosted_is_not_one_s_own(start: Start) -> None:
    case = await start("mastodon", pictures=0)
    account = case.outgoing.login.account
    boost = {
        "id": "77",
        "account": {"id": account.remote_id},
        "reblog": {"id": "5"},
        "url": f"{account.base_url}/@a/77",
    }
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=boost))
    async with httpx.AsyncClient(transport=transport) as http:
        assert "somebody else's" in await refusal(case, f"{account.base_url}/@a/77", http)


async def test_an_address_without_the_id_is_looked_for_in_the_list_which_may_never_end(start: Start) -> None:
    case = await start("akkoma", pictures=0)
    account, pages = case.outgoing.login.account, []
    own = {
        "id": "77",
        "account": {"id": account.remote_id},
        "url": "https://x/1",
        "uri": f"{account.base_url}/objects/0-a",
    }

    def handle(request: httpx.Request) -> httpx.Response:
        pages.append(str(request.url))
        return httpx.Response(200, json=[own])

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        assert (await asked(case, f"{account.base_url}/objects/0-a", http)).remote_id == "77"
        assert "shows no post of" in await refusal(case, f"{account.base_url}/objects/0-b", http)
    assert len(pages) == 3  # the second page was the first once more


async def test_access_that_may_not_read_sees_what_everybody_sees(start: Start) -> None:
    case = await start("mastodon", pictures=0, scopes="profile write:media write:statuses")
    receipt = await case.publish()
    assert receipt.permalink
    assert (await asked(case, receipt.permalink)).remote_id == receipt.remote_id


@pytest.mark.parametrize("network", SHIPPED)
async def test_a_network_that_cannot_be_asked_is_no_network_without_the_post(network: str, start: Start) -> None:
    case, _, link = await published(start, network)
    case.nobody_listens()
    link = link if case.network.graph else link.replace(case.sandbox.url(network), "http://127.0.0.1:9")
    said = await refusal(case, link)
    assert "cannot be asked right now" in said and "leave the address out" in said


async def test_instagram_is_asked_for_its_own_addresses_only(start: Start) -> None:
    case = await start("instagram-login")
    assert "not the address of a post on Instagram" in await refusal(case, "https://pixels.example/p/ABC/")
    assert "Instagram shows no post of" in await refusal(case, "https://www.instagram.com/p/ABC/")

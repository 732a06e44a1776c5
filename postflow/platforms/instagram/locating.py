"""Where a person has seen a post. Its address holds a code and not the id, so the account's own posts are looked through."""

from urllib.parse import urlsplit

from postflow.errors import Invalid, PublishError
from postflow.models import Account, Receipt
from postflow.platforms.instagram.graph import Graph

#: A post somebody looks for is a recent one.
MOST_LISTED = 200


async def located(graph: Graph, account: Account, link: str, *, elsewhere: str | None) -> Receipt:
    """`elsewhere`: the address that stands in for Instagram's. Raises Invalid({"link": …}) where no own post stands, and
    where Instagram cannot be asked.
    """
    given = urlsplit(link.strip())
    host = given.hostname or ""
    theirs = host == "instagram.com" or host.endswith(".instagram.com")
    if not theirs and not (elsewhere and host == urlsplit(elsewhere).hostname):
        raise Invalid({"link": "This is not the address of a post on Instagram. Copy it from there."})
    edge = "stories" if given.path.startswith("/stories/") else "media"
    try:
        found = await _listed(graph, f"{account.remote_id}/{edge}", _code(given.path))
    except PublishError as error:
        sentence = f"Instagram cannot be asked right now whether this is the post: {error.sentence}"
        raise Invalid({"link": f"{sentence} Try again in a moment, or leave the address out."}) from None
    if found is None:
        wrong = f"Instagram shows no post of {account.handle} at this address."
        raise Invalid({"link": f"{wrong} Open the post itself there, and copy the address from your browser."})
    return found


async def _listed(graph: Graph, path: str, code: str) -> Receipt | None:
    seen = 0
    async for one in graph.pages(path, fields="id,permalink", limit="50"):
        permalink = one.get("permalink") if one else None
        if one and isinstance(permalink, str) and code and _code(urlsplit(permalink).path) == code:
            return Receipt(remote_id=str(one["id"]), permalink=permalink)
        seen += 1
        if seen >= MOST_LISTED:
            break
    return None


def _code(path: str) -> str:
    """/p/CODE/, /ada/p/CODE/, /reel/CODE/, /stories/ada/NUMBER"""
    return path.rstrip("/").rpartition("/")[2]

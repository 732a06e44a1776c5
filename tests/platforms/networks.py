"""Every network the contract suite runs against: one entry each. A new network joins with one more line here.

What differs between them is told by data, not by tests of their own: which paths the suite has to disturb, and how much
the server's software lets PostFlow find out.
"""

from typing import Any, NamedTuple

from tests.platforms.fourth.bluesky import Bluesky


class Network(NamedTuple):
    """`name` is the sandbox's instance; with `software` it is opened when it is not there yet."""

    name: str
    platform: str = "mastodon"
    software: str | None = None
    version: str | None = None
    #: paths: the one visible call, and an upload
    commit: str = r"/statuses$"
    upload: str = r"/media$"
    #: the field of its answer without which nobody knows where the post is
    names_post_by: str = "id"
    #: two looks that see nothing prove that nothing was published
    proves_absence: bool = True
    #: is looked for under a key of our own, in no list
    by_key: bool = False
    #: refuses a text that is longer than it says
    counts: bool = True
    #: refuses a file that is neither picture nor video
    looks_into_media: bool = True
    #: so long must a post be looked for in vain until the network is done with it
    settles_s: float = 40
    #: speaks Meta's Graph API: refusals are numbers, media are fetched, preparing leaves containers
    graph: bool = False
    flavour: str = ""
    options: dict[str, Any] = {}  # noqa: RUF012  a tuple's default, never changed


NETWORKS = (
    Network("mastodon"),
    Network("mastodon-4.1"),
    Network("mastodon-4.6", software="mastodon", version="4.6.4"),
    Network("glitch", software="glitch", version="4.5.2"),
    Network("hometown", software="hometown", version="4.2.10"),
    Network("gotosocial"),
    Network("akkoma", software="akkoma"),
    Network("pleroma", software="pleroma"),
    Network("takahe", software="takahe", proves_absence=False, settles_s=300),
    Network("hollo", software="hollo", proves_absence=False, settles_s=300, counts=False),
    Network("snac", software="snac", proves_absence=False, settles_s=300, counts=False, looks_into_media=False),
    Network("unknown", software="sharkey", proves_absence=False, settles_s=300),
    Network("pixelfed", platform="pixelfed"),
    Network(
        "bluesky",
        platform="bluesky",
        software="bluesky",
        commit=r"putRecord$",
        upload=r"uploadBlob$",
        names_post_by="uri",
        by_key=True,
        looks_into_media=False,
        options={"family": "bluesky", "counting": "clusters", "max_characters": 300},
    ),
    *(
        Network(
            f"{flavour}-login",
            platform="instagram",
            software="instagram",
            commit=r"/media_publish$",
            proves_absence=False,
            settles_s=660,
            graph=True,
            flavour=flavour,
            options={"carousel_processing_s": 0.0},
        )
        for flavour in ("instagram", "facebook")
    ),
)
#: Networks that PostFlow does not ship; docs/adding-a-network.md tells of this one.
OURS = {"bluesky": Bluesky()}
BY_NAME = {network.name: network for network in NETWORKS}

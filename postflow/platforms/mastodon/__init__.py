"""Mastodon and the servers that speak its API. Facts: docs.joinmastodon.org/methods and docs/networks.md.

by_hand      a token its person made there
connecting   which server is it, PostFlow as its app, the person's consent, access given back
locating     where a person has seen a post: the status behind an address
publishing   prepare: each picture goes up (POST /api/v2/media), the newest own status is noted as the anchor
             commit: POST /api/v1/statuses with the Idempotency-Key, the one visible call; the answer is checked
reconciling  the account's own statuses since the anchor; traces tells whether one of them is ours
speaking     what all of them share: the token, and what an answer means
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel

from postflow.media import renditions
from postflow.models import Account, Content, Limits, Media, MediaKind, Problem, Server
from postflow.platforms import composing, counting
from postflow.platforms.base import ConnectOption, Platform
from postflow.platforms.mastodon import manual_token
from postflow.platforms.mastodon.connecting import Connecting
from postflow.platforms.mastodon.locating import Locating
from postflow.platforms.mastodon.own_statuses import Staged
from postflow.platforms.mastodon.publishing import Publishing
from postflow.platforms.mastodon.reconciling import Reconciling


class Mastodon(Connecting, Publishing, Reconciling, Locating, Platform):
    name: ClassVar[str] = "mastodon"
    label: ClassVar[str] = "Mastodon"
    software: ClassVar[frozenset[str]] = frozenset(
        {"mastodon", "hometown", "gotosocial", "akkoma", "pleroma", "takahe", "hollo", "snac"}
    )
    staged_model: ClassVar[type[BaseModel]] = Staged

    def connect_options(self) -> Sequence[ConnectOption]:
        by_address = ConnectOption(
            key="instance", label=self.label, asks_for="instance", hint="such as mastodon.social"
        )
        return [by_address, manual_token.OPTION]

    def count(self, content: Content, limits: Limits) -> int:
        return counting.length(content.text, content.spoiler_text, limits.counting, per_url=limits.chars_per_url)

    def check(
        self, content: Content, media: Sequence[Media], server: Server, account: Account, *, is_reply: bool
    ) -> Sequence[Problem]:
        length = self.count(content, server.limits)
        return composing.problems(content, media, server.limits, length, is_reply=is_reply)

    def recipe(
        self, content: Content, media: Media, server: Server, first: Media | None = None
    ) -> renditions.Recipe | None:
        if media.kind is not MediaKind.image:
            return None
        limits = server.limits
        kinds = tuple(kind for kind in ("image/jpeg", "image/png") if kind in limits.mime_types) or ("image/jpeg",)
        return renditions.Recipe(max_pixels=limits.max_image_pixels, max_bytes=limits.max_image_bytes, mime_types=kinds)

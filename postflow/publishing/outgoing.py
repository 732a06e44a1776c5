"""Gathers all a platform needs to publish one delivery: content, account, server, and media made to fit. Worker side."""

import asyncio
import hashlib
import re
import time
import unicodedata
from typing import Any, NamedTuple

import structlog
from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, ValidationError

from postflow import platforms
from postflow.accounts import accounts
from postflow.config import Settings
from postflow.engine import Engine
from postflow.errors import Invalid, Misconfigured, NotFound, NotReady, Refused, Retry
from postflow.media import decoding, renditions, signed_links
from postflow.models import (
    Account,
    Attachment,
    Content,
    Delivery,
    DeliveryStatus,
    Media,
    Outgoing,
    OutgoingMedia,
    Server,
)
from postflow.platforms.base import Platform

log = structlog.stdlib.get_logger("postflow.publishing.outgoing")

#: Between two looks at something the operator has to mend.
PUT_OFF_S = 120.0
#: How long a network may fetch a picture from us: containers live a day.
LINK_LIFE_S = 48 * 3600


async def gathered(engine: Engine, delivery: Delivery, *, with_data: bool) -> tuple[Platform, Outgoing]:
    """Raises Refused when the account or the network is gone, NotReady when the operator has to mend something first."""
    try:
        parcel = await gather(engine.pool, delivery, engine.settings, with_data=with_data)
        return platforms.get(parcel.login.account.platform), parcel
    except NotFound as gone:
        raise Refused(str(gone), code="network_gone", next_step="Publish it by hand.") from None
    except Misconfigured as wrong:  # a key is missing: no fault of the post's, and none of the network's
        log.error("an account cannot be opened", account=delivery.account_id, why=str(wrong))
        raise NotReady(
            "Whoever runs PostFlow has to put back a key that opens the account.", retry_in_s=PUT_OFF_S
        ) from None


def staged_state(platform: Platform, delivery: Delivery) -> BaseModel | None:
    """None where it has to be prepared anew: also what another release prepared and this one cannot read, as long as
    nothing was sent with it. After that it is the only handle on what became of the request: raises NotReady.
    """
    if delivery.staged is None:
        return None
    try:
        return platform.staged_model.model_validate(delivery.staged)
    except ValidationError:
        if delivery.first_sent_at is None:
            return None
        log.error("another release prepared it, and this one cannot read what", delivery=delivery.id)
        raise NotReady(
            "Another release of PostFlow prepared it, and this one cannot read what: it waits for one that can.",
            retry_in_s=PUT_OFF_S,
        ) from None


async def gather(pool: AsyncConnectionPool, delivery: Delivery, settings: Settings, *, with_data: bool) -> Outgoing:
    """`with_data` loads the bytes of each rendition; the commit needs none. Raises Refused, Retry.

    No connection is held while pictures are made to fit: that takes as long as it takes.
    """
    async with pool.connection() as conn:
        row, gathered_s = await _row(conn, delivery), time.monotonic()
        content = Content.model_validate(row["content"])
        login = await accounts.login(conn, delivery.account_id, settings.encryption_keys)
        server = await _server(conn, login.account)
        wanted = await _wanted(conn, content, server)
    media = tuple([await _fitted(pool, one, settings, with_data=with_data) for one in wanted])
    return Outgoing(
        delivery_id=delivery.id,
        login=login,
        server=server,
        content=content,
        media=media,
        reply_to_remote_id=row["reply_to_remote_id"],
        idempotency_key=delivery.idempotency_key,
        likeness=_likeness(content, media, server),
        sent_ago_s=row["sent_ago_s"],
        gathered_at=row["gathered_at"],
        gathered_s=gathered_s,
    )


async def _row(conn: AsyncConnection, delivery: Delivery) -> dict[str, Any]:
    """Raises Refused where the part before is out and nobody knows as what: this one could not answer to it."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            """
            SELECT p.content, before.remote_id AS reply_to_remote_id, before.status AS part_before,
                   clock_timestamp() AS gathered_at,
                   extract(epoch FROM clock_timestamp() - %(first_sent_at)s::timestamptz)::float8 AS sent_ago_s
              FROM posts p
              LEFT JOIN deliveries before ON before.post_id = p.parent_id AND before.account_id = %(account_id)s
             WHERE p.id = %(post_id)s
            """,
            {
                "post_id": delivery.post_id,
                "account_id": delivery.account_id,
                "first_sent_at": delivery.first_sent_at,
            },
        )
        row = await cursor.fetchone()
    if row is None:
        raise Refused("The post is gone.", code="post_gone")
    if row["part_before"] == DeliveryStatus.published and row["reply_to_remote_id"] is None:
        raise Refused(
            "The part before it is out, but PostFlow does not know its address there, so this one cannot answer to it.",
            code="parent_unknown",
            next_step="Answer to that part by hand, or publish this one as a post of its own.",
        )
    return row


async def _server(conn: AsyncConnection, account: Account) -> Server:
    async with conn.cursor(row_factory=class_row(Server)) as cursor:
        await cursor.execute(
            """
            SELECT platform, base_url, software, version, title, limits, capabilities, fetched_at
              FROM servers WHERE platform = %(platform)s AND base_url = %(base_url)s
            """,
            {"platform": account.platform, "base_url": account.base_url},
        )
        server = await cursor.fetchone()
    if server is None:
        raise Retry("The limits of this server are not known yet.", code="server_unknown")
    return server


class Wanted(NamedTuple):
    """One attachment in the shape its server takes; no recipe: as it is."""

    attachment: Attachment
    media: Media
    recipe: renditions.Recipe | None

    @property
    def key(self) -> str:
        return self.recipe.key if self.recipe else ""


async def _wanted(conn: AsyncConnection, content: Content, server: Server) -> list[Wanted]:
    """In the person's order; one that cannot be made stops the post, it is never left out."""
    facts = [await _facts(conn, attachment.media_id) for attachment in content.attachments]
    return [
        Wanted(attachment, media, _recipe(content, media, server, facts[0]))
        for attachment, media in zip(content.attachments, facts, strict=True)
    ]


async def _facts(conn: AsyncConnection, media_id: int) -> Media:
    async with conn.cursor(row_factory=class_row(Media)) as cursor:
        await cursor.execute(
            """
            SELECT id, user_id, filename, kind, mime, size_bytes, width, height, duration_s, sha256, created_at
              FROM media WHERE id = %(id)s
            """,
            {"id": media_id},
        )
        media = await cursor.fetchone()
    if media is None:
        raise Refused("A picture of this post is gone.", code="media_gone", next_step="Edit the post and add it again.")
    return media


async def _fitted(pool: AsyncConnectionPool, wanted: Wanted, settings: Settings, *, with_data: bool) -> OutgoingMedia:
    async with pool.connection() as conn:
        file = await _file(conn, wanted.media.id, wanted.key, with_data=with_data)
    file = file or await _made(pool, wanted)
    if file is None:
        raise Refused("A picture of this post is gone.", code="media_gone", next_step="Edit the post and add it again.")
    return OutgoingMedia(
        media_id=wanted.media.id,
        kind=wanted.media.kind,
        alt_text=wanted.attachment.alt_text,
        focus=wanted.attachment.focus,
        public_url=signed_links.sign(settings, wanted.media.id, wanted.key, life_s=LINK_LIFE_S),
        **file,
    )


def _recipe(content: Content, media: Media, server: Server, first: Media) -> renditions.Recipe | None:
    try:
        return platforms.get(server.platform).recipe(content, media, server, first)
    except NotFound as gone:
        raise Refused(str(gone), code="network_gone", next_step="Publish it by hand.") from None


async def _made(pool: AsyncConnectionPool, wanted: Wanted) -> dict[str, Any] | None:
    """As `_file`, and kept for the next account with the same needs. Two workers may make the same one: the first stays.
    None where there is nothing to make it from.
    """
    if wanted.recipe is None:
        return None
    async with pool.connection() as conn:
        original = await _file(conn, wanted.media.id, "", with_data=True)
    if original is None:
        return None
    try:
        rendition = await asyncio.to_thread(decoding.render, original["data"], wanted.recipe)
    except decoding.Busy:
        raise Retry("The machine was too busy to make a picture ready.", code="decoding_busy") from None
    except Invalid as unfit:
        raise Refused(str(unfit), code="media_unfit", next_step="Edit the post and replace the picture.") from None
    async with pool.connection() as conn:
        await conn.execute(
            """
            INSERT INTO media_files (media_id, recipe, mime, width, height, data)
            VALUES (%(media_id)s, %(recipe)s, %(mime)s, %(width)s, %(height)s, %(data)s)
            ON CONFLICT (media_id, recipe) DO NOTHING
            """,
            {"media_id": wanted.media.id, "recipe": wanted.key, **rendition.model_dump()},
        )
    return {**rendition.model_dump(), "size_bytes": len(rendition.data)}


async def _file(conn: AsyncConnection, media_id: int, recipe: str, *, with_data: bool) -> dict[str, Any] | None:
    async with conn.cursor(row_factory=dict_row, binary=True) as cursor:
        await cursor.execute(
            """
            SELECT mime, width, height, octet_length(data) AS size_bytes,
                   CASE WHEN %(with_data)s THEN data ELSE ''::bytea END AS data
              FROM media_files WHERE media_id = %(media_id)s AND recipe = %(recipe)s
            """,
            {"media_id": media_id, "recipe": recipe, "with_data": with_data},
        )
        return await cursor.fetchone()


def _likeness(content: Content, media: tuple[OutgoingMedia, ...], server: Server) -> str:
    """The same for posts that a look could take for each other. Coarser than any platform compares words: no case, no
    signs, no mentions, which servers write in their own way. Uploads tell posts apart where a status keeps their ids.
    """
    words = re.sub(
        r"@[\w.@-]+", " ", unicodedata.normalize("NFKC", f"{content.text} {content.spoiler_text}").casefold()
    )
    kept = [str(one.media_id) for one in media] if server.capabilities.keeps_media_ids else []
    return hashlib.sha256("\n".join([re.sub(r"[\W_]+", "", words), *kept]).encode()).hexdigest()

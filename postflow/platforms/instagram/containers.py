"""Before post_date: one container per picture, one around a carousel; Meta fetches the media from our public links.

Containers are unseen and repeatable: one too many costs one of 400 a day. Each is checkpointed before the next call.
https://developers.facebook.com/docs/instagram-platform/content-publishing
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict

from postflow.errors import NotReady, PublishError, Refused, Retry, Throttled
from postflow.models import MediaKind, Outgoing, OutgoingMedia
from postflow.platforms import answers
from postflow.platforms.base import Checkpoint
from postflow.platforms.instagram import options, refusals, usage
from postflow.platforms.instagram.graph import Graph, rows, within

#: A container lives a day; an older one is not relied on any more.
LIFE = timedelta(hours=20)
TRIES = 3
STUCK = timedelta(hours=1)
FAST_S, SLOW_S, SPARING_S = 2.0, 30.0, 60.0  # between two looks at a container


class Container(BaseModel):
    model_config = ConfigDict(extra="forbid")

    remote_id: str
    created_at: datetime
    finished: bool = False


class Staged(BaseModel):
    """Containers on Meta's side: children by place, then the one that is published."""

    model_config = ConfigDict(extra="forbid")

    children: dict[int, Container] = {}
    parent: Container | None = None
    failures: int = 0
    quota_asked_at: datetime | None = None


async def prepare(graph: Graph, outgoing: Outgoing, stage: Staged, checkpoint: Checkpoint) -> Staged:
    """Raises NotReady while Meta works on it; called again, it goes on where it was.

    A container that may have been published is never replaced: it is the only handle on what became of it.
    """
    if stage.parent and not outgoing.sent_before and _oldest(stage) < outgoing.now() - LIFE:
        stage.children, stage.parent = {}, None
    if stage.parent:
        stage.parent.finished = False  # it was refused as not ready, or time has passed: ask once more
    if stage.quota_asked_at is None:
        await _quota(graph, outgoing)
        stage.quota_asked_at = outgoing.now()
    if len(outgoing.media) > 1:
        for place, media in enumerate(outgoing.media):
            if place not in stage.children:
                stage.children[place] = await _create(
                    graph, outgoing, stage, _child(outgoing, place, media), checkpoint
                )
                await checkpoint(stage)
        for child in stage.children.values():
            await _finish(graph, outgoing, stage, child, checkpoint)
    if stage.parent is None:
        stage.parent = await _create(graph, outgoing, stage, _whole(outgoing, stage), checkpoint)
        await checkpoint(stage)
    await _finish(graph, outgoing, stage, stage.parent, checkpoint, replaceable=not outgoing.sent_before)
    return stage


def _oldest(stage: Staged) -> datetime:
    made = [*stage.children.values(), *([stage.parent] if stage.parent else [])]
    return min(container.created_at for container in made)


async def still_unpublished(graph: Graph, container: Container) -> None:
    """Before a container goes out once more. Raises OutcomeUnknown where it may be out by now, NotReady, Retry."""
    told, words = await state(graph, container)
    if told == "IN_PROGRESS":
        raise NotReady("Instagram is still processing the media.", retry_in_s=SLOW_S)
    if told != "FINISHED":
        raise answers.lost(f"the container is {told or 'unknown'}: {words}")


async def state(graph: Graph, container: Container) -> tuple[str, str]:
    """(IN_PROGRESS | FINISHED | ERROR | EXPIRED | PUBLISHED, Meta's sentence); the first is sometimes left out."""
    body = await graph.read(container.remote_id, fields="id,status_code,status")
    words = str(body.get("status") or "")
    return str(body.get("status_code") or words.split(":")[0]).strip().upper().replace(" ", "_"), words


async def _quota(graph: Graph, outgoing: Outgoing) -> None:
    """Asked once per preparation. The documents contradict each other, so the number told live counts."""
    path = f"{outgoing.login.account.remote_id}/content_publishing_limit"
    told = next(iter(rows(await graph.read(path, fields="quota_usage,config"))), {})
    total, used = within(told, "config").get("quota_total"), told.get("quota_usage")
    if isinstance(total, int) and isinstance(used, int) and 0 < total <= used:
        raise Throttled(f"Instagram takes {total} posts a day, and they are used up.", retry_in_s=1800, code="quota")


async def _create(
    graph: Graph, outgoing: Outgoing, stage: Staged, form: Mapping[str, str], checkpoint: Checkpoint
) -> Container:
    try:
        body = await graph.post(f"{outgoing.login.account.remote_id}/media", form)
    except Retry as error:
        if error.next_step == refusals.PUBLIC_URL:
            raise await _not_fetched(stage, checkpoint, error) from None
        raise
    if not body.get("id"):
        raise Retry("Instagram took a picture but did not say where it put it.", code="no_id")
    return Container(remote_id=str(body["id"]), created_at=outgoing.now())


async def _not_fetched(stage: Staged, checkpoint: Checkpoint, error: Retry) -> PublishError:
    """Called permanent by Meta and often passing: a few tries, then the reason and who can do something about it."""
    stage.failures += 1
    await checkpoint(stage)
    if stage.failures < TRIES:
        return error
    sentence = f"{error.sentence} It was tried {stage.failures} times."
    return Refused(sentence, code=error.code, next_step=error.next_step, detail=error.detail)


async def _finish(
    graph: Graph,
    outgoing: Outgoing,
    stage: Staged,
    container: Container,
    checkpoint: Checkpoint,
    *,
    replaceable: bool = True,
) -> None:
    if container.finished:
        return
    told, words = await state(graph, container)
    waited = outgoing.now() - container.created_at
    if told in ("FINISHED", "PUBLISHED") or (not replaceable and told in ("ERROR", "EXPIRED")):
        container.finished = True  # the latter is found out, and looked into, before it is published
        await checkpoint(stage)
    elif told in ("ERROR", "EXPIRED") or (waited > STUCK and replaceable):
        raise await _begin_again(stage, checkpoint, words)
    else:
        pause = FAST_S if waited < timedelta(seconds=30) else SLOW_S
        if graph.percent >= usage.HIGH_PERCENT:
            pause = SPARING_S
        raise NotReady("Instagram is still processing the media.", retry_in_s=pause)


async def _begin_again(stage: Staged, checkpoint: Checkpoint, words: str) -> PublishError:
    """New containers, unless Meta's sentence names a fault that stays. Nothing was published: this is before sending."""
    stage.children, stage.parent, stage.failures = {}, None, stage.failures + 1
    await checkpoint(stage)
    known = refusals.of_status(words)
    if known is not None and known.early is Refused:
        return Refused(known.sentence, code="container_error", next_step=known.next_step, detail=words)
    if stage.failures >= TRIES:
        sentence = known.sentence if known else "Instagram could not process the media."
        step = known.next_step if known else "Try other pictures, or publish it in the Instagram app."
        return Refused(f"{sentence} It was tried {TRIES} times.", code="container_error", next_step=step, detail=words)
    return Retry("Instagram could not process the media this time.", code="container_error", detail=words)


# -- what is sent ------------------------------------------------------------------------------------------------


def _whole(outgoing: Outgoing, stage: Staged) -> dict[str, str]:
    """The container that is published. Stories carry no text, no collaborators and no location."""
    content, chosen = outgoing.content, options.of(outgoing.content)
    if options.kind(content) == "story":
        return {**_source(outgoing.media[0]), "media_type": "STORIES", **_tagged(outgoing, 0)}
    if stage.children:
        ids = [stage.children[place].remote_id for place in sorted(stage.children)]
        form = {"media_type": "CAROUSEL", "children": ",".join(ids)}
    else:
        form = _alone(outgoing)
    if chosen.get("collaborators"):
        form["collaborators"] = json.dumps(list(chosen["collaborators"]))
    if chosen.get("location_id"):
        form["location_id"] = str(chosen["location_id"])
    return {**form, "caption": content.text}


def _alone(outgoing: Outgoing) -> dict[str, str]:
    media = outgoing.media[0]
    if media.kind is MediaKind.video:
        return {**_source(media), "media_type": "REELS", "share_to_feed": "true", **_tagged(outgoing, 0)}
    return {**_source(media), **_described(media), **_tagged(outgoing, 0)}


def _child(outgoing: Outgoing, place: int, media: OutgoingMedia) -> dict[str, str]:
    form = {**_source(media), "is_carousel_item": "true"}
    if media.kind is MediaKind.video:
        return {**form, "media_type": "VIDEO"}
    return {**form, **_described(media), **_tagged(outgoing, place)}


def _source(media: OutgoingMedia) -> dict[str, str]:
    return {"video_url" if media.kind is MediaKind.video else "image_url": media.public_url or ""}


def _described(media: OutgoingMedia) -> dict[str, str]:
    return {"alt_text": media.alt_text} if media.alt_text else {}


def _tagged(outgoing: Outgoing, place: int) -> dict[str, str]:
    """Pictures need a position for each tag, videos have none."""
    still = outgoing.media[place].kind is not MediaKind.video
    tags: list[dict[str, Any]] = [
        {"username": tag.username, **({"x": tag.x, "y": tag.y} if still else {})}
        for tag in options.tags(outgoing.content, place + 1)
    ]
    return {"user_tags": json.dumps(tags)} if tags else {}

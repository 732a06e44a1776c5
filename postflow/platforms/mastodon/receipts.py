"""The status a server made, held against what was asked for: whatever it changed or left out is told to the person."""

from collections.abc import Iterator, Mapping
from typing import Any

from postflow.models import Outgoing, Receipt, web_address
from postflow.platforms import answers, software


def receipt(status: Mapping[str, Any], outgoing: Outgoing) -> Receipt:
    return Receipt(
        remote_id=str(status["id"]),
        permalink=link_of(status),
        notes=tuple(_differences(status, outgoing)),
        shortfall=_shortfall(status, outgoing),
    )


def _differences(status: Mapping[str, Any], outgoing: Outgoing) -> Iterator[str]:
    """Only what the answer says for certain: a field it does not have proves nothing."""
    content = outgoing.content
    yield from _media(status, outgoing)
    visibility, wanted = status.get("visibility"), content.visibility.value
    if visibility and visibility != wanted:
        yield f"The server made it “{visibility}” instead of “{wanted}”."
    yield from _hidden(status, outgoing)
    language = status.get("language")
    truthful = outgoing.server.limits.language and outgoing.server.software in software.TELLS_LANGUAGE
    if content.language and language and truthful and not same_language(language, content.language):
        yield f"The server marks its language as “{language}” instead of “{content.language}”."
    if content.poll and "poll" in status and not status["poll"]:
        yield "The server left out the poll."
    parent = outgoing.reply_to_remote_id
    if parent and "in_reply_to_id" in status and str(status["in_reply_to_id"]) != parent:
        yield "The server does not show it as an answer to the part before it."


def _shortfall(status: Mapping[str, Any], outgoing: Outgoing) -> str | None:
    """Pictures that the server dropped without a word: the post is out, and is not what its person wrote."""
    sent, shown = len(outgoing.media), len(answers.objects(status.get("media_attachments")))
    if shown >= sent:
        return None
    lost = "its picture" if sent == 1 else f"{sent - shown} of its {sent} pictures"
    return f"It went out without {lost}: the server left {'it' if sent - shown == 1 else 'them'} out."


def _media(status: Mapping[str, Any], outgoing: Outgoing) -> Iterator[str]:
    shown = answers.objects(status.get("media_attachments"))
    for place, (one, media) in enumerate(zip(shown, outgoing.media, strict=False), start=1):
        if len(shown) == len(outgoing.media) and media.alt_text and "description" in one and not one["description"]:
            yield f"The server left out the description of picture {place}."


def _hidden(status: Mapping[str, Any], outgoing: Outgoing) -> Iterator[str]:
    content, sensitive = outgoing.content, status.get("sensitive")
    if content.text.strip() and content.spoiler_text.strip() and status.get("spoiler_text") == "":
        yield "The server left out the content warning."
    wanted = content.sensitive or bool(content.spoiler_text)
    if wanted and sensitive is False and outgoing.media:
        yield "The server does not hide its pictures."
    if not wanted and sensitive is True:
        yield "The server marked it as sensitive."


def same_language(one: Any, other: str) -> bool:
    """ "pt-BR" is "pt"."""
    return str(one).lower().split("-")[0] == other.lower().split("-")[0]


def link_of(status: Mapping[str, Any]) -> str | None:
    """Its page, else its name on the network."""
    return web_address(status.get("url")) or web_address(status.get("uri"))

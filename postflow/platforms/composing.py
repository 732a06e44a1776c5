"""What a server would refuse, said while composing: the rules that follow from its limits alone."""

from collections.abc import Iterator, Sequence

from postflow.models import Content, Limits, Media, MediaKind, Problem
from postflow.platforms import counting
from postflow.wording import counted


def problems(
    content: Content, media: Sequence[Media], limits: Limits, length: int, *, is_reply: bool = False
) -> list[Problem]:
    return [
        *_text(content, limits, length),
        *_needed(media, limits, is_reply=is_reply),
        *_media(content, media, limits),
        *_poll(content, limits),
    ]


def _text(content: Content, limits: Limits, length: int) -> Iterator[Problem]:
    if length > limits.max_chars:
        over = counted(length - limits.max_chars, "character")
        yield Problem(sentence=f"The text is {over} too long ({limits.max_chars} fit). Shorten it.")
    if not (content.text.strip() or content.spoiler_text.strip() or content.attachments or content.poll):
        yield Problem(sentence="There is nothing to publish yet. Write something or add a picture.")
    if limits.counting == "pixelfed" and length < counting.plain(content.text):
        yield Problem(sentence="“<” opens a tag there: part of the text would vanish.", blocking=False)
    if content.language and not limits.language:
        yield Problem(sentence="The language is not kept there.", field="language", blocking=False)
    if content.spoiler_text and not limits.spoiler:
        yield Problem(
            sentence="Content warnings are not shown there: it is left out.", field="spoiler_text", blocking=False
        )
    most = limits.max_spoiler_chars
    if most is not None and len(content.spoiler_text) > most:
        yield Problem(
            sentence=f"The content warning may have {counted(most, 'character')} at most. Shorten it.",
            field="spoiler_text",
        )
    if content.visibility not in limits.visibilities:
        offered = "; ".join(one.words for one in limits.visibilities)
        asked = content.visibility.words.capitalize()
        sentence = f"“{asked}” is not offered there, only: {offered}. Choose again, or take this account off."
        yield Problem(sentence=sentence, field="visibility")


def _needed(media: Sequence[Media], limits: Limits, *, is_reply: bool) -> Iterator[Problem]:
    """A picture may be a must; an answer to another post goes without."""
    if is_reply and not limits.threads:
        yield Problem(sentence="Threads are not offered there. Take this account off, or leave out the further parts.")
    if len(media) < limits.min_media and not is_reply:
        yield Problem(sentence="A post needs a picture there. Add one, or take this account off.", field="media")


def _media(content: Content, media: Sequence[Media], limits: Limits) -> Iterator[Problem]:
    if len(media) > limits.max_media:
        fits = f"{counted(limits.max_media, 'picture')} {'fits' if limits.max_media == 1 else 'fit'} at most."
        yield Problem(sentence=f"{fits} Remove {len(media) - limits.max_media}.", field="media")
    videos = [one for one in media if one.kind is MediaKind.video]
    if videos and len(videos) < len(media) and not limits.mixed_media:
        mixed = "Pictures and videos cannot be in one post there. Keep one kind, or take this account off."
        yield Problem(sentence=mixed, field="media")
    if len(videos) > limits.max_videos:
        fits = f"{counted(limits.max_videos, 'video')} {'fits' if limits.max_videos == 1 else 'fit'}"
        yield Problem(sentence=f"Only {fits} in a post there. Remove the others.", field="media")
    for place, (one, attachment) in enumerate(zip(media, content.attachments, strict=True)):
        field = f"media.{place}"
        if one.kind is not MediaKind.image and one.mime not in limits.mime_types:
            sentence = f"“{one.filename}” ({one.mime}) is not taken there. Save it in another format, or remove it."
            yield Problem(sentence=sentence, field=field)
        most = limits.max_video_bytes if one.kind is MediaKind.video else limits.max_image_bytes
        if one.kind is not MediaKind.image and one.size_bytes > most:
            yield Problem(
                sentence=f"“{one.filename}” is too large: {most // 1_000_000} MB fit. Make it smaller.", field=field
            )
        pixels = {MediaKind.video: limits.max_video_pixels, MediaKind.gif: limits.max_gif_pixels}.get(one.kind)
        if pixels is not None and one.width * one.height > pixels:
            size = f"{one.width}×{one.height}"
            yield Problem(sentence=f"“{one.filename}” ({size}) has too many pixels: {pixels:,} fit.", field=field)
        if len(attachment.alt_text) > limits.max_description_chars:
            yield Problem(
                sentence=f"This description may have {counted(limits.max_description_chars, 'character')}. Shorten it.",
                field=field,
            )
        if attachment.focus and not limits.focus:
            yield Problem(sentence="The focal point is not kept there.", field=field, blocking=False)
        if not attachment.alt_text.strip():
            sentence = f"“{one.filename}” has no description yet. Say what it shows, for people who cannot see it."
            yield Problem(sentence=sentence, field=field, blocking=False)


def _poll(content: Content, limits: Limits) -> Iterator[Problem]:
    poll = content.poll
    if poll is None:
        return
    if limits.polls is None:
        yield Problem(
            sentence="Polls are not offered there. Take the poll out, or take this account off.", field="poll"
        )
        return
    if not 2 <= len(poll.options) <= limits.polls.max_options:
        yield Problem(sentence=f"A poll needs 2 to {limits.polls.max_options} answers.", field="poll")
    if any(counting.graphemes(option) > limits.polls.max_option_chars for option in poll.options):
        yield Problem(
            sentence=f"An answer may have {counted(limits.polls.max_option_chars, 'character')}.", field="poll"
        )
    if len({option.strip() for option in poll.options}) < len(poll.options):
        yield Problem(sentence="Two answers of the poll are the same.", field="poll")
    if any(not option.strip() for option in poll.options):
        yield Problem(sentence="An answer of the poll is empty.", field="poll")
    if not limits.polls.min_expiration_s <= poll.expires_in_s <= limits.polls.max_expiration_s:
        minutes, days = limits.polls.min_expiration_s // 60, limits.polls.max_expiration_s // 86_400
        yield Problem(
            sentence=f"A poll may run from {counted(minutes, 'minute')} to {counted(days, 'day')}.", field="poll"
        )
    if content.attachments and not limits.poll_with_media:
        yield Problem(sentence="A poll and pictures cannot be in one post there.", field="poll")

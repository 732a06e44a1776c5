"""What Instagram takes, said while composing; and how pictures are made to fit it.

https://developers.facebook.com/docs/instagram-platform/instagram-graph-api/reference/ig-user/media
"""

from collections.abc import Iterator, Sequence

from postflow.media import renditions
from postflow.models import Attachment, Content, Limits, Media, MediaKind, Problem, Server, Visibility
from postflow.platforms import composing, counting
from postflow.platforms.instagram import options

MOST_MENTIONS = 20
NARROWEST, WIDEST = 0.8, 1.91  # width / height of a feed picture
SLIVER = 0.008
STORY_RATIO = 9 / 16
MAX_WIDTH = 1440
REEL_S, STORY_S = (3, 900), (3, 60)
STORY_VIDEO_BYTES = 100_000_000
LIMITS = Limits(
    counting="instagram",
    max_chars=2200,
    max_media=10,
    min_media=1,
    max_videos=10,
    mime_types=("image/jpeg", "video/mp4", "video/quicktime"),
    max_image_bytes=8_000_000,
    max_video_bytes=300_000_000,
    max_description_chars=1000,
    visibilities=(Visibility.public,),
    spoiler=False,
    language=False,
    threads=False,
    focus=False,
    posts_per_day=50,  # the lower of the two numbers Meta names; the account's own is asked while preparing
)


def problems(content: Content, media: Sequence[Media], server: Server, *, most_hashtags: int) -> Iterator[Problem]:
    story = options.kind(content) == "story"
    shown = content.model_copy(update={"text": ""}) if story else content
    for problem in composing.problems(shown, media, server.limits, counting.instagram(shown.text)):
        if not _is_vain_nudge(problem, shown, media, story):
            yield problem
    yield from _descriptions(content, media, story)
    yield from _story(content, media) if story else _feed(content, media, most_hashtags)
    yield from _tags(content, media)
    longest = STORY_S if story else REEL_S
    for place, one in enumerate(media):
        if one.kind is MediaKind.video and one.duration_s and not longest[0] <= one.duration_s <= longest[1]:
            sentence = f"“{one.filename}” must last {longest[0]} to {longest[1]} seconds there."
            yield Problem(sentence=sentence, field=f"media.{place}")


def _keeps_description(media: Media, story: bool) -> bool:
    return not story and media.kind is not MediaKind.video


def _is_vain_nudge(problem: Problem, content: Content, media: Sequence[Media], story: bool) -> bool:
    """A missing description of what Instagram keeps none of."""
    place = problem.field.removeprefix("media.")
    if problem.blocking or not place.isdigit() or content.attachments[int(place)].alt_text.strip():
        return False
    return not _keeps_description(media[int(place)], story)


def _descriptions(content: Content, media: Sequence[Media], story: bool) -> Iterator[Problem]:
    for place, (one, attachment) in enumerate(zip(media, content.attachments, strict=True)):
        if attachment.alt_text and not _keeps_description(one, story):
            sentence = f"Instagram keeps no description of {'stories' if story else 'videos'}: it is left out there."
            yield Problem(sentence=sentence, field=f"media.{place}", blocking=False)


def _feed(content: Content, media: Sequence[Media], most_hashtags: int) -> Iterator[Problem]:
    if counting.hashtags(content.text) > most_hashtags:
        yield Problem(sentence=f"Instagram takes {most_hashtags} hashtags at most.")
    if counting.mentions(content.text) > MOST_MENTIONS:
        yield Problem(sentence=f"Instagram takes {MOST_MENTIONS} mentions at most.")
    if options.kind(content) == "reel" and [one.kind for one in media] != [MediaKind.video]:
        yield Problem(sentence="A reel is one video, nothing else.", field="media")


def _story(content: Content, media: Sequence[Media]) -> Iterator[Problem]:
    if len(media) > 1:
        yield Problem(sentence="A story shows one picture or video.", field="media")
    if content.text.strip():
        yield Problem(sentence="A story shows no text: it is left out there.", blocking=False)
    for name, label in (("collaborators", "collaborators"), ("location_id", "location")):
        if options.of(content).get(name):
            sentence = f"A story has no {label}: that is left out."
            yield Problem(sentence=sentence, field=f"instagram.{name}", blocking=False)
    for place, one in enumerate(media):
        if one.kind is MediaKind.video and one.size_bytes > STORY_VIDEO_BYTES:
            yield Problem(sentence=f"“{one.filename}” is too large for a story: 100 MB fit.", field=f"media.{place}")


def _tags(content: Content, media: Sequence[Media]) -> Iterator[Problem]:
    field = "instagram.user_tags"
    for tag in options.tags(content):
        if tag.place > len(media):
            yield Problem(
                sentence=f"@{tag.username} is tagged in picture {tag.place}, which is not there.", field=field
            )
        elif len(media) > 1 and media[tag.place - 1].kind is MediaKind.video:
            yield Problem(sentence="In a carousel only pictures can carry tags.", field=field)


def recipe(content: Content, media: Media, server: Server, first: Media) -> renditions.Recipe | None:
    """Instagram crops a carousel to its first picture: the others are made to fit that, not cut by chance."""
    if media.kind is MediaKind.video:
        return None
    story = options.kind(content) == "story"
    low, high = (STORY_RATIO, STORY_RATIO) if story else (NARROWEST, WIDEST)
    if len(content.attachments) > 1 and not story:
        low, high = _shape(first)
    pad = story or options.of(content).get("fit") == "pad"
    return renditions.Recipe(
        max_width=MAX_WIDTH,
        max_bytes=server.limits.max_image_bytes,
        mime_types=("image/jpeg",),
        min_ratio=low,
        max_ratio=high,
        fit="pad" if pad else "crop",
        focus=None if pad else next((one.focus for one in _uses(content, media)), None),
    )


def _shape(first: Media) -> tuple[float, float]:
    """A sliver of ratios around the first picture's, so that whole pixels fit into it. A video whose size could not be
    read counts as square, as Instagram has it.
    """
    ratio = first.width / first.height if first.width and first.height else 1.0
    low = min(max(ratio - SLIVER / 2, NARROWEST), WIDEST - SLIVER)
    return round(low, 4), round(low + SLIVER, 4)


def _uses(content: Content, media: Media) -> Iterator[Attachment]:
    return (one for one in content.attachments if one.media_id == media.id)

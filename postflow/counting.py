"""How long a text is, exactly as each network counts. `web/static/js/counting.js` gives the same numbers.

Mastodon: app/validators/status_length_validator.rb (grapheme clusters; a link counts 23; @user@host counts as @user).
Pixelfed: plain characters after strip_tags. GoToSocial: runes, links in full. Instagram: plain characters.
"""

import regex

#: http(s) only: without a scheme a link counts in full. The end leaves closing punctuation to the sentence.
_URL = regex.compile(
    r"https?://[^\s<>\"'()\[\]{}]+(?:\([^\s<>\"'()]*\)[^\s<>\"'()\[\]{}]*)*(?<![.,:;!?…])", regex.IGNORECASE
)
_MENTION = regex.compile(r"(?<![\w=/])@(\w+(?:[\w.-]+\w)?)@[\w.-]+\w")
_TAG = regex.compile(r"<[^>]*>?")
_GRAPHEME = regex.compile(r"\X")


def mastodon(text: str, spoiler: str = "", *, per_url: int = 23) -> int:
    counted = _MENTION.sub(r"@\1", _URL.sub("x" * per_url, text))
    return len(_GRAPHEME.findall(spoiler)) + len(_GRAPHEME.findall(counted))


def pixelfed(text: str) -> int:
    return len(_TAG.sub("", text))


def gotosocial(text: str, spoiler: str = "") -> int:
    return len(text) + len(spoiler)


def plain(text: str) -> int:
    return len(text)


def instagram(text: str) -> int:
    return len(text)


def hashtags(text: str) -> int:
    return len(regex.findall(r"(?<!\w)#\w+", text))


def mentions(text: str) -> int:
    return len(regex.findall(r"(?<![\w.])@[\w.]+", text))

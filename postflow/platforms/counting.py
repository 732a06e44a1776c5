"""How long a text is, exactly as each network counts. `web/static/js/counting.js` gives the same numbers.

Mastodon: app/validators/status_length_validator.rb with twitter-text's idea of a link (grapheme clusters; a link counts
23; @user@host counts as @user). Akkoma and Pleroma: grapheme clusters, links in full. Pixelfed: characters after PHP's
strip_tags. GoToSocial: code points, links in full. Takahē: code points of the text alone. Instagram: characters. The
shared cases are in tests/postflow/counting_cases.json.
"""

import regex

_WORD = r"\p{L}\p{M}\p{N}\p{Pc}"
# A link: a scheme, then a name that ends in letters. Numbers, [::1] and user:password@ are no links to Mastodon.
_NAME = rf"(?:[{_WORD}](?:[{_WORD}-]*[{_WORD}])?\.)+(?:xn--[a-z0-9-]+|\p{{L}}[\p{{L}}\p{{M}}]+)(?![a-z0-9@+-])"
_PATH_CHAR = r"[^\p{White_Space}<>()?]"
_PARENS = rf"\((?:{_PATH_CHAR}+|{_PATH_CHAR}*\({_PATH_CHAR}+\){_PATH_CHAR}*)\)"
_PATH_END = r"""[^\p{White_Space}()?!*"'「」<>;:=,.$%\[\]~&|@]"""  # what closes a sentence does not close a link
_PATH = rf"/(?:(?:{_PATH_CHAR}|{_PARENS})*(?:{_PATH_END}|{_PARENS}))?"
_UNICODE = r"\u00a0-\ud7ff\ue000-\uffef\U00010000-\U0010fffd"
_QUERY = rf"\?[a-z0-9!?*'();:&=+$/%#\[\]\-_.,~|@^{_UNICODE}]*[a-z0-9_&=#/\-{_UNICODE}]"
_URL = rf"(?<![a-z0-9@＠$#＃\u202a-\u202e])https?://{_NAME}(?::\d+)?(?:{_PATH})?(?:{_QUERY})?"
_USER = rf"(?<![=/{_WORD}])@(?<user>[a-z0-9_]+(?:[.-]+[a-z0-9_]+)*)"
_MENTION = rf"{_USER}@[{_WORD}]+(?:[.-]+[{_WORD}]+)*(?![.-]*[{_WORD}]|[@＠]|://)"

_LINK_OR_MENTION = regex.compile(f"{_URL}|{_MENTION}", regex.IGNORECASE)
_GRAPHEME = regex.compile(r"\X")
# strip_tags takes `<` before a space for a smaller-than sign; any other `<` opens a tag, closed or not.
_TAG = regex.compile(
    r"""<!--(?:(?!-->)[\s\S])*(?:-->|\Z)|<(?![ \t\n\r\v\f])(?:"[^"]*(?:"|\Z)|'[^']*(?:'|\Z)|[^>"'])*(?:>|\Z)"""
)
_HASHTAG = regex.compile(rf"(?<![{_WORD}&])#[{_WORD}]+")
_HANDLE = regex.compile(rf"(?<![{_WORD}.])@[{_WORD}](?:[{_WORD}.]*[{_WORD}])?")


def length(text: str, spoiler: str, how: str, *, per_url: int = 23) -> int:
    """`how` is a server's `Limits.counting`: the name of one of the functions below."""
    if how == "mastodon":
        return mastodon(text, spoiler, per_url=per_url)
    if how in ("gotosocial", "graphemes"):
        return graphemes(text, spoiler) if how == "graphemes" else gotosocial(text, spoiler)
    return {"pixelfed": pixelfed, "plain": plain, "instagram": instagram}[how](text)


def mastodon(text: str, spoiler: str = "", *, per_url: int = 23) -> int:
    """Grapheme clusters of the content warning and of the text, links and mentions shortened."""

    def shortened(found: regex.Match[str]) -> str:
        return f"@{found['user']}" if found["user"] else "x" * per_url

    return graphemes(spoiler) + graphemes(_LINK_OR_MENTION.sub(shortened, text))


def graphemes(text: str, spoiler: str = "") -> int:
    """What a person calls a character: a flag or a family is one. Akkoma counts so; Mastodon the answers of a poll."""
    return len(_GRAPHEME.findall(text)) + len(_GRAPHEME.findall(spoiler))


def pixelfed(text: str) -> int:
    return len(_TAG.sub("", text))


def gotosocial(text: str, spoiler: str = "") -> int:
    return len(text) + len(spoiler)


def plain(text: str) -> int:
    return len(text)


def instagram(text: str) -> int:
    return len(text)


def hashtags(text: str) -> int:
    return len(_HASHTAG.findall(text))


def mentions(text: str) -> int:
    """@names as Instagram reads them."""
    return len(_HANDLE.findall(text))

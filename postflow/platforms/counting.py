"""How long a text is, exactly as each network counts. `web/static/js/counting.js` gives the same numbers.

Mastodon: app/validators/status_length_validator.rb with twitter-text's idea of a link (grapheme clusters; a link counts
23; @user@host counts as @user). Akkoma and Pleroma: grapheme clusters, links in full. Pixelfed: characters after PHP's
strip_tags. GoToSocial: code points, links in full. Takahē: code points of the text alone. Instagram: characters. The
shared cases are in tests/postflow/counting_cases.json.

Texts come from anybody who is signed in, so all of it takes time in proportion to their length: what cannot be matched
again after giving back is possessive (`++`, `*+`), and a link's name is walked label by label.
"""

from collections.abc import Iterator

import regex

_WORD = r"\p{L}\p{M}\p{N}\p{Pc}"
# A link: a scheme, then a name that ends in letters. Numbers, [::1] and user:password@ are no links to Mastodon.
_LABEL = rf"[{_WORD}](?:[{_WORD}-]*+(?<=[{_WORD}]))?"
_NAME_END = r"(?:xn--[a-z0-9-]+|\p{L}[\p{L}\p{M}]+)(?![a-z0-9@+-])"
_PATH_CHAR = r"[^\p{White_Space}<>()?]"
_PARENS = rf"\((?:{_PATH_CHAR}+|{_PATH_CHAR}*\({_PATH_CHAR}+\){_PATH_CHAR}*)\)"
_PATH_END = r"""[^\p{White_Space}()?!*"'「」<>;:=,.$%\[\]~&|@]"""  # what closes a sentence does not close a link
_PATH = rf"/(?:(?:{_PATH_CHAR}|{_PARENS})*(?:{_PATH_END}|{_PARENS}))?"
_UNICODE = r"\u00a0-\ud7ff\ue000-\uffef\U00010000-\U0010fffd"
_QUERY = rf"\?[a-z0-9!?*'();:&=+$/%#\[\]\-_.,~|@^{_UNICODE}]*[a-z0-9_&=#/\-{_UNICODE}]"
_USER = r"@(?<user>[a-z0-9_]++(?:[.-]++[a-z0-9_]++)*+)"

_START = regex.compile(rf"(?<![a-z0-9@＠$#＃\u202a-\u202e])https?://|(?<![=/{_WORD}])(?=@[a-z0-9_])", regex.IGNORECASE)
_LINK_LABEL = regex.compile(_LABEL)
_LINK_NAME_END = regex.compile(_NAME_END, regex.IGNORECASE)
_LINK_REST = regex.compile(rf"(?::\d+)?(?:{_PATH})?(?:{_QUERY})?", regex.IGNORECASE)
_MENTION = regex.compile(rf"{_USER}@[{_WORD}]++(?:[.-]++[{_WORD}]++)*+(?![.-]*[{_WORD}]|[@＠]|://)", regex.IGNORECASE)
_GRAPHEME = regex.compile(r"\X")
# Flags are pairs of these, and `\X` looks back to where a row of them began.
_FLAGS = regex.compile(r"([\U0001f1e6-\U0001f1ff]{2})((?:[\U0001f1e6-\U0001f1ff]{2})++)")
# strip_tags takes `<` before a space for a smaller-than sign; any other `<` opens a tag, closed or not.
_TAG = regex.compile(
    r"""<!--(?:(?!-->)[\s\S])*+(?:-->|\Z)|<(?![ \t\n\r\v\f])(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z)|[^>"'])*+(?:>|\Z)"""
)
_HASHTAG = regex.compile(rf"(?<![{_WORD}&])#[{_WORD}]++")
_HANDLE = regex.compile(rf"(?<![{_WORD}.])@[{_WORD}]")


def length(text: str, spoiler: str, how: str, *, per_url: int = 23) -> int:
    """`how` is a server's `Limits.counting`: the name of one of the functions below."""
    if how == "mastodon":
        return mastodon(text, spoiler, per_url=per_url)
    if how in ("gotosocial", "graphemes"):
        return graphemes(text, spoiler) if how == "graphemes" else gotosocial(text, spoiler)
    return {"pixelfed": pixelfed, "plain": plain, "instagram": instagram}[how](text)


def mastodon(text: str, spoiler: str = "", *, per_url: int = 23) -> int:
    """Grapheme clusters of the content warning and of the text, links and mentions shortened."""
    return graphemes("".join(_shortened(text, "x" * per_url)), spoiler)


def _shortened(text: str, link: str) -> Iterator[str]:
    """The text in pieces: `link` for each link, @user for @user@host."""
    done = at = 0
    while start := _START.search(text, at):
        at, instead = _link_end(text, start.end()), link
        if start.end() == start.start():
            mention = _MENTION.match(text, start.start())
            at, instead = (mention.end(), f"@{mention['user']}") if mention else (None, "")
        if at is None:
            at = start.start() + 1
            continue
        yield text[done : start.start()]
        yield instead
        done = at
    yield text[done:]


def _link_end(text: str, at: int) -> int | None:
    """Of the link whose name begins here: the longest name that ends in letters, and what hangs on it."""
    starts = []
    # The dot is no part of the pattern: `regex` would look for one to the end of the text before it begins to match.
    while (label := _LINK_LABEL.match(text, at)) and text.startswith(".", label.end()):
        starts.append(at := label.end() + 1)
    for start in reversed(starts):
        if name := _LINK_NAME_END.match(text, start):
            rest = _LINK_REST.match(text, name.end())
            return rest.end() if rest else name.end()
    return None


def graphemes(text: str, spoiler: str = "") -> int:
    """What a person calls a character: a flag or a family is one. Akkoma counts so; Mastodon the answers of a poll."""
    return _clusters(text) + _clusters(spoiler)


def _clusters(text: str) -> int:
    """Of a row of flags all but the first and the last stand for themselves alone."""
    rows = _FLAGS.split(text)
    return sum(len(row) // 2 for row in rows[2::3]) + len(_GRAPHEME.findall(_FLAGS.sub(r"\1", text)))


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

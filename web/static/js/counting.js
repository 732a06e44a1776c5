// How long a text is, as each network counts it. The same numbers as postflow/counting.py: both are held against
// tests/postflow/counting_cases.json. Change one, change the other.

const WORD = String.raw`\p{L}\p{M}\p{N}\p{Pc}`;
// A link: a scheme, then a name that ends in letters. Numbers, [::1] and user:password@ are no links to Mastodon.
const NAME = String.raw`(?:[${WORD}](?:[${WORD}\-]*[${WORD}])?\.)+(?:xn--[a-z0-9\-]+|\p{L}[\p{L}\p{M}]+)(?![a-z0-9@+\-])`;
const PATH_CHAR = String.raw`[^\p{White_Space}<>()?]`;
const PARENS = String.raw`\((?:${PATH_CHAR}+|${PATH_CHAR}*\(${PATH_CHAR}+\)${PATH_CHAR}*)\)`;
const PATH_END = String.raw`[^\p{White_Space}()?!*"'「」<>;:=,.$%\[\]~&\|@]`;
const PATH = String.raw`/(?:(?:${PATH_CHAR}|${PARENS})*(?:${PATH_END}|${PARENS}))?`;
const UNICODE = String.raw`\u00a0-\ud7ff\ue000-\uffef\u{10000}-\u{10fffd}`;
const QUERY = String.raw`\?[a-z0-9!?*'();:&=+$/%#\[\]\-_.,~\|@^${UNICODE}]*[a-z0-9_&=#/\-${UNICODE}]`;
const LINK = String.raw`(?<![a-z0-9@＠$#＃\u202a-\u202e])https?://${NAME}(?::\d+)?(?:${PATH})?(?:${QUERY})?`;
const USER = String.raw`(?<![=/${WORD}])@(?<user>[a-z0-9_]+(?:[.\-]+[a-z0-9_]+)*)`;
const MENTION = String.raw`${USER}@[${WORD}]+(?:[.\-]+[${WORD}]+)*(?![.\-]*[${WORD}]|[@＠]|://)`;

const LINK_OR_MENTION = new RegExp(`${LINK}|${MENTION}`, "giu");
const TAG = /<!--(?:(?!-->)[\s\S])*(?:-->|$)|<(?![ \t\n\r\v\f])(?:"[^"]*(?:"|$)|'[^']*(?:'|$)|[^>"'])*(?:>|$)/gu;
const HASHTAG = new RegExp(String.raw`(?<![${WORD}&])#[${WORD}]+`, "gu");
const HANDLE = new RegExp(String.raw`(?<![${WORD}.])@[${WORD}](?:[${WORD}.]*[${WORD}])?`, "gu");
const segmenter = new Intl.Segmenter(undefined, { granularity: "grapheme" });

const clusters = (text) => [...segmenter.segment(text)].length;
const graphemes = (text, spoiler = "") => clusters(text) + clusters(spoiler);
const plain = (text) => [...text].length;

function mastodon(text, spoiler = "", perUrl = 23) {
  const shortened = text.replace(LINK_OR_MENTION, (...found) => {
    const { user } = found.at(-1);
    return user ? `@${user}` : "x".repeat(perUrl);
  });
  return graphemes(spoiler) + graphemes(shortened);
}

// By the names of the functions in counting.py, each (text, spoiler, perUrl).
export const count = {
  mastodon,
  graphemes,
  plain,
  pixelfed: (text) => plain(text.replace(TAG, "")),
  gotosocial: (text, spoiler = "") => plain(text) + plain(spoiler),
  instagram: plain,
  hashtags: (text) => (text.match(HASHTAG) ?? []).length,
  mentions: (text) => (text.match(HANDLE) ?? []).length,
};

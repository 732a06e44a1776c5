// How long a text is, as each network counts: the same numbers as postflow/counting.py (a test compares them).

const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });
const URLS = /https?:\/\/[^\s<>"'()[\]{}]+(?:\([^\s<>"'()]*\)[^\s<>"'()[\]{}]*)*(?<![.,:;!?…])/giu;
const MENTIONS = /(?<![\p{L}\p{M}\p{N}_=/])@([\p{L}\p{M}\p{N}_]+(?:[\p{L}\p{M}\p{N}_.-]+[\p{L}\p{M}\p{N}_])?)@[\p{L}\p{M}\p{N}_.-]+[\p{L}\p{M}\p{N}_]/gu;

const clusters = (text) => [...graphemes.segment(text)].length;
const runes = (text) => [...text].length;

export const count = {
  mastodon: (text, spoiler = "", perUrl = 23) =>
    clusters(spoiler) + clusters(text.replace(URLS, "x".repeat(perUrl)).replace(MENTIONS, "@$1")),
  pixelfed: (text) => runes(text.replace(/<[^>]*>?/g, "")),
  gotosocial: (text, spoiler = "") => runes(text) + runes(spoiler),
  plain: (text) => runes(text),
  instagram: (text) => runes(text),
};

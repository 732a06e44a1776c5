"""A statement's parts that can be taken out one by one: each condition at any depth, each alternative, each column that it
sets, each of several values of which one is chosen. No parser of SQL, only as much as the statements of the heart need.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

#: Words and signs; `::` and `->` belong to what stands beside them.
_TOKEN = re.compile(r"'(?:[^']|'')*'|%\(\w+\)s|[\w.]+|[^\w\s]")
#: What a condition ends with, on its own depth.
_ENDS = {
    "RETURNING",
    "ORDER",
    "LIMIT",
    "FOR",
    "UNION",
    "GROUP",
    "HAVING",
    "WHERE",
    "FROM",
    "JOIN",
    "ON",
    "THEN",
    "SELECT",
}
#: Functions that choose among what they are given.
_CHOICES = {"coalesce", "greatest", "least"}


class Piece(NamedTuple):
    """`kind` says what is left in its place: of a `condition` true, of an `alternative` false, of a `value` its NULL, of a
    `column` that it stays as it is.
    """

    kind: str
    text: str
    start: int
    end: int

    def out_of(self, sql: str) -> str:
        return f"{sql[: self.start]}{self._left_in(sql)}{sql[self.end :]}"

    def _left_in(self, sql: str) -> str:
        if self.kind == "column":
            name = self.text.split(" ", 1)[0]
            return f"{name} = {_target(sql)}.{name}"
        if self.kind == "value":
            return "NULL" if self.text.startswith("%(") else f"CASE WHEN false THEN {self.text} END"
        return "true" if self.kind == "condition" else "false"


def _target(sql: str) -> str:
    """What an UPDATE calls the table that it changes."""
    found = re.search(r"UPDATE (\w+)\s+(?:(?!SET)(\w+)\s+)?SET", sql)
    assert found, sql
    return found[2] or found[1]


class _Token(NamedTuple):
    text: str
    start: int
    end: int
    depth: int  # of parentheses and CASEs around it


def pieces(sql: str) -> list[Piece]:
    """In the order in which they stand there; a group comes before what it consists of."""
    tokens = list(_tokens(sql))
    found: dict[tuple[str, int, int], Piece] = {}
    for at, token in enumerate(tokens):
        if token.text in ("WHERE", "WHEN") or (token.text == "ON" and tokens[at + 1].text != "CONFLICT"):
            if token.text == "WHEN" and _is_simple_case(tokens, at):
                continue
            _conditions(sql, _until(tokens, at + 1, token.depth, _ENDS), found)
        if token.text == "SET":
            for part in _split(_until(tokens, at + 1, token.depth, {"WHERE", "FROM"}), token.depth, ","):
                _add(found, sql, "column", part)
        if token.text in _CHOICES:
            for part in _split(_until(tokens, at + 2, token.depth + 1, set()), token.depth + 1, ","):
                _add(found, sql, "value", part)
    return sorted(found.values(), key=lambda piece: (piece.start, -piece.end))


def _conditions(sql: str, tokens: list[_Token], found: dict[tuple[str, int, int], Piece]) -> None:
    for part in _split(tokens, tokens[0].depth, "AND"):
        _add(found, sql, "condition", part)
        inner = _unwrapped(part[1:] if part[0].text == "NOT" else part)
        _alternatives(sql, inner, found)
        if len(_split(inner, inner[0].depth, "AND")) > 1:
            _conditions(sql, inner, found)


def _alternatives(sql: str, tokens: list[_Token], found: dict[tuple[str, int, int], Piece]) -> None:
    parts = _split(tokens, tokens[0].depth, "OR")
    for part in parts if len(parts) > 1 else []:
        _add(found, sql, "alternative", part)
        inner = _unwrapped(part)
        if len(_split(inner, inner[0].depth, "AND")) > 1:
            _conditions(sql, inner, found)


def _unwrapped(tokens: list[_Token]) -> list[_Token]:
    while tokens[0].text == "(" and tokens[-1].text == ")" and all(one.depth > tokens[0].depth for one in tokens[1:-1]):
        tokens = tokens[1:-1]
    return tokens


def _add(found: dict[tuple[str, int, int], Piece], sql: str, kind: str, tokens: list[_Token]) -> None:
    start, end = tokens[0].start, tokens[-1].end
    found.setdefault((kind, start, end), Piece(kind, " ".join(sql[start:end].split()), start, end))


def _tokens(sql: str) -> Iterator[_Token]:
    depth = 0
    for match in _TOKEN.finditer(sql):
        text = match[0]
        depth -= text in (")", "END")
        yield _Token(text, match.start(), match.end(), depth)
        depth += text in ("(", "CASE")


def _until(tokens: list[_Token], first: int, depth: int, ends: set[str]) -> list[_Token]:
    last = first
    while (
        last < len(tokens)
        and tokens[last].depth >= depth
        and not (tokens[last].depth == depth and tokens[last].text in ends)
    ):
        last += 1
    return tokens[first:last]


def _split(tokens: list[_Token], depth: int, at: str) -> list[list[_Token]]:
    parts: list[list[_Token]] = [[]]
    for token in tokens:
        if token.text == at and token.depth == depth:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _is_simple_case(tokens: list[_Token], at: int) -> bool:
    """`CASE x WHEN 1`: what follows is a value."""
    before = at - 1
    while tokens[before].text != "CASE" or tokens[before].depth != tokens[at].depth - 1:
        before -= 1
    return tokens[before + 1].text != "WHEN"

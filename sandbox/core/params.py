"""The parameters of a request, however they were sent: query, form, multipart or JSON, nested as Rails nests
them.
"""

import io
import json
import re
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from sandbox.core.wire import Request

_KEYS = re.compile(r"\[([^\]]*)\]")
_FALSE = {"", "0", "f", "false", "off", "no"}


@dataclass(slots=True, frozen=True)
class File:
    """An uploaded file."""

    name: str
    content_type: str
    body: bytes


class Malformed(ValueError):
    """The body says it is JSON (or a form) and is not."""


class Params:
    """Merged parameters; a value is a str, number, bool, None, list or dict."""

    def __init__(self, values: dict[str, Any], files: dict[str, File]) -> None:
        self.values = values
        self.files = files

    def text(self, name: str, default: str = "") -> str:
        """The value as text; lists give their last entry, JSON null gives the default."""
        value = self.values.get(name)
        if isinstance(value, list):
            value = value[-1] if value else None
        if value is None:
            return default
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value)

    def has(self, name: str) -> bool:
        """Was it sent, and not as null?"""
        return self.values.get(name) is not None

    def many(self, name: str) -> list[str]:
        """A list of texts from `name[]=`, `name[0]=`, a JSON list, or one plain value."""
        value = self.values.get(name)
        if value is None or value == "":
            return []
        if isinstance(value, dict):
            value = list(value.values())
        return [str(item) for item in value] if isinstance(value, list) else [str(value)]

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean as forms and JSON write it."""
        return self.text(name).lower() not in _FALSE if self.has(name) else default

    def number(self, name: str, default: int) -> int:
        """A whole number; the default when absent or unreadable."""
        try:
            return int(self.text(name))
        except ValueError:
            return default

    def nested(self, name: str) -> dict[str, Any]:
        """An object such as `poll[options][]`; empty when absent."""
        value = self.values.get(name)
        return value if isinstance(value, dict) else {}


def read(request: Request) -> Params:
    """Parse query and body; raises Malformed for a body that is not what its type says."""
    pairs = urllib.parse.parse_qsl(request.query, keep_blank_values=True)
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    files: dict[str, File] = {}
    values: dict[str, Any] = {}
    if kind == "application/json" and request.body.strip():
        values = _json_object(request.body)
    elif kind == "multipart/form-data":
        form, files = _multipart(request.body, kind, options)
        pairs += form
    elif kind == "application/x-www-form-urlencoded":
        pairs += urllib.parse.parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True)
    return Params({**nest(pairs), **values}, files)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise Malformed(str(error)) from error
    if not isinstance(value, dict):
        raise Malformed("a JSON object was expected")
    return value


def _multipart(body: bytes, kind: str, options: dict[str, str]) -> tuple[list[tuple[str, str]], dict[str, File]]:
    parser = FormDataParser(stream_factory=lambda *_a, **_k: io.BytesIO(), silent=False)
    try:
        _, form, uploads = parser.parse(io.BytesIO(body), kind, len(body), options)
    except ValueError as error:
        raise Malformed(str(error)) from error
    files = {
        name: File(part.filename or "", part.mimetype, part.stream.read()) for name, part in uploads.items(multi=True)
    }
    return list(form.items(multi=True)), files


def nest(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """`[("a[b][]", "1"), ("a[b][]", "2"), ("c", "3")]` -> `{"a": {"b": ["1", "2"]}, "c": "3"}`."""
    result: dict[str, Any] = {}
    for name, value in pairs:
        first, _, rest = name.partition("[")
        keys = [first, *_KEYS.findall("[" + rest)] if rest else [name]
        _insert(result, keys, value)
    return result


def _insert(target: dict[str, Any], keys: list[str], value: str) -> None:
    for position, key in enumerate(keys):
        following = keys[position + 1 : position + 2]
        if not following:
            target[key] = value
        elif following == [""]:
            target.setdefault(key, []).append(value)
            return
        else:
            child = target.setdefault(key, {})
            if not isinstance(child, dict):
                return
            target = child

"""The media and media_files tables as the web uses them: uploads, their originals and what is made of them."""

import hashlib
from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from psycopg import Connection
from psycopg.rows import class_row

from postflow.errors import NotFound
from postflow.media import decoding, renditions
from postflow.media.uploads import Facts
from postflow.media.videos import Source
from postflow.models import Media, MediaKind

COLUMNS: LiteralString = """
    id, user_id, filename, kind, mime, size_bytes, width, height, duration_s, sha256, created_at
"""


PIECE_BYTES = 256 * 1024


class File(NamedTuple):
    mime: str
    data: bytes


def store(conn: Connection, user_id: int, filename: str, data: Source) -> Media:
    """An upload, verified by its content; a large one goes to the database in pieces. Raises Invalid({"media": sentence})."""
    facts = decoding.inspect(data, filename)
    with conn.cursor(row_factory=class_row(Media)) as cursor:
        media = cursor.execute(
            "INSERT INTO media (user_id, filename, kind, mime, size_bytes, width, height, duration_s, sha256)"
            " VALUES (%(user_id)s, %(filename)s, %(kind)s, %(mime)s, %(size)s, %(width)s, %(height)s, %(duration_s)s,"
            " %(sha256)s) RETURNING " + COLUMNS,
            {
                **facts.model_dump(mode="json"),
                "user_id": user_id,
                "filename": filename[:200] or "picture",
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            },
        ).fetchone()
    assert media
    _stream(conn, media.id, facts, data)
    return media


def get_many(conn: Connection, user_id: int, ids: Sequence[int]) -> list[Media]:
    """One's own, in the order asked for; others are not there."""
    with conn.cursor(row_factory=class_row(Media)) as cursor:
        found = {
            media.id: media
            for media in cursor.execute(
                "SELECT " + COLUMNS + " FROM media WHERE user_id = %(user_id)s AND id = ANY(%(ids)s)",
                {"user_id": user_id, "ids": list(ids)},
            ).fetchall()
        }
    return [found[one] for one in ids if one in found]


def thumbnail(conn: Connection, user_id: int, media_id: int) -> File:
    """Small enough for a page. Videos have none. Raises NotFound."""
    return rendition(conn, user_id, media_id, renditions.THUMBNAIL)


def rendition(conn: Connection, user_id: int, media_id: int, recipe: renditions.Recipe) -> File:
    """Made at the first look and kept: a worker that needs the same finds it ready. Raises NotFound, Invalid."""
    [media] = get_many(conn, user_id, [media_id]) or [None]
    if media is None or media.kind is MediaKind.video:
        raise NotFound("There is no such picture.")
    kept = _file(conn, media_id, recipe.key)
    if kept is None:
        made = decoding.render(_original(conn, media_id), recipe)
        _keep(conn, media_id, recipe.key, made.mime, made.width, made.height, made.data)
        kept = File(made.mime, made.data)
    return kept


def public_file(conn: Connection, media_id: int, recipe: str) -> File:
    """For whoever holds a signed link (`postflow.links`). Raises NotFound."""
    found = _file(conn, media_id, recipe)
    if found is None:
        raise NotFound("There is nothing at this address any more.")
    return found


def _original(conn: Connection, media_id: int) -> bytes:
    return public_file(conn, media_id, "").data


def _file(conn: Connection, media_id: int, recipe: str) -> File | None:
    row = conn.execute(
        "SELECT mime, data FROM media_files WHERE media_id = %(id)s AND recipe = %(recipe)s",
        {"id": media_id, "recipe": recipe},
        binary=True,
    ).fetchone()
    return File(row[0], bytes(row[1])) if row else None


def _stream(conn: Connection, media_id: int, facts: Facts, data: Source) -> None:
    """The original. A parameter would be copied three times on its way; COPY takes its one row in pieces (PostgreSQL,
    "COPY", Binary Format).
    """
    small = (
        media_id.to_bytes(8), b"", facts.mime.encode(), facts.width.to_bytes(4), facts.height.to_bytes(4)
    )  # fmt: skip
    row = (len(small) + 1).to_bytes(2) + b"".join(len(field).to_bytes(4) + field for field in small)
    columns: LiteralString = "media_id, recipe, mime, width, height, data"
    with conn.cursor().copy("COPY media_files (" + columns + ") FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8) + row + len(data).to_bytes(4))
        for start in range(0, len(data), PIECE_BYTES):
            copy.write(data[start : start + PIECE_BYTES])
        copy.write(b"\xff\xff")


def _keep(conn: Connection, media_id: int, recipe: str, mime: str, width: int, height: int, data: bytes) -> None:
    conn.execute(
        """
        INSERT INTO media_files (media_id, recipe, mime, width, height, data)
        VALUES (%(id)s, %(recipe)s, %(mime)s, %(width)s, %(height)s, %(data)s) ON CONFLICT DO NOTHING
        """,
        {"id": media_id, "recipe": recipe, "mime": mime, "width": width, "height": height, "data": data},
    )

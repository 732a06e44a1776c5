"""Files the pages need: style sheet, avatars drawn from a name, and the pictures that were uploaded."""

import colorsys
import functools
import hashlib
import importlib.resources
import io

from PIL import Image, ImageDraw

from sandbox.core import pages, wire
from sandbox.core.call import Call
from sandbox.core.family import Route

_CACHED = [("Cache-Control", "public, max-age=3600")]


async def stylesheet(call: Call) -> wire.Response:
    """GET /static/sandbox.css"""
    return wire.Response(200, _stylesheet(), "text/css; charset=utf-8", list(_CACHED))


async def avatar(call: Call, name: str) -> wire.Response:
    """GET /avatars/NAME.png"""
    return wire.Response(200, draw_avatar(name), "image/png", list(_CACHED))


async def preview(call: Call) -> wire.Response:
    """GET /static/preview.png and other pictures every server has"""
    return wire.Response(200, draw_avatar(call.instance.name), "image/png", list(_CACHED))


async def media_file(call: Call, key: str) -> wire.Response:
    """GET /system/media/ID/SIZE/NAME"""
    upload = call.network.store.uploads.get(key)
    if upload is None or upload.instance != call.instance.name:
        return pages.not_found(call)
    body = call.network.store.picture(upload.sha256)
    if body is None:  # let go to save memory
        return wire.Response(200, draw_avatar(upload.sha256), "image/png")
    return wire.Response(200, body, upload.mime, list(_CACHED))


@functools.lru_cache(maxsize=512)
def draw_avatar(name: str) -> bytes:
    """A 120 px PNG of five by five mirrored squares in a colour of its own."""
    digest = hashlib.sha256(name.encode()).digest()
    red, green, blue = colorsys.hsv_to_rgb(digest[0] / 255, 0.62, 0.72)
    ink = (round(red * 255), round(green * 255), round(blue * 255))
    picture = Image.new("RGB", (120, 120), (244, 241, 236))
    draw = ImageDraw.Draw(picture)
    for row in range(5):
        for column in range(5):
            if digest[3 + row * 3 + min(column, 4 - column)] % 2:
                left, top = 10 + column * 20, 10 + row * 20
                draw.rectangle((left, top, left + 19, top + 19), fill=ink)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


@functools.cache
def _stylesheet() -> bytes:
    return importlib.resources.files("sandbox.core").joinpath("static/sandbox.css").read_bytes()


ROUTES: list[Route] = [
    ("GET", r"/static/sandbox\.css", stylesheet),
    ("GET", r"/static/preview\.png|/headers/original/missing\.png|/favicon\.ico", preview),
    ("GET", r"/avatars/([^/]+)\.png", avatar),
    ("GET", r"/system/media/(\w+)/(?:original|small)/[\w.]+", media_file),
]

"""What an uploaded file really is: decided by its content, never by its name or claimed type. What lies, hides something
or would burst our memory is refused with a sentence that says what to do.
"""

import contextlib
import importlib
import io
import mmap
import warnings
from collections.abc import Callable, Iterator
from typing import IO, cast

import structlog
from PIL import Image

from postflow.errors import Invalid
from postflow.media import videos
from postflow.media.videos import Source
from postflow.models import MediaKind, Value

log = structlog.stdlib.get_logger("postflow.media.uploads")

#: Most are decoded whole, at four bytes a pixel and more, those with transparency several times over.
MOST_PIXELS, MOST_WITH_ALPHA = 25_000_000, 12_500_000
#: JPEG is decoded at the size that is needed; a progressive one is held whole all the same.
MOST_JPEG_PIXELS, MOST_PROGRESSIVE = 120_000_000, 40_000_000
#: A progressive JPEG comes in some ten scans, each of which goes over the whole picture.
MOST_SCANS = 60
_STILL = {
    "JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "AVIF": "image/avif", "GIF": "image/gif",
    "HEIF": "image/heic",
}  # fmt: skip
_AVIF = frozenset({b"avif", b"avis"})
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_ACCEPTED = "only JPEG, PNG, WebP, AVIF and GIF pictures and MP4 or WebM videos can be used"
#: What people drop by mistake, by how it starts (a "<" may stand a little later).
_OTHERS = (
    (b"<svg", "it is an SVG drawing, which networks do not take; save it as PNG"),
    (b"<html", "it is a web page, not a picture"),
    (b"<!doctype html", "it is a web page, not a picture"),
    (b"%pdf", "it is a PDF; save the page as PNG or JPEG"),
    (b"8bps", "it is a Photoshop file; save it as PNG or JPEG"),
    (b"ii*\0", "it is a TIFF or raw picture; save it as PNG or JPEG"),
    (b"mm\0*", "it is a TIFF or raw picture; save it as PNG or JPEG"),
    (b"bm", "it is a BMP picture; save it as PNG or JPEG"),
    (b"pk", "it is an archive, not a picture"),
    (b"riff", f"{_ACCEPTED}"),
)


class Facts(Value):
    """What an upload is."""

    kind: MediaKind
    mime: str
    width: int
    height: int
    duration_s: float | None = None


def held(file: IO[bytes]) -> Source:
    """An upload without reading it into memory: large ones wait in a file on disk, which is mapped and may be closed."""
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # in memory, or empty
        return file.read()


def inspect(data: Source, filename: str) -> Facts:
    """Decided by the content, decoded in this process (`decoding.inspect` bounds that). Raises Invalid({"media": sentence})."""
    if not len(data):
        raise refused(filename, "it is empty")
    if is_video(data):
        return _video(videos.iso if data[4:8] == b"ftyp" else videos.webm, data, filename)
    with opened(data, filename) as image:
        mime = _STILL.get(image.format or "")
        if mime is None:
            raise refused(filename, _ACCEPTED)
        animated = _frames(image, filename) > 1
        if animated and image.format != "GIF":
            raise refused(filename, "moving pictures other than GIF are not understood by the networks")
        if image.format == "GIF":
            _whole_gif(data, filename)
        width, height = image.size
        _decoded(image, filename)
        if image.format != "HEIF" and _is_sideways(image):  # HEIF is opened upright
            width, height = height, width
    return Facts(kind=MediaKind.gif if animated else MediaKind.image, mime=mime, width=width, height=height)


def is_video(data: Source) -> bool:
    return data[:4] == b"\x1a\x45\xdf\xa3" or (data[4:8] == b"ftyp" and not _ftyp_brands(data) & (_AVIF | _HEIC))


def _video(read: Callable[[Source], videos.Video], data: Source, filename: str) -> Facts:
    try:
        found = read(data)
    except videos.Unreadable as why:
        raise refused(filename, str(why)) from None
    return Facts(kind=MediaKind.video, **found._asdict())


def _ftyp_brands(data: Source) -> set[bytes]:
    """Whom a file of the MP4 family says it is for: HEIC and AVIF pictures are such files, too."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4]), 256)
    return {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))} - {b"isom", b"mp41", b"mp42"}


def opened(data: Source, filename: str) -> Image.Image:
    """Its header is read, no more. Raises Invalid, also for what is too much to be decoded."""
    with decoders(filename, _instead(data)), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(_as_file(data), formats=_formats(data, filename))
    most = _most_pixels(image)
    if image.width * image.height > most:
        image.close()
        instead = "save it smaller" if image.format == "JPEG" else "save it as JPEG, or smaller"
        raise refused(filename, f"it has more than {most / 1_000_000:g} megapixels; {instead}")
    if image.format == "JPEG" and _scans(data) > MOST_SCANS:
        image.close()
        raise refused(filename, "it is made of far too many layers; save it anew")
    return image


def _as_file(data: Source) -> IO[bytes]:
    """Read through, not copied."""
    if isinstance(data, bytes):
        return io.BytesIO(data)
    data.seek(0)
    return cast(IO[bytes], data)


def _most_pixels(image: Image.Image) -> int:
    if image.format == "JPEG":
        return MOST_PROGRESSIVE if image.info.get("progressive") else MOST_JPEG_PIXELS
    return MOST_WITH_ALPHA if image.format == "WEBP" or image.mode in ("RGBA", "LA", "PA") else MOST_PIXELS


def _scans(data: Source) -> int:
    """Inside of what is coded the two bytes cannot stand; a preview in the metadata may add a few."""
    count = at = 0
    while count <= MOST_SCANS and (at := data.find(b"\xff\xda", at) + 1):
        count += 1
    return count


def _formats(data: Source, filename: str) -> list[str]:
    """What Pillow may take it for. HEIC needs an extra that not every installation has."""
    if not _ftyp_brands(data) & _HEIC or _ftyp_brands(data) & _AVIF:
        return [name for name in _STILL if name != "HEIF"]
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError:
        raise refused(
            filename,
            "it is a HEIC picture, which this PostFlow cannot read. Save it as JPEG (iPhone: Settings, Camera, Formats,"
            " Most Compatible), or ask whoever runs PostFlow to install its extra “heic”",
        ) from None
    heif.register_heif_opener()
    return ["HEIF"]


def _instead(data: Source) -> str:
    """What it is, if that can be told, so that a person knows what to do about it."""
    start = data[:1024].lstrip().lower()
    for mark, why in _OTHERS:
        if mark in start if mark.startswith(b"<") else start.startswith(mark):
            return why
    return "it is not a picture or video that can be read"


def _frames(image: Image.Image, filename: str) -> int:
    with decoders(filename):
        return getattr(image, "n_frames", 1)


def _is_sideways(image: Image.Image) -> bool:
    """A turn that cannot be read is none."""
    with contextlib.suppress(Exception):
        turn = image.getexif().get(0x0112, 1)
        return isinstance(turn, int) and 5 <= turn <= 8
    return False


def _whole_gif(data: Source, filename: str) -> None:
    """GIFs travel as they came, so their blocks are walked: nothing may be missing and nothing hide behind them."""
    at = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    while at < len(data) and data[at] != 0x3B:
        if data[at] == 0x2C and at + 9 < len(data):  # a frame: descriptor, its own colours, code size
            at += 11 + (3 << ((data[at + 9] & 7) + 1) if data[at + 9] & 0x80 else 0)
        elif data[at] == 0x21:  # an extension: label
            at += 2
        else:
            break
        while at < len(data) and data[at]:  # sub-blocks up to an empty one
            at += data[at] + 1
        at += 1
    if at >= len(data) or data[at] != 0x3B:
        raise refused(filename, "it is damaged or cut off")
    if data[at + 1 :].strip(b"\0"):
        raise refused(filename, "something else is hidden behind the picture; save it anew and try again")


def _decoded(image: Image.Image, filename: str) -> None:
    """A file cut off in the middle shows only when it is decoded."""
    with decoders(filename):
        image.draft("RGB", (image.width // 8, image.height // 8))
        image.load()


@contextlib.contextmanager
def decoders(filename: str, otherwise: str = "it is damaged or cut off") -> Iterator[None]:
    """Around what a picture's bytes decide. Whatever a decoder falls over is the file's fault, and told so: on mutated ones
    they raise all kinds, IndexError and ZeroDivisionError among them. Raises Invalid.
    """
    try:
        yield
    except Invalid:
        raise
    except Image.DecompressionBombError:
        raise refused(filename, "it has far too many pixels") from None
    except MemoryError:
        raise refused(filename, "it takes too much memory to be opened; save it anew or smaller") from None
    except Exception as broken:  # noqa: BLE001
        log.info("a picture is refused", why=repr(broken)[:200])
        raise refused(filename, otherwise) from None


def refused(filename: str, why: str) -> Invalid:
    return Invalid({"media": f"“{filename}” cannot be used: {why}."})

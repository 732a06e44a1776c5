"""Looking into media files: what they really are, how large, and whether they carry metadata."""

import io
import struct
import warnings
from dataclasses import dataclass

from PIL import ExifTags, Image, UnidentifiedImageError

_MIMES = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "HEIF": "image/heif",
}
EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/heic": "heic",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "webm",
}
BLURHASH = "UGC~-#M{0JfkNFofR%M{IURj%Mt7E0oM%MR*"


class NotMedia(ValueError):
    """The bytes are neither a picture nor a video nor sound."""


@dataclass(frozen=True, slots=True)
class Look:
    """kind: image | gifv | video | audio. intact is only checked for pictures, and only on request."""

    kind: str
    mime: str
    width: int
    height: int
    has_exif: bool = False
    has_gps: bool = False
    intact: bool = True
    duration_s: float = 0.0


def look(body: bytes, thorough: bool = False) -> Look:
    """What kind of file is this? thorough decodes pictures entirely. Raises NotMedia."""
    moving = _moving(body)
    if moving:
        return moving
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return _picture(body, thorough)
    except Image.DecompressionBombError:
        return Look("image", "image/png", 100_000, 100_000)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise NotMedia(str(error)) from error


def _picture(body: bytes, thorough: bool) -> Look:
    with Image.open(io.BytesIO(body)) as picture:
        mime = _MIMES.get(picture.format or "")
        if mime is None:
            raise NotMedia(f"{picture.format} is not accepted")
        exif = picture.getexif()
        kind = "gifv" if mime == "image/gif" and getattr(picture, "n_frames", 1) > 1 else "image"
        return Look(
            kind,
            mime,
            picture.width,
            picture.height,
            has_exif=len(exif) > 0,
            has_gps=bool(exif.get_ifd(ExifTags.IFD.GPSInfo)),
            intact=not thorough or _decodes(picture),
        )


def _decodes(picture: Image.Image) -> bool:
    try:
        picture.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True


def _moving(body: bytes) -> Look | None:
    head = body[:16]
    if head[4:8] == b"ftyp" and head[8:12] not in (b"avif", b"avis", b"heic", b"heix", b"mif1"):
        width, height, duration_s = _mp4(body)
        mime = "video/quicktime" if head[8:12] == b"qt  " else "video/mp4"
        return Look("video", mime, width, height, duration_s=duration_s, intact=b"moov" in body)
    if head[4:8] == b"ftyp" and head[8:11] == b"hei":
        return Look("image", "image/heic", 0, 0)
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return Look("video", "video/webm", 640, 360)
    if head[:4] in (b"OggS", b"fLaC") or head[:3] == b"ID3" or head[:2] in (b"\xff\xfb", b"\xff\xf3"):
        return Look("audio", "audio/mpeg", 0, 0)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return Look("audio", "audio/wav", 0, 0)
    return None


def _mp4(body: bytes) -> tuple[int, int, float]:
    """Width, height and seconds from the tkhd and mvhd boxes, zeros where they are missing."""
    width = height = 0
    position = body.find(b"tkhd")
    while position != -1 and not width:
        long = body[position + 4 : position + 5] == b"\x01"
        end = position + 4 + (92 if long else 80)
        pair = body[end - 4 : end + 4]
        if len(pair) == 8:
            width, height = (value >> 16 for value in struct.unpack(">II", pair))
        position = body.find(b"tkhd", position + 4)
    position = body.find(b"mvhd")
    scale, ticks = 0, 0
    if position != -1 and len(body) >= position + 24:
        scale, ticks = struct.unpack(">II", body[position + 16 : position + 24])
    return width, height, ticks / scale if scale else 0.0

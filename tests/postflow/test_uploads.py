"""Videos say their size and length; whatever cannot be used is refused with what to do about it."""

import importlib.util
import struct

import pytest

from postflow import errors
from postflow.media import uploads
from postflow.models import MediaKind


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def mp4(
    width: int = 640, height: int = 360, *, seconds: float = 12.5, turned: bool = False, brand: bytes = b"isom"
) -> bytes:
    matrix = (0, 0x10000, 0, -0x10000, 0, 0) if turned else (0x10000, 0, 0, 0, 0x10000, 0)
    movie = struct.pack(">IIIII", 0, 0, 0, 600, round(seconds * 600)) + bytes(80)
    track = bytes(40) + struct.pack(">iiiiii", *matrix[:2], matrix[2], *matrix[3:5], matrix[5]) + bytes(12)
    track += struct.pack(">HHHH", width, 0, height, 0)
    sound = bytes(84)
    whole = box(b"moov", box(b"mvhd", movie), box(b"trak", box(b"tkhd", sound)), box(b"trak", box(b"tkhd", track)))
    return box(b"ftyp", brand, bytes(4), b"isom") + whole + box(b"mdat", b"pictures")


def element(kind: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    name = kind.to_bytes((kind.bit_length() + 7) // 8)
    return name + (0x0100_0000_0000_0000 | len(body)).to_bytes(8) + body


def webm(*, doc_type: bytes = b"webm", live: bool = False) -> bytes:
    said = element(0x2AD7B1, (1_000_000).to_bytes(3))
    said += b"" if live else element(0x4489, struct.pack(">d", 4200.0))
    video = element(0xE0, element(0xB0, (640).to_bytes(2)), element(0xBA, (360).to_bytes(2)))
    parts = element(0x1549A966, said) + element(0x1654AE6B, element(0xAE, video))
    cluster = bytes.fromhex("1f43b675") + b"\x01" + b"\xff" * 7 + b"pictures until it ends"
    size = b"\x01" + b"\xff" * 7 if live else (0x0100_0000_0000_0000 | len(parts + cluster)).to_bytes(8)
    return element(0x1A45DFA3, element(0x4282, doc_type)) + bytes.fromhex("18538067") + size + parts + cluster


@pytest.mark.parametrize(
    ("data", "mime", "size", "seconds"),
    [
        (mp4(), "video/mp4", (640, 360), 12.5),
        (mp4(turned=True), "video/mp4", (360, 640), 12.5),
        (mp4(brand=b"qt  "), "video/quicktime", (640, 360), 12.5),
        (mp4(seconds=0), "video/mp4", (640, 360), None),
        (webm(), "video/webm", (640, 360), 4.2),
        (webm(live=True), "video/webm", (640, 360), None),
    ],
)
def test_a_video_says_its_size_as_shown_and_its_length(
    data: bytes, mime: str, size: tuple[int, int], seconds: float | None
) -> None:
    facts = uploads.inspect(data, "clip")
    assert (facts.kind, facts.mime, (facts.width, facts.height)) == (MediaKind.video, mime, size)
    assert facts.duration_s == (pytest.approx(seconds) if seconds else None)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (mp4()[:-3], "damaged or cut off"),
        (mp4() + b"<script>alert(1)</script>", "something else is hidden behind it"),
        (mp4(0, 0), "no picture in this video"),
        (mp4(40_000, 40_000), "far too large"),
        (box(b"ftyp", b"isom", bytes(4)) + box(b"mdat", b"x"), "damaged or cut off"),
        (webm(doc_type=b"matroska"), "only WebM"),
        (webm()[:80], "damaged or cut off"),
        (webm()[:-5], "damaged or cut off"),
        (b"\x1a\x45\xdf\xa3" + b"\xff" * 40, "damaged or cut off"),
        (b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg onload="alert(1)"/>', "save it as PNG"),
        (b"<!DOCTYPE html><title>x</title>", "a web page"),
        (b"%PDF-1.7\n", "a PDF; save the page"),
        (b"PK\x03\x04 whatever", "an archive"),
        (b"II*\0rest", "save it as PNG or JPEG"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(errors.Invalid, match=why):
        uploads.inspect(data, "file.jpg")


@pytest.mark.parametrize("scale", [b"", b"\0" * 8, b"\xff" * 8, b"\xff" * 2000])
def test_a_video_s_units_beyond_belief_leave_its_length_unknown(scale: bytes) -> None:
    whole = webm(live=True)
    info = element(0x1549A966, element(0x2AD7B1, (1_000_000).to_bytes(3)))
    told = element(0x2AD7B1, scale) + element(0x4489, struct.pack(">d", 4e14))
    said = whole.replace(info, element(0x1549A966, told))
    assert said != whole
    assert uploads.inspect(said, "clip").duration_s is None


def test_a_video_cut_anywhere_is_refused_or_read_and_never_breaks() -> None:
    for whole in (mp4(), webm()):
        for end in range(1, len(whole)):
            with pytest.raises(errors.Invalid):
                uploads.inspect(whole[:end], "cut")


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is not None, reason="the extra “heic” is installed here")
@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_a_heic_picture_says_what_to_do_where_it_cannot_be_read(brand: bytes) -> None:
    data = box(b"ftyp", brand, bytes(4), b"mif1", b"heic") + box(b"mdat", b"x")
    with pytest.raises(errors.Invalid, match=r"Save it as JPEG .* or ask whoever runs PostFlow to install"):
        uploads.inspect(data, "IMG_1.HEIC")

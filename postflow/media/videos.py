"""What an MP4, QuickTime or WebM file says of itself: kind, size, length. Read from its boxes; nothing is decoded.

ISO 14496-12 (boxes of MP4 and QuickTime) and RFC 8794 / RFC 9559 (EBML and Matroska, of which WebM is a part).
"""

import mmap
import struct
from collections.abc import Iterator
from typing import NamedTuple

#: A file in memory, or mapped into it.
Source = bytes | mmap.mmap
#: Nobody nests deeper or chains longer on purpose; a file made to keep us busy does.
_MOST_BOXES = 10_000
_MOST_PIXELS_ASIDE, _MOST_TICKS, _MOST_S = 16_384, 1e15, 1e8
_UNKNOWN = (1 << 56) - 1  # EBML's "until it ends", of eight bytes
_EBML, _DOC_TYPE, _SEGMENT, _INFO, _TRACKS, _TRACK = 0x1A45DFA3, 0x4282, 0x18538067, 0x1549A966, 0x1654AE6B, 0xAE
_SCALE, _DURATION, _VIDEO, _WIDTH, _HEIGHT, _CLUSTER = 0x2AD7B1, 0x4489, 0xE0, 0xB0, 0xBA, 0x1F43B675


class Video(NamedTuple):
    mime: str
    width: int
    height: int
    duration_s: float | None


class Unreadable(Exception):
    """The reason, as the end of a sentence."""


class _Box(NamedTuple):
    kind: bytes
    start: int  # of what is in it
    end: int


def _check_size(width: int, height: int) -> None:
    if not (width and height):
        raise Unreadable("there is no picture in this video")
    if max(width, height) > _MOST_PIXELS_ASIDE:
        raise Unreadable("its picture is far too large")


def _believed(seconds: float) -> float | None:
    """A video of years is none; nobody knows how long it is."""
    return seconds if 0 < seconds < _MOST_S else None


# -- MP4 and QuickTime -----------------------------------------------------------------------------------------


def iso(data: Source) -> Video:
    """Raises Unreadable."""
    boxes = list(_boxes(data, 0, len(data)))
    kinds = [box.kind for box in boxes]
    if b"moov" not in kinds or not {b"mdat", b"moof"} & set(kinds):
        raise Unreadable("it is damaged or cut off")
    inside = list(_inside(data, boxes[kinds.index(b"moov")]))
    sizes = [_track_size(data, box) for box in inside if box.kind == b"trak"]
    width, height = max(sizes, default=(0, 0), key=lambda size: size[0] * size[1])
    _check_size(width, height)
    mime = "video/quicktime" if data[8:12] == b"qt  " else "video/mp4"
    return Video(mime, width, height, _movie_s(data, inside))


def _boxes(data: Source, at: int, end: int) -> Iterator[_Box]:
    """Side by side, they must fill their place to the last byte: nothing missing, nothing behind."""
    for _ in range(_MOST_BOXES):
        if at == end:
            return
        size, head = int.from_bytes(data[at : at + 4]), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16]), 16
        elif size == 0:
            size = end - at
        if size < head or at + size > end:
            break
        yield _Box(data[at + 4 : at + 8], at + head, at + size)
        at += size
    raise Unreadable("it is damaged or cut off, or something else is hidden behind it")


def _inside(data: Source, box: _Box) -> Iterator[_Box]:
    return _boxes(data, box.start, box.end)


def _track_size(data: Source, track: _Box) -> tuple[int, int]:
    """As it is shown: a phone held upright stores a lying picture and a turn by 90 degrees."""
    for box in _inside(data, track):
        if box.kind == b"tkhd" and box.end - box.start >= 84:
            width, height = (int.from_bytes(data[box.end - back : box.end - back + 2]) for back in (8, 4))
            matrix = data[box.end - 44 : box.end - 8]
            turned = not int.from_bytes(matrix[0:4]) and int.from_bytes(matrix[4:8])
            return (height, width) if turned else (width, height)
    return 0, 0


def _movie_s(data: Source, inside: list[_Box]) -> float | None:
    for box in inside:
        if box.kind == b"mvhd" and box.end - box.start >= 32:
            long = data[box.start] == 1
            scale_at, wide = (box.start + 20, 8) if long else (box.start + 12, 4)
            scale = int.from_bytes(data[scale_at : scale_at + 4])
            duration = int.from_bytes(data[scale_at + 4 : scale_at + 4 + wide])
            unknown = duration == (1 << 8 * wide) - 1
            return _believed(duration / scale) if scale and duration and not unknown else None
    return None


# -- WebM --------------------------------------------------------------------------------------------------------


def webm(data: Source) -> Video:
    """Raises Unreadable."""
    outer = list(_elements(data, 0, len(data)))
    if [one.kind for one in outer[:2]] != [_EBML, _SEGMENT]:
        raise Unreadable("it is damaged or cut off")
    types = [data[one.start : one.end].rstrip(b"\0") for one in _within(data, outer[0]) if one.kind == _DOC_TYPE]
    if types != [b"webm"]:
        raise Unreadable("of the Matroska videos only WebM can be used")
    segment = list(_until_pictures(data, outer[1]))
    width, height = _track_pixels(data, segment)
    _check_size(width, height)
    return Video("video/webm", width, height, _segment_s(data, segment))


class _Element(NamedTuple):
    kind: int
    start: int
    end: int


def _elements(data: Source, at: int, end: int) -> Iterator[_Element]:
    for _ in range(_MOST_BOXES):
        if at == end:
            return
        kind, at = _number(data, at, end, keep_marker=True)
        size, at = _number(data, at, end, keep_marker=False)
        stop = end if size == _UNKNOWN else at + size
        if stop > end:
            break
        yield _Element(kind, at, stop)
        at = stop
    raise Unreadable("it is damaged or cut off")


def _within(data: Source, one: _Element) -> Iterator[_Element]:
    return _elements(data, one.start, one.end)


def _until_pictures(data: Source, segment: _Element) -> Iterator[_Element]:
    """What a segment says of itself stands before its first pictures; those may run on without saying how long."""
    for one in _within(data, segment):
        if one.kind == _CLUSTER:
            return
        yield one


def _number(data: Source, at: int, end: int, *, keep_marker: bool) -> tuple[int, int]:
    """A number whose first byte says how long it is, and where it ends. All ones mean "unknown"."""
    if at >= end or not data[at]:
        raise Unreadable("it is damaged or cut off")
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length])
    if not keep_marker:
        value &= (1 << 7 * length) - 1
        value = _UNKNOWN if value == (1 << 7 * length) - 1 else value
    return value, at + length


def _track_pixels(data: Source, segment: list[_Element]) -> tuple[int, int]:
    tracks = [track for one in segment if one.kind == _TRACKS for track in _within(data, one) if track.kind == _TRACK]
    videos = [video for track in tracks for video in _within(data, track) if video.kind == _VIDEO]
    for video in videos:
        said = {one.kind: int.from_bytes(data[one.start : one.end]) for one in _within(data, video)}
        return said.get(_WIDTH, 0), said.get(_HEIGHT, 0)
    return 0, 0


def _segment_s(data: Source, segment: list[_Element]) -> float | None:
    """Ticks of `scale` nanoseconds; what was recorded live does not say."""
    scale, ticks = 1_000_000, None
    for one in (said for part in segment if part.kind == _INFO for said in _within(data, part)):
        raw = data[one.start : one.end]
        if one.kind == _SCALE and len(raw) <= 8:
            scale = int.from_bytes(raw)
        elif one.kind == _DURATION and len(raw) in (4, 8):
            ticks = _real(raw)
    return _believed(ticks * scale / 1e9) if ticks and 0 < ticks < _MOST_TICKS else None


def _real(raw: bytes) -> float:
    return struct.unpack(">f" if len(raw) == 4 else ">d", raw)[0]

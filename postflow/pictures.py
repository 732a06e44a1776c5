"""Uploads: what a file really is, and renditions made to fit a network. Names and claimed types are never trusted.

Every picture that leaves is encoded anew from its pixels: upright, in sRGB, without EXIF, GPS, XMP or anything hidden
behind the image. Animated GIFs and videos are passed on as they are, or refused with the reason.
"""

import io
import warnings
from typing import Literal

from PIL import Image, ImageCms, ImageOps

from postflow.errors import Invalid
from postflow.models import Focus, Media, MediaKind, Value

#: More pixels than any camera makes: a decompression bomb.
MOST_PIXELS = 120_000_000
_FEWEST_PIXELS = 64 * 64  # below that nothing can be seen
_STILL = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "AVIF": "image/avif", "GIF": "image/gif"}
_VIDEO_BRANDS = {b"qt  ": "video/quicktime"}


class Facts(Value):
    """What an upload is."""

    kind: MediaKind
    mime: str
    width: int
    height: int
    duration_s: float | None = None


class Recipe(Value):
    """How to make a picture fit. Ratios are width / height."""

    max_pixels: int | None = None
    max_width: int | None = None
    max_bytes: int | None = None
    mime_types: tuple[str, ...] = ("image/jpeg", "image/png", "image/webp")
    min_ratio: float | None = None
    max_ratio: float | None = None
    fit: Literal["crop", "pad"] = "crop"
    focus: Focus | None = None

    @property
    def key(self) -> str:
        """Stable: renditions are cached by it."""
        focus = f"{self.focus.x:.2f},{self.focus.y:.2f}" if self.focus and self.min_ratio else ""
        sides = f"{self.max_pixels or ''}.{self.max_width or ''}.{self.max_bytes or ''}"
        ratio = f"{self.min_ratio or ''}.{self.max_ratio or ''}.{self.fit if self.min_ratio else ''}.{focus}"
        return f"1:{sides}:{ratio}:{','.join(kind.split('/')[-1] for kind in self.mime_types)}"


THUMBNAIL = Recipe(max_pixels=480 * 480, mime_types=("image/jpeg",))


class Rendition(Value):
    data: bytes
    mime: str
    width: int
    height: int


# -- what it is ----------------------------------------------------------------------------------------------


def inspect(data: bytes, filename: str) -> Facts:
    """Decided by the content. Raises Invalid({"media": sentence})."""
    if not data:
        raise _refused(filename, "it is empty")
    if data[4:8] == b"ftyp" and data[8:12] not in (b"avif", b"avis", b"heic", b"mif1", b"msf1"):
        return _video(data, filename)
    if data[:4] == b"\x1a\x45\xdf\xa3" and b"webm" in data[:64]:
        return Facts(kind=MediaKind.video, mime="video/webm", width=0, height=0)
    with _opened(data, filename) as image:
        mime = _STILL.get(image.format or "")
        if mime is None:
            raise _refused(filename, "only JPEG, PNG, WebP, AVIF and GIF pictures and MP4 or WebM videos can be used")
        animated = _frames(image, filename) > 1
        if animated and image.format != "GIF":
            raise _refused(filename, "moving pictures other than GIF are not understood by the networks")
        if image.format == "GIF":
            _whole_gif(data, filename)
        width, height = image.size
        _decoded(image, filename)
        if image.getexif().get(0x0112, 1) >= 5:  # stored sideways
            width, height = height, width
    return Facts(kind=MediaKind.gif if animated else MediaKind.image, mime=mime, width=width, height=height)


def _video(data: bytes, filename: str) -> Facts:
    width, height, duration_s = _iso_track(data)
    if b"moov" not in data:
        raise _refused(filename, "it is damaged or cut off")
    mime = _VIDEO_BRANDS.get(data[8:12], "video/mp4")
    return Facts(kind=MediaKind.video, mime=mime, width=width, height=height, duration_s=duration_s)


def _iso_track(data: bytes) -> tuple[int, int, float | None]:
    """(width, height, seconds) from the boxes `tkhd` and `mvhd` of ISO 14496-12; zeros where they are missing."""
    width = height = 0
    duration_s = None
    at = data.find(b"mvhd")
    if at > 0 and len(data) > at + 24 and data[at + 4] == 0:
        scale = int.from_bytes(data[at + 16 : at + 20])
        duration_s = int.from_bytes(data[at + 20 : at + 24]) / scale if scale else None
    at = data.find(b"tkhd")
    while at > 0 and not width:
        end = at + 4 + (92 if data[at + 4] == 1 else 80)
        width = int.from_bytes(data[end : end + 2])
        height = int.from_bytes(data[end + 4 : end + 6])
        at = data.find(b"tkhd", at + 4)
    return width, height, duration_s


def _opened(data: bytes, filename: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=list(_STILL))
    except Image.DecompressionBombError:
        raise _refused(filename, "it has far too many pixels") from None
    except (OSError, ValueError, SyntaxError):
        raise _refused(filename, "it is not a picture or video that can be read") from None
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise _refused(filename, f"it has more than {MOST_PIXELS // 1_000_000} megapixels")
    return image


def _frames(image: Image.Image, filename: str) -> int:
    try:
        return getattr(image, "n_frames", 1)
    except (OSError, ValueError, SyntaxError, EOFError):
        raise _refused(filename, "it is damaged or cut off") from None


def _whole_gif(data: bytes, filename: str) -> None:
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
        raise _refused(filename, "it is damaged or cut off")
    if data[at + 1 :].strip(b"\0"):
        raise _refused(filename, "something else is hidden behind the picture; save it anew and try again")


def _decoded(image: Image.Image, filename: str) -> None:
    """A file cut off in the middle shows only when it is decoded."""
    try:
        image.draft("RGB", (image.width // 8, image.height // 8))
        image.load()
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        raise _refused(filename, "it is damaged or cut off") from None


def _refused(filename: str, why: str) -> Invalid:
    return Invalid({"media": f"“{filename}” cannot be used: {why}."})


def change(media: Media, recipe: Recipe | None) -> str:
    """What `render` will do to it, in a few words for the person who chose it."""
    if recipe is None or not media.height:
        return "as it is"
    ratio = media.width / media.height
    if not (recipe.min_ratio or ratio) - 0.001 <= ratio <= (recipe.max_ratio or ratio) + 0.001:
        return "with white borders" if recipe.fit == "pad" else "cropped"
    too_wide = recipe.max_width is not None and media.width > recipe.max_width
    too_many = recipe.max_pixels is not None and media.width * media.height > recipe.max_pixels
    return "made smaller" if too_wide or too_many else "whole"


# -- making it fit ---------------------------------------------------------------------------------------------


def render(original: bytes, recipe: Recipe) -> Rendition:
    """A still picture, encoded anew. Raises Invalid when it cannot be read."""
    with _opened(original, "picture") as opened:
        target = _target_pixels(opened, recipe)
        if target < opened.width * opened.height:
            shrink = (target / (opened.width * opened.height)) ** 0.5
            opened.draft("RGB", (int(opened.width * shrink), int(opened.height * shrink)))  # JPEG decodes smaller
        try:
            image = ImageOps.exif_transpose(opened)
        except (OSError, SyntaxError):
            raise _refused("picture", "it is damaged or cut off") from None
        image = _srgb(image)
    image = _ratio(image, recipe)
    return _encoded(_scaled(image, recipe), recipe, opened.format or "")


def _target_pixels(image: Image.Image, recipe: Recipe) -> int:
    pixels = image.width * image.height
    by_width = recipe.max_width * recipe.max_width * 4 if recipe.max_width else pixels
    return min(pixels, recipe.max_pixels or pixels, by_width)


def _srgb(image: Image.Image) -> Image.Image:
    """Colours as screens expect them; 16-bit, palette and CMYK become RGB or RGBA."""
    profile = image.info.get("icc_profile")
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if profile and image.mode in ("RGB", "CMYK", "L"):
        try:
            return ImageCms.profileToProfile(
                image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
            ) or image.convert("RGB")
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile: the plain conversion below is what a browser would show
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")
    return image.convert("RGBA" if transparent else "RGB")


def _ratio(image: Image.Image, recipe: Recipe) -> Image.Image:
    ratio = image.width / image.height
    wanted = max(ratio, recipe.min_ratio or ratio)
    wanted = min(wanted, recipe.max_ratio or wanted)
    if abs(wanted - ratio) < 0.001:
        return image
    grow = (wanted > ratio) == (recipe.fit == "pad")
    width = round(image.height * wanted) if grow else image.width
    height = image.height if grow else round(image.width / wanted)
    if recipe.fit == "pad":
        return ImageOps.pad(_flat(image), (width, height), color="white")
    focus = recipe.focus or Focus(x=0, y=0)
    if wanted < ratio:
        width, height = round(image.height * wanted), image.height
    return ImageOps.fit(image, (width, height), centering=((focus.x + 1) / 2, (1 - focus.y) / 2))


def _scaled(image: Image.Image, recipe: Recipe) -> Image.Image:
    scale = 1.0
    if recipe.max_pixels:
        scale = min(scale, (recipe.max_pixels / (image.width * image.height)) ** 0.5)
    if recipe.max_width:
        scale = min(scale, recipe.max_width / image.width)
    return _resized(image, scale, recipe)


def _resized(image: Image.Image, scale: float, recipe: Recipe) -> Image.Image:
    """Whole pixels never leave the allowed ratios: 1440x753 would be 1.912 where 1.91 is the most."""
    width, height = max(1, int(image.width * scale)), max(1, int(image.height * scale))
    if recipe.max_ratio:
        width = max(1, min(width, int(height * recipe.max_ratio)))
    if recipe.min_ratio:
        height = max(1, min(height, int(width / recipe.min_ratio)))
    return image if (width, height) == image.size else image.resize((width, height), Image.Resampling.LANCZOS)


def _flat(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image.convert("RGB")
    paper = Image.new("RGB", image.size, "white")
    paper.paste(image, mask=image.getchannel("A"))
    return paper


def _encoded(image: Image.Image, recipe: Recipe, source: str) -> Rendition:
    """Lossless stays lossless where that fits; else JPEG, a step plainer until it does."""
    if source in ("PNG", "GIF") and "image/png" in recipe.mime_types:
        data = _saved(image, "PNG", optimize=True)
        if not recipe.max_bytes or len(data) <= recipe.max_bytes:
            return Rendition(data=data, mime="image/png", width=image.width, height=image.height)
    image = _flat(image)
    for quality in (92, 85, 75, 65):
        data = _saved(image, "JPEG", quality=quality, optimize=True, progressive=True)
        if not recipe.max_bytes or len(data) <= recipe.max_bytes:
            return Rendition(data=data, mime="image/jpeg", width=image.width, height=image.height)
    if image.width * image.height < _FEWEST_PIXELS:
        raise _refused("picture", f"it cannot be made smaller than {recipe.max_bytes} bytes")
    return _encoded(_resized(image, 0.75, recipe), recipe, "JPEG")


def _saved(image: Image.Image, format: str, **options: object) -> bytes:
    clean = Image.new(image.mode, image.size)
    clean.paste(image)  # the pixels and nothing else
    out = io.BytesIO()
    clean.save(out, format, **options)
    return out.getvalue()

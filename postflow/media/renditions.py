"""Renditions made to fit a network.

Every picture that leaves is encoded anew from its pixels: upright, in sRGB, without EXIF, GPS, XMP or anything hidden
behind the image. Animated GIFs and videos are passed on as they are, or refused with the reason.
"""

import io
import math
from typing import Literal

import structlog
from PIL import Image, ImageCms, ImageOps

from postflow.media import uploads
from postflow.media.videos import Source
from postflow.models import Focus, Media, Value

log = structlog.stdlib.get_logger("postflow.media.renditions")

#: A picture leaves with so many: Mastodon keeps 8 megapixels of what it takes, others fewer.
MOST_PIXELS = 12_500_000
#: JPEG of more is decoded at a half or a quarter of its size: four bytes of each pixel are held, and more than once.
_MOST_DECODED = 25_000_000
#: Packing a PNG as small as it gets takes a second for a megapixel.
_SOON_PACKED = 3_000_000
_FEWEST_PIXELS = 64 * 64  # below that nothing can be seen


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


def render(original: Source, recipe: Recipe, filename: str = "picture") -> Rendition:
    """A still picture, encoded anew, in this process (`decoding.render` does it safely). Raises Invalid when it cannot be
    read.
    """
    with uploads.decoders(filename):
        image, source = _decoded(original, recipe, filename)
        image = _scaled(_ratio(image, recipe), recipe)
        return _encoded(image, recipe, source)


def _decoded(original: Source, recipe: Recipe, filename: str) -> tuple[Image.Image, str]:
    """Upright and in screen colours, and the format it came in. What it was decoded into is let go."""
    with uploads.opened(original, filename) as opened:
        return _srgb(_upright(_at_most(opened, recipe))), opened.format or ""


def _at_most(opened: Image.Image, recipe: Recipe) -> Image.Image:
    """Decoded, at the size that is needed where its format allows for that: JPEG decodes at a half, a quarter, an eighth."""
    pixels = opened.width * opened.height
    scale = max((pixels / _target_pixels(opened, recipe)) ** 0.5, math.ceil((pixels / _MOST_DECODED) ** 0.5))
    if opened.format == "JPEG" and scale > 1:
        opened.draft("RGB", (int(opened.width / scale), int(opened.height / scale)))
    opened.load()
    image = opened.convert("L") if opened.mode == "1" else opened
    if image.width * image.height <= MOST_PIXELS or image.mode not in ("RGB", "RGBA", "L", "CMYK"):
        return image
    shrink = (MOST_PIXELS / (image.width * image.height)) ** 0.5
    return image.resize((int(image.width * shrink), int(image.height * shrink)), Image.Resampling.LANCZOS)


def _upright(image: Image.Image) -> Image.Image:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception as unreadable:  # noqa: BLE001 what its metadata say of a turn is beyond reading: nobody knows of one
        log.info("a picture's turn cannot be read", why=repr(unreadable)[:200])
    return image


def _target_pixels(image: Image.Image, recipe: Recipe) -> int:
    pixels = min(image.width * image.height, MOST_PIXELS)
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
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a broken profile: the plain conversion below is what a browser would show
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")
    mode = "RGBA" if transparent else "RGB"
    return image if image.mode == mode else image.convert(mode)


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
    most = min(recipe.max_pixels or MOST_PIXELS, MOST_PIXELS)
    scale = min(scale, (most / (image.width * image.height)) ** 0.5)
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
        data = _saved(image, "PNG", optimize=image.width * image.height <= _SOON_PACKED)
        if not recipe.max_bytes or len(data) <= recipe.max_bytes:
            return Rendition(data=data, mime="image/png", width=image.width, height=image.height)
    image = _flat(image)
    for quality in (92, 85, 75, 65):
        data = _saved(image, "JPEG", quality=quality, optimize=True, progressive=True)
        if not recipe.max_bytes or len(data) <= recipe.max_bytes:
            return Rendition(data=data, mime="image/jpeg", width=image.width, height=image.height)
    if image.width * image.height < _FEWEST_PIXELS:
        raise uploads.refused("picture", f"it cannot be made smaller than {recipe.max_bytes} bytes")
    return _encoded(_resized(image, 0.75, recipe), recipe, "JPEG")


def _saved(image: Image.Image, format: str, **options: object) -> bytes:
    clean = Image.new(image.mode, image.size)
    clean.paste(image)  # the pixels and nothing else
    out = io.BytesIO()
    clean.save(out, format, **options)
    return out.getvalue()

"""Files that lie are refused with a sentence; pictures leave upright, small enough and with nothing but their pixels."""

import io
import signal
import struct
import subprocess
import sys
import zipfile
import zlib
from typing import Any

import pytest
from PIL import Image

from postflow import errors
from postflow.media import decoding, renditions, uploads
from postflow.models import Focus, MediaKind

INSTAGRAM = renditions.Recipe(
    max_width=1440, max_bytes=8_000_000, mime_types=("image/jpeg",), min_ratio=0.8, max_ratio=1.91
)
MASTODON = renditions.Recipe(max_pixels=2_000_000, max_bytes=16_777_216)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def opened(rendition: renditions.Rendition) -> Image.Image:
    return Image.open(io.BytesIO(rendition.data))


def red(width: int = 100, height: int = 100, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (width, height), "red")


def moving_gif() -> bytes:
    return saved(red(40, 40), "GIF", save_all=True, append_images=[Image.new("RGB", (40, 40), "blue")])


def a_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("page.html", "<script>")
    return out.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


PNG, IEND = b"\x89PNG\r\n\x1a\n", chunk(b"IEND", b"")


def bomb(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes that claims to be huge."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return PNG + head + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + IEND


def whole_png(width: int, height: int) -> bytes:
    """One that can be decoded: black, one bit a pixel, some kilobytes."""
    rows = zlib.compress(b"\0" * (height * (1 + (width + 7) // 8)))
    return PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)) + chunk(b"IDAT", rows) + IEND


@pytest.fixture(scope="module")
def phone_photo() -> bytes:
    """24 megapixels, stored sideways (red on the left is red on top when upright), with GPS and a comment."""
    image = Image.effect_noise((6000, 4000), 60).convert("RGB")
    image.paste("red", (0, 0, 1000, 4000))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Somephone"
    exif.get_ifd(0x8825)[1] = "N"
    return saved(image, "JPEG", exif=exif, comment=b"at home")


@pytest.mark.parametrize(
    "recipe", [MASTODON, INSTAGRAM, INSTAGRAM.model_copy(update={"fit": "pad"}), renditions.THUMBNAIL]
)
def test_a_sideways_phone_photo_leaves_upright_within_limits_and_without_metadata(
    phone_photo: bytes, recipe: renditions.Recipe
) -> None:
    facts = uploads.inspect(phone_photo, "IMG_1.jpg")
    assert (facts.width, facts.height, facts.kind) == (4000, 6000, MediaKind.image)
    rendition = renditions.render(phone_photo, recipe)
    image = opened(rendition)
    assert image.size == (rendition.width, rendition.height)
    assert image.height > image.width
    assert image.width * image.height <= (recipe.max_pixels or 1440 * 1800)
    assert len(rendition.data) <= (recipe.max_bytes or len(rendition.data))
    assert not image.getexif() and not {"exif", "comment", "icc_profile", "xmp"} & set(image.info)
    assert b"Somephone" not in rendition.data and b"at home" not in rendition.data
    top = image.convert("RGB").getpixel((image.width // 2, 5))
    assert isinstance(top, tuple) and top[0] > 200 and top[1] < 60


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.jpg", b""),
        ("text.jpg", b"just some text"),
        ("drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>'),
        ("drawing.png", b'<?xml version="1.0"?><svg/>'),
        ("page.jpg", b"<!doctype html><script>"),
        ("scan.jpg", saved(red(), "TIFF")),
        ("bomb.png", bomb(50_000, 50_000)),
        ("cut.jpg", saved(Image.effect_noise((300, 300), 50), "JPEG")[:9000]),
        ("cut.png", saved(Image.effect_noise((300, 300), 50), "PNG")[:9000]),
        ("cut.gif", moving_gif()[:-20]),
        ("still.gif", saved(red(), "GIF")[:-5]),
        ("script.gif", moving_gif() + b"/*<script>alert(1)</script>"),
        ("archive.gif", moving_gif() + a_zip()),
        ("cut.mp4", b"\0\0\0\x18ftypisom"),
        ("lie.mp4", b"\0\0\0\x18ftypisom<script>"),
        ("lie.webm", b"\x1a\x45\xdf\xa3 nothing"),
        ("moving.webp", saved(red(), "WEBP", save_all=True, append_images=[Image.new("RGB", (100, 100), "blue")])),
    ],
)
def test_a_file_that_is_not_what_it_seems_is_refused_by_name(name: str, data: bytes) -> None:
    with pytest.raises(errors.Invalid) as refused:
        uploads.inspect(data, name)
    [sentence] = refused.value.fields["media"]
    assert sentence.startswith(f"“{name}” cannot be used: ") and sentence.endswith(".")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (bomb(50_000, 50_000), "it has far too many pixels"),
        (whole_png(5000, 5010), "it has more than 25 megapixels; save it as JPEG, or smaller"),
        (
            saved(Image.new("RGBA", (3600, 3500)), "PNG"),
            "it has more than 12.5 megapixels; save it as JPEG, or smaller",
        ),
        (
            saved(Image.new("L", (8000, 5010)), "JPEG", progressive=True),
            "it has more than 40 megapixels; save it smaller",
        ),
        (saved(Image.new("L", (12_000, 10_010)), "JPEG"), "it has more than 120 megapixels; save it smaller"),
    ],
)
def test_a_picture_of_more_pixels_than_any_camera_makes_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(errors.Invalid) as refused:
        uploads.inspect(data, "big.png")
    assert refused.value.fields["media"] == [f"“big.png” cannot be used: {why}."]


def test_a_picture_just_below_that_is_taken() -> None:
    assert decoding.inspect(whole_png(5000, 5000), "big.png").width == 5000
    assert decoding.inspect(saved(Image.new("L", (12_000, 10_000)), "JPEG"), "big.jpg").width == 12_000


def test_a_picture_of_hundreds_of_layers_is_refused_unread() -> None:
    """Each goes over the whole of it: 400 of them took 13 seconds."""
    whole = saved(Image.effect_noise((64, 64), 50), "JPEG", progressive=True)
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    layered = whole[:last] + whole[last:end] * 400 + whole[end:]
    with pytest.raises(errors.Invalid, match="far too many layers"):
        decoding.inspect(layered, "layers.jpg")


def test_a_large_picture_is_decoded_in_a_child_to_the_same(phone_photo: bytes) -> None:
    assert decoding.inspect(phone_photo, "IMG_1.jpg") == uploads.inspect(phone_photo, "IMG_1.jpg")
    assert decoding.render(phone_photo, renditions.THUMBNAIL) == renditions.render(phone_photo, renditions.THUMBNAIL)
    with pytest.raises(errors.Invalid) as refused:
        decoding.inspect(phone_photo[:100_000], "IMG_1.jpg")
    assert refused.value.fields["media"] == ["“IMG_1.jpg” cannot be used: it is damaged or cut off."]


@pytest.mark.parametrize(
    ("does", "end"),
    [("bytearray(decoding.MOST_BYTES)", 1), ("while True: pass", -signal.SIGKILL)],
    ids=["memory", "time"],
)
def test_a_child_has_so_much_memory_and_time_and_no_more(does: str, end: int) -> None:
    """The kernel's limits, as the child sets them to itself; here with a second of time."""
    program = f"from postflow.media import decoding\ndecoding.MOST_CPU_S = 1\ndecoding._bound()\n{does}"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert child.returncode == end, child.stderr
    assert end < 0 or "MemoryError" in child.stderr


def test_a_child_that_dies_refuses_its_picture(phone_photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_SELF", [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    with pytest.raises(errors.Invalid, match="too much memory or time to be opened"):
        decoding.inspect(phone_photo, "IMG_1.jpg")


@pytest.mark.parametrize(("kind", "mime"), [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp")])
def test_content_decides_and_not_the_name(kind: str, mime: str) -> None:
    assert uploads.inspect(saved(red(), kind), "report.pdf").mime == mime


def test_an_animated_gif_is_told_from_a_still_one() -> None:
    assert uploads.inspect(moving_gif(), "a.gif").kind is MediaKind.gif
    assert uploads.inspect(saved(red(), "GIF"), "a.gif").kind is MediaKind.image


def test_what_hides_behind_a_picture_does_not_leave_with_it() -> None:
    hidden = saved(red(), "JPEG") + a_zip()
    assert uploads.inspect(hidden, "a.jpg").kind is MediaKind.image
    rendition = renditions.render(hidden, MASTODON)
    assert not zipfile.is_zipfile(io.BytesIO(rendition.data))


def test_sixteen_bit_grey_keeps_its_brightness() -> None:
    deep = Image.new("I;16", (64, 64))
    deep.putdata([40000] * 4096)
    assert opened(renditions.render(saved(deep, "PNG"), MASTODON)).getpixel((9, 9)) == (156, 156, 156)


def test_print_colours_become_screen_colours() -> None:
    image = opened(renditions.render(saved(Image.new("CMYK", (1200, 800), (0, 255, 255, 0)), "JPEG"), INSTAGRAM))
    pixel = image.getpixel((99, 99))
    assert image.mode == "RGB" and isinstance(pixel, tuple) and pixel[0] > 230 and pixel[1] < 40


def test_transparency_turns_white_where_the_network_takes_only_jpeg_and_stays_elsewhere() -> None:
    palette = Image.new("P", (100, 100), 0)
    palette.putpalette([0, 0, 0] * 256)
    clear = saved(palette, "PNG", transparency=0)
    assert opened(renditions.render(clear, INSTAGRAM)).getpixel((50, 50)) == (255, 255, 255)
    assert opened(renditions.render(clear, MASTODON)).mode == "RGBA"


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("size", [(2000, 500), (500, 2000), (1200, 600), (1441, 754), (333, 999), (200, 200)])
def test_no_rounding_leaves_instagram_s_ratios(size: tuple[int, int], fit: str) -> None:
    rendition = renditions.render(saved(red(*size), "JPEG"), INSTAGRAM.model_copy(update={"fit": fit}))
    assert 0.8 <= rendition.width / rendition.height <= 1.91
    assert rendition.width <= 1440


@pytest.mark.parametrize(("x", "colour"), [(-1, (255, 0, 0)), (0, (0, 255, 0)), (1, (0, 0, 255))])
def test_a_crop_keeps_what_the_focus_points_at(x: float, colour: tuple[int, int, int]) -> None:
    three = Image.new("RGB", (300, 100), "red")
    three.paste((0, 255, 0), (100, 0, 200, 100))
    three.paste((0, 0, 255), (200, 0, 300, 100))
    recipe = renditions.Recipe(mime_types=("image/png",), max_ratio=1.0, min_ratio=0.8, focus=Focus(x=x, y=0))
    assert opened(renditions.render(saved(three, "PNG"), recipe)).getpixel((50, 50)) == colour


def test_a_picture_is_made_plainer_until_it_fits_and_given_up_with_a_sentence() -> None:
    noisy = saved(Image.effect_noise((900, 900), 120).convert("RGB"), "PNG")
    assert len(renditions.render(noisy, renditions.Recipe(max_bytes=60_000)).data) <= 60_000
    with pytest.raises(errors.Invalid, match="cannot be made smaller"):
        renditions.render(noisy, renditions.Recipe(max_bytes=100))


def test_the_key_of_a_recipe_changes_with_what_changes_the_picture() -> None:
    cropped = INSTAGRAM.model_copy(update={"focus": Focus(x=0.5, y=0)})
    padded = INSTAGRAM.model_copy(update={"fit": "pad"})
    keys = [recipe.key for recipe in (MASTODON, INSTAGRAM, cropped, padded, renditions.THUMBNAIL)]
    assert len(set(keys)) == len(keys)
    assert keys[1] == renditions.Recipe.model_validate(INSTAGRAM.model_dump()).key

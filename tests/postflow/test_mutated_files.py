"""Thousands of broken pictures and videos: each is refused with a sentence, or taken and then rendered.

`POSTFLOW_FUZZ=100000 python3 run.py test tests/postflow/test_mutated_files.py` tries so many; `POSTFLOW_FUZZ_SEED` gives
others.
"""

import io
import os
import random
from typing import Any

import pytest
from PIL import Image

from postflow import errors
from postflow.media import decoding, renditions
from postflow.models import MediaKind
from tests.postflow.test_uploads import mp4, webm

FILES = int(os.environ.get("POSTFLOW_FUZZ", "1500"))
SEED = int(os.environ.get("POSTFLOW_FUZZ_SEED", "20261128"))
SQUARE = renditions.Recipe(max_width=64, min_ratio=0.8, max_ratio=1.91, mime_types=("image/jpeg",))


def saved(kind: str, image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def whole_files() -> list[bytes]:
    noise = Image.effect_noise((48, 32), 60)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Somephone"
    exif.get_ifd(0x8825)[1] = "N"
    moving = {"save_all": True, "append_images": [Image.new("L", (48, 32))], "loop": 0}
    palette = noise.convert("P")
    return [
        saved("JPEG", noise.convert("RGB"), exif=exif), saved("JPEG", noise.convert("CMYK"), progressive=True),
        saved("PNG", noise.convert("RGBA"), exif=exif), saved("PNG", palette, transparency=0),
        saved("PNG", noise.convert("I;16")),
        saved("WEBP", noise.convert("RGB"), exif=exif), saved("AVIF", noise.convert("RGB")), saved("GIF", palette, **moving),
        saved("GIF", palette), mp4(), mp4(brand=b"qt  "), webm(), webm(live=True),
    ]  # fmt: skip


def broken(whole: bytes, dice: random.Random) -> bytes:
    data = bytearray(whole)
    for _ in range(dice.choice((1, 1, 2, 4, 12))):
        # Most of what a file says of itself stands at its beginning.
        at = min(int(len(data) * dice.random() ** dice.choice((1, 3))), len(data) - 1)
        match dice.randrange(5):
            case 0:
                data[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
            case 1:
                data[at] ^= 1 << dice.randrange(8)
            case 2:
                data[at : at + dice.choice((1, 2, 4, 8))] = dice.randbytes(dice.choice((0, 4, 8)))
            case 3:
                data[at : at + 4] = dice.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1"))
            case _:
                data = data[: max(at, 8)] if dice.random() < 0.3 else data + data[at : at + 40]
    return bytes(data)


def test_a_broken_file_is_refused_with_a_sentence_or_can_be_used() -> None:
    dice, originals, taken = random.Random(SEED), whole_files(), 0
    for number in range(FILES):
        data, said = broken(originals[number % len(originals)], dice), []
        try:
            facts = decoding.inspect(data, "x")
            taken += 1
            if facts.kind is MediaKind.image:
                for recipe in (renditions.THUMBNAIL, SQUARE):
                    assert decoding.render(data, recipe).data
        except errors.Invalid as refused:
            said = [sentence for sentences in refused.fields.values() for sentence in sentences]
        except Exception as fault:
            raise AssertionError(f"file {number} of seed {SEED}: {data.hex()}") from fault
        assert all(sentence.endswith(".") for sentence in said)
    assert 0 < taken < FILES


def test_what_is_taken_can_be_rendered_for_every_network() -> None:
    """Nobody should learn at the hour of publishing that a picture cannot be read."""
    dice, originals = random.Random(SEED + 1), whole_files()[:7]
    for number in range(FILES // 3):
        data = broken(originals[number % len(originals)], dice)
        try:
            decoding.inspect(data, "x")
        except errors.Invalid:
            continue
        for recipe in (renditions.THUMBNAIL, SQUARE, renditions.Recipe(max_pixels=2_000_000)):
            try:
                decoding.render(data, recipe)
            except errors.Invalid as late:
                pytest.fail(f"file {number} of seed {SEED + 1} was taken: {late}: {data.hex()}")

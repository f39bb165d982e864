"""The worst samples as one picture: each with its class, what it was taken for, and how surely."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dnntrain.errors import UsageError, visible
from dnntrain.store import write_atomic
from dnntrain.trained.evaluating import Evaluation, Worst

_SIDE: Final = 128
"""Pixels of a tile's picture: small ones are enlarged by a whole factor, larger ones are made smaller."""
_MARGIN: Final = 8
_LINE: Final = 15
_WIDEST: Final = 10
"""Tiles beside each other at most."""
_MOST: Final = 500
"""Tiles on a sheet at most: more would be a picture that few programs show."""


def check_sheet(path: Path, samples: int) -> None:
    """Make sure that a sheet can be written there, before anything is computed.

    Raises:
        UsageError: it is no name of a PNG file, or there is one already, or it would be too large.
    """
    if samples > _MOST:
        raise UsageError(f"a sheet holds at most {_MOST} samples, not {samples:,}")
    if path.suffix.lower() != ".png":
        raise UsageError(f"the sheet is a PNG picture, so {path} must end in .png")
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already; remove it, or name another file")


def write_sheet(evaluation: Evaluation, path: Path) -> None:
    """Write the worst samples of an evaluation as one PNG picture.

    Raises:
        UsageError: the samples are no pictures, or none of grey or of red, green and blue.
        StoreError: the file system refuses.
    """
    pictures = evaluation.pictures
    if pictures is None:
        raise UsageError(f"samples of this run are no pictures, so there is no sheet {path}; leave out --output")
    if pictures.shape[1] not in (1, 3):
        raise UsageError(
            f"pictures of {pictures.shape[1]} channels cannot be shown, so there is no sheet {path}; leave out --output"
        )
    sheet = draw_sheet(pictures, evaluation.worst)

    def write(file: BinaryIO) -> None:
        sheet.save(file, format="PNG")

    write_atomic(path, write)


def draw_sheet(pictures: np.ndarray, worst: tuple[Worst, ...]) -> Image.Image:
    """Draw pictures (n, C, H, W) of uint8, C 1 or 3, in a grid, with what is known of each below it."""
    columns = min(_WIDEST, math.ceil(math.sqrt(len(worst))))
    rows = math.ceil(len(worst) / columns)
    width, height = _SIDE + 2 * _MARGIN, _SIDE + 3 * _LINE + 2 * _MARGIN
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default()
    for i, (pixels, sample) in enumerate(zip(pictures, worst, strict=True)):
        left, top = i % columns * width, i // columns * height
        tile = _tile(pixels)
        sheet.paste(tile, (left + (width - tile.width) // 2, top + _MARGIN + (_SIDE - tile.height) // 2))
        for line, (text, colour) in enumerate(_captions(sample)):
            shown = _cut(draw, text, font, _SIDE + _MARGIN)
            at = (left + (width - draw.textlength(shown, font=font)) / 2, top + _MARGIN + _SIDE + line * _LINE + 3)
            draw.text(at, shown, fill=colour, font=font)
    return sheet


def _captions(sample: Worst) -> list[tuple[str, str]]:
    """Return the lines below a picture, each with its colour."""
    surely = "" if sample.probability is None else f", {100 * sample.probability:.1f} %"
    return [
        (f"true {_said(sample.target)}", "black"),
        (f"predicted {_said(sample.predicted)}{surely}", "firebrick"),
        (f"row {sample.row}, loss {sample.loss:.3g}", "dimgray"),
    ]


def _said(value: str | list[float]) -> str:
    return value if isinstance(value, str) else " ".join(f"{each:.4g}" for each in value)


def _tile(pixels: np.ndarray) -> Image.Image:
    """Return a picture (C, H, W) that fits a tile: its pixels as squares where it is small."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    largest = max(image.size)
    if largest > _SIDE:
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        return image.convert("RGB")
    factor = _SIDE // largest
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).convert("RGB")


def _cut(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, room: int) -> str:
    """Shorten a line to the room there is; the names of classes may be anything."""
    shown = visible(text, keep="")
    if isinstance(font, ImageFont.ImageFont):
        # Pillow without FreeType has a font of Latin-1 alone.
        shown = shown.encode("latin-1", "replace").decode("latin-1")
    if draw.textlength(shown, font=font) <= room:
        return shown
    while shown and draw.textlength(f"{shown}...", font=font) > room:
        shown = shown[:-1]
    return f"{shown}..."

"""Draws ten small grey images in one row, each under its digit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SCALE = 12  # screen pixels per pixel of an image
GAP, LABEL = 12, 30  # screen pixels between images, and above them for the digit


def draw_row(means: np.ndarray, path: Path) -> None:
    """Writes `means` (10 images of equal size, 0 white to 16 black) to `path` as a PNG."""
    count, height, width = means.shape
    row = Image.new("L", (GAP + count * (width * SCALE + GAP), LABEL + height * SCALE + GAP), 255)
    pen, font = ImageDraw.Draw(row), ImageFont.load_default(size=20)
    grey = (255 - means * (255 / 16)).round().clip(0, 255).astype(np.uint8)
    for digit in range(count):
        left = GAP + digit * (width * SCALE + GAP)
        image = Image.fromarray(grey[digit]).resize((width * SCALE, height * SCALE), Image.Resampling.NEAREST)
        row.paste(image, (left, LABEL))
        pen.rectangle((left - 1, LABEL - 1, left + width * SCALE, LABEL + height * SCALE), outline=190)
        pen.text((left + width * SCALE / 2, LABEL / 2), str(digit), fill=0, font=font, anchor="mm")
    row.save(path)

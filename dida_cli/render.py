"""Sheets and curves for people to look at."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from dida_cli.images import write_bytes

CELL, GAP, TEXT = 128, 6, 14  # pixels: a picture's least side, between pictures, letter height
INK, GROUND = (40, 40, 40), (255, 255, 255)
MARK = (230, 0, 90)  # what an overlay shows a region in

Cell = Image.Image | None


def overlay(picture: Image.Image, region: Image.Image) -> Image.Image:
    """A picture with a region (grey, of its size: 255 inside) tinted and the rest paled."""
    plain = picture.convert("RGB")
    pale = Image.blend(plain, Image.new("RGB", plain.size, GROUND), 0.5)
    marked = Image.blend(plain, Image.new("RGB", plain.size, MARK), 0.5)
    return Image.composite(marked, pale, region)


def sheet(
    rows: Sequence[Sequence[Cell]], *, top: Sequence[str] = (), left: Sequence[str] = ()
) -> Image.Image:
    """Pictures in rows, with words above the columns and left of the rows; None leaves a gap."""
    side = max([CELL, *(max(cell.size) for row in rows for cell in row if cell)])
    columns = max(len(row) for row in rows)
    font = ImageFont.load_default(TEXT)
    margin_left = max([0, *(int(font.getlength(word)) + 2 * GAP for word in left)])
    margin_top = TEXT + 2 * GAP if any(top) else 0
    step = side + GAP
    size = (margin_left + columns * step + GAP, margin_top + len(rows) * step + GAP)
    paper = Image.new("RGB", size, GROUND)
    draw = ImageDraw.Draw(paper)
    for x, word in enumerate(top):
        middle = margin_left + GAP + x * step + side / 2
        shown = _shortened(word, font, side)
        draw.text((middle, margin_top - GAP / 2), shown, INK, font, anchor="ms")
    for y, word in enumerate(left):
        draw.text((GAP, margin_top + GAP + y * step + side / 2), word, INK, font, anchor="lm")
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            if cell:
                longer = max(cell.size)
                small = longer * 2 <= side
                filter_ = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
                width, height = (max(1, round(length * side / longer)) for length in cell.size)
                place = (
                    margin_left + GAP + x * step + (side - width) // 2,
                    margin_top + GAP + y * step + (side - height) // 2,
                )
                paper.paste(cell.resize((width, height), filter_), place)
    return paper


def _shortened(word: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    shown = word
    while word and font.getlength(shown) > width:
        word = word[:-1]
        shown = f"{word}..."
    return shown


def bars(shares: Mapping[str, tuple[float, float, float]], path: Path) -> None:
    """A bar for each share 0..1 with the ends of its interval: name -> (share, low, high)."""
    values = [share for share, _, _ in shares.values()]
    below = [max(0.0, share - low) for share, low, _ in shares.values()]
    above = [max(0.0, high - share) for share, _, high in shares.values()]
    with _plot(1, path) as (panel,):
        panel.barh(list(shares), values, xerr=[below, above], height=0.5, capsize=4)
        panel.set_xlim(0, 1)
        panel.grid(axis="x", alpha=0.3)


def curves(log: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A plot of every logged figure over the steps, one panel each; few figures are dots too."""
    lines: dict[str, dict[float, float]] = {}
    for line in log:
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float):
                lines.setdefault(name, {})[line["step"]] = value
    with _plot(len(lines), path) as panels:
        for panel, (name, values) in zip(panels, lines.items(), strict=True):
            marker = "." if len(values) < len(log) else None  # as scores, which are seldom made
            panel.plot(list(values), list(values.values()), linewidth=1, marker=marker)
            panel.set_title(name.replace("_", " "), loc="left", fontsize=9)
            panel.grid(alpha=0.3)
        panels[-1].set_xlabel("step")


@contextmanager
def _plot(panels: int, path: Path) -> Iterator[Any]:
    """Panels below each other to draw in, saved as a PNG file at the end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.8 * max(panels, 1.2)), layout="constrained")
    yield figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    write_bytes(buffer.getvalue(), path)

"""Glasses drawn onto photos of faces, so that an edit that takes them off has a true answer.

Frames are a pure function of (seed, index, kind). They are drawn in the square of the face, where
eyes lie as `faces.TEMPLATE` has them, and come at the picture's own size.
"""

import functools
from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from dida_cli.faces import TEMPLATE, Placement
from dida_cli.images import Picture

Kind = Literal["thin", "thick", "dark"]
KINDS: tuple[Kind, ...] = ("thin", "thick", "dark")
METALS = ((60, 60, 62), (150, 150, 155), (170, 140, 80), (120, 85, 60), (30, 30, 35))
PLASTICS = ((20, 20, 22), (60, 38, 25), (110, 70, 40), (40, 45, 80), (120, 30, 35), (200, 195, 190))
EYES = float(TEMPLATE[1, 0] - TEMPLATE[0, 0])  # from eye to eye, of the side of a face's square
FINER = 3  # times as many pixels each way are drawn, then averaged
POINTS = 96  # of an outline
ARM = 0.55  # of the distance of the eyes, from an eye to where an arm ends
BANK = 384  # frames that a training draws from

Colour = tuple[int, int, int]
Square = tuple[float, float, float]  # left, top, side: of the side of a picture


@dataclass(frozen=True)
class Frames:
    """One pair of glasses; lengths are of the distance of the eyes.

    Attributes:
        width, height: half of a lens.
        corner: 2 is an ellipse, the more the squarer.
        droop: how much lower the outer halves of the lenses hang.
        thick: of the rims.
        colour: of the rims.
        lens, covers: colour of the lenses, and how much it covers, 0 to 1.
        glare: how much the light that lenses reflect covers.
        shadow: how much darker the skin is below the rims.
    """

    width: float
    height: float
    corner: float
    droop: float
    thick: float
    colour: Colour
    lens: Colour
    covers: float
    glare: float
    shadow: float


def frames_at(seed: int, index: int, kind: Kind) -> Frames:
    """The frames of this number."""
    random = Random(f"{seed} {index} {kind}")
    between = random.uniform
    is_thin = kind == "thin" or (kind == "dark" and random.random() < 0.4)
    is_dark = kind == "dark"
    width = between(0.3, 0.38)
    grey, cast = between(8, 50), between(0, 70)
    red, green, blue = (round(grey + cast * between(0, 1)) for _ in range(3))
    return Frames(
        width=width,
        height=width * between(0.6, 0.95),
        corner=between(2, 3.6),
        droop=between(0, 0.04),
        thick=between(0.017, 0.029) if is_thin else between(0.045, 0.087),
        colour=random.choice(METALS if is_thin else PLASTICS),
        lens=(red, green, blue) if is_dark else (205, 220, 225),
        covers=between(0.45, 0.96) if is_dark else between(0.02, 0.08),
        glare=between(0.1, 0.45) * (random.random() < 0.5),
        shadow=between(0.1, 0.35),
    )


class Bank:
    """Many frames as layers, for pictures of faces that all lie as the template.

    A picture with frames is `kept` of it and `light` beside it: both are read from drawing frames
    onto black and onto white.
    """

    def __init__(self, side: int, square: Square, seed: int) -> None:
        """side: of the pictures in pixels; square: where that of a face lies in all of them."""
        random, drawn = Random(f"bank {seed}"), []
        black, white = (Image.new("RGB", (side, side), (level,) * 3) for level in (0, 255))
        for index in range(BANK):
            where = _shaken(side, square, random)
            frames = frames_at(seed, index, KINDS[index % len(KINDS)])
            drawn.append([np.asarray(worn(plain, where, frames)) for plain in (black, white)])
        layers = torch.from_numpy(np.array(drawn)).permute(1, 0, 4, 2, 3)  # (2, BANK, 3, s, s)
        self.light, self.kept = layers[0], layers[1] - layers[0]

    def __call__(self, pictures: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Pictures (N, 3, side, side) in [-1, 1] with some of the frames, drawn at random; and
        guides: the next picture, with the same frames."""
        rows = random.integers(BANK, size=len(pictures))
        return self._on(pictures, rows), self._on(pictures.roll(-1, 0), rows)

    def _on(self, pictures: Tensor, frames: np.ndarray) -> Tensor:
        rows = torch.from_numpy(frames)
        light, kept = (layer[rows].float() / 255 for layer in (self.light, self.kept))
        return kept * (pictures + 1) + 2 * light - 1


@functools.lru_cache(maxsize=1)
def bank(side: int, square: Square, seed: int) -> Bank:
    """The frames of a training; they take some seconds to draw."""
    return Bank(side, square, seed)


def _shaken(side: int, square: Square, random: Random) -> Placement:
    """Where a face lies in such a picture, as people wear glasses: a little off, turned, larger."""
    left, top, inner = (side * part for part in square)
    size = inner * random.uniform(0.95, 1.05)
    turn = np.deg2rad(random.uniform(-2, 2))
    cos, sin = size * np.cos(turn), size * np.sin(turn)
    moved = np.array([random.uniform(-0.012, 0.012), random.uniform(-0.02, 0.02)])
    matrix = np.array([[cos, -sin], [sin, cos]])
    middle = np.array([left, top]) + inner * (0.5 + moved)
    return Placement(np.column_stack([matrix, middle - matrix @ (0.5, 0.5)]))


def worn(picture: Picture, where: Placement, frames: Frames) -> Picture:
    """An RGB picture whose face, lying there, wears these frames."""
    rims, lenses, glare = _layers(picture, where, frames)
    eyes = EYES * where.side  # pixels
    soft = ImageFilter.GaussianBlur(0.025 * eyes)
    fallen = Image.new("L", picture.size)
    fallen.paste(rims, (0, max(1, round(0.037 * eyes))))
    made = picture.copy()
    for mask, colour, covers in (
        (fallen.filter(soft), (25, 15, 12), frames.shadow),
        (lenses, frames.lens, frames.covers),
        (glare, (255, 255, 255), frames.glare),
        (rims, frames.colour, 1.0),
    ):
        made.paste(colour, (0, 0), mask.point([round(covers * level) for level in range(256)]))
    return made


def _layers(picture: Picture, where: Placement, frames: Frames) -> tuple[Picture, Picture, Picture]:
    """Where rims, lenses and their glare are: grey, of the picture's size."""
    left, top = np.floor(where.corners.min(0)).astype(int) - 2
    right, bottom = np.ceil(where.corners.max(0)).astype(int) + 2
    size = FINER * int(right - left), FINER * int(bottom - top)
    layers = [Image.new("L", size) for _ in range(3)]
    rims, lenses, glare = map(ImageDraw.Draw, layers)

    def at(points: np.ndarray) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in FINER * (where.at(points) - (left, top))]

    width = max(1, round(FINER * EYES * where.side * frames.thick))
    outlines = [_outline(frames, side, 0.0) for side in (0, 1)]
    for side, outline in enumerate(outlines):
        rims.polygon(at(_outline(frames, side, frames.thick)), fill=255)
        lenses.polygon(at(outline), fill=255)
        u, v = outline.min(0), outline.max(0)
        band = u + (v - u) * np.array([[0.2, 0.1], [0.4, 0.1], [0.25, 0.9], [0.05, 0.9]])
        glare.polygon(at(band), fill=255)
    for outline in outlines:
        rims.polygon(at(outline), fill=0)
    inner = outlines[0][:, 0].max(), outlines[1][:, 0].min()
    height = TEMPLATE[0, 1] - 0.2 * EYES * frames.height
    way = np.linspace(-1, 1, POINTS // 4)
    bridge = np.stack(
        [np.mean(inner) + way * (inner[1] - inner[0]) / 1.6, height - 0.04 * EYES * (1 - way**2)], 1
    )
    rims.line(at(bridge), fill=255, width=width, joint="curve")
    for side, outward in ((0, -1), (1, 1)):
        edge = outward * (outward * outlines[side][:, 0]).max()
        end = TEMPLATE[side, 0] + ARM * EYES * outward
        arm = np.array([[edge, height], [end, height - 0.04 * EYES]])
        rims.line(at(arm), fill=255, width=width)
    layers[2] = Image.composite(layers[2], Image.new("L", size), layers[1])
    return tuple(_placed(layer, picture, (int(left), int(top))) for layer in layers)  # type: ignore[return-value]


def _outline(frames: Frames, side: int, beyond: float) -> np.ndarray:
    """The edge of the left (0) or right (1) lens, and so much beyond: (POINTS, 2)."""
    turn = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    cos, sin = np.cos(turn), np.sin(turn)
    outward = -1 if side == 0 else 1
    x = np.sign(cos) * np.abs(cos) ** (2 / frames.corner) * (frames.width + beyond)
    y = np.sign(sin) * np.abs(sin) ** (2 / frames.corner) * (frames.height + beyond)
    y = y + frames.droop * (x * outward / frames.width) * (y > 0)
    middle = 0.017 * outward, 0.052
    edge: np.ndarray = TEMPLATE[side] + EYES * (np.stack([x, y], 1) + middle)
    return edge


def _placed(layer: Picture, picture: Picture, at: tuple[int, int]) -> Picture:
    made = Image.new("L", picture.size)
    made.paste(layer.reduce(FINER), at)
    return made

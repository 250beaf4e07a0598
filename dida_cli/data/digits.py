"""Digits in two domains, for adaptation from one to the other without labels there.

`mnist` are handwritten, white on black; `street` are drawn as numbers of houses are photographed,
in place of SVHN: printed in many fonts and colours, a little turned, blurred, in uneven light,
with other digits beside them. On disk they are pictures with a table of labels (`table`), so that
any other domain, as USPS, is a few more pictures and lines.
"""

import functools
import io
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from dida_cli import locks
from dida_cli.data.folders import Progress, unheard
from dida_cli.data.table import PARTITION
from dida_cli.errors import DidaError
from dida_cli.images import Picture, write, write_bytes

SIDE = 32  # pixels
TABLE, DOMAIN, DIGIT = "digits.csv", "domain", "digit"
MNIST, STREET = "mnist", "street"
HELD_OUT = (("test", 0.15), ("validation", 0.05))  # of each domain; the rest is learned from
FONTS = "fonts_ttf"  # the entry point that packages of fonts on PyPI name their files by
ARCHIVE = Path(__file__).parents[2] / "data" / "mnist10k.npz"  # in the repository

FINER = 3  # times as many pixels each way are drawn, then averaged
VIVID = 0.6  # of a colour at random: those of houses are duller
APART = 70  # levels of grey, at least, between a digit and its ground
BESIDE = 0.7  # of the digits have another one on either side
Colour = tuple[int, ...]


def write_set(out: Path, mnist: Path, *, seed: int = 0, on_progress: Progress = unheard) -> None:
    """Both domains, as many pictures of each, and their table, which comes last.

    `mnist`: a file .npz of pictures x, uint8 (N, 28, 28), and digits y, (N,). Raises DidaError
    where it is none, or no fonts are installed.
    """
    pictures, digits = _read(mnist)
    paths, count = fonts(), len(digits)
    digits_drawn = np.random.default_rng(seed).permutation(count) % 10
    kinds = _kinds(count, seed)
    lines = [f"file,{DOMAIN},{DIGIT},{PARTITION}"]
    with locks.alone(out):
        for index in range(count):
            drawn = street(int(digits_drawn[index]), np.random.default_rng((seed, index)), paths)
            written = (MNIST, digits[index], _framed(pictures[index]))
            for domain, digit, picture in (written, (STREET, digits_drawn[index], drawn)):
                name = f"{domain}/{index:05d}.png"
                write(picture, out / name)
                lines.append(f"{name},{domain},{digit},{kinds[index]}")
            on_progress(index + 1, count)
        write_bytes("".join(f"{line}\n" for line in lines).encode(), out / TABLE)


def fonts() -> list[str]:
    """The font files of installed packages, but those of variable weight, in one order always.

    Raises DidaError when there are none.
    """
    found = [path for entry in entry_points(group=FONTS) for path in entry.load().values()]
    if not found:
        raise DidaError("no fonts to draw digits in; pip install 'dida[digits]'")
    return sorted((p for p in found if "Variable" not in p), key=lambda path: Path(path).name)


def street(digit: int, random: np.random.Generator, paths: Sequence[str]) -> Picture:
    """A digit as on a house, (SIDE, SIDE); a pure function of its arguments."""
    large = SIDE * FINER
    ground, ink = _colours(random)
    picture = _lit(Image.new("RGB", (large, large), ground), random)
    font = _font(paths[int(random.integers(len(paths)))], round(large * random.uniform(0.6, 0.95)))
    text = Image.new("L", (large, large))
    pen = ImageDraw.Draw(text)
    start, top, end, bottom = font.getbbox(str(digit), anchor="mm")
    middle = large / 2 - (start + end) / 2, large / 2 - (top + bottom) / 2
    x, y = (at + large * random.uniform(-0.06, 0.06) for at in middle)
    pen.text((x, y), str(digit), fill=255, font=font, anchor="mm")
    gap = (end - start) * random.uniform(1.0, 1.25)
    for step in (-1, 1):
        if random.random() < BESIDE:
            other = str(random.integers(10))
            pen.text((x + step * gap, y), other, fill=255, font=font, anchor="mm")
    text = text.rotate(random.uniform(-12, 12), Image.Resampling.BILINEAR)
    if random.random() < 0.3:  # a shadow, or raised letters
        shade = tuple(round(level * 0.5) for level in ground)
        right, down = random.integers(2, 5, 2).tolist()
        picture.paste(shade, (right, down), text)
    picture.paste(ink, (0, 0), text)
    picture = _lit(picture, random).filter(ImageFilter.GaussianBlur(random.uniform(0, FINER)))
    levels = np.asarray(picture.reduce(FINER)).astype(float)
    levels += random.normal(0, random.uniform(1, 8), levels.shape)
    return Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))


def _colours(random: np.random.Generator) -> tuple[Colour, Colour]:
    """Of the ground and of the digit, so far apart that people could read it."""
    while True:
        ground, ink = (_muted(random.integers(10, 246, 3)) for _ in range(2))
        if abs(_grey(ground) - _grey(ink)) >= APART:
            return ground, ink


def _muted(levels: np.ndarray) -> Colour:
    mean = levels.mean()
    return tuple((mean + VIVID * (levels - mean)).round().astype(int).tolist())


def _grey(colour: Colour) -> float:
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _lit(picture: Picture, random: np.random.Generator) -> Picture:
    """Lighter or darker from one side to the other."""
    slope = Image.linear_gradient("L").resize(picture.size).rotate(90 * int(random.integers(4)))
    amount = random.uniform(0, 0.35)
    other = Image.new("RGB", picture.size, (int(random.integers(256)),) * 3)
    return Image.composite(other, picture, slope.point(lambda level: amount * level))


@functools.lru_cache(maxsize=1024)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


def _framed(levels: np.ndarray) -> Picture:
    """A handwritten digit (28, 28) in the middle of a picture."""
    edge = (SIDE - levels.shape[0]) // 2
    return Image.fromarray(np.pad(levels, edge)).convert("RGB")


def _kinds(count: int, seed: int) -> list[str]:
    """What each picture is for: a share of them, at random, is held out."""
    order = np.random.default_rng((seed, count)).permutation(count)
    kinds, start = ["training"] * count, 0
    for kind, share in HELD_OUT:
        end = start + round(share * count)
        for index in order[start:end]:
            kinds[index] = kind
        start = end
    return kinds


def _read(mnist: Path) -> tuple[np.ndarray, np.ndarray]:
    if not mnist.is_file():
        raise DidaError(
            f"{mnist}: is not there; it comes with dida's repository: run this in a clone of it, "
            "or give a .npz of x (N, 28, 28) and y (N,) with --mnist"
        )
    try:
        with np.load(io.BytesIO(mnist.read_bytes()), allow_pickle=False) as arrays:
            x, y = arrays["x"], arrays["y"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DidaError(f"{mnist}: is no .npz of pictures x and digits y ({error})") from None
    if x.dtype != np.uint8 or x.shape[1:] != (28, 28) or y.shape != x.shape[:1]:
        raise DidaError(f"{mnist}: x must be uint8 (N, 28, 28) and y (N,)")
    if not np.isin(y, np.arange(10)).all():
        raise DidaError(f"{mnist}: y must be digits, 0 to 9")
    return x, y

"""Drawn faces whose every factor is known, so that every edit has a true answer.

The library python-avatars (MIT; artwork "Avataaars" by Pablo Stanley, free for personal and
commercial use) makes the SVG, resvg draws it. A face is a pure function of its `Factors`, the
factors are a pure function of (seed, index), and so a set is the same wherever it is drawn.
On disk it has the layout of CelebA: `images/`, an attribute list, a partition list.
"""

import functools
import io
import itertools
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import NamedTuple

import python_avatars as parts
import resvg_py
from PIL import Image

from dida_cli import locks
from dida_cli.config import read_json
from dida_cli.errors import DidaError
from dida_cli.images import TEMPORARY, write, write_bytes

NONE = "NONE"
GLASSES = (
    "KURT PRESCRIPTION_1 PRESCRIPTION_2 ROUND SUNGLASSES SUNGLASSES_2 WAYFARERS WAYFARERS_2"
).split()
SMILES = "SMILE BIG_SMILE TWINKLE TONGUE".split()
OTHER_MOUTHS = "SERIOUS SAD CONCERNED DISBELIEF GRIMACE".split()
BEARDS = (
    "BEARD_LIGHT BEARD_MAGESTIC BEARD_MEDIUM MOUSTACHE_FANCY MOUSTACHE_MAGNUM "
    "EINSTEIN_MOUSTACHE WICK_BEARD"
).split()
# Left out: no hair, hats, and CURLY_2, LONG_HAIR_CURLY and LOOSE_HAIR, whose drawings have no
# slot for glasses or a beard, so that the label would not be visible.
HAIR = (
    "BIG_HAIR BOB BUN CAESAR_SIDE_PART CAESAR CURLY CURVY DREADS FRIDA FRIZZLE FRO_BAND FRO "
    "LONG_NOT_TOO_LONG MIA_WALLACE SHAGGY_MULLET SHAGGY SHAVED_SIDES SHORT_CURLY SHORT_DREADS_1 "
    "SHORT_DREADS_2 SHORT_FLAT SHORT_ROUND SHORT_WAVED SIDES STRAIGHT_1 STRAIGHT_2 "
    "STRAIGHT_STRAND BRAIDS BUZZCUT CORNROWS DREADLOCKS ELVIS EVIL_SPIKE HALF_SHAVED MOHAWK "
    "MOWGLI PIXIE POMPADOUR QUIFF TWIST_LONG_HAIR TWIST_LONG_HAIR_2 WICK WILD"
).split()
HAIR_COLORS = (
    "AUBURN BLACK BLONDE BLONDE_GOLDEN BROWN BROWN_DARK PASTEL_PINK PLATINUM RED SILVER_GRAY"
).split()
SKIN_COLORS = "TANNED YELLOW PALE LIGHT BROWN DARK_BROWN BLACK".split()
EYEBROWS = (
    "ANGRY_NATURAL ANGRY DEFAULT_NATURAL DEFAULT FLAT_NATURAL FROWN_NATURAL "
    "RAISED_EXCITED_NATURAL RAISED_EXCITED SAD_CONCERNED_NATURAL SAD_CONCERNED "
    "UNIBROW_NATURAL UP_DOWN_NATURAL UP_DOWN"
).split()
EYES = "DEFAULT SIDE SQUINT HAPPY CLOSED SURPRISED WINK".split()
NOSES = "DEFAULT SMALL WIDE".split()
CLOTHES = (
    "BLAZER_SHIRT BLAZER_SWEATER COLLAR_SWEATER HOODIE OVERALL SHIRT_CREW_NECK "
    "SHIRT_SCOOP_NECK SHIRT_V_NECK"
).split()
CLOTHES_COLORS = (
    "BLACK BLUE_01 BLUE_02 BLUE_03 GRAY_01 GRAY_02 HEATHER PASTEL_BLUE PASTEL_GREEN "
    "PASTEL_ORANGE PASTEL_YELLOW PINK RED WHITE"
).split()
BACKGROUNDS = "#E8F0FE #FDF3E1 #E6F4EA #F3E8FD #D9E2EC #FFE3E3".split()

HEAD = (52, 32, 212, 192)  # of the 264 x 280 drawing what is kept: left, top, right, bottom
# Where the square of a face would lie if these were photos (`frames.Square`), by their glasses.
SQUARE = (0.055, 0.131, 0.898)
FACTORS_LIST = "factors.jsonl"  # of a set: every face's factors


class Attribute(NamedTuple):
    """What a face may have: the factors it is about, the values of the first with and without."""

    factors: tuple[str, ...]
    present: list[str]
    absent: list[str]


ATTRIBUTES = {
    "Smiling": Attribute(("mouth",), SMILES, OTHER_MOUTHS),
    "Eyeglasses": Attribute(("glasses",), GLASSES, [NONE]),
    "Beard": Attribute(("beard", "beard_color"), BEARDS, [NONE]),
}
# What no set draws: for pictures other than those a model was trained on.
FOREIGN_EYES = "CRY EYE_ROLL HEART WINK_WACKY X_DIZZY".split()
FOREIGN_BACKGROUNDS = "#102A43 #7B241C #145A32 #F4D03F".split()


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Everything there is to know about one face: python-avatars' names, or `#RRGGBB`."""

    glasses: str
    mouth: str
    beard: str
    beard_color: str
    hair: str
    hair_color: str
    skin: str
    eyebrows: str
    eyes: str
    nose: str
    clothes: str
    clothes_color: str
    background: str

    def has(self, attribute: str) -> bool:
        """Whether the face carries one of `ATTRIBUTES`."""
        factors, present, _ = ATTRIBUTES[attribute]
        return getattr(self, factors[0]) in present

    def with_parts_of(self, guide: "Factors", attributes: Sequence[str]) -> "Factors":
        """The true answer of a transfer: this face with the guide's mouth, glasses or beard."""
        names = [name for attribute in attributes for name in ATTRIBUTES[attribute].factors]
        return replace(self, **{name: getattr(guide, name) for name in names})

    def without(self, attribute: str) -> list["Factors"]:
        """Every face that is this one but lacks one of `ATTRIBUTES`, all of them right answers."""
        factors, _, absent = ATTRIBUTES[attribute]
        return [replace(self, **{factors[0]: value}) for value in absent]


def factors_at(seed: int, index: int) -> Factors:
    """The factors of face `index` (0, 1, ...) of the set `seed`, the same on every machine."""
    random = Random(f"{seed}:{index}").random  # Python promises this sequence across versions

    def pick(names: list[str]) -> str:
        return names[int(random() * len(names))]

    def half(yes: list[str], no: list[str]) -> str:
        return pick(yes if random() < 0.5 else no)

    return Factors(
        glasses=half(GLASSES, [NONE]),
        mouth=half(SMILES, OTHER_MOUTHS),
        beard=half(BEARDS, [NONE]),
        beard_color=pick(HAIR_COLORS),
        hair=pick(HAIR),
        hair_color=pick(HAIR_COLORS),
        skin=pick(SKIN_COLORS),
        eyebrows=pick(EYEBROWS),
        eyes=pick(EYES),
        nose=pick(NOSES),
        clothes=pick(CLOTHES),
        clothes_color=pick(CLOTHES_COLORS),
        background=pick(BACKGROUNDS),
    )


def faces_with(seed: int, present: str | None, absent: str | None) -> Iterator[Factors]:
    """Endless faces of the set `seed` that have one attribute and lack another; None: any."""
    for index in itertools.count():
        face = factors_at(seed, index)
        if (present is None or face.has(present)) and (absent is None or not face.has(absent)):
            yield face


def foreign(face: Factors, index: int) -> Factors:
    """The face with eyes, brows and a background that no training set has."""
    return replace(
        face,
        eyes=FOREIGN_EYES[index % len(FOREIGN_EYES)],
        eyebrows=NONE,
        background=FOREIGN_BACKGROUNDS[index % len(FOREIGN_BACKGROUNDS)],
    )


def draw(face: Factors, side: int = 128) -> Image.Image:
    """The face as an RGB picture, side x side pixels, cropped to the head."""
    svg = parts.Avatar(
        style=parts.AvatarStyle.TRANSPARENT,
        accessory=parts.AccessoryType[face.glasses],
        mouth=parts.MouthType[face.mouth],
        facial_hair=parts.FacialHairType[face.beard],
        facial_hair_color=parts.HairColor[face.beard_color],
        top=parts.HairType[face.hair],
        hair_color=parts.HairColor[face.hair_color],
        skin_color=parts.SkinColor[face.skin],
        eyebrows=parts.EyebrowType[face.eyebrows],
        eyes=parts.EyeType[face.eyes],
        nose=parts.NoseType[face.nose],
        clothing=parts.ClothingType[face.clothes],
        clothing_color=parts.ClothingColor[face.clothes_color],
    ).render()
    png = resvg_py.svg_to_bytes(svg_string=svg, background=face.background, skip_system_fonts=True)
    drawing = Image.open(io.BytesIO(bytes(png))).convert("RGB")
    return drawing.resize((side, side), Image.Resampling.LANCZOS, box=HEAD)


def write_set(
    out: Path,
    *,
    count: int,
    seed: int,
    side: int = 128,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Draw faces 0 .. count-1 of the set `seed` into `out`, in the layout of CelebA.

    Pictures that are there already are kept, so a stopped run goes on where it was.
    Raises DidaError when `out` holds a set drawn with other arguments, or is drawn into already.
    """
    with locks.alone(out):
        _claim(out / "avatars.json", {"seed": seed, "side": side})
        images = out / "images"
        for stale in images.glob(f"{TEMPORARY}*"):  # of a drawing that was killed
            stale.unlink()
        missing = [i for i in range(count) if not (images / file_name(i)).exists()]
        done = count - len(missing)
        on_progress(done, count)
        one = functools.partial(_write_picture, images, seed, side)
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=context) as pool:
            for _ in pool.map(one, missing, chunksize=16):
                done += 1
                on_progress(done, count)
        _write_lists(out, count, seed)


def _claim(record: Path, arguments: dict[str, int]) -> None:
    """Write down what is drawn into a folder; DidaError if it is something else."""
    if not record.exists():
        write_bytes(f"{json.dumps(arguments)}\n".encode(), record)
    found = read_json(record)
    if found != arguments:
        was, now = (", ".join(f"{k} {v}" for k, v in d.items()) for d in (found, arguments))
        raise DidaError(
            f"{record.parent} holds avatars with {was}, not {now}; choose another folder with --out"
        )


def file_name(index: int) -> str:
    """`000001.png` for face 0: CelebA counts from one."""
    return f"{index + 1:06d}.png"


def partition(index: int, count: int) -> int:
    """0 training, 1 validation, a twentieth, 2 test, the last tenth: no face is in two of them."""
    test = count - count // 10
    return 2 if index >= test else 1 if index >= test - count // 20 else 0


def _write_picture(images: Path, seed: int, side: int, index: int) -> None:
    write(draw(factors_at(seed, index), side), images / file_name(index))


def _write_lists(out: Path, count: int, seed: int) -> None:
    faces = {file_name(index): factors_at(seed, index) for index in range(count)}
    signs = {name: [1 if face.has(a) else -1 for a in ATTRIBUTES] for name, face in faces.items()}
    rows = [name + "".join(f" {sign:2d}" for sign in of_face) for name, of_face in signs.items()]
    lists = {
        "list_attr_celeba.txt": [str(count), " ".join(ATTRIBUTES), *rows],
        "list_eval_partition.txt": [f"{n} {partition(i, count)}" for i, n in enumerate(faces)],
        FACTORS_LIST: [json.dumps({"image": n} | asdict(face)) for n, face in faces.items()],
    }
    for name, lines in lists.items():
        write_bytes("".join(f"{line}\n" for line in lines).encode(), out / name)

"""Drawn faces: the same everywhere, half and half, every label visible, resumable."""

import functools
import io
import itertools
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import python_avatars as parts
import resvg_py
from PIL import Image

from dida_cli.data import avatars
from dida_cli.data.avatars import NONE, Factors, draw, factors_at, write_set
from dida_cli.data.celeba import PARTITION_LIST, read_attributes, read_partition
from dida_cli.errors import DidaError

COUNT, SEED, SIDE = 12, 3, 32

# One plain face; the tests change its parts.
FACE = Factors(
    glasses=NONE,
    mouth="SERIOUS",
    beard=NONE,
    beard_color="BLACK",
    hair="SHORT_FLAT",
    hair_color="BROWN",
    skin="LIGHT",
    eyebrows="DEFAULT",
    eyes="DEFAULT",
    nose="DEFAULT",
    clothes="HOODIE",
    clothes_color="GRAY_01",
    background="#E8F0FE",
)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# Factors


def test_factors_are_pinned() -> None:
    """Other values here mean that every published set, label and figure has changed."""
    assert factors_at(0, 0) == Factors(
        glasses="NONE",
        mouth="SERIOUS",
        beard="NONE",
        beard_color="RED",
        hair="FRO",
        hair_color="BLACK",
        skin="DARK_BROWN",
        eyebrows="RAISED_EXCITED_NATURAL",
        eyes="SIDE",
        nose="SMALL",
        clothes="SHIRT_SCOOP_NECK",
        clothes_color="BLACK",
        background="#D9E2EC",
    )
    assert factors_at(7, 11_999) == Factors(
        glasses="KURT",
        mouth="TONGUE",
        beard="MOUSTACHE_MAGNUM",
        beard_color="AUBURN",
        hair="SHAGGY",
        hair_color="AUBURN",
        skin="BLACK",
        eyebrows="ANGRY_NATURAL",
        eyes="HAPPY",
        nose="WIDE",
        clothes="SHIRT_CREW_NECK",
        clothes_color="BLACK",
        background="#FFE3E3",
    )


def test_factors_depend_on_nothing_but_seed_and_index() -> None:
    forth = [factors_at(5, index) for index in range(20)]
    back = [factors_at(5, index) for index in reversed(range(20))]
    assert forth == back[::-1]
    assert len(set(forth)) == 20
    assert forth != [factors_at(6, index) for index in range(20)]


def test_each_trait_is_in_about_half_of_the_faces_and_independent_of_the_others() -> None:
    faces = [factors_at(0, index) for index in range(2000)]
    has = {trait: np.array([f.has(trait) for f in faces]) for trait in avatars.ATTRIBUTES}
    for trait, values in has.items():
        assert 0.46 < values.mean() < 0.54, trait
    for one, other in itertools.combinations(avatars.ATTRIBUTES, 2):
        assert 0.21 < (has[one] & has[other]).mean() < 0.29, (one, other)


def test_every_choice_occurs() -> None:
    faces = [factors_at(0, index) for index in range(2000)]
    choices = {
        "glasses": [NONE, *avatars.GLASSES],
        "mouth": avatars.SMILES + avatars.OTHER_MOUTHS,
        "beard": [NONE, *avatars.BEARDS],
        "beard_color": avatars.HAIR_COLORS,
        "hair": avatars.HAIR,
        "hair_color": avatars.HAIR_COLORS,
        "skin": avatars.SKIN_COLORS,
        "eyebrows": avatars.EYEBROWS,
        "eyes": avatars.EYES,
        "nose": avatars.NOSES,
        "clothes": avatars.CLOTHES,
        "clothes_color": avatars.CLOTHES_COLORS,
        "background": avatars.BACKGROUNDS,
    }
    assert set(choices) == set(asdict(FACE))
    for name, wanted in choices.items():
        assert {getattr(face, name) for face in faces} == set(wanted), name


def test_the_colour_of_a_beard_is_independent_of_the_hairs() -> None:
    faces = [factors_at(0, index) for index in range(2000)]
    same = np.mean([face.beard_color == face.hair_color for face in faces])
    assert 0.07 < same < 0.13


@pytest.mark.parametrize(
    ("part", "kinds", "attribute", "present"),
    [
        ("glasses", avatars.GLASSES, "Eyeglasses", True),
        ("glasses", [NONE], "Eyeglasses", False),
        ("mouth", avatars.SMILES, "Smiling", True),
        ("mouth", avatars.OTHER_MOUTHS, "Smiling", False),
        ("beard", avatars.BEARDS, "Beard", True),
        ("beard", [NONE], "Beard", False),
    ],
)
def test_has_tells_the_traits(part: str, kinds: list[str], attribute: str, present: bool) -> None:
    for kind in kinds:
        face = replace(FACE, **{part: kind})
        assert face.has(attribute) is present
        for other in set(avatars.ATTRIBUTES) - {attribute}:
            assert not face.has(other)


def test_with_parts_of_takes_glasses_and_mouth_and_nothing_else() -> None:
    face, guide = factors_at(0, 0), factors_at(7, 11_999)
    edited = face.with_parts_of(guide, ("Smiling", "Eyeglasses"))
    assert (edited.glasses, edited.mouth) == ("KURT", "TONGUE")
    assert replace(edited, glasses=face.glasses, mouth=face.mouth) == face


def test_faces_with_gives_those_of_the_set_that_fit_in_order() -> None:
    found = list(itertools.islice(avatars.faces_with(4, "Eyeglasses", "Beard"), 30))
    faces = (factors_at(4, index) for index in itertools.count())
    fitting = (face for face in faces if face.glasses != NONE and face.beard == NONE)
    assert found == list(itertools.islice(fitting, 30))


# Drawing


@pytest.mark.parametrize("side", [32, 128, 200])
def test_a_drawing_is_rgb_of_the_asked_side_and_the_same_each_time(side: int) -> None:
    face = factors_at(7, 11_999)
    first, second = draw(face, side), draw(face, side)
    assert first.mode == "RGB"
    assert first.size == (side, side)
    assert first.tobytes() == second.tobytes()


def rendered(face: Factors, width: int) -> Image.Image:
    """The whole drawing of a face at any width; 264 is the one that `draw` crops."""
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
    png = resvg_py.svg_to_bytes(
        svg_string=svg, background=face.background, skip_system_fonts=True, width=width
    )
    return Image.open(io.BytesIO(bytes(png))).convert("RGB")


def test_a_drawing_is_the_head_of_the_face_with_every_factor() -> None:
    for index in range(12):
        face = factors_at(SEED, index)
        head = rendered(face, 264).crop(avatars.HEAD)
        assert draw(face, 160).tobytes() == head.tobytes(), face


# A label must be visible: with every hair, every kind of glasses, mouth and beard. Through `draw`
# that takes 43 x 26 x 30 ms, so all of them are drawn at a quarter of the size (5 ms each), where a
# difference is harder to see, not easier. The test above ties these pictures to those of `draw`.

QUARTER = tuple(edge // 4 for edge in avatars.HEAD)


@functools.cache
def quarter(face: Factors) -> np.ndarray:
    return np.asarray(rendered(face, 66).crop(QUARTER)).astype(int)


def changed(one: Factors, other: Factors) -> int:
    """How many of the 40 x 40 pixels anybody would call different."""
    return int((np.abs(quarter(one) - quarter(other)).max(axis=-1) > 40).sum())


@pytest.mark.parametrize("hair", avatars.HAIR)
def test_every_label_is_visible_with_every_hair(hair: str) -> None:
    face = replace(FACE, hair=hair)
    for part, kinds in (("glasses", avatars.GLASSES), ("beard", avatars.BEARDS)):
        for kind in kinds:
            assert changed(face, replace(face, **{part: kind})) >= 30, f"{kind} with {hair}"
    for smile, other in itertools.product(avatars.SMILES, avatars.OTHER_MOUTHS):
        faces = (replace(face, mouth=mouth) for mouth in (smile, other))
        assert changed(*faces) >= 4, f"{smile} and {other} with {hair}"


@pytest.mark.parametrize("hair", avatars.HAIR)
def test_every_kind_looks_different_from_every_other_with_every_hair(hair: str) -> None:
    face = replace(FACE, hair=hair)
    mouths = avatars.SMILES + avatars.OTHER_MOUTHS
    for part, kinds in (
        ("glasses", avatars.GLASSES),
        ("beard", avatars.BEARDS),
        ("mouth", mouths),
    ):
        for one, other in itertools.combinations(kinds, 2):
            faces = (replace(face, **{part: kind}) for kind in (one, other))
            assert changed(*faces) >= 4, f"{one} and {other} with {hair}"


def test_a_hair_whose_drawing_has_no_slot_for_a_beard_would_be_found_out() -> None:
    for hair in ("CURLY_2", "LONG_HAIR_CURLY", "LOOSE_HAIR"):
        face = replace(FACE, hair=hair)
        assert changed(face, replace(face, beard="BEARD_MAGESTIC")) == 0
        assert hair not in avatars.HAIR


# Sets on disk


Drawn = tuple[Path, list[tuple[int, int]]]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """A set of 12 faces drawn by two workers, and what it told of its progress."""
    out = tmp_path_factory.mktemp("avatars") / "set"
    told: list[tuple[int, int]] = []
    write_set(
        out,
        count=COUNT,
        seed=SEED,
        side=SIDE,
        workers=2,
        on_progress=lambda done, total: told.append((done, total)),
    )
    return out, told


def test_a_set_holds_the_pictures_its_factors_say(drawn: Drawn) -> None:
    out, _ = drawn
    assert sorted(path.name for path in (out / "images").iterdir()) == [
        f"{number:06d}.png" for number in range(1, COUNT + 1)
    ]
    for index in range(COUNT):
        with Image.open(out / "images" / f"{index + 1:06d}.png") as picture:
            assert picture.mode == "RGB"
            assert picture.tobytes() == draw(factors_at(SEED, index), SIDE).tobytes()


def test_a_set_has_the_attribute_list_of_celeba(drawn: Drawn) -> None:
    out, _ = drawn
    attributes = read_attributes(out / "list_attr_celeba.txt")
    assert attributes.files == [f"{number:06d}.png" for number in range(1, COUNT + 1)]
    assert tuple(attributes.columns) == ("Smiling", "Eyeglasses", "Beard")
    for name, values in attributes.columns.items():
        assert values.tolist() == [factors_at(SEED, index).has(name) for index in range(COUNT)]
    assert {"1", "-1"} == {
        word
        for line in (out / "list_attr_celeba.txt").read_text().splitlines()[2:]
        for word in line.split()[1:]
    }


def test_a_set_records_its_factors(drawn: Drawn) -> None:
    out, _ = drawn
    rows = [json.loads(line) for line in (out / "factors.jsonl").read_text().splitlines()]
    assert [row.pop("image") for row in rows] == [f"{n:06d}.png" for n in range(1, COUNT + 1)]
    assert [Factors(**row) for row in rows] == [factors_at(SEED, i) for i in range(COUNT)]


def test_a_set_has_a_partition_list_of_index_ranges(drawn: Drawn) -> None:
    out, _ = drawn
    files = [f"{number:06d}.png" for number in range(1, COUNT + 1)]
    parts_of = read_partition(out / PARTITION_LIST, files).tolist()
    assert parts_of == [0] * 11 + [2]


@pytest.mark.parametrize(("count", "sizes"), [(100, [85, 5, 10]), (24_000, [20_400, 1_200, 2_400])])
def test_partitions_are_disjoint_ranges_in_order(count: int, sizes: list[int]) -> None:
    found = [avatars.partition(index, count) for index in range(count)]
    assert found == sorted(found)
    assert [found.count(part) for part in (0, 1, 2)] == sizes


def test_progress_grows_to_the_total(drawn: Drawn) -> None:
    _, told = drawn
    assert told == [(done, COUNT) for done in range(COUNT + 1)]


def test_a_stopped_set_goes_on_to_the_same_bytes(drawn: Drawn, tmp_path: Path) -> None:
    whole, stopped = drawn[0], tmp_path / "stopped"
    shutil.copytree(whole, stopped)
    for name in ("000002.png", "000007.png", "000012.png"):
        (stopped / "images" / name).unlink()
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt", "factors.jsonl"):
        (stopped / name).unlink()
    for name in (".dida.3", ".dida.7"):
        (stopped / "images" / name).write_bytes(b"half a picture")
    kept = stopped / "images" / "000001.png"
    before = kept.stat().st_mtime_ns
    told: list[tuple[int, int]] = []
    write_set(
        stopped,
        count=COUNT,
        seed=SEED,
        side=SIDE,
        workers=2,
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert contents(stopped) == contents(whole)
    assert kept.stat().st_mtime_ns == before  # not drawn again
    assert told == [(done, COUNT) for done in range(COUNT - 3, COUNT + 1)]


@pytest.mark.parametrize(("seed", "side"), [(SEED + 1, SIDE), (SEED, 2 * SIDE)])
def test_a_folder_holds_one_set_only(drawn: Drawn, seed: int, side: int) -> None:
    out, _ = drawn
    before = contents(out)
    with pytest.raises(DidaError, match=f"seed {SEED}, side {SIDE}") as caught:
        write_set(out, count=COUNT, seed=seed, side=side, workers=1)
    assert str(out) in str(caught.value)
    assert contents(out) == before


def test_a_damaged_record_of_a_set_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "avatars.json").write_text('{"seed": 3, "si')
    with pytest.raises(DidaError, match=r"avatars\.json"):
        write_set(tmp_path, count=1, seed=SEED, side=SIDE, workers=1)

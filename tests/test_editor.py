"""The Python interface: as its docstrings show it, with whatever pictures are given as."""

import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import (
    RETOUCH,
    SMALL,
    configured,
    machine_made,
    retouching,
    saved,
    with_masks_of,
    write_picture,
)
from PIL import Image

import dida_cli
from dida_cli import checkpoint, editor, hub, images, methods
from dida_cli.config import read_config
from dida_cli.editor import Editor
from dida_cli.errors import DidaError
from dida_cli.faces import Choice


@pytest.fixture
def masked(masked_folder: Path) -> editor.Editor:
    return dida_cli.load(masked_folder, device="cpu")


@pytest.fixture
def guide(tmp_path: Path) -> Path:
    return write_picture(tmp_path / "guide.png", seed=9)


def same(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


def test_the_line_of_the_documentation_runs_and_loads_torch_when_used(
    masked_folder: Path, picture: Path, guide: Path, tmp_path: Path
) -> None:
    program = (
        "import sys, dida_cli\n"
        "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)\n"
        "from dida_cli import DidaError, Edit, Editor, load\n"
        "assert 'torch' not in sys.modules\n"
        "dida_cli.load('masked').transfer('picture.png', guide_b='guide.png').save('o.png')\n"
        "sys.exit(' '.join({'torch._dynamo', 'torchvision', 'typer'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(dida_cli.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    with Image.open(tmp_path / "o.png") as made:
        assert made.size == (48, 40)


def test_the_interface_is_what_it_says() -> None:
    assert dida_cli.load is editor.load and dida_cli.DidaError is DidaError
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        dida_cli.nope  # noqa: B018


def test_paths_images_and_arrays_are_the_same_picture(
    masked: editor.Editor, picture: Path, guide: Path
) -> None:
    with Image.open(picture) as content, Image.open(guide) as other:
        given: list[tuple[Any, Any]] = [
            (picture, guide),
            (str(picture), str(guide)),
            (content, other),
            (np.asarray(content.convert("RGB")), np.asarray(other.convert("RGB"))),
            (picture, masked.guide(guide, "b")),  # encoded once, for many contents
        ]
        made = [masked.transfer(one, guide_b=two).image for one, two in given]
        content.load()  # still open: it is the user's own
    assert all(same(made[0], one) for one in made[1:])
    assert made[0].mode == "RGB" and made[0].size == (48, 40) and not same(made[0], content)


def test_transparency_goes_in_and_comes_out(masked: editor.Editor, guide: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 4), dtype=np.uint8)
    made = masked.transfer(pixels, guide_a=guide)
    assert made.image.mode == "RGBA" and same(np.asarray(made.image)[:, :4], pixels[:, :4])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((40, 48, 3)),
        np.zeros((40, 48), np.uint8),
        np.zeros((3, 40, 48), np.uint8),
        np.zeros((1, 40, 48, 3), np.uint8),
    ],
)
def test_an_array_of_another_kind_is_one_line(masked: editor.Editor, array: np.ndarray) -> None:
    with pytest.raises(DidaError, match=r"give \(height, width, 3 or 4\) of uint8"):
        masked.remove(array)


def test_a_mask_is_where_the_picture_was_changed(
    masked: editor.Editor, picture: Path, tmp_path: Path
) -> None:
    edit = masked.remove(picture, "smile")
    assert edit.mask is not None and edit.mask.mode == "L" and edit.mask.size == edit.image.size
    assert same(edit.mask, masked.segment(picture, "smile"))
    assert same(masked.segment(picture, "a"), masked.segment(picture, "smile"))
    assert same(masked.segment(picture), masked.segment(picture, "a", "b"))
    edit.save(tmp_path / "new" / "o.webp")
    with Image.open(tmp_path / "new" / "o.webp") as made:
        assert made.format == "WEBP"
    with pytest.raises(DidaError, match=r"cannot write \.xyz; use"):
        edit.save(str(tmp_path / "o.xyz"))


def test_a_plain_model_draws_the_whole_picture_anew(model_folder: Path, picture: Path) -> None:
    plain = dida_cli.load(str(model_folder))
    edit = plain.remove(picture)
    assert edit.mask is None and edit.image.size == (32, 32)
    with pytest.raises(DidaError, match=r"has no masks.* -m avatars-smile-glasses has them"):
        plain.segment(picture)


def test_parts_are_named_kept_and_changed_by_degrees(
    masked: editor.Editor, model_folder: Path, picture: Path, guide: Path
) -> None:
    plain = dida_cli.load(model_folder)

    def made(**options: Any) -> Image.Image:
        return plain.transfer(picture, guide_a=guide, **options).image

    assert same(made(keep="glasses"), made(keep=("b",)))
    assert same(made(keep="both"), made(keep=["smile", "glasses"]))
    assert not same(made(keep="b"), made()) and not same(made(strength=0.4), made())
    with Image.open(picture) as content:
        assert same(masked.transfer(picture, guide_b=guide, strength=0).image, content)
        assert same(masked.remove(picture, strength=0).image, content)
    assert masked.remove(picture, size="model").image.size == (32, 32)
    assert same(masked.remove(picture, "both").image, masked.remove(picture).image)


def test_what_moves_makes_a_list_or_a_table(
    masked: editor.Editor, picture: Path, guide: Path
) -> None:
    row = masked.interpolate(picture, guide_a=(None, guide), steps=3)
    assert [one.size for one in row] == 3 * [(48, 40)]
    assert same(row[2], masked.transfer(picture, guide_a=guide).image)
    assert same(row[0], masked.remove(picture).image)
    small = masked.interpolate(picture, guide_a=(None, guide), steps=3, size="model")
    assert same(small[2], masked.transfer(picture, guide_a=guide, size="model").image)
    known = masked.guide(guide, "a")
    assert same(masked.interpolate(picture, guide_a=(None, known), steps=3)[1], row[1])
    table = masked.interpolate((picture, guide), guide_b=(picture, guide), guide_a=guide, steps=2)
    assert len(table) == 2 and all(len(row) == 2 for row in table)
    assert len({one.tobytes() for row in table for one in row}) == 4


Wrong = Callable[[editor.Editor, Path], object]
WRONG: dict[str, tuple[Wrong, str]] = {
    "no guide": (lambda e, p: e.transfer(p), "give guide_a or guide_b, or both"),
    "an unknown part": (
        lambda e, p: e.remove(p, "hat"),
        r"no part is called 'hat'; there are a \(smile\), b \(glasses\), both",
    ),
    "an unknown part kept": (lambda e, p: e.transfer(p, guide_a=p, keep="hat"), "called 'hat'"),
    "too strong": (lambda e, p: e.remove(p, strength=2.1), "strength must be 0 to 2, not 2.1"),
    "no number": (lambda e, p: e.remove(p, strength=float("nan")), "strength must be"),
    "no file": (lambda e, p: e.remove("none.png"), "none.png: no such file"),
    "no file as guide": (lambda e, p: e.transfer(p, guide_b="none.png"), "none.png: no such file"),
    "nothing moves": (lambda e, p: e.interpolate(p, guide_a=p), "nothing moves"),
    "all moves": (
        lambda e, p: e.interpolate((p, p), guide_a=(p, p), guide_b=(p, p)),
        "a grid moves two",
    ),
    "three ends": (
        lambda e, p: e.interpolate(p, guide_a=(p, p, p)),  # type: ignore[arg-type]
        "guide a is given 3 times",
    ),
    "one step": (lambda e, p: e.interpolate(p, guide_a=(p, p), steps=1), "steps must be 2 or"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line(masked: editor.Editor, picture: Path, case: str) -> None:
    act, said = WRONG[case]
    with pytest.raises(DidaError, match=said) as caught:
        act(masked, picture)
    assert "\n" not in str(caught.value)


def test_a_model_of_one_part_has_no_other(tmp_path: Path, picture: Path) -> None:
    config = configured("layers", a="hat", b="", **SMALL)
    hat = dida_cli.load(saved(with_masks_of(1, config), tmp_path / "hat"))
    for act in (lambda: hat.transfer(picture, guide_b=picture), lambda: hat.guide(picture, "b")):
        with pytest.raises(DidaError, match="knows no part of its own in domain B; use part a"):
            act()
    assert same(hat.remove(picture).image, hat.remove(picture, "hat").image)


def test_a_guide_without_the_part_is_told(tmp_path: Path, picture: Path) -> None:
    """An untrained network takes nothing off, so that no picture has anything."""
    blind = dida_cli.load(saved(checkpoint.build(RETOUCH).eval(), tmp_path / "blind"))
    with pytest.warns(UserWarning, match="sees no glasses in its guide, and gives none"):
        edit = blind.transfer(picture, guide_b=picture)
    with Image.open(picture) as content:
        assert same(edit.image, content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        blind.remove(picture)


def test_without_a_common_code_nothing_is_drawn_between_contents(
    retouch_folder: Path, picture: Path, guide: Path
) -> None:
    retouch = dida_cli.load(retouch_folder)
    with pytest.raises(DidaError, match="-m avatars-smile-glasses-didd can"):
        retouch.interpolate((picture, guide))
    row = retouch.interpolate(picture, guide_a=(None, guide), steps=2)
    assert same(row[1], retouch.transfer(picture, guide_a=guide).image)


@pytest.mark.parametrize("ability", editor.WITHOUT)
def test_the_models_that_are_named_can(ability: Any) -> None:
    words = editor.WITHOUT[ability].split()
    name = words[words.index("-m") + 1]
    method = methods.find(read_config(hub.BUNDLED / name / "config.json").method)
    assert ability in method.ABILITIES


# Faces


def people(size: tuple[int, int] = (460, 230)) -> Image.Image:
    """Two machine-made faces, the larger one on the left."""
    canvas = Image.new("RGB", size, (90, 120, 150))
    for name, side, at in (("sfhq_0000.jpg", 192, (10, 20)), ("sfhq_0004.jpg", 120, (300, 60))):
        face = Image.open(io.BytesIO(machine_made(name)))
        canvas.paste(face.resize((side, side), Image.Resampling.LANCZOS), at)
    return canvas


@pytest.fixture
def of_faces(tmp_path: Path) -> Editor:
    """An untrained model that looks for faces and changes something of them."""
    config = replace(RETOUCH, fit="face")
    return editor.load(saved(retouching(config), tmp_path / "of-faces"))


def changed(before: Image.Image, after: Image.Image) -> np.ndarray:
    """Where a picture was changed: bool (h, w)."""
    return (np.asarray(before) != np.asarray(after)).any(-1)


@pytest.mark.parametrize(("which", "sides"), [("largest", "l"), ("all", "lr"), (2, "r")])
def test_the_faces_that_are_meant_are_edited(of_faces: Editor, which: Any, sides: str) -> None:
    one = replace(of_faces, faces=Choice(which))
    picture = people()
    edit = one.remove(picture)
    where = changed(picture, edit.image)
    assert edit.mask is not None and not where[np.asarray(edit.mask) == 0].any()
    assert where[:, :230].any() == ("l" in sides) and where[:, 280:].any() == ("r" in sides)
    assert not where[:, 225:290].any() and not where[:18].any()  # between and above the faces


def test_a_guides_face_is_found_as_well(of_faces: Editor) -> None:
    guide, content = people(), people().crop((280, 0, 460, 230))
    edit = of_faces.transfer(content, guide_a=guide)
    shifted = Image.new("RGB", (500, 300))
    shifted.paste(guide, (20, 50))
    again = of_faces.transfer(content, guide_a=shifted)
    assert changed(content, edit.image).any()
    near = np.abs(np.asarray(edit.image, int) - np.asarray(again.image, int))
    assert near.mean() < 2


def test_faces_are_segmented_and_moved_between_guides(of_faces: Editor) -> None:
    mask = np.asarray(of_faces.segment(people()))
    assert mask.shape == (230, 460) and mask[:, :230].any() and not mask[:, 280:].any()
    row = of_faces.interpolate(people(), guide_a=(None, people()), steps=3)
    assert [picture.size for picture in row] == [people().size] * 3


def test_a_picture_without_a_face_is_refused_by_name(of_faces: Editor, picture: Path) -> None:
    with pytest.raises(DidaError, match=f"{picture}: no face is found"):
        of_faces.remove(picture)
    with pytest.raises(DidaError, match=f"{picture}: no face is found"):
        of_faces.transfer(people(), guide_a=images.read(picture))
    with pytest.raises(DidaError, match="the picture: no face is found"):
        of_faces.remove(np.zeros((90, 80, 3), np.uint8))
    aligned = replace(of_faces, faces=Choice(aligned=True))
    assert aligned.remove(picture).image.size == images.read(picture).size


def test_the_models_own_size_is_that_of_the_square(of_faces: Editor) -> None:
    assert of_faces.remove(people(), size="model").image.size == (RETOUCH.side,) * 2


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_a_file_tells_who_edited_it_and_how(
    masked: Editor, picture: Path, tmp_path: Path, suffix: str
) -> None:
    edit = masked.remove(picture, "a")
    told, silent = tmp_path / f"told{suffix}", tmp_path / f"silent{suffix}"
    edit.save(told)
    edit.save(silent, metadata=False)
    note = f"{masked.domains.a} removed by masked"
    with Image.open(told) as one, Image.open(silent) as other:
        assert np.array_equal(np.asarray(one), np.asarray(other))
        exif = one.getexif()
        software = one.info.get("Software", exif.get(305))
        done = one.info.get("Description", exif.get(270))
        assert not other.getexif() and "Software" not in other.info
    if suffix == ".bmp":  # which holds pixels alone
        assert software is None and done is None
    else:
        assert software == f"dida {dida_cli.__version__}" and done == note

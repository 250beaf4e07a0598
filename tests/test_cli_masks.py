"""Mask models through the command line: full size, masks written out, segments, several models."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL, Result, configured, saved, with_masks_of, write_picture
from PIL import Image

from dida_cli import checkpoint, images
from dida_cli.methods.layers import Network as Layers

Dida = Callable[..., Result]
HAT = configured("layers", a="hat", b="", **SMALL)  # one-sided


@pytest.fixture
def opened(masked_folder: Path) -> Path:
    """A model whose masks cover nearly everything."""
    return masked_folder


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A model whose masks cover nothing."""
    return saved(with_masks_of(-20), tmp_path / "closed")


def varied(size: tuple[int, int], mode: str) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    picture = Image.fromarray(pixels, "RGBA")
    return picture if mode == "RGBA" else picture.convert("RGB").convert(mode)


@pytest.mark.parametrize("size", [(70, 40), (31, 97), (500, 333), (32, 32), (9, 8)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_where_the_mask_is_0_a_picture_stays_bit_for_bit(
    dida: Dida, closed: Path, picture: Path, tmp_path: Path, size: tuple[int, int], mode: str
) -> None:
    content, out = tmp_path / "content.png", tmp_path / "out.png"
    varied(size, mode).save(content)
    assert dida("transfer", "-c", content, "--guide-a", picture, "-m", closed, "-o", out).code == 0
    kept = mode if mode == "RGBA" else "RGB"
    with Image.open(out) as made, Image.open(content) as before:
        assert made.mode == kept
        assert np.array_equal(np.asarray(made), np.asarray(before.convert(kept)))


def test_a_model_side_edit_is_the_square_the_model_saw(
    dida: Dida, opened: Path, picture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    arguments = ("transfer", "-c", picture, "--guide-a", picture, "-m", opened, "-o", out)
    assert dida(*arguments, "--size", "model").code == 0
    with Image.open(out) as made:
        assert made.size == (32, 32)
    assert dida(*arguments).code == 0
    with Image.open(out) as made:
        assert made.size == (48, 40)


def test_the_mask_is_written_grey_or_as_alpha(
    dida: Dida, opened: Path, picture: Path, tmp_path: Path
) -> None:
    guide, out, mask = (
        write_picture(tmp_path / "g.png", 5),
        tmp_path / "out.png",
        tmp_path / "m.png",
    )
    arguments = ("transfer", "-c", picture, "--guide-b", guide, "-m", opened, "-o", out)
    result = dida(*arguments, "--mask-out", mask, "--json")
    assert json.loads(result.out)["mask"] == str(mask)
    with Image.open(mask) as made:
        assert made.mode == "L" and made.size == (48, 40)
        inside = np.asarray(made)[:, 4:44]  # the centred square
        assert inside.min() > 0 and not np.asarray(made)[:, :4].any()
    assert dida(*arguments, "--mask-out", mask, "--mask-as", "alpha").code == 0
    with Image.open(mask) as made, Image.open(out) as edited:
        assert made.mode == "RGBA"
        assert np.array_equal(np.asarray(made)[..., :3], np.asarray(edited))
        assert np.array_equal(np.asarray(made)[:, 4:44, 3], inside)


def test_masks_of_a_folder_go_into_a_folder(
    dida: Dida, opened: Path, picture: Path, tmp_path: Path
) -> None:
    for index in range(2):
        write_picture(tmp_path / "many" / f"{index}.png", index)
    out, masks = tmp_path / "out", tmp_path / "masks"
    arguments = ("remove-attribute", tmp_path / "many", "-m", opened, "-o", out)
    assert dida(*arguments, "--mask-out", masks).code == 0
    assert sorted(p.name for p in masks.iterdir()) == ["0.png", "1.png"]


def test_masks_of_a_tree_keep_its_folders(dida: Dida, opened: Path, tmp_path: Path) -> None:
    """Two pictures of one name in two folders have a mask each."""
    for index, name in enumerate(("a/face.png", "b/face.png")):
        write_picture(tmp_path / "many" / name, index)
    out, masks = tmp_path / "out", tmp_path / "masks"
    arguments = ("remove-attribute", tmp_path / "many", "-m", opened, "-o", out)
    assert dida(*arguments, "--mask-out", masks).code == 0
    found = {str(path.relative_to(masks)) for path in masks.rglob("*.png")}
    assert found == {"a/face.png", "b/face.png"}


def test_a_plain_model_has_no_masks_to_write(
    dida: Dida, model_folder: Path, picture: Path, tmp_path: Path
) -> None:
    for arguments in (
        ("segment", picture, "-m", model_folder, "-o", tmp_path / "x.png"),
        ("remove-attribute", picture, "-m", model_folder, "--mask-out", tmp_path / "x.png"),
    ):
        result = dida(*arguments)
        assert result.code == 1 and "has no masks" in result.err
        assert "Traceback" not in result.err
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("kind", "mode"), [("mask", "L"), ("soft", "L"), ("overlay", "RGB"), ("alpha", "RGBA")]
)
def test_segments_have_the_size_of_the_picture(
    dida: Dida, opened: Path, picture: Path, tmp_path: Path, kind: str, mode: str
) -> None:
    out = tmp_path / "s.png"
    result = dida("segment", picture, "-m", opened, "--as", kind, "-o", out, "--json")
    told = json.loads(result.out)
    assert told["threshold"] == 0.5 and told["segmented"] == ["smile", "glasses"]
    assert told["covered"] == pytest.approx(40 / 48, abs=0.03)  # all of the centred square
    with Image.open(out) as made:
        assert made.mode == mode and made.size == (48, 40)
        if kind == "mask":
            assert set(np.unique(np.asarray(made))) == {0, 255}


def test_a_region_is_from_the_threshold_on(
    dida: Dida, retouch_folder: Path, picture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s.png"
    segment = ("segment", picture, "-m", retouch_folder, "-o", out, "--json")
    assert json.loads(dida(*segment, "--as", "soft").out)["threshold"] == 0.5
    with Image.open(out) as made:
        levels = np.asarray(made)
    found = set()
    for threshold in (0.1, 0.9, 1.0):
        told = json.loads(dida(*segment, "--threshold", threshold).out)
        share = (levels >= round(255 * threshold)).mean()
        assert told["covered"] == pytest.approx(share, abs=1e-4)
        with Image.open(out) as made:
            assert np.array_equal(np.asarray(made) > 0, levels >= round(255 * threshold))
        found.add(told["covered"])
    assert len(found) == 3  # the masks are not all black and white


def test_several_models_edit_one_after_the_other(
    dida: Dida, opened: Path, picture: Path, tmp_path: Path
) -> None:
    hat = saved(with_masks_of(-0.5, HAT), tmp_path / "hat")
    guides = [write_picture(tmp_path / f"g{i}.png", 10 + i) for i in range(2)]
    out, first, second = (tmp_path / f"{name}.png" for name in ("out", "first", "second"))
    arguments: list[object] = ["-c", picture, "-m", opened, "-m", hat, "--no-metadata"]
    arguments += ["--guide-a", guides[0], "--guide-a", guides[1]]
    told = json.loads(dida("transfer", *arguments, "-o", out, "--json").out)
    assert told["transferred"] == ["smile", "hat"] and told["model"] == [str(opened), str(hat)]
    dida("transfer", "-c", picture, "-m", opened, "--guide-a", guides[0], "-o", first)
    last = ("-m", hat, "--guide-a", guides[1], "-o", second, "--no-metadata")
    dida("transfer", "-c", first, *last)
    assert out.read_bytes() == second.read_bytes()


def test_each_model_needs_its_guide(
    dida: Dida, opened: Path, picture: Path, tmp_path: Path
) -> None:
    arguments = ("-m", opened, "-m", opened, "--guide-a", picture)
    result = dida("transfer", "-c", write_picture(tmp_path / "c.png", 2), *arguments)
    assert (
        result.code == 2 and "once for each -m, in the same order: -m 2, --guide-a 1" in result.err
    )


def test_a_part_that_is_there_is_replaced(dida: Dida, picture: Path, tmp_path: Path) -> None:
    """Own part off, guide's part on: nothing of the content's own layer shines through."""
    hat = saved(with_masks_of(20, HAT), tmp_path / "hat")  # both masks cover everything
    guide, out = write_picture(tmp_path / "g.png", 9), tmp_path / "out.png"
    arguments = ("-m", hat, "--guide-a", guide, "--size", "model", "-o", out)
    assert dida("transfer", "-c", picture, *arguments).code == 0
    model = checkpoint.load(hat)
    assert isinstance(model, Layers)
    content, of = (images.to_tensor([images.read(p)], HAT) for p in (picture, guide))
    expected = model.layer(model.encode(content)._replace(a=model.encode(of).a))[0]
    with Image.open(out) as made:
        wanted = np.asarray(images.to_pictures(expected)[0], int)
        assert np.abs(np.asarray(made, int) - wanted).max() <= 1


def test_one_sided_models_remove_what_they_know(dida: Dida, picture: Path, tmp_path: Path) -> None:
    hat = saved(with_masks_of(2, HAT), tmp_path / "hat")
    out = tmp_path / "out.png"
    told = json.loads(dida("remove-attribute", picture, "-m", hat, "-o", out, "--json").out)
    assert told["removed"] == ["hat"]
    result = dida("remove-attribute", picture, "-m", hat, "--attribute", "b", "-o", out)
    assert result.code == 2 and "takes a (hat) or none" in result.err

"""The network must find what people would see, and nothing where nothing is."""

from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import pytest
import torch
from stand_in import SIDE
from torch import Tensor

from dida_cli import images
from dida_cli.data import avatars
from dida_cli.evaluate import segmentation, told_apart

COUNT, STEPS = 100, 200
TINT = 0.04  # of the range of a colour


class Drawn(NamedTuple):
    content: Tensor
    real: Tensor


@pytest.fixture(autouse=True)
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """It learns as long as it does for users."""
    monkeypatch.setattr(told_apart, "STEPS", STEPS)


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    """Faces with glasses, and the same without."""
    worn = list(islice(avatars.faces_with(5, "Eyeglasses", None), COUNT))
    bare = [replace(face, glasses=avatars.NONE) for face in worn]
    pictures = ([avatars.draw(face, SIDE) for face in faces] for faces in (worn, bare))
    return Drawn(*(images.to_tensor(of_faces, images.Square(SIDE)) for of_faces in pictures))


def test_a_faint_rim_is_found_and_real_pictures_are_not_told_apart(drawn: Drawn) -> None:
    """A tint of ten levels, one pixel wide, around what was changed."""
    real = drawn.real
    region = segmentation.true_region(drawn.content, real)
    rim = segmentation.dilate(region, 1) & ~region
    tint = 2 * TINT * torch.tensor([1.0, -1.0, 0.0]).reshape(1, 3, 1, 1)
    found = told_apart.score((real + rim * tint).clamp(-1, 1), real)
    assert found["told_apart"] >= 0.9 and found["asked"] == COUNT
    assert found["told_apart_low"] < found["told_apart"] < found["told_apart_high"]
    assert 0.35 <= found["told_apart_of_real"] <= 0.65
    assert set(found) <= {
        n for key in told_apart.DEFINITIONS for n in (key, f"{key}_low", f"{key}_high")
    }


def test_perfect_edits_are_told_apart_by_chance_and_less_than_a_level_is_not_seen(
    drawn: Drawn,
) -> None:
    real = drawn.real[:40]
    right, asked = told_apart.share_right(real + 0.4 / 127.5, real)
    assert right == 0.5 and asked == 40  # an answer to equal pictures is right once of two


def test_the_contents_of_those_asked_about_were_not_learned(drawn: Drawn) -> None:
    """What tells the first half apart is of no use in the other."""
    real, half = drawn.real[:40], 20
    marked = real.clone()
    marked[:half, :, :8, :8] = 1
    assert told_apart.share_right(marked, real) == (0.5, 40)


def test_it_is_the_same_every_time_and_leaves_random_numbers_alone(drawn: Drawn) -> None:
    real, edits = drawn.real[:8], drawn.content[:8]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = told_apart.score(edits, real)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.inference_mode():
        assert told_apart.score(edits * 1, real * 1) == first

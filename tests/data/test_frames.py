"""Glasses drawn onto faces: where they are, of which kind, and that they are the same each time."""

import numpy as np
import pytest
import torch
from PIL import Image

from dida_cli.data import frames
from dida_cli.faces import Placement

SKIN = (200, 160, 140)


def drawn(kind: frames.Kind, side: float = 128.0, turn: float = 0.0, index: int = 0) -> np.ndarray:
    """How much a plain picture changes by frames: (h, w), levels of the most changed channel."""
    angle = np.deg2rad(turn)
    cos, sin = side * np.cos(angle), side * np.sin(angle)
    where = Placement(np.array([[cos, -sin, side], [sin, cos, side]]))
    plain = Image.new("RGB", (round(3 * side), round(3 * side)), SKIN)
    worn = frames.worn(plain, where, frames.frames_at(5, index, kind))
    return np.abs(np.asarray(worn, int) - SKIN).max(-1)


def test_frames_are_a_function_of_their_number() -> None:
    assert frames.frames_at(1, 2, "thin") == frames.frames_at(1, 2, "thin")
    made = {frames.frames_at(1, index, kind) for index in range(20) for kind in frames.KINDS}
    assert len(made) == 60


@pytest.mark.parametrize("kind", frames.KINDS)
def test_frames_lie_around_the_eyes_and_nowhere_else(kind: frames.Kind) -> None:
    for index in range(5):
        change = drawn(kind, index=index)
        rows, columns = np.nonzero(change)
        u, v = (columns + 0.5) / 128 - 1, (rows + 0.5) / 128 - 1
        assert -0.1 < u.min() < 0.12 and 0.88 < u.max() < 1.1
        assert 0.1 < v.min() < 0.36 and 0.42 < v.max() < 0.72


def test_the_kinds_differ_in_what_they_cover() -> None:
    shares = {k: np.mean([(drawn(k, index=i) > 60).mean() for i in range(6)]) for k in frames.KINDS}
    assert shares["thin"] < 0.6 * shares["thick"] < 0.6 * shares["dark"]


def test_frames_turn_with_the_face_and_grow_with_the_picture() -> None:
    small, large = drawn("thick", 64), drawn("thick", 256)
    shrunk = large.reshape(192, 4, 192, 4).mean((1, 3))
    assert np.abs(small - shrunk).mean() < 2
    upside = drawn("thick", 128, 180)
    rows = np.nonzero(upside.sum(1) > 0)[0]
    assert rows.max() < 128  # the square lies above and left of where its turned corner is


def test_a_bank_of_frames_is_laid_over_pictures_as_they_are_drawn() -> None:
    bank, x = frames.Bank(40, (0.1, 0.1, 0.8), seed=1), torch.rand(6, 3, 40, 40) * 2 - 1
    made, guides = bank(x, np.random.default_rng(0))
    assert torch.equal(made, bank(x, np.random.default_rng(0))[0])
    assert not torch.equal(made, bank(x, np.random.default_rng(1))[0])
    change = (made - x).abs().amax(1)
    assert (change.amax((1, 2)) > 0.1).all() and made.abs().max() <= 1 + 1e-6
    assert change[:, 30:].max() < 0.02  # below the nose
    again, _ = bank(made.clamp(-1, 1), np.random.default_rng(0))
    rims = bank.kept[torch.from_numpy(np.random.default_rng(0).integers(frames.BANK, size=6))] == 0
    assert rims.any() and torch.equal(again[rims], made[rims])  # what covers all shows nothing of x
    assert torch.equal(guides[rims], made[rims])  # of the next picture they show the very same


def test_the_square_of_a_face_may_lie_anywhere_in_pictures() -> None:
    middle, corner = (frames.Bank(60, (at, at, 0.5), seed=1).kept.float() for at in (0.25, 0.0))
    apart = (middle[:, :, 20:40, 20:40] - corner[:, :, 5:25, 5:25]).abs()
    assert apart.mean() < 1 and (middle < 200).float().mean() > 0.01

"""A region of some pictures that is put into others."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dida_cli import images
from dida_cli.data import swapped
from dida_cli.data.swapped import Swapped

REGION = 0.5, 0.75, 0.25, 0.15
SIDE = 64


def plain(*levels: int) -> np.ndarray:
    """A picture of one grey each."""
    return np.stack([np.full((3, SIDE, SIDE), level, np.uint8) for level in levels])


def marked(level: int, mark: int) -> np.ndarray:
    """A grey picture that has a mark, right of the middle of the region."""
    picture = plain(level)
    picture[0, :, 46:50, 36:40] = mark
    return picture


def put(
    given: np.ndarray, onto: Tensor, seed: int = 0, *, flip: bool = False, vary: bool = False
) -> tuple[Tensor, Tensor]:
    return Swapped(given, REGION, 0.0, flip=flip, vary=vary)(onto, np.random.default_rng(seed))


def test_guides_come_in_another_light() -> None:
    onto = images.to_unit(torch.from_numpy(plain(100, 100)))
    _, guides = put(marked(100, 90), onto, vary=True)
    cast = guides - images.to_unit(torch.from_numpy(marked(100, 90)))
    assert 0.01 < cast.abs().max() <= swapped.CAST
    torch.testing.assert_close(cast, cast[..., :1, :1].expand_as(cast))
    assert not torch.equal(cast[0], cast[1])


def test_a_part_comes_along_in_the_colour_of_where_it_comes_to_lie() -> None:
    onto = images.to_unit(torch.from_numpy(plain(200)))
    made, giver = put(marked(100, 0), onto)
    assert torch.equal(giver, images.to_unit(torch.from_numpy(marked(100, 0))))
    change = (made - onto)[0].abs().amax(0)
    assert change[46:50, 36:40].min() > 0.7  # of 100 / 127.5
    change[46:50, 36:40] = 0
    assert change.max() < 0.01  # no seam, and no trace of the other grey


@pytest.mark.parametrize("level", [60, 200])
def test_black_stays_black_and_white_white_in_any_light(level: int) -> None:
    onto = images.to_unit(torch.from_numpy(plain(level)))
    black, white = (put(marked(100, mark), onto)[0][0, 0, 47, 37] for mark in (0, 255))
    assert black < -0.98 and white > 0.8


def test_beyond_the_region_nothing_changes() -> None:
    onto = torch.rand(6, 3, SIDE, SIDE) * 2 - 1
    made, _ = put(
        np.random.default_rng(0).integers(256, size=(9, 3, SIDE, SIDE), dtype=np.uint8), onto
    )
    across, down = torch.arange(SIDE)[None] + 0.5 - 32, torch.arange(SIDE)[:, None] + 0.5 - 48
    far = (across / 16) ** 2 + (down / 9.6) ** 2 > (1.12 * 1.18) ** 2
    assert torch.equal(made[..., far], onto[..., far])
    assert (made != onto)[..., 47:49, 31:33].any(1).all()


def test_those_who_look_alike_around_the_region_give() -> None:
    levels = [*range(40, 40 + swapped.ALIKE), 120, 200]
    onto = images.to_unit(torch.from_numpy(plain(*[30] * 64)))
    _, guides = put(np.concatenate([marked(level, 255) for level in levels]), onto)
    gave = (127.5 * (guides[:, 0, 0, 0] + 1)).round().int().tolist()
    assert set(gave) == set(levels[: swapped.ALIKE])


def test_some_give_mirrored_where_pictures_may_be() -> None:
    lit = plain(100)  # from the left
    lit[..., : SIDE // 2] = 200
    onto = images.to_unit(torch.from_numpy(lit[..., ::-1].copy()))
    given = np.concatenate([lit] * swapped.ALIKE)
    assert put(given, onto)[1][0, 0, 0, 0] > 0.5  # as it is, from the left
    assert torch.equal(put(given, onto, flip=True)[1], onto)  # mirrored ones are more alike


def test_it_is_the_same_again_by_the_same_numbers() -> None:
    given = np.random.default_rng(1).integers(256, size=(300, 3, SIDE, SIDE), dtype=np.uint8)
    onto = torch.rand(3, 3, SIDE, SIDE) * 2 - 1
    one, same, other = (put(given, onto, seed, flip=True)[0] for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_margin_is_not_of_the_region() -> None:
    """Within a margin of a quarter of its side the same square is two thirds of the picture."""
    within = np.pad(marked(100, 0), ((0, 0), (0, 0), (16, 16), (16, 16)), mode="edge")
    onto = images.to_unit(torch.from_numpy(np.full_like(within, 200)))
    made, _ = Swapped(within, REGION, 0.25, flip=False, vary=False)(onto, np.random.default_rng(0))
    alone, _ = put(marked(100, 0), onto[..., 16:-16, 16:-16])
    torch.testing.assert_close(made[..., 16:-16, 16:-16], alone, atol=0.02, rtol=0)

"""Pictures in another place, size, turn and light."""

import numpy as np
import torch

from dida_cli.data import vary


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_picture_is_varied_by_its_random_numbers_alone() -> None:
    x = torch.rand(4, 3, 40, 40) * 2 - 1
    one, same, other = (vary.varied(x, 32, random(seed)) for seed in (1, 1, 2))
    assert one.shape == (4, 3, 32, 32) and one.abs().max() <= 1
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_without_chance_the_middle_is_left_as_it_is() -> None:
    class Still:
        def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
            return np.zeros(shape)

    x = torch.rand(2, 3, 40, 40) * 2 - 1
    torch.testing.assert_close(vary.varied(x, 32, Still()), x[..., 4:36, 4:36])  # type: ignore


def test_a_margin_is_enough_for_what_is_moved() -> None:
    side = 64
    read = round(side * (1 + 2 * vary.MARGIN))
    x = torch.zeros(200, 3, read, read)
    x[..., 0, :] = x[..., -1, :] = x[..., 0] = x[..., -1] = 1  # what goes on beyond the edge
    made = vary.varied(x, side, random())
    spread = made.flatten(2).std(2).amax(1)
    assert (spread < 1e-3).float().mean() > 0.95  # nearly none sees the edge


def test_light_and_place_differ_from_picture_to_picture() -> None:
    x = torch.zeros(50, 3, 40, 40)
    x[..., 18:22, 18:22] = 0.5
    made = vary.varied(x, 32, random())
    assert made.mean((1, 2, 3)).std() > 0.05
    lit = made - made.amin((2, 3), keepdim=True)
    where = lit.flatten(1).argmax(1) % (32 * 32) // 32
    assert len(where.unique()) >= 3


def test_pictures_side_by_side_go_the_same_way() -> None:
    x = torch.rand(4, 3, 40, 40) * 2 - 1
    one = vary.varied(x, 32, random())
    both = vary.varied(torch.cat([x, 0.5 * x], 1), 32, random())
    assert torch.equal(both[:, :3], one)
    torch.testing.assert_close(vary.varied(torch.cat([x, x], 1), 32, random())[:, 3:], one)

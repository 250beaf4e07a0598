"""Who of the other domain looks alike around a part, whatever is in the part's own place."""

import torch

from dida_cli.lookalikes import REACH, Lookalikes, around

SIDE = 64


def face(skin: float, part: float = 0.0) -> torch.Tensor:
    """(3, 64, 64): skin with a square of another colour in the middle."""
    picture = torch.full((3, SIDE, SIDE), skin)
    picture[:, 28:36, 28:36] += part
    return picture


def masks(count: int) -> torch.Tensor:
    made = torch.zeros(count, 1, SIDE, SIDE)
    made[:, :, 28:36, 28:36] = 1
    return made


def test_a_lookalike_has_the_skin_whatever_it_shows_in_the_parts_place() -> None:
    torch.manual_seed(0)
    a = torch.stack([face(-0.5, 0.3), face(0.5, 0.3)])
    b = torch.stack([face(0.5, -0.9), face(0.9), face(-0.5, -0.9), face(0.55)])
    known = Lookalikes(8)
    known.add(a, b)
    found = set()
    for _ in range(30):
        pictures, alike = known.of(torch.cat([a, b[:2]]), masks(4))
        assert torch.equal(alike[1:2], torch.ones(1, 1, 1, 1))
        found.add(pictures[1, 0, 32, 32].item())
        assert pictures.shape == (4, 3, SIDE, SIDE)
        assert {picture[0, 0, 0].item() for picture in pictures[2:]} <= {-0.5, 0.5}  # B's are of A
    # one of the two best, so far as the skin goes: 0.5 with another part, and 0.55
    assert len(found) == 2 and min(found) < -0.3 and max(found) > 0.5


def test_likeness_ends_where_the_skin_is_another() -> None:
    known = Lookalikes(1)
    known.add(face(0.0)[None], face(0.14)[None])
    _, alike = known.of(torch.cat([face(0.0)[None], face(0.14)[None]]), masks(2))
    assert torch.allclose(alike, torch.full((2, 1, 1, 1), 0.5), atol=0.01)  # halfway from .08 to .2
    known.add(face(0.0)[None], face(0.9)[None])
    _, alike = known.of(torch.cat([face(0.0)[None], face(0.14)[None]]), masks(2))
    assert alike[0] == 0 and alike[1] > 0.4


def test_the_oldest_pictures_are_forgotten() -> None:
    known = Lookalikes(3)
    for value in (0.1, 0.2, 0.3, 0.4):
        known.add(face(value)[None], face(-value)[None])
    assert [p[0, 0, 0].item() for p in known.pictures[0]] == torch.tensor([0.4, 0.3, 0.2]).tolist()
    assert [p[0, 0, 0].item() for p in known.pictures[1]] == (
        -torch.tensor([0.4, 0.3, 0.2])
    ).tolist()


def test_around_reaches_so_far_from_a_part_and_is_nowhere_where_there_is_none() -> None:
    mask = torch.zeros(2, 1, SIDE, SIDE)
    mask[0, :, 30, 30] = 0.5
    mask[1] = 0.2  # haze
    near = around(mask)
    reach = SIDE // REACH
    assert near[0].sum() == (2 * reach + 1) ** 2 and near[0, 0, 30 - reach, 30 + reach] == 1
    assert not near[1].any()

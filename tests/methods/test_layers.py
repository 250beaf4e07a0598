"""Masks for two plain folders: formulas, the rise of the masks' terms, removal."""

import math
from dataclasses import replace

import pytest
import shapes
import torch
from torch import Tensor, nn

from dida_cli import checkpoint
from dida_cli.codes import Codes, segment
from dida_cli.methods import layers
from dida_cli.players import Players

CONFIG = shapes.FORMS["layers"]


@pytest.fixture
def model() -> layers.Network:
    torch.manual_seed(0)
    made = checkpoint.build(CONFIG)
    assert isinstance(made, layers.Network)
    return made.eval().requires_grad_(False)


def test_what_it_can_do_depends_on_the_parts() -> None:
    assert checkpoint.build(CONFIG).abilities == {"masks", "two parts", "common code"}
    assert checkpoint.build(shapes.FORMS["one-sided layers"]).abilities == {"masks", "common code"}


def test_the_last_channel_is_the_mask_which_begins_open(model: layers.Network) -> None:
    raw = torch.tensor([1.0, 2.0, -3.0, 0.3])[:, None, None]
    model.decoder.register_forward_hook(lambda module, read, made: raw.expand_as(made))
    rgb, where = model.layer(model.encode(shapes.pictures(1)))
    assert torch.allclose(rgb, raw[:3].tanh())
    assert torch.allclose(where, torch.tensor(0.3 + layers.FIRST_MASK).sigmoid())


def test_a_removal_shows_the_base_where_the_own_mask_is_a_tenth_and_a_rim_around(
    model: layers.Network,
) -> None:
    picture = shapes.pictures(1)
    values = torch.full((32, 32), 0.099)
    values[10:20, 10:20] = 0.101

    def change(module: nn.Module, read: object, made: Tensor) -> Tensor:
        made[:, 3] = values.logit(eps=1e-7) - layers.FIRST_MASK
        return made

    model.decoder.register_forward_hook(change)
    own = model.encode(picture)
    made = model.compose(own.without("a"), picture, own)
    inside = values > 0.1
    base = model.base(own)[..., inside]
    assert torch.allclose(made.image[..., inside], base, atol=1e-6)
    touched = (made.image != picture).any(1)[0].nonzero()
    assert touched.amin() == 8 and touched.amax() == 21  # one pixel grown, one feathered
    rim = model.removal(torch.where(inside, 0.5, 0.0)[None, None])[0, 0]
    assert rim[15, 7:12].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert torch.equal(segment(model, picture, "a"), made.mask)


class Stub(layers.Network):
    """E_c = 0, E_A = E_B = the mean; a layer is 0.5 with mask 0.25, with no part 0, 0.4."""

    def __init__(self, settings: layers.Settings) -> None:
        nn.Module.__init__(self)
        self.config, self.settings = CONFIG, settings

    def encode(self, image: Tensor) -> Codes:
        mean = image.mean(dim=(1, 2, 3), keepdim=True)
        return Codes(torch.zeros_like(mean), mean, mean)

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        shown = (codes.a + codes.b != 0).to(codes.a.dtype).expand(-1, 3, 4, 4)
        return 0.5 * shown, 0.4 - 0.15 * shown[:, :1]


class Says(nn.Module):
    def forward(self, common: Tensor) -> Tensor:
        return torch.full((len(common),), 0.7)


def terms(step: int = 1600) -> dict[str, float]:
    a, b = torch.full((2, 3, 4, 4), 0.2), torch.full((2, 3, 4, 4), 0.4)
    players = object.__new__(Players)
    weights = {"confusion": 2.0, "zero": 3.0, "repaint": 5.0, "mask": 7.0}
    players.network = Stub(layers.Settings(critic_target="paper", **weights))
    players.critic = Says()
    made = layers.losses(players, shapes.batch_of(CONFIG, a, b), step)
    return {name: term.item() / weights.get(name, 1.0) for name, term in made.items()}


def test_the_losses_are_the_formulas_of_the_table() -> None:
    made = terms()
    painted = 0.25 * 0.5  # onto a base of 0
    assert made["reconstruction"] == pytest.approx((0.2 - painted) + (0.4 - painted))
    assert made["repaint"] == pytest.approx(0.25 * 0.3 + 0.25 * 0.1)
    assert made["mask"] == pytest.approx(0.25 + 0.25)
    assert made["zero"] == pytest.approx(0.4 + 0.2)
    assert made["confusion"] == pytest.approx(2 * math.log(1 + math.exp(-0.7)))
    assert list(made) == "reconstruction repaint mask zero confusion critic critic_right".split()


@pytest.mark.parametrize(("step", "share"), [(0, 0), (800, 0), (1000, 0.25), (9999, 1)])
def test_what_presses_masks_rises(step: int, share: float) -> None:
    made, whole = terms(step), terms()
    for name in ("repaint", "mask"):
        assert made[name] == pytest.approx(share * whole[name])
    assert made["reconstruction"] == whole["reconstruction"]


def test_in_a_one_sided_model_b_has_the_layer_of_no_part() -> None:
    config = replace(CONFIG, domains=shapes.ONE)
    players = shapes.playing(config)
    network = players.network
    assert isinstance(network, layers.Network)
    a, b = shapes.pictures(4).chunk(2)
    made = shapes.terms_of(players, shapes.batch_of(config, a, b), layers.RISE[1])
    (of_a, of_b), settings = (network.encode(a), network.encode(b)), network.settings
    own, none = network.layer(of_a)[1], network.layer(of_b.without("a"))[1]
    wanted = settings.mask * (own.mean() + none.mean())
    assert made["mask"].item() == pytest.approx(wanted.item(), rel=1e-5)
    assert made["zero"].item() == pytest.approx(of_b.a.abs().mean().item(), rel=1e-5)

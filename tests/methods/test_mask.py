"""Mask Based Unsupervised Content Transfer: formulas, who learns of what, batch norm, removal."""

import math
from dataclasses import replace

import pytest
import shapes
import torch
from torch import Tensor, nn

from dida_cli import checkpoint
from dida_cli.codes import Codes, segment, transfer
from dida_cli.config import Domains
from dida_cli.errors import DidaError
from dida_cli.methods import mask
from dida_cli.painter import blend
from dida_cli.players import Players

CONFIG = shapes.FORMS["mask"]
PUBLISHED = shapes.FORMS["paper mask"]


@pytest.fixture
def model() -> mask.Network:
    torch.manual_seed(0)
    made = checkpoint.build(CONFIG)
    assert isinstance(made, mask.Network)
    return made.eval().requires_grad_(False)


def test_it_is_one_sided() -> None:
    with pytest.raises(DidaError, match=r"B has a part, glasses; method layers has masks"):
        checkpoint.build(replace(CONFIG, domains=Domains(a="smile", b="glasses")))
    made = checkpoint.build(CONFIG)
    assert made.abilities == {"masks", "common code"}
    assert made.encode(shapes.pictures(2)).b.shape == (2, 0, 4, 4)


def test_the_first_channel_is_the_mask(model: mask.Network) -> None:
    raw = torch.tensor([0.3, 1.0, 2.0, -3.0])[:, None, None]
    model.painter.register_forward_hook(lambda module, read, made: raw.expand_as(made))
    rgb, where = model.layer(model.encode(shapes.pictures(1)))
    assert torch.allclose(rgb, raw[1:].tanh())
    assert torch.allclose(where, torch.tensor(0.3).sigmoid())


def paints(model: mask.Network, values: Tensor) -> None:
    """Makes every mask of a model `values` (32, 32), all but exactly; colours stay."""

    def change(module: nn.Module, read: object, made: Tensor) -> Tensor:
        made[:, 0] = values.logit(eps=1e-7)
        return made

    model.painter.register_forward_hook(change)


def test_a_removal_shows_the_base_where_the_own_mask_is_a_tenth_or_more(
    model: mask.Network,
) -> None:
    picture = shapes.pictures(1)
    values = torch.full((32, 32), 0.099)
    values[10:20, 10:20] = 0.101
    paints(model, values)
    own = model.encode(picture)
    made = model.compose(own.without("a"), picture, own)
    inside = values > 0.1
    assert torch.allclose(made.image[..., inside], model.base(own)[..., inside], atol=1e-6)
    assert torch.equal(made.image[..., ~inside], picture[..., ~inside])
    assert made.mask is not None and not made.mask[..., ~inside].any()
    assert made.mask[..., inside].mean() > 0.9  # but where the base is as the picture
    assert torch.equal(segment(model, picture, "a"), made.mask)


def test_a_transfer_is_the_painters_blend_onto_the_picture(model: mask.Network) -> None:
    """Where the own part was not: the own mask is shut on the right half."""
    picture, guide = shapes.pictures(2).split(1)
    own = model.encode(picture)
    codes = transfer(own, guide_a=model.encode(guide))
    left = (torch.arange(32) < 16).float().expand(1, 1, 32, 32)
    layer = model.layer

    def halves(of: Codes) -> tuple[Tensor, Tensor]:
        rgb, where = layer(of)
        return rgb, left if torch.equal(of.a, own.a) else where

    model.layer = halves  # type: ignore[method-assign]
    made = model.compose(codes, picture, own).image
    rgb, where = layer(codes)
    expected = blend(rgb, blend(model.base(own), picture, left), where)
    far = (expected - picture).abs().amax(1, keepdim=True).expand_as(picture) > 6 / 127.5
    assert far[..., :16].any() and far[..., 16:].any()
    # what nobody would see is left out
    assert torch.allclose(made[far], expected[far], atol=1e-6)


class Stub(mask.Network):
    """E1 = 0.5 times the mean, E2 = the mean; D_A = E1; D_B = (E1 + E2 + 0.1, mask 0.1 + E2)."""

    def __init__(self, settings: mask.Settings) -> None:
        nn.Module.__init__(self)
        self.config, self.settings = CONFIG, settings
        self.encoders = HalfAndMean()  # type: ignore[assignment]

    def base(self, codes: Codes) -> Tensor:
        return codes.common.expand(-1, 3, 4, 4)

    def layer(self, codes: Codes) -> tuple[Tensor, Tensor]:
        rgb = (codes.common + codes.a + 0.1).expand(-1, 3, 4, 4)
        return rgb, (0.1 + codes.a).expand(-1, 1, 4, 4)


class HalfAndMean(nn.Module):
    def common(self, image: Tensor) -> Tensor:
        return 0.5 * image.mean(dim=(1, 2, 3), keepdim=True)

    def forward(self, image: Tensor) -> Codes:
        common = self.common(image)
        return Codes(common, 2 * common, common[:, :0])


class Says(nn.Module):
    """0.7 for codes of a, whose common code is 0.2; wrongly, and -0.3 for those of b."""

    def forward(self, common: Tensor) -> Tensor:
        return torch.where(common.flatten() < 0.3, 0.7, -0.3)


def test_the_losses_are_the_formulas_of_the_table() -> None:
    a, b = torch.full((2, 3, 4, 4), 0.4), torch.full((2, 3, 4, 4), 0.8)
    weights = {
        "reconstruction_a": 2.0,
        "reconstruction_b": 3.0,
        "repaint_a": 5.0,
        "repaint_b": 7.0,
        "cycle_common": 11.0,
        "cycle_separate": 13.0,
        "confusion": 17.0,
    }
    players = object.__new__(Players)
    players.network = Stub(mask.Settings(critic_target="paper", **weights))
    players.critic = Says()
    made = mask.losses(players, shapes.batch_of(CONFIG, a, b), 200)
    found = {name: made[name].item() / weight for name, weight in weights.items()}
    assert found["reconstruction_b"] == pytest.approx(0.8 - 0.4)  # D_A(E1(b), 0) = 0.4
    # D_B(E1(a), E2(a)) = 0.7 with mask 0.5, onto D_A(E1(a), 0) = 0.2, and onto a itself
    assert found["reconstruction_a"] == pytest.approx((0.7 + 0.2) / 2 - 0.4, rel=1e-5)
    assert found["repaint_a"] == pytest.approx((0.7 + 0.4) / 2 - 0.4, rel=1e-5)
    # D_B(E1(b), 0) = 0.5 with mask 0.1, onto b
    assert found["repaint_b"] == pytest.approx(0.1 * (0.8 - 0.5), rel=1e-5)
    c = (0.9 + 0.8) / 2  # D_B(E1(b), E2(a)) = 0.9 with mask 0.5, onto b
    assert found["cycle_common"] == pytest.approx((c / 2 - 0.4) ** 2, rel=1e-4)
    assert found["cycle_separate"] == pytest.approx((c - 0.4) ** 2, rel=1e-4)
    both_to_b = math.log(1 + math.exp(-0.7)) + math.log(1 + math.exp(0.3))
    assert found["confusion"] == pytest.approx(both_to_b)
    truth = math.log(1 + math.exp(0.7)) + math.log(1 + math.exp(0.3))  # A's codes come first
    assert made["critic"].item() == pytest.approx(truth)
    assert made["critic_right"] == 0 and set(made) == {*weights, "critic", "critic_right"}


@pytest.mark.parametrize(
    ("term", "learning"),
    [
        ("reconstruction_a", {"E1", "E2", "D_A", "D_B"}),
        ("reconstruction_b", {"E1", "D_A"}),
        ("repaint_a", {"E1", "E2", "D_B"}),
        ("repaint_b", {"E1", "D_B"}),
        ("cycle_common", {"E1", "E2", "D_B"}),
        ("cycle_separate", {"E1", "E2", "D_B"}),
        ("confusion", {"E1"}),
    ],
)
def test_a_loss_teaches_the_networks_in_its_formula(term: str, learning: set[str]) -> None:
    players = shapes.playing(replace(CONFIG, settings=CONFIG.settings | {"cycle_common": 1.0}))
    network = players.network
    assert isinstance(network, mask.Network)
    a, b = shapes.pictures(4).chunk(2)
    shapes.terms_of(players, shapes.batch_of(CONFIG, a, b))[term].backward()
    parts = {"E1": network.encoders.common, "E2": network.encoders.separate_a}
    parts |= {"D_A": network.plain, "D_B": network.painter, "d": players.critic}

    def learns(part: nn.Module) -> bool:
        return any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())

    assert {name for name, part in parts.items() if learns(part)} == learning


def test_the_domains_go_through_batch_norm_one_after_the_other() -> None:
    players, (a, b) = shapes.playing(PUBLISHED), shapes.pictures(8).chunk(2)

    def terms(a: Tensor, b: Tensor) -> dict[str, Tensor]:
        return shapes.terms_of(players, shapes.batch_of(PUBLISHED, a, b))

    before = terms(a, b)
    for after, own, others in ((terms(a, 0.1 * b), "a", "b"), (terms(0.1 * a, b), "b", "a")):
        for term in ("reconstruction", "repaint"):
            assert torch.equal(after[f"{term}_{own}"], before[f"{term}_{own}"])
            assert not torch.equal(after[f"{term}_{others}"], before[f"{term}_{others}"])

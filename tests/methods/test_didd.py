"""Domain Intersection and Domain Difference: shapes, formulas, guided content transfer."""

import math
from dataclasses import replace

import pytest
import shapes
import torch
from torch import Tensor, nn

from dida_cli import checkpoint
from dida_cli.codes import Codes, Rendering
from dida_cli.config import ModelConfig
from dida_cli.methods import didd
from dida_cli.players import Players

CONFIG = shapes.FORMS["didd"]


@pytest.mark.parametrize(("architecture", "grid"), [("compact", 4), ("compact", 8), ("paper", 2)])
@pytest.mark.parametrize("side", [32, 64, 128, 256])
def test_codes_and_pictures_have_their_shapes(architecture: str, grid: int, side: int) -> None:
    settings = {"architecture": architecture, "grid": grid, "width": 32, "common": 20}
    config = replace(CONFIG, side=side, settings=settings | {"separate": 3})
    model = checkpoint.build(config).eval()
    codes = model.encode(torch.rand(2, 3, side, side))
    cells = (grid, grid)
    assert [code.shape for code in codes] == [(2, 20, *cells), (2, 3, *cells), (2, 3, *cells)]
    rendering = model.compose(codes)
    assert rendering.image.shape == (2, 3, side, side) and rendering.mask is None
    assert rendering.image.abs().max() <= 1


def test_both_parts_are_told_by_abilities_and_by_encoders() -> None:
    model = checkpoint.build(CONFIG)
    assert model.abilities == {"two parts", "common code"} and CONFIG.parts == ("a", "b")
    alone = checkpoint.build(shapes.FORMS["one-sided didd"])
    assert isinstance(alone, didd.Network)
    assert alone.abilities == {"common code"} and alone.encoders.separate_b is None
    assert alone.encode(shapes.pictures(2)).b.shape == (2, 0, 4, 4)


class Stub(didd.Network):
    """Encoders that read the picture's mean, a decoder that adds the codes: losses by hand."""

    def __init__(self, config: ModelConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.settings = didd.Settings.from_json(config.settings, "settings", partial=True)

    def encode(self, image: Tensor) -> Codes:
        mean = image.mean(dim=(1, 2, 3), keepdim=True)
        return Codes(mean, 2 * mean, 3 * mean)

    def compose(
        self, codes: Codes, onto: Tensor | None = None, own: Codes | None = None
    ) -> Rendering:
        return Rendering((codes.common + codes.a + codes.b).expand(-1, 3, 4, 4), None)


class Says(nn.Module):
    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, common: Tensor) -> Tensor:
        return torch.full((len(common),), self.logit)


def terms(settings: dict[str, object], logit: float = 0.7) -> dict[str, float]:
    """Of pictures of 0.1 in A and 0.2 in B."""
    a, b = torch.full((2, 3, 4, 4), 0.1), torch.full((2, 3, 4, 4), 0.2)
    players = object.__new__(Players)
    players.network = Stub(replace(CONFIG, settings=settings))
    players.critic = Says(logit)
    made = didd.losses(players, shapes.batch_of(CONFIG, a, b), 200)
    return {name: term.item() for name, term in made.items()}


def test_the_losses_are_the_papers_formulas() -> None:
    made = terms({"critic_target": "paper", "confusion": 1.0})
    # G(E_c(a), E_A(a), 0) = 0.1 + 0.2, G(E_c(b), 0, E_B(b)) = 0.2 + 0.6
    assert made["reconstruction"] == pytest.approx((0.3 - 0.1) + (0.8 - 0.2))
    assert made["zero"] == pytest.approx(0.4 + 0.3)  # |E_A(b)| + |E_B(a)|
    assert made["confusion"] == pytest.approx(2 * math.log(1 + math.exp(-0.7)))
    expected = math.log(1 + math.exp(0.7)) + math.log(1 + math.exp(-0.7))
    assert made["critic"] == pytest.approx(expected)  # 0 for A, 1 for B
    assert made["critic_right"] == 0.5  # B right, A wrong
    other = terms({"critic_target": "other", "confusion": 1.0})
    assert other["confusion"] == pytest.approx(expected)  # 1 for A, 0 for B


def test_terms_are_weighted() -> None:
    once = terms({"confusion": 1.0})
    made = terms({"confusion": 5.0, "zero": 3.0})
    assert made["zero"] == pytest.approx(3 * once["zero"])
    assert made["confusion"] == pytest.approx(5 * once["confusion"])
    assert made["reconstruction"] == once["reconstruction"]
    assert made["critic"] == once["critic"]


def test_half_is_least_when_the_critic_cannot_tell() -> None:
    at = {logit: terms({"confusion": 1.0}, logit)["confusion"] for logit in (-1.0, 0.0, 1.0)}
    assert at[0.0] == pytest.approx(2 * math.log(2)) and at[0.0] < min(at[-1.0], at[1.0])
    assert at[-1.0] == pytest.approx(at[1.0])


def test_domain_b_of_a_one_sided_model_is_what_lacks_the_part() -> None:
    config = shapes.FORMS["one-sided didd"]
    players = shapes.playing(config)
    a, b = shapes.pictures(4).chunk(2)
    made = shapes.terms_of(players, shapes.batch_of(config, a, b))
    of_b = players.network.encode(b)
    assert made["zero"].item() == pytest.approx(of_b.a.abs().mean().item(), rel=1e-5)
    of_a = players.network.encode(a)
    rebuilt = (
        players.network.compose(of_a).image,
        players.network.compose(of_b.without("a")).image,
    )
    wanted = sum((r - x).abs().mean().item() for r, x in zip(rebuilt, (a, b), strict=True))
    assert made["reconstruction"].item() == pytest.approx(wanted, rel=1e-5)

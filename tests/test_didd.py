import math
from itertools import pairwise

import pytest
import torch
from conftest import TINY
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli import checkpoint, losses, nets
from dida_cli.codes import Codes, Rendering
from dida_cli.config import Architecture, ModelConfig, Weights
from dida_cli.didd import Didd, autoencoder_loss

ONES = Weights(zero=1, common=1)


@pytest.mark.parametrize("architecture", ["compact", "paper"])
@pytest.mark.parametrize("side", [32, 64, 128, 256])
def test_codes_and_pictures_have_their_shapes(architecture: Architecture, side: int) -> None:
    config = ModelConfig.of("didd", architecture, side=side, common=20, separate_a=3, separate_b=5)
    model = checkpoint.build(config).eval()
    codes = model.encode(torch.rand(2, 3, side, side))
    grid = config.grid
    assert [tuple(code.shape) for code in codes] == [
        (2, 20, grid, grid),
        (2, 3, grid, grid),
        (2, 5, grid, grid),
    ]
    rendering = model.compose(codes)
    assert rendering.image.shape == (2, 3, side, side) and rendering.mask is None
    assert rendering.image.abs().max() <= 1


def test_the_grid_may_be_eight() -> None:
    config = ModelConfig(side=64, grid=8)
    assert checkpoint.build(config).encode(torch.rand(1, 3, 64, 64)).common.shape[-1] == 8


def test_guided_content_transfer_has_one_separate_encoder() -> None:
    config = ModelConfig(side=32, separate_b=0)
    model = checkpoint.build(config)
    assert isinstance(model, Didd)
    codes = model.encode(torch.rand(2, 3, 32, 32))
    assert model.encoders.separate_b is None and codes.b.shape == (2, 0, 4, 4)
    pictures = torch.rand(2, 3, 32, 32)
    made = autoencoder_loss(model, nets.Critic(config), pictures, pictures, ONES, "half")
    assert made.total.isfinite()


def test_the_paper_layout_is_the_released_one() -> None:
    model = checkpoint.build(ModelConfig.of("didd", "paper", side=128))
    assert isinstance(model, Didd)

    def shapes(net: nn.Module) -> list[tuple[int, ...]]:
        convolutions = (nn.Conv2d, nn.ConvTranspose2d)
        return [tuple(m.weight.shape) for m in net.modules() if isinstance(m, convolutions)]

    assert shapes(model.encoders.common) == [
        (32, 3, 4, 4),
        (64, 32, 4, 4),
        (128, 64, 4, 4),
        (256, 128, 4, 4),
        (487, 256, 4, 4),
        (462, 487, 4, 4),
    ]
    widths = [3, 32, 64, 128, 256, 512, 25]
    separate = [(o, i, 4, 4) for i, o in pairwise(widths)]
    assert shapes(model.encoders.separate_a) == separate
    widths = [512, 512, 256, 128, 64, 32, 3]
    assert shapes(model.decoder) == [(i, o, 4, 4) for i, o in pairwise(widths)]
    norms = [
        m.num_features for m in model.encoders.common.modules() if isinstance(m, nn.InstanceNorm2d)
    ]
    assert norms == [32, 128, 256, 487, 462]  # the second stage's is left out, as released


def test_a_baked_spectral_norm_gives_the_same_pictures_every_time() -> None:
    model = checkpoint.build(ModelConfig.of("didd", "paper", side=32)).eval()
    picture = torch.rand(1, 3, 32, 32)
    expected = model.compose(model.encode(picture)).image
    still = checkpoint.baked(model)
    assert not any("parametrizations" in name for name in still.state_dict())
    assert torch.equal(still.compose(still.encode(picture)).image, expected)
    weight = still.state_dict()["encoders.common.0.weight"]
    sigma = torch.linalg.matrix_norm(weight.flatten(1), ord=2).item()
    assert sigma == pytest.approx(1, abs=0.2)


class Stub(Didd):
    """Encoders that read the picture's mean, a decoder that adds the codes: losses by hand."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.config = TINY

    def encode(self, image: Tensor) -> Codes:
        mean = image.mean(dim=(1, 2, 3), keepdim=True)
        return Codes(mean, 2 * mean, 3 * mean)

    def compose(
        self, codes: Codes, onto: Tensor | None = None, own: Codes | None = None
    ) -> Rendering:
        return Rendering((codes.common + codes.a + codes.b).expand(-1, 3, 4, 4), None)


class Says(nets.Critic):
    def __init__(self, logit: float) -> None:
        nn.Module.__init__(self)
        self.logit = nn.Parameter(torch.tensor(logit))

    def forward(self, common: Tensor) -> Tensor:
        return self.logit.expand(len(common))


def test_the_losses_are_the_papers_formulas() -> None:
    a, b = torch.full((2, 3, 4, 4), 0.1), torch.full((2, 3, 4, 4), 0.2)
    made = autoencoder_loss(Stub(), Says(0.7), a, b, ONES, "paper")
    # G(E_c(a), E_A(a), 0) = 0.1 + 0.2, G(E_c(b), 0, E_B(b)) = 0.2 + 0.6
    assert made.terms["reconstruction_a"].item() == pytest.approx(0.3 - 0.1)
    assert made.terms["reconstruction_b"].item() == pytest.approx(0.8 - 0.2)
    # |E_A(b)| + |E_B(a)|
    assert made.terms["zero"].item() == pytest.approx(0.4 + 0.3)
    assert made.terms["common"].item() == pytest.approx(2 * math.log(1 + math.exp(-0.7)))
    assert made.total.item() == pytest.approx(sum(t.item() for t in made.terms.values()))


def test_the_weights_are_applied_in_the_sum_alone() -> None:
    a, b = torch.full((2, 3, 4, 4), 0.1), torch.full((2, 3, 4, 4), 0.2)
    weights = Weights(reconstruction_a=2, reconstruction_b=7, zero=3, common=5)
    made = autoencoder_loss(Stub(), Says(0.7), a, b, weights, "paper")
    terms = made.terms
    expected = 2 * terms["reconstruction_a"] + 7 * terms["reconstruction_b"]
    expected += 3 * terms["zero"] + 5 * terms["common"]
    assert made.total.item() == pytest.approx(expected.item())


def test_half_is_least_when_the_critic_cannot_tell() -> None:
    a = torch.full((2, 3, 4, 4), 0.1)
    at = {
        logit: autoencoder_loss(Stub(), Says(logit), a, a, ONES, "half").terms["common"].item()
        for logit in (-1.0, 0.0, 1.0)
    }
    assert at[0.0] == pytest.approx(2 * math.log(2)) and at[0.0] < min(at[-1.0], at[1.0])
    assert at[-1.0] == pytest.approx(at[1.0])


def test_the_critic_learns_zero_for_a_and_one_for_b() -> None:
    common = torch.zeros(4, 8, 4, 4)
    made = losses.critic(Says(2.0), common)
    expected = math.log(1 + math.exp(2.0)) + math.log(1 + math.exp(-2.0))
    assert made.total.item() == pytest.approx(expected)
    assert made.terms["critic_right"].item() == 0.5  # B right, A wrong


def test_the_critic_of_pictures_tells_them_apart_on_its_own() -> None:
    torch.manual_seed(0)
    critic = nets.Critic(TINY, looks=True)
    base = torch.rand(4, 3, 32, 32, requires_grad=True)
    shown = torch.cat([base, torch.rand(4, 3, 32, 32)])  # and the pictures they are of
    made = losses.critic(critic, torch.zeros(4, TINY.common, TINY.grid, TINY.grid), shown)
    for name, logits in zip(
        ("base_critic", "real_critic"), critic.look(shown).chunk(2), strict=True
    ):
        wanted = -(F.logsigmoid(-logits[:2]).mean() + F.logsigmoid(logits[2:]).mean())
        assert made.terms[name].item() == pytest.approx(wanted.item(), rel=1e-5)
    sum_of_all = sum(made.terms[name] for name in ("critic", "base_critic", "real_critic"))
    assert made.total.item() == pytest.approx(sum_of_all.item())
    made.total.backward()
    assert base.grad is None  # the other player's
    with torch.no_grad():
        assert losses.alike(critic, base) >= 2 * math.log(2)  # least when it cannot tell


def test_no_gradient_of_the_critic_reaches_an_encoder(tiny: Didd) -> None:
    critic = nets.Critic(TINY)
    pictures = torch.rand(2, 3, 32, 32)
    tiny.requires_grad_(True)
    made = autoencoder_loss(tiny, critic, pictures, pictures, ONES, "half")
    torch.autograd.backward(losses.critic(critic, made.common).total)
    assert all(p.grad is None for p in tiny.parameters())
    assert all(p.grad is not None for p in critic.parameters())


def test_every_part_of_the_model_learns_from_the_loss(tiny: Didd) -> None:
    critic = nets.Critic(TINY).requires_grad_(False)
    made = autoencoder_loss(
        tiny, critic, torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32), ONES, "half"
    )
    torch.autograd.backward(made.total)
    assert all(p.grad is not None and bool(p.grad.any()) for p in tiny.parameters())
    assert all(p.grad is None for p in critic.parameters())

"""The released networks, layer by layer, and their settings."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from dida_cli import checkpoint, methods, nets
from dida_cli.config import Domains, ModelConfig
from dida_cli.methods import didd, mask
from dida_cli.paper import layouts

TWO, ONE = Domains(a="smile", b="glasses"), Domains(a="smile")
RELEASED = {
    "didd": ModelConfig(method="didd", domains=TWO, settings=layouts.DIDD.settings),
    "press": ModelConfig(method="didd", domains=ONE, settings=layouts.PRESS.settings),
    "mask": ModelConfig(method="mask", domains=ONE, settings=layouts.MASK.settings),
}

Shapes = list[tuple[int, ...]]


def shapes(net: nn.Module) -> Shapes:
    """Of the convolutions' weights."""
    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    return [tuple(m.weight.shape) for m in net.modules() if isinstance(m, convolutions)]


def encoder(*widths: int) -> Shapes:
    return [(o, i, 4, 4) for i, o in pairwise((3, *widths))]


def decoder(*widths: int) -> Shapes:
    return [(i, o, 4, 4) for i, o in pairwise((512, *widths))]


@pytest.mark.parametrize(
    ("kind", "common", "separate"),
    [
        ("didd", (32, 64, 128, 256, 487, 462), (32, 64, 128, 256, 512, 25)),
        ("press", (32, 64, 128, 256, 487, 487), (32, 64, 128, 128, 128, 25)),
        ("mask", (32, 64, 128, 256, 487, 487), (32, 64, 128, 128, 128, 25)),
    ],
)
def test_the_encoders_are_the_releases_at_128_px(
    kind: str, common: tuple[int, ...], separate: tuple[int, ...]
) -> None:
    model = checkpoint.blank(RELEASED[kind])
    assert isinstance(model, didd.Network | mask.Network)
    assert shapes(model.encoders.common) == encoder(*common)
    assert shapes(model.encoders.separate_a) == encoder(*separate)
    assert (model.encoders.separate_b is None) == (kind != "didd")


def test_the_decoders_are_the_releases_at_128_px() -> None:
    widths = (512, 256, 128, 64, 32)
    for kind in ("didd", "press"):
        model = checkpoint.blank(RELEASED[kind])
        assert isinstance(model, didd.Network)
        assert shapes(model.decoder) == decoder(*widths, 3)
    painter = checkpoint.blank(RELEASED["mask"])
    assert isinstance(painter, mask.Network)
    assert shapes(painter.plain) == decoder(*widths, 3)
    assert shapes(painter.painter) == decoder(*widths, 4)


@pytest.mark.parametrize(
    ("kind", "norm", "in_decoder"),
    [
        ("didd", "InstanceNorm2d", "ReLU"),
        ("press", "InstanceNorm2d", "ReLU"),
        ("mask", "BatchNorm2d", "LeakyReLU"),
    ],
)
def test_norms_and_activations_are_the_releases(kind: str, norm: str, in_decoder: str) -> None:
    model = checkpoint.blank(RELEASED[kind])
    nets_ = dict(model.named_children()) | dict(model.get_submodule("encoders").named_children())
    del nets_["encoders"]
    for name, net in nets_.items():
        kinds = [type(layer).__name__ for layer in net.children()]
        if name in ("common", "separate_a", "separate_b"):
            stage = ["Conv2d", norm, "LeakyReLU"] * 6
            if kind == "didd" and name == "common":
                del stage[4]  # the second stage's norm is left out, as released
            assert kinds == stage
        else:
            stage = ["ConvTranspose2d", norm, in_decoder]
            assert kinds == stage * 5 + ["ConvTranspose2d"]
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert (module.stride, module.padding) == ((2, 2), (1, 1)) and module.bias is not None
        if isinstance(module, nn.LeakyReLU):
            assert module.negative_slope == 0.2


def normed(config: ModelConfig) -> set[str]:
    """The layers with spectral norm."""
    with torch.device("meta"):
        names = [name for name, _ in checkpoint.build(config).named_modules()]
    return {name.partition(".parametr")[0] for name in names if ".parametr" in name}


def test_spectral_norm_is_in_didd_alone_and_not_in_its_last_layer() -> None:
    assert not normed(RELEASED["press"]) and not normed(RELEASED["mask"])
    found = normed(RELEASED["didd"])
    assert len(found) == 23 and "decoder.12" in found and "decoder.15" not in found


def test_a_baked_spectral_norm_gives_the_same_pictures_every_time() -> None:
    torch.manual_seed(0)
    settings = layouts.DIDD.settings | {"width": 64, "common": 20, "separate": 4}
    model = checkpoint.build(ModelConfig(method="didd", domains=TWO, side=32, settings=settings))
    picture = torch.rand(1, 3, 32, 32)
    model.eval()
    expected = model.compose(model.encode(picture)).image
    still = checkpoint.baked(model)
    assert not any("parametrizations" in name for name in still.state_dict())
    assert torch.equal(still.compose(still.encode(picture)).image, expected)
    weight = still.state_dict()["encoders.common.0.weight"]
    sigma = torch.linalg.matrix_norm(weight.flatten(1), ord=2).item()
    assert sigma == pytest.approx(1, abs=0.2)


def test_the_critic_and_the_settings_are_the_releases() -> None:
    for kind, config in RELEASED.items():
        settings = methods.settings_of(config)
        with torch.device("meta"):
            critic = nets.Critic(settings)
        common = 462 if kind == "didd" else 487
        weights = [tuple(p.shape) for p in critic.parameters() if p.ndim == 2]
        assert weights == [(512, common * 2 * 2), (1, 512)]
        assert (settings.rate, settings.critic_target) == (2e-4, "paper")
    alpha, gama, delta, beta_1, beta_2, discweight = 0.7, 7.0, 5.0, 0.0, 0.001, 0.005
    terms = "repaint_a repaint_b reconstruction_a reconstruction_b cycle_common cycle_separate"
    found = [getattr(settings, name) for name in [*terms.split(), "confusion"]]
    assert found == [alpha, alpha, gama, delta, beta_1, beta_2, discweight]
    usual = methods.complete("mask", {})
    assert [usual[name] for name in terms.split()] == found[:-1]  # so are the defaults

"""The shared blocks: which sizes there may be, compact networks, and codes of domains."""

import importlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from dida_cli import checkpoint, methods, nets
from dida_cli.codes import Codes
from dida_cli.config import Domains, ModelConfig
from dida_cli.errors import DidaError
from dida_cli.players import Sides

METHODS = ("didd", "mask", "layers")


def config(method: str, side: int = 32, **settings: Any) -> ModelConfig:
    domains = Domains(a="smile", b="" if method == "mask" else "glasses")
    small = {"width": 16, "common": 8, "separate": 3}
    return ModelConfig(method=method, domains=domains, side=side, settings=small | settings)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"grid": 1}, "grid must be 2 cells or more, not 1"),
        ({"width": 10**9}, "width must be 1 to 4096"),
        ({"common": 0}, "common must be 1 to 4096, not 0"),
        ({"separate": -3}, "separate must be 1 to 4096, not -3"),
        ({"rate": 0.0}, "rate must lie between 0 and 1"),
        ({"rate": float("nan")}, "rate must lie between 0 and 1"),
        ({"critic_start": -1}, "critic_start must be 0 or more"),
        ({"confusion": -0.1}, "confusion must be 0 or more"),
        ({"confusion": float("inf")}, "confusion must be 0 or more"),
        ({"confusion": float("nan")}, "confusion must be 0 or more"),
        ({"critic_target": "half of it"}, "critic_target must be one of half, paper, other"),
        ({"common": 0.5}, "common must be of type int"),
        ({"depth": 3}, "unknown setting 'depth'"),
    ],
)
def test_settings_out_of_range_are_refused(method: str, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(DidaError, match=said) as refused:
        checkpoint.build(config(method, **wrong))
    assert "\n" not in str(refused.value) and str(refused.value).startswith("settings: ")


@pytest.mark.parametrize(
    ("method", "weight"),
    [("didd", "zero"), ("layers", "repaint"), ("layers", "mask"), ("mask", "cycle_separate")],
)
def test_the_weights_of_a_method_are_checked_too(method: str, weight: str) -> None:
    with pytest.raises(DidaError, match=f"{weight} must be 0 or more, not -1"):
        checkpoint.build(config(method, **{weight: -1.0}))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("side", "grid", "said"),
    [
        (100, 4, "side 100 does not halve two or more times to a grid of 4; try side 32 or 64"),
        (32, 16, "side 32 does not halve two or more times to a grid of 16; try side 64 or 128"),
        (32, 10**9, "try grid 4"),
    ],
)
def test_a_side_must_halve_to_the_grid(method: str, side: int, grid: int, said: str) -> None:
    with torch.device("meta"), pytest.raises(DidaError, match=said):
        checkpoint.build(config(method, side, grid=grid))


@pytest.mark.parametrize("side", [32, 64, 128, 256])
@pytest.mark.parametrize("grid", [2, 4, 8])
def test_every_promised_side_fits(side: int, grid: int) -> None:
    assert grid << nets.Settings(grid=grid).stages(side) == side


def test_channels_halve_outwards_but_not_below_sixteen() -> None:
    assert nets.Settings(width=192).widths(128) == [16, 24, 48, 96, 192]


def test_a_compact_common_encoder_and_decoder_are_mirrored() -> None:
    with torch.device("meta"):
        encoders = nets.encoders(nets.Settings(), 64, 2)
        decoder = nets.decoder(nets.Settings(), 64, 2, out=4)

    def shapes(net: nn.Module) -> list[tuple[int, ...]]:
        return [tuple(p.shape) for p in net.parameters() if p.ndim == 4]

    assert shapes(encoders.common) == [
        (24, 3, 4, 4),
        (48, 24, 4, 4),
        (96, 48, 4, 4),
        (192, 96, 4, 4),
        (64, 192, 3, 3),
    ]
    assert [shape[0] for shape in shapes(encoders.separate_a)] == [16, 24, 48, 96, 8]
    assert shapes(decoder) == [
        (80, 192, 4, 4),
        (192, 96, 4, 4),
        (96, 48, 4, 4),
        (48, 24, 4, 4),
        (4, 24, 3, 3),
    ]


@pytest.mark.parametrize("method", METHODS)
def test_compact_models_have_group_norm_alone(method: str) -> None:
    """With no batch norm a picture's codes are the same in any batch, in training too."""
    model = checkpoint.build(config(method)).train()
    kinds = {type(m).__name__ for m in model.modules()}
    assert "GroupNorm" in kinds and not any("Batch" in k or "Parametrized" in k for k in kinds)
    pictures = torch.rand(2, 3, 32, 32)
    assert torch.allclose(model.encode(pictures[:1]).a, model.encode(pictures).a[:1], atol=1e-6)


def test_logits_are_float32_in_half_precision_too() -> None:
    settings = nets.Settings(common=8)
    with torch.autocast("cpu", torch.bfloat16):
        logits = nets.Critic(settings)(torch.rand(3, 8, 4, 4))
    assert logits.shape == (3,) and logits.dtype == torch.float32


def test_a_picture_keeps_the_part_of_its_own_domain() -> None:
    torch.manual_seed(0)
    codes = Codes(*torch.rand(3, 4, 2, 2, 2))
    own = nets.own_parts(codes)
    assert torch.equal(own.common, codes.common)
    assert torch.equal(own.a[:2], codes.a[:2]) and not own.a[2:].any()
    assert torch.equal(own.b[2:], codes.b[2:]) and not own.b[:2].any()
    wanted = codes.a[2:].abs().mean() + codes.b[:2].abs().mean()
    assert torch.allclose(nets.zero(codes), wanted)
    one_sided = codes._replace(b=codes.b[:, :0])
    assert torch.allclose(nets.zero(one_sided), codes.a[2:].abs().mean())
    assert nets.own_parts(one_sided).b.shape == (4, 0, 2, 2)


def test_domain_b_has_bs_part_or_lacks_as() -> None:
    sides = torch.arange(4.0).view(4, 1)
    both = {"a": Sides(*sides[:2]), "b": Sides(*sides[2:])}
    assert [one.item() for one in nets.domains(both)] == [0, 2]
    assert [one.item() for one in nets.domains({"a": both["a"]})] == [0, 1]


def test_rounding_is_no_change_and_nothing_is_not_there() -> None:
    before = torch.zeros(4, 2, 3, 3)
    before[:2] = 1
    after = before.clone()
    after[0] += 1e-6
    after[1, 0, 0, 0] = 0.9
    after[3, 1, 2, 2] = 1e-9
    assert nets.changed(before, after).flatten().tolist() == [False, True, False, True]
    assert nets.present(after).flatten().tolist() == [True, True, False, True]
    none = before[:, :0]
    assert not nets.changed(none, none).any() and not nets.present(none).any()


@pytest.mark.parametrize("method", METHODS)
def test_the_register_and_the_module_agree(method: str) -> None:
    module = importlib.import_module(methods.MODULES[method])
    assert methods.find(method) is module and module.TAKES == "domains"
    complete = methods.complete(method, {})
    assert methods.complete(method, complete) == complete
    network = module.Network(config(method))
    assert network.abilities <= module.ABILITIES
    players = module.players(network)
    assert set(players.adam) == {"network", "critic"} and players.clip == 5
    other = replace(network.config, settings=network.config.settings | {"rate": 0.01})
    adam = module.players(module.Network(other)).adam
    rates = [g["lr"] for player in adam.values() for g in player.param_groups]
    assert rates == [0.01, 0.01]


@torch.no_grad()
def test_blurs_by_sums_are_means_of_what_is_near() -> None:
    x = torch.rand(2, 3, 9, 12, generator=torch.Generator().manual_seed(0))
    edged = nn.functional.pad(x, (2, 2, 2, 2), mode="replicate")
    nine = nn.functional.avg_pool2d(edged[..., 1:-1, 1:-1], 3, stride=1)
    torch.testing.assert_close(nets.box(x), nine)
    fours = nn.functional.avg_pool2d(edged, 4, stride=1)
    torch.testing.assert_close(nets.without_grid(x), nn.functional.avg_pool2d(fours, 2, stride=1))

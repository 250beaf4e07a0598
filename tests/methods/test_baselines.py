"""The methods that Table 1 compares: what each can do, and whose gradient each term is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import configured, saved
from torch import Tensor

from dida_cli import checkpoint, codes, methods
from dida_cli.errors import DidaError
from dida_cli.players import Batch, Players, Sides

TERMS = {
    "fader": {"reconstruction", "confusion", "critic", "critic_right"},
    "munit": {"picture", "content", "style", "realism", "critic"},
    "drit": {"cross", "picture", "common", "realism", "latent", "kl", "critic"},
}
TRANSLATORS = ["munit", "drit"]  # which know nothing but two domains, and moves between them
SMALL = {
    "fader": {"grid": 4, "width": 16, "common": 8},
    "munit": {"width": 8, "blocks": 2, "critic_width": 4},
    "drit": {"width": 8, "blocks": 2, "critic_width": 4},
}


def pictures(seed: int, count: int = 3) -> Tensor:
    """Coloured tiles of 8 x 8 pixels."""
    tiles = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return tiles.repeat_interleave(8, 2).repeat_interleave(8, 3)


def batch() -> Batch:
    return {"a": Sides(pictures(1), pictures(2)), "b": Sides(pictures(2), pictures(1))}


def playing(method: str, **settings: object) -> Players:
    torch.manual_seed(0)
    network = checkpoint.build(configured(method, **SMALL[method] | settings))
    return methods.find(method).players(network)


@pytest.mark.parametrize("method", TERMS)
def test_networks_are_as_large_as_that_of_the_paper_they_are_compared_with(method: str) -> None:
    def parameters(name: str) -> int:
        config = replace(configured(name), side=64)
        return sum(p.numel() for p in checkpoint.build(config).parameters())

    assert parameters(method) == pytest.approx(parameters("didd"), rel=0.1)


@pytest.mark.parametrize("method", TERMS)
def test_each_term_moves_its_own_player(method: str) -> None:
    players = playing(method)
    terms = methods.find(method).losses(players, batch(), 10)
    assert set(terms) == TERMS[method]
    for name, term in terms.items():
        if not term.requires_grad:
            continue
        for module in players.modules.values():
            module.zero_grad()
        term.backward(retain_graph=True)
        moved = {
            name
            for name, module in players.modules.items()
            if any(p.grad is not None and p.grad.any() for p in module.parameters())
        }
        assert moved == {"critic" if name == "critic" else "network"}, name


@pytest.mark.parametrize("method", TERMS)
def test_the_own_picture_is_learned_to_be_drawn(method: str) -> None:
    players, of = playing(method, rate=1e-2), "reconstruction" if method == "fader" else "picture"
    seen = []
    for step in range(14):
        terms = methods.find(method).losses(players, batch(), step)
        seen.append(terms[of].item())
        for adam in players.adam.values():
            adam.zero_grad()
        torch.stack([term for term in terms.values() if term.requires_grad]).sum().backward()
        for adam in players.adam.values():
            adam.step()
    assert sum(seen[-3:]) < 0.8 * sum(seen[:3])


@pytest.mark.parametrize("method", TERMS)
def test_a_guide_is_obeyed_but_by_fader(method: str, tmp_path: Path) -> None:
    network = checkpoint.load(saved(checkpoint.baked(playing(method).network), tmp_path / "model"))
    content, guide, other = (network.encode(pictures(seed, 2)) for seed in (3, 4, 5))
    x = pictures(3, 2)
    made = [
        network.compose(codes.transfer(content, guide_a=of), x, content).image
        for of in (guide, other)
    ]
    assert made[0].shape == (2, 3, 32, 32) and made[0].abs().max() <= 1
    assert torch.equal(*made) == (method == "fader")
    to_b = network.compose(codes.transfer(content, guide_b=guide), x, content).image
    assert not torch.equal(to_b, made[0])


@pytest.mark.parametrize("method", TRANSLATORS)
def test_what_is_moved_is_the_content_that_the_other_domain_finds(method: str) -> None:
    network = playing(method).network.eval()
    x, y = network.encode(pictures(3)), network.encode(pictures(4))
    half = x.common.shape[1] // 2  # what A finds, then what B finds
    to_a = codes.transfer(x, guide_a=y)
    same = to_a._replace(common=torch.cat([y.common[:, :half], x.common[:, half:]], dim=1))
    assert torch.equal(network.compose(same).image, network.compose(to_a).image)
    unlike = to_a._replace(common=torch.cat([x.common[:, :half], y.common[:, half:]], dim=1))
    assert not torch.equal(network.compose(unlike).image, network.compose(to_a).image)


@pytest.mark.parametrize("method", TRANSLATORS)
def test_a_picture_that_is_to_be_of_both_domains_or_of_none_stays(method: str) -> None:
    network, x = playing(method).network.eval(), pictures(3)
    own = network.encode(x)
    for asked in (own, own.without("a", "b")):
        assert torch.equal(network.compose(asked, x, own).image, x)
    with pytest.raises(DidaError, match=f"method {method} moves between two domains"):
        checkpoint.build(configured(method, b=""))


def test_the_code_of_fader_is_told_apart_more_and_more() -> None:
    players = playing("fader", confusion=1.0, rise=100)
    fader = methods.find("fader")
    found = [fader.losses(players, batch(), step)["confusion"].item() for step in (0, 50, 100, 900)]
    assert found[0] == 0 and found[2] == found[3] == pytest.approx(2 * found[1])
    with pytest.raises(DidaError, match="separate must be 1"):
        playing("fader", separate=2)


@pytest.mark.parametrize("method", TRANSLATORS)
def test_bad_settings_are_named(method: str) -> None:
    for setting, words in (
        ({"width": 0}, "width must be 1 to"),
        ({"rate": -1.0}, "rate must lie"),
        ({"realism": 1e6}, "realism must be 0 or more"),  # no weight is so large
    ):
        with pytest.raises(DidaError, match=words):
            playing(method, **setting)

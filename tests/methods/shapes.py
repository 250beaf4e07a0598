"""Two domains of drawn shapes, and trainings of a few steps on them."""

import torch
from torch import Tensor

from dida_cli import methods
from dida_cli.config import Domains, ModelConfig
from dida_cli.players import Batch, Players, Sides

TWO, ONE = Domains(a="bar", b="block"), Domains(a="bar")
SMALL = {"width": 16, "common": 8, "separate": 3}
PAPER = SMALL | {"architecture": "paper", "grid": 2, "width": 32}
FORMS = {
    "didd": ModelConfig(method="didd", domains=TWO, side=32, settings=SMALL),
    "one-sided didd": ModelConfig(method="didd", domains=ONE, side=32, settings=SMALL),
    "paper didd": ModelConfig(method="didd", domains=TWO, side=32, settings=PAPER),
    "press": ModelConfig(method="didd", domains=ONE, side=32, settings=PAPER),
    "mask": ModelConfig(method="mask", domains=ONE, side=32, settings=SMALL),
    "paper mask": ModelConfig(method="mask", domains=ONE, side=32, settings=PAPER),
    "layers": ModelConfig(method="layers", domains=TWO, side=32, settings=SMALL),
    "one-sided layers": ModelConfig(method="layers", domains=ONE, side=32, settings=SMALL),
}


def pictures(count: int, seed: int = 0) -> Tensor:
    """Noise (count, 3, 32, 32) in [-1, 1]."""
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def drawn(count: int = 4) -> Batch:
    """Plain grounds with a bright bar (A) or a dark block (B), each somewhere."""
    random = torch.Generator().manual_seed(3)
    grounds = torch.rand(2 * count, 3, 1, 1, generator=random) - 0.5
    a, b = grounds.expand(-1, 3, 32, 32).clone().chunk(2)
    places = torch.randint(2, 20, (2 * count,), generator=random).tolist()
    for row, place in enumerate(places[:count]):
        a[row, :, place : place + 3, 4:28] = 1
        b[row, :, 10:20, places[count + row] : places[count + row] + 10] = -1
    return {"a": Sides(a, b), "b": Sides(b, a)}


def batch_of(config: ModelConfig, a: Tensor, b: Tensor) -> Batch:
    """Pictures of domain A and of domain B as a training of this config gets them."""
    both: Batch = {"a": Sides(a, b), "b": Sides(b, a)}
    return {part: both[part] for part in config.parts}


def playing(config: ModelConfig, seed: int = 0) -> Players:
    """Fresh players, the network in training mode."""
    torch.manual_seed(seed)
    method = methods.find(config.method)
    made = method.players(method.Network(config))
    made.network.train()
    return made


def terms_of(players: Players, batch: Batch, step: int = 10_000) -> dict[str, Tensor]:
    """The losses of the players' own method."""
    return methods.find(players.network.config.method).losses(players, batch, step)


def advance(players: Players, batch: Batch, step: int) -> dict[str, float]:
    """One step of both players; the terms before it."""
    for module in players.modules.values():
        module.zero_grad()
    terms = terms_of(players, batch, step)
    sum(term for term in terms.values() if term.requires_grad).backward()
    for adam in players.adam.values():
        adam.step()
    return {name: term.item() for name, term in terms.items()}

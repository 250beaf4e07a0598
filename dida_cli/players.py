"""Who learns: a network, whatever plays against it, and the optimizer of each."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dida_cli.codes import Ability, Codes, Rendering
from dida_cli.config import ModelConfig, Part


class Network(nn.Module):
    """What a method's network is: an `nn.Module` that is a `codes.Model`."""

    config: ModelConfig
    abilities: frozenset[Ability]
    every: bool = False  # whether steps that touch no picture of the batch are made too (`export`)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def encode(self, image: Tensor) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to their codes."""
        raise NotImplementedError

    def compose(
        self, codes: Codes, onto: Tensor | None = None, own: Codes | None = None
    ) -> Rendering:
        """Codes to pictures, as `codes.Model` says."""
        raise NotImplementedError


class Sides(NamedTuple):
    """Real pictures of one part, each (B, 3, side, side) in [-1, 1]; not pairs."""

    has: Tensor
    lacks: Tensor


class Pairs(NamedTuple):
    """The same pictures with a part and without, and for each a guide, another picture with the
    very same part in the same place; each (B, 3, side, side) in [-1, 1]."""

    has: Tensor
    lacks: Tensor
    guide: Tensor


# By part, and where a part can be put into pictures that lack it, by `pairs_of(part)`.
Batch = Mapping[str, Sides | Pairs]


def pairs_of(part: Part) -> str:
    """The key of a batch's true pairs of a part."""
    return f"{part} pairs"


def of_part(batch: Batch, part: Part) -> tuple[Sides, Pairs | None]:
    """The pictures of a part, and its true pairs, where there are any."""
    sides, pairs = batch[part], batch.get(pairs_of(part))
    assert isinstance(sides, Sides) and (pairs is None or isinstance(pairs, Pairs))
    return sides, pairs


class Players:
    """A network and its critic, each with an optimizer of its own and a largest gradient."""

    def __init__(
        self,
        network: Network,
        critic: nn.Module | None = None,
        *,
        rate: float,
        betas: tuple[float, float],
        clip: float,
        critic_rate: float = 0.0,
        critic_betas: tuple[float, float] = (0.0, 0.99),
    ) -> None:
        """`rate`: learning rate at the start of a training, which falls with the steps."""
        self.network, self.clip = network, clip
        self.critic = nn.Module() if critic is None else critic
        self.teacher: Network | None = None  # frozen: no player, and not part of the state
        self.adam = {"network": _adam(network, rate, betas)}
        if critic is not None:
            self.adam["critic"] = _adam(critic, critic_rate or rate, critic_betas)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Everybody who learns, by name."""
        return {"network": self.network, "critic": self.critic}

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that is learned."""
        return [p for module in self.modules.values() for p in module.parameters()]


def _adam(player: nn.Module, rate: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    adam = torch.optim.Adam(list(player.parameters()), lr=rate, betas=betas, fused=True)
    for group in adam.param_groups:
        group["full_rate"] = rate
    return adam

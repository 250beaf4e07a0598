"""Fader Networks (Lample, Zeghidour, Usunier, Bordes, Denoyer, Ranzato; NIPS 2017).

An autoencoder whose code must not tell the domain, which the decoder is told instead. There is no
guide: a part comes as the decoder imagines it, the same whoever the guide is.

    paper  here             what it is
    E      encoder          a picture to its code
    D      decoder          the code, and y at every stage, to a picture; y = (1, 0) for domain A,
                            (0, 1) for B
    P      nets.Critic      tells the domain by the code

    term            formula                                         weight in the paper
    reconstruction  (D(E(x), y) - x)^2                              1
    confusion       -log P(the other domain | E(x)) (`nets.game`)   rises from 0 to 0.0001
    critic          -log P(y | E(x)), of codes that are held still  1

What is read of a picture as a part is just 1, whether it has it or not: y is what codes say.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli import nets
from dida_cli.codes import Ability, Codes, Rendering
from dida_cli.config import ModelConfig
from dida_cli.errors import DidaError
from dida_cli.methods import settings_of
from dida_cli.players import Batch, Players
from dida_cli.players import Network as Base

ABILITIES: frozenset[Ability] = frozenset({"two parts", "common code"})
TAKES = "domains"
players = nets.players


@dataclass(frozen=True, kw_only=True)
class Settings(nets.Settings):
    """What a recipe may say.

    Attributes:
        rise: steps in which the weight of `confusion` rises from 0.
    """

    separate: int = 1
    width: int = 216
    confusion: float = 1e-4
    critic_target: nets.CriticTarget = "other"
    critic_start: int = 0
    rise: int = 500_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.separate != 1:
            raise DidaError(f"separate must be 1, whether there is a part, not {self.separate}")


class Network(Base):
    """The encoder and the decoder."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.settings: Settings = settings_of(config)
        count = len(config.parts)
        self.abilities = ABILITIES if count == 2 else ABILITIES - {"two parts"}
        widths = self.settings.widths(config.side)
        self.encoder = nets.encoder(widths, self.settings.common)
        inner = [self.settings.common, *reversed(widths)]
        self.decoder = nn.ModuleList(nets.doubled(n + count, m) for n, m in pairwise(inner))
        self.last = nn.Conv2d(widths[0] + count, 3, 3, padding=1)

    def encode(self, image: Tensor) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to (E(x), 1, 1)."""
        common = self.encoder(image)
        there = torch.ones_like(common[:, :1])
        return Codes(common, there, there if len(self.config.parts) == 2 else common[:, :0])

    def compose(
        self, codes: Codes, onto: Tensor | None = None, own: Codes | None = None
    ) -> Rendering:
        """D(c, y): pictures (N, 3, side, side) in [-1, 1]. Only the codes are looked at."""
        told = torch.cat([codes.of(part) for part in self.config.parts], dim=1).mean(
            (2, 3), keepdim=True
        )
        values = codes.common
        for stage in self.decoder:
            values = stage(_beside(values, told))
        return Rendering(torch.tanh(self.last(_beside(values, told)).float()), None)


def _beside(values: Tensor, told: Tensor) -> Tensor:
    """Maps (N, C, h, w) with y (N, parts, 1, 1) at every pixel."""
    maps = told.to(values.dtype).expand(-1, -1, *values.shape[2:])
    return torch.cat([values, maps], dim=1)


def losses(players: Players, batch: Batch, step: int) -> dict[str, Tensor]:
    """The terms of the table above, weighted."""
    network = players.network
    assert isinstance(network, Network)
    pictures = torch.cat(nets.domains(batch))
    codes = network.encode(pictures)
    rebuilt = network.compose(nets.own_parts(codes)).image
    game = nets.game(players.critic, codes.common, network.settings, step)
    game["confusion"] = min(1.0, step / max(1, network.settings.rise)) * game["confusion"]
    return {"reconstruction": 2 * F.mse_loss(rebuilt, pictures), **game}

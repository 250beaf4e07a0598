"""Multimodal unsupervised image-to-image translation (Huang, Liu, Belongie, Kautz; ECCV 2018).

Each domain has a content encoder, a style encoder and a decoder of its own. A picture is moved to
the other domain by decoding its content with a style of that domain: a guide's, or a random one.

    paper   here                what it is
    E_i^c   Domain.content      content encoder of domain i
    E_i^s   Domain.style        style encoder of domain i: a vector
    G_i     Domain.decode       decoder of domain i: the style sets mean and spread of its residual
                                blocks (AdaIN: Huang and Belongie, 2017)
    D_i     Critic              at the whole and at half the side, a head for each domain

    term        formula, the mean over A plus that over B              weight in the paper
    picture     |G_A(E_A^c(a), E_A^s(a)) - a|                          10
    content     |E_A^c(G_A(E_B^c(b), s)) - E_B^c(b)|,  s ~ N(0, 1)     1
    style       |E_A^s(G_A(E_B^c(b), s)) - s|                          1
    realism     (D_A(G_A(E_B^c(b), s)) - 1)^2                          1
    critic      (D_A(a) - 1)^2 + D_A(G_A(E_B^c(b), s))^2               1
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dida_cli import nets
from dida_cli.codes import Ability, Codes
from dida_cli.config import CHANNELS, OTHER, PARTS, Json, ModelConfig, Part, require, require_rate
from dida_cli.errors import DidaError
from dida_cli.methods import settings_of
from dida_cli.players import Batch, Players
from dida_cli.players import Network as Base

ABILITIES: frozenset[Ability] = frozenset({"two parts"})
TAKES = "domains"


@dataclass(frozen=True, kw_only=True)
class Settings(Json):
    """What a recipe may say.

    Attributes:
        width: channels of a content code; the stage before it has half as many.
        blocks: residual blocks of a content encoder, and of a decoder.
        style_size: numbers of a style.
        critic_width: channels of the critic's first stage.
        rate: learning rate of both players at the start.
        picture, content, style, realism: weights of the terms.
    """

    width: int = 64
    blocks: int = 3
    style_size: int = 8
    critic_width: int = 32
    rate: float = 1e-4
    picture: float = 10.0
    content: float = 1.0
    style: float = 1.0
    realism: float = 1.0

    def __post_init__(self) -> None:
        require(self, "width", "blocks", "style_size", "critic_width", least=1, most=CHANNELS // 4)
        require_rate(self, "rate")
        require(self, "picture", "content", "style", "realism", below=1e6)


class Residual(nn.Module):
    """Two convolutions beside the identity, normed to mean 0 and spread 1, or to those told."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, values: Tensor, told: Tensor | None = None) -> Tensor:
        """values (N, C, h, w); told (N, 4, C, 1, 1): spread and mean after either convolution."""
        inner = values
        for place, conv in enumerate(self.convs):
            inner = F.instance_norm(conv(inner))
            if told is not None:
                inner = (1 + told[:, 2 * place]) * inner + told[:, 2 * place + 1]
            inner = F.relu(inner) if place == 0 else inner
        return values + inner


class Domain(nn.Module):
    """The encoders and the decoder of one domain."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width, half = settings.width, max(1, settings.width // 2)
        self.halved = nn.Sequential(nets.halved(3, half), nets.halved(half, width))
        self.before = nn.ModuleList(Residual(width) for _ in range(settings.blocks))
        self.look = nn.Sequential(
            nets.halved(3, half), nets.halved(half, width), nets.halved(width, width)
        )
        self.to_style = nn.Linear(width, settings.style_size)
        self.to_told = nn.Sequential(
            nn.Linear(settings.style_size, width),
            nn.ReLU(inplace=True),
            nn.Linear(width, 4 * width * settings.blocks),
        )
        self.after = nn.ModuleList(Residual(width) for _ in range(settings.blocks))
        self.doubled = nn.Sequential(
            nets.doubled(width, half), nets.doubled(half, half), nn.Conv2d(half, 3, 3, padding=1)
        )

    def content(self, image: Tensor) -> Tensor:
        """Pictures (N, 3, s, s) to their content (N, width, s / 4, s / 4)."""
        values: Tensor = self.halved(image)
        for block in self.before:
            values = block(values)
        return values.float()

    def style(self, image: Tensor) -> Tensor:
        """Pictures (N, 3, s, s) to their style (N, style_size, 1, 1)."""
        style: Tensor = self.to_style(self.look(image).mean((2, 3))).float()
        return style[:, :, None, None]

    def decode(self, content: Tensor, style: Tensor) -> Tensor:
        """Pictures (N, 3, s, s) in [-1, 1]."""
        told = self.to_told(style.flatten(1))
        count, values = len(self.after), content
        told = told.reshape(len(told), count, 4, -1, 1, 1)
        for place, block in enumerate(self.after):
            values = block(values, told[:, place])
        return torch.tanh(self.doubled(values).float())


class Network(nets.Translator):
    """Both domains."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.settings: Settings = settings_of(config)
        if len(config.parts) != 2:
            raise DidaError("method munit moves between two domains, each with a part of its own")
        self.abilities = ABILITIES
        self.domains = nn.ModuleDict({part: Domain(self.settings) for part in config.parts})

    def domain(self, part: Part) -> Domain:
        """That of one part."""
        found = self.domains[part]
        assert isinstance(found, Domain)
        return found

    def encode(self, image: Tensor) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to what either domain's encoders find."""
        a, b = self.domain("a"), self.domain("b")
        common = torch.cat([a.content(image), b.content(image)], dim=1)
        return Codes(common, a.style(image), b.style(image))

    def decode(self, content: Tensor, style: Tensor, part: Part) -> Tensor:
        """G_i: pictures (N, 3, s, s) in [-1, 1]."""
        return self.domain(part).decode(content, style)


class Critic(nn.Module):
    """D_A and D_B, the heads of one critic at each of two scales."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(nets.PictureCritic(2, width) for _ in range(2))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Pictures (N, 3, s, s) to what is said of each patch: (N, 2, h, w) at either scale."""
        return [self.scales[0](image), self.scales[1](F.avg_pool2d(image, 2))]


def players(network: Base) -> Players:
    """The domains against the critic, by Adam as the paper has it."""
    settings: Settings = settings_of(network.config)
    betas = (0.5, 0.999)
    critic = Critic(settings.critic_width)
    return Players(network, critic, rate=settings.rate, betas=betas, clip=5.0, critic_betas=betas)


def losses(players: Players, batch: Batch, step: int) -> dict[str, Tensor]:
    """The terms of the table above, weighted."""
    network, critic = players.network, players.critic
    assert isinstance(network, Network)
    settings, pictures = network.settings, dict(zip(PARTS, nets.domains(batch), strict=True))
    contents = {part: network.domain(part).content(x) for part, x in pictures.items()}
    found = []
    for place, (part, other) in enumerate(OTHER.items()):
        domain, real = network.domain(part), pictures[part]
        own = domain.style(real)
        rebuilt, style = domain.decode(contents[part], own), torch.randn_like(own)
        moved = domain.decode(contents[other], style)
        critic.requires_grad_(False)
        realism = _squares(critic(moved), place, 1.0)
        critic.requires_grad_(True)
        said = critic(real), critic(moved.detach())
        found.append(
            {
                "picture": F.l1_loss(rebuilt, real),
                "content": F.l1_loss(domain.content(moved), contents[other]),
                "style": F.l1_loss(domain.style(moved), style),
                "realism": realism,
                "critic": _squares(said[0], place, 1.0) + _squares(said[1], place, 0.0),
            }
        )
    return {
        name: getattr(settings, name, 1.0) * (found[0][name] + found[1][name]) for name in found[0]
    }


def _squares(said: list[Tensor], place: int, wanted: float) -> Tensor:
    """The mean square by which what is said of a domain's pictures is off, the sum over scales."""
    return torch.stack([(scale[:, place] - wanted).square().mean() for scale in said]).sum()

"""DRIT, diverse image-to-image translation by disentangled representations (Lee, Tseng, Huang,
Singh, Yang; ECCV 2018).

A content code that both domains share, held there by a critic of contents and by encoders and
decoders that share the stage next to it; an attribute of each domain, a vector near N(0, 1).

    paper   here                what it is
    E_i^c   Network.content     content encoder of domain i, its last block shared
    E_i^a   Domain.attribute    attribute encoder of domain i: mean and log variance of a vector
    G_i     Network.decode      decoder of domain i, its first block shared; the attribute stands
                                beside what goes into its own block, as maps
    D_c     Critics.contents    tells the domain by the content
    D_i     nets.PictureCritic  tells real pictures of domain i from made ones

    term      formula, the mean over A plus that over B                          weight in the paper
    cross     |G_A(E_B^c(v), E_A^a(u)) - a|, u = G_A(E_B^c(b), E_A^a(a)),        10
              v = G_B(E_A^c(a), E_B^a(b))
    picture   |G_A(E_A^c(a), E_A^a(a)) - a|                                      10
    common    what encoders pay until D_c cannot tell the domain by contents     1
    realism   -log D_A of u and of G_A(E_B^c(b), z),  z ~ N(0, 1)                1
    latent    |E_A^a(G_A(E_B^c(b), z)) - z|                                      10
    kl        distance of attributes from N(0, 1)                                0.01
    critic    what D_c and D_i pay
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
        blocks: residual blocks of a content encoder, and of a decoder, beside the shared ones.
        attribute_size: numbers of an attribute.
        critic_width: channels of the first stage of D_i.
        rate: learning rate of both players at the start.
        cross, picture, common, realism, latent, kl: weights of the terms.
    """

    width: int = 64
    blocks: int = 3
    attribute_size: int = 8
    critic_width: int = 32
    rate: float = 1e-4
    cross: float = 10.0
    picture: float = 10.0
    common: float = 1.0
    realism: float = 1.0
    latent: float = 10.0
    kl: float = 0.01

    def __post_init__(self) -> None:
        sizes = "width", "blocks", "attribute_size", "critic_width"
        require(self, *sizes, least=1, most=CHANNELS // 4)
        require_rate(self, "rate")
        require(self, "cross", "picture", "common", "realism", "latent", "kl", below=1e6)


class Residual(nn.Module):
    """Two normed convolutions beside the identity, an attribute's maps beside what goes in."""

    def __init__(self, width: int, told: int = 0) -> None:
        super().__init__()
        self.first, self.second = nets.same(width + told, width), nets.same(width, width)

    def forward(self, values: Tensor, told: Tensor | None = None) -> Tensor:
        """values (N, C, h, w); told (N, told, 1, 1)."""
        inner = values
        if told is not None:
            maps = told.to(values.dtype).expand(-1, -1, *values.shape[2:])
            inner = torch.cat([values, maps], dim=1)
        mended: Tensor = values + self.second(self.first(inner))
        return mended


class Domain(nn.Module):
    """What one domain has of its own."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width, half = settings.width, max(1, settings.width // 2)
        self.halved = nn.Sequential(nets.halved(3, half), nets.halved(half, width))
        self.before = nn.Sequential(*(Residual(width) for _ in range(settings.blocks)))
        self.look = nn.Sequential(
            nets.halved(3, half), nets.halved(half, width), nets.halved(width, width)
        )
        self.to_attribute = nn.Linear(width, 2 * settings.attribute_size)
        told = settings.attribute_size
        self.after = nn.ModuleList(Residual(width, told) for _ in range(settings.blocks))
        self.doubled = nn.Sequential(
            nets.doubled(width, half), nets.doubled(half, half), nn.Conv2d(half, 3, 3, padding=1)
        )

    def attribute(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (N, 3, s, s) to the mean and the log variance of it: (N, size, 1, 1)."""
        found = self.to_attribute(self.look(image).mean((2, 3))).float()
        mean, spread = found[:, :, None, None].chunk(2, dim=1)
        return mean, spread.clamp(-10, 10)


class Network(nets.Translator):
    """Both domains, and the blocks that they share."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.settings: Settings = settings_of(config)
        if len(config.parts) != 2:
            raise DidaError("method drit moves between two domains, each with a part of its own")
        self.abilities = ABILITIES
        self.domains = nn.ModuleDict({part: Domain(self.settings) for part in config.parts})
        self.last_before = Residual(self.settings.width)
        self.first_after = Residual(self.settings.width)

    def domain(self, part: Part) -> Domain:
        """What that of one part has of its own."""
        found = self.domains[part]
        assert isinstance(found, Domain)
        return found

    def content(self, image: Tensor, part: Part) -> Tensor:
        """E_i^c: pictures (N, 3, s, s) to (N, width, s / 4, s / 4)."""
        domain = self.domain(part)
        content: Tensor = self.last_before(domain.before(domain.halved(image)))
        return content.float()

    def decode(self, content: Tensor, attribute: Tensor, part: Part) -> Tensor:
        """G_i: pictures (N, 3, s, s) in [-1, 1]."""
        domain = self.domain(part)
        values = self.first_after(content)
        for block in domain.after:
            values = block(values, attribute)
        return torch.tanh(domain.doubled(values).float())

    def encode(self, image: Tensor) -> Codes:
        """Pictures (N, 3, side, side) in [-1, 1] to what either domain's encoders find."""
        common = torch.cat([self.content(image, part) for part in PARTS], dim=1)
        return Codes(common, *(self.domain(part).attribute(image)[0] for part in PARTS))


class Critics(nn.Module):
    """D_c of contents, and D_A and D_B, the heads of one critic of pictures."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width = settings.width
        halves = (nets.halved(width, width), nets.halved(width, width))
        self.contents = nn.Sequential(*halves, nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, 1, 1))
        self.pictures = nets.PictureCritic(2, settings.critic_width)

    def of_contents(self, content: Tensor) -> Tensor:
        """Contents (N, width, h, w) to the logit (N,) that they come from B."""
        logits: Tensor = self.contents(content).flatten()
        return logits.float()


def players(network: Base) -> Players:
    """The domains against the critics, by Adam as the paper has it."""
    settings: Settings = settings_of(network.config)
    betas, critics = (0.5, 0.999), Critics(settings)
    return Players(network, critics, rate=settings.rate, betas=betas, clip=5.0, critic_betas=betas)


def losses(players: Players, batch: Batch, step: int) -> dict[str, Tensor]:
    """The terms of the table above, weighted."""
    network, critics = players.network, players.critic
    assert isinstance(network, Network) and isinstance(critics, Critics)
    pictures = dict(zip(PARTS, nets.domains(batch), strict=True))
    content = {part: network.content(x, part) for part, x in pictures.items()}
    means = {part: network.domain(part).attribute(x) for part, x in pictures.items()}
    drawn = {
        p: mean + torch.randn_like(mean) * (spread / 2).exp() for p, (mean, spread) in means.items()
    }
    moved = {p: network.decode(content[other], drawn[p], p) for p, other in OTHER.items()}
    found = []
    for place, (part, other) in enumerate(OTHER.items()):
        real, (mean, spread) = pictures[part], means[part]
        back = network.decode(
            network.content(moved[other], other),
            network.domain(part).attribute(moved[part])[0],
            part,
        )
        noise = torch.randn_like(mean)
        random = network.decode(content[other], noise, part)
        made = torch.cat([moved[part], random])
        critics.requires_grad_(False)
        realism = _told(critics.pictures(made)[:, place], 1.0)
        critics.requires_grad_(True)
        said = critics.pictures(real)[:, place], critics.pictures(made.detach())[:, place]
        found.append(
            {
                "cross": F.l1_loss(back, real),
                "picture": F.l1_loss(network.decode(content[part], drawn[part], part), real),
                "realism": realism,
                "latent": F.l1_loss(network.domain(part).attribute(random)[0], noise),
                "kl": (mean.square() + spread.exp() - 1 - spread).mean() / 2,
                "critic": _told(said[0], 1.0) + _told(said[1], 0.0),
            }
        )
    terms = {name: found[0][name] + found[1][name] for name in found[0]}
    both = torch.cat([content["a"], content["b"]])
    critics.requires_grad_(False)
    terms["common"] = _told(critics.of_contents(both), 0.5)
    critics.requires_grad_(True)
    heard = critics.of_contents(both.detach())
    half = len(heard) // 2
    terms["critic"] = terms["critic"] + _told(heard[:half], 0.0) + _told(heard[half:], 1.0)
    return {n: getattr(network.settings, n, 1.0) * term for n, term in terms.items()}


def _told(logits: Tensor, wanted: float) -> Tensor:
    """Cross entropy of what a critic says with what it, or its opponent, wants said."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, wanted))
